"""One head: its gradient with K = 4 through the real Trainer, beside that of one big batch."""

import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from accum_lib.check.frameworks.heads.inputs import ROWS, Rows, as_dtype, rows_for
from accum_lib.check.frameworks.heads.tiny import tiny_model
from accum_lib.check.frameworks.transformers_trainer import trainer_loop
from accum_lib.exact import trainer_loss

K = 4
NEAR = 1e-5  # Transformers computes many losses in float32, whatever the model's dtype
EXACT, K_TIMES, MEANS = "exact", "K times too large", "mean of means"
K_MEANS, DENOMINATOR = "K times a mean of means", "other denominator"
RANDOM, OTHER = "not deterministic", "other"
COUPLED = "no weights of micro-batches are right: several denominators, or rows that depend on each other"


@dataclass(frozen=True)
class HeadRow:
    """What was seen of one class.

    Attributes:
        head, model_type: the class, and the folder of its model.
        diagnosis: one of the constants above; "" if it was not measured.
        factor: the K = 4 gradient along the true one, in units of it; 1 is right.
        one: the same of K = 1.
        error: relative distance of the K = 4 gradient from the true one.
        mended: the same with ``accum_lib.exact.trainer_loss``; None if that refuses or fails.
        dtype: in which it ran.
        reason: why it was not measured, or not mended.
        seconds: how long it took.
    """

    head: str
    model_type: str
    diagnosis: str = ""
    factor: float | None = None
    one: float | None = None
    error: float | None = None
    mended: float | None = None
    dtype: str = ""
    reason: str = ""
    seconds: float = 0.0

    @property
    def measured(self) -> bool:
        return bool(self.diagnosis)

    def as_dict(self) -> dict[str, Any]:
        return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in asdict(self).items()}


def measure(head: str, model_type: str) -> HeadRow:
    """Build the head and measure it; a failure is a row that says why."""
    started = time.monotonic()
    try:
        row = _measured(head, model_type)
    except Exception as error:
        row = {"reason": said(error)}
    return HeadRow(head, model_type, **row, seconds=time.monotonic() - started)


def said(error: BaseException) -> str:
    """The kind of an exception, and its first line."""
    words = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {words}"[:200]


