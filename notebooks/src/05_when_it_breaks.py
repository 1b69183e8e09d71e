# %% [markdown]
# # 05 · When it breaks: a bug hunt
#
# **Question.** Careful projects have shipped wrong accumulation for years. What would have shown it?
#
# **After this lesson you can**
# - recognise fifteen published faults by what they do, not by how they are written;
# - answer: how many of fifteen faults would you see in a loss curve, and what else would show them?
# - repair a loop, and prove that it is repaired;
# - say when accumulation does change the accuracy.
#
# **Time:** 45 minutes. **Before this:** [02 Equivalence](02_equivalence.ipynb).

# %% [markdown]
# > **Lin's run.** Two scripts, two loss curves, both fall. One of the scripts is wrong, and Lin can't say which. She
# > asks who else has been here, and finds that Transformers, Lightning, Accelerate and others have.

# %% [markdown]
# ## 1. Would you have noticed?
#
# Two predictions. Their answers come from training runs: each of the fifteen faults, and the right loop, four seeds
# each, on handwritten digits that come in ragged pages. That takes about a quarter of a minute, once; a bar shows
# how far it is, and interrupting the kernel stops it.

# %%
from accum_lib.lessons.when_it_breaks import (
    BugHunt,
    line_up_explorer,
    questions,
    sightings_explorer,
)

questions.seen_in_the_loss().show()
questions.hidden_by_adam().show()

# %% [markdown]
# Sixteen logs, of sixteen runs with Adam, each from another seed. Some of the loops are right. Which ones are broken?
# Mark them (in the picture, or with the buttons), then let it show you.

# %%
line_up = line_up_explorer()
line_up.show()

# %% [markdown]
# Two broken ones give themselves away. Most of the others end between the lowest and the highest of the right runs, and
# the rest just above, where another seed could have put them. **A loss curve is no check.**

# %% [markdown]
# ## 2. The hunt
#
# Nineteen loops whose source you cannot see. Fifteen have a fault that a real project had; a few are right. Each
# ran for two epochs of 8 micro-batches that count 5, 1, 7, 2, 4, 3, 6, 8 labels, with `K` = 3: so three windows an
# epoch, the last with two micro-batches. Read the clues, name the fault, reveal.
#
# | panel | what it shows |
# |---|---|
# | top left | each row is an update: which micro-batches were in it, and how much they weighed (the area; grey rings are right) |
# | top right | how far the update's gradient is from one big batch's at the same weights |
# | bottom left | how often things happened, beside how often they should have |
# | bottom right | the losses that it logs, beside the true ones, if it logs any |

# %%
hunt = BugHunt()
hunt.show()

# %% [markdown]
# **Things to try**
#
# 1. Find a loop whose rows are shifted like a staircase. What is its condition for an update?
# 2. Find two loops with circles of different areas. In one of them it is the *late* micro-batches that weigh more.
# 3. Find one whose error is small, but not as small as rounding.
# 4. Find one in which every gradient is right, and something else is not. There are three.

# %% [markdown]
# ## 3. Which check would catch it?
#
# The faults again, under what people look at. *Seen* means more than two standard deviations from right runs with
# other seeds (loss, accuracy), ten times what rounding makes (weights after one epoch, beside a right run), or named
# by the checker.

# %%
matrix = sightings_explorer()
matrix.show()

# %% [markdown]
# **What you saw**
#
# - A wrong loop still goes downhill. Its loss curve stands out only if it uses a fraction of the data, makes far
#   smaller steps or far more of them, or schedules far too fast. Everything subtler is inside the noise between
#   seeds, where it is not noticed: a trailing window of r micro-batches that is divided by `K` shows once per
#   epoch, as a gradient norm r/K as large.
# - Adam divides by the gradient's own size: a gradient five times too short moves the weights almost as before.
#   Choose *weights, Adam* and *weights, SGD*, and compare *divided twice*.
# - Comparing weights with a right run finds most faults, but one needs a right run. And it can't see what touches
#   no weight: a wrong log, a wrong average.
# - Comparing *gradients*, update by update, in float64, leaves nothing to chance. It takes a fraction of a second.

# %% [markdown]
# ### What recent reports add
#
# The average that is updated per micro-batch was in the hunt. Three more need a model and data of their own: how far
# is the worst update from one big batch's, and how far once it is repaired?

# %%
from accum_lib.check import check_case
from accum_lib.check.faults import RECENT

for fault in RECENT:
    wrong, right = (
        check_case(loop, fault.case()).relative_error
        for loop in (fault.wrong, fault.right)
    )
    print(f"{fault.title:54} {wrong:4.0%} off; repaired {right:.0e}")

