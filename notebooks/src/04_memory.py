# %% [markdown]
# # 04 · Memory: where every byte goes
#
# **Question.** "More accumulation steps: less memory, but slower." Is that so?
#
# **After this lesson you can**
# - say what an update keeps in memory, and when it is fullest;
# - predict what `M` and `K` do to the peak, and where more accumulation stops helping;
# - choose `M` and `K` for a model and a card before anything runs;
# - weigh accumulation against checkpointing, 16 bits and leaner optimizers.
#
# **Time:** 40 minutes. **Before this:** [01 Three descents](01_three_descents.ipynb).

# %% [markdown]
# > **Lin's run.** Of her card's 8 GB a program gets 7.1 GiB. The recipe's 256 texts at once are out of the question. `M` = 16
# > with `K` = 1 runs. Then she sets `K` = 2, with the same `M`, and the card runs out of memory. "So accumulation *costs*
# > memory", she says. Does it?

# %% tags=["nbval-check-output"]
from accum_lib.lessons.memory import roberta_base
from accum_lib.memory import predict
from accum_lib.memory.planner import reserved_bytes

lins = predict(roberta_base(512), hopper=False)  # 512 tokens, AdamW, float32
for m, k in ((256, 1), (16, 1), (16, 2)):
    print(
        f"M = {m:3}, K = {k}: {reserved_bytes(lins, m, k) / 2**30:5.2f} GiB of the card"
    )

# %% [markdown]
# Nothing of that size was allocated here. How the library knows, and how well, is told in section 6.

# %% [markdown]
# ## 1. Two guesses
#
# RoBERTa-base, 128 tokens, AdamW, float32.

# %%
from accum_lib.lessons.memory import questions

questions.doubled_steps().show()

# %%
questions.halved_micro_batch().show()

# %% [markdown]
# ## 2. One update, byte by byte
#
# Left: what is in memory while one update runs, stacked. Right: the highest moment, for every `M`. Computing
# all settings takes half a minute; the first one is shown at once.

# %%
from accum_lib.lessons.memory import memory_explorer

explorer = memory_explorer()
explorer.show()

# %% [markdown]
# **Things to try** (what has a blue grip on an axis can be dragged there, too)
#
# 1. `K` from 1 to 2: a second peak appears, and it is on top of the gradients of the first. From 2 to 8: more
#    peaks, none higher.
# 2. `M` down to 2: the peaks shrink, until the optimizer's own moment (right of the dotted line) is the highest.
# 3. 512 tokens, `M = 64`: then checkpointing. What becomes of the peaks, and what of their number of operators?
# 4. SGD in place of AdamW: the floor falls. bf16: which area shrinks, and which one is new?

# %% [markdown]
# **What you saw**
#
# - Parameters and optimizer state are always there. Activations grow during a forward pass and are freed during
#   the backward pass, so only *one* micro-batch's activations are ever there.
# - With `K = 1` the gradient appears while the activations disappear. From `K = 2` on **the full gradient is already
#   there when the activations peak**. There is never a second set of gradients: `K = 8` needs no more than `K = 2`.
# - AdamW works on all parameters at once and needs one temporary of their size. That is the **floor**: where it
#   is the fullest moment, a smaller `M` saves nothing.
# - The floor by hand: 4 bytes each for weight, gradient, two moments and the temporary are 20 bytes for each of
#   124,647,170 weights, so 2.32 GiB. The lens says 2.34: the rest is cuBLAS's workspace of 17 MiB. Only two things
#   lower it: fewer bytes for a weight (a leaner optimizer), or fewer trained weights: a frozen one costs its 4 bytes.

# %% [markdown]
# ## 3. The claim, clause by clause
#
# "More accumulation steps, less memory, slower" does not say what stays the same. With `M` fixed, more steps
# make a larger batch; with `B` fixed, they make smaller micro-batches. First the memory:

# %% tags=["nbval-check-output"]
from accum_lib.lessons.memory import memory_clauses, time_clauses

ampere = predict(roberta_base(128), hopper=False)  # Hopper cards reserve a bit more
for clause in memory_clauses(ampere, 16, 32):
    print(f"{clause.claim}: {clause.holds}\n    {clause.evidence}.")

# %% [markdown]
# Now the time, measured on one thread of this machine with a small RoBERTa (real updates, in turns). Times differ
# from machine to machine, so look at the ratios.

# %%
from accum_lib.lessons.memory import pace
from accum_lib.memory import named

sizes = {"hidden_size": 128, "num_hidden_layers": 2, "intermediate_size": 512}
small = named(
    "roberta-base", tokens=32, vocab_size=8000, num_attention_heads=4, **sizes
)
fixed_m = pace(small, [(8, 1), (8, 2), (8, 8)], rounds=4)
fixed_b = pace(small, [(32, 1), (16, 2), (8, 4), (2, 16)], rounds=4)
for clause in time_clauses(fixed_m, fixed_b):
    print(f"{clause.claim}: {clause.holds}\n    {clause.evidence}.")

