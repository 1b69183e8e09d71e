// The seven sections with something to move: their controls, their questions, and what is drawn for a state.

const numbers = (...values) => () => values;
const times = (ratio) => t("{ratio} times", { ratio: say(ratio) });

// --- 1. One update

const updateSection = {
  id: "update",
  controls: [
    { name: "batch", kind: "choice", ofResults: true, start: "4", values: numbers("1", "4", "11", "44"),
      label: () => t("examples in an update, B"), say: (b) => (b === "44" ? t("44 (all)") : b) },
    { name: "updates", kind: "range", start: 12, values: () => range(13), label: () => t("updates"), play: true },
    { name: "rate", kind: "range", ofResults: true, start: 0.1, values: numbers(0.02, 0.05, 0.1, 0.2, 0.3), label: () => t("learning rate") },
  ],
  figures: () => [
    { title: t("The path of the weights") },
    { title: t("The mean loss of all 44 examples, against examples used"), veiled: true },
  ],
  question: () => ({
    question: t("Full-batch descent makes 12 updates of 44 examples, mini-batch descent 132 updates of 4: both use 528 examples, at a learning rate of 0.1. Which ends at the smaller loss of all 44?"),
    options: [t("full-batch"), t("mini-batches of 4"), t("both the same, within 1 %")],
    answer: () => {
      const [full, mini] = [44, 4].map((batch) => lossMean(DATA.regression,
        descend(DATA.regression, { batch, updates: 528 / batch, rate: 0.1 }).points.at(-1)));
      const right = Math.abs(full / mini - 1) < 0.01 ? 2 : full < mini ? 0 : 1;
      const { least } = bowl(DATA.regression);
      return { right, because: t("Full-batch ends at {full}, mini-batches at {mini}; the smallest possible is {least}. For the same examples the small batch takes more steps; it ends by jittering around the minimum.",
        { full: say(full, 4), mini: say(mini, 4), least: say(least, 4) }) };
    },
  }),
  draw: ({ batch, updates, rate }, width, opened) => {
    const problem = DATA.regression, b = Number(batch);
    const { points } = descend(problem, { batch: b, updates, rate }), full = descend(problem, { batch: 44, updates, rate }).points;
    const node = lossMap(width(0), problem, { x: [-3, 3.4], y: [-3.2, 3.2], marks: [
      Plot.line(full, { ...xy, stroke: INK, strokeWidth: 1.5, strokeDasharray: "4 3" }),
      Plot.line(points, { ...xy, stroke: BLUE, strokeWidth: 2.5 }), Plot.dot(points, { ...xy, fill: BLUE, r: 3.5 })] });
    const map = element("div", {}, legend([[t("B = {b}", { b }), BLUE, "line"], [t("all 44"), INK, "dashed"]]), node);
    const loss = lossMean(problem, points.at(-1)), used = sum(windowsOf(problem, b, updates).map((w) => w.length));
    const words = t("Updates: {updates}, each of B = {b}, learning rate {rate}. Examples used: {used}. Mean loss of all 44: {loss}; it began at {start}.",
      { updates, b, rate, used, loss: say(loss, 4), start: say(lossMean(problem, problem.start), 4) });
    return [{ node: map, words }, opened ? keep("losses", [width(1), b, rate], () => lossesByExamples(width(1), b, rate)) : null];
  },
};

const MOST_LOSS = 1000; // beyond it a curve is not drawn any more

function lossesByExamples(width, b, rate) {
  const problem = DATA.regression;
  const path = (batch) => {
    const updates = 12 * Math.ceil(44 / batch), made = windowsOf(problem, batch, updates);
    let used = 0;
    return descend(problem, { batch, updates, rate }).points.map((w, i) => {
      used += i ? made[i - 1].length : 0;
      return [used, lossMean(problem, w)];
    });
  };
  const within = (points) => points.filter((_, i) => points.slice(0, i + 1).every(([, loss]) => loss < MOST_LOSS));
  const ending = (points) => (within(points).length < points.length ? t("nothing: it diverged") : say(points.at(-1)[1], 4));
  const [full, mini] = [path(44), path(b)];
  const series = [{ name: t("all 44 examples in an update"), points: within(full), colour: INK, dash: "4 3" },
    { name: t("B = {b}", { b }), points: within(mini), colour: BLUE }];
  return { node: curves(width, { series, x: t("examples used"), y: t("mean loss of all 44"), xlog: false, ylog: true }),
    words: t("After 528 examples: {mini} with B = {b}, {full} with all 44 in each update.", { b, mini: ending(mini), full: ending(full) }) };
}

