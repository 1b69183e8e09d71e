"""A linear regression with two weights: small enough that the whole loss surface can be drawn.

N = 1000 samples by default, as in the worked example (10 mini-batches of M = 100, K = 2). The two
features are correlated, so the loss has the shape of a long valley and the paths differ visibly.
"""

import numpy as np
import torch
from torch import Tensor, nn

from accum_lib.words import N_

SPREAD = (1.5, 0.6)  # standard deviation along the valley's two axes
TURN = 0.6  # radians between those axes and the weights' axes
NOISE = 1.0
TRUE_WEIGHT = (1.5, -1.0)
START = (-2.0, 2.0)


class Regression:
    """Mean squared error of ``y = w1 x1 + w2 x2 + noise``, in float64.

    Args:
        num_samples: N >= 1.
        seed: draws the data.
        start: the weights of a new model.

    Raises:
        ValueError: N is below 1.
    """

    name = N_("regression with two weights")
    default_learning_rate = 0.1

    def __init__(self, num_samples: int = 1000, seed: int = 0, start: tuple[float, float] = START) -> None:
        if num_samples < 1:
            raise ValueError(f"num_samples must be 1 or more; got {num_samples}")
        generator = torch.Generator().manual_seed(seed)
        turn = torch.tensor(
            [[np.cos(TURN), -np.sin(TURN)], [np.sin(TURN), np.cos(TURN)]], dtype=torch.float64
        )
        normal = torch.randn(num_samples, 2, generator=generator, dtype=torch.float64)
        self.num_samples, self.start = num_samples, start
        self.x = normal * torch.tensor(SPREAD, dtype=torch.float64) @ turn.T  # (N, 2)
        noise = torch.randn(num_samples, generator=generator, dtype=torch.float64)
        self.y = self.x @ torch.tensor(TRUE_WEIGHT, dtype=torch.float64) + NOISE * noise  # (N,)

    def make_model(self, seed: int = 0) -> nn.Module:
        """One linear layer without bias; it always begins at ``start``, by default far up the valley."""
        model = nn.utils.skip_init(nn.Linear, 2, 1, bias=False, dtype=torch.float64)
        with torch.no_grad():
            model.weight.copy_(torch.tensor([self.start]))
        return model

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.x[indices], self.y[indices]

    def loss_sum(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return (model(x).squeeze(-1) - y).square().sum()

    def count(self, batch: tuple[Tensor, Tensor]) -> int:
        return len(batch[1])

    def loss_at(self, weights: np.ndarray) -> np.ndarray:
        """The mean loss over all N samples at many weights; ``(..., 2)`` gives ``(...)``."""
        x, y = self.x.numpy(), self.y.numpy()
        second, cross = x.T @ x / len(y), x.T @ y / len(y)
        quadratic = np.einsum("...i,ij,...j->...", weights, second, weights)
        return quadratic - 2 * weights @ cross + y @ y / len(y)

    def minimum(self) -> np.ndarray:
        """The weights, shape (2,), with the least mean loss: ordinary least squares."""
        return np.linalg.lstsq(self.x.numpy(), self.y.numpy(), rcond=None)[0]
