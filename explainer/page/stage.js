// The stage of a section: its question, its controls, its figures with their words. A section is
//   { id, controls, question, figures, draw }
// where draw(state) gives, for each figure, its drawing (a node) and the same in words. A control with
// ofResults: true changes veiled figures, too.

const words = { language: "en", texts: {} };

// The text in the language that is chosen, with the values in place of {name}.
function t(english, values = {}) {
  const text = (words.language !== "en" && words.texts[english]) || english;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));
}

const element = (tag, ...rest) => furnish(document.createElement(tag), ...rest);
const svg = (tag, ...rest) => furnish(document.createElementNS("http://www.w3.org/2000/svg", tag), ...rest);
function furnish(node, attributes = {}, ...children) {
  for (const [name, value] of Object.entries(attributes))
    if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  node.append(...children.filter((child) => child !== null));
  return node;
}

// Numbers as people read them: three digits that count.
const say = (value, digits = 3) =>
  Number.isFinite(value) && value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)
    ? value.toExponential(digits - 1).replace("e+", "e")
    : String(Number(value.toPrecision(digits)));
const gap = () => (words.language === "zh" ? "" : " "); // between two sentences
const zoom = () => parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
const gib = (bytes) => `${(bytes / 2 ** 30).toFixed(2)} GiB`;

// A drawing that is made anew only when something that it depends on has changed.
const kept = new Map();
function keep(name, dependsOn, make) {
  const key = JSON.stringify([words.language, zoom(), ...dependsOn]);
  if (kept.get(name)?.key !== key) kept.set(name, { key, drawn: make() });
  return kept.get(name).drawn;
}

class Stage {
  constructor(section) {
    Object.assign(this, section);
    this.root = document.querySelector(`#${this.id} .stage`);
    this.state = Object.fromEntries(this.controls.map((control) => [control.name, control.start]));
    this.opened = false;
    this.guess = null;
    this.touched = false; // by hand; from then on, scrolling leaves the controls alone
    this.build();
  }

  // Everything anew, after a change of language as well: what was picked and opened stays.
  build() {
    this.inputs = {};
    this.slots = this.figures().map((figure, i) => this.slot(figure, i));
    const scenes = this.slots.filter((slot) => !slot.veiled), results = this.slots.filter((slot) => slot.veiled);
    const panel = this.panel("", this.controls);
    // The results stand lower, out of sight of these: what changes them is there once more.
    this.again = this.panel("-again", this.controls.filter((control) => control.ofResults));
    this.veil = element("div", { class: "results" }, ...results.map((slot) => slot.node));
    this.root.replaceChildren(element("div", { class: "scene" }, panel, ...scenes.map((slot) => slot.node)));
    this.after?.remove();
    this.after = element("div", { class: "after" }, this.ask(), this.again, this.veil);
    this.root.after(this.after);
    if (this.opened) this.tell();
    this.show();
  }

  // One figure with its words. Of several, only the first tells a screen reader of every change.
  slot({ title, veiled = false, half = false }, i) {
    const plot = element("div", { class: "plot", role: "img", "aria-label": title });
    const summary = element("figcaption", { class: "summary", "aria-live": i === 0 ? "polite" : "off" });
    const heading = element("p", { class: "figure-title" }, title);
    return { node: element("figure", { class: half ? "half" : null }, heading, plot, summary), plot, summary, veiled, title };
  }

  // The controls; all panels of a stage set, and show, the same state.
  panel(place, controls) {
    const panel = element("div", { class: `controls${place}`, role: "group",
      "aria-label": place ? t("Settings of these results") : t("Settings") },
      ...controls.map((control) => this.control(control, place)));
    panel.addEventListener("focusin", () => { this.touched = true; });
    return panel;
  }

  control(control, place) {
    if (control.kind === "range") return this.slider(control, place);
    if (control.kind === "button") return this.button(control);
    return this.choice(control, place);
  }

  whenShown(control, update) {
    (this.inputs[control.name] ??= []).push(update);
  }

  slider(control, place) {
    const id = `${this.id}-${control.name}${place}`, values = control.values(this.state);
    const input = element("input", { id, type: "range", min: 0, max: values.length - 1, step: 1,
      "data-control": control.name });
    const output = element("output", { for: id });
    input.addEventListener("input", () => this.set(control.name, control.values(this.state)[Number(input.value)]));
    this.whenShown(control, (value) => {
      const now = control.values(this.state);
      input.max = now.length - 1;
      input.value = now.indexOf(value);
      output.textContent = control.say ? control.say(value, this.state) : String(value);
      input.setAttribute("aria-valuetext", output.textContent);
    });
    const play = control.play ? this.player(control, input) : null;
    return element("div", { class: "control" }, element("label", { for: id }, control.label()), input, output, play);
  }

