# %% [markdown]
# # 01 · Three descents: full-batch, mini-batch, accumulated
#
# **Question.** Full-batch, mini-batch and accumulated gradient descent: three algorithms, or one?
#
# **After this lesson you can**
# - turn each of the three into the others by setting `M` and `K`;
# - answer: which path does accumulation follow beside a bigger batch, and how do you check it?
# - compare descents fairly: at equal examples, and at equal updates;
# - tell what happens if gradients are summed and not averaged.
#
# **Time:** 30 minutes. **Before this:** [00 Start here](00_start_here.ipynb).

# %% [markdown]
# > **Lin's run.** Before she touches RoBERTa, Lin takes the smallest model there is, with two weights, and three scripts
# > from three tutorials: one takes all data at once, one takes small batches, one accumulates. Three algorithms, says the
# > web. She plots where they go.

# %% [markdown]
# ## 1. One loop, three settings
#
# We descend the mean squared error of $y = w_1 x_1 + w_2 x_2$ over `N = 1000` examples: two weights, so that the
# whole loss surface can be drawn. All three descents are the same loop:
#
# | descent | `M` | `K` | examples in one update |
# |---|---|---|---|
# | full batch | `N` | 1 | all |
# | mini-batch | `B` | 1 | `B` |
# | accumulated | `B/K` | `K` | `B` |

# %% tags=["nbval-check-output"]
from accum_lib.descent import accumulated, full_batch, mini_batch
from accum_lib.problems.regression import Regression

problem = Regression(num_samples=1000)
for run in (
    full_batch(problem),
    mini_batch(problem, batch_size=100),
    accumulated(problem, micro_batch_size=100, accumulation_steps=2),
):
    print(
        f"{run.name:12} M = {run.micro_batch_size:4}  K = {run.accumulation_steps}  "
        f"one epoch: {run.updates:2} updates, {run.backward_passes:2} backward passes"
    )

# %% [markdown]
# ## 2. The worked example, and two notations
#
# `N = 1000` examples in 10 mini-batches of `M = 100`, gradients accumulated over `K = 2`. So each update
# uses `B = M·K = 200` examples, and one epoch makes 1000 / 200 = 5 updates.
#
# <details><summary><b>Notation</b>: does your text write <code>B</code> for the number of mini-batches?</summary>
#
# Some texts do, so `M = N/B`, and give the update as $w \leftarrow w - \alpha \sum_i \nabla L_i(w)$, the **sum** of
# `K` gradients, while their code divides the loss by `K`, which gives the **mean**. Here `B = M·K` is the number of
# *examples* in one update, and the gradient is the mean. For the worked example: their `B = 10` is our `N/M`; their
# step with rate `α` is our step with rate `K·α`.
#
# </details>

# %% [markdown]
# Before you run the next cell:

# %%
from accum_lib.lessons.three_descents import (
    DescentComparison,
    descents_explorer,
    questions,
)

comparison = DescentComparison(problem)
questions.summed_step(comparison).show()

# %% tags=["nbval-check-output"]
for gradient in ("mean", "sum"):
    path = comparison.compare(100, 2, learning_rate=0.1, gradient=gradient).accumulated
    step = (path.weights[1] - path.weights[0]).round(4)
    print(
        f"{gradient:4}  first step {step}  after one epoch {path.weights[5].round(4)}"
    )

# %% [markdown]
# ## 3. Explore
#
# First a guess. Then move the sliders (<kbd>Tab</kbd>, <kbd>←</kbd>, <kbd>→</kbd>), and look for the answer.


# %%
questions.same_path(comparison).show()

# %%
explorer = descents_explorer(problem)
explorer.show()

# %% [markdown]
# **Things to try**
#
# 1. Keep `M·K = 200`: (200, 1), (100, 2), (50, 4), (20, 10). Does the blue path move at all?
# 2. Take `M = 100` and raise `K`, at equal *examples*. Fewer updates: where does it end? Now at equal *updates*.
# 3. Learning rate 0.4: which path swings from side to side, and which jitters? What does a larger `B` cure?
# 4. *Sum of K* with `K = 10`: raise the learning rate until it diverges. How high can the rate go with the mean?

# %% [markdown]
# **What you saw**
#
# - The blue dots lie inside the black circles for every `M` and `K` with the mean: accumulated descent **is**
#   mini-batch descent with `B = M·K`, up to rounding. `K` decides how many passes it takes, not where it goes.
# - At equal *examples*, a larger `B` makes fewer updates, so with the same learning rate it gets less far. At
#   equal *updates* it gets as far, on a smoother path, but has used more examples. "Better" depends on which of
#   the two costs you more; say which, whenever you compare.
# - The sum is the mean with a learning rate `K` times as large. That is the only difference, until the last
#   window of an epoch is shorter: then the sum takes a shorter step, and the mean does not.