// --- 2. Micro-batches

const flowSection = {
  id: "flow",
  controls: [
    { name: "m", kind: "choice", start: "2", values: numbers("1", "2", "4", "8"), label: () => t("micro-batch size, M") },
    { name: "k", kind: "choice", start: "4", values: numbers("1", "2", "4", "8"), label: () => t("accumulation steps, K") },
    { name: "moment", kind: "range", start: 1, values: ({ k }) => range(2 * Number(k) + 1).map((i) => i + 1), play: true,
      label: () => t("moment"), say: (moment, { k }) => momentName(moment, Number(k)) },
  ],
  repair: (state) => { state.moment = Math.min(state.moment, 2 * Number(state.k) + 1); },
  figures: () => [{ title: t("One update, moment by moment") },
    { title: t("The buffer against one batch of all B examples, relative difference"), veiled: true }],
  question: () => ({
    question: t("That was one pair of M and K. Of the sixteen pairs of 1, 2, 4 and 8, how many end at the gradient of one pass, but for rounding?"),
    options: [t("those with a small K"), t("all sixteen"), t("those with a large M")],
    answer: () => {
      const worst = Math.max(...differences().flat());
      const right = worst < 1e-12 ? 1 : 0;
      return { right, because: t("The largest relative difference over all sixteen pairs of M and K is {worst}. A sum does not depend on how it is cut, and each share is divided by the same B.", { worst: say(worst, 2) }) };
    },
  }),
  draw: ({ m, k, moment }, width, opened) =>
    [flowPicture(width(0), Number(m), Number(k), moment), opened ? keep("differences", [], differenceTable) : null],
};

function momentName(moment, k) {
  if (moment > 2 * k) return t("the optimizer moves");
  const i = Math.ceil(moment / 2);
  return moment % 2 ? t("micro-batch {i} forward", { i }) : t("micro-batch {i} backward", { i });
}

// The whole picture of an update, which goes on from one moment to the next; and in words what it shows.
function flowPicture(width, m, k, moment) {
  const layout = phone(width) ? "narrow" : "medium";
  const picture = keep("flow", [m, k, layout, width], () => new UpdatePicture(m, k, layout, width));
  picture.glide(timeOf(moment, k));
  const filled = Math.min(Math.floor(moment / 2), k), { bytes } = DATA.flow.phases[`${m},${k}`][moment - 1];
  const [gone, whole] = [picture.tips[filled], picture.whole];
  return { node: picture.node, words: [
    t("{moment}: {filled} of {k} shares are in the buffer.", { moment: momentName(moment, k), filled, k }),
    t("The buffer holds ({a}, {b}); the gradient of all {n} examples is ({c}, {d}).",
      { a: say(gone[0]), b: say(gone[1]), n: m * k, c: say(whole[0]), d: say(whole[1]) }),
    t("Memory at its fullest: {now}, of it {activations} activations and {gradients} gradients; the fullest moment of this update takes {peak}. (RoBERTa-base, 128 tokens, fp32, AdamW; predicted.)",
      { now: gib(sum(bytes)), activations: gib(fiveKinds(bytes)[3]), gradients: gib(bytes[2]), peak: gib(picture.peak) })].join(gap()) };
}

const SIZES_OF_FLOW = [1, 2, 4, 8];

function differences() {
  const problem = DATA.cloud;
  return SIZES_OF_FLOW.map((m) => SIZES_OF_FLOW.map((k) => {
    const examples = firstWindow(problem, m, k), whole = gradientMean(problem, problem.start, examples);
    const { buffers } = accumulateWindow(problem, problem.start, examples, m);
    return norm(add(buffers.at(-1), scale(whole, -1))) / norm(whole);
  }));
}

function differenceTable() {
  const found = differences();
  return { table: true, words: t("Rounding of double precision is about 1.1e-16."),
    node: table(t("Relative difference for each M and K"), ["", ...SIZES_OF_FLOW.map((k) => `K = ${k}`)],
      found.map((row, i) => [`M = ${SIZES_OF_FLOW[i]}`, ...row.map((value) => (value === 0 ? "0" : say(value, 2)))])) };
}

function table(caption, head, rows, marked = -1) {
  return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, element("table", {}, element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...head.map((text) => element(text ? "th" : "td", text ? { scope: "col" } : {}, text)))),
    element("tbody", {}, ...rows.map((row, i) => element("tr", { class: i === marked ? "marked" : null },
      element("th", { scope: "row" }, row[0]), ...row.slice(1).map((text) => element("td", {}, text)))))));
}

