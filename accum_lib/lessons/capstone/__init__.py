"""Notebook 10: a broken script, a card, a budget: repair, plan, run, check."""

from accum_lib.lessons.capstone import questions
from accum_lib.lessons.capstone.exercises import check_epochs, check_plan, check_script
from accum_lib.lessons.capstone.explorer import run_explorer
from accum_lib.lessons.roberta.problem import case_of

__all__ = ["case_of", "check_epochs", "check_plan", "check_script", "questions", "run_explorer"]
