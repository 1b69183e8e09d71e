# %% [markdown]
# # 07 · Beyond text: images and audio
#
# **Question.** Accumulation is mostly told as a story about language models. What changes when the data are
# images, normalised by BatchNorm, or recordings of ragged length, spelled out with CTC?
#
# **After this lesson you can**
# - say what BatchNorm makes of micro-batches, in the gradient and in its running statistics, and what helps;
# - say which average a CTC loss takes, and accumulate the one that you mean;
# - find two leaks that no loop can mend: padding, and recordings too short for their target.
#
# **Time:** 35 minutes. **Before this:** [02 Equivalence](02_equivalence.ipynb).

# %% [markdown]
# > **Lin's run.** The loop is right for text. Lin's neighbour wants it for X-ray pictures, and another for recordings of
# > speech. "Same loop", says Lin, and then looks closer.

# %% [markdown]
# ## 1. Images: your guess first
#
# The digits of notebook 03, through a small CNN. The loop is right: every loss sum is divided by the window's count.

# %%
from accum_lib.lessons.beyond_text import (
    norm_explorer,
    questions,
    speech_explorer,
    weighting_explorer,
)

questions.halved_batch().show()

# %% [markdown]
# ## 2. Explore: three normalisations
#
# `B` is 64 throughout; only the cut changes. Left: how far the gradient is from one big batch's, in float64. Right:
# how far BatchNorm's *running* statistics, which it uses when the training is over, are from one big batch's.

# %%
explorer = norm_explorer()
explorer.show()

# %% [markdown]
# **Things to try**
#
# 1. Move `M` from 64 down to 1 with BatchNorm. Where does the gradient begin to differ?
# 2. Choose GroupNorm, then the frozen statistics. What do they not look at, that BatchNorm does?
# 3. Back to BatchNorm: correct its momentum for `K`. Which of the two panels moves?

# %% [markdown]
# **What you saw**
#
# - BatchNorm subtracts the mean and divides by the spread of *what it is given*, and that is a micro-batch. No weight
#   of the losses can repair it: each example's gradient depends on its neighbours.
# - GroupNorm normalises each image by itself, and frozen statistics are constants. Both are exact, up to rounding.
#   (SyncBatchNorm does not help: it joins several devices, not several turns on one.)
# - The running statistics move once for each *micro-batch*: after `K` of them `0.9^K` of the old ones are left instead of
#   `0.9`. With a momentum of `1 − (1 − 0.1)^(1/K)` they forget as slowly as with one big batch, and their error falls by
#   a factor of eight or more. The gradient does not care: in training it uses the micro-batch's own statistics.
#
# "Differs" is not "worse". Notebook [05](05_when_it_breaks.ipynb) trains both ways, and the accuracy is about the same.

# %% [markdown]
# ## 3. Audio: sequences of ragged length
#
# Utterances of one to eight invented syllables (gliding tones with noise), a spectrogram, two convolutions, and CTC:
# a loss that sums over every way in which the frames could spell the target. All of it generated, from a seed.

# %% tags=["nbval-check-output"]
import torch
from accum_lib.lessons.beyond_text import words
from accum_lib.problems.audio import Audio

problem = Audio(num_samples=32, dtype=torch.float64)
batch = problem.batch(torch.arange(4))
for target, frames in zip(problem.targets[:4], batch.frames.tolist(), strict=True):
    print(f"{frames:3} frames: {words(target.tolist())}")

# %% [markdown]
# A mean over syllables, over utterances, or over micro-batches? PyTorch's own `reduction="mean"` first:

# %%
questions.lone_syllable().show()

# %%
weighting_explorer().show()

# %% [markdown]
# Left: the distance to the gradient of the mean over all syllables of the window. Right: each ring is an utterance.
#
# 1. *Sum / window's syllables* is one big batch for every `M`.
# 2. *Mean of means* divides each micro-batch by its own syllables: the rings scatter, and the fewer utterances a
#    micro-batch has, the further. At `M = B` there is nothing left to go wrong.
# 3. *Torch's mean* does not depend on `M`, as long as all micro-batches have the same size. It is **another
#    objective**: it divides each loss by its own target's length, and then averages over utterances. That can be what
#    you want (every recording counts the same); it should not happen by accident.
# 4. At `M = 1` the last two are the same thing. Why?

# %% [markdown]
# ## 4. Two leaks that no loop can mend
#
# **Padding.** To be computed together, utterances are padded to the longest of their micro-batch.