// --- 3. Variance

const TIMES = 200;

const varianceSection = {
  id: "variance",
  controls: [
    { name: "m", kind: "range", ofResults: true, start: 2, values: numbers(1, 2, 4, 8), label: () => t("micro-batch size, M") },
    { name: "k", kind: "range", ofResults: true, start: 16, values: numbers(1, 2, 4, 8, 16), label: () => t("accumulation steps, K") },
    { name: "seed", kind: "button", ofResults: true, start: 1, label: () => t("Draw other mini-batches") },
  ],
  figures: () => [{ title: t("200 mini-batch gradients around the gradient of all 200 examples") },
    { title: t("Their variance, against the batch size"), veiled: true },
    { title: t("The same law on a real network: the digits' MLP of notebook 03"), veiled: true }],
  question: () => ({
    question: t("B goes from 8 to 32, drawn from 200 examples without replacement. The variance (the mean squared distance to the full gradient) falls to …"),
    options: [t("a half"), t("exactly a quarter"), t("somewhat less than a quarter")],
    answer: () => {
      const ratio = law(1, 32, 200) / law(1, 8, 200);
      const right = Math.abs(ratio - 0.5) < 0.01 ? 0 : Math.abs(ratio - 0.25) < 0.01 ? 1 : 2;
      return { right, because: t("The law gives {ratio} of it: 1/B, times 1 − B/N, since a batch of all 200 examples would not vary at all. The distance itself only about halves.", { ratio: say(ratio) }) };
    },
  }),
  draw: ({ m, k, seed }, width, opened) => [cloudPicture(width(0), m * k, seed),
    ...(opened ? [varianceCurve(width(1), m * k, seed), keep("digits", [width(2)], () => digitsCurve(width(2)))] : [])],
};

function cloudPicture(width, batch, seed) {
  const problem = DATA.cloud, whole = gradientMean(problem, problem.start, range(200));
  const gradients = cloud(problem, problem.start, batch, TIMES, seed);
  const one = trace(problem, problem.start), reach = 1.6 * Math.sqrt(law(one, 2, 200)), radius = Math.sqrt(law(one, batch, 200));
  const circle = range(61).map((i) => [whole[0] + radius * Math.cos((i * Math.PI) / 30), whole[1] + radius * Math.sin((i * Math.PI) / 30)]);
  const outside = gradients.filter((g) => Math.abs(g[0] - whole[0]) > reach || Math.abs(g[1] - whole[1]) > reach * 0.62).length;
  const node = picture(width, Math.min(Math.max(260, window.innerHeight * 0.55), Math.round(width * (phone(width) ? 0.75 : 0.58))), {
    x: { domain: [whole[0] - reach, whole[0] + reach], label: t("gradient of w₁") },
    y: { domain: [whole[1] - reach * 0.62, whole[1] + reach * 0.62], label: t("gradient of w₂") }, clip: true,
    marks: [Plot.frame({ stroke: FAINT }), Plot.dot(gradients, { ...xy, fill: BLUE, fillOpacity: 0.5, r: 3 }),
      Plot.line(circle, { ...xy, stroke: ORANGE, strokeWidth: 2, strokeDasharray: "6 3" }),
      arrow([0, 0], whole, { stroke: INK, strokeWidth: 1.5 }), Plot.dot([whole], { ...xy, symbol: "times", stroke: INK, strokeWidth: 3, r: 7 })],
  });
  const wrong = gradients.filter((g) => g[0] * whole[0] + g[1] * whole[1] < 0).length;
  return { node: element("div", {}, legend([[t("a mini-batch"), BLUE, "dot"], [t("all 200 examples"), INK, "cross"], [t("root of the law's variance"), ORANGE, "dashed"]]), node),
    words: t("B = {batch}: the mean squared distance of {n} mini-batch gradients to the full gradient is {found}; the law says {law}. {wrong} of them are more than 90° off its direction{outside}.",
      { batch, n: TIMES, found: say(measuredVariance(gradients, whole)), law: say(law(one, batch, 200)), wrong,
        outside: outside ? t("; {outside} lie outside the picture", { outside }) : "" }) };
}

