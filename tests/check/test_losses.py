"""Loops with another loss than the mean cross-entropy, as strangers write them: found, or asked for once."""

import json
import sys

import pytest

from accum_lib.__main__ import main
from accum_lib.check import check
from accum_lib.check.faults.loops import right

FILE = """\
import torch
from torch import nn
from torch.nn import functional as F
from accum_lib.accumulate import windows

CONFIG = {"accumulate": 4}
WEIGHTS = torch.tensor([1.0, 2.0, 0.5, 4.0], dtype=torch.float64)
smooth = nn.CrossEntropyLoss(label_smoothing=0.1)
weighted = nn.CrossEntropyLoss(weight=WEIGHTS)

def every_k(model, optimizer, loader, k, loss_of):
    for i, batch in enumerate(loader):
        (loss_of(model, batch) / k).backward()
        if (i + 1) % k == 0 or i + 1 == len(loader):
            optimizer.step()
            optimizer.zero_grad()

def whole(model, optimizer, loader, k, loss_sum, count):
    for window in windows(loader, k):
        total = sum(count(batch) for batch in window)
        for batch in window:
            (loss_sum(model, batch) / total).backward()
        optimizer.step()
        optimizer.zero_grad()

def labels(batch): return int((batch[1] != -100).sum())
def numel(batch): return batch[1].numel()
def focal(model, batch):
    p = F.cross_entropy(model(batch[0]), batch[1], reduction="none", ignore_index=-100)
    return ((1 - torch.exp(-p)) ** 2 * p).mean()

WRONG = {
    "smooth": lambda m, b: smooth(m(b[0]), b[1]),
    "weighted": lambda m, b: weighted(m(b[0]), b[1]),
    "bce": lambda m, b: F.binary_cross_entropy_with_logits(m(b[0]), b[1]),
    "bce_of_a_column": lambda m, b: F.binary_cross_entropy(m(b[0]).squeeze(1).sigmoid(), b[1].double()),
    "mse": lambda m, b: F.mse_loss(m(b[0]).squeeze(-1), b[1]),
    "mse_by_hand": lambda m, b: ((m(b[0]) - b[1].view(-1, 1)) ** 2).mean(),
    "own": lambda m, b: m(**{key: value.to("cpu") for key, value in b.items()}).loss,
    "own_of_a_pair": lambda m, b: m(b[0], labels=b[1])[0],
    "own_moved": lambda m, b: m(**b.to("cpu")).loss,
    "focal": focal,
    "floats": lambda m, b: F.cross_entropy(m(b[0].float()), b[1]),
}
RIGHT = {
    "smooth": (lambda m, b: F.cross_entropy(m(b[0]), b[1], label_smoothing=0.1, reduction="sum"), labels),
    "weighted": (lambda m, b: F.cross_entropy(m(b[0]), b[1], weight=WEIGHTS, reduction="sum"),
                 lambda b: WEIGHTS[b[1][b[1] != -100]].sum()),
    "weighted_over_labels": (
        lambda m, b: F.cross_entropy(m(b[0]), b[1], weight=WEIGHTS, reduction="sum"), labels),
    "bce": (lambda m, b: F.binary_cross_entropy_with_logits(m(b[0]), b[1], reduction="sum"), numel),
    "mse": (lambda m, b: F.mse_loss(m(b[0]).squeeze(-1), b[1], reduction="sum"), numel),
    "own": (lambda m, b: m(**b).loss * (b["labels"] != -100).sum(), lambda b: (b["labels"] != -100).sum()),
    "floats": (lambda m, b: F.cross_entropy(m(b[0].float()), b[1], reduction="sum"), labels),
}
for name, of in WRONG.items():
    exec(f"def wrong_{name}(model, optimizer, loader, k):"
         f" every_k(model, optimizer, loader, k, WRONG[{name!r}])")
for name in RIGHT:
    exec(f"def right_{name}(model, optimizer, loader, k):"
         f" whole(model, optimizer, loader, k, *RIGHT[{name!r}])")

def of_a_config(model, optimizer, loader, cfg):
    every_k(model, optimizer, loader, cfg["accumulation_steps"], lambda m, b: F.cross_entropy(m(b[0]), b[1]))
    assert cfg.get("no such thing", 7) == 7 and "accum_iter" in cfg

def of_sections(model, optimizer, loader, config):
    assert config.training.accum_iter == config.train["gradient_accumulation_steps"]
    assert not config.TRAIN.CLIP_GRAD
    k = config.TRAIN.ACCUMULATION_STEPS
    every_k(model, optimizer, loader, k, lambda m, b: F.cross_entropy(m(b[0]), b[1]))

def of_more(model, optimizer, loader, config):
    config.TRAIN.WARMUP_EPOCHS

def of_its_own_config(model, optimizer, loader):
    assert len(loader) != 2
    every_k(model, optimizer, loader, CONFIG["accumulate"], lambda m, b: F.cross_entropy(m(b[0]), b[1]))

def broken(model, optimizer, loader, k):
    raise RuntimeError("my own mistake")
"""
CASE = """
def focal_case():
    from accum_lib.check import Case, standard_cases
    from dataclasses import replace
    def loss_sum(model, batch):
        return focal(model, batch) * len(batch[1])
    return replace(standard_cases()[0], loss_sum=loss_sum, count=lambda batch: len(batch[1]))
"""


