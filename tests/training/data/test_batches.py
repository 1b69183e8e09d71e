"""M, K and B; the order of the data; masks; batches and counts, each against a count by hand."""

from collections import Counter

import pytest
import torch
from small_training import made_data, made_tokenizer

from accum_lib.training.data import Example
from accum_lib.training.data.batches import batch_sizes, cut, epoch_windows, halved
from accum_lib.training.data.tasks import Classification, MaskedLanguageModelling, mask_tokens
from accum_lib.training.settings import TrainingSettings


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, None, None), (8, 4)),
        ((4, None, None), (4, 8)),
        ((64, None, None), (64, 1)),
        ((None, 2, None), (8, 2)),
        ((None, None, 32), (8, 4)),
        ((None, None, 7), (7, 1)),
        ((None, None, 11), (1, 11)),
        ((4, 3, None), (4, 3)),
        ((4, None, 12), (4, 3)),
        ((None, 3, 12), (4, 3)),
        ((4, 3, 12), (4, 3)),
    ],
)
def test_two_sizes_give_the_third(given, expected) -> None:
    assert batch_sizes(*given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((4, 3, 13), "M = 4 times K = 3 is 12, not B = 13"),
        ((5, None, 12), "B = 12 is no multiple of M = 5: take B = 10 or 15"),
        ((None, 5, 3), "B = 3 is no multiple of K = 5: take B = 5"),
        ((0, None, None), "M must be 1 or more; got 0"),
        ((None, -1, None), "K must be 1 or more; got -1"),
        ((None, None, 0), "B must be 1 or more; got 0"),
    ],
)
def test_what_does_not_go_together_is_refused(given, message) -> None:
    with pytest.raises(ValueError, match=message):
        batch_sizes(*given)


def test_sizes_are_whole_numbers() -> None:
    with pytest.raises(TypeError, match=r"whole number, such as 4; got 2\.5"):
        batch_sizes(2.5)
    assert [halved(m) for m in (8, 5, 3, 2)] == [4, 3, 2, 1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"micro_batch_size": 0}, "micro_batch_size must be 1 or more; got 0"),
        ({"warmup": 1.5}, r"from 0 to 1; got 1\.5"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0 and finite; got nan"),
        ({"weight_decay": -1.0}, "weight_decay must be 0 or more"),
        ({"max_grad_norm": 0.0}, "max_grad_norm must be above 0"),
        ({"precision": "fp8"}, "precision must be one of fp32, bf16, fp16; got 'fp8'"),
        ({"on_non_finite": "hope"}, "on_non_finite must be one of stop, skip"),
        ({"max_updates": 0}, "max_updates must be 1 or more"),
        ({"length_pool": -1}, "length_pool must be 0 or more"),
        ({"by_tokens": True, "noise_scale": True}, "by_tokens fills them with texts of like length"),
        ({"noise_scale": True, "accumulation_steps": 1}, "take K = 2 or more"),
    ],
)
def test_wrong_settings_are_refused_by_name(wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**wrong)


# --- Order

LENGTHS = [(7 * i) % 31 + 1 for i in range(50)]


@pytest.mark.parametrize("pool", [0, 1, 2, 5])
def test_each_example_occurs_once_and_the_last_window_is_the_short_one(pool) -> None:
    windows = epoch_windows(LENGTHS, 8, pool, seed=0, epoch=0)
    assert sorted(i for window in windows for i in window) == list(range(50))
    assert [len(window) for window in windows] == [8, 8, 8, 8, 8, 8, 2]