function varianceCurve(width, batch, seed) {
  const problem = DATA.cloud, whole = gradientMean(problem, problem.start, range(200)), one = trace(problem, problem.start);
  const sizes = [1, 2, 4, 8, 16, 32, 64, 128];
  const found = keep("measured", [seed], () =>
    sizes.map((b) => [b, measuredVariance(cloud(problem, problem.start, b, TIMES, seed), whole)]));
  const node = curves(width, { x: t("batch size B"), y: t("variance"), ylog: true,
    series: [{ name: t("law: tr Σ / B · (1 − B/N)"), points: sizes.map((b) => [b, law(one, b, 200)]), colour: ORANGE },
      { name: t("only 1/B"), points: sizes.map((b) => [b, one / b]), colour: INK, dash: "4 3" }],
    dots: [{ name: t("200 mini-batches each, drawn here"), points: found, colour: BLUE }],
    rules: [Plot.ruleX([batch], { stroke: FAINT, strokeWidth: 6, strokeOpacity: 0.5 })] });
  const worst = Math.max(...found.map(([b, v]) => Math.abs(v / law(one, b, 200) - 1)));
  return { node, words: t("The measured points are within {worst} % of the law. At B = 128 it is {ratio} of what 1/B alone says.",
    { worst: say(100 * worst, 2), ratio: say(1 - 128 / 200) }) };
}

function digitsCurve(width) {
  const { batch_sizes: sizes, measured, law_sizes: fine, law: said, noise_scale: noise, num_samples: n } = DATA.variance;
  const keep = sizes.map((b, i) => i).filter((i) => sizes[i] < n);
  const node = curves(width, { x: t("batch size B"), y: t("variance over the squared full gradient"), ylog: true,
    series: [{ name: t("law"), points: fine.map((b, i) => [b, said[i]]).filter(([b]) => b <= sizes[keep.at(-1)]), colour: ORANGE }],
    dots: [{ name: t("measured by the library"), points: keep.map((i) => [sizes[i], measured[i]]), colour: BLUE }] });
  return { node, words: t("{n} images: from {first} times the squared full gradient at B = 1 down to {least} at B = {last}. The noise scale, the B at which 1/B alone would bring it to 1, is {noise} examples.",
    { n, last: sizes[keep.at(-1)], first: say(measured[0]), least: say(measured[keep.at(-1)]), noise: say(noise) }) };
}

// --- 4. Memory

const memorySection = {
  id: "memory",
  controls: [
    { name: "m", kind: "range", ofResults: true, start: 4, values: () => DATA.memory.sizes, label: () => t("micro-batch size, M") },
    { name: "k", kind: "range", ofResults: true, start: 8, values: () => DATA.memory.steps, label: () => t("accumulation steps, K") },
    { name: "precision", kind: "choice", ofResults: true, start: "fp32", values: numbers("fp32", "bf16"), label: () => t("precision of the passes") },
    { name: "checkpointing", kind: "choice", ofResults: true, start: "off", values: numbers("off", "on"),
      label: () => t("activation checkpointing"), say: (value) => (value === "on" ? t("on") : t("off")) },
  ],
  figures: () => [{ title: t("RoBERTa-base, 128 tokens, AdamW, at the fullest moment of one update") },
    { title: t("The peak, against M"), veiled: true }],
  question: () => ({
    question: t("M stays at 16, K grows from 1 to 2. What happens to the peak?"),
    options: [t("it halves"), t("nothing"), t("it grows")],
    answer: () => {
      const { peak } = DATA.memory.ways["fp32,off"], at = DATA.memory.sizes.indexOf(16);
      const [one, two, eight] = [1, 2, 8].map((k) => peak[DATA.memory.steps.indexOf(k)][at]);
      const ratio = two / one, right = ratio < 0.9 ? 0 : ratio > 1.01 ? 2 : 1;
      return { right, because: t("{one} with K = 1, {two} with K = 2: from then on the gradients are there during the next forward pass. A larger K changes nothing more: {eight} with K = 8.",
        { one: gib(one), two: gib(two), eight: gib(eight) }) };
    },
  }),
  draw: ({ m, k, precision, checkpointing }, width, opened) => {
    const { sizes, steps, ways } = DATA.memory, way = ways[`${precision},${checkpointing}`];
    const [i, j] = [steps.indexOf(k), sizes.indexOf(m)], parts = fiveKinds(way.parts[i][j]);
    const rows = [{ name: "M = 64", parts: fiveKinds(way.parts[i].at(-1)) }, { name: `M = ${m}`, parts }].slice(m === 64 ? 1 : 0);
    const most = Math.max(...Object.values(ways).flatMap((w) => w.peak.flat()));
    const words = t("M = {m}, K = {k}: B = {b} examples in an update, peak {peak}. Weights, gradients, the optimizer and its temporary copy alone need {floor}: no M and K go below (dashed).",
      { m, k, b: m * k, peak: gib(way.peak[i][j]), floor: gib(way.floor[i]) });
    return [{ node: byteBars(width(0), rows, { kinds: kinds(), limit: way.floor[i], most, height: 152 }), words },
      opened ? peakCurves(width(1), way, m, k) : null];
  },
};

