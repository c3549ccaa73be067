// From factors to latents, as evaluate/generate.py and data/guides.py have it; and what is near a code.

const scale = (f, value) =>
  f.transform === "log10"
    ? Math.log10(value / f.low) / Math.log10(f.high / f.low)
    : (value - f.low) / (f.high - f.low);

// A value of something both of whose ends are the same, between them.
const around = (low, high, value) =>
  value >= low && value <= high ? value : low + ((((value - low) % (high - low)) + (high - low)) % (high - low));
const turned = (f, value) => (f.kind === "periodic" ? around(f.low, f.high, value) : value);

function rank(levels, value) {
  const above = levels.findIndex((level) => level >= value);
  if (above === 0) return 0;
  if (above < 0) return levels.length - 1;
  return above - 1 + (value - levels[above - 1]) / (levels[above] - levels[above - 1]);
}

// The columns by which a value guides latents, on the scale from 0 to 1.
function guided(guide, given) {
  const value = turned(guide.factor, given);
  if (guide.by === "value") return [scale(guide.factor, value)];
  if (guide.by === "angle") {
    const angle = 2 * Math.PI * scale(guide.factor, value);
    return [(Math.cos(angle) + 1) / 2, (Math.sin(angle) + 1) / 2];
  }
  if (guide.by === "classes") return guide.levels.slice(1).map((level) => (level === value ? 1 : 0));
  return [rank(guide.levels, value) / (guide.levels.length - 1)];
}

// The whole code of factors (D,) in their units and the other latents.
const codeOf = (guides, factors, residual) => [
  ...guides.flatMap((guide, j) => guided(guide, factors[j])),
  ...residual,
];

// The row of `points`, each as long as the code, that is nearest when each coordinate is divided by its spread.
function nearest(points, code, spread) {
  const length = code.length;
  let best = { row: -1, distance: Infinity };
  for (let row = 0; row * length < points.length; row++) {
    let sum = 0;
    for (let j = 0; j < length; j++) {
      if (spread[j] > 0) sum += ((points[row * length + j] - code[j]) / spread[j]) ** 2;
    }
    if (sum < best.distance) best = { row, distance: sum };
  }
  return { row: best.row, distance: Math.sqrt(best.distance) };
}

// Of cosine and sine of an angle, the one that goes with the other; it keeps its sign.
const partner = (value, side) =>
  Math.sqrt(Math.max(0, 1 - value * value)) * (side < 0 || Object.is(side, -0) ? -1 : 1);

const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
const digits = (value) => String(Number(value.toPrecision(9)));

// The command that makes the same image, or null where none does: other latents moved, a value outside its range.
function commandOf(told, start, factors, moved) {
  const allowed = told.guides.every(({ factor: f, by }, j) =>
    by === "classes" || f.kind === "periodic" || (factors[j] >= f.low && factors[j] <= f.high));
  if (moved || !allowed) return null;
  const like = start.row === null ? [] : ["--like", quoted(`${told.data}:${start.row}`)];
  const sets = told.guides.flatMap(({ factor }, j) => ["--set", quoted(`${factor.name}=${digits(factors[j])}`)]);
  return ["hpcauxvae generate", quoted(told.run), ...like, ...sets, "--out image.png"].join(" ");
}

// The same in Python, which is always there.
const pythonOf = (told, code) =>
  `import hpcauxvae\nimage = hpcauxvae.load(${JSON.stringify(told.run)}).decode([${code.map(digits).join(", ")}])`;
