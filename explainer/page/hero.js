// One update in motion: micro-batches travel into the model, memory breathes, shares add up, the weights move once.
// What is seen is a function of the time alone; its numbers are the page's own: gradients of `live.js`, predicted bytes.

const TRIP = 1.5; // seconds from one micro-batch to the next
const IN = 0, FORWARD = 0.3, BACKWARD = 0.7, OUT = 1, FREED = 1.35; // within its trip
const MOVE = 0.3, EMPTIED = 1.2, AGAIN = 2; // after the last trip
const SWIFT = 0.3; // seconds that anything takes to get from one place to another
const COLOURS = [BLUE, ORANGE, GREEN, PURPLE];
const RATE = 0.3; // the learning rate

// Rectangles [x, y, width, height] in units of the drawing.
const LAYOUTS = {
  wide: { seat: 94, size: [1080, 392], font: 15, examples: [0, 24, 182, 368], model: [236, 24, 426, 368], buffer: [712, 24, 368, 144], weights: [712, 204, 368, 188] },
  medium: { seat: 110, size: [760, 398], font: 14, examples: [0, 22, 236, 184], model: [262, 22, 498, 184], buffer: [0, 238, 370, 160], weights: [390, 238, 370, 160] },
  narrow: { seat: 70, size: [360, 416], font: 12, examples: [0, 20, 360, 42], model: [0, 82, 360, 160], buffer: [0, 266, 172, 150], weights: [188, 266, 172, 150] },
};

const eased = (time, from) => {
  const u = Math.min(1, Math.max(0, (time - from) / SWIFT));
  return u * u * (3 - 2 * u);
};
const between = (a, b, u) => a.map((value, i) => value + (b[i] - value) * u);
const calm = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;

// What the picture shows: gradients, weights before and after, and the levels of memory with the time of each.
function oneUpdate(m, k, problem) {
  const examples = firstWindow(problem, m, k), { sizes, ways } = DATA.memory;
  const { buffers } = accumulateWindow(problem, problem.start, examples, m);
  const moments = DATA.flow.phases[`${m},${k}`], phases = moments.map(({ bytes }) => fiveKinds(bytes));
  // Between two passes there are no inputs, activations and temporaries.
  const held = (i) => fiveKinds(moments[i].bytes.map((bytes, kind) => (kind > 3 && kind < 7 ? 0 : bytes)));
  const levels = [{ at: -1, parts: held(0) }];
  for (const i of range(k)) levels.push({ at: TRIP * i + FORWARD, parts: phases[2 * i] },
    { at: TRIP * i + BACKWARD, parts: phases[2 * i + 1] }, { at: TRIP * i + FREED, parts: held(2 * i + 2) });
  levels.push({ at: TRIP * k + MOVE, parts: phases.at(-1) }, { at: TRIP * k + EMPTIED, parts: held(0) });
  return { tips: [[0, 0], ...buffers], whole: gradientMean(problem, problem.start, examples), levels,
    peak: Math.max(...phases.map(sum)), inOnePass: ways["fp32,off"].peak[0][sizes.indexOf(m * k)],
    weights: [problem.start, add(problem.start, scale(buffers.at(-1), -RATE))] };
}

// From numbers to places: all points within the rectangle, one unit as long in both directions, y upwards.
function plane([x, y, width, height], points, pad) {
  const [low, high] = [Math.min, Math.max].map((f) => [0, 1].map((i) => f(...points.map((p) => p[i]))));
  const unit = Math.min((width - 2 * pad) / (high[0] - low[0] || 1), (height - 2 * pad) / (high[1] - low[1] || 1));
  const middle = between(low, high, 0.5), centre = [x + width / 2, y + height / 2];
  const to = (p) => [centre[0] + (p[0] - middle[0]) * unit, centre[1] - (p[1] - middle[1]) * unit];
  return { to, from: (p) => [middle[0] + (p[0] - centre[0]) / unit, middle[1] - (p[1] - centre[1]) / unit] };
}