# %%
questions.unmasked_padding().show()

# %% [markdown]
# **Too short.** A target of `L` symbols, `R` of them equal to their left neighbour, needs `L + R` frames: between equal
# symbols there must be a blank. A recording with fewer has an infinite loss, and one of them is enough to spoil the whole
# window. `zero_infinity=True` sets such a loss to 0, *but the target's length still counts* in the divisor.

# %% tags=["nbval-check-output"]
from torch.nn.functional import ctc_loss

cut = Audio(num_samples=32, dtype=torch.float64, too_short=3)
batch, model = cut.batch(torch.arange(32)), cut.make_model()
scores = model(batch.features, batch.frames)
given = (scores, batch.targets, batch.frames, batch.lengths)
print("sum of the losses:", ctc_loss(*given, reduction="sum").item())
print("with zero_infinity is it finite?", bool(cut.loss_sum(model, batch).isfinite()))
print(f"syllables: {int(batch.lengths.sum())}; that count: {cut.count(batch)}")

# %% [markdown]
# `Audio.count` leaves them out, which it can know before the forward pass, from lengths alone. Counting all of them
# would make the gradient too short by just that ratio, in every window by another one.

# %% [markdown]
# ## 5. Does it learn?
#
# 256 utterances, Adam, `M = 4`, `K = 4`: three trainings from the same weights, one for each average (about a quarter
# of a minute). Right: what the net hears in one held-out utterance over time. CTC nets answer in spikes, and *blank*
# between them.

# %%
speech_explorer().show()

# %% [markdown]
# All three learn to read. With one seed and one small task, which of them is ahead at an epoch tells little; that the
# three take *different paths from the same start with the same data* is what the weights alone do.

# %% [markdown]
# ## 6. Where it stops being true
#
# - **BatchNorm** in training mode: the limit is the layer's, not the loop's. The same goes for all that looks across the
#   batch, such as contrastive losses.
# - **Recurrent and convolutional nets over padded sequences** are exact only if padding is masked or packed.
# - **Unequal micro-batches**: with torch's mean, a trailing micro-batch of fewer utterances counts as much as a full one,
#   unless it is given its count (`len`), as it is here.
# - What could not be tested here: large networks and real speech, where the errors may be larger or smaller.

# %% [markdown]
# ## 7. Exercises
#
# **1.** The momentum with which `K` micro-batches forget as much of BatchNorm's old statistics as one big batch does.


# %% tags=["nbval-check-output"]
from accum_lib.lessons.beyond_text import (
    check_alignable,
    check_momentum,
    check_torch_mean,
)


def momentum(big, steps):
    return ...  # your formula


check_momentum(momentum)

# %% [markdown]
# **2.** What `ctc_loss(reduction="mean")` multiplies each utterance's loss with; one number for each length.


# %% tags=["nbval-check-output"]
def weights(lengths):
    return ...  # a list


check_torch_mean(weights)

# %% [markdown]
# **3.** Can CTC spell `target`, a list of symbols, in that many frames?


# %% tags=["nbval-check-output"]
def alignable(frames, target):
    return ...  # True or False


check_alignable(alignable)

# %% [markdown]
# ## Do you remember?
#
# <details><summary>1. What does BatchNorm see when you accumulate?</summary>
#
# `M` examples, and not `B`: no loop can make its update that of one big batch. GroupNorm, or frozen statistics, can.
#
# </details>
#
# <details><summary>2. CTCLoss(reduction="mean") divides each recording's loss by what, and how do you accumulate it exactly?</summary>
#
# By its target's length, and then the mean is taken over recordings. Take the sum of those quotients, and count
# recordings.
#
# </details>
#
# <details><summary>3. Which leak remains if every count is right?</summary>
#
# Padding: a model that looks at padded frames gives another answer in another batch.
#
# </details>

# %% [markdown]
# ## Sources
#
# - Ioffe and Szegedy (2015), *Batch Normalization*, arXiv 1502.03167; Wu and He (2018), *Group Normalization*, arXiv
#   1803.08494.
# - Graves, Fernández, Gomez, Schmidhuber (2006), *Connectionist Temporal Classification*, ICML: the loss, and the blank.
# - PyTorch's documentation of `CTCLoss`: "the output losses will be divided by the target lengths and then the mean over
#   the batch is taken".

# %% [markdown]
# **Next:** [08 Distributed](08_distributed.ipynb): accumulation over several processes.
