"""Out of memory in any pass, there or back: the window's gradient is as if M had been that small at once."""

import pytest
import torch
from small_training import distance, make_trainer, parameters, same_bits, small_model

from accum_lib.training import recovery
from accum_lib.training import trainer as trainer_module
from accum_lib.training.data.batches import cut
from accum_lib.training.data.tasks import Task
from accum_lib.training.evaluation import evaluate
from accum_lib.training.logs import read_log
from accum_lib.training.recovery import NonFiniteError, OutOfMemoryAtOneError, accumulate_or_halve
from accum_lib.training.saving import random_state

ROUNDING = 1e-12  # float64, of gradients; see test_updates
EXAMPLES = list(range(8))


class OutOfMemoryOnce:
    """A loss sum that runs out of memory at one pass of the first attempt, on the way there or back."""

    def __init__(self, loss_sum, at: int, where: str, times: int = 1, larger_than: int = 0) -> None:
        self.loss_sum, self.at, self.where = loss_sum, at, where
        self.times, self.larger_than, self.passes = times, larger_than, 0

    def __call__(self, model, batch):
        fails = self.times > 0 and self.passes == self.at and len(batch["input_ids"]) > self.larger_than
        self.passes = 0 if fails else self.passes + 1
        self.times -= fails
        if fails and self.where == "forward":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        loss = self.loss_sum(model, batch)
        if fails:  # when half of the backward pass is done
            middle = model.roberta.encoder.layer[1].output.dense.weight
            hook = middle.register_hook(lambda gradient: out_of_memory(hook))
        return loss


def out_of_memory(hook) -> None:
    hook.remove()
    raise torch.OutOfMemoryError("CUDA out of memory in backward")


def gradients(model) -> list:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def window_gradient(micro_batch_size: int, wrap=lambda loss_sum: loss_sum, dropout: float = 0.1, **how):
    """The gradient of the window by ``accumulate_or_halve``, M at the end, the random state at the end."""
    task, model = make_trainer().task, small_model(dropout=dropout).train()
    torch.manual_seed(3)
    result, size = accumulate_or_halve(
        model, lambda m: [task.batch(part) for part in cut(EXAMPLES, m)], wrap(task.loss_sum), task.count,
        micro_batch_size, **how,
    )  # fmt: skip
    return gradients(model), size, torch.get_rng_state(), result


@pytest.fixture(autouse=True)
def random_numbers():
    with random_state.preserved():
        yield


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("position", range(4))
def test_the_window_is_done_anew_with_half_of_m(position, where) -> None:
    """Bit for bit what M / 2 gives from the beginning, dropout included, wherever memory ran out."""
    told = []
    found, size, state, result = window_gradient(
        2, lambda f: OutOfMemoryOnce(f, position, where), on_halved=lambda m, error: told.append((m, error))
    )
    expected, _, expected_state, expected_result = window_gradient(1)
    assert size == 1
    assert same_bits(found, expected)
    assert torch.equal(state, expected_state)
    assert result == expected_result
    assert told[0][0] == 1
    assert "out of memory" in told[0][1]


def test_the_gradient_is_that_of_the_window_whatever_m() -> None:
    found, size, _, result = window_gradient(8, lambda f: OutOfMemoryOnce(f, 0, "backward", 2), dropout=0.0)
    expected, *_ = window_gradient(8, dropout=0.0)
    assert size == 2
    assert (result.count, result.micro_batches) == (8, 4)
    assert distance(found, expected) < ROUNDING


@pytest.mark.parametrize(("size", "smaller", "micro_batches"), [(8, 4, 2), (5, 3, 3), (3, 2, 4)])
def test_odd_sizes_are_halved_upwards(size, smaller, micro_batches) -> None:
    found, m, _, result = window_gradient(size, lambda f: OutOfMemoryOnce(f, 0, "forward"), dropout=0.0)
    assert (m, result.count, result.micro_batches) == (smaller, 8, micro_batches)
    assert distance(found, window_gradient(8, dropout=0.0)[0]) < ROUNDING


def test_a_budget_of_tokens_is_halved_with_m(monkeypatch) -> None:
    """Bit for bit the update of half the budget from the beginning, dropout included."""
    how = {"by_tokens": True, "max_updates": 1}
    expected, small = make_trainer(micro_batch_size=2, accumulation_steps=16, **how), []
    expected.run()
    trainer = make_trainer(micro_batch_size=4, accumulation_steps=8, on_update=small.append, **how)
    monkeypatch.setattr(trainer.task, "loss_sum", OutOfMemoryOnce(trainer.task.loss_sum, 1, "backward"))
    trainer.run()
    assert [u.micro_batch_size for u in small] == [2]
    assert same_bits(parameters(trainer), parameters(expected))