function arrowPath(from, to) {
  const along = add(to, scale(from, -1)), length = norm(along) || 1, head = Math.min(10, 0.7 * length);
  const [a, b] = scale(along, head / length), side = (turn) => [to[0] - a + turn * 0.5 * b, to[1] - b - turn * 0.5 * a];
  return `M${from}L${to}M${side(1)}L${to}L${side(-1)}`;
}

class UpdatePicture {
  constructor(m, k, layout, width, problem = DATA.cloud) {
    Object.assign(this, { m, k, now: null, end: TRIP * k, places: LAYOUTS[layout] }, oneUpdate(m, k, problem));
    const [w, h] = this.places.size;
    this.node = svg("svg", { viewBox: `0 0 ${w} ${h}`, width, height: Math.round((width * h) / w), "font-size": this.places.font, fill: INK });
    this.addExamples(layout === "narrow");
    this.addModel();
    this.addWeights(problem);
    this.addBuffer();
  }

  add(tag, attributes, ...children) {
    const node = svg(tag, attributes, ...children);
    this.node.append(node);
    return node;
  }

  panel([x, y, width, height], title) {
    this.add("text", { x, y: y - 7, "font-weight": 600 }, title);
    return this.add("rect", { x, y, width, height, rx: 10, class: "panel" });
  }

  // Micro-batches below each other, on a phone beside each other; their squares leave outlines behind.
  addExamples(narrow) {
    const { m, k } = this, [x, y, width, height] = this.places.examples, [left, top, , tall] = this.places.model;
    this.add("text", { x, y: y - 7, "font-weight": 600 }, `B = M·K = ${m}·${k} = ${m * k}`);
    const cell = narrow ? [width / k, height] : [width, height / k], across = Math.min(m, 4), down = Math.ceil(m / 4);
    const pitch = Math.min(40, (cell[0] - 20) / across, (cell[1] - 6) / down), size = 0.8 * pitch;
    const square = (i) => ({ width: size, height: size, rx: 3, stroke: COLOURS[i % 4] });
    this.groups = range(k).map((i) => {
      const corner = narrow ? [x + i * cell[0], y] : [x, y + i * cell[1] + (cell[1] - down * pitch) / 2];
      this.add("text", { x: corner[0], y: corner[1] + (down * pitch) / 2 + 4, fill: COLOURS[i % 4], "font-weight": 600 }, i + 1);
      return range(m).map((j) => {
        const [a, b] = [(j % 4) * pitch, Math.floor(j / 4) * pitch], home = [corner[0] + 20 + a, corner[1] + b];
        this.add("rect", { x: home[0], y: home[1], fill: "none", opacity: 0.45, ...square(i) });
        return { home, seat: [left + this.places.seat - (across * pitch) / 2 + a, top + tall / 2 + b],
          draw: () => this.add("rect", { fill: COLOURS[i % 4], ...square(i) }) };
      });
    });
  }

  addModel() {
    const [x, y, width, height] = this.places.model, { font } = this.places;
    this.panel(this.places.model, t("model"));
    this.said = this.add("text", { x: x + this.places.seat, y: y + height / 2 - font, "text-anchor": "middle" });
    for (const group of this.groups) for (const each of group) each.node = each.draw(); // above the panel
    const most = 1.08 * Math.max(this.peak, this.inOnePass), foot = y + height - 12;
    this.bar = { x: x + 0.44 * width, width: 0.12 * width, foot, unit: (height - 24) / most };
    this.parts = kinds().map((name, i) => [this.add("rect", { x: this.bar.x, width: this.bar.width, class: `bytes part-${i}` }),
      this.add("text", { x: this.bar.x + this.bar.width + 10 }, name)]);
    this.total = this.add("text", { x: this.bar.x + this.bar.width / 2, "text-anchor": "middle", "font-weight": 600, "font-size": 0.9 * font });
    const limit = foot - this.inOnePass * this.bar.unit, end = x + width - 12;
    this.add("path", { d: `M${this.bar.x - 8},${limit}H${end}`, class: "dashed" });
    this.add("text", { x: this.bar.x + this.bar.width + 10, y: limit - 6 }, `M = ${this.m * this.k}: ${gib(this.inOnePass)}`);
  }

