"""``python -m accum_lib train``: fine-tune RoBERTa, or another encoder, for real."""

import argparse
import math
import os
import random
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accum_lib.cli import interrupts
from accum_lib.cli.train_arguments import add_arguments
from accum_lib.words import STANDARD_ERROR, _, printable

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from accum_lib.training.records import Training
    from accum_lib.training.settings import TrainingSettings
    from accum_lib.training.trainer import Run

DESCRIPTION = """\
Trains with exact gradient accumulation: every update is that of one big batch of B = M K examples, whatever
M and K are. With --output alone it works offline: an untrained tiny RoBERTa learns to tell
docstrings of four packages apart.

  python -m accum_lib train --output runs/first
  python -m accum_lib train --output runs/first --resume          after a crash
  torchrun --nproc-per-node 2 -m accum_lib train --output runs/first       in two processes
  python -m accum_lib train --output runs/second --dry-run --model base -M 4 -B 32
  python -m accum_lib train --output runs/third --model FacebookAI/roberta-base --data mine.csv
"""
RATES = {"tiny": 1e-3, "base": 1e-4, "large": 1e-4}  # untrained models learn from nothing
MAX_TOKENS = 128
MODEL = "model"  # what the trained model is called in the output folder
MANY_CUT = 0.05  # of the texts: fewer are reported by --dry-run alone
FINE_TUNING_RATE = 2e-5  # for checkpoints: Liu et al. 2019 (arXiv 1907.11692), table 10


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "train", help="fine-tune RoBERTa for real", description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train, or print the plan; 0 if it went well, 2 if memory does not suffice, 130 if interrupted."""
    try:
        with _plain_warnings(), interrupts.unwinding(lambda: _how_to_go_on(arguments)):
            return _joined_run(arguments)
    except KeyboardInterrupt:
        interrupts.say(_how_to_go_on(arguments))
        return interrupts.STATUS
    except RuntimeError as error:
        if arguments.compile:
            _say_if_not_compiled(error)
        raise


def _joined_run(arguments: argparse.Namespace) -> int:
    from accum_lib.training.parallel import joined

    with joined(arguments.device):
        return _run(arguments)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Without the line of the library's source that gave them; of several processes, the first says them."""

    def say(message: Warning | str, *_more: Any, **__: Any) -> None:
        if os.environ.get("RANK", "0") == "0":  # torchrun's; not all are in the group already
            print(f"warning: {printable(str(message), lines=True)}", file=STANDARD_ERROR)

    with warnings.catch_warnings():
        warnings.showwarning = say
        yield


def _how_to_go_on(arguments: argparse.Namespace) -> str:
    """Said at any moment, an import included: so without one."""
    if any((arguments.output / "checkpoints").glob("window-*")):
        return _("interrupted: the same command with --resume goes on from the last checkpoint")
    return _("interrupted: nothing was saved yet, so the same command starts from scratch")


def _say_if_not_compiled(error: RuntimeError) -> None:
    from torch._dynamo.exc import TorchDynamoException

    if isinstance(error, TorchDynamoException):
        why = str(error).strip().splitlines()[0]
        raise ValueError(f"--compile does not work here, so leave it out: {why}") from error


def _run(arguments: argparse.Namespace) -> int:
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    settings = _settings(arguments)
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(_("--device cuda: PyTorch finds no GPU here; leave it out, or take cpu"))
    if not (arguments.resume or arguments.dry_run):
        _refuse_to_replace(arguments.output / MODEL)
    run = _load(arguments, settings, device)
    with _threads(run):
        if arguments.dry_run:
            return _dry_run(run)
        _guard(run)
        _warn(run, arguments.resume)
        return _train(run, arguments)


def _refuse_to_replace(folder: Path) -> None:
    """It would be found out only at the end, or what is there would be lost."""
    if folder.exists():
        raise ValueError(
            f"{folder} is there already, and the trained model would replace it: choose another --output "
            "folder, or move it away (--resume goes on with the run that wrote it)"
        )


def _threads(run: "Run") -> AbstractContextManager[None]:
    """Small models on one thread: on a busy machine, several would wait for one another most of the time."""
    from accum_lib.machine import one_thread
    from accum_lib.training.forecast import SMALL

    return one_thread() if run.device == "cpu" and run.loaded.parameters <= SMALL else nullcontext()


