"""mlx-lm: grad_accumulation_steps=2 averages means over tokens; one batch of the same rows does not."""
import itertools
import tempfile
import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx_lm.tuner.trainer import TrainingArgs, train

rows = mx.array([[1, 2, 3, 4, 5, 6], [6, 5, 0, 0, 0, 0]])
spans = mx.array([[0, 6], [0, 2]])  # (start, end) of what counts: the second row is short, then padding

def moved(batches):
    """The embeddings' step, by one update made of these batches."""
    mx.random.seed(0)
    model = nn.Sequential(nn.Embedding(8, 4), nn.Linear(4, 8))
    before = np.array(model.layers[0].weight)
    arguments = TrainingArgs(iters=len(batches), grad_accumulation_steps=len(batches),
                             adapter_file=tempfile.mkdtemp() + "/a.safetensors")
    train(model, optim.SGD(0.1), rows, args=arguments, iterate_batches=lambda **_: itertools.cycle(batches))
    return np.array(model.layers[0].weight) - before
one, two = moved([(rows, spans)]), moved([(rows[:1], spans[:1]), (rows[1:], spans[1:])])
print("step by two micro-batches against one batch:", np.linalg.norm(two) / np.linalg.norm(one))
print("its part on the short row's tokens against one batch:", float((two[6] / one[6]).mean()))