def test_a_recovery_that_counts_twice_or_forgets_the_dropout_is_seen(monkeypatch) -> None:
    """The deliberately wrong ones: gradients of the failed attempt stay, or the random state goes on."""
    expected, *_ = window_gradient(1)

    def fails(loss_sum):
        return OutOfMemoryOnce(loss_sum, 1, "forward")

    with monkeypatch.context() as patch:
        patch.setattr(random_state, "restore", lambda state: None)
        assert not same_bits(window_gradient(2, fails)[0], expected)
    with monkeypatch.context() as patch:
        patch.setattr(recovery, "accumulate", leaves_gradients)
        assert distance(window_gradient(2, fails)[0], expected) > 0.1
    assert same_bits(window_gradient(2, fails)[0], expected)


def leaves_gradients(model, window, loss_sum, count, scaler=None, ranks=None):
    """What a loop does that adds to ``.grad`` and has no way back."""
    total = sum(count(batch) for batch in window)
    for batch in window:
        (loss_sum(model, batch) / total).backward()


def test_at_m_1_there_is_a_clear_error_and_nothing_has_moved() -> None:
    task, model = make_trainer().task, small_model()
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(OutOfMemoryAtOneError, match=r"one example \(CUDA out of memory.*checkpointing"):
        accumulate_or_halve(
            model, lambda m: [task.batch(part) for part in cut(EXAMPLES, m)],
            OutOfMemoryOnce(task.loss_sum, 0, "forward", 9), task.count, 4,
        )  # fmt: skip
    assert same_bits([p.detach() for p in model.parameters()], before)
    assert all(p.grad is None for p in model.parameters())


def test_what_a_cpu_says_is_understood_and_other_errors_are_not_taken_for_it() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert recovery.is_out_of_memory(caught.value)
    assert not recovery.is_out_of_memory(RuntimeError("shapes do not match"))

    def broken(model, batch):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        window_gradient(2, lambda f: broken)


# --- In a whole run


def runs_out(monkeypatch, larger_than: int) -> None:
    """From here on, micro-batches above a size do not fit."""
    loss_sum = Task.loss_sum

    def limited(self, model, batch):
        if len(batch["input_ids"]) > larger_than:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss_sum(self, model, batch)

    monkeypatch.setattr(Task, "loss_sum", limited)


def test_a_run_that_does_not_fit_goes_on_smaller_and_logs_it(tmp_path, monkeypatch) -> None:
    small = make_trainer(micro_batch_size=2, accumulation_steps=16)
    small.run()
    runs_out(monkeypatch, 3)
    seen: list = []
    trainer = make_trainer(tmp_path, on_update=seen.append)
    done = trainer.run()
    assert done.micro_batch_size == 2
    assert [u.count for u in seen] == [32, 32, 26, 32, 32, 26]
    assert same_bits(parameters(trainer), parameters(small))
    events = [e for e in read_log(tmp_path / "log.jsonl") if e["event"] == "out_of_memory"]
    assert [(e["update"], e["micro_batch_size"]) for e in events] == [(0, 4), (0, 2)]


def test_an_evaluation_that_does_not_fit_goes_on_in_smaller_batches(monkeypatch, capsys) -> None:
    plain, sizes = make_trainer(), []
    expected = plain.run().evaluations

    def on_a_small_card(model, task, size, *rest, **more):
        sizes.append(size)
        if size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return evaluate(model, task, size, *rest, **more)

    monkeypatch.setattr(trainer_module, "evaluate", on_a_small_card)
    trainer = make_trainer()
    done = trainer.run()
    assert sizes == [8, 4, 2, 8, 4, 2]
    assert [e.accuracy for e in done.evaluations] == [e.accuracy for e in expected]
    assert done.micro_batch_size == 8, "training fitted, and goes on as it was"
    assert same_bits(parameters(trainer), parameters(plain))
    assert "out of memory: held-out data are measured 2 at a time" in capsys.readouterr().err


def test_an_evaluation_that_does_not_fit_one_by_one_says_so(monkeypatch) -> None:
    def never(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainer_module, "evaluate", never)
    with pytest.raises(OutOfMemoryAtOneError, match="micro-batches of one example"):
        make_trainer().run()


def test_out_of_memory_in_the_optimizer_is_no_matter_of_m(monkeypatch) -> None:
    trainer = make_trainer()

    def step(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainer.machinery.optimizer, "step", step)
    with pytest.raises(MemoryError, match=r"in the optimizer's update .* where a smaller M does not help"):
        trainer.run()


