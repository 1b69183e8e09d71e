"""How long a reader waits, measured inside the page: from the key press to the frame with its effect."""

import statistics
from collections import defaultdict

# From the key event's own time stamp until the frame with the redrawn plot has been painted: a message that
# is posted in an animation frame arrives after that frame's layout and painting.
WATCH = """
() => {
  if (window.__meter) return;
  window.__meter = { pressed: null, waits: [] };
  window.addEventListener('keydown', (e) => { window.__meter.pressed = e.timeStamp; }, true);
  window.addEventListener('accum-drawn', () => {
    const pressed = window.__meter.pressed;
    if (pressed === null) return;
    window.__meter.pressed = null;
    requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = () => window.__meter.waits.push(performance.now() - pressed);
      channel.port2.postMessage(0);
    });
  });
}
"""


class Meter:
    def __init__(self) -> None:
        self.waits = defaultdict(list)  # milliseconds, by notebook
        self.facts = []

    def add(self, notebook: str, waits: list[float]) -> None:
        self.waits[notebook] += waits

    def note(self, text: str) -> None:
        self.facts.append(text)

    def print(self, reporter) -> None:
        reporter.section("what the reader waits for, in Chromium")
        for fact in self.facts:
            reporter.write_line(fact)
        for notebook, waits in sorted(self.waits.items()):
            if len(waits) > 1:
                p95 = statistics.quantiles(waits, n=20, method="inclusive")[-1]
                reporter.write_line(
                    f"{notebook}: {len(waits)} moves of a control, key press to redrawn plot: "
                    f"median {statistics.median(waits):.0f} ms, 95th percentile {p95:.0f} ms"
                )
