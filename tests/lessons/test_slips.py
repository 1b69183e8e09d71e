"""No right answer is refused and no wrong one accepted: slips in every solution, judged apart from the check.

A slip in a formula is right if its results are the solution's on inputs drawn at random. A slip in a loop is
right if its parameters are one big batch's on data drawn at random, update by update in float64.
"""

import ast
import copy
import math
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import solutions
import torch
from course import CHECKS
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from accum_lib.machine import one_thread
from web.exercises import Solved, solved_in_page
from web.variants import variants

DRAWN = random.Random(5)
FEW = 12  # slips of each exercise in the default run
HOW_MANY = [False, pytest.param(True, marks=pytest.mark.slow)]
INPUTS = 300


def _number(low: float, high: float) -> float:
    return DRAWN.uniform(low, high)


def _counts(fewest: int = 1) -> list[int]:
    return [DRAWN.randint(1, 60) for _ in range(DRAWN.randint(fewest, 9))]


def _place(fewest: int = 1) -> tuple[int, list[int]]:
    counts = _counts(fewest)
    return DRAWN.randrange(len(counts)), counts


def _sizes() -> tuple[int, int, int]:
    """Two batch sizes, the larger below N."""
    n = DRAWN.randint(8, 900)
    small = DRAWN.randint(1, n - 2)
    return small, DRAWN.randint(small + 1, n - 1), n


def _for_small_k() -> tuple[float, int, float, float]:
    """Noise, M, seconds of a pass and of an update for which K² is at most 12: there whole numbers matter."""
    noise, m, one = _number(1, 3000), DRAWN.randint(1, 64), _number(0.001, 0.5)
    return noise, m, one, _number(0.3, 12) * m * one / noise


whole = DRAWN.randint
ARGUMENTS: dict[str, Callable[[], tuple]] = {  # what each exercise may be asked
    "check_updates_per_epoch": lambda: (whole(1, 3000), whole(1, 64), whole(1, 16)),
    "check_weight": _place,
    "check_same_step": lambda: (_number(1e-4, 1), whole(1, 32)),
    "check_mean_of_means_weight": lambda: _place(2),
    "check_variance": lambda: (_number(0.1, 9), *_sizes()[1:]),
    "check_fall": _sizes,
    "check_noise_scale": lambda: (whole(1, 16), whole(2, 16), _number(2, 9), _number(1.2, 1.9)),
    "check_floor": lambda: (whole(1, 10**9),),
    "check_second_buffer": lambda: (whole(1, 10**9), whole(1, 16)),
    "check_steps": lambda: (whole(1, 5000), whole(1, 600)),
    "check_warmup_updates": lambda: (
        whole(1, 5000), whole(1, 64), whole(1, 16), whole(1, 9), DRAWN.choice([0.06, 0.1, 0.25, 0.5]),
    ),
    "check_momentum": lambda: (_number(0.01, 0.9), whole(1, 32)),
    "check_torch_mean": lambda: (_counts(),),
    "check_alignable": lambda: (whole(0, 12), [whole(1, 3) for _ in range(whole(1, 7))]),
    "check_share": lambda: (whole(1, 16), whole(1, 9999)),
    "check_bytes": lambda: (whole(1, 10**9), whole(1, 64), whole(1, 32), DRAWN.random() < 0.5),
    "check_enough": lambda: (_number(0.01, 3), _number(0.01, 9), DRAWN.choice([0.05, 0.1, 0.2, 0.5])),
    "check_work": lambda: (_number(1, 900), whole(1, 2000)),
    "check_choice": lambda: (float(whole(1, 3000)), whole(1, 3000), whole(1, 300)),
    "check_fastest_steps": _for_small_k,
    "check_epochs": lambda: (
        whole(1, 5000), whole(1, 64), whole(1, 32), _number(0.01, 2), _number(0.01, 2), _number(10, 1e5),
    ),
    "check_beta2": lambda: (_number(0.8, 0.9999), whole(1, 256), whole(1, 256)),
}  # fmt: skip
FORMULAS = {
    name: solved
    for path in sorted(solutions.ANSWERS.glob("*.py"))
    for name, solved in solved_in_page(path.stem).items()
}


def _time(arguments: tuple, steps: float) -> float:
    """Of a training with K accumulation steps, up to a factor: exercise 3 of notebook 09."""
    noise, m, one, update = arguments
    return (1 + noise / (m * steps)) * (steps * one + update)


