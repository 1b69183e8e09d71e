"""Scikit-learn's handwritten digits (1,797 images of 8 x 8, ten classes), with an MLP or a small CNN.

The MLP is exact under accumulation. The CNN holds BatchNorm, whose statistics see a micro-batch and
not the window, so it is the standing example of a model that accumulation changes. With GroupNorm, or with
BatchNorm's statistics frozen, nothing looks at the batch, and it is exact again.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from accum_lib.extras import need
from accum_lib.losses import classification_loss_sum, count_samples
from accum_lib.words import _

CLASSES = 10


def mlp(hidden: int = 32, dtype: torch.dtype = torch.float32) -> nn.Module:
    """64 pixels, one hidden layer, ten logits: 2,410 parameters with 32 hidden units."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, hidden, dtype=dtype), nn.Tanh(), nn.Linear(hidden, CLASSES, dtype=dtype)
    )


@cache
def _all_digits() -> Any:
    """Read once; everybody takes copies."""
    need("the digits data set", "notebooks", "sklearn")
    from sklearn.datasets import load_digits  # takes a second to import

    return load_digits()


class FrozenBatchNorm(nn.BatchNorm2d):
    """BatchNorm that uses its running statistics in training, too: as when it is frozen."""

    def train(self, mode: bool = True) -> "FrozenBatchNorm":
        return super().train(False)


NORMS: dict[str, Callable[..., nn.Module]] = {  # called with (channels, dtype=...)
    "batch": nn.BatchNorm2d,
    "group": lambda channels, dtype: nn.GroupNorm(4, channels, dtype=dtype),
    "frozen": FrozenBatchNorm,
}


def cnn(channels: int = 16, dtype: torch.dtype = torch.float32, norm: str = "batch") -> nn.Module:
    """Two convolutions, each with a normalisation of ``NORMS``, then a linear layer."""
    wide, make_norm = 2 * channels, NORMS[norm]
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1, dtype=dtype),
        make_norm(channels, dtype=dtype),
        nn.ReLU(),
        nn.Conv2d(channels, wide, 3, stride=2, padding=1, dtype=dtype),
        make_norm(wide, dtype=dtype),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(wide * 16, CLASSES, dtype=dtype),
    )


class Digits:
    """Classify the digits by cross-entropy.

    Args:
        model: "mlp" or "cnn".
        dtype: of the pixels and the parameters.
        num_samples: how many images to keep, from the first on; None keeps all 1,797.
        norm: the CNN's normalisation: "batch", "group" or "frozen" (BatchNorm with fixed statistics).

    Raises:
        ValueError: there is no such model or normalisation, or not as many images.
    """

    default_learning_rate = 0.1

    def __init__(
        self, model: str = "mlp", dtype: torch.dtype = torch.float32, num_samples: int | None = None,
        norm: str = "batch",
    ) -> None:  # fmt: skip
        if model not in ("mlp", "cnn"):
            raise ValueError(f"model must be 'mlp' or 'cnn'; got {model!r}")
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {', '.join(NORMS)}; got {norm!r}")
        data = _all_digits()
        size = len(data.target)
        if num_samples is not None and not 1 <= num_samples <= size:
            raise ValueError(f"num_samples must be between 1 and {size}; got {num_samples}")
        self.name = _("digits, {model}", model=model.upper())
        makers: dict[str, Callable[..., nn.Module]] = {"mlp": mlp, "cnn": partial(cnn, norm=norm)}
        self._make = makers[model]
        self._dtype = dtype
        self.images = torch.tensor(data.images[:num_samples] / 16, dtype=dtype).unsqueeze(1)  # (N, 1, 8, 8)
        self.labels = torch.tensor(data.target[:num_samples])  # (N,)
        self.num_samples = len(self.labels)

    def make_model(self, seed: int = 0) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._make(dtype=self._dtype)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.images[indices], self.labels[indices]

    def loss_sum(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return classification_loss_sum(model, batch)

    def count(self, batch: tuple[Tensor, Tensor]) -> int:
        return count_samples(batch)
