// The inputs: one for each factor, for each angle of cosine and sine, and for each other latent that is in use.

const STEPS = 200;
const rounded = (value) => Number(value.toPrecision(6));

// A labelled slider from `low` to `high` beside the number itself; `wraps` where both ends are the same. What is typed
// and is no number is marked; the number that counts comes back when the field is left.
function slider(place, name, { low, high, log = false, wraps = false }, changed) {
  let counts = low;
  const bad = (is) => (is ? number.setAttribute("aria-invalid", "true") : number.removeAttribute("aria-invalid"));
  const box = document.createElement("div");
  box.className = "slider";
  const [label, range, number] = ["label", "input", "input"].map((kind) => document.createElement(kind));
  label.textContent = name;
  range.type = "range";
  range.id = `explorer-input-${document.querySelectorAll("#explorer .slider").length}`;
  label.htmlFor = range.id;
  number.type = "number";
  number.step = "any";
  number.setAttribute("aria-label", `${name}, as a number`);
  const [to, from] = log ? [Math.log10, (value) => 10 ** value] : [(value) => value, (value) => value];
  [range.min, range.max, range.step] = [to(low), to(high), (to(high) - to(low)) / STEPS || 1];
  // To a thousandth of the range, or finer.
  const places = Math.min(100, Math.max(0, Math.ceil(3 - Math.log10(high - low))));
  const short = (value) => (log ? Number(value.toPrecision(4)) : Number(value.toFixed(places)));
  const tell = (value) => range.setAttribute("aria-valuetext", String(short(value)));
  range.addEventListener("input", () => {
    const value = Math.min(high, Math.max(low, short(from(Number(range.value)))));
    number.value = counts = value;
    bad(false);
    tell(value);
    changed(value);
  });
  range.addEventListener("keydown", (event) => {
    const ends = { ArrowRight: range.max, ArrowUp: range.max, ArrowLeft: range.min, ArrowDown: range.min };
    if (!wraps || !(event.key in ends) || Number(range.value) !== Number(ends[event.key])) return;
    event.preventDefault();
    range.value = ends[event.key] === range.max ? range.min : range.max;
    range.dispatchEvent(new Event("input"));
  });
  number.addEventListener("input", () => {
    const typed = number.value === "" ? NaN : Number(number.value);
    const is = Number.isFinite(typed) && !(log && typed <= 0);
    bad(!is);
    if (!is) return;
    counts = wraps ? around(low, high, typed) : typed;
    range.value = to(counts);
    tell(counts);
    changed(counts);
  });
  number.addEventListener("change", () => {
    number.value = short(counts);
    bad(false);
  });
  box.append(label, range, number);
  place.append(box);
  return (value) => {
    range.value = to(value);
    number.value = short(value);
    counts = value;
    bad(false);
    tell(value);
  };
}

// names: of the values 0, 1, 2, …; none where the numbers are the names.
function choice(place, name, levels, names, changed) {
  const box = document.createElement("div");
  box.className = "slider";
  const [label, select] = ["label", "select"].map((kind) => document.createElement(kind));
  label.textContent = name;
  select.id = `explorer-input-${document.querySelectorAll("#explorer .slider").length}`;
  label.htmlFor = select.id;
  levels.forEach((level) => select.add(new Option(names[level] ?? String(rounded(level)), level)));
  select.addEventListener("change", () => changed(Number(select.value)));
  box.append(label, select);
  place.append(box);
  return (value) => (select.value = value);
}

const withUnit = (name, unit) => (unit ? `${name} [${unit}]` : name);

// Makes all inputs; returns a function that puts them where the state is. changed(factors by place, residuals by place).
function inputs(told, factorsPlace, othersPlace, changed) {
  const sets = [];
  told.angles.forEach(({ pair: [cosine, sine], name }) => {
    const set = slider(factorsPlace, withUnit(name, "deg"), { low: 0, high: 360, wraps: true }, (value) => {
      const angle = (value * Math.PI) / 180;
      changed({ [cosine]: Math.cos(angle), [sine]: Math.sin(angle) }, {});
    });
    sets.push((now) => set(((Math.atan2(now.factors[sine], now.factors[cosine]) * 180) / Math.PI + 360) % 360));
  });
  const paired = told.angles.flatMap(({ pair }) => pair);
  told.guides.forEach(({ factor, by, levels, seen: [low, high] }, j) => {
    if (paired.includes(j)) return;
    const name = withUnit(factor.name, factor.unit);
    const periodic = factor.kind === "periodic";
    const span = periodic ? { low: factor.low, high: factor.high } : { low, high };
    const set = by === "classes"
      ? choice(factorsPlace, name, levels, factor.classes ?? [], (value) => changed({ [j]: value }, {}))
      : slider(factorsPlace, name, { ...span, log: factor.transform === "log10", wraps: periodic },
        (value) => changed({ [j]: value }, {}));
    sets.push((now) => set(now.factors[j]));
  });
  told.residuals.forEach(({ place, name, low, high }) => {
    const set = slider(othersPlace, name, { low, high }, (value) => changed({}, { [place]: value }));
    sets.push((now) => set(now.residual[place]));
  });
  return (now) => sets.forEach((set) => set(now));
}
