"""The explorer of notebook 11: final held-out loss against B, for three recipes of each claim."""

from accum_lib.lessons.kit.grid import Control, GridExplorer
from accum_lib.lessons.kit.theme import Picture
from accum_lib.lessons.two_claims import figure
from accum_lib.lessons.two_claims.measure import BASE_RATES, ClaimRaces, race_claims
from accum_lib.lessons.variance.explorer import RaceTrack
from accum_lib.words import N_, _

CLAIMS: tuple[tuple[str, int | None], ...] = (("scaling", 1), ("scaling", 0), ("small", None))


def claims_track() -> RaceTrack[ClaimRaces]:
    """The races of both claims, under a progress bar."""
    return RaceTrack(race_claims)


def claims_explorer(races: ClaimRaces | None = None) -> GridExplorer:
    """Two published claims: final held-out loss against B for three recipes each.

    Args:
        races: what the track has raced; None races now.
    """
    races = races or race_claims()

    def picture_of(claim: tuple[str, int | None]) -> Picture:
        name, rate = claim
        return figure.picture(getattr(races, name), rate)

    words = [_("scaling from {rate} (Goyal)", rate=rate) for rate in reversed(BASE_RATES)]
    words.append(_("small batches (Marek)"))
    return GridExplorer([Control("claim", N_("Claim:"), CLAIMS, CLAIMS[0], words, "choice")], picture_of)