function peakCurves(width, way, m, k) {
  const { sizes, steps } = DATA.memory, colours = [GREEN, BLUE, ORANGE, PURPLE], dashes = [null, null, "8 5", "2 5"];
  const series = steps.map((step, i) => ({ name: `K = ${step}`, colour: colours[i], dash: dashes[i],
    points: sizes.map((size, j) => [size, way.peak[i][j] / 2 ** 30]) }));
  const at = [m, way.peak[steps.indexOf(k)][sizes.indexOf(m)] / 2 ** 30];
  const node = curves(width, { series, x: t("micro-batch size M"), y: t("peak, GiB"), rules: [
    Plot.ruleY([way.floor[steps.indexOf(k)] / 2 ** 30], { stroke: INK, strokeDasharray: "5 3" }),
    Plot.dot([at], { ...xy, r: 7, stroke: INK, strokeWidth: 2 })] });
  const spread = Math.max(...sizes.map((_, j) => way.peak.at(-1)[j] / way.peak[1][j] - 1));
  return { node, words: t("From K = 2 on the curves lie on each other, within {spread} %. Below the knee a smaller M saves nothing more.", { spread: say(100 * spread, 2) }) };
}

// --- 5. Mean of means

const meansSection = {
  id: "means",
  controls: [{ name: "tokens", kind: "range", ofResults: true, start: 50, values: () => range(50).map((i) => i + 1),
    label: () => t("tokens of the other micro-batch") }],
  figures: () => [{ title: t("How much the lonely token counts") },
    { title: t("Two classifiers after 100 updates, and their tokens"), veiled: true }],
  question: () => ({
    question: t("One micro-batch has 1 token, the other 50. How much more does the lonely token count in a mean of means than it should?"),
    options: [t("twice as much"), t("about 25 times as much"), t("50 times as much")],
    answer: () => {
      const ratio = lonelyWeights(50)[1] / lonelyWeights(50)[0];
      const right = [2, 25, 50].reduce((best, option, i, all) =>
        Math.abs(Math.log(ratio / option)) < Math.abs(Math.log(ratio / all[best])) ? i : best, 0);
      return { right, because: t("It counts a half in place of 1/51: {ratio} times.", { ratio: say(ratio) }) };
    },
  }),
  draw: ({ tokens }, width, opened) => {
    const [right, wrong] = lonelyWeights(tokens);
    const rows = [[t("one batch"), right], [t("mean of means"), wrong]].flatMap(([loop, share]) =>
      [{ loop, who: t("the lonely token"), share }, { loop, who: t("all others"), share: 1 - share }]);
    const names = [t("the lonely token"), t("all others")];
    const node = picture(width(0), 150, { marginLeft: 118, x: { label: t("part of the update, %"), percent: true, domain: [0, 100] },
      y: { label: null, domain: [t("one batch"), t("mean of means")] }, color: { domain: names, range: [ORANGE, "var(--quiet)"] },
      marks: [Plot.barX(rows, { x: "share", y: "loop", fill: "who" }), Plot.ruleX([0])] });
    const words = t("Beside {n} others: 1/{all} = {right} % of the update in one batch, {wrong} % in a mean of means.",
      { n: tokens, all: tokens + 1, right: say(100 * right), wrong: say(100 * wrong) });
    return [{ node: element("div", {}, legend([[names[0], ORANGE, "square"], [names[1], "var(--quiet)", "square"]]), node), words },
      opened ? twoClassifiers(width(1), tokens) : null];
  },
};

// What multiplies the lonely token's loss: in one batch, in a mean of means.
const lonelyWeights = (tokens) => ["right", "mean_of_means"].map((loop) => WEIGHTS[loop](0, [1, tokens], 2));

