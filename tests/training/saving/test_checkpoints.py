"""Damaged checkpoints are found out and passed over; a full disk leaves the older one; nothing is halfway."""

import errno
import os
import shutil

import pytest
import torch
from small_training import made_data, make_trainer, parameters, same_bits

from accum_lib.training.logs import read_log
from accum_lib.training.saving import checkpoints, resumption
from accum_lib.training.saving.checkpoints import FILES, MANIFEST, CheckpointError, NotSavedError

SETTINGS = dict(dtype=torch.float32, save_every=1, epochs=2)  # six windows


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run: its folder and its parameters."""
    folder = tmp_path_factory.mktemp("run")
    trainer = make_trainer(folder, **SETTINGS)
    trainer.run()
    return folder, parameters(trainer)


@pytest.fixture
def copied(run, tmp_path):
    """A copy of that run, and its two checkpoints, newest first."""
    shutil.copytree(run[0], tmp_path / "run")
    return tmp_path / "run", checkpoints.folders(tmp_path / "run" / resumption.FOLDER)


def truncate(path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path) -> None:
    os.truncate(path, 0)


def flip_a_bit(path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def remove(path) -> None:
    path.unlink()


DAMAGES = (truncate, empty, flip_a_bit, remove)


def test_the_last_two_are_kept_and_nothing_else(copied) -> None:
    _, folders = copied
    assert [f.name for f in folders] == ["window-00000006", "window-00000005"]
    assert sorted(p.name for p in folders[0].iterdir()) == sorted([*FILES, MANIFEST])


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_and_named(copied, damage, name) -> None:
    folder, (newest, older) = copied
    damage(newest / name)
    found = checkpoints.newest(folder / resumption.FOLDER)
    assert found.folder == older
    assert len(found.rejected) == 1
    assert f"{newest} is damaged: " in found.rejected[0]
    assert name in found.rejected[0]


@pytest.mark.parametrize("place", range(0, 100, 7))
def test_a_bit_anywhere_counts(copied, place) -> None:
    _, (newest, _) = copied
    for name in (*FILES, MANIFEST):
        path = newest / name
        content = bytearray(path.read_bytes())
        at = place * len(content) // 100
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        with pytest.raises(CheckpointError):
            checkpoints.verify(newest)
        path.write_bytes(content)
    checkpoints.verify(newest)


def test_without_the_checksums_the_damage_would_go_unseen(copied) -> None:
    """The deliberately wrong one: a weight of a flipped bit loads without a murmur."""
    _, (newest, _) = copied
    whole = torch.load(newest / "model.pt", weights_only=True)
    content = bytearray((newest / "model.pt").read_bytes())
    weights = next(iter(whole.values())).numpy().tobytes()
    content[content.find(weights) + 2] ^= 1
    (newest / "model.pt").write_bytes(content)
    damaged = torch.load(newest / "model.pt", weights_only=True)
    assert not same_bits(list(damaged.values()), list(whole.values()))
    with pytest.raises(CheckpointError, match=r"model\.pt does not match its checksum"):
        checkpoints.verify(newest)


def test_a_run_goes_on_from_the_older_one_to_the_same_bits(run, copied) -> None:
    folder, (newest, older) = copied
    truncate(newest / "optimizer.pt")
    trainer = make_trainer(folder, **SETTINGS)
    trainer.run(resume=True)
    assert same_bits(parameters(trainer), run[1])
    resumed = next(e for e in read_log(folder / "log.jsonl") if e["event"] == "resume")
    assert resumed["update"] == 5
    assert "optimizer.pt does not match its checksum" in resumed["rejected"][0]
    assert checkpoints.folders(older.parent) == [newest, older]
    checkpoints.verify(newest)  # made anew


def test_two_damaged_ones_end_in_an_error_that_names_both(copied) -> None:
    folder, both = copied
    for path in both:
        remove(path / "model.pt")
    with pytest.raises(CheckpointError, match="nothing to resume from") as caught:
        make_trainer(folder, **SETTINGS).run(resume=True)
    assert all(f"{path} is damaged: model.pt is missing" in str(caught.value) for path in both)


def test_what_a_killed_save_leaves_is_never_read(copied) -> None:
    folder, (newest, _) = copied
    half = newest.parent / f"{checkpoints.ASIDE}00000007"
    shutil.copytree(newest, half)
    assert checkpoints.newest(folder / resumption.FOLDER).folder == newest
    save_again(newest.parent, 7)
    assert not half.exists()


def test_the_manifest_is_that_of_sha256sum(copied) -> None:
    import hashlib

    _, (newest, _) = copied
    lines = (newest / MANIFEST).read_text().splitlines()
    assert lines == [f"{hashlib.sha256((newest / n).read_bytes()).hexdigest()}  {n}" for n in FILES]


def test_a_pickle_that_would_run_code_is_not_loaded(copied, capsys) -> None:
    import hashlib

    _, (newest, _) = copied

    class Evil:
        def __reduce__(self):
            return (print, ("code was run",))

    torch.save({"x": Evil()}, newest / "progress.pt")
    sums = {n: hashlib.sha256((newest / n).read_bytes()).hexdigest() for n in FILES}
    (newest / MANIFEST).write_text("".join(f"{v}  {n}\n" for n, v in sums.items()))
    with pytest.raises(CheckpointError, match=r"progress\.pt is no file of a checkpoint \(UnpicklingError"):
        checkpoints.load(newest)
    assert "code was run" not in capsys.readouterr().out


# --- A full disk


def state() -> dict:
    trainer = make_trainer(**SETTINGS)
    return resumption.take(trainer.machinery, trainer.progress, trainer.facts)


def save_again(root, windows: int) -> None:
    checkpoints.save(root, windows, state())


class FullDisk:
    """Lets so many bytes through to the disk, then there is no space left."""

    def __init__(self, monkeypatch, allowed: int) -> None:
        self.left, self.write = allowed, checkpoints._Hashing.write
        disk = self

        def write(hashing, content) -> int:
            disk.left -= len(content)
            if disk.left < 0:
                hashing.file = Refuses()
            return disk.write(hashing, content)

        monkeypatch.setattr(checkpoints._Hashing, "write", write)


class Refuses:
    def write(self, content) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self) -> None: ...


@pytest.mark.parametrize("allowed", [0, 500, 5_000, 20_000, 50_000])
def test_a_full_disk_leaves_the_older_one_in_place(copied, monkeypatch, allowed) -> None:
    folder, (newest, older) = copied
    before = sorted(folder.rglob("*"))
    with monkeypatch.context() as patch:
        FullDisk(patch, allowed)
        with pytest.raises(
            NotSavedError, match=r"No space left on device.*The newest one is still"
        ) as caught:
            save_again(newest.parent, 7)
    assert str(newest) in str(caught.value)
    assert sorted(folder.rglob("*")) == before
    for path in (newest, older):
        checkpoints.verify(path)


def test_a_real_refusal_of_the_system_is_understood(copied) -> None:
    """A limit on the size of files, set for this process: the error comes from the kernel, no stub."""
    resource, signal = pytest.importorskip("resource"), pytest.importorskip("signal")
    _, (newest, _) = copied
    limits, handler = (
        resource.getrlimit(resource.RLIMIT_FSIZE),
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    try:
        made = state()
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(NotSavedError, match="File too large"):
            checkpoints.save(newest.parent, 7, made)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(newest.parent.glob(f"{checkpoints.ASIDE}*"))
    checkpoints.verify(newest)


def test_a_run_outlives_a_disk_that_is_full_for_a_while(run, tmp_path, monkeypatch) -> None:
    save, calls = checkpoints.save, []

    def save_but_not_the_third(root, windows, made, keep=2):
        calls.append(windows)
        if windows != 3:
            return save(root, windows, made, keep)
        with monkeypatch.context() as patch:
            FullDisk(patch, 1000)
            return save(root, windows, made, keep)

    monkeypatch.setattr(checkpoints, "save", save_but_not_the_third)
    trainer = make_trainer(tmp_path, **SETTINGS)
    trainer.run()
    failed = [e for e in read_log(tmp_path / "log.jsonl") if e["event"] == "checkpoint_failed"]
    assert [e["update"] for e in failed] == [3]
    assert "window-00000002" in failed[0]["error"]
    assert same_bits(parameters(trainer), run[1])


def test_if_the_last_one_cannot_be_saved_the_run_says_so(tmp_path, monkeypatch) -> None:
    FullDisk(monkeypatch, 0)
    with pytest.raises(NotSavedError, match="There is none from before"):
        make_trainer(tmp_path, **SETTINGS).run()
    assert not list(tmp_path.rglob("*.pt"))


def test_the_data_are_part_of_a_checkpoints_settings(copied) -> None:
    _, (newest, _) = copied
    facts = checkpoints.load(newest)[checkpoints.SETTINGS]
    assert facts["data"] == make_trainer(data=made_data()).task.fingerprint()
