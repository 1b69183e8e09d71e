"""What is right, the slow and obvious way: one forward and backward pass over the whole window at once.

It shares no code with ``accumulate``, and computes on a copy of the model, so that the loop that is being
watched is not disturbed.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from accum_lib.check.case import Case, labels_of, tensors
from accum_lib.check.recorder import RecordedUpdate, Vectors
from accum_lib.vectors import flat

FAILURE = 1e-9  # the probability with which rounding may exceed the tolerance


class Reference:
    """Gradients of a case at any weights, on a copy of its model."""

    def __init__(self, model: nn.Module, case: Case) -> None:
        self._model, self._case = copy.deepcopy(model), case
        self.counts = torch.tensor([float(case.count(b)) for b in case.batches], dtype=torch.float64)
        self._names = [n for n, p in self._model.named_parameters() if p.requires_grad]

    def load(self, update: RecordedUpdate) -> None:
        """Take the weights and the buffers that the loop had at this update."""
        with torch.no_grad():
            for name, p in self._model.named_parameters():
                if name in update.weights:
                    p.copy_(update.weights[name])
            for name, b in self._model.named_buffers():
                if name in update.buffers:
                    b.copy_(update.buffers[name])

    def of_micro_batch(self, index: int, seed: int = 0) -> Vectors:
        """The gradient of one micro-batch's loss **sum**; empty if it counts nothing."""
        if self.counts[index] == 0:
            return {}
        return self._gradient(self._case.batches[index], 1.0, seed)

    def of_big_batch(self, indices: Sequence[int]) -> Vectors:
        """The gradient of the mean loss over these micro-batches, in one pass."""
        total = float(self.counts[list(indices)].sum())
        if total == 0:
            return {}
        return self._gradient(self._case.big_batch(indices), total)

    def loss_sums(self, indices: Sequence[int]) -> list[float]:
        """Each of these micro-batches' loss **sum**, at the weights that are loaded."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            return [float(self._case.loss_sum(self._model, self._case.batches[i])) for i in indices]

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
        with _Precisions() as seen:
            self._gradient(batch, 1.0)
        return max(seen.dtypes, key=lambda dtype: torch.finfo(dtype).eps)

    def chain_length(self, window: Sequence[int]) -> int:
        """How many roundings follow each other on the way to an entry of the gradient.

        The rows that are added up in the window, and in each layer the terms of its sums, forward and back.
        """
        return sum(_rows(self._case.batches[i]) for i in window) + layer_chain(self._model)

    def _gradient(self, batch: Any, divisor: float, seed: int = 0) -> Vectors:
        buffers = {n: b.clone() for n, b in self._model.named_buffers()}
        values = dict(self._model.named_parameters())
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            _seed(seed)
            loss = self._case.loss_sum(self._model, batch) / divisor
            found = torch.autograd.grad(loss, [values[n] for n in self._names], allow_unused=True)
        with torch.no_grad():  # BatchNorm has moved its running statistics
            for name, b in self._model.named_buffers():
                b.copy_(buffers[name])
        return {n: g.detach() for n, g in zip(self._names, found, strict=True) if g is not None}


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


class _Precisions(TorchDispatchMode):
    """Notes the floating-point types of everything that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operator(*args, **(kwargs or {}))
        self.dtypes |= {t.dtype for t in tensors(result) if t.is_floating_point() and t.numel() > 0}
        return result


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


def _rows(batch: Any) -> int:
    labels = labels_of(batch)
    if labels is not None:
        return max(labels.numel(), 1)
    every = tensors(batch)
    return len(every[0]) if every and every[0].ndim else 1
