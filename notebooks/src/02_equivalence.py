# %% [markdown]
# # 02 · Equivalence: when is accumulation exact?
#
# **Question.** Is the update of `K` micro-batches *the same* as that of one big batch, or only about the same?
# And how would you know, for a loop that you did not write?
#
# **After this lesson you can**
# - say when accumulation is exact, and what "exact" means in numbers that round;
# - see why a mean of means is wrong, and for whom;
# - point a checker at any training loop, your own or a framework's, and read what it says;
# - name models for which no loop can be exact.
#
# **Time:** 40 minutes. **Before this:** [01 Three descents](01_three_descents.ipynb).

# %% [markdown]
# > **Lin's run.** Lin's texts have different lengths, so her micro-batches count different numbers of tokens. A colleague
# > trains with one big batch on a rented card; Lin accumulates, and divides each loss by `K` as her tutorial says. Same
# > weights, same data, same `B`. Their first updates differ, and not in the last digits. Who is wrong?

# %% [markdown]
# ## 1. What has to be equal
#
# One big batch takes the mean loss over everything that counts in it: samples, or tokens that are not ignored.
# If the `K` micro-batches have loss *sums* $s_1 \dots s_K$ and *counts* $n_1 \dots n_K$, the big batch's loss is
#
# $$\frac{s_1 + \dots + s_K}{n_1 + \dots + n_K},$$
#
# and so is its gradient, since a gradient of a sum is the sum of the gradients. The loop of notebook 00 computes
# it. Many programs compute another mean, a **mean of means**:
#
# $$\frac{s_1 / n_1 + \dots + s_K / n_K}{K}$$
#
# They are the same if all $n_k$ are equal. If not: first a guess.

# %%
from accum_lib.lessons.equivalence import microscope_explorer, questions

questions.lonely_token().show()

# %% [markdown]
# ## 2. The microscope
#
# One window of a small network that labels tokens; its gradient beside that of one big batch in float64, for
# `K` from 1 to 128. Below the dashed line rounding alone can explain the error. Above it, it cannot, and there is a
# fault. (The line follows from the number format and the lengths of the sums: Higham and Mary 2019.)
#
# What happens if gradients are added up in bfloat16?

# %%
questions.coarse_buffer().show()

# %%
explorer = microscope_explorer()
explorer.show()

# %% [markdown]
# **Things to try** (what has a blue grip on an axis can be dragged there, too)
#
# 1. float32, *loss sums over the window's count*: raise `K`. Does the error grow?
# 2. *Mean losses over K*: what does it take to bring the error down to rounding: another number format, another
#    `K`, or micro-batches that count alike?
# 3. *Mean losses, not divided*, `K` = 8, 6 tokens each: read the weights on the right.
# 4. A bfloat16 buffer, from `K` = 1 to 128. Then a float16 buffer: which keeps more digits?

# %% [markdown]
# **What you saw**
#
# - Weighed rightly, the error stays below what rounding makes, for each format and each `K`. That is what
#   "the same" means for floating-point numbers: not identical bits, but no further
#   apart than adding the same numbers in another order.
# - A mean of means is off by tens of per cent in float64 too. No number format mends wrong weights. With 6 tokens
#   in each micro-batch it is exact, which is why tests with even batches do not find it.
# - A coarse buffer loses digits at every addition. So frameworks keep float32 buffers for bfloat16 models, or should.

# %% [markdown]
# ## 3. A checker for any loop
#
# It runs the loop, watches gradients, weights and the optimizer, and compares each update with one big batch's
# at the same weights. The verdict comes from what the loop *does*; the source is read only to show you the line.
# Here is a loop that could be anybody's:

# %%
from torch.nn.functional import cross_entropy


def train(model, optimizer, batches, accumulation_steps):
    for i, (inputs, labels) in enumerate(batches):
        loss = cross_entropy(model(inputs), labels)
        (loss / accumulation_steps).backward()
        if (i + 1) % accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()


# %%
from accum_lib.check import check, explain

print(explain(check(train)[0]))

# %% [markdown]
# The lines with a star name the faults, with the numbers that show them; below each, the line where it arises, and
# what would be right there. In your own tests it is one line,
#
# > `assert_equivalent(train)`
#
# and from a shell `python -m accum_lib check your_module:train`. A loop that needs more can ask for it by name:
# `scheduler`, `max_grad_norm`, `ema` (a moving average of the weights), `epochs`. Losses that it returns, one for
# each update, are compared too.

# %% [markdown]
# ## 4. The frameworks that are installed here
#
# Each runs as its own guide has it, on ragged data, `K` = 3, with a short last window. The verdicts are computed
# now, with the versions that you have; they may be others tomorrow. *Scale* 3.00: the gradient is three times too
# long. *Mended* is the same framework with the remedy below the table. (`python -m accum_lib scoreboard`
# tries more: short epochs, and Lightning if it is installed.)

# %%
from accum_lib.check.frameworks.scoreboard import CONTESTANTS, legend, scoreboard, table
from IPython.display import Markdown

rows = list(scoreboard(CONTESTANTS[:2], short_epochs=False))
remedies = {f"- **{r.framework}**, mended: {r.remedy}." for r in rows if r.mended}
Markdown("\n".join([table(rows), "", *legend(rows), *sorted(remedies)]))

# %% [markdown]
# ## 5. Where it stops being true
#
# "Gradient accumulation works for all models." It is a common claim, so here it is, tested: eight models and
# losses, each with the *right* loop, in float64.

# %% tags=["nbval-check-output"]
from accum_lib.check import check_case
from accum_lib.check.faults.models import every_model

