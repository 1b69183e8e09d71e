// Draws the grid explorer: sliders and choices that switch, in the browser, between settings which the
// kernel has already computed. A move never asks the kernel, so the picture follows the hand.

let plotlyModule = null;

const PATIENCE_MS = 10000;

// The copy that all explorers of a kernel share, by a reference to another widget's model.
async function fromShared(model) {
  const reference = model.get("plotly");
  const resolved = typeof reference !== "string";
  const shared = resolved ? reference : await model.widget_manager.get_model(reference.slice("IPY_MODEL_".length));
  const source = shared.get("source");
  if (!source) throw new Error("the shared copy of plotly.js is empty");
  return source;
}

// The same copy in a message to this explorer alone.
function fromKernel(model) {
  return new Promise((resolve) => {
    const take = (content, buffers) => {
      if (content.type !== "plotly") return;
      model.off("msg:custom", take);
      resolve(buffers[0]);
    };
    model.on("msg:custom", take);
    model.send({ type: "plotly" });
  });
}

// Hosts that are not Jupyter (Colab, editors) may not resolve a reference between widgets, or never answer.
async function plotlySource(model) {
  const shared = fromShared(model);
  const late = new Promise((done) => setTimeout(done, PATIENCE_MS));
  const first = await Promise.race([shared.catch(() => null), late]);
  return first || Promise.any([shared, fromKernel(model)]);
}

