# %% [markdown]
# # 10 · Capstone: Lin's run
#
# **Question.** A script that somebody found, a card of 8 GB, an hour: can you make Lin's run right, make it fit, and
# prove both?
#
# **After this lesson you can**
# - repair a training script in which several things are wrong at once;
# - plan `M`, `K` and the number of epochs before anything runs;
# - show that the run is the one you meant.
#
# **Time:** 40 minutes. **Before this:** [05 When it breaks](05_when_it_breaks.ipynb) and
# [04 Memory](04_memory.ipynb).

# %% [markdown]
# > **Lin's run, at last.** Lin fine-tunes RoBERTa-base to classify texts of 512 tokens. The recipe says `B` = 256. One pass of 256 would take 79.5 GiB; her card has 8. A colleague lends her a script "with gradient
# > accumulation". It runs, and the loss goes down.

# %% [markdown]
# ## 1. Repair
#
# Here is the script. Several of its lines are wrong:
#
# ```python
# def train(
#     model, optimizer, loader, accumulation_steps, scheduler, max_grad_norm=1.0
# ):
#     log = []
#     for step, batch in enumerate(loader):
#         loss = model(**batch).loss / accumulation_steps
#         loss.backward()
#         clip_grad_norm_(model.parameters(), max_grad_norm)
#         scheduler.step()
#         if (step + 1) % accumulation_steps == 0:
#             optimizer.step()
#             optimizer.zero_grad()
#             log.append(loss.item())
#     return log
# ```

# %%
from accum_lib.lessons.capstone import questions

questions.how_far().show()

# %% [markdown]
# Now repair it. Change the cell until the check is content; it tells one fault at a time. Whatever you write, keep the
# function's parameters.


# %% tags=["nbval-check-output"]
from accum_lib.lessons.capstone import check_script
from torch.nn.utils import clip_grad_norm_


def train(model, optimizer, loader, accumulation_steps, scheduler, max_grad_norm=1.0):
    log = []
    for step, batch in enumerate(loader):
        loss = model(**batch).loss / accumulation_steps
        loss.backward()
        clip_grad_norm_(model.parameters(), max_grad_norm)
        scheduler.step()
        if (step + 1) % accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()
            log.append(loss.item())
    return log


check_script(train)

# %% [markdown]
# <details><summary>Where to begin</summary>
#
# - Which labels count? Those that are not -100. `model(**batch).loss` is a mean over them, so how many there were is
#   lost: take `model(**batch).logits`, shape (M, tokens, vocabulary), and a *sum*: `cross_entropy(…, reduction="sum")`
#   of `torch.nn.functional`.
# - How many labels does a whole window count? That must be known before its first backward pass, so the script has
#   to look at `accumulation_steps` batches at once.
# - What has to happen once for each update, and in which order? See [00, the loop in plain
#   PyTorch](00_start_here.ipynb).
#
# </details>

# %% [markdown]
# ## 2. Plan
#
# **The card.** An RTX 4060 has 8 GB, of which the planner leaves a tenth free. Which `M` and `K` reach `B` = 256 for
# RoBERTa-base that classifies 512 tokens, with AdamW in float32, in as few passes as possible? Use what you like: the planner of
# [04](04_memory.ipynb), `accum plan` on the command line, or a guess that the check corrects.


# %% tags=["nbval-check-output"]
from accum_lib.lessons.capstone import check_plan

my_plan = (..., ...)  # M, K

check_plan(my_plan)

# %% [markdown]
# **The budget.** A pass of one micro-batch takes `pass_seconds`, an update of the optimizer `update_seconds`. How many
# whole epochs fit into `budget_seconds`? Mind the last micro-batch and the last window of an epoch.


# %% tags=["nbval-check-output"]
from accum_lib.lessons.capstone import check_epochs


def epochs(
    num_samples,
    micro_batch_size,
    accumulation_steps,
    pass_seconds,
    update_seconds,
    budget_seconds,
):
    return ...  # a whole number


check_epochs(epochs)

# %% [markdown]
# ## 3. Run
#
# The card is not here, so the model is a RoBERTa of two layers with untrained weights, which guesses hidden tokens in 90
# docstrings, and `B` = 32: `M` = 4, `K` = 8, six epochs of three windows, of which the last is short. Black: one big batch for each update, so nothing is
# accumulated. Dashed: the script, as it was found, and as it is in your cell of section 1. About ten seconds.

# %%
from accum_lib.lessons.capstone import run_explorer

explorer = run_explorer(train)
explorer.show()

# %% [markdown]
# **What you saw**
#
# - As it was found, the script learns next to nothing. Its scheduler ticks 23 times in an epoch and not 3 times, so the
#   learning rate has fallen to almost nothing before the second epoch. Yet its loss does go down, and its log looks
#   harmless, since each entry is divided by `K`.
# - Repaired, the two lines are one: the weights end apart by a millionth of their way, which is rounding in float32.
#   If yours are further apart, section 1 is not done.

# %% [markdown]
# ## 4. Prove
#
# A run that looks right is no proof, as you have seen. `assert_equivalent` belongs in your tests; it fails if a window is
# not one big batch:


# %%
from accum_lib.check import assert_equivalent
from accum_lib.lessons.capstone import case_of

try:
    assert_equivalent(train, [case_of("mlm")])
except AssertionError as error:
    print(error)
else:
    print("Every update is one big batch's.")

# %% [markdown]
# The same from a shell, for a script of your own: `accum check my_script.py:train`.

# %% [markdown]
# ## 5. Where it stops being true
#
# Equal to one big batch is not the same as good. Whether `B` = 256 was worth its examples is a question of noise
# ([03](03_variance.ipynb)); the recipe's authors may have had other data. Dropout was off here: with it, two runs of one
# big batch differ, too ([06](06_roberta.ipynb)). And the plan's seconds are yours to measure: a data sheet ranks
# options, it does not time them.

# %% [markdown]
# ## Do you remember?
#
# <details><summary>1. Which four things happen once for each update, and in which order?</summary>
#
# Clip, <code>optimizer.step()</code>, <code>scheduler.step()</code>, <code>zero_grad()</code>. And before the first backward pass: count the
# window.
#
# </details>
#
# <details><summary>2. From which numbers do M and K follow?</summary>
#
# `M` is the largest that fits the card with a margin, `B` comes from a recipe or from the noise scale, and `K = ⌈B/M⌉`.
#
# </details>
#
# <details><summary>3. What would you show to somebody who doubts your loop?</summary>
#
# Its gradients, update by update, beside one big batch's in float64, on data with unequal counts and a short last
# window. Not its loss curve.
#
# </details>

# %% [markdown]
# ## Sources
#
# - Liu et al. (2019), *RoBERTa: A Robustly Optimized BERT Pretraining Approach*, arXiv 1907.11692: fine-tuning recipes.
# - Mosbach, Andriushchenko, Klakow (2021), *On the Stability of Fine-tuning BERT*, arXiv 2006.04884: what the schedule of
#   the learning rate does to fine-tuning.

# %% [markdown]
# **Next:** your own loop. And if you like to doubt papers: [11 Two claims, tested](11_two_claims.ipynb).
