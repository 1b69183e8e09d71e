// The reference's search: names first, then what is said of them; every word must be there.
const box = document.querySelector("[data-search]");
if (box) {
  const entries = [...document.querySelectorAll("[data-words]")];
  const status = document.querySelector("[data-found]");
  const look = () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const entry of entries) {
      const name = entry.querySelector("code").textContent.toLowerCase();
      entry.hidden = !words.every((word) => entry.dataset.words.includes(word));
      entry.classList.toggle("named", words.length > 0 && words.some((word) => name.includes(word)));
    }
    for (const section of document.querySelectorAll("main section"))
      section.hidden = !section.querySelector("[data-words]:not([hidden])");
    const found = entries.filter((entry) => !entry.hidden);
    status.textContent = words.length ? window.Accum.say("found", { found: found.length, all: entries.length }) : "";
  };
  box.addEventListener("input", look);
  box.addEventListener("keydown", (event) => {
    const found = entries.filter((entry) => !entry.hidden);
    const first = found.find((entry) => entry.classList.contains("named")) ?? found[0];
    if (event.key === "Enter" && box.value.trim() && first) first.querySelector("a").click();
  });
  box.value = new URLSearchParams(location.search).get("q") ?? "";
  look();
}
