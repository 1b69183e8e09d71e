# %% [markdown]
# # 03 · Variance: what the effective batch buys, and when it stops paying
#
# **Question.** Accumulation makes the effective batch `B = M·K` as large as one likes. What does a larger `B` buy,
# and when is it no longer worth its examples?
#
# **After this lesson you can**
# - answer: how does the variance of a mini-batch gradient depend on `B` and on `N`, and is that always so?
# - measure the gradient noise scale for free while accumulating, with a confidence interval;
# - compare batch sizes fairly, at equal examples and at equal updates, and find the critical batch size;
# - decide what to do with the learning rate when `B` changes;
# - judge a published claim about batch size by what you see, and name what you could not test.
#
# **Time:** 35 minutes. **Before this:** [01 Three descents](01_three_descents.ipynb).

# %% [markdown]
# > **Lin's run.** With accumulation `B` costs no memory: `K` is a number in a script. "Then take 4,096", says her
# > colleague, "large batches are better." What would she get for it, and what would she pay?

# %% [markdown]
# ## 1. Your guess first
#
# A mini-batch gradient $g$ is the mean of `B` examples' gradients. On average it is the full gradient $G$; its
# *variance*, $E \left| g - G \right|^2$, summed over all weights, measures how far a single one is from it. How does
# it fall with `K`?
#
# Draw it first: the star was measured. Drag the blue grip (or move its slider) to where you expect `K = 16` to be, then
# have the curve shown.

# %%
from accum_lib.lessons.variance import (
    VarianceLab,
    guess_explorer,
    questions,
    variance_explorer,
)

lab = VarianceLab()
guess_explorer(lab).show()

# %% [markdown]
# There a window was a small part of the data. How does it go on?

# %%
questions.variance_against_steps(lab).show()

# %% [markdown]
# ## 2. Explore: a cloud of gradients
#
# Each blue dot is the gradient of one mini-batch of `N = 512` digits, for an MLP with 2,410 weights. A plane can't
# show 2,410 directions, so two were chosen **for the plot**. Horizontal: the direction of $G$. Vertical: the direction
# at right angles in which examples disagree most. Most of the variance is in directions that you do not see here; the
# curve at the top right counts all of them. Below it: how one single weight's gradient is spread.

# %%
explorer = variance_explorer(lab)
explorer.show()

# %% [markdown]
# **Things to try**
#
# 1. Keep `M·K = 32`: (32, 1), (8, 4), (2, 16). Nothing moves: only `B` counts.
# 2. Raise `K` with `M = 32`. Where does the black curve leave the dotted one, and why does it fall to nothing?
# 3. Sorted by class: how large must `B` be until the variance falls at all?
# 4. In file order: the digits were written by one person after the other, each from 0 to 9. Better or worse?

# %% [markdown]
# **What you saw**
#
# - Without replacement the variance is $\text{tr}(\Sigma)/B \cdot (1 - B/N)$, where $\text{tr}(\Sigma)$ is the
#   variance of a single example's gradient. Four times the batch, a quarter of the variance, and half the typical
#   error. The last factor makes it 0 when the batch is the whole data set; with replacement it is missing.
# - `M` and `K` matter through `B = M·K` alone.
# - Sorted by class, neighbours repeat each other: a batch of 32 says hardly more than one example. Accumulation
#   does not repair that; **shuffling** does. In file order it is the other way round: each writer wrote the ten
#   digits in turn, so neighbours complement each other, and the variance is even a little lower than the law's.

# %% [markdown]
# ## 3. The same with real accumulation
#
# The dots are means of exact per-example gradients. Here are windows that `accumulate` really ran, beside the law.

# %%
from accum_lib.lessons.variance import accumulated_means, draw
from accum_lib.machine import one_thread
from accum_lib.noise import example_gradients, from_gradients, law
from accum_lib.problems.digits import Digits

problem = Digits("mlp", num_samples=128)
model = problem.make_model()
with one_thread():
    gradients = example_gradients(problem, model)
    people = from_gradients(gradients)
    for steps in (1, 4, 12):
        rows = draw(128, 8 * steps, 100, seed=steps)
        found = accumulated_means(problem, model, rows, micro_batch_size=8)
        variance = (found - gradients.mean(0)).square().sum(1).mean()
        print(f"M = 8, K = {steps:2}: {variance:.4f}, law {law(people, 8 * steps):.4f}")