  addBuffer() {
    const [x, y, width] = this.places.buffer;
    this.panel(this.places.buffer, t("buffer"));
    this.add("text", { x: x + width, y: y - 7, "text-anchor": "end" }, `– – M = ${this.m * this.k}`);
    this.gradients = plane(this.places.buffer, [...this.tips, this.whole], 26);
    this.target = this.add("path", { d: arrowPath(...[[0, 0], this.whole].map(this.gradients.to)), class: "dashed" });
    this.arrows = range(this.k).map((i) => [this.add("path", { class: "share", stroke: COLOURS[i % 4] }),
      this.add("text", { fill: COLOURS[i % 4], "text-anchor": "middle", "font-weight": 600 }, i + 1)]);
  }

  addWeights(problem) {
    const [x, y, width, height] = this.places.weights, form = bowl(problem), most = lossMean(problem, problem.start);
    this.panel(this.places.weights, t("weights"));
    const { to } = plane([0, 0, width, height], [form.minimum, ...this.weights], 24);
    const rings = range(9).map((i) => form.least + (most - form.least) * 1.25 * ((i + 1) / 9) ** 2);
    this.path = svg("path", { class: "share", stroke: INK });
    this.dot = svg("circle", { r: 4.5 });
    this.spots = this.weights.map(to);
    const [[a, b], [c, d]] = [to(form.minimum), to(problem.start)];
    this.node.append(svg("svg", { x, y, width, height }, // it cuts off what is outside
      ...rings.map((loss) => svg("path", { d: `M${contour(form, loss).map(to).join("L")}`, class: "ring" })),
      svg("text", { x: a, y: b + 5, "text-anchor": "middle" }, "★"),
      svg("path", { d: `M${c - 5},${d - 5}l10,10m0,-10l-10,10`, class: "mark" }), this.path, this.dot));
  }

  draw(time) {
    this.now = time;
    const emptied = eased(time, this.end + EMPTIED);
    this.groups.forEach((group, i) => this.drawGroup(group, time - TRIP * i, eased(time, this.end + AGAIN - SWIFT)));
    this.arrows.forEach(([path, name], i) => this.drawArrow(path, name, i, eased(time, TRIP * i + OUT), 1 - emptied));
    this.drawMemory(time);
    const moved = eased(time, this.end + MOVE), spot = between(...this.spots, moved);
    this.path.setAttribute("d", moved ? arrowPath(this.spots[0], spot) : "");
    for (const [name, value] of [["cx", spot[0]], ["cy", spot[1]]]) this.dot.setAttribute(name, value);
  }

  drawGroup(group, time, again) {
    for (const { node, home, seat } of group) {
      const [x, y] = again ? home : between(home, seat, eased(time, IN));
      node.setAttribute("transform", `translate(${x} ${y})`);
      node.setAttribute("opacity", again || 1 - eased(time, OUT));
    }
  }

  // From the model, where it is small, to the tip of the sum.
  drawArrow(path, name, i, out, opacity) {
    const [from, to] = [this.tips[i], this.tips[i + 1]].map(this.gradients.to), [x, y, , height] = this.places.model;
    const tail = between([x + this.places.seat, y + height / 2], from, out), along = scale(add(to, scale(from, -1)), 0.3 + 0.7 * out);
    path.setAttribute("d", out ? arrowPath(tail, add(tail, along)) : "");
    path.setAttribute("opacity", opacity);
    const aside = scale([along[1], -along[0]], 13 / (norm(along) || 1)), at = add(between(tail, add(tail, along), 0.5), aside);
    name.setAttribute("x", at[0]);
    name.setAttribute("y", at[1] + 5);
    name.setAttribute("opacity", out === 1 ? opacity : 0);
  }

