"""The offline data: real, ragged, the same each time, and split so that nothing is in both parts."""

import re
import subprocess
import sys
import textwrap
from collections import Counter

import pytest

from accum_lib.training import load_data
from accum_lib.training.data import docstrings
from accum_lib.training.data.docstrings import (
    ALIKE,
    LONGEST,
    SHORTEST,
    Docstring,
    clean,
    collect,
    collect_apart,
    deduplicate,
    leaks,
    load_docstrings,
    split,
    thin,
)


@pytest.fixture(scope="module")
def raw() -> list[Docstring]:
    return collect()


@pytest.fixture(scope="module")
def docs(raw) -> list[Docstring]:
    return deduplicate(raw)


def foreign(*_) -> None:
    """A function of somebody else's that no one should find among the docstrings of the library."""


@pytest.fixture(scope="module")
def data():
    """Read while this process has a function in a module that is not the module's own."""
    with pytest.MonkeyPatch.context() as patch:
        put_into_textwrap(patch)
        collect_apart.cache_clear()
        return load_data("docstrings")


def put_into_textwrap(patch) -> None:
    patch.setattr(foreign, "__module__", "textwrap")  # nothing tells it from textwrap's own
    patch.setattr(textwrap, "advise", foreign, raising=False)


def test_four_packages_with_hundreds_of_texts_each(data) -> None:
    assert data.labels == ("python", "numpy", "sklearn", "torch")
    for part, least in ((data.train, 300), (data.held_out, 80)):
        sizes = Counter(e.label for e in part)
        assert sorted(sizes) == [0, 1, 2, 3]
        assert min(sizes.values()) >= least
        assert max(sizes.values()) < 0.4 * len(part)  # no class is most of it


def test_lengths_are_ragged_and_bounded(data) -> None:
    lengths = [len(e.text) for e in data.train]
    assert SHORTEST <= min(lengths) <= max(lengths) <= LONGEST
    assert max(lengths) > 5 * min(lengths)


def test_loading_twice_gives_the_same_and_the_seed_decides(data) -> None:
    assert load_data("docstrings") == data
    assert load_data("docstrings", seed=1).held_out != data.held_out


def test_no_package_name_is_left(data) -> None:
    names = re.compile(r"numpy|\bnp\b|torch|sklearn|scikit-learn|\bc?python\b", re.IGNORECASE)
    left = [e.text for e in data.train + data.held_out if names.search(e.text)]
    # Inside a longer word a name may stay, if rarely: PYTHONPATH, fftn of NumPy's ...
    assert len(left) < 0.01 * len(data.train), left[:5]


def test_cleaning_by_hand() -> None:
    doc = "add(x, *, out=None) -> Tensor\n\nAdds :class:`~torch.Tensor` and\n``np.ndarray`` of PyTorch.\n\nM."
    assert clean(doc) == "Adds library.Tensor and library.ndarray of library."
    assert clean("word " * 200).endswith("word")
    assert len(clean("word " * 200)) <= LONGEST


def test_the_split_does_not_leak(docs) -> None:
    train, held_out = split(thin(docs, 600, 0), 0.2, 0)
    assert leaks(train, held_out) == []


def test_the_leak_check_notices_a_naive_split_by_row(docs) -> None:
    found = leaks(docs[::5], docs[1::5])
    assert any("family" in leak for leak in found)


def test_the_leak_check_notices_texts_that_were_not_deduplicated(raw) -> None:
    assert any("resembles" in leak for leak in leaks(*split(raw, 0.2, 0)))


def slow_likeness(a: str, b: str) -> float:
    """Shared three-word phrases over those of the shorter text; no index, no sharing of code."""
    phrases = []
    for text in (a, b):
        words = re.findall("[a-z]+", text.lower())
        phrases.append({tuple(words[i : i + 3]) for i in range(len(words) - 2)} or {tuple(words)})
    return len(phrases[0] & phrases[1]) / min(len(p) for p in phrases)


def test_deduplication_agrees_with_comparing_all_pairs(raw) -> None:
    sample = raw[:400] + raw[-400:]
    kept: list[Docstring] = []
    for doc in sample:
        if all(slow_likeness(doc.text, other.text) <= ALIKE for other in kept):
            kept.append(doc)
    assert deduplicate(sample) == kept
    assert len(kept) < len(sample)


def test_two_names_and_two_packages_for_one_text_keep_one() -> None:
    text = "Return the natural logarithm of one plus the input array, element by element."
    docs = [Docstring(text, "numpy", "log1p"), Docstring(text, "numpy", "log1p_too")]
    docs.append(Docstring(text.replace("natural ", ""), "torch", "log1p"))
    assert deduplicate(docs) == docs[:1]


@pytest.mark.parametrize("fraction", [0, 1, 1.5])
def test_a_fraction_out_of_range_is_refused(fraction) -> None:
    with pytest.raises(ValueError, match="held_out_fraction must be between 0 and 1"):
        load_data("docstrings", held_out_fraction=fraction)


def test_the_package_can_be_told_from_the_words(data) -> None:
    """A plain bag of words does well above the majority class, so a small RoBERTa has something to learn."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    bag = TfidfVectorizer(sublinear_tf=True)
    model = LogisticRegression(C=10).fit(
        bag.fit_transform([e.text for e in data.train]), [e.label for e in data.train]
    )
    right = model.score(bag.transform([e.text for e in data.held_out]), [e.label for e in data.held_out])
    majority = max(Counter(e.label for e in data.held_out).values()) / len(data.held_out)
    assert right > majority + 0.3


def test_what_others_put_into_modules_and_classes_changes_nothing(data, raw, monkeypatch) -> None:
    """A notebook, a test runner and Transformers replace functions and add methods in their own process."""
    with monkeypatch.context() as patch:
        put_into_textwrap(patch)
        added = [doc.text for doc in collect() if doc not in raw]
    assert added == [foreign.__doc__], "in this process it would be found"
    assert added[0] not in {doc.text for doc in collect_apart()}
    assert load_data("docstrings") == data


def test_what_torch_replaces_is_left_out_however_the_process_began() -> None:
    """torch replaces ``inspect.getfile``; with its text, older runs would have other data and not resume."""
    assert not any(doc.text.startswith("Work out which source or compiled file") for doc in collect_apart())


def test_a_process_that_fails_says_why(monkeypatch) -> None:
    monkeypatch.setattr(docstrings, "collect_apart", collect_apart.__wrapped__)
    monkeypatch.setattr(docstrings, "__name__", "accum_lib.no_such_module")
    with pytest.raises(RuntimeError, match=r"could not be read: ModuleNotFoundError.*no_such_module"):
        load_docstrings()


@pytest.fixture(scope="module")
def bare() -> subprocess.CompletedProcess:
    """A process without docstrings: what it has imported, and what it says when asked for them."""
    code = "import sys; from accum_lib.training.data import docstrings, files, sources; \
print([m for m in ('sklearn', 'transformers', 'datasets', 'pyarrow', 'tokenizers') if m in sys.modules]); \
docstrings.load_docstrings()"
    return subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True)


def test_importing_the_package_loads_nothing_heavy(bare) -> None:
    assert bare.stdout.strip() == "[]"


def test_without_docstrings_it_says_so(bare) -> None:
    assert bare.returncode == 1
    assert "since Python was started with -OO" in bare.stderr
