"""A run that breaks off and is resumed ends with the same bits; one that forgets anything does not."""

import random
import re
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_training import make_trainer, parameters, same_bits

from accum_lib.training import machinery
from accum_lib.training.logs import read_log
from accum_lib.training.saving import checkpoints, resumption
from accum_lib.training.saving.checkpoints import CheckpointError

SETTINGS = dict(dtype=torch.float32, save_every=1, epochs=2)  # six windows


class CrashError(Exception):
    """What ends a run in a test."""


def crash_at(window: int):
    """An ``on_update`` that breaks the run off after an update, before its checkpoint."""

    def on_update(update) -> None:
        if update.update == window:
            raise CrashError

    return on_update


def broken_off(folder, window: int, **settings) -> None:
    with pytest.raises(CrashError):
        make_trainer(folder, on_update=crash_at(window), **{**SETTINGS, **settings}).run()


def resumed(folder, **settings):
    trainer = make_trainer(folder, **{**SETTINGS, **settings})
    trainer.run(resume=True)
    return trainer


@pytest.fixture(
    scope="module", params=["classification", "mlm", "fp16", "noise scale", "long pool", "by tokens"]
)
def settings(request) -> dict:
    return {
        "classification": {},
        "mlm": {"task": "mlm"},
        "fp16": {"precision": "fp16"},
        "noise scale": {"noise_scale": True},
        "long pool": {"length_pool": 2, "evaluate_every": 1},
        "by tokens": {"by_tokens": True, "micro_batch_size": 4, "accumulation_steps": 8},
    }[request.param]


@pytest.fixture(scope="module")
def undisturbed(settings):
    trainer = make_trainer(**{**SETTINGS, **settings})
    trainer.run()
    return parameters(trainer)


@pytest.mark.parametrize("window", [2, 3, 4, 6])
def test_resumed_it_ends_with_the_same_bits(tmp_path, settings, undisturbed, window) -> None:
    broken_off(tmp_path, window, **settings)
    trainer = resumed(tmp_path, **settings)
    assert trainer.progress.windows == 6
    assert same_bits(parameters(trainer), undisturbed)


def test_a_resumption_without_a_bar_and_without_trouble_says_nothing(tmp_path, capsys) -> None:
    broken_off(tmp_path, 3)
    resumed(tmp_path)
    assert capsys.readouterr().err == ""


def test_the_noise_scale_goes_on_from_what_was_measured(tmp_path) -> None:
    """One window in four is looked at: after the fifth, a monitor that began anew would look at the sixth."""
    how, whole, after = dict(noise_scale=True, epochs=4, save_every=1), [], []
    make_trainer(**how, on_update=whole.append).run()
    with pytest.raises(CrashError):
        make_trainer(tmp_path, **how, on_update=crash_at(6)).run()
    make_trainer(tmp_path, **how, on_update=after.append).run(resume=True)
    assert len(after) == 12 - 5
    assert after[-1].noise_scale == whole[-1].noise_scale is not None


FORGOTTEN = {
    "random state": lambda state: state["progress.pt"].update(random=state_of_another_seed()),
    "data position": lambda state: state["progress.pt"]["progress"].update(windows=1),
    "optimizer": lambda state: state["optimizer.pt"].update(state={}),
    "schedule": lambda state: state["progress.pt"]["scheduler"].update(last_epoch=0),
    "parameters": lambda state: state["model.pt"].update({k: v + 1e-7 for k, v in state["model.pt"].items()}),
}


def test_a_checkpoint_of_an_older_version_goes_on(tmp_path, monkeypatch) -> None:
    """It did not say what was measured."""
    take = resumption.take

    def older(*arguments):
        state = take(*arguments)
        del state["progress.pt"]["measured"]
        return state

    monkeypatch.setattr(resumption, "take", older)
    broken_off(tmp_path, 2, noise_scale=True, save_every=1)
    assert resumed(tmp_path, noise_scale=True, save_every=1).progress.updates == 6


def test_a_run_that_was_saved_without_a_fused_optimizer_goes_on_with_one(tmp_path, monkeypatch) -> None:
    """As older versions saved it on a GPU; a scaler then asks an unfused update for what it cannot do."""
    whole = make_trainer(**SETTINGS, precision="fp16")
    whole.run()
    broken_off(tmp_path, 3, precision="fp16")
    make = machinery.make_optimizer

    def fused(*arguments):
        groups = [{**group, "fused": True} for group in make(*arguments).param_groups]
        return torch.optim.AdamW(groups, fused=True)

    monkeypatch.setattr(machinery, "make_optimizer", fused)
    trainer = resumed(tmp_path, precision="fp16")
    assert all(group["fused"] for group in trainer.machinery.optimizer.param_groups)
    for found, expected in zip(parameters(trainer), parameters(whole), strict=True):
        torch.testing.assert_close(found, expected)


