"""What the processes of the tests of ``accum_lib.exact`` do: three frameworks on uneven, ragged shards."""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from accum_lib.accumulate import windows
from accum_lib.check.frameworks import cases
from accum_lib.check.frameworks.transformers_trainer import trainer_loop
from accum_lib.check.strangers import quietly
from accum_lib.distributed import process_group
from accum_lib.exact import WindowTraining, accelerate_updates, evened, trainer_loss
from accum_lib.vectors import gradient_of

STEPS = (2, 3, 8)
CUT = 5  # micro-batches of process 0; the other three are process 1's


def trainer_is_known() -> bool:
    """Whether ``trainer_loss`` takes a causal model with the installed Transformers."""
    try:
        trainer_loss(cases.make_model("GPT2LMHeadModel"))
    except ImportError:
        return False
    return True


def loss_sum(model, batch):
    """Of next tokens, in the dtype of the model: the head's own loss is computed in float32."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), reduction="sum")


def batches() -> list:
    return cases.causal_lm().case.batches


def made() -> tuple[nn.Module, torch.optim.Optimizer, list]:
    """The same model in float64 each time, SGD, and the gradients with which it steps."""
    model = cases.make_model("GPT2LMHeadModel").double()
    optimizer, seen = torch.optim.SGD(model.parameters(), lr=0.1), []
    optimizer.register_step_pre_hook(lambda *_: seen.append(gradient_of(model)))
    return model, optimizer, seen


def by_trainer(k: int, fill=evened) -> list:
    model, optimizer, seen = made()
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1)
    trainer_loop(trainer_loss)(model, optimizer, fill(batches()[:7], 2), k, 1, schedule)
    return seen


def by_accelerate(k: int) -> list:
    from accelerate import Accelerator
    from accelerate.utils import DataLoaderConfiguration

    model, optimizer, seen = made()
    uneven = DataLoaderConfiguration(even_batches=False)
    accelerator = Accelerator(cpu=True, dataloader_config=uneven)
    model, optimizer = accelerator.prepare(model, optimizer)
    list(accelerate_updates(accelerator, model, optimizer, shard(), k, loss_sum, cases.count_next_tokens))
    return seen


def by_lightning(k: int) -> list:
    import lightning
    from torch.utils.data import DataLoader

    made_model, optimizer, seen = made()

    class Module(WindowTraining, lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = made_model

        def forward(self, **batch):
            return self.model(**batch)

        def loss_sum(self, module, batch):
            return loss_sum(module, batch)

        def count(self, batch):
            return cases.count_next_tokens(batch)

        def configure_optimizers(self):
            return optimizer

    mine = list(windows(shard(), k))
    mine += [[]] * (-(-CUT // k) - len(mine))  # Lightning needs as many windows everywhere; some are empty
    with quietly():
        trainer = lightning.Trainer(
            accelerator="cpu", devices=2, strategy="ddp", precision="64-true", max_epochs=1, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            use_distributed_sampler=False,
        )  # fmt: skip
        trainer.fit(Module(), DataLoader(mine, batch_size=None))
    return seen


def shard() -> list:
    return batches()[:CUT] if dist.get_rank() == 0 else batches()[CUT:]


def all_of_them() -> dict:
    """Each framework's gradients, by its name and K; and those of a Trainer that repeats examples."""
    join = process_group(60, "cpu")
    join.__enter__()  # never left: Lightning's fit, which comes last, ends the group
    runs = {"trainer": by_trainer, "accelerate": by_accelerate, "lightning": by_lightning}
    found = {}
    if trainer_is_known():
        found = {("repeats", k): by_trainer(k, lambda given, _: given) for k in STEPS}
    else:
        del runs["trainer"]
    return found | {(name, k): run(k) for name, run in runs.items() for k in STEPS}