# %% [markdown]
# **From another start?** Drag the blue grip over the loss surface (or move its slider; <kbd>↑</kbd> <kbd>↓</kbd> go to
# another row). Before you let go: will the blue path leave the black circles somewhere?

# %%
from accum_lib.lessons.three_descents import starts_explorer

starts_explorer().show()

# %% [markdown]
# Nowhere. Where you start decides about the *descent*: down the valley, from (−2, 2), it is slow and straight; from its
# side, (4, 2), it is fast, and at the rate 0.4 it swings across. It decides nothing about *accumulation*.

# %% [markdown]
# ## 4. Not only for two weights
#
# The same loop on handwritten digits and on RoBERTa (a tiny one, untrained, on real text: docstrings of
# ragged length). For each, one update as one big batch, and as `K` micro-batches, in float64.

# %% tags=["nbval-check-output"]
import torch
from accum_lib.check import Case, check_case, core_loop
from accum_lib.problems.digits import Digits
from accum_lib.problems.roberta import Roberta

for item, batch in (
    (Digits("mlp", dtype=torch.float64, num_samples=64), 64),
    (Roberta(size="tiny", num_samples=32), 32),
    (Digits("cnn", dtype=torch.float64, num_samples=64), 64),
):
    for steps in (2, 8):
        case = Case.of_problem(item, batch // steps, steps)
        error = check_case(core_loop(item.loss_sum, item.count), case).relative_error
        verdict = "equal to rounding" if error < 1e-12 else f"differs by {error:.0%}"
        print(f"{item.name:40} K = {steps}: {verdict}")

# %% [markdown]
# ## 5. Where it stops being true
#
# The CNN above holds BatchNorm, which subtracts the mean of the batch that it sees: that of `M` images, not of
# `B`. So its gradient is another one, whatever the loop does. This is a limit of the method and not a fault in
# a loop. The same holds for losses that compare examples of a batch with each other.
#
# And a loop can be wrong although the model is fine. Dividing each micro-batch's *mean* by `K` is right only if
# all micro-batches count the same. That is what the exercises are about.

# %% [markdown]
# ## 6. Exercises
#
# Fill in the blank, run the cell, and read what the check says.
#
# **1.** How many updates does one epoch make?


# %% tags=["nbval-check-output"]
from accum_lib.lessons.three_descents import (
    check_same_step,
    check_updates_per_epoch,
    check_weight,
)


def updates_per_epoch(num_samples, micro_batch_size, accumulation_steps):
    return ...  # your formula


check_updates_per_epoch(updates_per_epoch)

# %% [markdown]
# **2.** The mean losses of a window's micro-batches are to be added with weights, so that the gradient is the
# one of one big batch. `counts` lists how many examples each micro-batch has. What is the weight of micro-batch
# `index`?


# %% tags=["nbval-check-output"]
def weight(index, counts):
    return ...  # your formula


check_weight(weight)

# %% [markdown]
# **3.** A training script *sums* the gradients of `K` micro-batches. Which learning rate makes it step exactly
# as the mean does with `mean_rate`?


# %% tags=["nbval-check-output"]
def learning_rate(mean_rate, accumulation_steps):
    return ...  # your formula


check_same_step(learning_rate)

# %% [markdown]
# ## Do you remember?
#
# <details><summary>1. M = 50 and K = 4: which descent without accumulation follows the same
# path?</summary>
#
# Mini-batches of `B = M·K = 200`. `K` decides how many passes it takes, not where it goes.
#
# </details>
#
# <details><summary>2. Which two comparisons of batch sizes are fair, and why do they disagree?</summary>
#
# At equal examples a larger `B` makes fewer updates and gets less far; at equal updates it gets as far, but
# uses more examples. Say which one you mean.
#
# </details>
#
# <details><summary>3. Gradients are summed and not averaged. Which learning rate makes the same
# step?</summary>
#
# One that is `K` times smaller. In a shorter last window the sum still steps less far.
#
# </details>

# %% [markdown]
# ## Sources
#
# - Bottou, Curtis, Nocedal (2018), *Optimization Methods for Large-Scale Machine Learning*, arXiv 1606.04838,
#   section 3: full-batch and stochastic descent side by side.
# - Goyal et al. (2017), *Accurate, Large Minibatch SGD*, arXiv 1706.02677: learning rate and batch size.
# - Ioffe and Szegedy (2015), *Batch Normalization*, arXiv 1502.03167.
# - The mean of means in practice: OpenNMT-py issue 526 (2018), Transformers pull request 34191 (2024).

# %% [markdown]
# **Next:** [02 Equivalence](02_equivalence.ipynb): when is accumulation exact, and how would you know?
