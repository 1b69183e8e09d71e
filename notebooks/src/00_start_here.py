# %% [markdown]
# # Start here: gradient accumulation, to see and to touch
#
# **Question.** A model should learn from 16 examples at a time, but only 4 fit into memory. Is there a way, and
# what does it change?
#
# **After this lesson you can**
# - say what a micro-batch, a window and an optimizer update are;
# - tell at which moment the weights move, and what the gradient buffer holds before that;
# - write the loop in plain PyTorch, and see what is wrong with the usual one;
# - find your way through the other notebooks, and know what your machine can run.
#
# **Time:** 10 minutes. **You need:** to have seen gradient descent once.
#
# Run a cell with <kbd>Shift</kbd>+<kbd>Enter</kbd>, or all of them from the menu: *Run → Run All Cells*.

# %% [markdown]
# > **Lin's run, first day.** Lin wants to fine-tune RoBERTa. The recipe says 256 texts of 512 tokens for each update. One
# > such pass would take 79.5 GiB (notebook [04](04_memory.ipynb) computes it); her card has 8. "Then I take what fits",
# > she says, "and do it more often." This course follows her run, to the end.

# %% [markdown]
# ## 1. The idea in three lines
#
# One optimizer update averages the gradient over `B` examples. They can reach the model all at once, or `M` at a
# time in `K` turns. What does that decide: memory, time, what is learnt? In this project's library the whole loop is:
#
# ```python
# for window in windows(micro_batches, accumulation_steps=4):  # the K micro-batches
#     accumulate(model, window, loss_sum, count)               # K passes fill .grad
#     apply_update(model, optimizer)                           # one move; .grad is cleared
# ```
#
# | symbol | name in code | meaning |
# |---|---|---|
# | `M` | `micro_batch_size` | examples in one forward and backward pass |
# | `K` | `accumulation_steps` | micro-batches in one update: a *window* |
# | `B = M·K` | `effective_batch_size` | examples in one update |

# %% [markdown]
# ## 2. First guess, then look
#
# The picture below shows a real run: a regression with two weights and 44 examples, taken `M = 4` at a
# time, `K = 4` micro-batches for each update. Before you play it:

# %%
from accum_lib.lessons.three_descents import moments_explorer, questions

questions.full_buffer(micro_batch_size=4, accumulation_steps=4).show()

# %% [markdown]
# Press **Play**, or step through it: <kbd>Tab</kbd> to the slider, then <kbd>←</kbd> <kbd>→</kbd>.

# %%
explorer = moments_explorer()
explorer.show()

# %% [markdown]
# **What you saw**
#
# 1. *Micro-batches pass.* Coloured diamonds are the examples that are in the model now; only those need
#    memory for their activations.
# 2. *The gradient buffer fills.* Each backward pass **adds** its share, in its own colour; nothing is
#    averaged afterwards. Each share was divided by the number of examples of the *whole window* before it
#    was added. So the full buffer meets the black outline: the gradient of one big batch, computed apart.
# 3. *The optimizer moves* once per window, and the buffer is cleared.
#
# In symbols: if micro-batch $k$ has the loss sum $s_k$ and $n_k$ examples, the full buffer is
#
# $$\frac{\nabla s_1 + \dots + \nabla s_K}{n_1 + \dots + n_K}$$
#
# So whether `B` examples come at once or in `K` turns is a decision about **memory and time, not about learning**.
#
# The third window has only 3 micro-batches, since 44 = 4·4 + 4·4 + 3·4. It is still one update, and it is
# still exact: its examples are divided by 12, not by 16. Many real training loops have got this wrong.

# %% [markdown]
# ### The loop in plain PyTorch
#
# `batches` is a list of `(inputs, labels)`; a label of -100 does not count. This loop is right:
#
# ```python
# import torch
# from torch.nn.functional import cross_entropy
# from torch.nn.utils import clip_grad_norm_
#
#
# def train(model, optimizer, batches, accumulation_steps, scheduler, max_grad_norm=1.0):
#     for start in range(0, len(batches), accumulation_steps):
#         window = batches[start : start + accumulation_steps]              # the last may be shorter
#         total = sum((labels != -100).sum() for _, labels in window)       # 1. count the whole window
#         for inputs, labels in window:
#             loss = cross_entropy(model(inputs), labels, reduction="sum")  # 2. a sum, not a mean
#             (loss / total).backward()                                     # 3. its share; .grad adds up
#         clip_grad_norm_(model.parameters(), max_grad_norm)                # 4. once, when .grad is complete
#         optimizer.step()                                                  # 5. one update per window
#         scheduler.step()                                                  # 6. one tick per update, after it
#         optimizer.zero_grad()                                             # 7. empty for the next window
# ```
#
# For the log, add up `loss.item()` over the window and divide by `total`: the last micro-batch's loss is not the window's.
#
# This one is found more often. Two of its lines are wrong:
#
# ```python
# def train(model, optimizer, batches, accumulation_steps, scheduler, max_grad_norm=1.0):
#     for i, (inputs, labels) in enumerate(batches):
#         loss = cross_entropy(model(inputs), labels) / accumulation_steps  # WRONG: mean_of_means
#         loss.backward()
#         if (i + 1) % accumulation_steps == 0:                             # WRONG: leaked_tail
#             clip_grad_norm_(model.parameters(), max_grad_norm)
#             optimizer.step()
#             scheduler.step()
#             optimizer.zero_grad()
# ```
#
# - `mean_of_means`: dividing each mean by `K` is right only if all micro-batches count alike.
# - `leaked_tail`: a last window that is not full makes no update, and its gradients leak into the next epoch.
#
# The names are those of the checker in notebook [02](02_equivalence.ipynb). It finds the first loop equal to one big
# batch, and these two faults in the second.

