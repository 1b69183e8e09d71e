"""What is right, the slow and obvious way: one forward and backward pass over the whole window at once.

It shares no code with ``accumulate``, and computes on a copy of the model, so that the loop that is being
watched is not disturbed.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from accum_lib.accumulate import LossSum
from accum_lib.check.case import Case, cast, labels_of, rows_of
from accum_lib.check.conditions import Precisions, is_same_state, set_state, state_of
from accum_lib.check.recorder import RecordedUpdate, Vectors
from accum_lib.vectors import flat

FAILURE = 1e-9  # the probability with which rounding may exceed the tolerance


class Reference:
    """Gradients of a case at any weights, on a copy of its model."""

    def __init__(self, model: nn.Module, case: Case) -> None:
        self._model, self._case = _copy_of(model, case), case
        self._kinds = self._kinds_of_parameters()
        self.counts = torch.tensor([float(case.count(b)) for b in case.batches], dtype=torch.float64)

    def load(self, update: RecordedUpdate) -> None:
        """Be as the loop's model was at this update: weights, buffers, precision, modes, what is trained."""
        for name, p in self._model.named_parameters():
            if name in update.weights:
                p.data = update.weights[name].clone()
                p.requires_grad_(name in update.how.trained)
        for name, b in self._model.named_buffers():
            if name in update.buffers:
                b.data = update.buffers[name].clone()
        for name, module in self._model.named_modules():
            vars(module).update(update.how.settings.get(name, {}))

    def moving_state(self, index: int) -> dict[str, float]:
        """The modules whose forward pass changes them and so the next gradient: by how much, relative."""
        modules = dict(self._model.named_modules())
        before = {name: state_of(module) for name, module in modules.items()}
        self.loss_sums([index])
        after = {name: state_of(module) for name, module in modules.items()}
        changed = [name for name in modules if not is_same_state(before[name], after[name])]
        for name in changed:
            set_state(modules[name], before[name])
        once, found = self.of_micro_batch(index), {}
        length = aligned(once, once).norm()
        for name in changed:
            set_state(modules[name], after[name])
            error = float((aligned(self.of_micro_batch(index), once) - aligned(once, once)).norm() / length)
            set_state(modules[name], before[name])
            if error > 0:
                found[name] = error
        return found

    def with_loss(self, loss_sum: LossSum) -> "Reference":
        """The same model and data with another loss."""
        other = copy.copy(self)
        other._case = replace(self._case, loss_sum=loss_sum)
        return other

    def of_micro_batch(self, index: int, seed: int = 0) -> Vectors:
        """The gradient of one micro-batch's loss **sum**; empty if it counts nothing."""
        if self.counts[index] == 0:
            return {}
        return self._gradient(self._case.batches[index], 1.0, seed)

    def of_batch(self, batch: Any) -> Vectors:
        """The gradient of any batch's loss **sum**."""
        return self._gradient(batch, 1.0)

    def of_big_batch(self, indices: Sequence[int]) -> Vectors:
        """The gradient of the mean loss over these micro-batches, in one pass."""
        total = float(self.counts[list(indices)].sum())
        if total == 0:
            return {}
        return self._gradient(self._case.big_batch(indices), total)

    def loss_sums(self, indices: Sequence[int]) -> list[float]:
        """Each of these micro-batches' loss **sum**, at the weights that are loaded."""
        return self.loss_sums_of([self._case.batches[i] for i in indices])

    def loss_sums_of(self, batches: Sequence[Any]) -> list[float]:
        """Each of these batches' loss **sum**, at the weights that are loaded."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            return [float(self._loss_sum(batch)) for batch in batches]

    def _loss_sum(self, batch: Any) -> Tensor:
        try:
            return self._case.loss_sum(self._model, self._as_run(batch))
        except Exception as error:
            raise ValueError(
                f"the loss_sum of the case {self._case.name!r} fails outside of the loop, on the model as "
                f"the loop has set it: {type(error).__name__}: {error}. Does it take a batch that join has "
                "made of several, and parameters of the precision that they have?"
            ) from error

    def _as_run(self, batch: Any) -> Any:
        """The batch in the precision of the parameters, where the loop has changed that."""
        kinds = self._kinds_of_parameters()
        return batch if kinds == self._kinds or len(kinds) > 1 else cast(batch, kinds.pop())

    def _kinds_of_parameters(self) -> set[torch.dtype]:
        return {p.dtype for p in self._model.parameters() if p.is_floating_point()}

    @contextmanager
    def batch_norm_held(self) -> Iterator[bool]:
        """Inside, BatchNorm uses its running statistics; gives False if there is none."""
        norms = [m for m in self._model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        modes = [m.training for m in norms]
        for module in norms:
            module.training = False
        yield bool(norms)
        for module, mode in zip(norms, modes, strict=True):
            module.training = mode

    def coarsest_dtype(self, window: Sequence[int]) -> torch.dtype:
        """The lowest precision in which anything is computed: some models take their loss in float32."""
        batch = self._case.big_batch(window)
        with Precisions() as seen:
            self._gradient(batch, 1.0)
        return max(seen.dtypes, key=lambda dtype: torch.finfo(dtype).eps)

    def chain_length(self, window: Sequence[int]) -> int:
        """How many roundings follow each other on the way to an entry of the gradient.

        The rows that are added up in the window, and in each layer the terms of its sums, forward and back.
        """
        return sum(_rows(self._case.batches[i]) for i in window) + layer_chain(self._model)

    def _gradient(self, batch: Any, divisor: float, seed: int = 0) -> Vectors:
        before = [(module, state_of(module)) for module in self._model.modules()]
        values = {n: p for n, p in self._model.named_parameters() if p.requires_grad}
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            _seed(seed)
            loss = self._loss_sum(batch) / divisor
            for p in values.values():
                p.grad = None
            loss.backward()  # not autograd.grad, which reentrant recomputation refuses
        for module, state in before:  # BatchNorm has moved its running statistics
            set_state(module, state)
        return {n: p.grad.to_dense() for n, p in values.items() if p.grad is not None}


def _copy_of(model: nn.Module, case: Case) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except RuntimeError:  # it holds a tensor that is computed from parameters, as nn.utils.weight_norm's do
        made = case.make_model().to(next(model.parameters()).dtype)
        made.load_state_dict(model.state_dict())
        return made.train(model.training)


def _seed(seed: int) -> None:
    """As ``torch.manual_seed``, which keeps a stack trace for each kind of device that is not there.

    That takes longer than the gradient of a small model.
    """
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def layer_chain(model: nn.Module) -> int:
    """How many terms a model's layers add up, one layer after the other, forward and back."""
    return sum(2 * p.numel() // max(p.shape[0], 1) + 2 for p in model.parameters() if p.ndim)


def rounding_tolerance(dtype: torch.dtype, length: int, condition: float = 1.0) -> float:
    """The relative error that ``length`` successive roundings may make.

    The probabilistic bound of Higham and Mary (2019, SIAM J. Sci. Comput. 41, A2815, theorem 2.4): each
    rounding errs by at most u = eps/2, independently and with mean 0, so ``n`` of them exceed
    ``exp(lambda sqrt(n) u) - 1`` with a probability below ``2 n exp(-lambda^2 / 2)``, here 1e-9.

    Args:
        dtype: of the computation.
        length: n, roundings that follow each other.
        condition: the sum of the norms of what is added, over the norm of the sum: what cancellation costs.
    """
    unit = torch.finfo(dtype).eps / 2
    factor = math.sqrt(2 * math.log(2 * max(length, 1) / FAILURE))
    return math.expm1(factor * math.sqrt(length) * unit) * condition


def aligned(vectors: Vectors, like: Vectors) -> Tensor:
    """One float64 vector in the order of ``like``, with zeros where there is no gradient."""
    return flat(vectors.get(name, torch.zeros_like(v)) for name, v in like.items())


def norm(vectors: Vectors) -> float:
    """The 2-norm over all tensors."""
    return float(sum(float(v.double().square().sum()) for v in vectors.values())) ** 0.5


def _rows(batch: Any) -> int:
    labels = labels_of(batch)
    if labels is not None:
        return max(labels.numel(), 1)
    return rows_of(batch)