function twoClassifiers(width, tokens) {
  const data = DATA.tokens, counts = [1, tokens], k = 2, setting = { counts, k, rate: data.rate, epochs: 100 };
  const [right, wrong] = ["right", "mean_of_means"].map((loop) => train(data, { loop, ...setting }));
  const [w, v] = [right, wrong].map(({ points }) => [points.at(-1)[2] - points.at(-1)[0], points.at(-1)[3] - points.at(-1)[1]]);
  const edge = ([a, b]) => [[-4 * b, 4 * a], [4 * b, -4 * a]].map((p) => scale(p, 1 / norm([a, b])));
  const shown = range(tokens + 1).map((i) => ({ p: data.x[i], label: data.labels[i], lonely: i === 0 }));
  const node = picture(width, Math.round(width * 0.62), { x: { domain: [-3.6, 3.6], label: t("first feature") }, y: { domain: [-2.6, 2.6], label: t("second feature") }, clip: true,
    marks: [Plot.frame({ stroke: FAINT }), Plot.line(edge(w), { ...xy, stroke: INK, strokeWidth: 2, strokeDasharray: "6 3" }), Plot.line(edge(v), { ...xy, stroke: ORANGE, strokeWidth: 2.5 }),
      Plot.dot(shown.filter((d) => d.label === 0), { x: (d) => d.p[0], y: (d) => d.p[1], symbol: "circle", stroke: BLUE, strokeWidth: 2, r: 5 }),
      Plot.dot(shown.filter((d) => d.label === 1), { x: (d) => d.p[0], y: (d) => d.p[1], symbol: "times", stroke: RED, strokeWidth: 2, r: 5 }),
      Plot.dot(shown.filter((d) => d.lonely), { x: (d) => d.p[0], y: (d) => d.p[1], r: 12, stroke: INK, strokeWidth: 1.5 })] });
  const angle = (Math.acos(Math.min(1, (w[0] * v[0] + w[1] * v[1]) / (norm(w) * norm(v)))) * 180) / Math.PI;
  return { node: element("div", {}, legend([[t("one batch"), INK, "dashed"], [t("mean of means"), ORANGE, "line"], [t("class 0"), BLUE, "dot"], [t("class 1"), RED, "cross"], [t("the lonely token"), INK, "ring"]]), node),
    words: t("The borders between the classes differ by {angle}°. Mean loss of all {all} tokens: {right} with one batch, {wrong} with the mean of means.",
      { angle: say(angle, 2), all: tokens + 1, right: say(right.losses.at(-1)), wrong: say(wrong.losses.at(-1)) }) };
}

// --- 6. Faults

const FAULTS = {
  no_division: () => t("nothing divides by K"), mean_of_means: () => t("mean of means"),
  tail_divided_by_k: () => t("short window divided by K"), dropped_tail: () => t("last window dropped"),
  leaked_tail: () => t("last window leaks"),
};
const RATES = { sgd: 0.5, adam: 0.1 }, FAULT_EPOCHS = 20;
const trained = (loop, optimizer) =>
  train(DATA.tokens, { loop, counts: DATA.tokens.counts, k: 3, optimizer, rate: RATES[optimizer], epochs: FAULT_EPOCHS });

const breaksSection = {
  id: "breaks",
  controls: [
    { name: "loop", kind: "choice", start: "no_division", values: () => Object.keys(FAULTS), label: () => t("fault"), say: (loop) => FAULTS[loop]() },
    { name: "optimizer", kind: "choice", start: "sgd", values: numbers("sgd", "adam"), label: () => t("optimizer"), say: (name) => ({ sgd: "SGD", adam: "Adam" })[name] },
  ],
  figures: () => [{ title: t("The loop, as in the library's bug hunt; lines that differ from the right one are marked") },
    { title: t("How much each micro-batch counts in its update, over what it should"), half: true },
    { title: t("The loss curves of the wrong and the right loop"), half: true },
    { title: t("Final loss of every fault, over that of the right loop"), veiled: true },
    { title: t("The right loop, and a layer that breaks it: error of the gradient against M"), veiled: true }],
  question: () => ({
    question: t("Trained with Adam: for how many of these five faults does the final loss end more than 5 % above that of the right loop?"),
    options: [t("none"), t("one or two"), t("three or more")],
    answer: () => {
      const right = trained("right", "adam").losses.at(-1);
      const over = Object.keys(FAULTS).filter((loop) => trained(loop, "adam").losses.at(-1) > 1.05 * right);
      const names = over.map((loop) => FAULTS[loop]()).join(t(", ")) || t("none");
      return { right: over.length === 0 ? 0 : over.length < 3 ? 1 : 2,
        because: t("More than 5 % above after {epochs} epochs: {names}. A loss curve is a poor witness: without the right one beside it, who would notice?", { epochs: FAULT_EPOCHS, names }) };
    },
  }),
  draw: ({ loop, optimizer }, width, opened) => [keep("code", [loop], () => faultCode(loop)), keep("factors", [width(1), loop], () => faultWeights(width(1), loop)),
    faultCurves(width(2), loop, optimizer),
    ...(opened ? [keep("faults", [], faultTable), keep("norms", [width(4)], () => normCurves(width(4)))] : [])],
};

