// The pictures, drawn by Observable Plot from plain numbers. Colours are the style sheet's, so that they
// follow light and dark; every kind of mark also differs in shape, dash or label.

const INK = "var(--ink)", FAINT = "var(--faint)", BLUE = "var(--blue)", ORANGE = "var(--orange)",
  GREEN = "var(--green)", RED = "var(--red)", PURPLE = "var(--purple)";
const BYTES = ["var(--bytes-1)", "var(--bytes-2)", "var(--bytes-3)", "var(--bytes-4)", "var(--bytes-5)"];

const phone = (width) => width < 480;

const kinds = () => [t("weights"), t("optimizer state"), t("gradients"), t("activations"), t("temporary")];

// The library's eight categories of memory as the five that are drawn.
function fiveKinds([parameters, state, gradients, copies, inputs, activations, temporaries, workspace]) {
  return [parameters, state, gradients, inputs + activations, copies + temporaries + workspace];
}

function picture(width, height, options) {
  return Plot.plot({ width, height, style: { fontSize: phone(width) ? "12px" : "13px", overflow: "visible" },
    marginLeft: 52, marginBottom: 40, marginTop: 22, marginRight: 22, ...options });
}

const xy = { x: (p) => p[0], y: (p) => p[1] };

// Rings of equal loss, the minimum, and what is laid on top of them.
function lossMap(width, problem, { x, y, marks, height = Math.min(440, Math.max(260, window.innerHeight * 0.5), Math.round(width * (phone(width) ? 0.8 : 0.58))) }) {
  const form = bowl(problem), most = lossMean(problem, problem.start);
  const levels = range(9).map((i) => form.least + (most - form.least) * 1.25 * ((i + 1) / 9) ** 2);
  const rings = levels.flatMap((level) => contour(form, level).map(([a, b]) => [a, b, level]));
  return picture(width, height, {
    x: { domain: x, label: t("weight w₁"), ticks: 5 }, y: { domain: y, label: t("weight w₂"), ticks: 5 }, clip: true,
    marks: [Plot.frame({ stroke: FAINT }), Plot.line(rings, { ...xy, z: (p) => p[2], stroke: FAINT, strokeWidth: 1 }),
      Plot.dot([form.minimum], { ...xy, symbol: "star", r: 6, fill: INK }),
      Plot.text([form.minimum], { ...xy, text: () => t("smallest loss"), dy: 16, fill: INK }),
      Plot.dot([problem.start], { ...xy, symbol: "times", r: 6, stroke: INK, strokeWidth: 2 }), ...marks],
  });
}

const arrow = (from, to, options) =>
  Plot.arrow([[from, to]], { x1: (d) => d[0][0], y1: (d) => d[0][1], x2: (d) => d[1][0], y2: (d) => d[1][1],
    strokeWidth: 2.5, headLength: 9, ...options });

// Stacked bytes: one bar for each row of { name, parts }, with a legend of the same words.
function byteBars(width, rows, { kinds, limit = null, height = 60 + 46 * rows.length, most = null }) {
  const cells = rows.flatMap(({ name, parts }) => parts.map((bytes, i) => ({ name, kind: kinds[i], bytes: bytes / 2 ** 30 })));
  const drawn = picture(width, height, {
    marginLeft: rows.length > 1 ? 84 : 16,
    x: { label: t("memory, GiB"), grid: true, domain: most ? [0, most / 2 ** 30] : undefined },
    y: { label: null, domain: rows.map((row) => row.name), axis: rows.length > 1 ? "left" : null },
    color: { domain: kinds, range: BYTES },
    marks: [Plot.barX(cells, { x: "bytes", y: "name", fill: "kind", stroke: "var(--paper)", strokeWidth: 1 }),
      limit === null ? null : Plot.ruleX([limit / 2 ** 30], { stroke: INK, strokeDasharray: "5 3", strokeWidth: 2 }),
      Plot.ruleX([0])],
  });
  return element("div", {}, legend(kinds.map((kind, i) => [kind, BYTES[i], "square"])), drawn);
}

// Words and signs of what is drawn.
function legend(entries) {
  return element("ul", { class: "legend" }, ...entries.map(([text, colour, shape]) =>
    element("li", {}, element("span", { class: `sign ${shape}`, style: `--sign: ${colour}` }), text)));
}

// Curves against a batch size, on a scale that doubles.
function curves(width, { series, x, y, rules = [], dots = [], height = Math.round(width * (phone(width) ? 0.75 : 0.5)), xlog = true, ylog = false, zero = true, marginLeft = 60 }) {
  const lines = series.map(({ points, colour, dash = null, marker = null }) =>
    Plot.line(points, { ...xy, stroke: colour, strokeWidth: 2.5, strokeDasharray: dash, marker, markerStart: marker, markerMid: marker, markerEnd: marker }));
  const all = series.flatMap((one) => one.points.map((p) => p[0])).concat(dots.flatMap((d) => d.points.map((p) => p[0])));
  const doublings = [...new Set(all)].sort((a, b) => a - b).filter((value) => Number.isInteger(Math.log2(value)));
  const shown = phone(width) && doublings.length > 6 ? doublings.filter((_, i) => i % 2 === 0) : doublings;
  return element("div", {}, legend([...series, ...dots].map((one) => [one.name, one.colour, one.dash ? "dashed" : one.points && dots.includes(one) ? "dot" : "line"])),
    picture(width, height, {
      marginLeft,
      x: xlog ? { type: "log", base: 2, label: x, ticks: shown, tickFormat: (value) => String(value) } : { label: x },
      y: { type: ylog ? "log" : "linear", label: y, grid: true, ...(ylog ? { ticks: 5, tickFormat: (v) => say(v, 1) } : { zero }) },
      marks: [...lines, ...dots.map(({ points, colour }) => Plot.dot(points, { ...xy, fill: "var(--paper)", stroke: colour, strokeWidth: 2, r: 4.5 })), ...rules],
    }));
}
