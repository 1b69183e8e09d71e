# %% [markdown]
# # 09 · Choosing K: from model, card and data to `(M, K)`
#
# **Question.** You have a model, a card and data. Which micro-batch size `M` and how many accumulation steps `K`
# should you take, how sure is that, and does it hold when it is tried?
#
# **After this lesson you can**
# - answer: what decides `B`, what decides `M`, what decides `K`?
# - read off `(M, K)` with reasons and an uncertainty, for a model and card of your own;
# - say when accumulation cannot help, and when it only takes time;
# - test such advice, and say where it held and where it did not.
#
# **Time:** 35 minutes. **Before this:** [03 Variance](03_variance.ipynb) and [04 Memory](04_memory.ipynb).

# %% [markdown]
# > **Lin's run.** Lin knows what `M`, `K` and `B` do. Her next model has no recipe, and she has three cards to choose
# > from. This time she wants to know before she starts.

# %% [markdown]
# ## 1. Your guess first

# %%
from accum_lib.lessons.choose_k import questions

questions.larger_card().show()

# %% [markdown]
# ## 2. Three things to know
#
# 1. **What fits.** The memory lens (notebook 04) predicts the peak for every `M` and `K`. It needs nothing but the
#    model and the card.
# 2. **How noisy a gradient is.** The noise scale $B_\text{noise} = \text{tr}(\Sigma) / \left| G \right|^2$ (notebook
#    03) says what `B` buys: the same progress takes $1 + B_\text{noise} / B$ times the least possible number of
#    updates, and $1 + B / B_\text{noise}$ times the least number of examples (McCandlish et al. 2018). A pilot run
#    measures it in passing.
# 3. **What an update takes in time.** $t(M, K) = K (a + b M) + c$: each pass costs $a$ and another $b$ for each
#    example, and $c$ occurs once: the optimizer. While $a$ is small beside $b M$, a smaller `M` at the same `B` takes
#    no longer; below that, each halving does. Only a measurement on the very card can tell where.
#
# The next cell measures 2 and 3 **on this machine**, for three small models: pilot runs of 90 updates, and real
# updates with eight `(M, K)`, warmed up and taking turns. Times differ from machine to machine, and from run to run.

# %%
from accum_lib.lessons.choose_k import measured_times, pilots

times, noise = measured_times(), pilots()
for name, t in times.items():
    known, each = noise[name], t.example_seconds
    print(f"{name}: noise scale {known.noise_scale:.0f}, ", end="")
    print(f"{known.confidence:.0%} interval {known.low:.0f} to {known.high:.0f};")
    print(
        f"    a = {t.pass_seconds * 1e3:.2f} ms a pass, b = {each * 1e3:.4f} ms an example, "
        f"c = {t.update_seconds * 1e3:.2f} ms an update (off by up to {t.worst:.0%})"
    )

# %% [markdown]
# Read the last number, too: three coefficients are a coarse model of a processor. Where it is far off, trust the
# order of magnitude only.

# %% [markdown]
# ## 3. Explore: one screen
#
# Enter a model, a card and data. Left: what fits. Middle: what `B` buys. Right: time to the same progress, where it was
# measured. For GPUs no time was measured. Two bounds instead: time that grows with the examples, and time that grows
# with the passes. The star is the advice. A toy card is this computer's CPU that pretends to have so little memory.

# %%
from accum_lib.lessons.choose_k import choose_k_explorer

explorer = choose_k_explorer(times, noise)
explorer.show()

# %% [markdown]
# **Things to try**
#
# 1. A larger card: which of `B`, `M` and `K` moves? A larger noise scale?
# 2. Optimize for time instead: what becomes of `B` and `K` on the toy card, and with 512 MiB?
# 3. 200 examples, noise scale 2,048. What is short now?
# 4. RoBERTa-large on 8 GB. Would another `K` help?
# 5. RoBERTa-base with its noise scale *measured*: what does the screen say, and what does it not say?

# %% [markdown]
# **What you saw**
#
# - The noise scale and `N` decide **B**; the card decides **M**; **K** is what is left. A larger card means a smaller
#   `K`, not a larger batch.
# - *Updates and examples alike* puts `B` at the noise scale, where both are twice their least. That is a convention,
#   a compromise where nothing is known of time.
# - The interval of the noise scale is the interval of `K`, and it is wide: a factor of 2 to 9 for these pilot runs.
# - Where times were measured, the least time is often at a much smaller `B`. On one device the passes of an update run
#   one after the other, so a larger `K` makes **more** passes to the same progress, never fewer. A larger
#   `K` pays only because the optimizer then runs less often.
# - Accumulation cannot help where weights, gradients and optimizer alone exceed the card, and is not needed where the
#   whole batch fits.

# %% [markdown]
# ## 4. The same in code, for a model of your own
#
# `advise` takes any `Workload` (notebook 04), a card, `N`, and what you know of the noise: an estimate of
# `NoiseScaleMonitor` from your own training, or an assumption.

# %% tags=["nbval-check-output"]
from accum_lib.lessons.choose_k import advise, known_noise, subject

mine = subject("roberta-large").workload
for card in ("RTX 3090", "RTX 4060"):
    found = advise(mine, card, num_samples=50_000, noise=known_noise(400, factor=3))
    m, k = found.micro_batch_size, found.accumulation_steps
    words = f"M = {m}, K = {k} (K from {found.steps_low} to {found.steps_high})"
    print(f"{card}: {words if found.fits else 'no M fits'}")

# %% tags=["nbval-check-output"]
print("\n".join(found.reasons))

