"""What is said of a loop: its lines, the page, plain data, and a failure of a test that one can read."""

import html.parser
import importlib
import json
import linecache
import re
import sys
import unittest

import pytest

from accum_lib.__main__ import main
from accum_lib.check import assert_equivalent, check_case, explain, standard_cases
from accum_lib.check.faults import loops
from accum_lib.check.page import page

FILE = """\
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

def compute(model, x, y):
    return cross_entropy(model(x), y)

def tail(model, optimizer, loader, k):
    for i, (x, y) in enumerate(loader):
        (compute(model, x, y) / k).backward()
        if (i + 1) % k == 0:
            optimizer.step()
            optimizer.zero_grad()

def early(model, optimizer, loader, k):
    for i, (x, y) in enumerate(loader):
        (compute(model, x, y) / k).backward()
        if i % k == 0:
            optimizer.step(); optimizer.zero_grad()

def ticks(model, optimizer, loader, k, scheduler, ema):
    for i, (x, y) in enumerate(loader):
        (compute(model, x, y) / k).backward()
        clip_grad_norm_(model.parameters(), 0.1)
        if (i + 1) % k == 0 or i + 1 == len(loader):
            optimizer.step()
            optimizer.zero_grad()
        scheduler.step()
        ema.update_parameters(model)

def cleared(model, optimizer, loader, k):
    for i, (x, y) in enumerate(loader):
        optimizer.zero_grad()
        compute(model, x, y).backward()
        if (i + 1) % k == 0 or i + 1 == len(loader): optimizer.step()

def kept(model, optimizer, loader, k, scaler):
    seen = 0
    for x, y in loader:
        scaler.scale(compute(model, x, y) / k).backward()
        seen += 1
        if seen % k == 0:
            scaler.step(optimizer)
            scaler.update()

def bar(model, optimizer, loader, k):
    from tqdm import tqdm
    for step, (x, y) in enumerate(tqdm(loader), start=1):
        print("a line of the loop's own")
        (compute(model, x, y) / k).backward()
        if not step % k:
            optimizer.step()
            optimizer.zero_grad()

def zipped(model, optimizer, loader, k):
    for i, ((x, y), _) in enumerate(zip(loader, loader)):
        (compute(model, x, y) / k).backward()
        if (i + 1) % k == 0:
            optimizer.step()
            optimizer.zero_grad()

def clears_by_hand(model, optimizer, loader, k):
    for i, (x, y) in enumerate(loader):
        for p in model.parameters():
            p.grad = None
        compute(model, x, y).backward()
        if (i + 1) % k == 0 or i + 1 == len(loader):
            optimizer.step()

def clips_by_hand(model, optimizer, loader, k):
    for i, (x, y) in enumerate(loader):
        (compute(model, x, y) / k).backward()
        norm = sum(p.grad.square().sum() for p in model.parameters()) ** 0.5
        for p in model.parameters():
            p.grad.mul_(min(1, 0.1 / norm))
        if (i + 1) % k == 0 or i + 1 == len(loader):
            optimizer.step()
            for p in model.parameters():
                p.grad.zero_()

def clears_in_two_places(model, optimizer, loader, k):
    for i, (x, y) in enumerate(loader):
        for p in model.parameters():
            p.grad = None
        compute(model, x, y).backward()
        if (i + 1) % k == 0 or i + 1 == len(loader):
            optimizer.step()
            for p in model.parameters():
                p.grad = torch.zeros_like(p)

def leaves(model, optimizer, loader, k):
    for x, y in loader:
        compute(model, x, y).backward()
        raise SystemExit("Loss is <nan>")
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a_script.py"
    path.write_text(FILE)
    yield path
    sys.modules.pop("a_script", None)


def line_of(function: str, text: str) -> int:
    """The number of the first line with this text from this function on."""
    lines = FILE.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"def {function}("))
    return next(n for n in range(start, len(lines)) if text in lines[n]) + 1


TAIL = "if (i + 1) % k == 0 or i + 1 == len(loader):"
TOTAL = "total = sum(count(batch) for batch in window)"


@pytest.mark.parametrize(
    ("function", "code", "text", "instead"),
    [
        ("tail", "leaked_tail", "if (i + 1)", [TAIL]),
        ("tail", "mean_of_means", ".backward()", [TOTAL, "(loss_sum(model, batch) / total).backward()"]),
        ("early", "off_by_one", "if i % k", [TAIL]),
        ("ticks", "scheduler_per_micro_batch", "scheduler.step()", ["optimizer.step()", "scheduler.step()"]),
        ("ticks", "ema_per_micro_batch", "ema.", ["optimizer.step()", "ema.update_parameters(model)"]),
        ("ticks", "clipped_per_micro_batch", "clip_",
         ["clip_grad_norm_(model.parameters(), 0.1)", "optimizer.step()"]),
        ("cleared", "cleared_mid_window", "zero_grad", []),  # its step is not alone on its line
        ("kept", "not_cleared", "scaler.step", ["scaler.step(optimizer)", "optimizer.zero_grad()"]),
        ("kept", "leaked_tail", "if seen", []),  # its counter says nothing of the last one
        ("bar", "leaked_tail", "if not step", ["if step % k == 0 or step == len(loader):"]),
        ("zipped", "leaked_tail", "if (i + 1)", []),  # it may be shorter than what it is made of
        ("clears_by_hand", "cleared_mid_window", "p.grad = None", []),
        ("clips_by_hand", "clipped_per_micro_batch", "p.grad.mul_", []),
        ("clears_in_two_places", "cleared_mid_window", None, []),  # which one it is was not seen
        ("leaves", "ended_itself", "raise", []),
    ],
)  # fmt: skip
def test_each_fault_has_its_line_and_the_right_ones_where_they_are_sure(
    file, capsys, function, code, text, instead
) -> None:
    assert main(["check", f"{file}:{function}", "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    found = [f for report in data["reports"] for f in report["faults"] if f["code"] == code]
    assert found, code
    if text is None:
        assert found[0]["line"] is None
        return
    assert found[0]["line"] == line_of(function, text)
    assert found[0]["source"] == FILE.splitlines()[found[0]["line"] - 1].strip()
    assert found[0]["instead"] == instead


def test_the_right_condition_is_right(file) -> None:
    """What is suggested in place of a line makes the fault go."""
    file.write_text(FILE.replace("if (i + 1) % k == 0:", TAIL))
    assert main(["check", f"{file}:tail", "--json"]) == 1
    sys.modules.pop("a_script")

    assert (
        "leaked_tail" not in check_case(importlib.import_module("a_script").tail, standard_cases()[0]).codes
    )


def test_it_is_short_and_says_nothing_twice(file, capsys) -> None:
    assert main(["check", f"{file}:tail"]) == 1
    said = capsys.readouterr().out
    assert said.count("* mean_of_means: ") == 1
    assert "* again: leaked_tail" in said
    shown = r"a_script\.py:10: \(compute\(model, x, y\) / k\)\.backward\(\)\n +right: total"
    assert len(re.findall(shown, said)) == 1
    first = said.split("\n\n")[0].splitlines()
    assert len(first) < 14
    assert re.search(r"4 updates, 6 are due; largest relative error \d", first[2])
    assert re.search(r"micro-batches \d, \d, \d weigh [\d. ]+ .*should weigh 1", first[3])


def test_the_data_are_json_for_every_kind_of_number(capsys) -> None:
    assert main(["check", "accum_lib.check.faults.loops:dropped_tail", "--json"]) == 1
    data = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    assert list(data) == ["schema", "loop", "ok", "error", "reports"]
    assert (data["schema"], data["ok"], data["error"]) == (1, False, None)
    short = data["reports"][2]
    assert (short["verdict"], short["updates_made"], short["updates_due"]) == ("not_equal", 0, 2)
    assert short["relative_error"] is None, "there is no update to be compared"
    whole = data["reports"][0]
    assert whole["updates"][0]["micro_batches"] == [0, 1, 2]
    assert whole["updates"][0]["weights"][:4] == pytest.approx([1, 1, 1, 0], abs=1e-9)
    assert {"case", "accumulation_steps", "dtype", "tolerance", "counts", "remarks", "not_observed"} <= set(
        whole
    )


def test_an_error_leaves_the_data_of_what_was_finished(tmp_path, capsys) -> None:
    path = tmp_path / "fails_later.py"
    path.write_text(
        "from accum_lib.check.faults.loops import right\n"
        "def train(model, optimizer, batches, k):\n"
        "    assert len(batches) > 2, 'too few'\n"
        "    right(model, optimizer, batches, k)\n"
    )
    assert main(["check", f"{path}:train", "--json", "--html", str(tmp_path / "page.html")]) == 2
    data = json.loads(capsys.readouterr().out)
    assert [r["verdict"] for r in data["reports"]] == ["equal", "equal"]
    assert data["ok"] is None
    assert data["error"].startswith("AssertionError: too few")
    assert (tmp_path / "page.html").exists()


class Tags(html.parser.HTMLParser):
    """Reads a page: its elements, what they refer to, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.heights: list[tuple[str, float]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        self.links += [v for k, v in attrs if k in ("src", "href")]
        if tag == "rect":
            self.heights.append((values["class"], float(values["height"])))


def test_the_page_is_whole_by_itself_and_shows_the_weights(file, tmp_path, capsys) -> None:
    target = tmp_path / "page.html"
    assert main(["check", f"{file}:leaves", "--html", str(target)]) == 1
    text = target.read_text(encoding="utf-8")
    assert "Loss is &lt;nan&gt;" in text
    assert "<nan>" not in text
    report = check_case(loops.mean_of_means, standard_cases()[0])
    seen = Tags(page("<b>:train", [report]))
    assert "&lt;b&gt;:train" in page("<b>:train", [report])
    assert not seen.links
    assert not {"script", "link", "img"} & set(seen.tags)
    assert "prefers-color-scheme: dark" in text
    right = [height for kind, height in seen.heights if kind == "right"]
    found = [height for kind, height in seen.heights if kind.startswith("found")]
    assert len(right) == len(found) == 2 * 8, "each micro-batch is in one update of each epoch"
    assert len(set(right)) == 1
    by_hand = report.updates[0].weights[0] * right[0]
    assert found[0] == pytest.approx(by_hand, abs=0.06)
    assert ">4.3</text>" in page("train", [report]), "a bar that is cut says how long it is"


def test_a_right_loop_has_a_page_without_faults() -> None:
    text = page("right", [check_case(loops.right, standard_cases()[0])])
    assert "makes the updates of one big batch" in text
    assert "<ul>" not in text


def test_help_says_the_exit_codes(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    assert "exit codes: 0 the loop is equal" in capsys.readouterr().out


# --- In tests


def test_a_failure_under_pytest_shows_the_report_and_not_the_checker(tmp_path, capsys) -> None:
    path = tmp_path / "test_my_loop.py"
    path.write_text(
        "from accum_lib.check import assert_equivalent\n"
        "from accum_lib.check.faults.loops import mean_of_means, right\n"
        "def test_wrong(): assert_equivalent(mean_of_means)\n"
        "def test_right(): assert_equivalent(right)\n"
    )
    quiet = ["-p", "no:cacheprovider", "-p", "no:randomly", "-c", str(tmp_path / "none.ini")]
    (tmp_path / "none.ini").write_text("[pytest]\n")
    assert pytest.main([str(path), *quiet, "--rootdir", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "1 failed, 1 passed" in said
    assert re.search(r"E +AssertionError: NOT EQUAL to one big batch: ragged tokens", said)
    assert re.search(r"E +\* mean_of_means: ", said)
    assert "front.py" not in said, "the frames of the checker are hidden"


def test_it_is_a_failure_and_no_error_in_unittest() -> None:
    class Mine(unittest.TestCase):
        def test_wrong(self) -> None:
            assert_equivalent(loops.dropped_tail)

        def test_right(self) -> None:
            assert_equivalent(loops.right)

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Mine).run(result)
    assert (result.testsRun, len(result.failures), result.errors) == (2, 1, [])
    assert "* dropped_tail: " in result.failures[0][1]


def test_another_profiler_keeps_its_place() -> None:
    """Then lines are not known, and faults are named all the same."""

    def counting(*_) -> None:
        return None

    sys.setprofile(counting)
    try:
        report = check_case(loops.mean_of_means, standard_cases()[0])
        assert sys.getprofile() is counting
    finally:
        sys.setprofile(None)
    assert report.codes == ("mean_of_means",)
    assert report.diagnoses[0].place is None
    assert "loops.py" not in explain(report)


def test_a_cell_of_a_notebook_has_lines_and_no_file() -> None:
    """A Jupyter kernel compiles each cell as a file of its own, such as /tmp/ipykernel_31/364206958.py."""
    name = "/tmp/ipykernel_31/364206958.py"
    linecache.cache[name] = (len(FILE), None, FILE.splitlines(keepends=True), name)
    names: dict = {}
    try:
        exec(compile(FILE, name, "exec"), names)
        said = explain(check_case(names["tail"], standard_cases()[0]))
    finally:
        linecache.cache.pop(name)
    assert f"    line {line_of('tail', 'if (i + 1)')}: if (i + 1) % k == 0:\n" in said
    assert "ipykernel" not in said
    assert "364206958" not in said