def _close(given: Any, expected: Any) -> bool:
    if isinstance(expected, list | tuple):
        alike = isinstance(given, list | tuple) and len(given) == len(expected)
        return alike and all(map(_close, given, expected))
    return math.isclose(float(given), float(expected), rel_tol=1e-7, abs_tol=1e-15)


def _right_formula(name: str, answer: Callable[..., Any], solution: Callable[..., Any]) -> bool:
    for arguments in (ARGUMENTS[name]() for _ in range(INPUTS)):
        try:
            given = answer(*arguments)
            if name == "check_fastest_steps":  # asks for the K of least time, and takes one that is as good
                least = _time(arguments, solution(*arguments))
                if given != int(given) or given < 1 or _time(arguments, given) > 1.01 * least:
                    return False
            elif not _close(given, solution(*arguments)):
                return False
        except Exception:
            return False
    return True


def _compiled(source: str, name: str) -> Callable[..., Any]:
    names: dict[str, Any] = {}
    exec(source, names)
    return names[name]


def _judge_formulas(name: str, solved: Solved, sources: list[str]) -> int:
    """Compare the check with the judge; how many slips are right all the same."""
    right = 0
    for source in sources:
        answer = _compiled(source, solved.solution.__name__)
        truth = _right_formula(name, answer, solved.solution)
        assert CHECKS[name](answer).correct == truth, source
        right += truth
    return right


def test_every_formula_has_arguments_to_be_tried_on() -> None:
    assert sorted(FORMULAS) == sorted(ARGUMENTS)


@pytest.mark.parametrize("whole_run", HOW_MANY)
@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_slips_in_a_formula_are_judged_rightly(name, whole_run) -> None:
    """By default a few with one slip; in the whole run all of them, and some with two."""
    every = variants(FORMULAS[name].source)
    if whole_run:
        twice = {two for one in every for two in variants(one)} - {FORMULAS[name].source}
        tried = [*every, *random.Random(1).sample(sorted(twice), min(60, len(twice)))]
    else:
        tried = random.Random(0).sample(every, min(FEW, len(every)))
    right = _judge_formulas(name, FORMULAS[name], tried)
    print(f"{name}: {len(tried)} slips, {right} are right all the same")


def test_a_check_that_looks_at_one_input_only_would_be_noticed(monkeypatch) -> None:
    """Of the updates of an epoch, one that K and M divide: rounding does not show in it."""
    even = type("Said", (), {"correct": True})
    monkeypatch.setitem(CHECKS, "check_steps", lambda answer: even if answer(32, 8) == 4 else None)
    with pytest.raises((AssertionError, AttributeError)):
        test_slips_in_a_formula_are_judged_rightly("check_steps", False)


# --- Loops


def statement_slips(source: str, name: str) -> Iterator[str]:
    """The solution with one statement left out, or moved one place up, down, into or out of a block."""
    tree = ast.parse(source)
    function = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name)
    inside = {id(n) for n in ast.walk(function)}
    for index, block in enumerate(ast.walk(tree)):
        if id(block) not in inside or not isinstance(block, ast.FunctionDef | ast.For):
            continue
        for at in range(len(block.body)):
            for change in (_drop, _swap, _inwards, _outwards):
                changed = copy.deepcopy(tree)
                if change(list(ast.walk(changed))[index].body, at):
                    yield ast.unparse(ast.fix_missing_locations(changed))


def _drop(body: list[ast.stmt], at: int) -> bool:
    if len(body) < 2 or isinstance(body[at], ast.For):
        return False
    del body[at]
    return True


def _swap(body: list[ast.stmt], at: int) -> bool:
    if at + 1 == len(body):
        return False
    body[at], body[at + 1] = body[at + 1], body[at]
    return True


def _inwards(body: list[ast.stmt], at: int) -> bool:
    """Into the end of the loop just before."""
    if at == 0 or not isinstance(body[at - 1], ast.For) or isinstance(body[at], ast.Return):
        return False
    body[at - 1].body.append(body.pop(at))  # type: ignore[attr-defined]
    return True


def _outwards(body: list[ast.stmt], at: int) -> bool:
    """Out of a loop that has more than this statement, behind it."""
    if not isinstance(body[at], ast.For) or len(body[at].body) < 2:  # type: ignore[attr-defined]
        return False
    body.insert(at + 1, body[at].body.pop())  # type: ignore[attr-defined]
    return True


