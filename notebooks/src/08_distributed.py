# %% [markdown]
# # 08 · Distributed: accumulation over several processes
#
# **Question.** "Accumulation reduces communication." By how much, for which reason, and up to where?
#
# **After this lesson you can**
# - keep an update exact over several processes, whatever their shards look like;
# - say what `no_sync` saves, and what it does not save;
# - read a timeline of computing and all-reduce, and tell overlap from waiting;
# - estimate from which `K` on a network no longer matters, and what FSDP changes.
#
# **Time:** 40 minutes. **Before this:** [01 Three descents](01_three_descents.ipynb) and
# [04 Memory](04_memory.ipynb).

# %% [markdown]
# > **Lin's run.** A second card arrives. Now two processes have to agree on one update, and they talk over a slow
# > network. "Accumulate more", says the forum, "then they talk less."

# %% [markdown]
# ## 1. Two processes, one update
#
# In **data parallelism** each process has a copy of the model and its own examples. In every update they average
# their gradients by an **all-reduce**, and all make the same step. PyTorch's `DistributedDataParallel` (DDP) does it
# bucket by bucket *during* the backward pass, so that sending overlaps with computing. Accumulation is the same loop:
#
# ```python
# model = DistributedDataParallel(make_model())
# ranks = DistributedRanks(model)
# for window in ranks.windows(loader, accumulation_steps=4):      # this process's part
#     accumulate(model, window, loss_sum, count, ranks=ranks)     # one all-reduce, in the last pass
#     apply_update(model, optimizer, max_grad_norm=1.0)
# ```
#
# All processes first add up what the window counts, and each divides by that *one* total. DDP takes the **mean**
# over `W` processes, so a loss sum's share is `W / total`. If each process divided by its own count, that would be
# the mean of means again, between processes instead of micro-batches.
#
# The next cell starts two real processes on this machine, as `torchrun` would, and measures all that
# follows: real updates of an MLP on the digits.

# %%
from accum_lib.lessons.distributed import measure_here

lab = measure_here(world_size=2)

# %% [markdown]
# Among other things it ran a window in which process 0 has micro-batches of 8, 5 and 8 examples, and process 1 has two,
# of 3 and 7. Is the gradient that of one batch of 31, in one process?

# %% tags=["nbval-check-output"]
print("equal to one big batch up to rounding:", lab.gradient_error < 1e-12)

# %% [markdown]
# ## 2. Your guesses
#
# DDP averages in *every* backward pass, unless `no_sync` prevents it. How many bytes is that for each example?

# %%
from accum_lib.lessons.distributed import questions

questions.bytes_in_every_pass(lab).show()

# %%
questions.bytes_in_the_last_pass(lab).show()

# %%
questions.fixed_batch(lab).show()

# %% [markdown]
# ## 3. What an update does, measured
#
# Above: one update of process 0. Each stroke is something that took a while. Below: all settings.

# %%
from accum_lib.lessons.distributed import traffic_explorer

explorer = traffic_explorer(lab)
explorer.show()

# %% [markdown]
# **Things to try**
#
# 1. `K` = 4, in the last pass: when does the first all-reduce begin? Before the last backward pass ends?
# 2. In every pass: how many red strokes are there now, and which part of them is beside a backward stroke?
# 3. Below left: which curve falls with `K`, and how? Below right: is the time as different as the bytes?

# %% [markdown]
# **What you saw**
#
# - Averaging in the last pass, an update sends one set of gradients, whatever `K` is. Per example that is `1/K` of
#   it. **The saving comes from waiting with the averaging**, not from accumulation as such: averaging in every pass
#   saves nothing.
# - At a fixed effective batch, one batch of `B` sends one set of gradients per update, too. Splitting it into
#   micro-batches **saves nothing**: as many updates, as many bytes. What saves is a larger batch with fewer
#   updates, and notebook 03 shows when that costs examples.
# - Part of the sending hides behind the backward pass. With deferred averaging there is only *one* backward pass
#   to hide behind.

# %% [markdown]
# ## 4. A slower network
#
# Two processes on one machine talk fast. For another network there is a **model**: a pass takes $p$ seconds, what
# occurs once in an update $u$, an averaging adds $s$:
#
# $t(K) = K p + s + u$ in the last pass, $t(K) = K (p + s) + u$ in every pass.
#
# All three are fitted to the times above. For another network $s$ is what a ring all-reduce takes by its latency and
# bandwidth, less what hides behind a part of the pass.

# %%
from accum_lib.lessons.distributed import fit, network_from

here = network_from(lab.probe_bytes, lab.probe_seconds, lab.world_size)
workload = fit(lab.traffic, here)
print(
    f"here: {here.latency * 1e6:.0f} µs, {here.bandwidth * 8 / 1e9:.1f} Gbit/s; ",
    end="",
)
print(
    f"a pass {workload.pass_seconds * 1e3:.1f} ms; {workload.hidden:.0%} of it hides averaging"
)

# %% [markdown]
# Is the model any good? Linux can slow a network of its own down, where the system permits it. Then the same
# updates are **measured** at 400 Mbit/s, beside what was **predicted** from the fast network. It is right about
# which way is faster. A single time can be off by a third: the processes share the cores with the network, and with
# all else that runs.

# %%
from accum_lib.lessons.distributed import Network, NotPermittedError, measure_slowed

slow = Network(here.latency, 200e6 / 8)  # both directions share 400 Mbit/s
try:
    for t in measure_slowed(megabits=400).traffic:
        k, every = t.accumulation_steps, t.every_micro_batch
        predicted = workload.update_time(slow, 2, k, every)
        print(f"K = {k}, in {'every' if every else 'the last'} pass: ", end="")
        print(f"measured {t.seconds * 1e3:.0f} ms, predicted {predicted * 1e3:.0f} ms")
