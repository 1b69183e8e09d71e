// The reader's progress, in this browser: {predictions: {name: right}, exercises: [check, ...], sure: [name, ...]},
// as the notebooks keep it in .progress.json. Where the browser keeps nothing, it lasts as long as the page.
const KEY = "accum-progress";
const texts = JSON.parse(document.getElementById("page-texts").textContent);
const say = (key, values = {}) => texts[key].replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
const NOTHING = { predictions: {}, exercises: [], sure: [] };
let done = NOTHING;
let kept = true;

function checked(found) {
  const { predictions, exercises, sure = [] } = found;
  const right = typeof predictions === "object" && predictions !== null && !Array.isArray(predictions)
    && Object.values(predictions).every((value) => typeof value === "boolean")
    && [exercises, sure].every((names) => Array.isArray(names) && names.every((name) => typeof name === "string"));
  if (!right) throw new TypeError("not a file of progress");
  return { predictions, exercises: [...new Set(exercises)], sure: [...new Set(sure)] };
}

function load() {
  try {
    const text = localStorage.getItem(KEY);
    if (text) done = checked(JSON.parse(text));
  } catch { /* nothing that can be read: begin with none */ }
}

function keep() {
  try {
    localStorage.setItem(KEY, JSON.stringify(done));
  } catch { kept = false; }
  document.dispatchEvent(new CustomEvent("accum-progress"));
}

// What has been done elsewhere (in another tab, in a file) is added; a first guess stays what it was.
function add(other) {
  const later = other.sure.filter((name) => !(name in done.predictions));
  done = {
    predictions: { ...other.predictions, ...done.predictions },
    exercises: [...new Set([...done.exercises, ...other.exercises])],
    sure: [...new Set([...done.sure, ...later])],
  };
  keep();
}

const one = (more) => { load(); add({ ...NOTHING, ...more }); };
load();
addEventListener("storage", (event) => {
  if (event.key !== KEY) return;
  load();
  document.dispatchEvent(new CustomEvent("accum-progress"));
});

window.Accum = {
  texts, say,
  progress: {
    all: () => done,
    kept: () => kept,
    prediction: (name, right, sure) => name && one({ predictions: { [name]: right }, sure: sure ? [name] : [] }),
    exercise: (check) => one({ exercises: [check] }),
    add: (text) => { const found = checked(JSON.parse(text)); add(found); return found; },
    reset: () => { done = NOTHING; keep(); },
    text: () => JSON.stringify(done, null, 1),
  },
};