# %% [markdown]
# At fixed `M`, more steps are **faster** for each example: one optimizer update serves more of them. At fixed
# `B`, small micro-batches leave the processor idle between operators, so they are **slower**.
#
# Others have measured the same on GPUs (their numbers, not ours):
#
# | what | `M` × `K` | time | memory |
# |---|---|---|---|
# | BERT-large, 512 examples, V100 | 4 × 1 | 57.8 s | 14,949 MB |
# | fixed `B` | 1 × 4 | 66.0 s | 8,681 MB |
# | and checkpointing | 1 × 4 | 85.5 s | 6,775 MB |
# | T5-base, A100, float32, fixed `M` | 32 × 1, 32 × 2 | 93.7, 97.5 examples/s | |
# | T5-base, A100, bfloat16, fixed `M` | 32 × 1, 32 × 2 | 224, 246 examples/s | |

# %% [markdown]
# ## 4. Will it fit?
#
# The **planner** turns this round. For a model, a card and an effective batch it finds the smallest `K` that
# fits with a margin of 10 %, in each precision, without and with checkpointing. Times are estimates from data
# sheets: they rank the options, and are no measurement.
#
# Two numbers have to fit: what is allocated, and what the allocator reserves for it. The second was learnt the hard
# way: on an H200 an update whose peak was 83 % of the card ran out of memory, since a fifth of what was reserved lay
# free in pieces that were too small.
#
# Drag the dashed line up and down (or move the card's slider), and watch the `M` and `K` below the marks.

# %%
from accum_lib.lessons.memory import planner_explorer

planner_explorer().show()

# %% [markdown]
# The same from the command line, for any model and card:
# `python -m accum_lib plan --model roberta-large --gpu 16GB --batch 256`. It also says when accumulation *cannot*
# help:

# %% tags=["nbval-check-output"]
from accum_lib.memory import plan

print(plan(roberta_base(128), "3GB", 32).verdict)

# %% [markdown]
# And before something runs here, `guard` asks whether this machine has the memory:

# %%
from accum_lib.memory import WouldNotFitError, guard

try:
    guard(roberta_base(512), micro_batch_size=4096)
except WouldNotFitError as error:
    print(error)

# %% [markdown]
# ## 5. Where it stops being true: leaner than accumulation
#
# Accumulation keeps a set of gradients. Other ways do not, and each gives something up. Bytes are the memory
# lens's (RoBERTa-base, 512 tokens, `M = 8`, `K = 4`); errors are the equivalence lens's, against one big batch in
# float64. Last error column: the error in Adam's squared-gradient average.

# %% tags=["nbval-check-output"]
from accum_lib.lessons.memory import alternatives

print(f"{'':32}peak   floor  arithmetic  gradient  2nd moment  updates")
for a in alternatives(roberta_base(512), micro_batch_size=8, accumulation_steps=4):
    errors = [
        "exact" if e < 1e-12 else "-" if a.updates > 1 else f"{e:.1%}"
        for e in (a.gradient_error, a.second_moment_error)
    ]
    print(
        f"{a.name:32}{a.peak_bytes / 2**30:.2f}   {a.floor_bytes / 2**30:.2f}   {a.arithmetic:10.2f}"
        f"{errors[0]:>10}{errors[1]:>12}{a.updates:9}"
    )

# %% [markdown]
# - **Checkpointing** recomputes each layer in the backward pass: a third more arithmetic, the same gradient, to
#   the last bit, and far lower peaks. It combines with accumulation. The floor stays: where that does not fit,
#   neither of them helps.
# - A **bfloat16 buffer** halves the gradients so far, and rounds each sum to 8 bits.
# - **AdamA** folds every micro-batch into the moments at once. The first moment is exact. The second gets the sum
#   of squares in place of the square of the sum, so the steps are not those of a big batch.
# - The **optimizer in backward** moves each parameter as soon as its gradient is there. With `K = 1` that is
#   exact; with `K = 4` it makes four updates, so it *excludes* accumulation.
#
# The last two cannot clip by the norm of the whole gradient: it never exists in one place.
#
# **The lens has limits, too.** A model that branches on computed values, or a loss that compares all examples of
# a batch (its bytes grow as `M²`), is refused with an error that names the operator and its line, never
# guessed. And a card holds other things: a context, pieces of free memory too small to use. Hence the margin.