  // Heights move; the number is always that of a moment which was predicted.
  drawMemory(time) {
    const at = this.levels.findLastIndex((level) => level.at <= time), { parts } = this.levels[at];
    const shown = between(this.levels[Math.max(0, at - 1)].parts, parts, eased(time, this.levels[at].at));
    const inside = Math.min(this.k - 1, Math.floor(time / TRIP)), trip = time - TRIP * inside;
    const { unit } = this.bar;
    let top = this.bar.foot;
    this.parts.forEach(([rect, name], i) => {
      top -= shown[i] * unit;
      rect.setAttribute("y", top);
      rect.setAttribute("height", shown[i] * unit);
      name.setAttribute("y", top + (shown[i] * unit) / 2 + 5);
      name.setAttribute("opacity", shown[i] * unit < 12 ? 0 : 1);
    });
    this.parts[3][0].style.fill = COLOURS[inside % 4]; // whose activations they are
    this.total.setAttribute("y", top - 6);
    this.total.textContent = gib(sum(parts));
    this.said.textContent = trip < FORWARD || trip > FREED ? t("waits") : trip < BACKWARD ? t("forward") : t("backward");
  }

  // To a later moment of section 2 on the way that the update takes; at once if it is earlier, or no motion is wanted.
  glide(time) {
    cancelAnimationFrame(this.frame);
    const from = this.now, started = performance.now(), lasts = Math.min(1200, 1000 * (time - from));
    if (from === null || lasts <= 0 || calm()) return this.draw(time);
    const step = (now) => {
      const u = Math.min(1, Math.max(0, (now - started) / lasts));
      this.draw(from + (time - from) * u);
      if (u < 1) this.frame = requestAnimationFrame(step);
    };
    this.frame = requestAnimationFrame(step);
  }
}

// The time at which a moment of section 2 is over: after each forward and each backward pass, and after the update.
const timeOf = (moment, k) =>
  (moment > 2 * k ? TRIP * k + EMPTIED : TRIP * (Math.ceil(moment / 2) - 1) + (moment % 2 ? BACKWARD : FREED)) - 0.01;

// The opening picture plays by itself while it is on the screen. With reduced motion it stays still, with all
// arrows in, and its button plays it once.
const hero = {
  wanted: !calm(), seen: false,

  watch(m, k) {
    Object.assign(this, { m, k, time: calm() ? TRIP * k : 0, root: document.getElementById("hero") });
    this.button = this.root.querySelector("button");
    this.build();
    this.button.addEventListener("click", () => {
      if (calm() && !this.wanted) this.time = 0;
      this.wanted = !this.wanted;
      this.go();
    });
    new IntersectionObserver(([entry]) => { this.seen = entry.isIntersecting; this.go(); }).observe(this.root);
    new ResizeObserver(() => { if (this.fitting() !== this.layout) this.build(); }).observe(this.root);
  },

  fitting() { return this.root.clientWidth < 700 ? "narrow" : "wide"; },

  // Once more after a change of language or of the window's width.
  build() {
    const { m, k } = this, b = m * k, [plot, caption] = this.root.querySelectorAll(".plot, .caption");
    this.layout = this.fitting();
    this.picture = new UpdatePicture(m, k, this.layout, LAYOUTS[this.layout].size[0]);
    caption.textContent = t("{b} examples go through the model {m} at a time. Each micro-batch leaves an arrow, its share of the gradient. Head to tail they end where all {b} in one pass would (dashed), and the weights move once (learning rate {rate}). Memory stays within {peak}; one pass would need {whole}. (RoBERTa-base, 128 tokens, fp32, AdamW; predicted.)",
      { b, m, rate: RATE, peak: gib(this.picture.peak), whole: gib(this.picture.inOnePass) });
    plot.setAttribute("aria-label", caption.textContent);
    plot.replaceChildren(this.picture.node);
    this.picture.draw(this.time);
    this.go();
  },

  go() {
    this.button.textContent = this.wanted ? t("❚❚ Pause") : t("▶ Play");
    cancelAnimationFrame(this.frame);
    let last = null;
    const step = (now) => {
      this.time += last === null ? 0 : Math.min(0.1, (now - last) / 1000);
      last = now;
      if (this.time >= this.picture.end + AGAIN) {
        this.time = calm() ? this.picture.end : 0;
        this.wanted = !calm();
      }
      this.picture.draw(this.time);
      if (this.wanted) this.frame = requestAnimationFrame(step); else this.go();
    };
    if (this.wanted && this.seen) this.frame = requestAnimationFrame(step);
  },
};
