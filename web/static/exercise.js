// Exercises in the page: an editor, MicroPython in a worker, and what the check would say to the results.
(function () {
  "use strict";

  const base = document.currentScript ? document.currentScript.src.replace(/[^/]*$/, "") : "";
  const say = (key, values = {}) =>
    (window.ACCUM_EXERCISE_TEXTS[key] ?? key).replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);

  // --- MicroPython, in a worker that is used again until it does not come back

  const WORKER = `
    let python;
    let told = 0;
    const grow = WebAssembly.Memory.prototype.grow; // at most 256 MB, then Python raises its MemoryError
    WebAssembly.Memory.prototype.grow = function (pages) {
      if (this.buffer.byteLength / 65536 + pages > 4096) throw new RangeError("no more memory");
      return grow.call(this, pages);
    };
    self.onmessage = async ({ data }) => {
      if (data.wasm) {
        try {
          const bytes = Uint8Array.from(atob(data.wasm), (c) => c.charCodeAt(0));
          const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
          const wasm = new Blob([await new Response(stream).arrayBuffer()], { type: "application/wasm" });
          python = await loadMicroPython({
            url: URL.createObjectURL(wasm),
            heapsize: 16 * 1024 * 1024,
            stdout: (line) => { if ((told += line.length + 1) < 4000) self.postMessage({ printed: line }); },
          });
          python.FS.mkdir("/lib");
          for (const [name, text] of Object.entries(data.modules)) python.FS.writeFile("/lib/" + name, text);
          python.runPython("from runner import run");
          self.postMessage({ ready: true });
        } catch (error) {
          self.postMessage({ failed: String(error) });
        }
        return;
      }
      told = 0;
      try {
        python.globals.set("request", data.request);
        python.runPython("answer = run(request)");
        self.postMessage(JSON.parse(python.globals.get("answer")));
      } catch (error) {
        self.postMessage({ broken: String(error) });
      }
    };`;

  let worker = null; // a promise of one that is ready
  let before = Promise.resolve(); // one run at a time

  const load = () =>
    new Promise((resolve, reject) => {
      if (globalThis.__accumMicropython) return resolve(globalThis.__accumMicropython);
      const script = document.createElement("script");
      script.src = base + "micropython.js";
      script.onload = () => resolve(globalThis.__accumMicropython);
      script.onerror = () => reject(new Error("micropython.js"));
      document.head.append(script);
    });

  async function start() {
    const { script, modules, wasm } = await load();
    const source = new Blob(["(async () => {", script, "\n", WORKER, "})();"], { type: "text/javascript" });
    const made = new Worker(URL.createObjectURL(source));
    await new Promise((resolve, reject) => {
      made.onmessage = ({ data }) => (data.ready ? resolve() : reject(new Error(data.failed)));
      made.onerror = (event) => reject(new Error(event.message || "worker"));
      made.postMessage({ wasm, modules });
    });
    return made;
  }

  /** Run the code; what came of it, and what it has printed. */
  async function run(request) {
    let ready;
    try {
      ready = await (worker ??= start());
    } catch (error) {
      worker = null;
      return { cannot_start: error.message, printed: [] };
    }
    const seconds = window.ACCUM_EXERCISE_SECONDS ?? 5;
    const printed = [];
    const found = await new Promise((resolve) => {
      const late = setTimeout(() => resolve({ too_long: seconds }), 1000 * seconds);
      const end = (what) => { clearTimeout(late); resolve(what); };
      ready.onerror = () => end({ broken: true });
      ready.onmessage = ({ data }) => {
        if ("printed" in data) printed.push(data.printed);
        else end(data);
      };
      ready.postMessage({ request: JSON.stringify(request) });
    });
    if (found.too_long || found.broken) {
      ready.terminate();
      worker = null;
    }
    return { ...found, printed };
  }

  // --- The verdict: what the check has said to the same results

  function decoded([kind, value]) {
    if (kind === "number") return Number(value);
    if (kind === "list") return value.map(decoded);
    if (kind !== "float") return kind === "none" ? null : undefined;
    const bytes = value.match(/../g).map((pair) => parseInt(pair, 16));
    return new DataView(new Uint8Array(bytes).buffer).getFloat64(0);
  }

  const lists = (got, want, each) =>
    Array.isArray(got) && got.length === want.length && want.every((w, i) => each({ value: got[i] }, w));

  function isRight(got, want) {
    if (typeof want === "boolean") return got.truth === want;
    if (Array.isArray(want)) return lists(got.value, want, isRight);
    if (!("least" in want)) return got.value !== null;
    return typeof got.value === "number" && want.least <= got.value && got.value <= want.most;
  }

  function isSame(got, want) {
    if (Array.isArray(want)) return lists(got.value, want, isSame);
    if (typeof want !== "number") return want === null ? got.value === null : got.value === Number(want);
    const near = 1e-9 * Math.max(Math.abs(got.value), Math.abs(want));
    return Number.isFinite(got.value) && Math.abs(got.value - want) <= near;
  }

  const LACKS = ["ImportError", "AttributeError", "NameError", "SyntaxError", "NotImplementedError"];

  function raised(text, { kind, error, line }) {
    const more = LACKS.includes(kind) || /keyword/.test(error) ? say("small") : "";
    return say(text, { kind, error }) + (line ? say("at_line", { line }) : "") + (more && `\n${more}`);
  }

  /** {right, said} for what a run has found. */
  function judge(spec, found) {
    if (found.cannot_start) return { said: say("cannot_start", { error: found.cannot_start }) };
    if (found.too_long) return { said: say("too_long", { seconds: found.too_long }) };
    if (found.broken) return { said: say("broken") };
    if (found.missing) return { said: say("missing", { name: spec.name }) };
    if (found.not_run) return { said: raised("not_run", found.not_run) };
    const results = {};
    spec.inputs.forEach((key, i) => {
      const call = found.calls[i];
      results[key] = call.kind ? call : { ...call, value: decoded(call.value) };
    });
    const { accepts, said } = spec.right;
    const fits = (wanted, each) =>
      Object.entries(wanted).every(([key, want]) => !results[key].kind && each(results[key], want, key));
    if (fits(accepts, isRight)) return { right: true, said };
    const right = (got, key) => key in accepts && isRight(got, accepts[key]);
    const alike = (got, want, key) => // to a check that compares exactly, the least difference counts
      isSame(got, want) && right(got, key) === right({ value: want, truth: Boolean(want) }, key);
    const known = spec.mistakes.find((row) => fits(row.results, alike));
    if (known) return { said: known.said };
    for (const key of spec.inputs) {
      const got = results[key];
      const want = accepts[key];
      if (want === undefined) continue;
      if (got.kind) return { said: raised("raised", got) };
      const call = `${spec.name}(${key})`;
      if (!isRight(got, want)) return { said: say(got.value === null ? "nothing" : "different", { call, value: got.shown }) };
    }
    return { said: say("broken") };
  }

  // --- The editor

  const store = {
    get(key) { try { return localStorage.getItem(key); } catch { return null; } },
    set(key, value) { try { localStorage.setItem(key, value); } catch { /* then it is not kept */ } },
    remove(key) { try { localStorage.removeItem(key); } catch { /* nothing was kept */ } },
  };

  function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  function insert(area, text) {
    area.setRangeText(text, area.selectionStart, area.selectionEnd, "end");
    area.dispatchEvent(new Event("input"));
  }

  /** Four columns back: the spaces before the caret's line. */
  function outdent(area) {
    const start = area.value.lastIndexOf("\n", area.selectionStart - 1) + 1;
    const spaces = area.value.slice(start).match(/^ {0,4}/)[0].length;
    const caret = Math.max(start, area.selectionStart - spaces);
    area.setRangeText("", start, start + spaces, "preserve");
    area.setSelectionRange(caret, caret);
    area.dispatchEvent(new Event("input"));
  }

  function keys(area, submit) {
    let leaving = false; // after Esc, Tab moves on as it does everywhere
    area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
      else if (event.key === "Escape") leaving = true;
      else if (event.key === "Tab" && !leaving) {
        event.preventDefault();
        if (event.shiftKey) outdent(area);
        else insert(area, "    ");
      } else if (event.key === "Enter" && !event.isComposing) {
        event.preventDefault();
        const line = area.value.slice(0, area.selectionStart).split("\n").pop();
        insert(area, "\n" + line.match(/^ */)[0] + (/:\s*(#.*)?$/.test(line) ? "    " : ""));
      } else if (!["Shift", "Tab"].includes(event.key)) leaving = false;
    });
    area.addEventListener("blur", () => { leaving = false; });
  }

  function exercise(place, name, spec) {
    if (spec.needs) {
      const link = document.querySelector(".elsewhere a")?.cloneNode(true); // to the notebook, where there is one
      const said = say("notebook", { file: spec.file });
      place.replaceChildren(element("p", { className: "exercise-needs" }, said, link ? " " : "", link ?? ""));
      return;
    }
    const key = `accum:exercise:${name}`;
    const id = `exercise-${name}`;
    const area = element("textarea", {
      id, value: store.get(key) ?? spec.blank, spellcheck: false, autocapitalize: "off", autocomplete: "off",
    });
    const fit = () => { area.rows = Math.max(3, area.value.split("\n").length + 1); };
    const check = element("button", { type: "button", className: "primary exercise-check", textContent: say("check") });
    const again = element("button", { type: "button", className: "button exercise-again", textContent: say("again") });
    const hint = element("span", { id: `${id}-keys`, className: "exercise-keys", textContent: say("keys") });
    const verdict = element("p", { className: "exercise-verdict" });
    verdict.setAttribute("role", "status");
    verdict.setAttribute("aria-live", "polite");
    const output = element("pre");
    const printed = element("details", { className: "exercise-printed", hidden: true, open: true },
      element("summary", { textContent: say("printed") }), output);
    area.setAttribute("aria-describedby", hint.id);
    area.setAttribute("autocorrect", "off");
    const show = (said, state) => {
      verdict.textContent = said;
      verdict.dataset.state = state;
    };
    area.addEventListener("input", () => {
      fit();
      store.set(key, area.value);
    });
    keys(area, () => check.click());
    check.addEventListener("click", () => {
      if (check.getAttribute("aria-disabled")) return;
      check.setAttribute("aria-disabled", "true");
      show(say("running"), "running");
      before = before.then(async () => {
        const found = await run({ code: area.value, name: spec.name, inputs: spec.inputs });
        const { right, said } = judge(spec, found);
        output.textContent = found.printed.join("\n");
        printed.hidden = !found.printed.length;
        show(said, right ? "right" : "not-yet");
        check.removeAttribute("aria-disabled");
        if (right) window.Accum?.progress.exercise(name);
      });
    });
    again.addEventListener("click", () => {
      area.value = spec.blank;
      store.remove(key);
      fit();
      printed.hidden = true;
      show("", "");
      area.focus();
    });
    fit();
    place.replaceChildren(
      element("label", { htmlFor: id, textContent: say("label", { name: spec.name }) }), area, hint,
      element("div", { className: "exercise-buttons" }, check, again), verdict, printed);
  }

  const begin = () => {
    for (const place of document.querySelectorAll(".exercise[data-check]")) {
      const spec = (window.ACCUM_EXERCISES ?? {})[place.dataset.check];
      if (spec) exercise(place, place.dataset.check, spec);
    }
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
