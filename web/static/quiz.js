// Questions: first a guess, then the answer that was computed when the page was built. What gives it away is
// behind a veil until then.
const { progress, say } = window.Accum;

function unveil(veil, focus) {
  if (!veil || !veil.classList.contains("closed")) return;
  veil.classList.remove("closed");
  const behind = veil.querySelector(".behind");
  behind.inert = false;
  veil.querySelector(".veil").hidden = true;
  if (focus) { behind.tabIndex = -1; behind.focus({ preventScroll: true }); }
}

function lower(veil) {
  veil.classList.add("closed");
  veil.querySelector(".behind").inert = true;
  veil.querySelector(".veil button").addEventListener("click", () => unveil(veil, true));
}

for (const veil of document.querySelectorAll(".veiled")) lower(veil);
addEventListener("beforeprint", () => document.querySelectorAll(".veiled").forEach((veil) => unveil(veil, false)));

for (const quiz of document.querySelectorAll(".quiz")) {
  const button = quiz.querySelector("button"), reply = quiz.querySelector(".reply");
  const radios = [...quiz.querySelectorAll("input[type=radio]")], sure = quiz.querySelector(".sure input");
  const said = [...quiz.querySelectorAll("template")]; // for each option
  const veil = document.querySelector(`.veiled[data-of="${radios[0].name}"]`);
  const picked = () => radios.findIndex((radio) => radio.checked);
  [...radios, sure].forEach((box) => { box.checked = false; }); // browsers remember choices of an earlier visit
  quiz.addEventListener("change", () => { button.disabled = picked() < 0; });
  quiz.addEventListener("submit", (event) => {
    event.preventDefault();
    if (picked() < 0) return;
    const right = picked() === Number(quiz.dataset.right);
    button.disabled = true;
    quiz.classList.add("answered");
    radios.forEach((radio, i) => {
      radio.closest("label").classList.toggle("right", i === Number(quiz.dataset.right));
      radio.closest("label").classList.toggle("wrong", radio.checked && !right);
    });
    reply.replaceChildren(said[picked()].content.cloneNode(true));
    if (sure.checked && !right) reply.append(` ${say("surprise")}`);
    reply.classList.toggle("is-right", right);
    unveil(veil, false);
    progress.prediction(quiz.dataset.name, right, sure.checked);
  });
}

// On the end quiz, how many were right at the first answer.
const score = document.querySelector("[data-score]");
function tell() {
  const { predictions } = progress.all();
  const answers = [...document.querySelectorAll(".quiz")].map((quiz) => predictions[quiz.dataset.name]);
  const answered = answers.filter((right) => right !== undefined).length;
  const right = answers.filter(Boolean).length;
  score.textContent = say("score", { answered, all: score.dataset.score, right });
}
if (score) {
  document.addEventListener("accum-progress", tell);
  tell();
}