# %% [markdown]
# - *Skipped*: a micro-batch whose loss is NaN is left out, and its labels still divide.
# - *Each sequence's mean*: a long answer's tokens weigh less. Both means are in use; the window needs the one that the
#   loss says.
# - *Auxiliary loss*: a router's balance loss, added whole in each micro-batch, has K times its coefficient.
#
# One needs a GPU, so it is explained and not measured here. A **CUDA graph** replays the same kernels into the same
# memory. If `.grad` was `None` when a backward pass was captured, each replay *writes* the gradient instead of adding
# to it, as [PyTorch's notes](https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs) say: K replays leave the last
# micro-batch's gradient alone, the row that you know from a buffer cleared too early. A loss or output that is kept
# without a copy is overwritten in the same way. Capture with zeroed gradients in place, and copy what you keep.

# %% [markdown]
# ## 4. Where it stops being true
#
# "Accumulation does not affect accuracy." Tested: each line trains twice from the same weights, on the same
# samples in each update, three seeds: one big batch (or the right loop), and accumulated.

# %%
from accum_lib.lessons.when_it_breaks import accuracy_trials

for trial in accuracy_trials():
    big, small = (
        " ".join(f"{a:.1%}" for a in x)
        for x in (trial.one_big_batch, trial.accumulated)
    )
    print(f"{trial.name:40} {big} | {small}   weights differ by {trial.distance:.0e}")

# %% [markdown]
# The claim holds where the updates are equal: MLP and GroupNorm end at the same weights, up to rounding, and so at
# the same accuracy, to the last image. With BatchNorm the two ends differ, although the loop is right; whether the
# accuracy is higher or lower is chance here (three seeds, a small network), but it is not *the same* run. With a
# fault in the loop the claim fails: a little for a mean of means, and badly for a buffer that is cleared too early.
# What could not be tested here: large models and long training. Small differences need not stay small there.

# %% [markdown]
# ## 5. Exercises: repair these
#
# Change the loop, run the cell, and read what the checker says. It grades what the loop *does*.
#
# **1.** A loop as in many tutorials.


# %% tags=["nbval-check-output"]
from accum_lib.lessons.when_it_breaks import (
    check_clipped_repair,
    check_logged_repair,
    check_plain_repair,
)
from torch.nn.functional import cross_entropy


def train(model, optimizer, batches, accumulation_steps):
    for i, (inputs, labels) in enumerate(batches):
        loss = cross_entropy(model(inputs), labels) / accumulation_steps
        loss.backward()
        if i % accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()


check_plain_repair(train)

# %% [markdown]
# **2.** This one counts rightly, and should clip a window's gradient to `max_grad_norm`.


# %% tags=["nbval-check-output"]
from accum_lib.accumulate import windows
from torch.nn.utils import clip_grad_norm_


def train_clipped(model, optimizer, batches, accumulation_steps, max_grad_norm):
    for window in windows(batches, accumulation_steps):
        total = sum((labels != -100).sum() for _, labels in window)
        for inputs, labels in window:
            loss = cross_entropy(model(inputs), labels, reduction="sum") / total
            loss.backward()
            clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()


check_clipped_repair(train_clipped)

# %% [markdown]
# **3.** Every gradient is right here. What else is there to get wrong?


# %% tags=["nbval-check-output"]
def train_logged(model, optimizer, batches, accumulation_steps, scheduler):
    log = []
    for window in windows(batches, accumulation_steps):
        total = sum((labels != -100).sum() for _, labels in window)
        for inputs, labels in window:
            loss = cross_entropy(model(inputs), labels, reduction="sum") / total
            loss.backward()
            scheduler.step()
        optimizer.step()
        optimizer.zero_grad()
        log.append(loss.item())
    return log


check_logged_repair(train_logged)

# %% [markdown]
# ## Do you remember?
#
# <details><summary>1. Why is a falling loss curve no proof?</summary>
#
# A wrong gradient still goes downhill, and most faults change the curve less than another seed does.
#
# </details>
#
# <details><summary>2. Adam and a gradient that is five times too short: what do you see, and
# why?</summary>
#
# Hardly anything: Adam divides by the gradient's own size, so the weights move almost as before.
#
# </details>
#
# <details><summary>3. In which order: clip, <code>optimizer.step()</code>, <code>scheduler.step()</code>, <code>zero_grad()</code>? And
# how often?</summary>
#
# In this order, each once per window, after its last backward pass. The log gets the window's mean, not the
# last loss.
#
# </details>

# %% [markdown]
# ## Sources
#
# Each fault was found and fixed by the project that had it; the catalogue is `accum_lib/check/faults/catalogue.py`.


# %%
from accum_lib.check.faults import FAULTS

for fault in FAULTS + RECENT:
    print(f"{fault.title:38} {fault.source}")

# %% [markdown]
# **Next:** [06 RoBERTa](06_roberta.ipynb): the same three lines, for real.