function faultCode(loop) {
  const right = DATA.loops.right.split("\n"), lines = DATA.loops[loop].split("\n");
  const body = (all) => all.slice(all.findIndex((line) => line.endsWith(":")) + 1); // without the signature
  const changed = body(lines).filter((line) => !right.includes(line));
  const missing = body(right).filter((line) => !lines.includes(line));
  const listed = (all) => all.map((line) => `“${line.trim().replace(/:$/, "")}”`).join(t(", "));
  const code = element("code", {}, ...lines.map((line) => element("span", { class: changed.includes(line) ? "changed" : "same" }, `${line}\n`)));
  const said = [changed.length ? t("Changed: {lines}.", { lines: listed(changed) }) : null,
    missing.length ? t("In the right loop instead: {lines}.", { lines: listed(missing) }) : null];
  return { table: true, node: element("pre", { tabindex: 0, role: "region", "aria-label": t("Code") }, code), words: said.filter(Boolean).join(gap()) };
}

function faultWeights(width, loop) {
  const { counts } = DATA.tokens, updated = loop === "dropped_tail" || loop === "leaked_tail" ? 6 : 8;
  const rows = counts.map((count, i) => ({ name: `${i + 1}`, count, factor: i < updated ? WEIGHTS[loop](i, counts, 3) / WEIGHTS.right(i, counts, 3) : 0 }));
  const node = picture(width, 210, { x: { label: t("micro-batch (its tokens below)"), type: "band", tickFormat: (name) => `${name}\n(${counts[name - 1]})` },
    marginBottom: 52, y: { label: t("factor"), grid: true, zero: true, nice: true },
    marks: [Plot.barY(rows, { x: "name", y: "factor", fill: (row) => (Math.abs(row.factor - 1) < 1e-9 ? BLUE : ORANGE) }), Plot.ruleY([1], { stroke: INK, strokeDasharray: "5 3" }), Plot.ruleY([0])] });
  const late = loop === "leaked_tail" ? t("The last two come late, on top of the next epoch's first window.") : "";
  const factors = t("Factors of micro-batches 1 to 8: {factors}. Right would be 1 for each.", { factors: rows.map((row) => say(row.factor, 2)).join(t(", ")) });
  return { node, words: [factors, late].filter(Boolean).join(gap()) };
}

function faultCurves(width, loop, optimizer) {
  const [right, wrong] = ["right", loop].map((name) => trained(name, optimizer)), at = (losses) => losses.map((loss, i) => [i, loss]);
  const node = curves(width, { xlog: false, zero: false, x: t("epochs"), y: t("mean loss"), series: [
    { name: t("right"), points: at(right.losses), colour: INK, dash: "5 3" }, { name: FAULTS[loop](), points: at(wrong.losses), colour: ORANGE }] });
  const apart = norm(add(right.points.at(-1), scale(wrong.points.at(-1), -1))) / norm(right.points.at(-1));
  return { node, words: t("After {epochs} epochs: {wrong} with the fault, {right} without ({optimizer}). The weights differ by {apart} %.",
    { optimizer: { sgd: "SGD", adam: "Adam" }[optimizer], epochs: FAULT_EPOCHS, wrong: say(wrong.losses.at(-1)), right: say(right.losses.at(-1)), apart: say(100 * apart, 2) }) };
}

function faultTable() {
  const over = (loop, optimizer) => trained(loop, optimizer).losses.at(-1) / trained("right", optimizer).losses.at(-1) - 1;
  const percent = (value) => (value < 0 ? "−" : "+") + t("{number} %", { number: say(Math.abs(100 * value), 2) });
  const rows = Object.keys(FAULTS).map((loop) => [FAULTS[loop](), ...["sgd", "adam"].map((optimizer) => percent(over(loop, optimizer)))]);
  return { table: true, words: t("After {epochs} epochs. How far the weights are off, the loss does not say.", { epochs: FAULT_EPOCHS }),
    node: table(t("Final loss over that of the right loop"), [t("fault"), "SGD", "Adam"], rows) };
}

function normCurves(width) {
  const { batch, group } = DATA.norms, at = ({ sizes, errors }) => sizes.map((m, i) => [m, 100 * errors[i]]);
  const node = curves(width, { x: t("micro-batch size M, B = 64"), y: t("error of the gradient, %"), series: [
    { name: "BatchNorm", points: at(batch), colour: ORANGE, marker: "circle" }, { name: "GroupNorm", points: at(group), colour: BLUE, dash: "5 3", marker: "circle" }] });
  return { node, words: t("A small CNN on digits. BatchNorm: {first} % at M = 1, {middle} % at M = 8, 0 at M = 64. GroupNorm: {group} % at most.",
    { first: say(100 * batch.errors[0], 2), middle: say(100 * batch.errors[batch.sizes.indexOf(8)], 2), group: say(100 * Math.max(...group.errors), 2) }) };
}

