"""The offline data set: docstrings of four installed packages, classified by package.

The text is real, its lengths are ragged, and it is there without a network: the standard library, NumPy,
scikit-learn and torch are installed anyway. What makes such data too easy or dishonest is taken out:

- A package's **own names are masked** (``numpy.sum`` becomes ``library.sum``), and so is Sphinx markup,
  which only some packages use: both give the label away without a word being read. Words of the trade
  ("tensor", "estimator") stay: they are what the text is about.
- What one package **re-exports** from another is left out; so is any text that resembles an earlier one
  (more than half of its three-word phrases in common), within a package or across two.
- The split is by **family**: functions of one module, a class with its methods, a name with its variants
  (``add``, ``add_``, ``nanadd``) are either all in training or all held out.

The texts change with the installed versions, and with nothing else: they are read in a process of their own,
since a notebook, a test runner or another library replaces functions and adds methods in this one.
"""

import importlib
import inspect
import json
import random
import re
import subprocess
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from functools import cache
from typing import Any

from accum_lib.training.data import Example, TextData

# A bounded list: importing every submodule would take long and run unwanted code. Without sys,
# whose hooks a notebook, a debugger or a test runner puts others in place of.
MODULES: dict[str, str] = {
    "python": "argparse array ast asyncio base64 bisect calendar cmath codecs collections configparser "
    "contextlib copy csv dataclasses datetime decimal difflib email.message enum fileinput fnmatch "
    "fractions ftplib functools gettext glob gzip hashlib heapq hmac html http.client inspect io ipaddress "
    "itertools json locale logging lzma mailbox math mimetypes multiprocessing.pool operator os "
    "os.path pathlib pickle platform plistlib pprint queue random re sched secrets selectors shelve "
    "shlex shutil smtplib socket sqlite3 ssl statistics string subprocess tarfile tempfile textwrap "
    "threading time timeit tokenize traceback types typing unicodedata unittest unittest.mock "
    "urllib.parse urllib.request uuid warnings wave weakref xml.dom.minidom xml.etree.ElementTree zipfile",
    "numpy": "numpy numpy.char numpy.fft numpy.lib.format numpy.lib.recfunctions numpy.lib.scimath "
    "numpy.lib.stride_tricks numpy.linalg numpy.ma numpy.polynomial numpy.polynomial.chebyshev "
    "numpy.polynomial.polynomial numpy.random numpy.testing",
    "sklearn": "sklearn.base sklearn.calibration sklearn.cluster sklearn.compose sklearn.covariance "
    "sklearn.cross_decomposition sklearn.datasets sklearn.decomposition "
    "sklearn.discriminant_analysis sklearn.dummy sklearn.ensemble sklearn.feature_extraction "
    "sklearn.feature_extraction.text sklearn.feature_selection sklearn.gaussian_process "
    "sklearn.impute sklearn.inspection sklearn.isotonic sklearn.kernel_approximation "
    "sklearn.linear_model sklearn.manifold sklearn.metrics sklearn.metrics.pairwise "
    "sklearn.mixture sklearn.model_selection sklearn.multiclass sklearn.multioutput "
    "sklearn.naive_bayes sklearn.neighbors sklearn.neural_network sklearn.pipeline "
    "sklearn.preprocessing sklearn.random_projection sklearn.semi_supervised sklearn.svm "
    "sklearn.tree sklearn.utils",
    "torch": "torch torch.autograd torch.distributions torch.fft torch.linalg torch.nn torch.nn.functional "
    "torch.nn.init torch.nn.utils torch.optim torch.optim.lr_scheduler torch.special torch.utils.data",
}
SHORTEST, LONGEST, ALIKE = 30, 400, 0.5  # characters, characters, share of phrases in common
_NAMES = re.compile(r"\b(numpy|np|(py)?torch|scikit-learn|sklearn|c?python)\b", re.IGNORECASE)
_MARKUP = re.compile(r":[a-z:]+:(?=`)|[`*~]+|^\.\. .*?::", re.MULTILINE)
_SIGNATURE = re.compile(r"^[\w.]+\(.*", re.DOTALL)  # what C functions write above their first sentence


