"""Loops with the signatures that people have, from files as a stranger would write them."""

import itertools
import json
import sys

import pytest
import torch

from accum_lib.__main__ import main
from accum_lib.accumulate import windows
from accum_lib.check import check_case, standard_cases
from accum_lib.check.loop import wishes_of

FILE = """
import torch
from torch.nn.utils import clip_grad_norm_

def engine(model, criterion, data_loader, optimizer, device, epoch, loss_scaler, args=None, log_writer=None):
    model.train()
    data_loader.sampler.set_epoch(epoch)
    assert len(data_loader.dataset) > len(data_loader) and data_loader.batch_size > 0
    optimizer.zero_grad()
    for i, (samples, targets) in enumerate(data_loader):
        samples, targets = samples.to(device), targets.to(device)
        loss = criterion(model(samples), targets) / args.accum_iter
        loss_scaler.scale(loss).backward()
        if (i + 1) % args.accum_iter == 0:
            loss_scaler.step(optimizer)
            loss_scaler.update()
            optimizer.zero_grad()
        if log_writer is not None:
            log_writer.add_scalar("loss", loss.item(), epoch * len(data_loader) + i)

class Trainer:
    def __init__(self):
        self.seen = 0

    def fit(self, net, opt, train_loader, accum_steps, loss_fn, logger):
        for i, (x, y) in enumerate(train_loader):
            (loss_fn(net(x), y) / accum_steps).backward()
            logger.info("batch %d", i)
            if (i + 1) % accum_steps == 0 or i + 1 == len(train_loader):
                opt.step()
                opt.zero_grad()

    @staticmethod
    def plain(model, optimizer, batches, k):
        from accum_lib.check.faults.loops import right
        right(model, optimizer, batches, k)

class Needs(Trainer):
    def __init__(self, folder): ...

trainer = Trainer()

def on_a_gpu(model, optimizer, batches, k):
    for x, y in batches:
        x = x.cuda()

def wants_more(model, optimizer, batches, k, tokenizer): ...
"""


@pytest.fixture
def checked(tmp_path, capsys, monkeypatch):
    file = tmp_path / "a_strangers.py"
    file.write_text(FILE)
    monkeypatch.syspath_prepend(tmp_path)

    def run(name: str) -> tuple[int, str]:
        status = main(["check", f"{file}:{name}"])
        said = capsys.readouterr()
        return status, said.out + said.err

    yield run
    sys.modules.pop("a_strangers", None)


def test_the_usual_engine_is_given_what_it_asks_for(checked) -> None:
    status, said = checked("engine")
    assert status == 1
    assert "* mean_of_means: " in said
    assert "* dropped_tail: " in said
    assert "no_division" not in said


@pytest.mark.parametrize("name", ["Trainer.fit", "trainer.fit"])
def test_a_method_is_a_loop(checked, name) -> None:
    status, said = checked(name)
    assert status == 1
    assert "* mean_of_means: " in said
    assert "dropped_tail" not in said


def test_a_right_one_is_equal(checked) -> None:
    assert checked("Trainer.plain")[0] == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Needs.fit", "Needs.fit needs an object, and Needs() can't be made without arguments"),
        ("Trainer.fti", "Trainer.fti: there is no 'fti'"),
        ("on_a_gpu", "let it take a parameter device"),
        ("wants_more", "your_loop(..., tokenizer=...)"),
    ],
)
def test_what_cannot_be_called_is_a_sentence_with_the_fix(checked, name, message) -> None:
    status, said = checked(name)
    assert status == 2
    assert message in said
    assert "Traceback" not in said


# --- Notebooks, scripts, and loops that end the process


def cell(source: str, kind: str = "code") -> dict:
    return {"cell_type": kind, "source": source.splitlines(keepends=True), "metadata": {}, "outputs": []}


CELLS = [
    cell("# My training", "markdown"),
    cell("%matplotlib inline\n!pip install something\nimport torch\nfrom dataclasses import dataclass"),
    cell("K = 3\nNAMES = {'a': 1}"),
    cell("data = load_what_is_not_here()"),  # sets and imports nothing plain: not run
    cell("@dataclass\nclass Settings:\n    rate: float = 0.1\n\ndef loss_of(model, x, y):\n"
         "    return torch.nn.functional.cross_entropy(model(x), y)"),
    cell("def train(model, optimizer, batches, k):\n    for i, (x, y) in enumerate(batches):\n"
         "        (loss_of(model, x, y) / k).backward()\n        if (i + 1) % k == 0:\n"
         "            optimizer.step()\n            optimizer.zero_grad()"),
    cell("for epoch in range(3):\n    train(model, optimizer, loader, K)"),
]  # fmt: skip


@pytest.fixture
def in_notebook(tmp_path, capsys):
    def run(cells: list[dict], name: str = "train") -> tuple[int, str]:
        file = tmp_path / "my_notes.ipynb"
        file.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
        status = main(["check", f"{file}:{name}"])
        said = capsys.readouterr()
        return status, said.out + said.err

    yield run
    sys.modules.pop("my_notes_ipynb", None)


