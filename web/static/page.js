// The map with the reader's progress, and what copies code.
const { progress, say } = window.Accum;

for (const place of document.querySelectorAll("[data-map-place]"))
  place.replaceWith(document.getElementById("map-template").content.cloneNode(true));

function draw() {
  const done = progress.all();
  for (const stop of document.querySelectorAll("[data-map] li")) {
    const asked = JSON.parse(stop.dataset.predictions), tasks = JSON.parse(stop.dataset.exercises);
    const made = asked.filter((name) => name in done.predictions);
    const solved = tasks.filter((name) => done.exercises.includes(name)).length;
    const sure = made.filter((name) => done.sure.includes(name));
    const right = (names) => names.filter((name) => done.predictions[name]).length;
    const whole = made.length === asked.length && solved === tasks.length;
    const begun = made.length > 0 || solved > 0;
    stop.className = whole ? "done" : begun ? "begun" : "";
    stop.querySelector(".mark").textContent = whole ? "●" : begun ? "◐" : "○";
    stop.querySelector(".state").textContent = say(tasks.length ? "made_solved" : "made", {
      made: made.length, asked: asked.length, solved, set_tasks: tasks.length,
      right: right(made),
    });
    if (sure.length) stop.querySelector(".state").append(` ${say("certain", { sure: sure.length, hits: right(sure) })}`);
  }
}

for (const map of document.querySelectorAll("[data-map]")) {
  const status = map.querySelector("[role=status]");
  const told = (words) => { status.textContent = progress.kept() ? words : `${words} ${say("not_kept")}`; };
  map.querySelector("[data-export]").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([progress.text()], { type: "application/json" }));
    link.download = "progress.json"; // browsers take away a dot in front
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  map.querySelector("[data-import]").addEventListener("change", async ({ target }) => {
    const [file] = target.files;
    if (!file) return;
    try {
      const { predictions, exercises } = progress.add(await file.text());
      told(say("import_good", { predictions: Object.keys(predictions).length, exercises: exercises.length }));
    } catch {
      told(say("import_bad", { file: file.name }));
    }
    target.value = ""; // the same file may be chosen again
  });
  map.querySelector("[data-reset]").addEventListener("click", () => {
    if (confirm(say("reset_ask"))) progress.reset();
  });
}
document.addEventListener("accum-progress", draw);
draw();

for (const button of document.querySelectorAll(".copy"))
  button.addEventListener("click", async () => {
    const source = button.parentElement.querySelector("pre.source");
    try {
      await navigator.clipboard.writeText(source.textContent);
    } catch { // a page from disk may not write to the clipboard: select, so that Ctrl-C does
      getSelection().selectAllChildren(source);
      if (!document.execCommand("copy")) return;
    }
    button.textContent = say("copied");
    setTimeout(() => { button.textContent = say("copy"); }, 1500);
  });
