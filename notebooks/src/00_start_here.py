# %% [markdown]
# # Start here: gradient accumulation, to see and to touch
#
# **Question.** A model should learn from 16 examples at a time, but only 4 fit into memory. What has to
# happen for the update to be *the same*?
#
# **After this notebook you can**
# - say what a micro-batch, a window and an optimizer update are;
# - tell at which moment the weights move, and what the gradient buffer holds before that;
# - find your way through the other notebooks, and know what your machine can run.
#
# **Time:** 10 minutes. **You need:** to have seen gradient descent once.
#
# Run a cell with <kbd>Shift</kbd>+<kbd>Enter</kbd>, or all of them from the menu: *Run → Run All Cells*.

# %% [markdown]
# ## 1. The idea in three lines
#
# One optimizer update averages the gradient over `B` examples. How those examples reach the model, all at
# once or `M` at a time in `K` turns, is a decision about **memory and time, not about learning**. In this
# project's library the whole loop is:
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
# The third window has only 3 micro-batches, since 44 = 4·4 + 4·4 + 3·4. It is still one update, and it is
# still exact: its examples are divided by 12, not by 16. Many real training loops have got this wrong.

# %% [markdown]
# ## 3. Where it stops being true
#
# "The same" means the same up to floating-point rounding, for losses that are a sum over examples. Layers
# that look at the whole batch at once, such as BatchNorm, see `M` examples and not `B`. Random masks, such
# as dropout, are drawn again for each micro-batch. And it is only a big batch's activations that
# accumulation saves: weights, gradients and the optimizer's state need as much memory as before.

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

# %%
# NBVAL_CHECK_OUTPUT
from accum_lib.accumulate import windows

micro_batches = ["a", "b", "c", "d", "e", "f", "g"]
for window in windows(micro_batches, accumulation_steps=3):
    print(window)

# %% [markdown]
# ## Sources
#
# - Goyal et al. (2017), *Accurate, Large Minibatch SGD*, arXiv 1706.02677: what the size of the effective
#   batch does to training.
# - Ott et al. (2018), *Scaling Neural Machine Translation*, arXiv 1806.00187: accumulation in real training,
#   there called "delayed updates".
# - Crouch et al. (2004), *Classroom demonstrations: learning tools or entertainment?*, doi
#   10.1119/1.1707018: why these notebooks ask you to predict.