def test_a_function_of_a_notebook_is_checked_and_placed_by_cell_and_line(in_notebook) -> None:
    status, said = in_notebook(CELLS)
    assert status == 1
    assert "* mean_of_means: " in said
    assert "my_notes.ipynb, cell 5:4: if (i + 1) % k == 0:\n" in said
    assert "right: if (i + 1) % k == 0 or i + 1 == len(batches):" in said


def test_a_cell_that_fails_is_named_if_the_function_is_missing_for_it(in_notebook) -> None:
    broken = cell("import not_installed_anywhere\ndef train(): pass")
    status, said = in_notebook([*CELLS[:5], broken])
    assert status == 2
    assert "has no 'train': code cell 5 fails: ModuleNotFoundError: No module named 'not_inst" in said
    assert in_notebook([*CELLS, cell("import not_installed_anywhere")])[0] == 1, "it is not needed"
    leaves = cell("import sys\nsys.exit(3)\ndef train(): pass")
    assert "code cell 1 fails: ValueError: code cell 1 of " in in_notebook([leaves])[1]


def test_what_is_no_notebook_is_told(in_notebook, tmp_path, capsys) -> None:
    assert "has no 'fit'; it has loss_of, train" in in_notebook(CELLS, "fit")[1].replace("Settings, ", "")
    (tmp_path / "old.ipynb").write_text("{}")
    assert main(["check", f"{tmp_path}/old.ipynb:train"]) == 2
    assert "is no notebook of format 4" in capsys.readouterr().err
    assert main(["check", f"{tmp_path}/none.ipynb:train"]) == 2
    assert "there is no file" in capsys.readouterr().err


SCRIPT = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--accum", type=int, default=3)
ADD
args = parser.parse_args()
def train(model, optimizer, batches):
    from accum_lib.check.faults.loops import right
    right(model, optimizer, batches, args.accum)
"""


@pytest.mark.parametrize(("more", "status"), [("", 0), ("parser.add_argument('data')", 2)])
def test_a_script_that_parses_arguments_when_imported(more, status, tmp_path, capsys, request) -> None:
    file = tmp_path / f"parses_{status}.py"
    file.write_text(SCRIPT.replace("ADD", more))
    assert main(["check", f"{file}:train"]) == (status or 0)
    said = capsys.readouterr()
    if status:
        assert "the usage text above is its own, not this command's" in said.err
        assert "under if __name__ == '__main__'" in said.err
    else:
        assert "K is fixed in the loop" in said.out


def test_a_loop_that_ends_the_process_on_nan_leaves_what_was_finished(tmp_path, capsys) -> None:
    file = tmp_path / "ends_on_nan.py"
    file.write_text(
        "import math, sys\n"
        "from torch.nn.functional import cross_entropy\n"
        "def train(model, optimizer, loader, k):\n"
        "    for i, (x, y) in enumerate(loader):\n"
        "        loss = cross_entropy(model(x), y) / k\n"
        "        if not math.isfinite(loss.item()):\n"
        "            print('Loss is {}, stopping training'.format(loss.item()))\n"
        "            sys.exit(1)\n"
        "        loss.backward()\n"
        "        if (i + 1) % k == 0 or i + 1 == len(loader):\n"
        "            optimizer.step(); optimizer.zero_grad()\n"
    )
    assert main(["check", f"{file}:train"]) == 1
    said = capsys.readouterr().out
    assert said.count("NOT EQUAL") == 4
    assert "* ended_itself: the loop ended the process itself (SystemExit with 1), after 0 of 4" in said
    assert "ends_on_nan.py:8: sys.exit(1)" in said


# --- Two networks by turns

GAN = """
import torch
from torch import nn
from torch.nn import functional as F
from accum_lib.check import Case

def loss_of(logits, target):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target), reduction="sum")

def train(netG, netD, optimizerG, optimizerD, dataloader, k):
    raise AssertionError("never called")

def by_turns(model, batches, k):
    first = torch.optim.SGD(model[0].parameters(), lr=0.1)
    second = torch.optim.SGD(list(model[2].parameters()) + list(model[3].parameters()), lr=0.1)
    for i, (x, y) in enumerate(batches):
        (F.cross_entropy(model(x), y) / k).backward()
        if (i + 1) % k == 0 or i + 1 == len(batches):
            chosen = first if i % 2 else second
            chosen.step()
            model.zero_grad()

def together(model, batches, k):
    from accum_lib.check.faults.loops import right
    first = torch.optim.SGD(model[0].parameters(), lr=0.1)
    second = torch.optim.SGD(list(model[2].parameters()) + list(model[3].parameters()), lr=0.1)
    class Both:
        def step(self): first.step(); second.step()
        def zero_grad(self): model.zero_grad()
    right(model, Both(), batches, k)

torch.manual_seed(0)
generator = nn.Linear(3, 4).double().requires_grad_(False)

