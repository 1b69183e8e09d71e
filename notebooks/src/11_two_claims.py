# %% [markdown]
# # 11 · Two claims, tested (optional)
#
# **Question.** "With a rate `k` times as high a batch `k` times as large trains as well." "Small batches train as well or
# better." Two papers, two claims: what is left of them on digits, on two processor cores?
#
# **After this lesson you can**
# - say what linear scaling of the learning rate is for, and where it breaks;
# - hold the half-life of Adam's second moment in examples when `B` changes;
# - separate what you have seen from what you could not test.
#
# **Time:** 15 minutes. **Before this:** [03 Variance](03_variance.ipynb).

# %% [markdown]
# ## 1. The races
#
# Nineteen races, each of 12 copies of the MLP, from four or six seeds. They take about five seconds; interrupting the
# kernel (■) stops them.

# %%
from accum_lib.lessons.two_claims import claims_explorer, claims_track, questions

races = claims_track().show()

# %% [markdown]
# Before you look at the result:

# %%
questions.one_at_a_time(races).show()

# %%
explorer = claims_explorer(races)
explorer.show()

# %% [markdown]
# Lines are means of the seeds; strokes reach from the lowest seed to the highest.
#
# **Things to try**
#
# 1. Scaling from 0.02: which recipe is left behind as `B` grows, and from where on?
# 2. Scaling from 0.05: at `B = 704` the strokes grow long. Which recipe shortens them?
# 3. Small batches: at which `B` does plain SGD part from Adam?

# %% [markdown]
# **What you saw**, claim by claim:

# %% [markdown]
# ## 2. Goyal et al. (2017): linear scaling
#
# > *Goyal et al. (2017): a batch `k` times as large with a learning rate `k` times as high trains as well, if the rate
# > is warmed up; on ImageNet up to 8,192.*
#
# Here: SGD with momentum 0.9, eight epochs, the rate given at `B = 16`: 0.02, or 0.05, which does almost as well.
#
# - **Seen.** With the rate unchanged the large batches are left far behind. Scaled, `B = 64` is as good as `B = 16`,
#   `B = 256` falls a little behind, and `B = 704` (half of the data) further, for it makes only 16 updates. From 0.05
#   the rate at `B = 704` is 2.2: without warm-up some seeds run off, and warm-up helps. From 0.02 nothing runs off,
#   and warm-up makes no difference. So here it is a cure for instability, and no more.
# - **Could not be tested here:** ImageNet, ResNet-50, 90 epochs. The limit of 8,192 is theirs, not ours.

# %% [markdown]
# ## 3. Marek et al. (2025): small batches
#
# > *Marek et al. (2025): small batches, down to 1, train as well or better, if Adam forgets after the same number of
# > tokens. Then even plain SGD keeps up. Accumulation is wasteful on one device.*
#
# Here: 960 examples, each seen once, each batch size at the best of three rates; `β₂ = 0.95` at `B = 64` is the reference.
#
# - **Seen.** At equal examples `B = 1` and `B = 8` beat `B = 64`, and plain SGD keeps up with Adam at small batches
#   only. On that, the claim holds, against the habit of making batches as large as they go.
# - **Not seen.** Holding the half-life of `β₂` made no difference beyond the spread of the seeds.
# - **Could not be tested here:** language models, for which the claim was made, and the time that tiny batches cost
#   on a GPU, which does one example as fast as eight.

# %% [markdown]
# ## 4. Where it stops being true
#
# Two papers were tried on one small network and one small data set. That a claim is seen here does not prove it, and
# that it is not seen does not refute it: it says where to look with a larger model, and that a habit ("as large as it
# goes") deserves a race of its own before a long run.

# %% [markdown]
# ## 5. Exercise
#
# Adam's `beta2` was tuned at `reference_batch`. Which value has the same half-life, in examples, at `batch`?


# %% tags=["nbval-check-output"]
from accum_lib.lessons.two_claims import check_beta2


def beta2(reference, reference_batch, batch):
    return ...  # your formula


check_beta2(beta2)

# %% [markdown]
# ## Do you remember?
#
# <details><summary>1. The rate is scaled with B. What is the warm-up for?</summary>
#
# Stability: where a high rate makes some seeds run off, it helps; where nothing runs off, it made no difference here.
#
# </details>
#
# <details><summary>2. Why can B = 1 end lower than B = 64 on the same examples?</summary>
#
# It makes 64 times as many updates. Each is noisy, and a low rate averages over many of them.
#
# </details>
#
# <details><summary>3. B becomes 8 times as large. Which beta2 forgets after as many examples as before?</summary>
#
# The old one to the power of 8: each update now counts for 8 times as many examples.
#
# </details>

# %% [markdown]
# ## Sources
#
# - Goyal et al. (2017), *Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour*, arXiv 1706.02677: linear scaling
#   and warm-up.
# - Marek et al. (2025), *Small Batch Size Training for Language Models*, arXiv 2507.07101: small batches.

# %% [markdown]
# **Next:** [04 Memory](04_memory.ipynb), or back to the map in [00 Start here](00_start_here.ipynb), section 5.