def _settings(arguments: argparse.Namespace) -> "TrainingSettings":
    from dataclasses import fields

    from accum_lib.training.data.batches import batch_sizes
    from accum_lib.training.settings import TrainingSettings

    m, k = batch_sizes(
        arguments.micro_batch_size, arguments.accumulation_steps, arguments.effective_batch_size
    )
    given = {f.name: getattr(arguments, f.name) for f in fields(TrainingSettings)}
    rate = arguments.learning_rate
    if rate is None:
        rate = RATES.get(arguments.model, FINE_TUNING_RATE)
    if not arguments.max_grad_norm >= 0:
        raise ValueError(
            _("--max-grad-norm must be 0 (no clipping) or more; got {norm}", norm=arguments.max_grad_norm)
        )
    clip = arguments.max_grad_norm or None
    derived = dict(micro_batch_size=m, accumulation_steps=k, learning_rate=rate, max_grad_norm=clip)
    return TrainingSettings(**{**given, **derived})


def _load(arguments: argparse.Namespace, settings: "TrainingSettings", device: str) -> "Run":
    """The run that the arguments ask for, with its model and data read."""
    from accum_lib.training.data.sources import load_data
    from accum_lib.training.data.tasks import TASKS
    from accum_lib.training.models import load_model
    from accum_lib.training.trainer import Run

    if arguments.max_held_out is not None and arguments.max_held_out < 1:
        raise ValueError(
            _(
                "{name} must be {least} or more; got {value}",
                name="--max-held-out",
                least=1,
                value=arguments.max_held_out,
            )
        )
    data = load_data(arguments.data, **_of_a_file(arguments))
    loaded = load_model(arguments.model, arguments.task, data, arguments.dropout, arguments.seed)
    given = arguments.max_tokens
    max_tokens = min(MAX_TOKENS, loaded.max_tokens) if given is None else given
    if not 5 <= max_tokens <= loaded.max_tokens:
        raise ValueError(
            _(
                "--max-tokens must be from 5 to {most}, which is what {model} reads; got {tokens}",
                most=loaded.max_tokens,
                model=loaded.name,
                tokens=max_tokens,
            )
        )
    make = TASKS[arguments.task]
    train, held_out = (
        make(part, loaded.tokenizer, max_tokens, arguments.seed)
        for part in (data.train, _some(data.held_out, arguments.max_held_out))
    )
    # In English, whatever is spoken: a run may be resumed in another language.
    model = loaded.name if loaded.trained else f"RoBERTa ({arguments.model}, untrained)"
    facts = {"model": model, "dropout": arguments.dropout, "labels": list(data.labels)}
    return Run(loaded, data, train, held_out, settings, device, arguments.output, facts)


def _some(examples: Sequence[Any], number: int | None) -> Sequence[Any]:
    """At most ``number`` of them, or all: drawn, since a file may be sorted by class, and always the same."""
    if number is None or number >= len(examples):
        return examples
    drawn = random.Random(0).sample(range(len(examples)), number)
    return [examples[i] for i in sorted(drawn)]


def _of_a_file(arguments: argparse.Namespace) -> dict[str, Any]:
    """How a file is to be read; nothing where the data are no file."""
    from accum_lib.training.data.files import Columns
    from accum_lib.training.data.sources import is_file

    columns = Columns(arguments.text_column, arguments.pair_column, arguments.label_column)
    if not is_file(arguments.data):
        if columns != Columns() or arguments.held_out or arguments.labels:
            raise ValueError(
                f"columns, --labels and --held-out are of a file, and --data is {arguments.data}"
            )
        return {}
    labelled = arguments.task == "classification"
    if not labelled and columns.label != Columns.label:
        raise ValueError(
            f"--label-column {columns.label} is for classification, and --task is {arguments.task}: "
            "leave one of the two out"
        )
    if not labelled and arguments.labels:
        raise ValueError(f"--labels is for classification, and --task is {arguments.task}: leave one out")
    return {
        "columns": columns, "held_out": arguments.held_out, "labelled": labelled, "labels": arguments.labels
    }  # fmt: skip


