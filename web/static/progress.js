// The reader's progress, in this browser: {predictions: {name: right}, exercises: [check, ...]}, as the notebooks
// keep it in .progress.json. Where the browser keeps nothing, it lasts as long as the page.
const KEY = "accum-progress";
const texts = JSON.parse(document.getElementById("page-texts").textContent);
const say = (key, values = {}) => texts[key].replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
let done = { predictions: {}, exercises: [] };
let kept = true;

function checked(found) {
  const { predictions, exercises } = found;
  const right = typeof predictions === "object" && predictions !== null && !Array.isArray(predictions)
    && Object.values(predictions).every((value) => typeof value === "boolean")
    && Array.isArray(exercises) && exercises.every((name) => typeof name === "string");
  if (!right) throw new TypeError("not a file of progress");
  return { predictions, exercises: [...new Set(exercises)] };
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
  done = {
    predictions: { ...other.predictions, ...done.predictions },
    exercises: [...new Set([...done.exercises, ...other.exercises])],
  };
  keep();
}

const one = (predictions, exercises) => { load(); add({ predictions, exercises }); };
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
    prediction: (name, right) => name && one({ [name]: right }, []),
    exercise: (check) => one({}, [check]),
    add: (text) => { const found = checked(JSON.parse(text)); add(found); return found; },
    reset: () => { done = { predictions: {}, exercises: [] }; keep(); },
    text: () => JSON.stringify(done, null, 1),
  },
};
