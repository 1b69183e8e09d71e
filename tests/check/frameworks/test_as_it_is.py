"""``accum check --trainer``: trainers as people set them up, and what is said of them."""

import json
import sys

import pytest

from accum_lib.__main__ import main
from accum_lib.check import check_case
from accum_lib.check.frameworks import as_it_is, transformers_trainer

FILE = """\
import torch
from torch.nn import functional as F

def make_trainer(**more):
    import transformers
    torch.manual_seed(0)
    config = transformers.RobertaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=34, type_vocab_size=1, pad_token_id=1, num_labels=3)  # with its dropout
    model = transformers.RobertaForTokenClassification(config)
    data = [{"input_ids": torch.randint(4, 40, (n,)), "labels": torch.randint(3, (n,))}
            for n in (5, 9, 3, 7, 4, 8, 6, 5, 3, 9, 4, 7, 5, 6)]
    def collate(items):
        pad = torch.nn.utils.rnn.pad_sequence
        ids = pad([i["input_ids"] for i in items], batch_first=True, padding_value=1)
        labels = pad([i["labels"] for i in items], batch_first=True, padding_value=-100)
        return {"input_ids": ids, "attention_mask": (ids != 1).long(), "labels": labels}
    arguments = transformers.TrainingArguments(
        output_dir=OUTPUT, per_device_train_batch_size=2, gradient_accumulation_steps=3, num_train_epochs=5,
        use_cpu=True, report_to=[], logging_steps=1, learning_rate=1e-3)
    return transformers.Trainer(
        model=model, args=arguments, train_dataset=data, data_collator=collate, **more)

def over_the_window(outputs, labels, num_items_in_batch):
    logits = outputs.logits.flatten(0, 1)
    return F.cross_entropy(logits, labels.flatten(), reduction="sum") / num_items_in_batch

def make_right_trainer():
    return make_trainer(compute_loss_func=over_the_window)

def make_pair(size=4):
    import lightning
    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.net = torch.nn.Sequential(
                torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(8, 3))
        def training_step(self, batch, index):
            x, y = batch
            loss = F.cross_entropy(self.net(x), y)
            self.log("loss", loss)
            return loss
        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=1e-3)
        def train_dataloader(self):
            data = torch.utils.data.TensorDataset(torch.randn(20, 6), torch.randint(3, (20,)))
            return torch.utils.data.DataLoader(data, batch_size=size, shuffle=True)
    trainer = lightning.Trainer(max_epochs=7, accumulate_grad_batches=2, accelerator="cpu", devices=1,
                                gradient_clip_val=1.0)
    return Module(), trainer

def make_even_pair():
    return make_pair(size=5)  # four micro-batches: no short window

def make_manual():
    module, trainer = make_pair()
    module.automatic_optimization = False
    return module, trainer

def train(accelerator, model, optimizer, train_dataloader, lr_scheduler):
    model, optimizer, train_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, lr_scheduler)
    for x, y in train_dataloader:
        with accelerator.accumulate(model):
            accelerator.backward(F.cross_entropy(model(x), y))
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()

def make_loop():
    return train

def make_nothing():
    return 3
"""


@pytest.fixture
def checked(tmp_path, capsys, monkeypatch):
    file = tmp_path / "sets_up.py"
    file.write_text(FILE.replace("OUTPUT", repr(str(tmp_path / "runs"))))
    monkeypatch.chdir(tmp_path)

    def run(name: str) -> tuple[int, dict]:
        status = main(["check", "--trainer", f"{file}:{name}", "--json"])
        return status, json.loads(capsys.readouterr().out)

    yield run
    assert {path.name for path in tmp_path.iterdir()} <= {"sets_up.py", "runs", "__pycache__"}, (
        "nothing is left"
    )
    sys.modules.pop("sets_up", None)


def codes(data: dict) -> list[str]:
    return [fault["code"] for fault in data["reports"][0]["faults"]]


def test_a_transformers_trainer_is_named_as_the_framework_is_on_the_same_case(checked) -> None:
    """With its own model, data, collator, optimizer and clipping."""
    status, data = checked("make_trainer")
    (report,) = data["reports"]
    assert report["case"] == "its own model and first 7 micro-batches, without dropout"
    assert (report["accumulation_steps"], report["updates_due"]) == (3, 6)
    _loop, case = as_it_is.loop_and_case(sys.modules["sets_up"].make_trainer)
    assert case is not None
    assert case.max_grad_norm == 1.0
    framework = check_case(transformers_trainer.trainer_loop(), case)
    assert set(codes(data)) == set(framework.codes) - {"not_clipped"}, "that loop sets no clipping"
    assert status == bool(codes(data))


def test_a_trainer_whose_loss_knows_the_window_is_equal(checked) -> None:
    status, data = checked("make_right_trainer")
    assert status == 0, data


def test_a_lightning_module_with_its_trainer(checked) -> None:
    status, data = checked("make_pair")
    assert (status, codes(data)) == (1, ["tail_divided_by_k"])
    status, data = checked("make_even_pair")
    assert status == 0, data


def test_an_accelerate_loop_gets_an_accelerator_and_a_loader(checked) -> None:
    status, data = checked("make_loop")
    assert (status, codes(data)) == (1, ["mean_of_means", "tail_divided_by_k"])
    assert data["reports"][0]["updates_made"] == 6, "the loader's end is an update"
    assert data["reports"][0]["faults"][0]["source"] == "accelerator.backward(F.cross_entropy(model(x), y))"


@pytest.mark.parametrize(
    ("name", "message"),
    [("make_nothing", "or a function, the loop; it returned 3"), ("make_manual", "steps by itself")],
)
def test_what_is_no_trainer_is_told(checked, name, message) -> None:
    status, data = checked(name)
    assert status == 2
    assert message in data["error"]


def test_a_loop_or_a_trainer_is_needed(capsys) -> None:
    assert main(["check"]) == 2
    assert "or a trainer, as --trainer train.py:make_trainer" in capsys.readouterr().err
