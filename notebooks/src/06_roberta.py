# %% [markdown]
# # 06 · RoBERTa: the same three lines, for real
#
# **Question.** Does all of this hold for the model that you fine-tune at work?
#
# **After this lesson you can**
# - turn the usual snippet into a loop that is right for any loss and any epoch;
# - show on your own model that `K` changes nothing, and say when it does (dropout, BatchNorm) and why that is fine;
# - train with checkpoints that survive anything, and on whatever memory there is;
# - plan an update of 8,192 sequences for one card.
#
# **Time:** 45 minutes. **Before this:** [02 Equivalence](02_equivalence.ipynb), [04 Memory](04_memory.ipynb).
#
# Nothing is downloaded. The model is a RoBERTa of two layers with **untrained** weights, the text is real: docstrings
# of the standard library, NumPy, scikit-learn and PyTorch, with lengths as ragged as text has them. With
# `--model FacebookAI/roberta-base` the same code takes the published weights.

# %% [markdown]
# > **Lin's run.** Toy models are understood. Now it is RoBERTa: hidden tokens, ragged texts, AdamW, dropout, hours of
# > training that something may interrupt. Do the same three lines do?

# %% [markdown]
# ## 1. The same lesson at every size
#
# `B` = 32 stays, `K` goes from 1 to 8, and everything else is the same: weights, examples, order. The API is the
# same for two weights and for RoBERTa. Training them all takes a while once; the first picture is shown at once.

# %%
from accum_lib.lessons.roberta import questions

questions.dropout().show()

# %%
from accum_lib.lessons.roberta import fixed_batch_explorer

explorer = fixed_batch_explorer()
explorer.show()

# %% [markdown]
# **Things to try**
#
# 1. RoBERTa, and every `K`: where are the blue points? How far apart are they really (right)?
# 2. The digits' CNN. It has BatchNorm. Does the distance grow with `K`?
# 3. RoBERTa with dropout. Compare the blue line on the right with the dotted one: one big batch against itself.

# %% [markdown]
# **What you saw**
#
# - Without dropout the curves lie on top of each other, up to the rounding of float32 (about 1e-7 of a loss).
# - With dropout they do not: each forward pass draws its own masks, and `K` passes draw others than one. They are
#   *as* far apart as two runs of one big batch with other masks. It is noise of the same size, not a bias: the
#   expected gradient is the same.
# - BatchNorm is another matter: it normalises by the `M` examples of a pass, so `K` changes the function itself.
#   RoBERTa has LayerNorm, which looks at one token at a time.
#
# **Full size.** For RoBERTa-base the same call takes 125 million weights. Does it fit here?

# %%
from accum_lib.memory import Settings, WouldNotFitError, guard, named

try:
    found = guard(
        named("roberta-base", tokens=128), 4, 8, Settings(implementation="for-loop")
    )
    print(f"It fits: {found.peak_bytes(4, 8) / 2**30:.2f} GiB at the peak, predicted.")
    print(
        "python -m accum_lib train --model base -M 4 -K 8 --max-updates 3 --output base"
    )
except WouldNotFitError as error:
    print(error)

# %% [markdown]
# ## 2. The usual snippet
#
# This is what most guides print, and what fine-tuning scripts run: batches of 16, `K` = 4, AdamW with a learning
# rate of 1e-5.
#
# ```python
# for step, batch in enumerate(loader):
#     loss = model(**batch).loss                 # the mean over this micro-batch
#     (loss / 4).backward()                      # divided by K
#     if (step + 1) % 4 == 0:                    # every K micro-batches
#         optimizer.step()
#         optimizer.zero_grad()
# ```
#
# Two tasks: to *classify* a text, which has one label, and to *guess hidden tokens* (masked language modelling),
# of which a longer text has more.

# %%
questions.usual_snippet().show()

# %% [markdown]
# The checker of notebook 02 on the snippet and the real model, in float64:

# %% tags=["nbval-check-output"]
from accum_lib.lessons.roberta import usual_report

for task in ("classification", "mlm"):
    report = usual_report(task)
    whole = questions.whole_window_error(report)
    print(f"{task:15} whole windows are off by {whole:.0%}; found:")
    print("".join(f"    {found.code}\n" for found in report.diagnoses))

