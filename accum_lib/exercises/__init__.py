"""Automatic checks for the notebooks' exercises."""

from accum_lib.exercises.advice import check_choice, check_fastest_steps, check_work
from accum_lib.exercises.beyond import check_alignable, check_momentum, check_torch_mean
from accum_lib.exercises.communication import check_bytes, check_enough, check_share
from accum_lib.exercises.equivalence import check_data, check_loop, check_mean_of_means_weight
from accum_lib.exercises.memory import check_floor, check_second_buffer, check_steps
from accum_lib.exercises.pitfalls import check_clipped_repair, check_logged_repair, check_plain_repair
from accum_lib.exercises.roberta import check_mlm_loss, check_warmup_updates
from accum_lib.exercises.three_descents import check_same_step, check_updates_per_epoch, check_weight
from accum_lib.exercises.variance import check_beta2, check_noise_scale, check_variance

__all__ = [
    "check_alignable",
    "check_beta2",
    "check_bytes",
    "check_choice",
    "check_clipped_repair",
    "check_data",
    "check_enough",
    "check_fastest_steps",
    "check_floor",
    "check_logged_repair",
    "check_loop",
    "check_mean_of_means_weight",
    "check_mlm_loss",
    "check_momentum",
    "check_noise_scale",
    "check_plain_repair",
    "check_same_step",
    "check_second_buffer",
    "check_share",
    "check_steps",
    "check_torch_mean",
    "check_updates_per_epoch",
    "check_variance",
    "check_warmup_updates",
    "check_weight",
    "check_work",
]
