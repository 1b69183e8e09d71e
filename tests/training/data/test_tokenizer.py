"""A tokenizer trained here has RoBERTa's ids and loses nothing; GLUE without a network says what to do."""

import pytest

from accum_lib.training import Example, load_data
from accum_lib.training.data import tokenizer as module
from accum_lib.training.data.sources import load_glue
from accum_lib.training.data.tasks import MaskedLanguageModelling
from accum_lib.training.data.tokenizer import SMALLEST, load_tokenizer, train_tokenizer

TEXTS = ["Return the sum of array elements over a given axis.", "Compute naïve 日本 \U0001f600."] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 300)


def test_special_tokens_have_robertas_ids(tokenizer) -> None:
    assert tokenizer.convert_tokens_to_ids(["<s>", "<pad>", "</s>", "<unk>"]) == [0, 1, 2, 3]
    assert tokenizer.mask_token_id == len(tokenizer) - 1
    assert len(tokenizer) <= 300
    assert tokenizer.is_fast


def test_single_texts_and_pairs_are_framed_as_roberta_frames_them(tokenizer) -> None:
    one, two = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("sum", "axis"))
    assert tokenizer("sum")["input_ids"] == [0, *one, 2]
    assert tokenizer("sum", "axis")["input_ids"] == [0, *one, 2, 2, *two, 2]


@pytest.mark.parametrize(
    "text", [TEXTS[0], "naïve 日本 \U0001f600", "never seen: \x00\x7f ÿ", "  two  spaces "]
)
def test_no_byte_is_lost(tokenizer, text) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert 3 not in ids  # <unk>
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_it_learns_merges_and_is_the_same_each_time(tokenizer) -> None:
    ids = tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]
    assert len(ids) < len(TEXTS[0].encode())
    assert train_tokenizer(TEXTS, 300).get_vocab() == tokenizer.get_vocab()


def test_it_loads_from_the_folder_it_was_saved_to(tokenizer, tmp_path) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded("sum <mask>", "axis")["input_ids"] == tokenizer("sum <mask>", "axis")["input_ids"]
    assert loaded.pad_token_id == 1


def test_bad_settings_and_missing_folders_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match=f"vocab_size must be {SMALLEST}"):
        train_tokenizer(TEXTS, SMALLEST - 1)
    with pytest.raises(ValueError, match="no texts"):
        train_tokenizer(["", ""])
    with pytest.raises(ValueError, match="max_tokens must be 5"):
        train_tokenizer(TEXTS, max_tokens=4)
    with pytest.raises(OSError, match=r"no tokenizer at .*train_tokenizer"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_that_knows_no_words_is_refused(tmp_path) -> None:
    """A folder with a model alone: Transformers makes up an empty tokenizer of the model's family."""
    from transformers import BertConfig

    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(OSError, match=r"has no token but its special ones.*tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_glue_offline_says_what_to_do(monkeypatch) -> None:
    datasets = pytest.importorskip("datasets")

    def unreachable(*args, **kwargs):
        raise datasets.exceptions.DatasetNotFoundError("no network")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(ConnectionError, match=r"Offline, use the source 'docstrings'.*HF_HOME"):
        load_data("glue:sst2")


def test_glue_reads_the_columns_of_each_task(monkeypatch) -> None:
    datasets = pytest.importorskip("datasets")
    label = datasets.ClassLabel(names=["no", "yes"])
    features = datasets.Features(
        sentence1=datasets.Value("string"), sentence2=datasets.Value("string"), label=label
    )
    rows = {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": [1, 0]}
    part = datasets.Dataset.from_dict(rows, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: {"train": part, "validation": part})
    data = load_data("glue:rte", num_train=1)
    assert [(e.text, e.pair, e.label) for e in data.train] == [("a", "c", 1)]
    assert len(data.held_out) == 2
    assert data.labels == ("no", "yes")


@pytest.mark.parametrize("task", ["stsb", "sst", ""])
def test_an_unknown_task_is_refused(task) -> None:
    with pytest.raises(ValueError, match="GLUE task must be one of cola"):
        load_glue(task)


def test_a_word_without_end_is_learned_from_in_pieces(monkeypatch) -> None:
    """Learning takes time quadratic in a word's length: no token is longer than a piece."""
    texts = ["ab" * 1000 + " and more words"]
    longest = {}
    for piece in (10, 500):
        monkeypatch.setattr(module, "LONGEST_WORD", piece)
        module._train_bpe.cache_clear()
        vocabulary = train_tokenizer(texts, 300).get_vocab()
        longest[piece] = max(len(token) for token in vocabulary if "ab" in token)
    assert longest[10] <= 10 < longest[500]


def test_of_very_many_texts_some_are_learned_from(monkeypatch) -> None:
    learned = []
    monkeypatch.setattr(module, "_train_bpe", lambda corpus, size: learned.append(corpus) or ({}, []))
    monkeypatch.setattr("transformers.RobertaTokenizer", lambda **_: None)
    monkeypatch.setattr(module, "MOST_LEARNED", 100)
    for texts in (["a" * 10] * 10, [f"text {i}" for i in range(1000)], ["a" * 1000] * 3, ["b" * 101]):
        train_tokenizer(texts)
        assert sum(map(len, learned[-1])) <= 100
    assert [len(corpus) for corpus in learned] == [10, 13, 1, 1]


def test_a_book_is_encoded_by_its_beginning(tokenizer) -> None:
    """As if all of it had been: by the tokens of the whole text."""
    seen = []

    class Watched:
        def __call__(self, text, pair=None, **how):
            seen.append(len(text) + len(pair or ""))
            return tokenizer(text, pair, **how)

        def __getattr__(self, name):
            return getattr(tokenizer, name)

        def __len__(self):
            return len(tokenizer)

    book = " ".join(f"word {i} sum of array elements" for i in range(20_000))
    words, all_words = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("sum", book))
    cases = {
        (book, None): [0, *all_words[:10], 2],
        ("sum", book): [0, *words, 2, 2, *all_words[: 8 - len(words)], 2],
        (book, "sum"): [0, *all_words[: 8 - len(words)], 2, 2, *words, 2],
        (book, book): [0, *all_words[:4], 2, 2, *all_words[:4], 2],
    }
    for (text, pair), tokens in cases.items():
        task = MaskedLanguageModelling([Example(text, pair)], Watched(), 12)
        assert task.encoded[0]["input_ids"] == tokens
        assert task.shortened == 1
    assert max(seen) <= 1000


def test_what_a_tokenizer_leaves_out_is_read_over() -> None:
    """Spaces and control characters fill no token of BERT's."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.WordLevel({"[U]": 0, "[P]": 1, "[M]": 2, "sum": 3}, unk_token="[U]"))
    plain.normalizer = normalizers.BertNormalizer()
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    bert = PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[U]", pad_token="[P]", mask_token="[M]")
    task = MaskedLanguageModelling([Example("\t \x01" * 1000 + "sum sum")], bert, 8)
    assert task.encoded[0]["input_ids"] == [3, 3]
    assert task.shortened == 0