# %% [markdown]
# And now line by line, what is wrong and what is right:
#
# | the line | what is wrong with it | the right one |
# |---|---|---|
# | `loss = model(**batch).loss` | a mean: how many it counts is lost | a **sum**, and a count |
# | `loss / 4` | a mean of means, if micro-batches count differently; too small, if the window is short | divide by the **window's** count |
# | `(step + 1) % 4 == 0` | the last window of an epoch makes no update, and leaks into the next | **windows**, of which the last may be short |
# | (a log of `loss`) | the last micro-batch's | the window's mean |
# | (a scheduler, clipping) | often once for each micro-batch | **once for each update** |
#
# The loop that this project trains with, whole:
#
# ```python
# for window in windows(loader, accumulation_steps=4):
#     result = accumulate(model, window, task.loss_sum, task.count)
#     apply_update(model, optimizer, max_grad_norm=1.0, scheduler=scheduler)
# ```

# %% tags=["nbval-check-output"]
from accum_lib.check import check_case, core_loop
from accum_lib.lessons.roberta import case_of

case = case_of("mlm")
right = check_case(core_loop(case.loss_sum, case.count), case)
print(f"{right.ok}: {len(right.updates)} updates, the short ones too")
print(f"relative error below 1e-12: {right.relative_error < 1e-12}")

# %% [markdown]
# ## 3. Sixteen bits
#
# With autocast the passes run in bfloat16, while weights and the `.grad` buffer stay in float32. How far is one
# window's gradient from the exact one, whole (`K` = 1) and accumulated?

# %%
from accum_lib.lessons.roberta import TaskProblem, precision_errors

for e in precision_errors(TaskProblem(num_samples=32, max_tokens=24), steps=(1, 16)):
    print(
        f"{e.precision}  K = {e.accumulation_steps:2}   relative error {e.relative_error:.1e}"
    )

# %% [markdown]
# Sixteen bits cost digits in each pass. Accumulation costs none on top, since it adds in float32. (A *buffer* in
# bfloat16 would: notebook 02 has the microscope.) Float16 needs a `GradScaler`: give the same one to `accumulate` and
# `apply_update`.

# %% [markdown]
# ## 4. Train it
#
# Two epochs, `B` = 32 as `M` = 8, `K` = 4; warm-up and decay count updates, and the norm that is clipped is the whole
# window's. The task is to say which of four packages a docstring comes from (the packages' names are masked).

# %%
from accum_lib.lessons.roberta import train_and_show

trained = train_and_show(epochs=2)

# %% [markdown]
# The same from a shell, on your own texts (CSV, JSONL or Parquet) and with published weights:
#
# ```
# python -m accum_lib train --output runs/first
# python -m accum_lib train --output runs/second --model FacebookAI/roberta-base --data mine.csv
# python -m accum_lib train --output runs/second --dry-run    # plan, memory, time
# ```
#
# **Killed?** `--resume` goes on from the last whole checkpoint, and ends with the same bits. Here a run is stopped
# after 3 of 6 updates, and resumed:

# %% tags=["nbval-check-output"]
from accum_lib.lessons.roberta import interrupted_and_not

stopped, straight = interrupted_and_not(updates=6, stop_after=3)
print(f"the same weights, bit for bit: {stopped == straight}")

# %% [markdown]
# **Out of memory?** `M` is halved, `K` doubled, and the window retried from its start: the gradient is the same, so
# nothing is lost, and nothing is counted twice. The tests make it run out at every micro-batch.

# %% [markdown]
# ## 5. Eight thousand sequences on one card
#
# The original RoBERTa was trained with 8,192 sequences of 512 tokens in each update, on 1,024 GPUs. One card can make
# *the same update*. It takes longer, that is all. The planner of notebook 04 says how:

# %% tags=["nbval-check-output"]
from accum_lib.memory import plan

pretraining = named("roberta-base", "mlm", tokens=512)
for card in ("RTX 3090", "A100 80GB"):
    best = plan(pretraining, card, 8192).best
    print(
        f"{card:10} {best.precision}, checkpointing {'on' if best.checkpointing else 'off'}: "
        f"M = {best.micro_batch_size}, K = {best.accumulation_steps}, "
        f"peak {best.peak_bytes / 2**30:.1f} GiB, "
        f"about {best.seconds:.0f} s by data sheets"
    )

