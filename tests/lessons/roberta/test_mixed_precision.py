"""16 bits make an error; accumulation adds none to it, unless the buffer has 16 bits, too."""

import torch

from accum_lib.lessons.roberta.measure import precision_errors
from accum_lib.problems.digits import Digits
from accum_lib.problems.roberta import Roberta


def errors(problem, **settings) -> dict[tuple[str, int], float]:
    found = precision_errors(problem, **settings)
    return {(e.precision, e.accumulation_steps): e.relative_error for e in found}


def test_accumulation_adds_nothing_to_the_error_of_16_bits() -> None:
    found = errors(Roberta(num_samples=32, max_tokens=16), batch_size=16, steps=(1, 4, 16))
    assert max(found["fp32", k] for k in (1, 4, 16)) < 1e-5
    for k in (1, 4, 16):
        assert 1e-4 < found["bf16", k] < 0.1
        assert found["bf16", k] < 2 * found["bf16", 1]


def test_a_buffer_in_16_bits_would_be_seen() -> None:
    """The comparison can fail: weights and ``.grad`` in bfloat16 lose more, the more is added up."""

    class Narrow(Digits):
        def make_model(self, seed: int = 0):
            self.made = getattr(self, "made", 0) + 1  # the first is the reference's
            return super().make_model(seed).to(torch.float64 if self.made == 1 else torch.bfloat16)

    found = errors(Narrow("mlp", num_samples=64), batch_size=64, steps=(1, 64))
    assert found["fp32", 64] > 2e-3
    assert errors(Digits("mlp", num_samples=64), batch_size=64, steps=(64,))["fp32", 64] < 1e-5
