// The explorer: what is chosen, what is drawn for it, and what is said of it.

// Share of the range of the training by which a value may pass it without a word: the code of an image may.
const HAIR = 0.02;

class Explorer {
  constructor(section, told) {
    this.section = section;
    this.told = told;
    this.find = (name) => section.querySelector(name);
    told.look.map = told.look.map && bytes(told.look.map);
    told.look.differences = bytes(told.look.differences);
    told.unknown = told.unknown && bytes(told.unknown);
    told.test.codes = floats(told.test.codes);
    told.train.codes = floats(told.train.codes);
    told.density.points = floats(told.density.points);
    this.guided = told.latents - told.typical.residual.length;
    this.spread = told.spread;
    this.wanted = 0;
  }

  async begin() {
    this.engine = await engineOf((name) => this.find(`script.${name}`).textContent);
    [this.test, this.train] = await Promise.all([this.told.test, this.told.train].map(({ sprite }) => {
      const picture = new Image();
      picture.src = sprite;
      return picture.decode().then(() => picture);
    }));
    this.find(".state").textContent = "";
    this.find(".body").hidden = false;
    this.set = inputs(this.told, this.find(".factors"), this.find(".residuals"), (f, r) => this.change(f, r));
    this.find(".others").hidden = this.told.residuals.length === 0;
    this.scatter = new Scatter(
      this.find(".scatter canvas"), this.find("#explorer-x"), this.find("#explorer-y"), this.told, this.told.test.codes);
    this.scatter.listen((row) => this.point(row), (row) => this.start(row));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.scatter.draw());
    this.list();
    this.scale();
    this.find(".back").addEventListener("click", () => this.start(this.started));
    this.find(".save").addEventListener("click", () => this.save());
    this.find(".copy").addEventListener("click", () => this.copy());
    await this.start(this.told.test.rows.length ? 0 : -1);
  }

  // The starts: a list of all, and buttons with pictures of some.
  list() {
    const { test, gallery } = this.told;
    const select = this.find("#explorer-start");
    select.add(new Option("typical of the training", -1));
    test.names.forEach((name, number) => select.add(new Option(name, number)));
    select.addEventListener("change", () => this.start(Number(select.value)));
    this.buttons = test.names.slice(0, gallery).map((name, number) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = name;
      button.setAttribute("aria-label", name);
      const canvas = document.createElement("canvas");
      this.cut(canvas, this.test, this.told.test, number);
      button.append(canvas);
      button.addEventListener("click", () => this.start(number));
      this.find(".gallery").append(button);
      return button;
    });
    this.find(".body").classList.toggle("strips", test.width > 3 * test.height);
  }

  // One picture out of many.
  cut(canvas, sheet, { width, height, across }, number) {
    [canvas.width, canvas.height] = [width, height];
    const [x, y] = [(number % across) * width, Math.floor(number / across) * height];
    canvas.getContext("2d").drawImage(sheet, x, y, width, height, 0, 0, width, height);
  }

  // What the colours mean.
  scale() {
    const { look, unit } = this.told;
    const place = this.find(".scale");
    const say = (text) => place.append(Object.assign(document.createElement("span"), { textContent: text }));
    if (look.by === "map") {
      const [n] = look.norms;
      const bar = place.appendChild(document.createElement("canvas"));
      const picture = new ImageData(256, 1);
      for (let i = 0; i < 256; i++) put(picture.data, i, look.map.subarray(3 * i, 3 * i + 3));
      show(bar, picture);
      bar.setAttribute("aria-hidden", "true");
      say(`${rounded(n.low)} to ${rounded(n.high)} ${unit}`.trim());
    }
    look.words.forEach(say);
  }

  async start(number) {
    const { test, typical } = this.told;
    const code = number < 0 ? null : test.codes.subarray(number * this.told.latents, (number + 1) * this.told.latents);
    this.started = number;
    this.from = {
      row: number < 0 ? null : test.rows[number],
      factors: [...(number < 0 ? typical.factors : test.factors[number])],
      residual: code ? Array.from(code.subarray(this.guided)) : [...typical.residual],
    };
    this.now = { factors: [...this.from.factors], residual: [...this.from.residual] };
    this.find("#explorer-start").value = number;
    this.buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === number)));
    this.reference = this.upright(await this.decode(this.code()));
    const begun = this.find(".begun");
    if (number < 0) show(begun, panel(this.reference, this.told.shape, this.told.look));
    else this.cut(begun, this.test, test, number);
    begun.nextElementSibling.querySelector(".which").textContent =
      number < 0 ? "typical of the training" : test.names[number];
    this.set(this.now);
    await this.draw();
  }

  // Takes new values of some factors and other latents, by their places.
  change(factors, residual) {
    Object.entries(factors).forEach(([j, value]) => (this.now.factors[j] = value));
    Object.entries(residual).forEach(([j, value]) => (this.now.residual[j] = value));
    return this.draw();
  }

  code() {
    return codeOf(this.told.guides, this.now.factors, this.now.residual);
  }

  async decode(code) {
    try {
      return await this.engine.decode(code);
    } catch (error) {
      this.find(".warning").textContent = `Not drawn: ${error.message}`;
      throw error;
    }
  }

  upright(image) {
    return upright(image, this.told.shape, this.told.turn, this.told.unknown);
  }

  // Draws what was asked for last; while the decoder is at work, what was asked for before is passed over.
  draw() {
    this.wanted++;
    this.working ??= this.work();
    return this.working;
  }

  async work() {
    try {
      for (let done = -1; done !== this.wanted; ) {
        done = this.wanted;
        const code = this.code();
        this.raw = await this.decode(code);
        this.paint(code);
        await new Promise((resolve) => setTimeout(resolve));
      }
    } finally {
      this.working = null;
    }
  }

  paint(code) {
    const { shape, look, unit, train } = this.told;
    const image = this.upright(this.raw);
    show(this.find(".drawn"), panel(image, shape, look));
    const { picture, top } = difference(image, this.reference, shape, look);
    show(this.find(".apart"), picture);
    this.find(".top").textContent = top > 0 ? `both decoded, to ±${Number(top.toPrecision(3))} ${unit}`.trim() : "no difference";
    const { row } = nearest(train.codes, code, this.spread);
    this.cut(this.find(".near"), this.train, train, row);
    this.find(".near").nextElementSibling.querySelector(".which").textContent =
      `of ${train.rows.length} training images: number ${train.rows[row]}`;
    this.find(".warning").textContent = this.warning(code);
    this.scatter.move(code, this.started);
    this.command(code);
  }

  // Where nobody knows what is drawn.
  warning(code) {
    const { guides, density } = this.told;
    const outside = (value, low, high) => value < low - HAIR * (high - low) || value > high + HAIR * (high - low);
    const beyond = guides.filter(({ by, factor, seen }, j) =>
      by !== "classes" && factor.kind !== "periodic" &&
      outside(...[this.now.factors[j], ...seen].map((value) => (factor.transform === "log10" ? Math.log(value) : value))));
    const far = this.told.residuals.filter(({ place, low, high }) => outside(this.now.residual[place], low, high));
    const names = [...beyond.map(({ factor }) => factor.name), ...far.map(({ name }) => name)];
    if (names.length) return `The model was not trained on such values of ${names.join(", ")}.`;
    const { row, distance } = nearest(density.points, code.slice(0, this.guided), density.spread);
    return row >= 0 && distance > density.threshold ? "The model was not trained on such a combination of factors." : "";
  }

  command(code) {
    const moved = this.now.residual.some((value, j) => value !== this.from.residual[j]);
    const command = commandOf(this.told, this.from, this.now.factors, moved);
    this.find(".command").textContent = command ?? pythonOf(this.told, code);
    this.find(".by-command").textContent = command
      ? "A command that makes this image, in the folder from which the page was made:"
      : "No command takes these values, for one lies outside the range of the data, or another latent was moved. Python does:";
    this.find(".copied").textContent = "";
  }

  point(row) {
    const seen = this.find(".seen");
    seen.hidden = row < 0;
    if (row >= 0) this.cut(seen, this.test, this.told.test, row);
  }

  // Pixels are made larger, so that the picture is some 512 wide.
  save() {
    const from = this.find(".drawn");
    const times = Math.max(1, Math.round(512 / from.width));
    const large = Object.assign(document.createElement("canvas"), { width: times * from.width, height: times * from.height });
    const pen = large.getContext("2d");
    pen.imageSmoothingEnabled = false;
    pen.drawImage(from, 0, 0, large.width, large.height);
    Object.assign(document.createElement("a"), { href: large.toDataURL("image/png"), download: "image.png" }).click();
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(this.find(".command").textContent);
      this.find(".copied").textContent = "copied";
    } catch {
      getSelection().selectAllChildren(this.find(".command"));
      this.find(".copied").textContent = "marked; Ctrl-C copies it";
    }
  }
}