for name, loop, case in every_model():
    report = check_case(loop, case)
    print(f"{name:41} {'equal' if report.ok else ', '.join(report.codes)}")

# %% [markdown]
# The claim holds for models and losses that treat each example by itself: their batch loss is a sum over
# examples. It fails where the batch itself enters:
#
# - **BatchNorm** subtracts the mean of the batch that it sees, so of `M` examples, not of `B`. GroupNorm, or
#   BatchNorm with fixed statistics, does not.
# - **In-batch negatives**: a contrastive loss compares each example with all others of its batch. Accumulation shows
#   it fewer of them. A *gradient cache* embeds all of them first, and then is exact: see `gradient_cache` in
#   `accum_lib/check/faults/models.py`, twenty lines.
# - **Dropout** draws new masks for each micro-batch. It is as random as before, and in expectation the same; only
#   a comparison number by number is impossible. Turn it off to check a loop.

# %% [markdown]
# ## 6. Exercises
#
# **1.** Repair `train`, so that it makes one big batch's updates on ragged data, with a short last window. You
# may look ahead at the window: `batches` is a list. (A sum is `cross_entropy(…, reduction="sum")`, and ignored
# labels are -100.)


# %% tags=["nbval-check-output"]
from accum_lib.lessons.equivalence import (
    check_data,
    check_loop,
    check_mean_of_means_weight,
)


def my_train(model, optimizer, batches, accumulation_steps):
    pass  # your loop


check_loop(my_train)

# %% [markdown]
# **2.** In a mean of means over one full window, how much does micro-batch `index` weigh, if 1 is right? `counts`
# lists what each of the `K` micro-batches counts.


# %% tags=["nbval-check-output"]
def weight(index, counts):
    return ...  # your formula


check_mean_of_means_weight(weight)

# %% [markdown]
# **3.** Tests with even batches find nothing. Choose the counts of an epoch's micro-batches, and `K`, so that five
# wrong loops are all caught: nothing divided, a mean of means, the short window divided by `K`, dropped, or leaked
# into the next epoch. How few micro-batches are enough?

# %% tags=["nbval-check-output"]
data = ([4, 4, 4, 4], 2)  # change the counts, and K

check_data(data)

# %% [markdown]
# ## 7. The loop to take home
#
# Notebook [00](00_start_here.ipynb) has the right loop in plain PyTorch, beside the usual wrong one. The wrong one is
# `train` of section 3. Here is the right one again, in 16 bits on a GPU; the numbers mark what mixed precision adds.
#
# ```python
# import torch
# from torch.nn.functional import cross_entropy
# from torch.nn.utils import clip_grad_norm_
#
# scaler = torch.amp.GradScaler("cuda")                                     # 1. kept from epoch to epoch
#
#
# def train(model, optimizer, batches, accumulation_steps, scheduler, max_grad_norm=1.0):
#     for start in range(0, len(batches), accumulation_steps):
#         window = batches[start : start + accumulation_steps]
#         total = sum((labels != -100).sum() for _, labels in window)
#         for inputs, labels in window:
#             with torch.autocast("cuda", dtype=torch.float16):             # 2. the forward pass alone
#                 loss = cross_entropy(model(inputs), labels, reduction="sum")
#             scaler.scale(loss / total).backward()                         # 3. one scale for the whole window
#         scaler.unscale_(optimizer)                                        # 4. once, before clipping
#         clip_grad_norm_(model.parameters(), max_grad_norm)
#         scaler.step(optimizer)                                            # 5. skips what is not finite
#         scaler.update()                                                   # 6. once per window
#         scheduler.step()
#         optimizer.zero_grad()
# ```
#
# A scale that is too high makes numbers infinite: then the update is skipped, and the scale halved. That may happen to
# the first few updates, and is no fault.
#
# With bfloat16 no scaler is needed: its numbers reach as far as float32's. Write `dtype=torch.bfloat16`, and
# `enabled=False` in the scaler. Keep the weights, and so `.grad`, in float32: a bfloat16 buffer loses digits at every
# addition, as the microscope shows.
#
# **And the learning rate?** For the same `B` it stays as it is, whatever `M` and `K` are. If `B` changes:
# [03, section 6](03_variance.ipynb).

# %% [markdown]
# ## Do you remember?
#
# <details><summary>1. Why is a mean of means wrong, and when does nobody notice?</summary>
#
# It weighs micro-batches alike, however much each counts. If all count the same it is exact, so tests with even
# batches do not find it.
#
# </details>
#
# <details><summary>2. Accumulated and big-batch gradients differ in the last digits. Is that a
# fault?</summary>
#
# Not below what rounding explains: numbers were added in another order. Above it, there is a fault.
#
# </details>
#
# <details><summary>3. Name a layer or loss for which no loop can be exact, and say why.</summary>
#
# BatchNorm, or a contrastive loss with in-batch negatives: examples of one batch influence each other, and a
# micro-batch shows them fewer.
#
# </details>

# %% [markdown]
# ## Sources
#
# - Higham and Mary (2019), *A New Approach to Probabilistic Rounding Error Analysis*, SIAM J. Sci. Comput. 41(5),
#   A2815: why a sum's error grows as the square root of its length.
# - Transformers issue 34242 and pull request 34191 (2024): the mean of means, found in the Trainer.
# - Gao et al. (2021), *Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup*, arXiv 2101.06983:
#   the gradient cache.
# - Wu and He (2018), *Group Normalization*, arXiv 1803.08494. Ioffe and Szegedy (2015), arXiv 1502.03167.

# %% [markdown]
# **Next:** [03 Variance](03_variance.ipynb): what does a larger `B` buy? Or straight to [05 When it
# breaks](05_when_it_breaks.ipynb): fifteen ways to get it wrong.
