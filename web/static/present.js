// The presentation: one section a screen, large type. Arrows, Page Up and Down, or the space bar move on.
const { say } = window.Accum;
const screens = [...document.querySelectorAll(".screen")];
const root = document.documentElement;
let at = 0, bar = null;

function show(number) {
  at = Math.max(0, Math.min(screens.length - 1, number));
  screens.forEach((screen, i) => screen.classList.toggle("now", i === at));
  bar.querySelector("output").textContent = `${at + 1} / ${screens.length}`;
  scrollTo(0, 0);
  try { history.replaceState(null, "", `?present${screens[at].id ? `#${screens[at].id}` : ""}`); } catch { /* from disk */ }
}

function button(label, words, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = label;
  made.setAttribute("aria-label", words);
  made.addEventListener("click", act);
  return made;
}

function begin() {
  const named = screens.findIndex((screen) => screen.id && `#${screen.id}` === location.hash);
  const read = root.classList.contains("present") ? 0 // opened as a presentation, else where the reader is
    : screens.findLastIndex((screen) => screen.getBoundingClientRect().top < innerHeight / 2);
  root.classList.add("present");
  bar = document.createElement("div");
  bar.className = "present-bar";
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", say("present"));
  const count = document.createElement("output");
  bar.append(button("←", say("back"), () => show(at - 1)), count, button("→", say("forward"), () => show(at + 1)),
    button(say("leave"), say("leave"), end));
  document.body.append(bar);
  show(named >= 0 ? named : read);
}

function end() {
  root.classList.remove("present");
  bar.remove();
  bar = null;
  try { history.replaceState(null, "", location.pathname); } catch { /* from disk */ }
  screens[at].scrollIntoView();
}

addEventListener("keydown", (event) => {
  if (!bar || event.altKey || event.ctrlKey || event.metaKey) return;
  const busy = event.target.closest?.("input, select, textarea, summary, [tabindex='0'], .exercise");
  const space = event.key === " " && !event.target.closest?.("button, a");
  if (event.key === "Escape") end();
  else if (busy) return;
  else if (event.key === "ArrowRight" || event.key === "PageDown" || (space && !event.shiftKey)) show(at + 1);
  else if (event.key === "ArrowLeft" || event.key === "PageUp" || space) show(at - 1);
  else return;
  event.preventDefault();
});
if (screens.length) {
  document.querySelector("[data-present]").addEventListener("click", () => (bar ? end() : begin()));
  if (root.classList.contains("present")) begin();
}