def _measured(head: str, model_type: str) -> dict[str, Any]:
    kind = find(head, model_type)
    model, rows, dtype = _running(kind)
    parts = [_slice(rows, i * ROWS // K, (i + 1) * ROWS // K) for i in range(K)]
    true, again = _own(model, rows), _own(model, rows)
    if _apart(again, true) > NEAR:
        return {"diagnosis": RANDOM, "dtype": dtype, "reason": "two passes over one batch differ"}
    near = NEAR if dtype == "float64" else 1e-3
    own = [_own(model, part) for part in parts]
    found, one = _trained(model, parts, K), _trained(model, [rows], 1)
    row: dict[str, Any] = {
        "diagnosis": _diagnosis(found, true, own, near), "dtype": dtype,
        "factor": _along(found, true), "one": _along(one, true), "error": _apart(found, true),
    }  # fmt: skip
    if row["diagnosis"] != EXACT and not _weighable(true, own, near):
        row["reason"] = COUPLED
        return row
    try:
        row["mended"] = _apart(_trained(model, parts, K, trainer_loss), true)
    except Exception as error:
        row["reason"] = said(error)
    return row


def find(head: str, model_type: str) -> Any:
    """The class.

    Raises:
        TypeError: it is no model of its own.
    """
    import importlib

    package = importlib.import_module("transformers")
    folder, _, file = model_type.partition(".")
    place = f"{package.__name__}.models.{folder}.{file or 'modeling_' + folder}"
    kind = getattr(importlib.import_module(place), head)
    if getattr(kind, "config_class", None) is None:
        raise TypeError(f"{head} is a part of models and has no configuration of its own")
    return kind


def _running(kind: Any) -> tuple[nn.Module, Rows, str]:
    """A model with rows on which its loss can be computed: small if it works so, in float64 if it does."""
    errors: list[Exception] = []
    for widths, deeper in ((True, False), (True, True), (False, False)):
        for pictures, dtype in product((False, True), (torch.float64, torch.float32)):
            # A mask of the most negative float32 overflows in float64, or makes its softmax NaN.
            said_so = bool(errors) and re.search(r"double|float|dtype|nan", str(errors[-1]), re.IGNORECASE)
            if dtype == torch.float64 or said_so:
                try:
                    model = tiny_model(kind, widths, deeper).to(dtype)
                    rows = {k: as_dtype(v, dtype) for k, v in rows_for(model, pictures).items()}
                    _own(model, rows)
                    return model, rows, str(dtype).removeprefix("torch.")
                except Exception as error:
                    errors.append(error)
    telling = [e for e in errors if "million parameters" not in str(e) and "missing" not in str(e)]
    raise (telling or errors)[0]


def _slice(rows: Rows, start: int, end: int) -> Rows:
    return {k: v[start:end] for k, v in rows.items()}


def _own(model: nn.Module, rows: Rows) -> Tensor:
    """The gradient of the head's own loss over these rows, without the Trainer."""
    model.train()
    model.zero_grad()
    torch.manual_seed(1)
    loss = model(**rows).loss
    if loss is None:
        raise ValueError("with these inputs and labels it returns no loss")
    if loss.ndim:
        loss = loss.mean()
    if not torch.isfinite(loss):
        raise ValueError(f"its loss is {loss.item()}")
    loss.backward()
    gradient = _gradient(model)
    if not 0 < gradient.norm() < torch.inf:
        raise ValueError(f"its gradient has the norm {gradient.norm().item()} (dtype {loss.dtype})")
    return gradient


def _gradient(model: nn.Module) -> Tensor:
    return torch.cat([
        (torch.zeros_like(p) if p.grad is None else p.grad).detach().double().flatten()
        for p in model.parameters()
    ])  # fmt: skip


def _trained(
    model: nn.Module, batches: list[Rows], k: int, make_loss: Callable[..., Any] | None = None
) -> Tensor:
    """The gradient with which the Trainer makes its one update; the learning rate is 0."""
    model.zero_grad()
    optimizer, seen = torch.optim.SGD(model.parameters(), lr=0.0), []
    optimizer.register_step_pre_hook(lambda *_: seen.append(_gradient(model)))
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    trainer_loop(make_loss)(model, optimizer, batches, k, 1, schedule)
    if len(seen) != 1:
        raise RuntimeError(f"the Trainer made {len(seen)} updates of {len(batches)} micro-batches")
    return seen[0]


def _along(found: Tensor, true: Tensor) -> float:
    return float(found @ true / (true @ true))


def _apart(found: Tensor, true: Tensor) -> float:
    return float((found - true).norm() / true.norm())


def _weighable(true: Tensor, own: list[Tensor], near: float) -> bool:
    """Whether some weighted sum of the micro-batches' gradients is the true one."""
    parts = torch.stack(own, 1)
    weights = torch.linalg.lstsq(parts.T @ parts, parts.T @ true, driver="gelsd").solution
    return _apart(parts @ weights, true) < max(10 * near, 1e-4)


def _diagnosis(found: Tensor, true: Tensor, own: list[Tensor], near: float) -> str:
    """What the K = 4 gradient is, from the micro-batches' own."""
    total = torch.stack(own).sum(0)
    if _apart(found, true) < near:
        return EXACT
    if _apart(found, K * true) < near * K:
        return K_TIMES
    if _apart(found, total) < near * K:
        return K_MEANS
    if _apart(found, total / K) < near:
        return MEANS
    factor = _along(found, true)
    return DENOMINATOR if _apart(found, factor * true) < near else OTHER
