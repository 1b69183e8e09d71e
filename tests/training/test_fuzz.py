"""Damaged files of each kind: what reads them answers in its own words, whatever is wrong, and stays small.

Right files are damaged in a few places, the same in each run unless FUZZ_SECONDS is set. The peak of this
process's memory may not rise by a gigabyte; a hang would be seen as one.
"""

import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from small_training import made_data, made_tokenizer, make_trainer, small_model

from accum_lib.lessons.kit import progress
from accum_lib.lessons.roberta import gpu_results
from accum_lib.training import load_data
from accum_lib.training.models import load_model
from accum_lib.training.saving import checkpoints, resumption

resource = pytest.importorskip("resource", reason="where memory cannot be limited, it is not measured")
TEXTS = [f"text {i}, naïve 日本" for i in range(12)]
LABELS = ["spam", "ham", "eggs"] * 4


def fuzzed(quick: int, thorough: int) -> Callable[[Any], Callable[[], None]]:
    """N damaged files, more with ``--hypothesis-profile=thorough``; others each time for ``FUZZ_SECONDS``."""
    number = thorough if "thorough" in str(settings._current_profile) else quick
    seconds = float(os.environ.get("FUZZ_SECONDS", "0"))
    drawn = settings(
        max_examples=number, deadline=None, derandomize=not seconds, database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip

    def repeated(test: Any) -> Callable[[], None]:
        def run() -> None:
            end, once = time.monotonic() + seconds, drawn(test)
            once()
            while time.monotonic() < end:
                once()

        return run

    return repeated


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[float, int, bytes]]:
    """Where (a part of the file), how many bytes go, and what comes in their place."""
    signs = [b"\0", b'"', b"\n", b"\r", b",", b"[" * 5000, b"\xff", b"9" * 400, b"1e999", b"-", b"{}"]
    odd = st.sampled_from(signs)
    change = st.tuples(st.floats(0, 1), st.integers(0, 40), odd | st.binary(max_size=8))
    return draw(st.lists(change, min_size=1, max_size=4))


def damaged(content: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    for part, gone, put in changes:
        place = int(part * len(content))
        content = content[:place] + put + content[place + gone :]
    return content


def error_of(read: Callable[[], Any]) -> Exception | None:
    try:
        read()
    except Exception as error:
        return error
    return None


@pytest.fixture(autouse=True)
def small():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10**6  # kB


def right_file(folder: Path, ending: str) -> Path:
    path = folder / f"right{ending}"
    rows = list(zip(TEXTS, LABELS, strict=True))
    if ending == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS, "label": LABELS}), path)
    elif ending == ".jsonl":
        path.write_text("".join(json.dumps({"text": t, "label": v}) + "\n" for t, v in rows))
    else:
        path.write_text("text,label\n" + "".join(f'"{t}",{v}\n' for t, v in rows))
    return path


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_a_damaged_data_file(ending, tmp_path) -> None:
    right = right_file(tmp_path, ending)
    assert load_data(right).labels == ("eggs", "ham", "spam")

    @fuzzed(150, 3000)
    @given(damages())
    @example([(0.33484616425477515, 0, b"1e999")] * 2)  # in Parquet: an index beyond its dictionary
    def answered(changes) -> None:
        path = right.with_stem("damaged")
        path.write_bytes(damaged(right.read_bytes(), changes))
        error = error_of(lambda: load_data(path))
        assert type(error) in (ValueError, type(None))
        assert error is None or (str(path) in str(error) and len(str(error)) < 3000)

    answered()


CONFIG_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 70), st.sampled_from([10**7, 10**12, -(10**20), 2**31]),
    st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    small_model(task="mlm").float().save_pretrained(folder)
    made_tokenizer().save_pretrained(folder)
    load_model(folder, "classification", made_data())
    return folder


def test_a_damaged_configuration(pretrained, tmp_path) -> None:
    folder = shutil.copytree(pretrained, tmp_path / "damaged")
    right = (folder / "config.json").read_bytes()
    names = st.sampled_from(sorted(json.loads(right)))

    @fuzzed(25, 500)
    @given(st.dictionaries(names, CONFIG_VALUES, min_size=1, max_size=2) | damages())
    def answered(changes) -> None:
        told = (
            json.dumps({**json.loads(right), **changes})
            if isinstance(changes, dict)
            else damaged(right, changes)
        )
        (folder / "config.json").write_bytes(told.encode() if isinstance(told, str) else told)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            error = error_of(lambda: load_model(folder, "classification", made_data()))
        assert error is None or (isinstance(error, ValueError | OSError) and str(folder) in str(error))
        assert "\n" not in str(error)

    answered()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    trainer = make_trainer(folder, epochs=1)
    trainer.run()
    return trainer, checkpoints.folders(folder / "checkpoints")[0]


def checked(trainer, folder) -> None:
    state = checkpoints.load(folder)
    resumption.check(trainer.machinery, trainer.planned, trainer.facts, folder, state)


@pytest.mark.parametrize("sums", ["old", "right"])
def test_a_damaged_checkpoint(saved, tmp_path, sums) -> None:
    trainer, right = saved
    folder = shutil.copytree(right, tmp_path / right.name)
    checked(trainer, folder)

    @fuzzed(40, 1000)
    @given(st.sampled_from(checkpoints.FILES), damages())
    def answered(name, changes) -> None:
        content = damaged((right / name).read_bytes(), changes)
        (folder / name).write_bytes(content)
        if sums == "right":
            found = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in checkpoints.FILES}
            (folder / checkpoints.MANIFEST).write_text("".join(f"{v}  {n}\n" for n, v in found.items()))
        error = error_of(lambda: checked(trainer, folder))
        assert error is None or (type(error) is checkpoints.CheckpointError and str(folder) in str(error))
        (folder / name).write_bytes((right / name).read_bytes())

    answered()


def test_a_damaged_progress_file(tmp_path, monkeypatch) -> None:
    path = tmp_path / "progress.json"
    monkeypatch.setenv(progress.VARIABLE, str(path))
    right = json.dumps({"predictions": {"a": True, "b": False}, "exercises": ["c", "d"]}).encode()
    path.write_bytes(right)
    assert progress.load().exercises == ("c", "d")

    @fuzzed(100, 3000)
    @given(damages())
    def answered(changes) -> None:
        path.write_bytes(damaged(right, changes))
        error = error_of(progress.load)
        assert error is None or (type(error) is progress.ProgressError and str(path) in str(error))

    answered()
    path.write_text("[" * 200_000)
    with pytest.raises(progress.ProgressError, match="RecursionError"):
        progress.load()


def test_damaged_results_of_a_gpu(tmp_path, monkeypatch, capsys) -> None:
    right = json.loads(gpu_results.COMMITTED.read_text()) if gpu_results.COMMITTED.exists() else {}
    right.setdefault("parts", {}).pop("speed", None)  # pictures take time, and are of the same rows
    path, content = tmp_path / "results.json", json.dumps(right).encode()
    path.write_bytes(content)

    @fuzzed(60, 1000)
    @given(damages())
    def answered(changes) -> None:
        path.write_bytes(damaged(content, changes))
        capsys.readouterr()
        gpu_results.show_file(path, gpu_results.show)
        assert capsys.readouterr().out

    answered()
    for odd in ("[" * 200_000, "[]", "{}", '{"parts": 1}', ""):
        path.write_text(odd)
        gpu_results.show_file(path, gpu_results.show)
        assert "results.json does not have the shape of a GPU's results" in capsys.readouterr().out