@dataclass(frozen=True)
class Docstring:
    """A cleaned text, the package it describes, and the family that a split must not tear apart."""

    text: str
    package: str
    family: str


def load_docstrings(held_out_fraction: float = 0.2, per_package: int | None = 600, seed: int = 0) -> TextData:
    """Docstrings of four packages, labelled by package, in two parts that share no text and no family.

    Args:
        held_out_fraction: about so much of each package is held out (families are not torn apart).
        per_package: at most this many texts of each package; None takes all.
        seed: draws the families that are held out, and the order.

    Raises:
        ValueError: the fraction is not between 0 and 1, or Python runs without docstrings (``-OO``).
        RuntimeError: the process that reads the docstrings failed; says how.
    """
    if not 0 < held_out_fraction < 1:
        raise ValueError(f"held_out_fraction must be between 0 and 1; got {held_out_fraction}")
    if sys.flags.optimize > 1:
        raise ValueError("there are no docstrings, since Python was started with -OO: start it without")
    docs = thin(deduplicate(collect_apart()), per_package, seed)
    train, held_out = split(docs, held_out_fraction, seed)
    labels = tuple(MODULES)
    parts = [
        tuple(Example(d.text, None, labels.index(d.package)) for d in part) for part in (train, held_out)
    ]
    return TextData("docstrings of installed packages", parts[0], parts[1], labels)


@cache
def collect_apart() -> tuple[Docstring, ...]:
    """What ``collect`` finds in a new process, where nothing has been replaced yet; read once.

    Raises:
        RuntimeError: the process failed; with the last thing that it said.
    """
    code = f"from {__name__} import print_all; print_all()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(f"the docstrings could not be read: {said[-1]}")
    return tuple(Docstring(*row) for row in json.loads(done.stdout.splitlines()[-1]))


def print_all() -> None:
    """Write what ``collect`` finds to standard output, as one line of JSON."""
    print(json.dumps([astuple(doc) for doc in collect()]))


def collect() -> list[Docstring]:
    """Every public class, method and function of the listed modules that has a text, in fixed order."""
    import torch  # noqa: F401  it replaces ``inspect.getfile``, so it comes first, or one text more is found

    found = []
    with warnings.catch_warnings(action="ignore"):  # a deprecated member warns when it is only looked at
        for package, modules in MODULES.items():
            for module in _import_all(modules.split()):
                described = _described(module, package)
                found += [Docstring(clean(_own_doc(d)), package, family) for d, family in described]
    return [doc for doc in found if len(doc.text) >= SHORTEST]


def clean(doc: str) -> str:
    """The first paragraph in words, without signature, markup or package names, cut at a word."""
    paragraphs = [p for p in doc.split("\n\n") if p.strip() and not _SIGNATURE.match(p.strip())]
    words = " ".join(paragraphs[:1]).split()
    text = _NAMES.sub("library", _MARKUP.sub("", " ".join(words)))
    return text if len(text) <= LONGEST else text[:LONGEST].rsplit(" ", 1)[0]


def deduplicate(docs: Iterable[Docstring]) -> list[Docstring]:
    """Keep each text that shares at most half of its phrases with every text kept before it."""
    kept: list[Docstring] = []
    alike = _Lookalikes()
    for doc in docs:
        if not alike.find(doc.text):
            alike.add(doc.text)
            kept.append(doc)
    return kept


def thin(docs: Sequence[Docstring], per_package: int | None, seed: int) -> list[Docstring]:
    """At most ``per_package`` texts of each package, drawn by the seed."""
    groups = defaultdict(list)
    for doc in random.Random(seed).sample(docs, len(docs)):
        groups[doc.package].append(doc)
    return [doc for package in MODULES for doc in groups[package][:per_package]]


