"""Where accumulation leaves the accuracy alone, and where not."""

from accum_lib.check.faults.models import every_model
from accum_lib.lessons.when_it_breaks.accuracy import accuracy_trials


def test_the_claim_holds_for_right_updates_and_fails_for_others() -> None:
    told = []
    trials = accuracy_trials(lambda done, of: told.append((done, of)))
    assert told == [(i, 5) for i in range(1, 6)]
    mlp, group_norm, batch_norm, means, cleared = trials
    for trial in (mlp, group_norm):
        assert (trial.one_big_batch == trial.accumulated).all()
        assert trial.distance < 1e-12
    for trial in (batch_norm, means, cleared):
        assert trial.distance > 1e-2
    assert (cleared.accumulated < cleared.one_big_batch - 0.2).all()
    assert 0.5 < mlp.one_big_batch.min() <= mlp.one_big_batch.max() < 1, (
        "it has learnt something, and not all"
    )


def test_every_model_is_built_in_the_same_way_twice() -> None:
    for _, _, case in every_model():
        one, other = case.make_model().state_dict(), case.make_model().state_dict()
        assert all(one[k].equal(other[k]) for k in one)
