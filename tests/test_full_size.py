"""One accumulated update of a real-size RoBERTa on the CPU, against one padded batch in float32."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accum_lib.accumulate import accumulate, apply_update
from accum_lib.losses import count_samples, sum_of_mean
from accum_lib.problems.roberta import PAD, make_roberta

pytestmark = pytest.mark.full_size

LENGTHS = (12, 7)
MOVED = ("roberta.encoder.layer.0.attention.self.query.weight", "classifier.out_proj.weight")
WORDS = "roberta.embeddings.word_embeddings.weight"

# float32 rounds by 6e-8 at each operation. A gradient passes through some 12 layers of 10 operations,
# forward and back, whose sums the two ways of cutting add in another order: 240 roundings that all went
# one way would make 1.4e-5. A wrong weight would be off by a tenth at least.
TOLERANCE = 2e-5

Batch = dict[str, Tensor]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return make_roberta("base", num_labels=2, dropout=0.0)


def make_batch(*samples: int) -> Batch:
    """Random tokens, padded to the longest of the chosen samples."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(4, 50_000, (n,), generator=generator) for n in LENGTHS]
    ids = nn.utils.rnn.pad_sequence([rows[i] for i in samples], batch_first=True, padding_value=PAD)
    return {"input_ids": ids, "attention_mask": (ids != PAD).long(), "labels": torch.tensor(samples)}


def mean_loss(model: nn.Module, batch: Batch) -> Tensor:
    return model(**batch).loss


def take_gradients(model: nn.Module) -> list[Tensor]:
    """The gradients out of ``.grad``: no copy, for each set of them takes half a gigabyte."""
    taken = [p.grad for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    return taken


def test_it_is_the_published_size(model) -> None:
    assert sum(p.numel() for p in model.parameters()) == 124_647_170


def test_one_accumulated_update_is_that_of_one_padded_batch(model) -> None:
    window = [make_batch(0), make_batch(1)]
    result = accumulate(model, window, sum_of_mean(mean_loss, count_samples), count_samples)
    assert (result.count, result.micro_batches) == (2, 2)
    accumulated = take_gradients(model)

    both = make_batch(0, 1)
    loss = F.cross_entropy(model(both["input_ids"], both["attention_mask"]).logits, both["labels"])
    loss.backward()
    assert result.loss == pytest.approx(loss.item(), rel=TOLERANCE)
    expected = take_gradients(model)
    assert distance(accumulated, expected) < TOLERANCE * distance(expected)
    assert sum(g is not None for g in accumulated) == len(list(model.parameters())) == 201

    check_update(model, accumulated)


def distance(tensors: list[Tensor], others: list[Tensor] | None = None) -> float:
    """The 2-norm over all parameters of the difference, or of the tensors themselves."""
    pairs = zip(tensors, others or [torch.zeros(())] * len(tensors), strict=True)
    return sum(float((a - b).double().square().sum()) for a, b in pairs) ** 0.5


def check_update(model: nn.Module, gradients: list[Tensor]) -> None:
    """SGD moves the parameters by exactly the rate times the gradient, and the words that were read."""
    named = dict(model.named_parameters())
    by_name = dict(zip(named, gradients, strict=True))
    expected = {name: named[name].detach() - 0.5 * by_name[name] for name in MOVED}
    words = named[WORDS].detach().clone()
    for p, g in zip(model.parameters(), gradients, strict=True):
        p.grad = g
    apply_update(model, torch.optim.SGD(model.parameters(), lr=0.5))
    for name in MOVED:
        assert by_name[name].norm() > 0
        assert torch.allclose(named[name], expected[name], rtol=1e-6, atol=0)
    moved = (named[WORDS] != words).any(dim=1).nonzero().flatten()
    assert set(moved.tolist()) == set(make_batch(0, 1)["input_ids"].flatten().tolist()) - {PAD}