LOOPS = {  # by check: notebook, name of the solution, what is asked beside equal parameters
    "check_loop": ("02_equivalence", "my_train", ()),
    "check_plain_repair": ("05_when_it_breaks", "train", ()),
    "check_clipped_repair": ("05_when_it_breaks", "train_clipped", ("max_grad_norm",)),
    "check_logged_repair": ("05_when_it_breaks", "train_logged", ("scheduler", "log")),
}


class _Ticks:
    """A schedule that is multiplied by 0.9 at each tick, and notes the updates made before."""

    def __init__(self, optimizer: torch.optim.SGD) -> None:
        self.optimizer, self.ticks = optimizer, 0

    def step(self) -> None:
        self.ticks += 1
        self.optimizer.param_groups[0]["lr"] *= 0.9


def _data(seed: int, micro_batches: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    found = []
    for i in range(micro_batches):
        rows = int(torch.randint(2, 7, (), generator=generator))
        labels = torch.randint(3, (rows,), generator=generator)
        labels[: i % 3 if i % 3 < rows else 0] = -100
        found.append((torch.randn(rows, 4, generator=generator, dtype=torch.float64), labels))
    return found


def _model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(4, 3).double()


def _by_hand(
    data: list[tuple[Tensor, Tensor]], steps: int, norm: float, falling: bool
) -> tuple[list[Tensor], list[float]]:
    """Two epochs of one big batch for each window, in plain arithmetic; the losses of the second."""
    model, rate, losses = _model(), 0.1, []
    for epoch in range(2):
        for start in range(0, len(data), steps):
            inputs, labels = (torch.cat(parts) for parts in zip(*data[start : start + steps], strict=True))
            loss = cross_entropy(model(inputs), labels)
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            length = math.sqrt(sum(float(g.square().sum()) for g in gradients))
            with torch.no_grad():
                for p, g in zip(model.parameters(), gradients, strict=True):
                    p -= rate * g * min(1.0, norm / (length + 1e-6))  # as PyTorch clips
            rate *= 0.9 if falling else 1.0
            losses += [loss.item()] if epoch else []
    return [p.detach() for p in model.parameters()], losses


def _right_loop(loop: Callable[..., Any], asked: tuple[str, ...]) -> bool:
    for seed, (count, steps, norm) in enumerate([(5, 2, 0.2), (7, 3, 1e9), (4, 4, 0.05), (2, 5, 0.3)]):
        norm = norm if "max_grad_norm" in asked else math.inf
        data, model = _data(seed, count), _model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        schedule = _Ticks(optimizer)
        more = {"max_grad_norm": norm, "scheduler": schedule}
        offers = {name: value for name, value in more.items() if name in asked}
        try:
            logs = [loop(model, optimizer, list(data), steps, **offers) for _ in range(2)]
        except Exception:
            return False
        expected, losses = _by_hand(data, steps, norm, "scheduler" in asked)
        if not all(
            torch.allclose(p, e, rtol=1e-9, atol=1e-12)
            for p, e in zip(model.parameters(), expected, strict=True)
        ):
            return False
        if "log" in asked and (logs[1] is None or logs[1] != pytest.approx(losses, rel=1e-9)):
            return False
    return True


def _judge_loops(check: str, sources: list[str]) -> int:
    _, name, asked = LOOPS[check]
    right = 0
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for source in sources:
            loop = _compiled(source, name)
            truth = _right_loop(loop, asked)
            assert CHECKS[check](loop).correct == truth, source
            right += truth
    return right


def _slips(check: str) -> list[str]:
    stem, name, _ = LOOPS[check]
    source = (solutions.ANSWERS / f"{stem}.py").read_text(encoding="utf-8")
    return list(dict.fromkeys(statement_slips(source, name)))


def test_the_judge_takes_the_solutions_and_not_the_blanks() -> None:
    for stem, name, asked in LOOPS.values():
        source = (solutions.ANSWERS / f"{stem}.py").read_text(encoding="utf-8")
        assert _right_loop(_compiled(source, name), asked)
        assert not _right_loop(lambda *_, **__: None, asked)


@pytest.mark.parametrize("whole_run", HOW_MANY)
@pytest.mark.parametrize("check", sorted(LOOPS))
def test_slips_in_a_loop_are_judged_rightly(check, whole_run) -> None:
    every = _slips(check)
    tried = every if whole_run else random.Random(0).sample(every, 4)
    print(f"{check}: {len(tried)} slips, {_judge_loops(check, tried)} are right all the same")