# %% [markdown]
# ## 4. The noise scale, for free
#
# When is `B` large? When the noise is as long as the gradient itself: $\text{tr}(\Sigma)/B = \left| G \right|^2$,
# that is at $B = \text{tr}(\Sigma) / \left| G \right|^2$, the **gradient noise scale** (McCandlish et al. 2018).
# Accumulation can measure it in passing: micro-batch gradients are noisier than their mean, and the difference shows
# how noisy. For a micro-batch's gradient $g_M$ and the window's $g_B$, on average and for endless data,
#
# $$E \left| g_M \right|^2 = \left| G \right|^2 + \frac{\text{tr}(\Sigma)}{M}$$
#
# $$E \left| g_B \right|^2 = \left| G \right|^2 + \frac{\text{tr}(\Sigma)}{B}$$
#
# two equations with two unknowns. `NoiseScaleMonitor` looks at each micro-batch's gradient just before it is added to
# `.grad`, keeps its norm, and lets it go.

# %%
import torch
from accum_lib.accumulate import accumulate, windows
from accum_lib.noise import NoiseScaleMonitor, population
from accum_lib.problems.base import micro_batches

problem = Digits("mlp", torch.float64, num_samples=512)  # section 2's weights
model = problem.make_model()
exact = population(problem, model).noise_scale
monitor = NoiseScaleMonitor(
    model, problem.loss_sum, problem.count, population=512, every=1
)
order = torch.Generator().manual_seed(0)
with one_thread(), monitor:
    for _ in range(4):  # epochs
        for window in windows(micro_batches(problem, 4, order), accumulation_steps=4):
            accumulate(model, window, monitor.loss_sum, monitor.count)
seen = monitor.estimate(confidence=0.9)
print(f"exact: {exact:.0f}; free, from {seen.observations} windows: ", end="")
print(f"{seen.noise_scale:.0f} (90 % interval {seen.low:.0f} to {seen.high:.0f})")

# %% [markdown]
# Even 128 windows give a wide interval, and honestly so: nine in ten such intervals hold the exact value (the
# tests count them, on this model and on RoBERTa). While the model trains, its weights move, so look at the last few
# dozen windows only. And shuffle: in file order (`micro_batches(problem, 4)`) the micro-batches complement each
# other, and the estimate is wrong as the law is.

# %% [markdown]
# ## 5. Does less variance mean better? The races
#
# The next cell trains 100 copies of the MLP: five batch sizes at five learning rates, each from four seeds. It takes
# about 7 seconds; interrupting the kernel (■) stops it.

# %%
from accum_lib.lessons.variance import RaceTrack, races_explorer

races = RaceTrack().show()

# %% [markdown]
# Before you look at the result:

# %%
questions.sixteen_times_the_batch(races).show()

# %%
races_explorer(races).show()

# %% [markdown]
# Left: the same runs, counted in updates and in examples (thin lines: the lowest and the highest of four seeds;
# dashed: the target).
# Top right: what it took to reach the target. Bottom right: the noise scale along one run, exact, and the free
# estimate from the last windows (strokes: its 90 % interval, which takes the weights for fixed, and they move).
#
# **Things to try** (what has a blue grip on an axis can be dragged there, too)
#
# 1. At equal *updates* (top left), which `B` wins? At equal *examples* (bottom left)?
# 2. Lower the target. Which way do the critical batch size and the noise scale move?
# 3. One learning rate for all: who wins at 0.1, who at 1.6? Would you have called the loser's batch size bad?

# %% [markdown]
# **What you saw: the claim of McCandlish et al. (2018)**
#
# > *The noise scale predicts the largest useful batch size; it grows as the loss falls.*
#
# - **Seen.** Larger batches need fewer updates, with less and less to gain, and more examples. Examples against `B`
#   follow their curve $E = E_\text{min} + S_\text{min} B$ closely: $E_\text{min}$ examples are the least that reach
#   the target, $S_\text{min}$ updates as well. Beyond $E_\text{min} / S_\text{min}$, the critical batch size, more
#   accumulation mostly costs examples. By the same curve, doubling `B` saves nearly half of the updates far below it,
#   a quarter at it, and almost none far above. The lower the target (below 1.0), the larger are both this and the
#   noise scale.
# - **Not as claimed.** The noise scale is roughly ten times the critical batch size here (the words below the picture
#   say both). As a ruler for the order of magnitude it is of use, as a setting it is not.
#   Their evidence spans six orders of magnitude, where a factor of ten is small; and a learning rate tried in
#   factors of 2 is tuned coarsely.
# - **Could not be tested here:** large models and data, where they found it to fit better; other optimizers.