@pytest.fixture
def checked(tmp_path, capsys):
    file = tmp_path / "another_loss.py"
    file.write_text(FILE + CASE)

    def run(name: str, *more: str) -> tuple[int, dict]:
        status = main(["check", f"{file}:{name}", "--json", *more])
        return status, json.loads(capsys.readouterr().out)

    run.file = file
    yield run
    sys.modules.pop("another_loss", None)


NAMES = {
    "smooth": "cross-entropy with label smoothing of 0.1",
    "weighted": "cross-entropy with class weights 1, 2, 0.5, 4, over their sum",
    "weighted_over_labels": "cross-entropy with class weights 1, 2, 0.5, 4, over the number of labels",
    "bce": "binary cross-entropy",
    "bce_of_a_column": "binary cross-entropy",
    "mse": "mean squared error",
    "mse_by_hand": "mean squared error",
    "own": "the model's own .loss",
    "own_of_a_pair": "the model's own .loss",
    "own_moved": "the model's own .loss",
    "floats": "the loop makes its data float32",
}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "weighted_over_labels"])
def test_its_loss_is_found_and_the_loops_faults_are_named(checked, name) -> None:
    status, data = checked(f"wrong_{name}")
    assert status == 1
    assert [f["code"] for f in data["reports"][0]["faults"]] == ["mean_of_means", "tail_divided_by_k"]
    named = {f["code"] for report in data["reports"] for f in report["faults"]}
    assert named == {"mean_of_means", "tail_divided_by_k"}
    assert len(data["reports"]) >= 3
    assert all(any(NAMES[name] in remark for remark in report["remarks"]) for report in data["reports"])


@pytest.mark.parametrize(
    "name", ["smooth", "weighted", "weighted_over_labels", "bce", "mse", "own", "floats"]
)
def test_a_right_loop_with_it_is_equal(checked, name) -> None:
    status, data = checked(f"right_{name}")
    assert status == 0, data
    assert all(any(NAMES[name] in remark for remark in report["remarks"]) for report in data["reports"])


def test_one_that_is_not_known_is_asked_for_once(checked) -> None:
    status, data = checked("wrong_focal")
    assert status == 1
    (report,) = data["reports"]
    (fault,) = report["faults"]
    assert fault["code"] == "other_loss"
    assert "Case(name, make_model, batches, accumulation_steps, loss_sum, count)" in fault["message"]
    assert "--case FILE.py:FUNCTION" in fault["message"]
    status, data = checked("wrong_focal", "--case", f"{checked.file}:focal_case")
    codes = [f["code"] for f in data["reports"][0]["faults"]]
    assert codes == ["mean_of_means", "tail_divided_by_k"]


def test_a_case_of_another_loss_than_the_loops_is_told(checked) -> None:
    status, data = checked("wrong_smooth", "--case", f"{checked.file}:focal_case")
    assert status == 1
    assert [f["code"] for f in data["reports"][0]["faults"]] == ["other_loss"]
    assert "the loop's loss is not the case's" in data["reports"][0]["faults"][0]["message"]


def test_what_the_loop_raises_is_raised_if_nothing_fits(checked) -> None:
    status, data = checked("broken")
    assert status == 2
    assert data["error"].startswith("RuntimeError: my own mistake")


def test_k_in_a_configuration(checked) -> None:
    for name in ("of_a_config", "of_sections"):
        status, data = checked(name)
        assert status == 1, data
        found = {f["code"] for r in data["reports"] for f in r["faults"]}
        assert found == {"mean_of_means", "tail_divided_by_k"}
    assert "the check gives has no 'WARMUP_EPOCHS'" in checked("of_more")[1]["error"]
    data = checked("of_its_own_config")[1]
    assert data["reports"][0]["accumulation_steps"] == 4
    assert "makes windows of 4" in data["reports"][0]["remarks"][0]


def test_the_plain_loss_is_left_as_it_is() -> None:
    assert not any("the loop's loss" in remark for report in check(right) for remark in report.remarks)