// --- 7. Choosing

const chooseSection = {
  id: "choose",
  controls: [
    { name: "card", kind: "choice", start: "RTX 3060", values: () => DATA.plans.cards, label: () => t("card") },
    { name: "batch", kind: "choice", ofResults: true, start: "512", values: () => DATA.plans.batches.map(String), label: () => t("effective batch B") },
    { name: "noise", kind: "range", ofResults: true, start: 512, values: () => [16, Math.round(DATA.variance.noise_scale), 256, 512, 1024, 4096],
      label: () => t("noise scale, assumed (the digits' MLP has {noise})", { noise: Math.round(DATA.variance.noise_scale) }) },
  ],
  figures: () => [{ title: t("RoBERTa-base, 512 tokens, AdamW: what fits the card") },
    { title: t("What the batch costs, over the least possible"), veiled: true }],
  question: () => ({
    question: t("B is exactly the noise scale. How many updates does that take, compared with a batch so large that more would not help?"),
    options: [t("as many"), t("twice as many"), t("ten times as many")],
    answer: () => {
      const ratio = updatesFactor(100, 100), right = [1, 2, 10].indexOf(ratio);
      return { right, because: t("{ratio}, and as many times the least number of examples: the balance. It is a model, and notebook 09 races against it.", { ratio: times(ratio) }) };
    },
  }),
  draw: ({ card, batch, noise }, width, opened) => [keep("plan", [card, batch], () => planTable(card, batch)), opened ? costCurves(width(1), Number(batch), noise) : null],
};

function planTable(card, batch) {
  const { limit, options } = DATA.plans.found[`${card},${batch}`], fits = (o) => o.micro_batch_size > 0;
  const rows = options.map((o) => [`${o.precision}${o.checkpointing ? t(", checkpointing") : ""}${o.optimizer === "adamw" ? "" : `, ${o.optimizer}`}`,
    ...(fits(o) ? [String(o.micro_batch_size), String(o.accumulation_steps), gib(o.peak_bytes), t("about {seconds} s", { seconds: say(o.seconds, 2) })] : [t("does not fit"), "–", gib(o.peak_bytes), "–"])]);
  const best = options.find(fits);
  const words = best
    ? t("{card}, B = {batch}: best {precision}, M = {m}, K = {k}; peak {peak} of {limit} allowed (a tenth of the card is left free). The examples are shared out evenly over K passes, which gives M; the last micro-batch may be smaller. Memory is predicted; times are rough estimates from data sheets, for ranking.",
      { card, batch, precision: `${best.precision}${best.checkpointing ? t(", checkpointing") : ""}`, m: best.micro_batch_size, k: best.accumulation_steps, peak: gib(best.peak_bytes), limit: gib(limit) })
    : t("{card}: nothing fits; the floor alone is {floor}.", { card, floor: gib(options[0].floor_bytes) });
  return { table: true, words, node: table(t("Ways to make one update, fastest first"), [t("way"), "M", "K", t("peak"), t("time")], rows, options.indexOf(best)) };
}

function costCurves(width, batch, noise) {
  const sizes = range(15).map((i) => 2 ** i), line = (f) => sizes.map((b) => [b, f(noise, b)]);
  const node = curves(width, { ylog: true, x: t("effective batch B"), y: t("times the least"), series: [
    { name: t("updates"), points: line(updatesFactor), colour: BLUE }, { name: t("examples"), points: line(examplesFactor), colour: ORANGE, dash: "6 3" }],
    rules: [Plot.ruleX([noise], { stroke: INK, strokeDasharray: "2 3" }), Plot.text([[noise, updatesFactor(noise, 1)]], { ...xy, text: () => t("noise scale"), dx: 4, dy: -8, textAnchor: "start", fill: INK }),
      Plot.dot([[batch, updatesFactor(noise, batch)], [batch, examplesFactor(noise, batch)]], { ...xy, r: 6, stroke: INK, strokeWidth: 2, fill: "var(--paper)" })] });
  return { node, words: t("B = {batch} at a noise scale of {noise}: {updates} the least number of updates, {examples} the least number of examples.",
    { batch, noise, updates: times(updatesFactor(noise, batch)), examples: times(examplesFactor(noise, batch)) }) };
}
