// Puts the page together: stages, the story that sets them while it is scrolled, the language, "show all".

document.body.dataset.told = ""; // it is shown once its texts and its first figures are there, so that nothing shifts
words.texts = TEXTS;
const marked = [...document.querySelectorAll("[data-t]")];
const squeeze = (text) => text.replace(/\s+/g, " ").trim();
const originals = new Map(marked.map((node) => [node, squeeze(node.innerHTML)]));
const title = document.title;
// The course's letters as mathematics, each in its colour.
const lettered = (html) => html.replace(/<code>([\d =·/(),MKB]+)<\/code>/g, (_, formula) =>
  `<span class="symbols">${formula.replace(/[MKB]/g, (letter) => `<var class="${letter.toLowerCase()}">${letter}</var>`)}</span>`);
const stages = [];

function build(section) {
  const stage = new Stage(section);
  stages.push(stage);
  follow(stage);
}

// A passage of the story that comes to the middle of the window sets the controls as it says; so does a click.
function follow(stage) {
  const passages = [...document.querySelectorAll(`#${stage.id} [data-set]`)];
  const come = (passage) => {
    stage.touched = false;
    passages.forEach((other) => other.classList.toggle("now", other === passage));
    stage.apply(JSON.parse(passage.dataset.set));
  };
  for (const passage of passages) {
    passage.tabIndex = 0;
    passage.setAttribute("role", "button");
    const pick = () => {
      come(passage);
      if (!wide()) stage.root.scrollIntoView({ block: "start" }); // on a phone the figures stand below
    };
    passage.addEventListener("click", pick);
    passage.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pick(); }
    });
  }
  const watcher = new IntersectionObserver((entries) => {
    const here = entries.find((entry) => entry.isIntersecting);
    if (here && wide() && !stage.touched && !here.target.classList.contains("now")) come(here.target);
  }, { rootMargin: "-45% 0px -45% 0px" });
  passages.forEach((passage) => watcher.observe(passage));
}

// Only where the story stands beside the figures does scrolling move them.
const wide = () => window.matchMedia("(min-width: 1000px)").matches;

function speak(language) {
  words.language = language;
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  document.title = t(title);
  for (const [node, english] of originals) node.innerHTML = lettered(t(english, VERSIONS));
  const folder = language === "en" ? "../notebooks/" : `../notebooks/${language}/`;
  for (const link of document.querySelectorAll('a[href^="../notebooks/"]'))
    link.setAttribute("href", folder + link.getAttribute("href").split("/").at(-1));
  for (const node of document.querySelectorAll("[data-t-label]")) node.setAttribute("aria-label", t(node.dataset.tLabel));
  for (const button of document.querySelectorAll("[data-language]"))
    button.setAttribute("aria-pressed", String(button.dataset.language === language));
  if (hero.picture) hero.build();
  stages.forEach((stage) => stage.build());
  try { localStorage.setItem("accum-language", language); } catch { /* a page from disk may have no storage */ }
}

function chosenLanguage() {
  const asked = new URLSearchParams(location.search).get("lang");
  let kept = null;
  try { kept = localStorage.getItem("accum-language"); } catch { /* then the browser's */ }
  return [asked, kept, navigator.language.slice(0, 2)].find((language) => language === "en" || language === "zh") || "en";
}

document.querySelectorAll("[data-language]").forEach((button) =>
  button.addEventListener("click", () => {
    speak(button.dataset.language);
    try { history.replaceState(null, "", `?lang=${button.dataset.language}`); } catch { /* not everywhere from disk */ }
  }));
document.getElementById("open-all").addEventListener("click", () => stages.forEach((stage) => stage.open()));

// The first section at once, so that the page is there; the others one by one, while nothing else is to be done.
const sections = [updateSection, flowSection, varianceSection, memorySection, meansSection, breaksSection, chooseSection];
build(sections[0]);
speak(chosenLanguage());
hero.watch(8, 4);
performance.mark("first-section-drawn");
const rest = sections.slice(1);
const next = () => { if (rest.length) { build(rest.shift()); setTimeout(next); } else document.body.dataset.ready = "true"; };
setTimeout(next);

let wasWide = window.innerWidth;
new ResizeObserver(() => {
  if (window.innerWidth === wasWide) return; // a phone's bars that come and go change the height alone
  wasWide = window.innerWidth;
  stages.forEach((stage) => stage.redraw());
}).observe(document.body);

window.__explainer = { live, data: DATA, stages, hero, UpdatePicture };