# %% [markdown]
# ## Cut a window yourself
#
# The 12 marks are the examples of one window. Drag a cut between two micro-batches (or move its slider): the hollow
# bars are what each example weighs in a mean of means, the dashed line what it weighs in the first loop.

# %%
from accum_lib.lessons.three_descents import cuts_explorer

cuts_explorer().show()

# %% [markdown]
# **What you saw.** A mean of means gives each *micro-batch* the same weight, so an example in a small one counts more
# than its neighbours. The gradient moves with the cuts, although the examples are the same; only even cuts are safe.
# Divided by the window's count, each *example* has the same weight, and the cuts change nothing.

# %% [markdown]
# ## 3. Where it stops being true
#
# "The same" means the same up to floating-point rounding, for losses that are a sum over examples. Layers
# that look at the whole batch at once, such as BatchNorm, see `M` examples and not `B`. Random masks, such
# as dropout, are drawn again for each micro-batch. Accumulation saves one thing: activations. Weights, gradients
# and the optimizer's state need as much memory as before.
#
# And sometimes a smaller batch is simply better: at equal examples the largest batch lost every race of notebook
# [03](03_variance.ipynb). Accumulate if you need a `B` that does not fit, not because larger is better.

# %% [markdown]
# ## 4. Can this machine run it?
#
# Everything here runs on two cores without a GPU or a network. This looks at your machine and says what
# it predicts, before anything heavy is tried.

# %%
from accum_lib.machine import report

print(report())

# %% [markdown]
# ## 5. The map
#
# Your predictions and your solved exercises are kept in a small file on this machine, `.progress.json`, and
# nowhere else. Run this cell again when you come back.

# %%
from accum_lib.lessons.kit.lesson_map import progress_map

progress_map()

# %% [markdown]
# To start over: `from accum_lib.lessons.kit import progress; progress.reset()`.
#
# The library is short and meant to be read. Begin with `accum_lib/accumulate.py`, which everything
# here runs through; `accum_lib/descent.py` is the loop around it.
#
# ## 6. Try it yourself
#
# Change the numbers and run the cell again. What does `windows` do when `K` does not divide the number of
# micro-batches, or is larger than it?

# %% tags=["nbval-check-output"]
from accum_lib.accumulate import windows

micro_batches = ["a", "b", "c", "d", "e", "f", "g"]
for window in windows(micro_batches, accumulation_steps=3):
    print(window)

# %% [markdown]
# ## Do you remember?
#
# <details><summary>1. At which moment do the weights move?</summary>
#
# Once per window, when its last micro-batch has passed. Until then only `.grad` changes.
#
# </details>
#
# <details><summary>2. What is each micro-batch's loss sum divided by, and when is that number
# known?</summary>
#
# By what counts in the *whole window*. Count the window before its first backward pass.
#
# </details>
#
# <details><summary>3. What does accumulation save, and what not?</summary>
#
# It saves activations, since only `M` examples are in the model at a time. Weights, gradients and the
# optimizer's state stay as large as they are.
#
# </details>

# %% [markdown]
# ## Sources
#
# - Goyal et al. (2017), *Accurate, Large Minibatch SGD*, arXiv 1706.02677: what the size of the effective
#   batch does to training.
# - Ott et al. (2018), *Scaling Neural Machine Translation*, arXiv 1806.00187: accumulation in real training,
#   there called "delayed updates".
# - Crouch et al. (2004), *Classroom demonstrations: learning tools or entertainment?*, doi
#   10.1119/1.1707018: why these notebooks ask you to predict.

# %% [markdown]
# **Next:** [01 Three descents](01_three_descents.ipynb): full-batch, mini-batch, accumulated: three algorithms,
# or one?
