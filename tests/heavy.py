"""What copies of processes begin with: loaded once, and left out of their garbage collections."""

import gc

import accelerate  # noqa: F401
import anywidget  # noqa: F401
import matplotlib.backends.backend_agg  # noqa: F401
import plotly  # noqa: F401
import sklearn.datasets  # noqa: F401
import transformers.models.distilbert.modeling_distilbert
import transformers.models.gpt2.modeling_gpt2
import transformers.models.roberta.modeling_roberta
import transformers.models.t5.modeling_t5  # noqa: F401

gc.collect()
gc.freeze()
