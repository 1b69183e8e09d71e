// Explorers: the notebooks' own front end, on a stand-in for the widget model that a kernel would hold.
const { say } = window.Accum;
const FrontEnd = (() => {
/* {{front end}} */
})();
globalThis.__accumPlotly = globalThis.Plotly;

// What the front end asks of a model. There is no kernel: a move is known to the page alone.
class Model {
  constructor(state) { this.state = state; this.heard = new Map(); }
  get(name) { return this.state[name]; }
  set(name, value) { this.state[name] = value; }
  save_changes() { for (const hear of this.heard.get("change:selection") ?? []) hear(); }
  send() {}
  on(event, hear) { this.heard.set(event, [...(this.heard.get(event) ?? []), hear]); }
  off(event, hear) { this.heard.set(event, (this.heard.get(event) ?? []).filter((other) => other !== hear)); }
}

// In the page: base64 of gzip of JSON, a zero byte, then the numbers as 64-bit floats.
async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const all = new Uint8Array(await new Response(stream).arrayBuffer());
  const end = all.indexOf(0);
  const state = JSON.parse(new TextDecoder().decode(all.subarray(0, end)));
  return { ...state, numbers: all.subarray(end + 1), status: "", complete: true, computing: false };
}

const NARROW = 600, AROUND = 36; // px: a phone; what an explorer has around its figure

async function draw(place) {
  if (place.dataset.begun) return;
  place.dataset.begun = "yes";
  const still = place.querySelector(".still");
  still.textContent = say("loading");
  try {
    const data = document.querySelector(`script[data-of="${place.id}"]`);
    const model = new Model(await unpack(data.textContent));
    const box = document.createElement("div");
    still.replaceWith(box);
    hunt(place, model);
    const rendered = FrontEnd.render({ model, el: box });
    if (box.clientWidth < NARROW) {
      const above = box.querySelector(".accum-plot").offsetTop - box.offsetTop;
      place.style.setProperty("--plot", `${stack(model.state, box.clientWidth, innerHeight - above - AROUND)}px`);
    }
    await rendered; // it draws when plotly.js is there, which is never at once
    place.dataset.drawn = "yes";
    if (!performance.getEntriesByName("first-explorer").length) performance.mark("first-explorer");
  } catch (error) {
    place.textContent = say("failed", { error: error.message });
    console.error(error);
  }
}

// The bug hunt of lesson 05: a guess for each loop, then its story.
function hunt(place, model) {
  const form = document.querySelector(`.hunt[data-of="${place.id}"]`);
  if (!form) return;
  const { stories, hit, miss, verdict } = JSON.parse(form.querySelector("script").textContent);
  const [select, button, reply] = ["select", "button", ".reply"].map((what) => form.querySelector(what));
  const named = new Set();
  const number = () => model.get("selection").number;
  select.addEventListener("change", () => { button.disabled = !select.value; });
  model.on("change:selection", () => { select.value = ""; button.disabled = true; reply.replaceChildren(); });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const [code, story] = stories[number()];
    const right = select.value === code;
    if (right) named.add(number());
    const values = { verdict: right ? hit : miss, story, named: named.size, all: stories.length };
    reply.innerHTML = verdict.replace(/\{(\w+)\}/g, (all, name) => values[name]);
  });
}

// The first at once, the others when they come near.
const places = [...document.querySelectorAll(".explorer")];
const watcher = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) { watcher.unobserve(target); draw(target); }
}, { rootMargin: "800px 0px" });
addEventListener("beforeprint", () => places.forEach(draw));
if (places.length) draw(places[0]).then(() => places.slice(1).forEach((place) => watcher.observe(place)));
