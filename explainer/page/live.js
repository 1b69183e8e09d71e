// What the page computes by itself, under the reader's hand: no drawing here, so that a test can call these
// functions and compare them with the library. Vectors are arrays of two numbers, as the problems have two weights.

// A small random generator (Tommy Ettinger's mulberry32, public domain): the same numbers in every browser.
function mulberry32(seed) {
  let a = seed | 0;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const add = (a, b) => a.map((value, i) => value + b[i]);
const scale = (a, factor) => a.map((value) => value * factor);
const squared = (a) => a.reduce((sum, value) => sum + value * value, 0);
const norm = (a) => Math.sqrt(squared(a));
const sum = (values) => values.reduce((total, value) => total + value, 0);
const range = (n) => Array.from({ length: n }, (_, i) => i);

// --- The regression with two weights: y = w1 x1 + w2 x2, squared error

const errorOf = ({ x, y }, w, i) => x[i][0] * w[0] + x[i][1] * w[1] - y[i];

// The gradient of the summed loss of these examples.
function gradientSum(problem, w, examples) {
  let [a, b] = [0, 0];
  for (const i of examples) {
    const error = 2 * errorOf(problem, w, i);
    a += error * problem.x[i][0];
    b += error * problem.x[i][1];
  }
  return [a, b];
}

const gradientMean = (problem, w, examples) => scale(gradientSum(problem, w, examples), 1 / examples.length);

function lossMean(problem, w, examples = range(problem.y.length)) {
  return examples.reduce((sum, i) => sum + errorOf(problem, w, i) ** 2, 0) / examples.length;
}

// The windows of B examples in the order that the library drew, epoch by epoch; the last of one may be short.
function windowsOf(problem, batch, updates) {
  const found = [];
  for (const order of problem.orders)
    for (let start = 0; start < order.length; start += batch) {
      if (found.length === updates) return found;
      found.push(order.slice(start, start + batch));
    }
  return found;
}

// The first K micro-batches of M examples.
const firstWindow = (problem, m, k) => problem.orders[0].slice(0, m * k);

// Micro-batches of M examples, one after the other.
const split = (examples, m) =>
  range(Math.ceil(examples.length / m)).map((i) => examples.slice(i * m, (i + 1) * m));

// One window as accumulation sees it: what each micro-batch adds to the buffer, and the buffer after each.
function accumulateWindow(problem, w, examples, m) {
  const shares = split(examples, m).map((part) => scale(gradientSum(problem, w, part), 1 / examples.length));
  const buffers = [];
  shares.forEach((share, i) => buffers.push(i ? add(buffers[i - 1], share) : share));
  return { shares, buffers };
}

// Gradient descent by windows of B examples, each in micro-batches of M.
function descend(problem, { batch, m = batch, updates, rate }) {
  const points = [problem.start], losses = [];
  for (const examples of windowsOf(problem, batch, updates)) {
    const w = points.at(-1);
    losses.push(lossMean(problem, w, examples));
    points.push(add(w, scale(accumulateWindow(problem, w, examples, m).buffers.at(-1), -rate)));
  }
  return { points, losses };
}

// The mean loss is a quadratic form: its matrix, its minimum, its value there.
function bowl(problem) {
  const n = problem.y.length;
  const mean = (f) => range(n).reduce((sum, i) => sum + f(problem.x[i], problem.y[i]), 0) / n;
  const [a, b, c] = [mean((x) => x[0] * x[0]), mean((x) => x[0] * x[1]), mean((x) => x[1] * x[1])];
  const [d, e] = [mean((x, y) => x[0] * y), mean((x, y) => x[1] * y)];
  const det = a * c - b * b;
  const minimum = [(c * d - b * e) / det, (a * e - b * d) / det];
  return { a, b, c, minimum, least: lossMean(problem, minimum) };
}

// The weights at which the loss has one value: an ellipse around the minimum, the image of a circle under the
// inverse of the form's Cholesky factor.
function contour({ a, b, c, minimum, least }, loss, corners = 90) {
  const r = Math.sqrt(loss - least), l = [Math.sqrt(a), b / Math.sqrt(a), Math.sqrt(c - (b * b) / a)];
  return range(corners + 1).map((i) => {
    const turn = (2 * Math.PI * i) / corners, q = Math.sin(turn) / l[2];
    return [minimum[0] + (r * (Math.cos(turn) - l[1] * q)) / l[0], minimum[1] + r * q];
  });
}

// --- How much mini-batch gradients vary

// B different examples out of N, `times` over: the beginning of a shuffle, each time.
function draws(n, batch, times, seed) {
  const random = mulberry32(seed), order = range(n);
  return range(times).map(() => {
    for (let i = 0; i < batch; i++) {
      const j = i + Math.floor(random() * (n - i));
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order.slice(0, batch);
  });
}

const cloud = (problem, w, batch, times, seed) =>
  draws(problem.y.length, batch, times, seed).map((examples) => gradientMean(problem, w, examples));

// The trace of the examples' covariance, over N - 1.
function trace(problem, w) {
  const n = problem.y.length, whole = gradientMean(problem, w, range(n));
  const spread = range(n).map((i) => squared(add(gradientSum(problem, w, [i]), scale(whole, -1))));
  return spread.reduce((sum, value) => sum + value, 0) / (n - 1);
}

const law = (traceOfOne, batch, n) => (traceOfOne / batch) * (1 - batch / n);

function measuredVariance(gradients, whole) {
  return gradients.reduce((sum, g) => sum + squared(add(g, scale(whole, -1))), 0) / gradients.length;
}

// --- Two classes of points: a linear classifier with cross-entropy. W is [class 0's weights, class 1's].

// The summed loss of these tokens and its gradient; four numbers, row by row.
function crossEntropy({ x, labels }, weights, tokens) {
  let loss = 0;
  const gradient = [0, 0, 0, 0];
  for (const i of tokens) {
    const logits = [0, 1].map((k) => weights[2 * k] * x[i][0] + weights[2 * k + 1] * x[i][1]);
    const top = Math.max(...logits), exps = logits.map((z) => Math.exp(z - top));
    const total = exps[0] + exps[1];
    loss += Math.log(total) + top - logits[labels[i]];
    for (const k of [0, 1]) {
      const error = exps[k] / total - (labels[i] === k ? 1 : 0);
      gradient[2 * k] += error * x[i][0];
      gradient[2 * k + 1] += error * x[i][1];
    }
  }
  return { loss, gradient };
}

// What each loop multiplies the *summed* loss of micro-batch i by. `counts` are the tokens of all micro-batches.
const WEIGHTS = {
  right: (i, counts, k) => 1 / windowCount(i, counts, k),
  no_division: (i, counts) => 1 / counts[i],
  mean_of_means: (i, counts, k) => 1 / (counts[i] * windowLength(i, counts, k)),
  tail_divided_by_k: (i, counts, k) => (windowLength(i, counts, k) / k) / windowCount(i, counts, k),
  dropped_tail: (i, counts, k) => 1 / windowCount(i, counts, k),
  leaked_tail: (i, counts, k) => 1 / windowCount(i, counts, k),
};
const windowLength = (i, counts, k) => Math.min(k, counts.length - (i - (i % k)));
const windowCount = (i, counts, k) =>
  counts.slice(i - (i % k), i - (i % k) + k).reduce((sum, count) => sum + count, 0);

// The tokens of each micro-batch, in their order.
function byCounts(counts) {
  let start = 0;
  return counts.map((count) => {
    start += count;
    return range(count).map((j) => start - count + j);
  });
}

// Steps of torch.optim.SGD and torch.optim.Adam with their default settings.
function makeOptimizer(kind, rate) {
  const [beta1, beta2, eps] = [0.9, 0.999, 1e-8];
  let [m, v, t] = [[0, 0, 0, 0], [0, 0, 0, 0], 0];
  return (weights, gradient) => {
    if (kind === "sgd") return add(weights, scale(gradient, -rate));
    t += 1;
    m = m.map((value, i) => beta1 * value + (1 - beta1) * gradient[i]);
    v = v.map((value, i) => beta2 * value + (1 - beta2) * gradient[i] ** 2);
    const [c1, c2] = [1 - beta1 ** t, Math.sqrt(1 - beta2 ** t)];
    return weights.map((w, i) => w - ((rate / c1) * m[i]) / (Math.sqrt(v[i]) / c2 + eps));
  };
}

// A loop, right or wrong, epoch after epoch; its weights after each, and the mean loss of all its tokens there.
function train(data, { loop, counts, k, optimizer = "sgd", rate, epochs }) {
  const parts = byCounts(counts), all = parts.flat(), step = makeOptimizer(optimizer, rate);
  let weights = [0, 0, 0, 0], buffer = [0, 0, 0, 0];
  const points = [weights], meanLoss = () => crossEntropy(data, weights, all).loss / all.length;
  const losses = [meanLoss()];
  for (let epoch = 0; epoch < epochs; epoch++) {
    if (loop === "dropped_tail") buffer = [0, 0, 0, 0];
    parts.forEach((tokens, i) => {
      const { gradient } = crossEntropy(data, weights, tokens);
      buffer = add(buffer, scale(gradient, WEIGHTS[loop](i, counts, k)));
      const atEnd = i + 1 === parts.length && loop !== "dropped_tail" && loop !== "leaked_tail";
      if ((i + 1) % k && !atEnd) return;
      weights = step(weights, buffer);
      buffer = [0, 0, 0, 0];
    });
    points.push(weights);
    losses.push(meanLoss());
  }
  return { points, losses };
}

// --- What a batch costs, by the noise scale (McCandlish et al. 2018): over the least updates, the least examples

const updatesFactor = (noise, batch) => 1 + noise / batch;
const examplesFactor = (noise, batch) => 1 + batch / noise;

const live = {
  mulberry32, accumulateWindow, gradientMean, lossMean, windowsOf, descend, bowl, contour, draws, cloud, trace,
  law, measuredVariance, crossEntropy, WEIGHTS, train, updatesFactor, examplesFactor,
};
