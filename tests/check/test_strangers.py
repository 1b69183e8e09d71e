"""Loops with the signatures that people have, from files as a stranger would write them."""

import pytest

from accum_lib.__main__ import main

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
    import sys

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
