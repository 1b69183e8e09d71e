"""``python -m accum_lib plan``: which M and K fit this model on this card, and does accumulation help?"""

import argparse
import gc
import os
from typing import Any

from accum_lib.cli.imports import only_for_traces
from accum_lib.cli.loading import load_function, reported_if_it_exits

DESCRIPTION = """\
Predicts the memory of an update from a trace (nothing is allocated) and chooses the smallest number of
accumulation steps that fits the card with a margin, in float32 and in 16 bits, with and without activation
checkpointing. A model of Transformers is known by its configuration alone: a folder, a config.json, or a name
on the hub, of which nothing else is downloaded. With --model MODULE:FUNCTION it plans for a model of your
own: a function that returns an accum_lib Workload (see accum_lib/memory/workloads.py, of_model).
"""


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "plan", help="choose M and K for a model and a GPU", description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--model",
        required=True,
        help="roberta-large, gpt2, ...; a folder, a config.json, a hub's name; or MODULE:FUNCTION",
    )
    parser.add_argument("--gpu", required=True, help="a card (T4), a size (16GB, 15.5GiB), or 'here'")
    parser.add_argument("--batch", required=True, type=int, help="B: examples in one update")
    parser.add_argument("--tokens", type=int, default=128, help="T: the sequences' length (128)")
    parser.add_argument("--head", help="classification, mlm, causal or seq2seq; the model's usual one")
    parser.add_argument("--precision", help="only fp32, bf16 or fp16; fp32 and 16 bits are tried by default")
    parser.add_argument("--optimizer", default="adamw", help="adamw, sgd, momentum or adafactor")
    parser.add_argument("--implementation", default="foreach", help="foreach, for-loop or fused")
    parser.add_argument("--train", default="all", help="all of the model, lora, or the head alone (all)")
    parser.add_argument("--rank", type=int, default=16, help="LoRA's (16)")
    parser.add_argument("--weights", default="fp32", help="fp32, or bf16 for the model itself (fp32)")
    parser.add_argument(
        "--chunked-loss", action="store_true", help="a causal model's loss from some tokens' logits at a time"
    )
    parser.add_argument(
        "--cards", type=int, default=1, help="such GPUs, over which FSDP2 shards the model (1)"
    )
    parser.add_argument("--margin", type=float, help="part of the memory to leave free (0.1)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the plan; 0 if something fits, 1 if nothing does."""
    gc.disable()  # to look for garbage among so many objects, of imports above all, took a seventh of it
    try:
        return _run(arguments)
    finally:
        if arguments.own_process:
            gc.freeze()  # nor at the end of the process
        gc.enable()


def _run(arguments: argparse.Namespace) -> int:
    if arguments.own_process and _is_described(arguments.model):
        only_for_traces()
    from accum_lib.memory.plan_text import explain_plan
    from accum_lib.memory.planner import MARGIN, plan

    found = plan(
        _workload(arguments),
        arguments.gpu,
        arguments.batch,
        _settings(arguments),
        MARGIN if arguments.margin is None else arguments.margin,
        arguments.cards,
    )
    print(explain_plan(found))
    return 0 if found.best else 1


def _is_described(model: str) -> bool:
    """Whether it is a model of Transformers, and no function of somebody's own."""
    return ":" not in model or os.path.exists(model)


def _workload(arguments: argparse.Namespace) -> Any:
    from accum_lib.memory.pretrained import described
    from accum_lib.memory.workloads import Workload

    if _is_described(arguments.model):
        return described(arguments.model, arguments.head, arguments.tokens)
    make = load_function(arguments.model)
    try:
        with reported_if_it_exits(arguments.model):
            workload = make()
    except Exception as error:  # whatever a reader's own function raises
        raise ValueError(f"{arguments.model} failed with {type(error).__name__}: {error}") from error
    if not isinstance(workload, Workload):
        raise TypeError(f"{arguments.model} must return a Workload; it returned {type(workload).__name__}")
    return workload


def _settings(arguments: argparse.Namespace) -> Any:
    """What was asked for; None if everything is left to the planner."""
    from accum_lib.memory.settings import Settings

    asked = Settings(
        optimizer=arguments.optimizer, implementation=arguments.implementation, trained=arguments.train,
        rank=arguments.rank, weights=arguments.weights, chunked=arguments.chunked_loss,
        precision=arguments.precision or ("fp32" if arguments.weights == "fp32" else "bf16"),
    )  # fmt: skip
    return None if arguments.precision is None and asked == Settings() else asked
