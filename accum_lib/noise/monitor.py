"""The noise scale for free: watch the micro-batches of ordinary accumulation, and nothing else.

Accumulation computes the gradient of every micro-batch anyway, and adds it to ``.grad``. A hook on each
parameter's arriving gradient sees it just before, takes its norm, and lets it go. ``accumulate`` runs
unchanged, and there is no second gradient buffer.

A gradient can also arrive in **pieces**: reentrant recomputation (``torch.utils.checkpoint``) runs a backward
pass of its own for each block, so a parameter that several blocks share gets one piece from each. The norm
of their sum is what counts, so the pieces of such a parameter, and of no other, are added up as they come.
"""

from collections.abc import Callable
from operator import is_
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from accum_lib.accumulate import Count, LossSum, Model
from accum_lib.noise.estimates import from_window, from_windows
from accum_lib.noise.examples import trainable
from accum_lib.noise.records import NoiseScale

READ_AFTER = 16  # windows; reading a number makes a GPU wait, so it is put off
BLOCK = 2**18  # entries; up to there a float32 sum of squares is right to 1e-5


class NoiseScaleMonitor:
    """Estimate the gradient noise scale while a model trains, from the norms of its micro-batches' gradients.

    Give its ``loss_sum`` and ``count`` to ``accumulate`` instead of your own::

        with NoiseScaleMonitor(model, loss_sum, count, population=len(data)) as monitor:
            for window in windows(loader, accumulation_steps=4):
                accumulate(model, window, monitor.loss_sum, monitor.count)
                apply_update(model, optimizer)
            print(monitor.estimate(last=50))

    A window is informative if two or more of its micro-batches count. What is kept beyond ``.grad`` is one
    number for each parameter and micro-batch of a window, and one gradient of each parameter whose gradient
    arrives in pieces. If that first happens after a window's first micro-batch, the window is left out, and
    the next ones are measured.

    Args:
        model: whose gradients, dense or sparse; several modules as a list. Parameters may be frozen or
            converted, before or on the way, and are all on one device, in one process.
        loss_sum, count: as for ``accumulate``.
        population: what the data set counts, if it is drawn without replacement; None if it is
            endless. Then |G|^2 is that of the distribution that the data are a sample of.
        every: measure one window in ``every``; the others cost nothing.
        scaler: the ``GradScaler`` that ``accumulate`` gets, if it gets one.

    Raises:
        ValueError: nothing can be trained, the parameters are on several devices, or ``every`` is below 1;
            in a window, that a hook may change a parameter's gradient after it was added.
    """

    def __init__(
        self,
        model: Model,
        loss_sum: LossSum,
        count: Count,
        *,
        population: float | None = None,
        every: int = 4,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be 1 (every window) or more; got {every}")
        self._model = model
        self._loss_sum, self._count, self._scaler = loss_sum, count, scaler
        self._population, self._every = population, every
        self._prepare(_on_one_device(model))
        self._pieces: dict[nn.Parameter, Tensor | None] = {}  # of the present pass, added up
        self._hooks: list[tuple[Any, Any]] = []
        self._unread: list[tuple[list[float], Tensor, float]] = []
        self._estimates: list[tuple[float, float]] = []
        self._totals: list[float] = []
        self._windows = 0
        self._forget()

    # --- What accumulate calls: count for every micro-batch, then loss_sum and backward for each in turn

    def count(self, batch: Any) -> float:
        """``accumulate`` asks for all counts of a window before its first forward pass."""
        if self._passed:  # a new window: the one before was not measured, or broke off
            self._forget()
        value = self._count(batch)
        if value > 0:  # one that counts nothing is not run
            self._counts.append(value)
        return value

    def loss_sum(self, model: nn.Module, batch: Any) -> Tensor:
        """The loss of the next micro-batch. Its backward pass, which follows, is watched."""
        if self._passed == 0:
            self._begin()
        self._passed += 1
        loss = self._loss_sum(model, batch)
        last = self._passed == len(self._counts)
        if (
            self._hooks and last and isinstance(loss, Tensor) and loss.requires_grad
        ):  # else accumulate says so
            loss.register_hook(self._as_the_last_backward_begins)
        return loss

    def estimate(self, last: int | None = None, confidence: float = 0.95) -> NoiseScale:
        """The noise scale over the measured windows, or over the ``last`` ones.

        The interval takes the weights of the model for fixed (see ``from_windows``): while they move, look
        at as few windows as will do. It also takes windows for independent: those of one epoch together
        are the whole data set, so over an epoch it holds the truth more often than it says.

        Raises:
            ValueError: no window has been measured, or ``last`` or ``confidence`` is out of range.
        """
        if last is not None and last < 1:
            raise ValueError(f"last must be 1 or more, or None for all; got {last}")
        self._read()
        if not self._estimates:
            raise ValueError(
                f"nothing is measured yet: {self._windows} windows have begun, one in {self._every} is "
                "looked at, and it is informative if two or more of its micro-batches count"
                + (". The first in which a gradient came in pieces is left out" if self._pieces else "")
            )
        recent = slice(-last if last else None, None)
        return from_windows(np.array(self._estimates[recent]), np.array(self._totals[recent]), confidence)

    def state_dict(self) -> dict[str, Any]:
        """What has been measured, in plain numbers, for a checkpoint."""
        self._read()
        estimates = [(float(trace), float(squared_norm)) for trace, squared_norm in self._estimates]
        totals = [float(total) for total in self._totals]
        return {"estimates": estimates, "totals": totals, "windows": self._windows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` gave, the turn of the windows that are looked at included."""
        self._estimates, self._totals = list(state["estimates"]), list(state["totals"])
        self._windows = state["windows"]

    def __enter__(self) -> "NoiseScaleMonitor":
        return self

    def __exit__(self, *_: object) -> None:
        self._forget()
        self._remove_hooks()

    # --- One window

    def _begin(self) -> None:
        due = self._windows % self._every == 0 and len(self._counts) > 1
        self._windows += 1
        if not due:
            self._remove_hooks()
            return
        self._watch_what_is_trained()
        self._make_room(len(self._counts) + 1)

    def _watch_what_is_trained(self) -> None:
        """Hooks where a gradient is about to be added to ``.grad``: after all hooks that may change it."""
        now = _on_one_device(self._model)
        edges = [get_gradient_edge(p).node for p in now]  # others, too, once a parameter has another type
        if len(edges) == len(self._hooks) and all(map(is_, edges, (adds for _, adds in self._hooks))):
            return
        self._remove_hooks()
        self._prepare(now)
        for p, adds, places in zip(now, edges, self._places, strict=True):
            self._hooks.append((adds.register_prehook(self._watch(p, places)), adds))  # kept, or it is gone

    def _prepare(self, parameters: list[nn.Parameter]) -> None:
        self._parameters = parameters
        wide = any(p.dtype in (torch.float64, torch.complex128) for p in parameters)
        dtype = torch.float64 if wide else torch.float32  # a norm in bfloat16 would have two digits
        # Row 0 is for the whole window, row j for its micro-batch j; each parameter has a column's places.
        self._norms = torch.zeros(0, len(parameters), dtype=dtype, device=parameters[0].device)
        self._places: list[list[Tensor]] = [[] for _ in parameters]

    def _make_room(self, rows: int) -> None:
        if len(self._norms) < rows:
            self._norms = self._norms.new_zeros(rows, len(self._parameters))
            for column, places in zip(self._norms.unbind(dim=1), self._places, strict=True):
                places[:] = column.unbind()
        self._norms.zero_()  # not every pass reaches every parameter

    def _watch(self, parameter: nn.Parameter, places: list[Tensor]) -> Callable[[tuple[Tensor]], None]:
        """A hook that measures what a micro-batch is about to add to the parameter's ``.grad``."""
        norm, last = _norm_of(parameter), (0, 0)

        def hook(shares: tuple[Tensor]) -> None:
            nonlocal last
            (share,), now = shares, (self._windows, self._passed)
            if not self._passed:  # a backward pass outside of accumulate
                return
            if now == last:
                share = self._with_earlier_pieces(parameter, share)
            last = now
            if parameter in self._pieces:
                self._pieces[parameter] = share
            norm(share, out=places[self._passed])

        return hook

    def _with_earlier_pieces(self, parameter: nn.Parameter, share: Tensor) -> Tensor:
        """What the present pass has added to ``.grad`` of a parameter so far, and this."""
        before = self._pieces.setdefault(parameter, None)
        if before is None and self._passed == 1:
            before = parameter.grad  # nothing else is in it yet
        if before is None:
            self._incomplete = True
            return share
        return share + before if before.is_sparse else before + share  # sparse + dense is not supported

    def _as_the_last_backward_begins(self, _: Tensor) -> None:
        """Ask the engine to call again when that pass is through, and ``.grad`` is whole."""
        torch.autograd.Variable._execution_engine.queue_callback(self._end)

    def _end(self) -> None:
        for parameter, places in zip(self._parameters, self._places, strict=True):
            if parameter.grad is not None:
                _norm_of(parameter)(parameter.grad, out=places[0])
        if not self._incomplete:
            squares = self._norms[: len(self._counts) + 1].double().square().sum(dim=1)
            scale = self._scaler.get_scale() if self._scaler else 1.0
            self._unread.append((self._counts, squares, scale))
        self._forget()
        if len(self._unread) >= READ_AFTER:
            self._read()

    def _forget(self) -> None:
        """Nothing is left of the present window, whether it was measured to its end or not."""
        self._counts: list[float] = []
        self._passed = 0
        self._incomplete = False
        self._pieces = dict.fromkeys(self._pieces)

    def _remove_hooks(self) -> None:
        for hook, _ in self._hooks:
            hook.remove()
        self._hooks = []

    def _read(self) -> None:
        """Read the numbers of all finished windows at once, and turn them into estimates."""
        if not self._unread:
            return
        numbers = torch.cat([squares for _, squares, _ in self._unread]).numpy(force=True)
        ends = np.cumsum([len(squares) for _, squares, _ in self._unread])
        for (counts, _, scale), part in zip(self._unread, np.split(numbers, ends[:-1]), strict=True):
            whole, *shares = part / scale**2
            if np.isfinite(whole):  # with a GradScaler a window may overflow; its update is skipped, too
                self._estimates.append(from_window(counts, shares, whole, self._population))
                self._totals.append(sum(counts))
        self._unread = []


def _norm_of(parameter: nn.Parameter) -> Callable[..., Tensor]:
    """How to take the 2-norm of this parameter's gradient into a place that is there already.

    To allocate amid a backward pass would cost more than the norm does. Many entries go by rows: adding up
    millions of squares in float32 would lose three digits.
    """
    many = parameter.numel() > BLOCK and parameter.ndim > 1
    few_digits = parameter.dtype in (torch.float16, torch.bfloat16)
    plain = _norm_by_rows if many or few_digits else _norm
    return lambda gradient, out: plain(_entries(gradient), out=out)


def _entries(gradient: Tensor) -> Tensor:
    """Of a sparse gradient the sums over its repeated rows; two real ones for each that is complex."""
    entries = gradient.coalesce().values() if gradient.is_sparse else gradient
    return torch.view_as_real(entries.resolve_conj()) if entries.is_complex() else entries


def _norm(gradient: Tensor, out: Tensor) -> Tensor:
    return torch.linalg.vector_norm(gradient, dtype=out.dtype, out=out)


def _norm_by_rows(gradient: Tensor, out: Tensor) -> Tensor:
    if gradient.ndim > 1:
        gradient = torch.linalg.vector_norm(gradient.flatten(start_dim=1), dim=1, dtype=out.dtype)
    return _norm(gradient, out)


def _on_one_device(model: Model) -> list[nn.Parameter]:
    """The parameters that are trained now."""
    parameters = trainable(model if isinstance(model, nn.Module) else nn.ModuleList(model))
    if any(p._post_accumulate_grad_hooks for p in parameters):
        raise ValueError(
            "a parameter has a hook that runs after its gradient is added (it may be an optimizer in the "
            "backward pass): the window's gradient is never whole in .grad, so its noise cannot be measured. "
            "Remove what register_post_accumulate_grad_hook gave"
        )
    devices = {str(p.device) for p in parameters}
    if len(devices) > 1:
        raise ValueError(f"the parameters are on several devices, {sorted(devices)}: one is supported")
    return parameters