def test_seed_and_epoch_decide_the_order() -> None:
    made = [epoch_windows(LENGTHS, 8, 1, seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert made[0] == epoch_windows(LENGTHS, 8, 1, 0, 0)
    assert made[0] != made[1] != made[2] != made[0]


def test_sorting_within_a_window_changes_no_window_and_saves_padding() -> None:
    plain, within, across = (epoch_windows(LENGTHS, 8, pool, 0, 0) for pool in (0, 1, 5))
    assert [set(w) for w in within] == [set(w) for w in plain]
    assert [set(w) for w in across] != [set(w) for w in plain]
    assert padded(across) < padded(within) < padded(plain)
    assert all(LENGTHS[w[0]] == max(LENGTHS[i] for i in w) for w in within)  # longest first


def padded(windows) -> int:
    """Tokens with padding, if M is 2."""
    return sum(len(b) * max(LENGTHS[i] for i in b) for window in windows for b in cut(window, 2))


def test_no_data_are_refused() -> None:
    with pytest.raises(ValueError, match="no examples to train on"):
        epoch_windows([], 8, 1, 0, 0)


# --- Masks


def test_fifteen_per_cent_are_hidden_eighty_ten_ten() -> None:
    """Counted over 40,000 tokens: each share within five standard deviations of a fair draw's."""
    tokens, vocabulary = [0, *range(10, 210), 2], range(10, 210)
    fates, n = Counter(), 0
    for i in range(200):
        inputs, labels = mask_tokens(tokens, {0, 2}, 4, vocabulary, f"key {i}")
        for before, after, label in zip(tokens, inputs, labels, strict=True):
            assert label in (-100, before)
            hidden = label != -100
            n += hidden
            fates["mask" if after == 4 else "same" if after == before else "other"] += hidden
            assert hidden or after == before
        assert labels[0] == labels[-1] == -100
    assert n == 200 * 30  # 15 % of 200 tokens, exactly
    for fate, share in (("mask", 0.8), ("other", 0.1 * 199 / 200), ("same", 0.1 + 0.1 / 200)):
        assert abs(fates[fate] / n - share) < 5 * (share * (1 - share) / n) ** 0.5


def test_the_number_of_masks_is_right_on_average_and_never_0() -> None:
    numbers = [
        sum(label != -100 for label in mask_tokens([0, *[9] * 30, 2], {0, 2}, 4, range(5, 20), f"{i}")[1])
        for i in range(1000)
    ]
    assert set(numbers) == {4, 5}  # 15 % of 30 is 4.5
    assert abs(sum(numbers) / 1000 - 4.5) < 5 * 0.5 / 1000**0.5
    assert mask_tokens([0, 9, 2], {0, 2}, 4, [9], "short")[1] == [-100, 9, -100]
    assert mask_tokens([0, 2], {0, 2}, 4, [9], "empty")[1] == [-100, -100]


@pytest.fixture(scope="module")
def masked():
    return MaskedLanguageModelling(made_data().train, made_tokenizer(), 64)


def hidden(task, windows, epoch=0) -> dict:
    """For each example what is asked, and what stands in the text."""
    found = {}
    for indices in windows:
        batch = task.batch(indices, epoch)
        for row, i in enumerate(indices):
            n = task.lengths[i]
            found[i] = batch["labels"][row, :n].tolist(), batch["input_ids"][row, :n].tolist()
            assert (batch["labels"][row, n:] == -100).all()
    return found


def test_masks_do_not_depend_on_the_cutting(masked) -> None:
    whole = hidden(masked, [range(12)])
    assert hidden(masked, cut(range(12), 3)) == whole
    assert hidden(masked, cut(list(range(12))[::-1], 5)) == whole
    assert hidden(masked, [range(12)], epoch=1) != whole
    other = MaskedLanguageModelling(made_data().train, made_tokenizer(), 64, seed=1)
    assert hidden(other, [range(12)]) != whole


def test_one_random_state_for_a_batch_would_depend_on_it(masked) -> None:
    """The deliberately wrong one: masks drawn in the order in which examples come by."""

    def wrong(windows) -> dict:
        found, drawn = {}, 0
        for indices in windows:
            for i in sorted(indices, key=lambda i: -masked.lengths[i]):
                row = masked.encoded[i]["input_ids"]
                found[i] = mask_tokens(row, {0, 2}, 299, range(5, 290), f"draw {drawn}")
                drawn += 1
        return found

    assert wrong([range(12)]) != wrong(cut(range(12), 3))


def test_the_count_is_the_number_of_hidden_tokens(masked) -> None:
    batch = masked.batch([0, 1, 2])
    by_hand = sum(label != -100 for row in batch["labels"].tolist() for label in row)
    assert masked.count(batch) == by_hand > 0


# --- Batches


def test_padding_is_told_from_text() -> None:
    task = Classification(made_data().train, made_tokenizer(), 64)
    batch = task.batch([0, 1, 2])
    longest = max(task.lengths[:3])
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (3, longest)
    assert batch["attention_mask"].sum(dim=1).tolist() == task.lengths[:3]
    assert torch.equal(batch["input_ids"] == 1, batch["attention_mask"] == 0)
    assert batch["labels"].tolist() == [e.label for e in made_data().train[:3]]
    assert task.count(batch) == 3


def test_pairs_and_long_texts_are_encoded_as_the_tokenizer_does_it() -> None:
    tokenizer = made_tokenizer()
    task = Classification([Example("sum", "axis", 0), Example("sum " * 50, None, 1)], tokenizer, 10)
    assert task.encoded[0]["input_ids"] == tokenizer("sum", "axis")["input_ids"]
    assert task.lengths[1] == 10


def test_what_cannot_be_trained_on_is_refused() -> None:
    with pytest.raises(ValueError, match="no examples: the data set is empty"):
        Classification([], made_tokenizer())
    with pytest.raises(ValueError, match="example 1 has no label; without labels there is the task 'mlm'"):
        Classification([Example("a", None, 0), Example("b")], made_tokenizer())


def test_other_data_have_another_fingerprint() -> None:
    examples = list(made_data().train[:5])
    prints = [
        Classification(examples, made_tokenizer(), 64).fingerprint(),
        Classification(examples[::-1], made_tokenizer(), 64).fingerprint(),
        Classification(examples, made_tokenizer(), 5).fingerprint(),
        Classification(
            [*examples[:4], Example(examples[4].text, None, 1)], made_tokenizer(), 64
        ).fingerprint(),
    ]
    assert len(set(prints)) == 4
    assert prints[0] == Classification(examples, made_tokenizer(), 64).fingerprint()


def test_a_text_of_which_no_token_can_be_hidden_is_refused() -> None:
    examples = [Example("sum"), Example(""), Example("axis"), Example("<pad>")]
    with pytest.raises(ValueError, match=r"example 1 \(''\) has no token.*2 such examples: remove them"):
        MaskedLanguageModelling(examples, made_tokenizer())