def test_what_was_loaded_is_not_held_beside_the_model(tmp_path, monkeypatch) -> None:
    broken_off(tmp_path, 3)
    find, loaded = resumption.find, []

    def watched(*arguments):
        found = find(*arguments)
        loaded.extend(weakref.ref(tensor) for tensor in found.state["model.pt"].values())
        return found

    monkeypatch.setattr(resumption, "find", watched)
    alive = []
    trainer = make_trainer(
        tmp_path, on_update=lambda _: alive.append(sum(ref() is not None for ref in loaded)), **SETTINGS
    )
    trainer.run(resume=True)
    assert loaded
    assert set(alive) == {0}


NAN = float("nan")
IMPOSSIBLE = {  # what is changed in a checkpoint after three windows of six, and the file that is named
    "far beyond": ("progress.pt", lambda s: s["progress"].update(windows=10**12)),
    "another place": ("progress.pt", lambda s: s["progress"].update(windows=2)),
    "before the start": ("progress.pt", lambda s: s["progress"].update(windows=-3)),
    "not a whole number": ("progress.pt", lambda s: s["progress"].update(windows=3.0)),
    "more updates than windows": ("progress.pt", lambda s: s["progress"].update(updates=4)),
    "skips in a row alone": ("progress.pt", lambda s: s["progress"].update(skips_in_a_row=1)),
    "no examples": ("progress.pt", lambda s: s["progress"].update(micro_batch_size=0)),
    "more examples": ("progress.pt", lambda s: s["progress"].update(micro_batch_size=9)),
    "an unknown number": ("progress.pt", lambda s: s["progress"].update(more=1)),
    "a missing number": ("progress.pt", lambda s: s["progress"].pop("skipped")),
    "no progress": ("progress.pt", lambda s: s.pop("progress")),
    "a random state": ("progress.pt", lambda s: s["random"].update(torch=torch.zeros(3))),
    "another random state": ("progress.pt", lambda s: s["random"].update(python=(3, (1,), None))),
    "the schedule's attributes": ("progress.pt", lambda s: s["scheduler"].update(step=None)),
    "the schedule's place": ("progress.pt", lambda s: s["scheduler"].update(last_epoch=10**9)),
    "the schedule's rate": ("progress.pt", lambda s: s["scheduler"].update(base_lrs=[1e300, 1e300])),
    "a scaler": ("progress.pt", lambda s: s.update(scaler={"scale": NAN})),
    "a weight": ("model.pt", lambda s: next(iter(s.values())).fill_(NAN)),
    "a weight's shape": ("model.pt", lambda s: s.update({k: v[:1] for k, v in s.items()})),
    "a weight's type": ("model.pt", lambda s: s.update({k: v.half() for k, v in s.items()})),
    "a missing weight": ("model.pt", lambda s: s.popitem()),
    "a rate": ("optimizer.pt", lambda s: s["param_groups"][0].update(lr=1e300)),
    "a negative rate": ("optimizer.pt", lambda s: s["param_groups"][0].update(lr=-1.0)),
    "a decay": ("optimizer.pt", lambda s: s["param_groups"][0].update(weight_decay=7.0)),
    "a group": ("optimizer.pt", lambda s: s["param_groups"].pop()),
    "a moment": ("optimizer.pt", lambda s: s["state"][0]["exp_avg"].fill_(NAN)),
    "a negative square": ("optimizer.pt", lambda s: s["state"][0]["exp_avg_sq"].fill_(-1.0)),
    "a moment's shape": ("optimizer.pt", lambda s: s["state"][0].update(exp_avg=torch.zeros(()))),
    "all moments": ("progress.pt", lambda s: s),  # see below: the optimizer has made no update
    "a list": ("settings.json", lambda s: s),
}


