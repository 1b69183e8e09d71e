"""Notebook 06: RoBERTa fine-tuned for real, with what a GPU adds."""

from accum_lib.lessons.roberta import questions
from accum_lib.lessons.roberta.exercises import check_mlm_loss, check_warmup_updates
from accum_lib.lessons.roberta.explorer import fixed_batch_explorer, train_and_show
from accum_lib.lessons.roberta.gpu_results import show_gpu_results
from accum_lib.lessons.roberta.measure import interrupted_and_not, precision_errors
from accum_lib.lessons.roberta.problem import TaskProblem, case_of, usual_report

__all__ = [
    "TaskProblem",
    "case_of",
    "check_mlm_loss",
    "check_warmup_updates",
    "fixed_batch_explorer",
    "interrupted_and_not",
    "precision_errors",
    "questions",
    "show_gpu_results",
    "train_and_show",
    "usual_report",
]