def split(docs: Sequence[Docstring], fraction: float, seed: int) -> tuple[list[Docstring], list[Docstring]]:
    """Whole families to either part; of each package, ``fraction`` is held out, or just above it."""
    draw, families, held = random.Random(seed), defaultdict(list), set()
    for doc in docs:
        families[doc.package, doc.family].append(doc)
    size, taken = Counter(doc.package for doc in docs), Counter[str]()
    for package, family in draw.sample(sorted(families), len(families)):
        members = len(families[package, family])
        if taken[package] + members <= fraction * size[package] + 1:  # a giant family stays in training
            taken[package] += members
            held.add((package, family))
    shuffled = draw.sample(docs, len(docs))
    train = [doc for doc in shuffled if (doc.package, doc.family) not in held]
    return train, [doc for doc in shuffled if (doc.package, doc.family) in held]


def leaks(train: Iterable[Docstring], held_out: Iterable[Docstring]) -> list[str]:
    """What the two parts share, in words: a family, a text, or texts that are nearly the same."""
    alike, families = _Lookalikes(), set()
    for doc in train:
        alike.add(doc.text)
        families.add((doc.package, doc.family))
    found = []
    for doc in held_out:
        if (doc.package, doc.family) in families:
            found.append(f"family {doc.family} is in both parts")
        found += [f"{doc.text!r} resembles {other!r}" for other in alike.find(doc.text)]
    return found


class _Lookalikes:
    """Texts that share phrases, found through an index of phrases instead of all pairs."""

    def __init__(self) -> None:
        self._texts: list[tuple[str, int]] = []  # the text and its number of phrases
        self._holders: dict[str, list[int]] = defaultdict(list)  # phrase -> texts that have it

    def add(self, text: str) -> None:
        phrases = _phrases(text)
        for phrase in phrases:
            self._holders[phrase].append(len(self._texts))
        self._texts.append((text, len(phrases)))

    def find(self, text: str) -> list[str]:
        """The texts added so far that have more than ``ALIKE`` of the smaller set of phrases in common."""
        phrases = _phrases(text)
        shared = Counter(i for phrase in phrases for i in self._holders.get(phrase, ()))
        candidates = [(*self._texts[i], n) for i, n in shared.items()]
        return [other for other, size, n in candidates if n > ALIKE * min(size, len(phrases))]


def _phrases(text: str) -> set[str]:
    words = re.findall(r"[a-z]+", text.lower())
    return {" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))}


def _import_all(names: Iterable[str]) -> Iterator[Any]:
    for name in names:
        with suppress(ImportError):  # some builds of Python leave out ssl, sqlite3 or lzma
            yield importlib.import_module(name)


def _described(module: Any, package: str) -> Iterator[tuple[Any, str]]:
    """A module's public functions, classes and methods that are the package's own, with their families."""
    for name, member in sorted(vars(module).items()):
        if name.startswith("_") or not callable(member) or not _is_own(member, module, package):
            continue
        family = _family(name, member, module, package)
        yield member, family
        if inspect.isclass(member):
            for key, method in sorted(vars(member).items()):
                if callable(method) and not key.startswith("_") and not _is_foreign(method, package):
                    yield method, family


def _is_foreign(method: Any, package: str) -> bool:
    """Put into the class by another package: Transformers gives ``logging.Logger`` methods of its own."""
    home = (getattr(method, "__module__", None) or package).split(".")[0]
    return home not in (sys.stdlib_module_names if package == "python" else (package,)) and home != package


def _is_own(member: Any, module: Any, package: str) -> bool:
    """Not a re-export. What is written in C may not say where it is from; then its module's word counts."""
    home = (getattr(member, "__module__", None) or module.__name__).lstrip("_").split(".")[0]
    if package == "python":
        return home in (module.__name__.split(".")[0], "builtins", "posix", "io")
    if package == "torch" and module.__name__ == "torch" and type(member).__name__ == "tensortype":
        return False  # torch.FloatTensor and its kin: the methods of Tensor once more
    return home == package


def _family(name: str, member: Any, module: Any, package: str) -> str:
    """The defining module if it is below the package's root, else the name without its variant."""
    if package == "python":
        return module.__name__.split(".")[0]
    home = getattr(member, "__module__", None) or package
    if home.count(".") >= 2:
        return home
    return re.sub(r"^nan|^is|_like$|[_\d]+$", "", name.lower()) or name


def _own_doc(member: Any) -> str:
    doc = getattr(member, "__doc__", None)
    return inspect.cleandoc(doc) if isinstance(doc, str) else ""
