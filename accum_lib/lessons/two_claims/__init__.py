"""Notebook 11: two published claims about batch size, tested at the scale of this machine."""

from accum_lib.lessons.two_claims import questions
from accum_lib.lessons.two_claims.exercises import check_beta2
from accum_lib.lessons.two_claims.explorer import claims_explorer, claims_track

__all__ = ["check_beta2", "claims_explorer", "claims_track", "questions"]
