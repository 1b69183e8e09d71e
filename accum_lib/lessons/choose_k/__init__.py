"""Choosing (M, K): the memory plan, the noise scale and the time model, joined.

``work``      updates and examples to the same progress, from the noise scale
``times``     seconds of an update against M and K, fitted to measurements made here
``choose``    the advice itself, and the landscape that it lies in
``reasons``   the same in sentences
``subjects``  models to ask about, and a pilot run that measures the noise scale
``trial``     the advised K raced against a quarter of it and four times it
``verdicts``  what the advice claimed, and whether the races showed it
"""

from accum_lib.lenses.advice.choose import Chooser, advise, known_noise, landscape
from accum_lib.lenses.advice.subjects import HERE, NAMES, pilot, subject
from accum_lib.lenses.advice.times import fit_times, measure_times
from accum_lib.lenses.advice.trial import AdviceTrial
from accum_lib.lenses.advice.verdicts import verdicts
from accum_lib.lenses.advice.work import examples_factor, time_factor, updates_factor

__all__ = [
    "HERE",
    "NAMES",
    "AdviceTrial",
    "Chooser",
    "advise",
    "examples_factor",
    "fit_times",
    "known_noise",
    "landscape",
    "measure_times",
    "pilot",
    "subject",
    "time_factor",
    "updates_factor",
    "verdicts",
]
