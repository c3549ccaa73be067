// Points of codes on two axes; whoever listens is told which image is pointed at, and which was chosen.

class Scatter {
  constructor(canvas, across, up, told, points) {
    Object.assign(this, { canvas, across, up, told, points, here: null, started: -1 });
    this.length = told.latents;
    for (const [select, first] of [[across, 0], [up, 1]]) {
      told.axes.forEach(({ name }, number) => select.add(new Option(name, number)));
      select.value = Math.min(first, told.axes.length - 1);
      select.addEventListener("change", () => this.draw());
    }
  }

  listen(pointed, chosen) {
    this.canvas.addEventListener("pointermove", (event) => pointed(this.near(event)));
    this.canvas.addEventListener("pointerleave", () => pointed(-1));
    this.canvas.addEventListener("click", (event) => {
      const row = this.near(event);
      if (row >= 0) chosen(row);
    });
  }

  // A code along an axis: a sum of its latents, each with a weight.
  along(axis, codes, row) {
    let sum = axis.shift;
    for (let j = 0; j < this.length; j++) sum += axis.weights[j] * codes[row * this.length + j];
    return sum;
  }

  // Places of all points on the canvas, (2 N,), and a function that places any code.
  places() {
    const axes = [this.told.axes[this.across.value], this.told.axes[this.up.value]];
    const count = this.points.length / this.length;
    const [width, height, edge] = [this.canvas.width, this.canvas.height, 26];
    const ends = axes.map((axis) => {
      let [low, high] = [Infinity, -Infinity];
      for (let row = 0; row < count; row++) {
        const value = this.along(axis, this.points, row);
        [low, high] = [Math.min(low, value), Math.max(high, value)];
      }
      return high > low ? [low, high] : [low - 1, high + 1];
    });
    const put = (codes, row) => {
      const [x, y] = axes.map((axis, i) => (this.along(axis, codes, row) - ends[i][0]) / (ends[i][1] - ends[i][0]));
      return [edge + x * (width - 2 * edge), height - edge - y * (height - 2 * edge)];
    };
    return { axes, put, all: Array.from({ length: count }, (_, row) => put(this.points, row)) };
  }

  near(event) {
    const box = this.canvas.getBoundingClientRect();
    const ratio = this.canvas.width / box.width;
    const [x, y] = [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
    let best = [-1, (24 * ratio) ** 2];
    this.places().all.forEach(([px, py], row) => {
      const apart = (px - x) ** 2 + (py - y) ** 2;
      if (apart < best[1]) best = [row, apart];
    });
    return best[0];
  }

  move(here, started) {
    Object.assign(this, { here, started });
    this.draw();
  }

  draw() {
    const pen = this.canvas.getContext("2d");
    const style = getComputedStyle(this.canvas);
    const [ink, accent, soft] = ["--ink", "--accent", "--soft"].map((name) => style.getPropertyValue(name).trim());
    const { axes, put, all } = this.places();
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    pen.font = "15px system-ui, sans-serif";
    pen.fillStyle = soft;
    pen.textAlign = "right";
    pen.fillText(`${axes[0].name} →`, this.canvas.width - 8, this.canvas.height - 7);
    pen.save();
    pen.translate(17, 8);
    pen.rotate(-Math.PI / 2);
    pen.fillText(`${axes[1].name} →`, 0, 0);
    pen.restore();
    all.forEach(([x, y], row) => {
      pen.beginPath();
      pen.arc(x, y, row === this.started ? 7 : 4, 0, 2 * Math.PI);
      pen.globalAlpha = row === this.started ? 1 : 0.55;
      pen.fillStyle = row === this.started ? accent : ink;
      pen.fill();
    });
    pen.globalAlpha = 1;
    if (!this.here) return;
    const [x, y] = put(this.here, 0);
    pen.strokeStyle = accent;
    pen.lineWidth = 3;
    pen.beginPath();
    pen.moveTo(x - 10, y);
    pen.lineTo(x + 10, y);
    pen.moveTo(x, y - 10);
    pen.lineTo(x, y + 10);
    pen.stroke();
  }
}