// plotly.js comes from the installed Python package, compressed, through the kernel: no request leaves
// the machine, and one copy serves every explorer of the page.
async function loadPlotly(model) {
  if (plotlyModule || globalThis.__accumPlotly) return plotlyModule || globalThis.__accumPlotly;
  const zipped = new Blob([await plotlySource(model)]).stream();
  const text = await new Response(zipped.pipeThrough(new DecompressionStream("gzip"))).text();
  const holder = { exports: {} };
  new Function("module", "exports", "define", text)(holder, holder.exports, undefined);
  plotlyModule = globalThis.__accumPlotly = holder.exports;
  return plotlyModule;
}

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// A text with the course's letters as mathematics, each in its colour.
function lettered(text) {
  const parts = text.split(/\b([MKB])\b(?!['’])/);
  return parts.map((part, i) => (i % 2 ? element("var", { class: part.toLowerCase() }, part) : part));
}

// One slider over the control's values; the browser's own range input brings the keyboard with it.
function slider(control, onMove) {
  const id = `accum-${Math.random().toString(36).slice(2)}`;
  const input = element("input", {
    id, type: "range", min: 0, max: control.labels.length - 1, step: 1, "data-control": control.name,
  });
  input.style.width = `${Math.max(150, 18 * control.labels.length)}px`; // a click beside the thumb moves it
  const value = element("output", { for: id, class: "accum-value" });
  const show = (index) => {
    input.value = index;
    value.textContent = control.labels[index];
    input.setAttribute("aria-valuetext", control.labels[index]);
  };
  input.addEventListener("input", () => onMove(Number(input.value)));
  const row = control.places?.findIndex(([, y]) => y !== control.places[0][1]);
  if (row > 1) input.addEventListener("keydown", (event) => { // places in rows: up and down go to another row
    const to = Number(input.value) + ({ ArrowUp: row, ArrowDown: -row }[event.key] ?? 0);
    if (to === Number(input.value)) return;
    event.preventDefault();
    if (to in control.places) onMove(to);
  });
  const box = element("div", { class: "accum-control" },
    element("label", { for: id }, ...lettered(control.label)), input, value);
  return { box, show, input };
}

function choice(control, onMove) {
  const name = `accum-${Math.random().toString(36).slice(2)}`;
  const inputs = control.labels.map((text, index) => {
    const input = element("input", { type: "radio", name, value: index, "data-control": control.name });
    input.addEventListener("input", () => onMove(index));
    return [input, element("label", {}, input, element("span", {}, ...lettered(text)))];
  });
  const box = element("fieldset", { class: "accum-control" },
    element("legend", {}, ...lettered(control.label)), ...inputs.map(([, label]) => label));
  return { box, show: (index) => { inputs[index][0].checked = true; } };
}

// A play button walks one control from its first value to its last; it starts only when asked.
function player(control, words, position, onMove, interval) {
  const button = element("button", { type: "button", class: "accum-button", "data-play": control.name });
  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; button.textContent = `▶ ${words.play}`; };
  const tick = () => {
    if (!button.isConnected || position() + 1 >= control.labels.length) return stop();
    onMove(position() + 1);
  };
  button.addEventListener("click", () => {
    if (timer) return stop();
    if (position() + 1 >= control.labels.length) onMove(0);
    button.textContent = `❚❚ ${words.pause}`;
    timer = setInterval(tick, interval);
  });
  stop();
  return { button, stop };
}

// A grip in the picture: dragged, it moves a control to the value whose place is nearest. A place that lacks a
// coordinate is on the axis, and the line through it can be dragged, too. The keyboard has the control itself,
// which gets the focus from the grip.
function grip(control, plot, input, onMove) {
  const along = { 0: "y", 1: "x" }[control.places[0].indexOf(null)] ?? "both";
  const node = element("div", { class: `accum-grip accum-along-${along}`, "aria-hidden": "true", title: control.label });
  const panel = () => {
    const axis = plot._fullLayout?.[control.axis];
    const other = axis && plot._fullLayout[axis.anchor.replace(/^([xy])/, "$1axis")];
    return other && (control.axis[0] === "x" ? [axis, other] : [other, axis]);
  };
  // Of the picture; an axis has its grip below the panel, or within its right edge, where no number is covered.
  const end = ({ _length }, i) => (i ? _length : _length - 12);
  const pixels = (to) => panel().map((axis, i) => axis._offset + (to[i] === null ? end(axis, i) : axis.d2p(to[i])));
  const place = (index) => {
    if (!panel()) return;
    const [left, top] = pixels(control.places[index]).map((at) => `${at}px`);
    Object.assign(node.style, { left, top });
    node.style.setProperty("--across", `${panel()[along === "x" ? 1 : 0]._length}px`);
  };
  const nearest = (...at) => {
    const apart = (to) => pixels(to).map((pixel, i) => (to[i] === null ? 0 : pixel - at[i]));
    const away = control.places.map((to) => Math.hypot(...apart(to)));
    return away.indexOf(Math.min(...away));
  };
  node.addEventListener("pointerdown", (event) => {
    node.setPointerCapture(event.pointerId);
    event.preventDefault();
    input.focus({ preventScroll: true });
  });
  node.addEventListener("pointermove", (event) => {
    if (!node.hasPointerCapture(event.pointerId)) return;
    const { left, top } = plot.getBoundingClientRect();
    onMove(nearest(event.clientX - left, event.clientY - top));
  });
  for (const [event, on] of [["focus", true], ["blur", false]])
    input.addEventListener(event, () => node.classList.toggle("accum-held", on));
  return { node, place };
}

// Things in the picture that the reader marks, each with a button; what was right is said when it is revealed.
function marker(marks, onToggle) {
  const marked = marks.names.map(() => false);
  const toggle = (index) => {
    marked[index] = !marked[index];
    buttons[index].setAttribute("aria-pressed", marked[index]);
    onToggle();
  };
  const buttons = marks.names.map((name, index) => {
    const button = element("button", { type: "button", class: "accum-mark", "aria-pressed": false }, name);
    button.addEventListener("click", () => toggle(index));
    return button;
  });
  const count = (wanted) => marked.filter((it, index) => it && wanted(marks.right[index])).length;
  const said = element("output", { class: "accum-said" });
  const say = (revealed) => {
    const numbers = { marked: count(() => true), hits: count((right) => right), missed: count((right) => !right),
      all: marks.right.filter(Boolean).length };
    said.textContent = revealed ? marks.said.replace(/\{(\w+)\}/g, (_, name) => numbers[name]) : "";
  };
  const show = (trace) => ({ ...trace, marker: { ...trace.marker, color: marked.map((it) => (it ? "#D55E00" : "#ffffff")) },
    textfont: { ...trace.textfont, color: marked.map((it) => (it ? "#ffffff" : "#212121")) } });
  const box = element("fieldset", { class: "accum-control accum-marks" }, element("legend", {}, marks.label), ...buttons, said);
  return { box, toggle, say, show };
}

// What may differ between two settings that the short way can draw: of traces coordinates and these, of the
// layout axes and annotations. An axis without a range would have to be fitted to the numbers first.
const STYLES = ["marker", "line", "name"];
const isAxis = (name) => /^[xy]axis\d*$/.test(name);

// What Plotly is to draw anew besides the traces, as relayout takes it; null if all of the figure.
function whatMoves(before, after) {
  const differs = (a, b) => JSON.stringify(a) !== JSON.stringify(b);
  const names = Object.keys({ ...before.layout, ...after.layout });
  const axes = names.filter(isAxis);
  if (axes.some((name) => !before.layout[name]?.range || !after.layout[name]?.range)) return null;
  const changed = names.filter((name) => differs(before.layout[name], after.layout[name]));
  if (!changed.every((name) => isAxis(name) || name === "annotations")) return null;
  const restyled = differs(before.changes, after.changes);
  const attributes = [...before.changes, ...after.changes].flatMap(([, attrs]) => Object.keys(attrs));
  if (restyled && !attributes.every((name) => STYLES.includes(name))) return null;
  const moved = axes.filter((name) => changed.includes(name));
  if (moved.some((name) => differs(before.layout[name].title, after.layout[name].title))) return null;
  const drawn = moved.length ? moved : axes.slice(0, 1);
  return { axes: Object.fromEntries(drawn.map((name) => [`${name}.range`, [...after.layout[name].range]])), restyled };
}

async function render({ model, el }) {
  const controls = model.get("controls");
  const words = model.get("words");
  const root = element("div", { class: "accum", "data-lm-suppress-shortcuts": "true" });
  const panel = element("div", { class: "accum-panel", role: "group", "aria-label": words.settings });
  const plot = element("div", { class: "accum-plot", role: "img" });
  const summary = element("p", { class: "accum-summary", "aria-live": "polite" });
  const status = element("p", { class: "accum-status", role: "status" });
  const compute = element("button", { type: "button", class: "accum-button" }, words.rest);
  root.append(panel, plot, summary, element("div", { class: "accum-footer" }, status, compute));
  el.append(root);
  // JupyterLab must not take the arrow keys that move a slider for its own shortcuts.
  root.addEventListener("keydown", (event) => event.stopPropagation());

  let picked = { ...model.get("selection") };
  let frame = 0;
  let behind = false;
  const move = (name, index) => {
    picked = { ...picked, [name]: index };
    model.set("selection", picked);
    model.save_changes();
    refresh();
  };
  const views = controls.map((control) => {
    const make = control.kind === "choice" ? choice : slider;
    const onMove = (index) => { players.forEach((p) => p.stop()); move(control.name, index); };
    const view = make(control, onMove);
    panel.append(view.box);
    return view;
  });
  const players = controls.filter((c) => c.play_ms).map((c) => {
    const made = player(c, words, () => picked[c.name], (index) => move(c.name, index), c.play_ms);
    panel.append(made.button);
    return made;
  });

  const base = model.get("figure");
  const grips = controls.filter((c) => c.axis).map((c) => {
    const { input } = views[controls.indexOf(c)];
    const made = grip(c, plot, input, (index) => { if (index !== picked[c.name]) move(c.name, index); });
    return { ...made, show: () => made.place(picked[c.name]) };
  });
  const marks = base.marks && marker(base.marks, () => { shown = null; refresh(); }); // drawn again, from scratch
  if (marks) panel.append(marks.box);
  let Plotly = null;
  let received = null;
  let numbers = null;
  let shown = null; // what is on the screen

  // The numbers arrive as bytes at any address; a Float64Array needs a copy that starts at a multiple of 8.
  function allNumbers() {
    const bytes = model.get("numbers");
    if (bytes !== received) {
      received = bytes;
      numbers = new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
    }
    return numbers;
  }

  function cellData(cell) {
    const traces = base.data.map((trace) => ({ ...trace }));
    for (const [trace, attribute, offset, length] of cell.arrays)
      traces[trace][attribute] = allNumbers().subarray(offset, offset + length);
    for (const [trace, changes] of cell.changes) Object.assign(traces[trace], changes);
    if (marks) traces[base.marks.trace] = marks.show(traces[base.marks.trace]);
    return traces;
  }

  // Plotly computes all that it draws from plot.data and plot.layout, and draws none of it: an animation of
  // no trace. (It says that it is about to draw, then draws nothing at once, then completes some frames later.)
  function recompute() {
    const atOnce = { duration: 0, redraw: false };
    const how = { mode: "immediate", frame: atOnce, transition: atOnce };
    return new Promise((resolve, reject) => {
      plot.once("plotly_transitioning", () => queueMicrotask(resolve));
      Plotly.animate(plot, { data: [], traces: [], layout: {} }, how).catch(reject);
    });
  }

  // Plotly.react compares, computes and draws the whole figure, with all axes and the legend. Where only traces,
  // some axes and annotations differ, the short way takes half the time.
  async function drawCell(cell) {
    const next = { data: cellData(cell), layout: { ...base.layout, ...cell.layout }, changes: cell.changes };
    const moves = shown && whatMoves(shown, next);
    shown = next;
    const layout = structuredClone(next.layout); // Plotly writes into it
    if (!moves) return Plotly.react(plot, next.data, layout, base.config);
    const visible = () => String(plot._fullData.map((trace) => trace.visible)); // one without points is not
    const before = visible();
    Object.assign(plot, { data: next.data, layout });
    await recompute();
    const { showlegend } = plot._fullLayout;
    const legend = showlegend && (moves.restyled || visible() !== before) ? { showlegend } : {};
    return Plotly.relayout(plot, { ...moves.axes, ...legend });
  }

  async function draw() {
    const setting = controls.map((c) => picked[c.name]).join(",");
    const cell = model.get("cells")[setting];
    const problem = cell ? cell.error : words.missing;
    plot.classList.toggle("accum-missing", Boolean(problem));
    summary.classList.toggle("accum-error", Boolean(problem));
    if (problem) {
      summary.textContent = problem;
      plot.dataset.setting = setting;
      return;
    }
    summary.replaceChildren(...lettered(cell.summary));
    if (marks) marks.say(picked[base.marks.reveal] > 0);
    plot.setAttribute("aria-label", cell.summary);
    if (!Plotly) return;
    await drawCell(cell);
    grips.forEach((each) => each.show());
    plot.dataset.setting = setting; // says to a test, or to a meter, what is on the screen now
    plot.dispatchEvent(new CustomEvent("accum-drawn", { bubbles: true }));
  }

  // The first move of a frame is drawn at once; what comes before that frame is shown waits for its end.
  function refresh() {
    controls.forEach((control, i) => views[i].show(picked[control.name]));
    if (frame) {
      behind = true;
      return;
    }
    behind = false;
    frame = requestAnimationFrame(() => {
      frame = 0;
      if (behind) refresh();
    });
    draw().catch(report);
  }

  function report(error) {
    status.textContent = `${words.failed} ${error.message}`;
    console.error(error);
  }

  function showStatus() {
    status.textContent = model.get("status");
    compute.hidden = model.get("complete") || model.get("computing");
  }

  const onSelection = () => {
    const asked = model.get("selection");
    if (controls.every((c) => asked[c.name] === picked[c.name])) return; // our own move, coming back
    picked = { ...asked };
    refresh();
  };
  compute.addEventListener("click", () => model.send({ type: "fill" }));
  model.on("change:selection", onSelection);
  model.on("change:cells", refresh);
  for (const name of ["status", "complete", "computing"]) model.on(`change:${name}`, showStatus);
  showStatus();
  refresh();
  try {
    Plotly = await loadPlotly(model);
    await draw();
    plot.append(...grips.map((each) => each.node)); // Plotly has made the place its own by now
    if (marks) plot.on("plotly_click", ({ points: [point] }) => {
      if (point.curveNumber === base.marks.trace) marks.toggle(point.pointNumber);
    });
    setTimeout(() => plot.isConnected && draw().catch(report)); // the short way once, or the first move would be slow
    new ResizeObserver(async () => {
      if (!plot.isConnected || !plot.data) return;
      await Plotly.Plots.resize(plot);
      grips.forEach((each) => each.show());
    }).observe(root);
  } catch (error) {
    report(error);
  }
  return () => {
    players.forEach((p) => p.stop());
    model.off("change:selection", onSelection);
    model.off("change:cells", refresh);
    for (const name of ["status", "complete", "computing"]) model.off(`change:${name}`, showStatus);
    if (Plotly) Plotly.purge(plot);
  };
}

export default { render };
