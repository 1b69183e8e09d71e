"""Small models around kernels of many kinds: what they hold for themselves is for the prediction to know.

Each is an image net (convolution, the middle, mean, linear) or a sequence net (linear, the middle, mean,
linear) whose middle is a function or a module of the sizes that were drawn.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accum_lib.losses import classification_loss_sum
from accum_lib.memory.workloads import Workload

TOKENS, VOCABULARY = 12, 9


class Does(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Net(nn.Module):
    """``first`` brings the input to the width; after the middle, the mean over ``dims`` is classified."""

    def __init__(self, first: nn.Module, middle: nn.Module, dims: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.first, self.middle, self.dims = first, middle, dims
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.first(x)).mean(self.dims))


class First(nn.Module):
    """The sequence that a recurrent layer returns, without its last state."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


class Heads(nn.Module):
    """Attention with fewer heads of keys and values than of queries."""

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.q, self.k, self.v = (
            nn.Linear(width, width),
            nn.Linear(width, width // 2),
            nn.Linear(width, width // 2),
        )
        self.causal = causal

    def forward(self, x: Tensor) -> Tensor:
        m, t, width = x.shape
        q = self.q(x).view(m, t, 4, width // 4).transpose(1, 2)
        k, v = (f(x).view(m, t, 2, width // 4).transpose(1, 2) for f in (self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal, enable_gqa=True)
        return y.transpose(1, 2).reshape(m, t, width)


class ChannelsLast(nn.Module):
    """Convolution, BatchNorm, ReLU and pooling with the channels innermost."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(c, c, 3, padding=1), nn.BatchNorm2d(c), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(c, c, 1)
        ).to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.to(memory_format=torch.channels_last))


def _resized(mode: str, c: int, p: int, x: Tensor) -> Tensor:
    corners = None if mode in ("nearest", "nearest-exact", "area") else bool(p % 2)
    return F.interpolate(x, size=(2 * p - 3, p + c % 5), mode=mode, align_corners=corners)


def _antialiased(c: int, p: int, x: Tensor) -> Tensor:
    return F.interpolate(x, size=(p // 2, p // 2 + 1), mode="bilinear", antialias=True)


def _sampled(c: int, p: int, x: Tensor) -> Tensor:
    theta = torch.eye(2, 3, device=x.device, dtype=x.dtype).expand(len(x), 2, 3)
    return F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)


def _rolled(c: int, p: int, x: Tensor) -> Tensor:
    return torch.roll(x, (1, 2), (2, 3)).flip(3) + x.repeat_interleave(2, 2)[:, :, ::2]


def _spectrum(t: int, d: int, x: Tensor) -> Tensor:
    return torch.fft.irfft(torch.fft.rfft(x, dim=1), n=t, dim=1)


def _spectrum_2d(t: int, d: int, x: Tensor) -> Tensor:
    return torch.fft.fft2(x).real


def _einsum(t: int, d: int, x: Tensor) -> Tensor:
    return torch.einsum("bst,btd->bsd", torch.einsum("bsd,btd->bst", x, x).softmax(-1), x)


def _binary(t: int, d: int, x: Tensor) -> Tensor:
    target, weight = torch.zeros_like(x), torch.ones_like(x[0, 0])
    how = {"pos_weight": weight} if t % 2 else {"weight": weight}
    return F.binary_cross_entropy_with_logits(x, target, reduction="none", **how)


def _gathered(t: int, d: int, x: Tensor) -> Tensor:
    values, index = x.topk(max(1, t // 2), dim=1)
    return torch.gather(x, 1, index) * values


def _cumulative(t: int, d: int, x: Tensor) -> Tensor:
    return x.cumsum(1) + x.logcumsumexp(1) + x.cummax(1)[0]


def _scattered(t: int, d: int, x: Tensor) -> Tensor:
    index = torch.arange(t, device=x.device) // 2
    return torch.zeros_like(x).index_add(1, index, x) + x.index_select(1, index)


def _distances(t: int, d: int, x: Tensor) -> Tensor:
    return torch.cdist(x, x[:, : t // 2]) @ x[:, : t // 2]


def _moments(t: int, d: int, x: Tensor) -> Tensor:
    return (
        (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 1) + x.std() + x.logsumexp(1, keepdim=True)
    )


def _turned_softmax(t: int, d: int, x: Tensor) -> Tensor:
    return x.transpose(1, 2).softmax(1).log_softmax(2).transpose(1, 2)


def _solved(t: int, d: int, x: Tensor) -> Tensor:
    square = x.transpose(1, 2) @ x + torch.eye(d, device=x.device)
    return x + torch.linalg.solve(square, x.transpose(1, 2)).transpose(1, 2)


def _expanded(t: int, d: int, x: Tensor) -> Tensor:
    return x[:, :, None, :].expand(-1, -1, 3, -1).reshape(len(x), 3 * t, d) @ x.mean(1)[..., None] * x.mean()


def _by_mask(t: int, d: int, x: Tensor) -> Tensor:
    return (
        torch.where(x > 0, x, 0.1 * x).masked_fill(x > 1, 0) + x.clamp(-1, 1) * x.sigmoid() + x.float().exp()
    )


def _windows(t: int, d: int, x: Tensor) -> Tensor:
    return x.unfold(1, 3, 2).amax(-1)


def _gated(t: int, d: int, x: Tensor) -> Tensor:
    return (
        F.glu(torch.cat([x, x], -1)) + F.prelu(x, x.new_ones(1)) + F.softplus(x) + F.mish(x) + F.hardswish(x)
    )


def _median(t: int, d: int, x: Tensor) -> Tensor:
    return x - x.median(1, keepdim=True)[0] + x.kthvalue(2, 1, keepdim=True)[0] + x.msort()


IMAGES: dict[str, Callable[[int, int], nn.Module]] = {  # of c channels and p pixels
    **{mode: lambda c, p, mode=mode: Does(partial(_resized, mode, c, p))
       for mode in ("bilinear", "bicubic", "nearest", "nearest-exact", "area")},
    "antialiased": lambda c, p: Does(partial(_antialiased, c, p)),
    "grid_sample": lambda c, p: Does(partial(_sampled, c, p)),
    "rolled": lambda c, p: Does(partial(_rolled, c, p)),
    "convolution": lambda c, p: nn.Conv2d(c, c, 3 + 2 * (p % 2), stride=1 + c // 4 % 2, padding=p % 3),
    "pointwise convolution": lambda c, p: nn.Conv2d(c, c, 1, bias=bool(p % 2)),
    "transposed": lambda c, p: nn.ConvTranspose2d(c, c, 2 + p % 3, stride=2),
    "grouped": lambda c, p: nn.Conv2d(c, c, 3, padding=1, groups=2),
    "depthwise": lambda c, p: nn.Sequential(nn.Conv2d(c, c, 3, padding=1, groups=c), nn.Conv2d(c, c, 1)),
    "dilated": lambda c, p: nn.Conv2d(c, c, 3, padding=2, dilation=2),
    "channels last": lambda c, p: ChannelsLast(c),
    "group norm": lambda c, p: nn.Sequential(nn.GroupNorm(2, c), nn.SiLU()),
    "instance norm": lambda c, p: nn.InstanceNorm2d(c, affine=True),
    "pooling": lambda c, p: nn.Sequential(nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(3), nn.AdaptiveMaxPool2d(2)),
    "shuffle": lambda c, p: nn.Sequential(nn.PixelShuffle(2), nn.ReflectionPad2d(1), nn.PixelUnshuffle(2)),
    "local response": lambda c, p: nn.Sequential(nn.LocalResponseNorm(3), nn.ReplicationPad2d(2)),
    "patches": lambda c, p: nn.Sequential(
        nn.Unfold(2, stride=2), nn.Fold((p // 2 * 2, p // 2 * 2), 2, stride=2)),
    "volume": lambda c, p: nn.Sequential(nn.Unflatten(1, (2, c // 2)), nn.Conv3d(2, 2, 3, padding=1),
                                         nn.Flatten(1, 2)),
}  # fmt: skip
SEQUENCES: dict[str, Callable[[int, int], nn.Module]] = {  # of t tokens and width d
    **{name: lambda t, d, f=f: Does(partial(f, t, d)) for name, f in {
        "fft": _spectrum, "fft2": _spectrum_2d, "einsum": _einsum, "topk": _gathered,
        "cumulative": _cumulative,
        "scatter": _scattered, "distances": _distances, "moments": _moments,
        "turned softmax": _turned_softmax,
        "solve": _solved, "expanded": _expanded, "masks": _by_mask, "windows": _windows, "gated": _gated,
        "median": _median, "binary cross-entropy": _binary}.items()},
    "sort": lambda t, d: Does(lambda x: x.sort(dim=1)[0] + x.sort(dim=-1, descending=True)[0]),
    "gru": lambda t, d: First(nn.GRU(d, d, batch_first=True, bias=bool(t % 2))),
    "two-way gru": lambda t, d: First(nn.GRU(d, d // 2, 2, batch_first=True, bidirectional=True)),
    "rnn": lambda t, d: First(nn.RNN(d, d, batch_first=True, nonlinearity="relu" if t % 2 else "tanh")),
    "lstm": lambda t, d: First(nn.LSTM(d, d, batch_first=True)),
    "projected lstm": lambda t, d: nn.Sequential(First(nn.LSTM(d, 2 * d, batch_first=True, proj_size=d))),
    "convolution 1d": lambda t, d: nn.Sequential(
        Does(lambda x: x.mT), nn.Conv1d(d, d, 3, padding=1), Does(lambda x: x.mT)),
    "grouped queries": lambda t, d: Heads(d, bool(t % 2)),
    "attention": lambda t, d: First(Attends(d)),
    "experts": lambda t, d: Experts(d),
    "rms norm": lambda t, d: nn.Sequential(nn.RMSNorm(d), nn.LayerNorm((t, d))),
}  # fmt: skip


class Attends(nn.Module):
    """Attention of PyTorch's own module, in which it averages the weights."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(d, 4, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        return self.attention(x, x, x)


class Experts(nn.Module):
    """Of four matrices in bfloat16 each token is multiplied by two, which it chooses."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.router = nn.Linear(d, 4)
        self.experts = nn.Parameter(torch.full((4, d, d), 0.01, dtype=torch.bfloat16))

    def forward(self, x: Tensor) -> Tensor:
        scores, chosen = self.router(x.flatten(0, 1)).softmax(-1).topk(2)
        experts, order = chosen.flatten().sort()
        ends = torch.histc(experts.float(), 4, 0, 3).cumsum(0, dtype=torch.int32)
        rows = F.grouped_mm(x.flatten(0, 1)[order // 2].bfloat16(), self.experts, offs=ends)
        return (rows[order.argsort()].view(-1, 2, x.shape[-1]) * scores[..., None]).sum(1).view(x.shape)


def ctc_loss_sum(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The sum over examples of the connectionist temporal classification loss."""
    inputs, labels = batch
    scores = model(inputs).log_softmax(-1).transpose(0, 1)  # (tokens, micro_batch, VOCABULARY)
    lengths = torch.full((len(inputs),), scores.shape[0])
    return F.ctc_loss(scores, labels, lengths, torch.full((len(inputs),), labels.shape[1]), reduction="sum")


def _image_net(name: str, c: int, p: int) -> nn.Module:
    return Net(nn.Conv2d(3, c, 3, padding=1), IMAGES[name](c, p), (2, 3), c)


def _sequence_net(name: str, t: int, d: int) -> nn.Module:
    return Net(nn.Linear(16, d), SEQUENCES[name](t, d), (1,), 1 if name == "expanded" else d)


def _ctc_net(t: int, d: int) -> nn.Module:
    return nn.Sequential(nn.Linear(16, d), nn.Tanh(), nn.Linear(d, VOCABULARY))


def _image_batch(p: int, m: int) -> Any:
    return torch.zeros(m, 3, p, p), torch.zeros(m, dtype=torch.long)


def _sequence_batch(t: int, m: int) -> Any:
    return torch.zeros(m, t, 16), torch.zeros(m, dtype=torch.long)


def _ctc_batch(t: int, m: int) -> Any:
    return torch.zeros(m, t, 16), torch.ones(m, max(1, t // 3), dtype=torch.long)


NAMES = (*IMAGES, *SEQUENCES, "ctc")


def net(name: str, length: int, width: int) -> Workload:
    """The model of this name, of so many pixels or tokens and channels or features (a multiple of 8)."""
    if name == "ctc":
        return Workload(name, partial(_ctc_net, length, width), partial(_ctc_batch, length), ctc_loss_sum)
    if name in IMAGES:
        make = partial(_image_net, name, width, length)
        return Workload(name, make, partial(_image_batch, length), classification_loss_sum)
    make = partial(_sequence_net, name, length, width)
    return Workload(name, make, partial(_sequence_batch, length), classification_loss_sum)