except NotPermittedError as error:
    print(f"Not measured, only predicted: {error}")

# %% [markdown]
# ## 5. Many nodes: a prediction
#
# No cluster is here, so everything in this picture is **computed from assumptions**: ring all-reduce, 20 µs of
# latency, `M` = 32 and the time of a pass that you choose, gradients in float32. With overlap, sending hides behind
# the backward pass, two thirds of a pass.

# %%
from accum_lib.lessons.distributed import forecast_explorer

forecast_explorer().show()

# %% [markdown]
# **Things to try**
#
# 1. 1 Gbit/s: how much faster does an example become with accumulation? And at 400?
# 2. From 8 to 512 processes: a ring's bytes hardly grow, its latencies do.
# 3. 7 billion parameters: at which `K` is the green star, from which on waiting costs less than 10 %?
#
# Others have measured this on GPUs (their numbers, not ours): with `K = 4`, several nodes took 2.00 s per batch
# averaging in every pass and 0.91 s with `no_sync`; on one node it was 0.50 s and 0.41 s.

# %% [markdown]
# ## 6. What FSDP changes: memory against traffic
#
# **FSDP** gives every process only a shard of the parameters, gathers each layer when it is needed, and scatters
# its averaged gradient. Four micro-batches of the same MLP under FSDP2, counted:

# %% tags=["nbval-check-output"]
for s in lab.sharded:
    print(
        f"averaging in {'every' if s.every_micro_batch else 'the last'} pass: ", end=""
    )
    print(f"{s.gathers} all-gathers, {s.scatters} reduce-scatters, ", end="")
    print(f"keeps {s.kept_bytes / s.whole_bytes:.2f} of the gradients between passes")

# %% [markdown]
# Without averaging, gradients stay **unsharded**: each process holds those of the whole model, which is what FSDP
# was to avoid. Averaging in every pass (`DistributedRanks(model, every_micro_batch=True)`) holds a shard of them, for
# `K` times the reduce-scatters. And the parameters are gathered in *every* pass either way, so under FSDP
# accumulation saves a part of the traffic at most.

# %% [markdown]
# ## 7. Where it stops being true
#
# - **Once communication is hidden or small**, more accumulation saves bytes and no time. That is beyond the star.
# - **A larger batch is another training.** Bytes per example fall as `1/K` because there are fewer updates for the
#   same examples. Beyond the critical batch size (notebook 03), the examples needed grow instead.
# - **BatchNorm** sees a micro-batch of one process. A process whose shard is empty runs a stand-in of weight 0, so
#   that the others do not wait for ever; the gradient is exact, but its running statistics have moved.
# - **The model of section 4** knows neither stragglers nor a network shared with others, and NCCL also uses
#   trees, which take fewer latencies than a ring.
# - **If one process fails, all do.** A loss that is NaN is found by all processes in the same window, and none moves
#   its weights; an exception or a kill closes the connections, and the others stop with an error, at the
#   latest when the group's timeout has passed.

# %% [markdown]
# ## 8. Exercises
#
# **1.** `W` processes, `total` tokens in all of them: by what is a *loss sum* multiplied before its backward pass?


# %% tags=["nbval-check-output"]
from accum_lib.lessons.distributed import check_bytes, check_enough, check_share


def share(world_size, total):
    return ...  # your formula


check_share(share)

# %% [markdown]
# **2.** How many bytes does a process hand to all-reduce for each example of its own?


# %% tags=["nbval-check-output"]
def bytes_per_example(gradient_bytes, micro_batch_size, steps, every_micro_batch):
    return ...  # your formula


check_bytes(bytes_per_example)

# %% [markdown]
# **3.** Averaging in the last pass adds `averaging_seconds` to `K` passes of `pass_seconds`. What is the smallest `K`
# for which that is at most `tolerance` (0.1 is 10 %) more than no communication?


# %% tags=["nbval-check-output"]
def smallest_steps(pass_seconds, averaging_seconds, tolerance):
    return ...  # your formula


check_enough(smallest_steps)

# %% [markdown]
# ## Do you remember?
#
# <details><summary>1. What does no_sync save, and what not?</summary>
#
# Bytes: one all-reduce for each update in place of `K`. It saves no computing, and from some `K` on nothing that
# one would notice.
#
# </details>
#
# <details><summary>2. Two processes count 10 and 30 tokens. Why is the mean of their mean losses wrong?</summary>
#
# It gives each a half. The window counts 40, so the shares are a quarter and three quarters: all processes must
# know the sum of the counts before the first backward pass.
#
# </details>
#
# <details><summary>3. What does accumulating without communication cost under FSDP?</summary>
#
# Memory: the gradients are kept whole on every card until the last pass, and are not sharded.
#
# </details>

# %% [markdown]
# ## Sources
#
# - Li et al. (2020), *PyTorch Distributed: Experiences on Accelerating Data Parallel Training*, arXiv 2006.15704:
#   DDP, its buckets and overlap; section 3.2.4 is `no_sync`.
# - Zhao et al. (2023), *PyTorch FSDP*, arXiv 2304.11277: accumulation with and without communication.
# - Ott et al. (2018), *Scaling Neural Machine Translation*, arXiv 1806.00187: fewer updates, less waiting.
# - Patarasuk and Yuan (2009), *Bandwidth optimal all-reduce algorithms*, doi 10.1016/j.jpdc.2008.09.002: the ring.
# - Accelerate documentation, *Gradient synchronization*: the seconds with and without `no_sync` quoted above.

# %% [markdown]
# **Next:** [09 Choosing K](09_choose_k.ipynb): from model, card and data to `M` and `K`.
