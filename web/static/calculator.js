// The planner's grid: what fits on each card with these settings, and what one change would make of it.
const { say } = window.Accum;
const GIB = 2 ** 30;
const joined = (one, other) => `${one}${/[：。）]$/.test(one) ? "" : " "}${other}`; // full-width signs bring their space

for (const form of document.querySelectorAll("[data-calculator]")) {
  const { axes, parts, sizes, limits, cards, batch } = JSON.parse(form.querySelector("script").textContent);
  const [answer, helps] = [".answer", ".helps"].map((what) => form.querySelector(what));
  const inputs = (name) => [...form.querySelectorAll(`[name="${name}"]`)];
  const words = (name, value) => inputs(name)[value].closest("label").textContent.trim();
  const heading = (name) => inputs(name)[0].closest("fieldset").querySelector("legend").textContent;

  const length = (part, axis) => (axis === "chunked" && !part.chunked ? 1 : inputs(axis).length);
  function cell(at) {
    const part = parts[at.model];
    return part.cells[axes.reduce((sum, axis) => sum * length(part, axis) + at[axis], 0)];
  }
  function settings() {
    const at = { model: Number(form.elements.model.value) };
    for (const axis of axes) at[axis] = Math.min(Number(form.elements[axis].value), length(parts[at.model], axis) - 1);
    return at;
  }

  const most = (found) => (typeof found === "string" ? 0 : found[0]);
  const share = (at) => Math.ceil(batch / cards[at.cards]);
  const gib = (bytes) => (bytes / GIB).toFixed(2);
  function sentence(at) {
    const found = cell(at);
    if (typeof found === "string") return found;
    const [largest, m, k, peak, reserved] = found;
    const limit = gib(limits[at.size]);
    const values = { largest, m, k, b: share(at), peak: gib(peak), reserved: gib(reserved), limit };
    const said = say(!m ? "calculator_never" : k === 1 ? "calculator_whole" : "calculator_fits", values);
    return joined(said, say("calculator_bytes", values));
  }
  function short(at) {
    const found = cell(at);
    if (typeof found === "string") return "?";
    return found[1] ? `M = ${found[0]}, K = ${found[2]}` : say("calculator_no");
  }
  const width = (m) => `${m ? Math.min(100, 8 + 92 * Math.log2(m) / 11) : 0}%`; // 2048 fills it
  function fill(row, at) {
    row.querySelector("i").style.setProperty("--filled", width(most(cell(at))));
    row.querySelector("b").textContent = short(at);
  }

  // Every setting that differs in one thing, those with most room first.
  function changes(at) {
    const found = [];
    for (const axis of axes.slice(0, -1)) // the size is chosen beside it
      for (let value = 0; value < length(parts[at.model], axis); value += 1)
        if (value !== at[axis]) found.push({ axis, value, at: { ...at, [axis]: value } });
    return found.sort((one, other) => most(cell(other.at)) - most(cell(one.at)));
  }
  function offer({ axis, value, at }) {
    const row = document.createElement("button");
    row.type = "button";
    row.className = "way";
    row.dataset.change = `${axis} ${value}`;
    row.innerHTML = "<span></span><i></i><b></b>";
    row.querySelector("span").textContent = joined(heading(axis), words(axis, value));
    fill(row, at);
    row.addEventListener("click", () => {
      inputs(axis)[value].checked = true;
      draw();
      answer.scrollIntoView({ block: "nearest" });
      helps.querySelector("button").focus({ preventScroll: true });
    });
    return row;
  }

  function draw() {
    const at = settings();
    for (const input of inputs("chunked")) input.disabled = !parts[at.model].chunked;
    answer.textContent = sentence(at);
    inputs("size").forEach((input, size) => fill(input.closest("label"), { ...at, size }));
    helps.replaceChildren(helps.firstElementChild, ...changes(at).map(offer));
  }
  form.addEventListener("input", draw);
  form.addEventListener("submit", (event) => event.preventDefault());
  draw();
}