# %% [markdown]
# ## 6. Learning rate when `B` changes
#
# Accumulation as such asks for nothing: as long as `B = M·K` stays, so does the rate. If `B` becomes `k` times as large:
#
# | rule | the rate becomes | for | what this course measured |
# |---|---|---|---|
# | linear | `k` times as high, after a warm-up | SGD (Goyal et al. 2017) | as good up to `B = 64`, a little behind at 256, further behind at 704 ([11](11_two_claims.ipynb)) |
# | square root | $\sqrt{k}$ times as high | Adam (Malladi et al. 2022) | not compared with others; [09, section 5](09_choose_k.ipynb) trains its RoBERTa by it |
# | neither | tuned again | a `B` near or beyond the critical batch size | fastest to a loss of 0.6 in section 5: 0.2 at `B = 4`, 0.8 at 16, 64 and 256, 1.6 at 1,024 |
#
# So from `B = 4` to 16 the fastest rate went with `B`, and from 16 to 256 it stayed. Take the rule as the first try, with
# a rate of half and of twice as much beside it.
#
# And a summed gradient is a rate `K` times as high already ([01, section 2](01_three_descents.ipynb)).

# %% [markdown]
# ## 7. Where it stops being true
#
# - The law is about **one** gradient at fixed weights, of examples drawn at random. Sorted or streamed data break it.
# - Over *tokens*, with sequences of ragged length, a gradient is a ratio of two sums, and the law holds to the first
#   order only. `population` and the monitor weigh by counts; the interval is then approximate.
# - With BatchNorm in training mode an example has no gradient of its own. The monitor still runs, and measures the
#   noise of the micro-batches as they are.
# - Less variance is not better by itself: at equal examples, the largest batch lost every race above. Accumulation pays when memory forbids the batch you need, not because larger is better.

# %% [markdown]
# ## 8. Exercises
#
# **1.** The variance of a mini-batch gradient, drawn without replacement; `trace` is the unbiased $\text{tr}(\Sigma)$.


# %% tags=["nbval-check-output"]
from accum_lib.lessons.variance import check_fall, check_noise_scale, check_variance


def variance(trace, batch_size, num_samples):
    return ...  # your formula


check_variance(variance)

# %% [markdown]
# **2.** The batch grows from `batch_size` to `larger`. How many times smaller does the variance become?


# %% tags=["nbval-check-output"]
def fall(batch_size, larger, num_samples):
    return ...  # your formula


check_fall(fall)

# %% [markdown]
# **3.** The noise scale from norms alone: `mean_square` is the mean of the `K` micro-batches' $\left| g_M \right|^2$,
# `whole` is the window's $\left| g_B \right|^2$, and the data are endless. First solve the two equations of section 4
# for $\text{tr}(\Sigma)$.


# %% tags=["nbval-check-output"]
def noise_scale(micro_batch_size, steps, mean_square, whole):
    return ...  # your formula


check_noise_scale(noise_scale)

# %% [markdown]
# ## Do you remember?
#
# <details><summary>1. B becomes four times as large. What becomes of the variance of the gradient, and
# of its typical error?</summary>
#
# A quarter of the variance, half the error, as long as examples are drawn at random and `B` is far below `N`.
#
# </details>
#
# <details><summary>2. What is the gradient noise scale, in one sentence?</summary>
#
# The batch size at which the noise of the gradient is as long as the gradient itself:
# $\text{tr}(\Sigma) / \left| G \right|^2$.
#
# </details>
#
# <details><summary>3. B goes from 32 to 256 with AdamW. Which learning rate do you try
# first?</summary>
#
# $\sqrt{8} \approx 2.8$ times the old one, with half and twice as much beside it. With the same `B` and another `K`
# nothing changes.
#
# </details>

# %% [markdown]
# ## Sources
#
# - Cochran (1977), *Sampling Techniques*, theorem 2.2: the law for finite populations; section 6.3 for ratios.
# - McCandlish, Kaplan, Amodei et al. (2018), *An Empirical Model of Large-Batch Training*, arXiv 1812.06162: the
#   noise scale, its estimators (appendix A), and the curve of equation 2.11.
# - Goyal et al. (2017), *Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour*, arXiv 1706.02677: the linear rule.
# - Malladi et al. (2022), *On the SDEs and Scaling Rules for Adaptive Gradient Algorithms*, arXiv 2205.10287: the
#   square-root rule for Adam.
# - Fieller (1954), *Some Problems in Interval Estimation*: the interval of a ratio.

# %% [markdown]
# **Next:** [04 Memory](04_memory.ipynb): more accumulation steps, less memory? Or first, if you like to doubt papers,
# [11 Two claims, tested](11_two_claims.ipynb).
