"""The data behind the variance explorer: for every batch size and way of sampling, a cloud of gradients.

Mini-batch gradients here are means of exact per-example gradients, which is what accumulation gives to
rounding (a test accumulates them), and hundreds of times faster.
"""

from functools import cache

import numpy as np
import torch

from accum_lib.lenses.variance.exact import from_gradients, law
from accum_lib.lenses.variance.examples import example_gradients
from accum_lib.lenses.variance.sampling import SAMPLINGS, draw, means, measure, plane
from accum_lib.problems.digits import Digits
from accum_lib.records.variance import Guesses, MiniBatches, VarianceCurve

NUM_SAMPLES, DRAWS = 512, 300
FIRST_LAYER = 64 * 32  # its weights come first; those of the last layer see few values only
GUESS_M, GUESS_STEPS = 32, (1, 2, 4, 8, 16)


class VarianceLab:
    """Mini-batch gradients of the digits MLP at fixed weights; what recurs is kept.

    Args:
        num_samples: N, a power of 2: the batch sizes are 1, 2, 4, ... N.
        draws: mini-batches at each batch size.
        seed: of the weights.
    """

    def __init__(self, num_samples: int = NUM_SAMPLES, draws: int = DRAWS, seed: int = 0) -> None:
        self._problem, self._draws = Digits("mlp", torch.float64, num_samples), draws
        self._gradients = example_gradients(self._problem, self._problem.make_model(seed))
        self._full, self._directions = self._gradients.mean(0), plane(self._gradients)
        self._coordinate = int(self._gradients[:, :FIRST_LAYER].var(0).argmax())
        self.population = from_gradients(self._gradients)
        self.sizes = [2**i for i in range(num_samples.bit_length())]
        self.batches, self.curve = cache(self._batches), cache(self._curve)

    @property
    def full_entry(self) -> float:
        """The full gradient's coordinate beside ``MiniBatches.entries``: of the first
        layer's weight that varies most."""
        return float(self._full[self._coordinate])

    @property
    def entry_variance(self) -> float:
        """The unbiased variance of that coordinate over the examples."""
        return float(self._gradients[:, self._coordinate].var())

    def _batches(self, batch_size: int, sampling: str = "shuffled") -> MiniBatches:
        seed = batch_size * len(SAMPLINGS) + SAMPLINGS.index(sampling)
        rows = draw(
            self.population.num_samples, batch_size, self._draws, sampling, seed, self._problem.labels
        )
        found = means(self._gradients, rows)
        return measure(found, self._full, self._directions, rows, sampling, coordinate=self._coordinate)

    def _curve(self, sampling: str) -> VarianceCurve:
        people, found = self.population, [self.batches(b, sampling) for b in self.sizes]
        unit, n = people.squared_norm, people.num_samples
        fine = np.append(np.geomspace(1, n * 0.9, 40), n * np.array([0.95, 0.98, 0.99, 0.995]))
        return VarianceCurve(
            sampling=sampling,
            noise_scale=people.noise_scale,
            num_samples=n,
            batch_sizes=np.array(self.sizes),
            measured=np.array([b.variance for b in found]) / unit,
            low=np.array([b.low for b in found]) / unit,
            high=np.array([b.high for b in found]) / unit,
            law_sizes=fine,
            law=np.array([law(people, b) for b in fine]) / unit,
            law_with_replacement=np.array([law(people, b, replacement=True) for b in fine]) / unit,
        )

    def guesses(self) -> Guesses:
        """What a reader may expect of the variance as K grows at M = 32, beside what is measured."""
        steps, n = np.array(GUESS_STEPS), self.population.num_samples
        left_over = (1 - GUESS_M * steps / n) / (1 - GUESS_M / n)
        measured = np.array([self.batches(GUESS_M * k).variance for k in GUESS_STEPS])
        curves = np.array([np.ones(len(steps)), 1 / np.sqrt(steps), 1 / steps, left_over / steps])
        return Guesses(GUESS_M, n, steps, curves, measured / measured[0])