@pytest.fixture(scope="module")
def after_three(tmp_path_factory):
    """A run that broke off after its third checkpoint, and the trainer of its successor."""
    folder = tmp_path_factory.mktemp("after_three")
    broken_off(folder, 4)
    return folder, make_trainer(folder, **SETTINGS)


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_what_no_run_can_have_saved_is_refused_and_the_file_named(after_three, what) -> None:
    folder, trainer = after_three
    newest = checkpoints.folders(folder / "checkpoints")[0]
    state = checkpoints.load(newest)
    resumption.check(trainer.machinery, trainer.planned, trainer.facts, newest, state)
    name, change = IMPOSSIBLE[what]
    change(state[name])
    if what == "all moments":
        state["optimizer.pt"]["state"].clear()
    if what == "a list":
        state[name] = ["micro_batch_size"]
    before = parameters(trainer)
    with pytest.raises(CheckpointError, match=rf"window-00000003/{name} holds what this run cannot have"):
        resumption.check(trainer.machinery, trainer.planned, trainer.facts, newest, state)
    assert same_bits(parameters(trainer), before)


def test_an_impossible_checkpoint_is_passed_over_for_an_older_one(tmp_path, capsys) -> None:
    """Its checksums are right. The run ends as one that was never disturbed."""
    whole = make_trainer(**SETTINGS)
    whole.run()
    broken_off(tmp_path, 4)
    newest, older = checkpoints.folders(tmp_path / "checkpoints")
    state = checkpoints.load(newest)
    state["progress.pt"]["progress"]["windows"] = 10**12
    checkpoints.save(tmp_path / "checkpoints", 3, state)
    assert older.exists()
    assert same_bits(parameters(resumed(tmp_path)), parameters(whole))
    said = capsys.readouterr().err
    assert "window-00000003/progress.pt holds what this run cannot have saved" in said
    assert "an earlier checkpoint is used" in said


@pytest.mark.parametrize(
    ("name", "content"), [("settings.json", b"[" * 200_000), ("model.pt", b"none"), ("progress.pt", b"")]
)
def test_a_file_with_the_right_checksum_that_cannot_be_read_is_named(after_three, name, content) -> None:
    import hashlib
    import shutil

    newest = checkpoints.folders(after_three[0] / "checkpoints")[0]
    folder = shutil.copytree(newest, after_three[0] / f"copy-{name}")
    sums, old = (folder / "SHA256SUMS").read_text(), hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(sums.replace(old, hashlib.sha256(content).hexdigest()))
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name} is no file of a checkpoint \("):
        checkpoints.load(folder)


def state_of_another_seed() -> dict:
    from accum_lib.training.saving import random_state

    with random_state.preserved():
        random_state.seed_all(1)
        return random_state.capture()


@pytest.mark.parametrize("forgotten", FORGOTTEN)
def test_whatever_is_forgotten_is_seen(tmp_path, monkeypatch, forgotten) -> None:
    """The comparison above fails on each resumption that leaves one thing out."""
    whole = make_trainer(**SETTINGS)
    whole.run()
    broken_off(tmp_path, 4)
    put_back = resumption.put_back

    def forgetful(machinery, progress, state) -> None:
        FORGOTTEN[forgotten](state)
        put_back(machinery, progress, state)

    monkeypatch.setattr(resumption, "put_back", forgetful)
    assert not same_bits(parameters(resumed(tmp_path)), parameters(whole))


def test_a_smaller_m_after_out_of_memory_is_remembered(tmp_path) -> None:
    progress = resumption.RunProgress(8)
    trainer = make_trainer(**SETTINGS)
    trainer.progress.micro_batch_size = 3
    state = resumption.take(trainer.machinery, trainer.progress, trainer.facts)
    checkpoints.save(tmp_path, 1, state)
    resumption.put_back(trainer.machinery, progress, checkpoints.newest(tmp_path).state)
    assert progress.micro_batch_size == 3


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"learning_rate": 5e-3}, "learning_rate: 0.01 in the checkpoint, 0.005 now"),
        ({"micro_batch_size": 4}, "micro_batch_size: 8 in the checkpoint, 4 now"),
        ({"accumulation_steps": 8}, "accumulation_steps: 4 in the checkpoint, 8 now"),
        ({"seed": 1}, "seed: 0 in the checkpoint, 1 now"),
        ({"task": "mlm"}, "task: 'classification' in the checkpoint, 'mlm' now"),
        ({"dtype": torch.float64}, "dtype: 'torch.float32' in the checkpoint, 'torch.float64' now"),
        ({"facts": {"model": "other"}}, "model: None in the checkpoint, 'other' now"),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, other, message) -> None:
    broken_off(tmp_path, 2)
    with pytest.raises(CheckpointError, match=message):
        resumed(tmp_path, **other)