def _dry_run(run: "Run") -> int:
    from accum_lib.training.forecast import explain_run, forecast, free_bytes, free_disk_bytes
    from accum_lib.training.parallel import rank_and_size

    if rank_and_size()[0] == 0:
        plan = forecast(run.loaded, run.train, run.held_out, run.settings, run.data.name, run.device)
        said = explain_run(plan, free_bytes(run.device), free_disk_bytes(run.output))
        print(printable(said, lines=True))
    return 0


def _guard(run: "Run") -> None:
    """On the CPU the system kills what is too large, without a word: so ask the prediction first.

    For the prediction to hold, freed memory has to go back to the system.
    """
    from accum_lib.machine import give_freed_blocks_back
    from accum_lib.training.forecast import SMALL, refuse_what_does_not_fit

    if run.device == "cpu" and run.loaded.parameters > SMALL:
        give_freed_blocks_back()
        refuse_what_does_not_fit(run.loaded, run.train, run.settings)


def _warn(run: "Run", resumed: bool) -> None:
    """Of what goes wrong without an error, or hours later."""
    from accum_lib.training.forecast import run_disk_bytes, too_little_disk

    train = run.train
    if train.shortened > MANY_CUT * len(train):
        warnings.warn(
            f"{train.shortened} of {len(train)} texts have more than {train.max_tokens} tokens, and lose "
            f"what is beyond: --max-tokens may be up to {run.loaded.max_tokens}",
            stacklevel=2,
        )
    needed = run_disk_bytes(run.loaded.model, run.settings, len(train))
    if not resumed and (said := too_little_disk(needed, run.output)):
        warnings.warn(said, stacklevel=2)


def _train(run: "Run", arguments: argparse.Namespace) -> int:
    from accum_lib.training.card import model_card
    from accum_lib.training.models import export
    from accum_lib.training.trainer import Trainer

    trainer = Trainer.of(run, show=not arguments.quiet, tensorboard=arguments.tensorboard)
    folder = run.output / MODEL
    run.loaded.tokenizer.model_max_length = run.train.max_tokens  # a pipeline cuts where training did

    def finish() -> None:
        export(run.loaded, folder, model_card(run, trainer.evaluations[-1], arguments.command))

    done = trainer.run(resume=arguments.resume, finish=finish)
    if not trainer.first:
        return 0
    print(_summary(run, done))
    print(f"The model is in {folder}; load it with --model {folder}, or from_pretrained.")
    return 0


def _noise(scale: float, interval: tuple[float, float], what: str) -> str:
    """The noise scale with its interval; in words where it has no upper end."""
    (low, high), start = interval, "Noise scale of the gradient over the last windows:"
    if math.isfinite(high) and math.isfinite(scale):
        return f"{start} {scale:.0f} {what} (95 % interval {low:.0f} to {high:.0f})."
    best = f"{scale:.0f} {what} at best guess, " if math.isfinite(scale) else ""
    return (
        f"{start} {best}95 % interval {low:.0f} {what} to infinity: the noise hides the mean gradient, which "
        "these windows do not tell from zero. More windows, or a larger B, would say more."
    )


def _summary(run: "Run", done: "Training") -> str:
    from accum_lib.training.card import by_class

    held_out = run.held_out
    lines = [f"{run.loaded.name} on {run.data.name}: {done.updates} updates, {done.seconds:.0f} s."]
    if done.evaluations:
        last = done.evaluations[-1]
        lines.append(f"Held out: loss {last.loss:.3f}, accuracy {last.accuracy:.1%} of {last.count}.")
    if held_out.name == "classification":
        if done.evaluations:
            lines.append(f"Macro-F1 {last.macro_f1:.3f}, the mean over the classes:")
            lines += [f"  {line}" for line in by_class(run.data.labels, last)]
        most = max(Counter(example.label for example in held_out.examples).values())
        lines.append(f"The most frequent label alone would be right in {most / len(held_out):.1%}.")
    if done.noise_scale is not None:
        what = "examples" if held_out.name == "classification" else "hidden tokens"
        lines.append(_noise(done.noise_scale, done.noise_interval or (0.0, math.inf), what))
    if done.skipped_windows:
        lines.append(f"{done.skipped_windows} windows were left out: their loss or gradient was not finite.")
    return "\n".join(map(printable, lines))
