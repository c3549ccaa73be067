// Numbers to colours, as data/drawing.py has it. Images are flat, (C, H, W), first row on top; NaN is missing.

const bounded = (value) => (value < 0 ? 0 : value > 1 ? 1 : value);

function norm(n, value) {
  if (n.width === null) return (value - n.low) / (n.high - n.low);
  const low = Math.asinh(n.low / n.width);
  return (Math.asinh(value / n.width) - low) / (Math.asinh(n.high / n.width) - low);
}

function put(pixels, place, rgb) {
  pixels[4 * place] = rgb[0];
  pixels[4 * place + 1] = rgb[1];
  pixels[4 * place + 2] = rgb[2];
  pixels[4 * place + 3] = 255;
}

// Colours of three bytes as whole pixels, each a number of 32 bits.
function whole(colours) {
  const found = new Uint8ClampedArray((4 * colours.length) / 3).fill(255);
  for (let i = 0; 3 * i < colours.length; i++) put(found, i, colours.subarray(3 * i, 3 * i + 3));
  return new Uint32Array(found.buffer);
}

// One channel by a colour map of 256 x 3 bytes, into `pixels` from column `left` of rows that are `wide`.
function byMap(pixels, channel, height, width, n, map, missing, left, wide) {
  const [colours, [none]] = [whole(map), whole(Uint8ClampedArray.from(missing))];
  const target = new Uint32Array(pixels.buffer);
  const [low, high] = n.width === null ? [n.low, n.high] : [Math.asinh(n.low / n.width), Math.asinh(n.high / n.width)];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const value = channel[y * width + x];
      const shown = n.width === null ? value : Math.asinh(value / n.width);
      const shade = Math.min(255, Math.floor(256 * bounded((shown - low) / (high - low))));
      target[y * wide + left + x] = Number.isNaN(value) ? none : colours[shade];
    }
  }
}

function byColours(pixels, image, size, channels, look) {
  const at = (c, i) => image[c * size + i];
  const mean = (a, b) => (Number.isNaN(a) ? b : Number.isNaN(b) ? a : (a + b) / 2);
  for (let i = 0; i < size; i++) {
    let parts = [at(0, i), at(1, i), at(2, i)];
    if (channels === 2) parts = [at(1, i), mean(at(0, i), at(1, i)), at(0, i)];
    else if (look.blue_first) parts.reverse();
    const bad = parts.some(Number.isNaN);
    put(pixels, i, bad ? look.missing : parts.map((v, c) => Math.floor(255 * bounded(norm(look.norms[c], v)) + 0.5)));
  }
}

// Curves of one row each: a column of pixels from one value to the next.
function byLines(pixels, image, channels, width, look, height) {
  pixels.fill(255);
  const place = (value) => Math.round((height - 1) * (1 - bounded(norm(look.norms[0], value))));
  for (let c = 0; c < channels; c++) {
    for (let x = 0; x < width; x++) {
      const here = image[c * width + x];
      if (Number.isNaN(here)) {
        for (let y = 0; y < height; y++) put(pixels, y * width + x, look.missing);
        continue;
      }
      const next = x + 1 < width && !Number.isNaN(image[c * width + x + 1]) ? image[c * width + x + 1] : here;
      const [from, to] = [place(here), place(next)].sort((a, b) => a - b);
      for (let y = from; y <= to; y++) put(pixels, y * width + x, look.lines[c % look.lines.length]);
    }
  }
}

// The picture of an image, as ImageData.
function panel(image, shape, look) {
  const [channels, height, width] = shape;
  const data = new ImageData(look.by === "bands" ? channels * width : width, look.by === "lines" ? look.tall : height);
  const size = height * width;
  if (look.by === "lines") byLines(data.data, image, channels, width, look, look.tall);
  else if (look.by === "colours") byColours(data.data, image, size, channels, look);
  else {
    for (let c = 0; c < channels; c++) {
      const channel = image.subarray(c * size, (c + 1) * size);
      byMap(data.data, channel, height, width, look.norms[c], look.map, look.missing, c * width, data.width);
    }
  }
  return data;
}

// One image less another, on an asinh scale from 0 to either side; colours become their mean. And how far it goes.
function difference(one, other, shape, look) {
  const [channels, height, width] = shape;
  const size = height * width;
  let apart = one.map((value, i) => value - other[i]);
  let [kept, by] = [channels, look.by];
  if (by === "colours") {
    const mean = new Float32Array(size);
    for (let i = 0; i < apart.length; i++) mean[i % size] += apart[i] / channels;
    [apart, kept, by] = [mean, 1, "map"];
  }
  const top = apart.reduce((most, value) => (Number.isNaN(value) ? most : Math.max(most, Math.abs(value))), 0);
  const n = { low: -(top || 1), high: top || 1, width: 0.1 * (top || 1) };
  const own = { ...look, by, norms: Array(kept).fill(by === "lines" ? { ...n, width: null } : n), map: look.differences };
  return { picture: panel(apart, [kept, height, width], own), top };
}

// Turned over where the first row of a file is below, and NaN where no model knows a pixel.
function upright(image, shape, turn, unknown) {
  const [, height, width] = shape;
  const found = new Float32Array(image.length);
  for (let row = 0; row * width < image.length; row++) {
    const to = turn ? row + height - 1 - 2 * (row % height) : row;
    found.set(image.subarray(row * width, (row + 1) * width), to * width);
  }
  return unknown ? found.map((value, i) => (unknown[i] ? NaN : value)) : found;
}

function show(canvas, picture) {
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    [canvas.width, canvas.height] = [picture.width, picture.height];
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}