  // Walks a slider to its end; it starts only when asked, and one step is one drawing: nothing glides.
  player(control, input) {
    const button = element("button", { type: "button", class: "play" }, t("▶ Play"));
    let timer = null;
    const stop = () => { clearInterval(timer); timer = null; button.textContent = t("▶ Play"); };
    button.addEventListener("click", () => {
      if (timer) return stop();
      const last = () => control.values(this.state).length - 1;
      if (Number(input.value) >= last()) this.set(control.name, control.values(this.state)[0]);
      button.textContent = t("❚❚ Pause");
      timer = setInterval(() => {
        if (!button.isConnected || Number(input.value) >= last()) return stop();
        this.set(control.name, control.values(this.state)[Number(input.value) + 1]);
      }, 900);
    });
    return button;
  }

  choice(control, place) {
    const inputs = control.values(this.state).map((value) => {
      const input = element("input", { type: "radio", name: `${this.id}-${control.name}${place}`, value,
        "data-control": control.name });
      input.addEventListener("input", () => this.set(control.name, value));
      return [value, input, element("label", {}, input, control.say ? control.say(value) : value)];
    });
    this.whenShown(control, (value) => inputs.forEach(([own, input]) => { input.checked = own === value; }));
    return element("fieldset", { class: "control" }, element("legend", {}, control.label()),
      ...inputs.map(([, , label]) => label));
  }

  button(control) {
    const button = element("button", { type: "button", "data-control": control.name }, control.label());
    button.addEventListener("click", () => this.set(control.name, this.state[control.name] + 1));
    return element("div", { class: "control" }, button);
  }

  // The guess. Its answer is computed when it is asked for, from the same results that the figures show.
  ask() {
    const { question, options, answer } = this.question();
    const verdict = element("p", { class: "verdict", "aria-live": "polite", tabindex: -1 });
    const show = element("button", { type: "button", class: "reveal" }, t("Compare with what is computed"));
    const skip = element("button", { type: "button", class: "skip-guess" }, t("Show without a guess"));
    const radios = options.map((option, i) => {
      const input = element("input", { type: "radio", name: `${this.id}-guess`, value: i });
      input.addEventListener("input", () => { this.guess = i; show.disabled = false; });
      input.checked = this.guess === i;
      return element("label", {}, input, option);
    });
    show.disabled = this.guess === null;
    this.tell = () => {
      const { right, because } = answer();
      const said = this.guess === null ? "" : this.guess === right ? t("You were right.") : t("Not so.");
      radios.forEach((r) => { r.firstChild.disabled = true; });
      verdict.textContent = [said, t("It is: “{option}”.", { option: options[right] }), because].filter(Boolean).join(gap());
    };
    const reveal = () => { this.open(); verdict.focus({ preventScroll: true }); };
    show.addEventListener("click", reveal);
    skip.addEventListener("click", () => { this.guess = null; radios.forEach((r) => { r.firstChild.checked = false; }); reveal(); });
    this.buttons = element("div", { class: "guess-buttons" }, show, skip);
    return element("fieldset", { class: "prediction" },
      element("legend", {}, element("strong", {}, t("Your guess first.")), `${gap()}${question}`), ...radios, this.buttons, verdict);
  }

  // The verdict depends on the guess alone: it is said once, not at every move of a control.
  open() {
    this.opened = true;
    this.tell();
    this.show();
  }

  set(name, value) {
    this.state[name] = value;
    this.show();
  }

  // What the story says: several controls at once.
  apply(values) {
    Object.assign(this.state, values);
    this.show();
  }

  show() {
    this.repair?.(this.state);
    for (const [name, updates] of Object.entries(this.inputs)) for (const update of updates) update(this.state[name]);
    this.root.classList.toggle("opened", this.opened);
    this.veil.hidden = !this.opened;
    this.again.hidden = !this.opened || !this.again.firstChild;
    this.buttons.hidden = this.opened;
    this.redraw();
  }

  redraw() {
    const drawn = this.draw(this.state, (i) => this.width(i), this.opened);
    this.slots.forEach((slot, i) => {
      if (!drawn[i]) return;
      if (slot.plot.firstChild !== drawn[i].node) {
        slot.plot.replaceChildren(drawn[i].node);
        for (const each of slot.plot.querySelectorAll("svg:not(svg svg)")) this.finish(each);
      }
      if (slot.summary.textContent === drawn[i].words) return;
      slot.summary.textContent = drawn[i].words;
      slot.plot.setAttribute("aria-label", `${slot.title}. ${drawn[i].words}`);
      if (drawn[i].table) for (const name of ["role", "aria-label"]) slot.plot.removeAttribute(name);
    });
    this.root.dataset.drawn = Number(this.root.dataset.drawn || 0) + 1;
    this.root.dispatchEvent(new CustomEvent("accum-drawn", { bubbles: true }));
  }

  // As large as the page's letters ask for; and without the names of its parts, since the figure has words.
  finish(svg) {
    svg.style.width = `${svg.getAttribute("width") * zoom()}px`;
    for (const part of svg.querySelectorAll("[aria-label]")) part.removeAttribute("aria-label");
  }

  // What there is for figure i, in units that grow with the page's letters, as on a projector.
  width(i) {
    const there = this.slots[i].plot.clientWidth || this.root.clientWidth;
    return Math.max(260, Math.min(Math.floor(there / zoom()), 900));
  }
}