def test_a_scaler_that_overflows_skips_the_update_and_not_the_window() -> None:
    seen: list = []
    trainer = make_trainer(dtype=torch.float32, precision="fp16", on_update=seen.append)
    trainer.machinery.scaler._init_scale = 2.0**127  # the first windows' gradients will be infinite
    done = trainer.run()
    skipped = [u.skipped for u in seen]
    assert skipped[0]
    assert len(seen) == 6
    assert done.updates == skipped.count(False)
    assert done.skipped_windows == 0  # nothing was wrong with the data
    assert all(bool(p.isfinite().all()) for p in trainer.model.parameters())


# --- Losses that are not finite


def poisoned(monkeypatch, windows: set[int], value: float = float("nan"), where: str = "loss") -> None:
    """In some windows (1 is the first) the last micro-batch's loss or its gradient is not finite."""
    loss_sum, passes = Task.loss_sum, {"n": 0}

    def poison(self, model, batch):
        loss = loss_sum(self, model, batch)
        passes["n"] += 1
        window, last = divmod(passes["n"], 4)  # K is 4
        if last or window not in windows:
            return loss
        if where == "loss":
            return loss * value
        loss.register_hook(lambda gradient: gradient * value)
        return loss

    monkeypatch.setattr(Task, "loss_sum", poison)


@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_by_default_a_run_stops_with_the_parameters_as_they_were(monkeypatch, tmp_path, where, value) -> None:
    two = make_trainer(max_updates=6)
    two.planned = 2
    two.run()
    poisoned(monkeypatch, {3}, value, where)
    trainer = make_trainer(tmp_path, save_every=1)
    with pytest.raises(NonFiniteError, match=r"stopped at window 3, after update 2: .*(nan|inf)"):
        trainer.run()
    assert same_bits(parameters(trainer), parameters(two))
    assert all(p.grad is None for p in trainer.model.parameters())
    assert read_log(tmp_path / "log.jsonl")[-1]["event"] == "not_finite"


def test_a_gradient_that_no_scale_makes_finite_stops_a_run_in_float16() -> None:
    """A scaler alone would halve its scale for ever, and the run end well without an update."""
    model, seen = small_model(dtype=torch.float32), []
    next(model.parameters()).register_hook(lambda gradient: gradient * float("nan"))
    how = dict(dtype=torch.float32, precision="fp16", epochs=8, model=model, on_update=seen.append)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(NonFiniteError, match=r"not finite in float16, even with the loss scaled by 0.5"):
        make_trainer(**how).run()
    assert len(seen) == 16  # from 2 ** 16 down to 1
    assert same_bits([p.detach() for p in model.parameters()], before)
    with pytest.raises(NonFiniteError, match="3 windows in a row were not finite, and max_skips is 2"):
        make_trainer(**how, on_non_finite="skip", max_skips=2).run()


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_window_can_be_left_out(monkeypatch, tmp_path, where) -> None:
    poisoned(monkeypatch, {2, 3, 5}, where=where)
    seen: list = []
    trainer = make_trainer(tmp_path, on_non_finite="skip", max_skips=2, on_update=seen.append)
    done = trainer.run()
    assert (done.updates, done.skipped_windows) == (3, 3)
    assert [u.count for u in seen] == [32, 32, 26]
    assert all(bool(p.isfinite().all()) for p in trainer.model.parameters())
    windows = [e["window"] for e in read_log(tmp_path / "log.jsonl") if e["event"] == "not_finite"]
    assert windows == [2, 3, 5]


def test_too_many_in_a_row_stop_the_run(monkeypatch) -> None:
    poisoned(monkeypatch, {2, 3, 4})
    with pytest.raises(NonFiniteError, match="3 windows in a row were not finite, and max_skips is 2"):
        make_trainer(on_non_finite="skip", max_skips=2).run()


def test_without_the_look_at_gradients_the_parameters_would_be_lost(monkeypatch) -> None:
    """The deliberately wrong one: a finite loss with a NaN in its gradient goes through."""
    poisoned(monkeypatch, {2}, where="gradient")
    look = trainer_module.apply_update
    monkeypatch.setattr(
        trainer_module, "apply_update", lambda *a, **given: look(*a, **{**given, "error_if_nonfinite": False})
    )
    trainer = make_trainer(max_updates=2)
    with pytest.raises(NonFiniteError, match="the held-out loss is nan after update 2"):
        trainer.run()
    assert not all(bool(p.isfinite().all()) for p in trainer.model.parameters())