def discriminator_half(model, optimizer, batches, accumulation_steps, whole=True):
    for start in range(0, len(batches), accumulation_steps):
        window = batches[start : start + accumulation_steps]
        total = sum(2 * len(real) for real, noise in window)
        for real, noise in window:
            loss = loss_of(model(real), 1.0) + loss_of(model(generator(noise)), 0.0)
            (loss / (total if whole else 2 * len(real) * len(window))).backward()
        optimizer.step()
        optimizer.zero_grad()

def wrong_half(model, optimizer, batches, accumulation_steps):
    discriminator_half(model, optimizer, batches, accumulation_steps, whole=False)

def make_discriminator():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))

def case():
    torch.manual_seed(2)
    batches = [(torch.randn(n, 4), torch.randn(n, 3)) for n in (5, 2, 4, 1, 3)]
    def loss_sum(model, batch):
        return loss_of(model(batch[0]), 1.0) + loss_of(model(generator(batch[1])), 0.0)
    return Case("the discriminator", make_discriminator, batches, 2, loss_sum, lambda b: 2 * len(b[0]))
"""


@pytest.fixture
def gan(tmp_path, capsys):
    file = tmp_path / "adversaries.py"
    file.write_text(GAN)

    def run(name: str, *more: str) -> tuple[int, str]:
        status = main(["check", f"{file}:{name}", *more])
        said = capsys.readouterr()
        return status, said.out + said.err

    run.file = file
    yield run
    sys.modules.pop("adversaries", None)


def test_two_optimizers_are_refused_with_what_to_check(gan) -> None:
    status, said = gan("train")
    assert status == 2
    assert said.startswith("error: the loop has two optimizers that take turns (optimizerG, optimizerD)")
    assert "half(model, optimizer, batches, accumulation_steps)" in said
    assert said.count("\n") == 1
    status, said = gan("by_turns")
    assert status == 1
    assert said.count("* two_optimizers: the loop has two optimizers that take turns (") == 1
    assert "unexplained" not in said


@pytest.mark.parametrize("names", ["opt_g, opt_d", "g_optim, d_optim", "optimizer, optimizer_D", "optG, optD",
                                   "actor_optimizer, critic_optimizer", "optim1, optim2"])  # fmt: skip
def test_two_optimizers_are_known_by_their_names(names) -> None:
    loop = eval(f"lambda a, b, {names}, loader, k: None")
    with pytest.raises(TypeError, match=rf"take turns \({names}\)"):
        wishes_of(loop)


@pytest.mark.parametrize("name", ["optimizer_config", "options", "optimizer_idx"])
def test_what_belongs_to_an_optimizer_is_none(name) -> None:
    with pytest.raises(TypeError, match=f"the loop asks for '{name}'"):
        wishes_of(eval(f"lambda model, optimizer, loader, k, {name}: None"))


def test_two_that_step_together_are_one(gan) -> None:
    assert gan("together")[0] == 0


def test_each_half_can_be_checked_as_the_sentence_says(gan) -> None:
    case = ["--case", f"{gan.file}:case"]
    assert gan("discriminator_half", *case)[0] == 0
    status, said = gan("wrong_half", *case)
    assert status == 1
    assert "* mean_of_means: " in said


FIXED = """
import torch

def fit(model, loader, optimizer, criterion):
    for step, (x, y) in enumerate(loader, 1):
        (criterion(model(x).flatten(0, -2), y.flatten()) / 4).backward()
        if step % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
"""


def test_a_k_that_is_fixed_in_the_loop_is_that_of_every_case(tmp_path, capsys) -> None:
    """With another K the second case would have windows that are cut at the wrong places."""
    file = tmp_path / "with_four.py"
    file.write_text(FIXED)
    assert main(["check", f"{file}:fit", "--json"]) == 1
    reports = json.loads(capsys.readouterr().out)["reports"]
    assert {report["accumulation_steps"] for report in reports} == {4}
    codes = {fault["code"] for report in reports for fault in report["faults"]}
    assert codes == {"mean_of_means", "leaked_tail"}


def test_a_rate_that_the_loop_sets_by_progress_is_no_scheduler_that_ticks_too_often() -> None:
    case = standard_cases()[0]

    def run(model, optimizer, loader, k, after_each_pass):
        for window in windows(loader, k):
            total = sum(case.count(batch) for batch in window)
            for batch in window:
                (case.loss_sum(model, batch) / total).backward()
                after_each_pass()
            optimizer.step()
            optimizer.zero_grad()

    def by_progress(model, optimizer, loader, k):
        seen = itertools.count()

        def set_rate():
            for group in optimizer.param_groups:
                group["lr"] = 0.05 * 0.9 ** (next(seen) / len(loader))

        run(model, optimizer, loader, k, set_rate)

    def ticks(model, optimizer, loader, k):
        run(model, optimizer, loader, k, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9).step)

    assert list(check_case(by_progress, case).codes) == []
    assert list(check_case(ticks, case).codes) == ["scheduler_per_micro_batch"]
