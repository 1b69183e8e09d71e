"""Notebook 11: its races are what the claims ask for, and its question follows them."""

import numpy as np
import pytest
from asking import asked
from made_races import claim_races, race_of

from accum_lib.lessons.two_claims import measure as module
from accum_lib.lessons.two_claims import questions
from accum_lib.lessons.two_claims.explorer import claims_explorer
from accum_lib.lessons.two_claims.measure import ClaimRaces, held_in_examples, race_claims


def test_the_half_life_is_held_in_examples() -> None:
    halves = [np.log(0.5) / np.log(held_in_examples(b)) * b for b in (1, 8, 64)]
    assert halves == pytest.approx([halves[-1]] * 3)
    assert held_in_examples(64) == 0.95


@pytest.fixture(scope="module")
def quick():
    """All races of the notebook, far shorter."""
    patch = pytest.MonkeyPatch()
    patch.setattr(module, "SCALING", (16, 704))
    patch.setattr(module, "SCALING_EPOCHS", 1)
    patch.setattr(module, "ADAM_RATES", {8: (1e-2,), 64: (3e-2,)})
    shares = []
    yield race_claims(shares.append), shares
    patch.undo()


def test_all_races_are_run_and_the_bar_goes_from_nothing_to_full(quick) -> None:
    races, shares = quick
    assert {len(each) for each in (races.scaling | races.small).values()} == {2}
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    assert 0 < shares[0] < 0.1


def test_a_scaling_of_one_is_the_same_race(quick) -> None:
    races, _ = quick
    plain, scaled = races.scaling["rate unchanged"][0], races.scaling["rate × B/16"][0]
    assert plain.losses is scaled.losses
    assert (plain.recipe, scaled.recipe) == ("rate unchanged", "rate × B/16")
    scaled = races.scaling["rate × B/16"][1]
    assert scaled.rates == pytest.approx([44 * rate for rate in module.BASE_RATES])


def test_no_setting_of_the_explorer_fails() -> None:
    explorer = claims_explorer(claim_races())
    explorer.fill()
    assert explorer.errors == []
    assert all(cell.get("summary") for cell in explorer.cells.values())


@pytest.mark.parametrize(("speed", "right"), [(0.0001, 0), (0.0005, 1), (0.01, 2)])
def test_the_verdict_on_tiny_batches_follows_the_race(speed, right) -> None:
    small = {"SGD, no momentum": (race_of(1, speed), race_of(64, 0.0005))}
    said = asked(questions.one_at_a_time(ClaimRaces({}, small, 1.0)), right)
    assert "As you predicted." in said