// For scripts and tests: `ready`, and once it is fulfilled what docs/explorer.md names.
const section = document.getElementById("explorer");
const one = new Explorer(section, JSON.parse(section.querySelector("script.told").textContent));
window.hpcauxvaeExplorer = {
  ready: one.begin(),
  decode: (code) => one.decode(code),
  start: (number) => one.start(number),
  state: () => ({ started: one.started, ...one.now, code: one.code(), image: one.raw }),
  // Factors by name in their units, other latents by their number, counted from 1.
  async set(factors, residual = {}) {
    const places = {};
    one.told.guides.forEach(({ factor: { name } }, j) => name in factors && (places[j] = factors[name]));
    one.told.angles.forEach(({ pair }) => {
      const free = pair.filter((j) => !(j in places));
      const [given] = pair.filter((j) => j in places);
      if (free.length === 1) places[free[0]] = partner(places[given], one.now.factors[free[0]]);
    });
    const others = Object.entries(residual).map(([number, value]) => [number - 1 - one.guided, value]);
    await one.change(places, Object.fromEntries(others));
    one.set(one.now);
    return one.raw;
  },
};
window.hpcauxvaeExplorer.ready.catch((error) => {
  section.querySelector(".state").textContent = `The explorer does not run in this browser: ${error.message}`;
  console.error(error);
});