# %% [markdown]
# ## 6. How do we know? A prediction that allocates nothing
#
# A tensor on PyTorch's *meta* device has a shape but no memory behind it. The **memory lens** runs a whole update
# (`accumulate`, `apply_update`) on meta tensors, follows the life of every storage, and so knows what is in memory
# at each moment. At moment $t$ that is a straight line in `M`: a constant $c_t$ (weights, optimizer state, gradients) and
# $a_t$ bytes of activations for each example. So a few short traces give every `M` and `K`:
#
# $$\text{peak} = \max_t (c_t + M a_t)$$
#
# Does it predict what a real update takes? Here is PyTorch's own profiler beside it, on this machine's CPU.

# %% tags=["nbval-check-output"]
from accum_lib.lessons.memory import measure_apart
from accum_lib.memory import Settings, encoder_workload, mlp_workload

for workload, ways in (
    (mlp_workload(), [(8, 4)]),
    (encoder_workload(), [(8, 1), (8, 4)]),
):
    predicted_here = predict(workload, Settings(), "cpu")
    for m, k in ways:
        real = measure_apart(workload, m, k, Settings())
        error = predicted_here.peak_bytes(m, k) / real - 1
        print(f"{workload.name:22} M = {m}, K = {k}: within 1 %: {abs(error) < 0.01}")

# %% [markdown]
# The tests compare 59 settings of eight families (perceptron, CNN, encoder, LSTM, RoBERTa, DistilBERT, GPT-2, T5).
#
# All the predictions above are for **a GPU**, whose kernels keep other things than the CPU's. They follow
# PyTorch's sources, and `benchmarks/gpu/memory_grid.py` compares them with a GPU, setting by setting:

# %%
from accum_lib.lessons.memory import show_memory_grid

show_memory_grid()

# %% [markdown]
# *Requested* is what tensors ask for, *allocated* what PyTorch's allocator hands out for it, *reserved* what it takes
# from the card to have it in the right pieces.
#
# That all requests are right to the byte was not so at first. Before this run the prediction was up to 1.4 % low, and
# the run showed why: cuBLAS has a workspace for *each* of two threads (the backward pass has one of its own), and the
# gradient of a bias, a sum over many rows, takes a buffer. These rules, and smaller ones, stand in PyTorch's sources,
# and in the prediction since. Another card, driver or version may still differ: on a machine with a GPU, run the script.

# %% [markdown]
# ## 7. Exercises
#
# **1.** How many bytes does an update with AdamW in float32 need for `parameters` weights, however small `M` is?


# %% tags=["nbval-check-output"]
from accum_lib.lessons.memory import check_floor, check_second_buffer, check_steps


def floor_bytes(parameters):
    return ...  # your formula


check_floor(floor_bytes)

# %% [markdown]
# **2.** How many bytes more than with `K = 1` are there during a backward pass?


# %% tags=["nbval-check-output"]
def extra_bytes(parameters, accumulation_steps):
    return ...  # your formula


check_second_buffer(extra_bytes)

# %% [markdown]
# **3.** The card takes micro-batches of up to `largest_micro_batch`. Which `K` reaches `effective_batch`?


# %% tags=["nbval-check-output"]
def steps(effective_batch, largest_micro_batch):
    return ...  # your formula


check_steps(steps)

# %% [markdown]
# ## Do you remember?
#
# <details><summary>1. K goes from 2 to 8 and M stays. What becomes of the peak? And from K = 1 to
# 2?</summary>
#
# From 2 to 8: nothing. From 1 to 2 it can rise by up to one set of gradients, since that is now there when the
# activations peak.
#
# </details>
#
# <details><summary>2. When does a smaller M save nothing more?</summary>
#
# When the optimizer's own moment is the fullest: at the floor, 20 bytes for each weight with AdamW in float32.
#
# </details>
#
# <details><summary>3. “More accumulation steps: less memory, but slower.” What is missing?</summary>
#
# What stays the same. At fixed `B` it is so, down to the floor. At fixed `M` memory does not fall, and each
# example takes less time.
#
# </details>

# %% [markdown]
# ## Sources
#
# - Chen et al. (2016), *Training Deep Nets with Sublinear Memory Cost*, arXiv 1604.06174: checkpointing.
# - Zhang et al. (2023), *Adam Accumulation to Reduce Memory Footprints of both Activations and Gradients for
#   Large-scale DNN Training*, arXiv 2305.19982: AdamA.
# - Rajbhandari et al. (2020), *ZeRO*, arXiv 1910.02054: who needs what, and sharding it.
# - PyTorch tutorial *How to save memory by fusing the optimizer step into the backward pass*.
# - Transformers documentation, *Efficient training on a single GPU* (the table's BERT-large), and its issue 15026
#   (T5-base on an A100).

# %% [markdown]
# **Next:** [05 When it breaks](05_when_it_breaks.ipynb): fifteen faulty loops. Which of them would you have
# noticed?
