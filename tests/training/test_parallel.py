"""Several processes make the updates of one, and go on from checkpoints of another number of processes."""

import os
import subprocess
import sys
from functools import cache

import parallel_jobs as jobs
import pytest
import torch
from small_training import distance, made_data, same_bits
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from accum_lib.distributed import launch
from accum_lib.training.logs import read_log
from accum_lib.training.saving.checkpoints import folders

CLOSE = 1e-9  # relative, of float64 parameters after six updates of AdamW


@pytest.fixture(scope="module")
def alone() -> tuple:
    return jobs.train(None)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> dict:
    """What two processes do that ends well, in one start of both: for each job, both processes' answers."""
    folder = {name: tmp_path_factory.mktemp(name) for name in ("broken_off", "from_one", "dropout", "nan")}
    with pytest.raises(jobs.CrashError):
        jobs.train(folder["from_one"], crash_at=2)
    todo = {
        "broken off": (jobs.train, folder["broken_off"], False, 3),
        "resumed": (jobs.train, folder["from_one"], True),
        "dropout": (jobs.train_with_dropout, None),
        "dropout, broken off": (jobs.train_with_dropout, folder["dropout"], False, 3),
        "dropout, resumed": (jobs.train_with_dropout, folder["dropout"], True),
        "nan": (jobs.train_over_a_nan, folder["nan"]),
        "draws": (jobs.dropout_draws,),
    }
    answers = launch(jobs.several, 2, list(todo.values()))
    return {name: [of_one[i] for of_one in answers] for i, name in enumerate(todo)} | {"folder": folder}


OUT_OF_MEMORY = [  # in the last process: where, and with which call; a window is two passes of each process
    ("batch", 0), ("forward", 0), ("backward", 0), ("batch", 3), ("forward", 1), ("backward", 1),
    ("forward", 3), ("step", 0), ("step", 2), ("evaluation", 0),
]  # fmt: skip
OTHERS = [
    ("nowhere", 0),
    ("nowhere", 0, 4),
    ("forward", 0, 1),
    ("step", 1, 8, True),
    ("step", 1, 8, False, False),
]


SIZES = [2, pytest.param(3, marks=pytest.mark.slow)]  # processes


@cache
def out_of_memory(size: int) -> dict:
    """For each fault all processes' answers, in one start of them."""
    faults = [*OUT_OF_MEMORY, *OTHERS]
    answers = launch(jobs.several, size, [(jobs.train_out_of_memory, *fault) for fault in faults])
    return dict(zip(faults, zip(*answers, strict=True), strict=True))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fault", OUT_OF_MEMORY)
def test_out_of_memory_in_one_process_is_survived_by_all(size, fault) -> None:
    """All take the same smaller M, and end with the parameters of a run without it."""
    found, (where, at) = out_of_memory(size), fault
    answers = found[fault]
    first, sizes, *_ = answers[0]
    undisturbed, smaller = found["nowhere", 0][0][0], found["nowhere", 0, 4][0][0]
    assert [struck for *_, struck, _ in answers] == [False] * (size - 1) + [True]
    assert all(same_bits(each, first) and m == sizes for each, m, *_ in answers)
    told = {"step": ["repaired"] * size, "evaluation": [None] * size}.get(
        where, ["memory ran out in another process"] * (size - 1) + ["CUDA out of memory"]
    )
    assert [reasons[0] if reasons else None for *_, reasons in answers] == told
    if where in ("step", "evaluation"):  # which needs the same memory whatever M; it is each process's own
        assert sizes == [8, 8, 8]
        assert same_bits(first, undisturbed)
    else:
        assert sizes == [8] * (at // 2) + [4] * (3 - at // 2)
        assert distance(first, undisturbed) < CLOSE
        assert same_bits(first, smaller) == (at < 2), "from the first window on: the bits of that M"


@pytest.mark.parametrize("size", SIZES)
def test_what_no_process_can_survive_ends_all(size) -> None:
    assert out_of_memory(size)["forward", 0, 1] == ("OutOfMemoryAtOneError",) * size
    assert out_of_memory(size)["step", 1, 8, True] == ("MemoryError",) * size


def test_an_update_that_is_not_taken_over_is_noticed() -> None:
    """The deliberately wrong one: the process in which memory ran out leaves its update half made."""
    first, second = out_of_memory(2)["step", 1, 8, False, False]
    assert not same_bits(first[0], second[0])


def test_a_run_in_two_processes_is_broken_off_and_goes_on_in_one_and_in_three(two, alone) -> None:
    assert two["broken off"] == ["CrashError"] * 2
    tmp_path = two["folder"]["broken_off"]
    assert [f.name for f in folders(tmp_path / "checkpoints")] == ["window-00000002", "window-00000001"]
    with pytest.raises(ChildFailedError, match="CrashError"):  # and the processes are gone
        launch(jobs.train, 3, tmp_path, True, 5)
    by_one = jobs.train(tmp_path, resume=True)
    assert distance(by_one[0], alone[0]) < CLOSE
    assert by_one[1] == pytest.approx(alone[1][4:], rel=CLOSE), "goes on after the fourth window"
    logged = [event["loss"] for event in read_log(tmp_path / "log.jsonl") if event["event"] == "update"]
    assert logged == pytest.approx(alone[1], rel=CLOSE), "every window once, none twice"


def test_a_run_of_one_process_goes_on_in_two(two, alone) -> None:
    first, second = two["resumed"]
    assert distance(first[0], alone[0]) < CLOSE
    assert same_bits(first[0], second[0]), "all processes hold the same"
    assert len(first[1]) == 5, "windows 2 to 6"


def test_two_processes_with_dropout_go_on_to_the_same_bits(two) -> None:
    assert two["dropout, broken off"] == ["CrashError"] * 2
    assert same_bits(two["dropout, resumed"][0][0], two["dropout"][0][0])
    assert not same_bits(two["dropout"][0][0], two["resumed"][0][0]), "dropout makes a difference"


def test_the_comparison_notices_a_lost_window(alone) -> None:
    lost = jobs.train(None, max_updates=5)
    assert distance(lost[0], alone[0]) > 1e-4


def test_a_nan_in_one_process_is_left_out_by_all(two) -> None:
    first, second = two["nan"]
    assert first[1:] == second[1:] == (5, 1)
    assert same_bits(first[0], second[0])
    assert all(torch.isfinite(p).all() for p in first[0])


def test_processes_draw_different_dropout_masks(two) -> None:
    first, second = two["draws"]
    assert first != second
    torch.manual_seed(0)
    assert first == torch.rand(3).tolist(), "the first one draws what it would draw alone"


def test_torchrun_takes_the_same_command_line(tmp_path) -> None:
    rows = [f"{e.text},{('arrays', 'models')[e.label]}" for e in made_data().train]
    (tmp_path / "mine.csv").write_text("\n".join(["text,label", *rows]))
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m",
        "accum_lib", "train", "--data", str(tmp_path / "mine.csv"),
        "--output", str(tmp_path / "run"), "--max-updates", "2", "-M", "4", "-B", "16",
        "--max-held-out", "8",
        "--device", "cpu", "--quiet",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("2 updates") == 1, "the first process alone reports"
    assert (tmp_path / "run" / "model").is_dir()