# %% [markdown]
# ## 6. On a GPU
#
# The gradient on the GPU against one big batch; a real out-of-memory; DDP and FSDP2 over NCCL, a process for each
# GPU; the noise scale of the full model; one update of 8,192 sequences; and throughput and memory for `M` × `K` at
# fixed `B`, beside Transformers' Trainer and Accelerate in the same run. What failed or was not run is listed, too.

# %%
from accum_lib.lessons.roberta import show_gpu_results

show_gpu_results()

# %% [markdown]
# If these are the results of 26 November 2026, look at three of them:
#
# - **At fixed `B`, small micro-batches are slow.** From `M` = 64 to `M` = 4 RoBERTa-base in bfloat16 gets
#   eleven to twelve times slower, whichever loop runs it: a GPU this fast has done the work of a small
#   micro-batch before the processor has started the next kernels. Accumulate because you must, with the largest `M` that fits.
# - **The big batch fits, as planned.** The planner named `M` = 200, and the peak was 1 % below the predicted one. An
#   earlier planner had looked at the peak alone: its `M` = 265 ran out of memory. The *time* was not predicted well: it took
#   more than twice what the data sheet promises.
# - **The free noise scale is not free here.** One watched window in four cost 3 %, and every window 20 %, with `M` = 4:
#   its hooks start kernels, too. On two CPU cores a tiny RoBERTa paid under 1 % (`benchmarks/noise_scale.py`).

# %% [markdown]
# ## 7. Where it stops being true
#
# - Equal updates are not equal *runs* once a model draws random numbers, and a GPU's kernels may add in another
#   order from one run to the next. What must agree is the gradient of a window, in float64 or up to rounding.
# - A loss that compares the examples of a batch with each other (contrastive learning) is another function of `M`
#   micro-batches than of one batch, whatever one divides by.
# - The larger `B`, the fewer updates an epoch has. Whether that pays is the question of notebook 03, not of this one.

# %% [markdown]
# ## 8. Exercises
#
# **1.** Write the loss of masked language modelling as a sum and a count. `batch["labels"]` is -100 where
# nothing is to be guessed; `model(...).logits` is (micro_batch, tokens, vocabulary).


# %% tags=["nbval-check-output"]
from accum_lib.lessons.roberta import check_mlm_loss, check_warmup_updates


def loss_sum(model, batch):
    return ...  # a scalar tensor


def count(batch):
    return ...  # a number


check_mlm_loss(loss_sum, count)

# %% [markdown]
# **2.** The learning rate is to rise during the first `part` of all optimizer updates. How many updates is that?


# %% tags=["nbval-check-output"]
def warmup_updates(num_samples, micro_batch_size, accumulation_steps, epochs, part):
    return ...  # a whole number, rounded down


check_warmup_updates(warmup_updates)

# %% [markdown]
# ## Do you remember?
#
# <details><summary>1. What does the usual snippet get wrong about hidden tokens, and what about classification?</summary>
#
# With hidden tokens a micro-batch that hides few weighs as much as one that hides many. In classification every text
# counts one, so only the short last window is wrong.
#
# </details>
#
# <details><summary>2. Two runs with dropout, K = 1 and K = 8, end at other weights. Is that a fault?</summary>
#
# No: each pass draws its own masks, and the two are as far apart as two runs of one big batch with other masks.
#
# </details>
#
# <details><summary>3. What must a checkpoint hold, besides weights, so that a resumed run is the same run?</summary>
#
# Optimizer, scheduler, the random states, and where in the data the window stood.
#
# </details>

# %% [markdown]
# ## Sources
#
# - Liu et al. (2019), *RoBERTa: A Robustly Optimized BERT Pretraining Approach*, arXiv 1907.11692: 8K sequences, and
#   table 10 for fine-tuning.
# - Devlin et al. (2019), *BERT*, arXiv 1810.04805: masked language modelling.
# - Micikevicius et al. (2018), *Mixed Precision Training*, arXiv 1710.03740.
# - Transformers pull request 34191 (2024): the mean of means, in every model's loss.

# %% [markdown]
# **Next:** [07 Beyond text](07_beyond_text.ipynb): images and audio.