# %% [markdown]
# ## 5. Does the advice hold?
#
# Now it is put to the test: the advised `K` (as a power of two) against a quarter of it and four times it, on the digits (five seeds, each
# batch size at the best of four learning rates) and on tiny RoBERTa (three seeds, one learning rate that grows with the
# square root of `B`). Only `B` counts for learning (notebook 02), so `M` is held to 8 and 16 here, to leave a `K` to
# test. It takes about 20 seconds; the kernel's ■ stops it, and the cell goes on from there when it is run again.

# %%
from accum_lib.lessons.choose_k import (
    AdviceTrial,
    trial_explorer,
    trial_track,
    verdicts,
)

trial = AdviceTrial(noise)

# %%
trials = trial_track(trial).show()

# %% [markdown]
# Before you look:

# %%
questions.four_times_the_steps(trials).show()

# %%
trial_explorer(trials).show()

# %%
for each in trials.trials:
    print(f"{each.name}, K = {each.steps}:")
    for clause in verdicts(each):
        print(f"  {'held   ' if clause.holds else 'not met'} {clause.claim}")
        print(f"          {clause.evidence}.")

# %% [markdown]
# **What came of it**
#
# - At equal *updates* the larger `K` is ahead, at equal *examples* the smaller. That is what every word about batch
#   size should begin with, and it was seen with both models.
# - The **ratios** that the noise scale predicts were met by tiny RoBERTa, within the wide intervals that three seeds give. On the
#   digits they were **not**: the smaller batch needed fewer updates than predicted, and the larger saved fewer.
#   The critical batch that fits the digits' races is several times smaller than the noise scale of the pilot run.
#   Notebook 03 found the same, with other batch sizes.
# - So read the advice as an **order of magnitude**, and lean to the smaller `K`: in these races it was never the one that wasted
#   examples.

# %% [markdown]
# ## 6. Where it stops being true
#
# - **The noise scale moves.** It grows as the loss falls, several times over in a training. Advice from a pilot run is
#   advice for its beginning.
# - **$1 + B_\text{noise} / B$ is a model** of plain SGD with a tuned learning rate. Under Adam, momentum or a rate
#   that is not tuned again for `B`, it is a rule of thumb.
# - **The time model** has no caches, no power limit and no data loader; and a GPU's pass hardly grows with `M` until it
#   is filled. Measure on your card: `measure_times` does so for a processor.
# - **Several cards** change the answer: there $c$ holds the all-reduce, and `K` spreads it (notebook 08).
# - **Other reasons for `B`** are not weighed here: a recipe that was tuned for a batch size, BatchNorm, in-batch negatives,
#   or accuracy at the end, which races to a loss do not show.

# %% [markdown]
# ## 7. Exercises
#
# **1.** How many updates and how many examples does the same progress take, each over its least?


# %% tags=["nbval-check-output"]
from accum_lib.lessons.choose_k import check_choice, check_fastest_steps, check_work


def work(noise_scale, batch_size):
    return ...  # two numbers: updates, examples


check_work(work)

# %% [markdown]
# **2.** `B` should be at the noise scale, and up to `largest_micro_batch` fits. Which `M` and `K` (the smallest `K`, and the
# smallest `M` that reaches `B` with it)?


# %% tags=["nbval-check-output"]
def choose(noise_scale, num_samples, largest_micro_batch):
    return ...  # M, K


check_choice(choose)

# %% [markdown]
# **3.** `M` is given, a pass takes `pass_seconds`, and what occurs once in an update `update_seconds`. Which whole `K` takes
# least time to the same progress?


# %% tags=["nbval-check-output"]
def steps(noise_scale, micro_batch_size, pass_seconds, update_seconds):
    return ...  # K


check_fastest_steps(steps)

# %% [markdown]
# ## 8. The recipe
#
# 1. **`M`**: the largest that fits, with a margin ([04](04_memory.ipynb)).
# 2. **`B`**: that of a recipe that works for your model; or the noise scale, and then the smaller half of its interval.
# 3. **`K = ⌈B/M⌉`**. If that is 1, you need no accumulation. The last micro-batch of a window is smaller where `M` does
#    not divide `B`.
# 4. **Learning rate**: as it was if `B` is as it was; if not, [03, section 6](03_variance.ipynb).
# 5. **Check the loop** before the long run: `python -m accum_lib check your_module:train` ([02](02_equivalence.ipynb)).

# %% [markdown]
# ## Do you remember?
#
# <details><summary>1. What decides M, what B, what K?</summary>
#
# The card decides `M`, the noise (or a recipe) decides `B`, and `K = ⌈B/M⌉` is what is left.
#
# </details>
#
# <details><summary>2. The new card takes micro-batches four times as large. What becomes of K?</summary>
#
# A quarter. If `B` now fits at once, accumulation has nothing left to do.
#
# </details>
#
# <details><summary>3. When can accumulation not help at all?</summary>
#
# When the floor alone (weights, gradients, the optimizer's state) exceeds the card: then even M = 1 does not fit.
#
# </details>

# %% [markdown]
# ## Sources
#
# - McCandlish, Kaplan, Amodei et al. (2018), *An Empirical Model of Large-Batch Training*, arXiv 1812.06162: the noise
#   scale, and both formulas (section 2.3).
# - Malladi et al. (2022), *On the SDEs and Scaling Rules for Adaptive Gradient Algorithms*, arXiv 2205.10287: the
#   square-root rule for Adam.
# - Shallue et al. (2019), *Measuring the Effects of Data Parallelism on Neural Network Training*, arXiv 1811.03600: how much
#   the critical batch differs from model to model and data to data.

# %% [markdown]
# **Next:** [10 Capstone](10_capstone.ipynb): a broken script, a card, an hour.