@pytest.mark.parametrize(("m", "by_tokens"), [(4, False), (16, True), (32, False)])
def test_another_m_and_k_at_the_same_b_end_with_the_same_parameters(tmp_path, m, by_tokens) -> None:
    """To rounding, in float64 and without dropout; other settings in between would show."""
    same = {"dropout": 0.0, "dtype": torch.float64}
    whole = make_trainer(**{**SETTINGS, **same})
    whole.run()
    broken_off(tmp_path, 4, **same)
    trainer = resumed(
        tmp_path, **same, micro_batch_size=m, accumulation_steps=32 // m, checkpointing=True,
        by_tokens=by_tokens,
    )  # fmt: skip
    assert trainer.progress.micro_batch_size == m
    updates = [e for e in read_log(tmp_path / "log.jsonl") if e["event"] == "update"]
    assert {e["micro_batch_size"] for e in updates} == {8, m}
    there, here = (torch.cat([p.flatten() for p in parameters(t)]) for t in (whole, trainer))
    assert float((here - there).norm() / there.norm()) < 1e-12


def test_another_m_would_change_the_noise_scale_and_is_refused(tmp_path) -> None:
    broken_off(tmp_path, 2, noise_scale=True)
    with pytest.raises(CheckpointError, match="accumulation_steps: 4 in the checkpoint, 8 now"):
        resumed(tmp_path, noise_scale=True, micro_batch_size=4, accumulation_steps=8)


@pytest.mark.parametrize(("asked", "m"), [(8, 3), (4, 4)])
def test_an_m_that_was_halved_stays_so_unless_another_is_asked_for(tmp_path, asked, m) -> None:
    trainer = make_trainer(tmp_path, **SETTINGS, on_update=crash_at(2))
    trainer.progress.micro_batch_size = 3
    with pytest.raises(CrashError):
        trainer.run()
    assert (
        resumed(tmp_path, micro_batch_size=asked, accumulation_steps=32 // asked).progress.micro_batch_size
        == m
    )


def test_other_data_are_refused(tmp_path) -> None:
    from small_training import made_data

    broken_off(tmp_path, 2)
    with pytest.raises(CheckpointError, match="the training data are not the same") as caught:
        resumed(tmp_path, data=made_data(88, 18))
    assert not re.search("[0-9a-f]{20}", str(caught.value).replace(str(tmp_path), ""))


def test_what_does_not_touch_the_training_may_change(tmp_path) -> None:
    whole = make_trainer(**SETTINGS)
    whole.run()
    broken_off(tmp_path, 4)
    assert same_bits(parameters(resumed(tmp_path, save_every=2, evaluate_every=1)), parameters(whole))


def test_other_held_out_data_change_nothing(tmp_path) -> None:
    from small_training import made_data

    whole = make_trainer(**SETTINGS)
    whole.run()
    broken_off(tmp_path, 4)
    fewer = replace(made_data(), held_out=made_data().held_out[:5])
    trainer = resumed(tmp_path, data=fewer)
    assert trainer.evaluations[-1].count == 5
    assert same_bits(parameters(trainer), parameters(whole))


def test_a_run_is_not_begun_anew_over_another(tmp_path) -> None:
    broken_off(tmp_path, 2)
    with pytest.raises(CheckpointError, match="holds a run already: go on with it"):
        make_trainer(tmp_path, **SETTINGS).run()


def test_nothing_to_resume_from_is_said(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint\. Start from scratch without --resume"):
        resumed(tmp_path)


def test_a_finished_run_stays_as_it_is(tmp_path) -> None:
    whole = make_trainer(tmp_path, **SETTINGS)
    whole.run()
    again = make_trainer(tmp_path, **SETTINGS)
    done = again.run(resume=True)
    assert (done.updates, len(done.evaluations)) == (6, 1)
    assert same_bits(parameters(again), parameters(whole))


def test_the_callers_random_numbers_are_left_alone() -> None:
    def draws() -> tuple:
        return random.random(), np.random.rand(), float(torch.rand(()))

    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    expected = draws()
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    make_trainer(**SETTINGS).run()
    assert draws() == expected


def test_all_generators_are_put_back() -> None:
    from accum_lib.training.saving import random_state

    def draws() -> list:
        return [random.random(), random.gauss(0, 1), *np.random.standard_normal(3), *torch.rand(3).tolist()]

    draws()
    state = random_state.capture()
    first = draws()
    assert draws() != first
    random_state.restore(state)
    assert draws() == first
