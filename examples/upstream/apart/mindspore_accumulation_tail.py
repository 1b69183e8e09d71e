"""mindspore.boost.GradientAccumulation: the last, shorter window is never applied; means count alike."""
import mindspore as ms
import numpy as np
from mindspore import nn, ops
from mindspore.boost import GradientAccumulation

rows, ones = ms.Tensor(np.eye(3, dtype=np.float32)), ms.Tensor(np.ones((3, 1), np.float32))

def train(micro_batches, steps):
    """The weights, and how many updates were made."""
    net, seen = nn.Dense(3, 1, weight_init="zeros", has_bias=False), set()
    optimizer = nn.SGD(net.trainable_params(), 0.1)
    accumulate = GradientAccumulation(steps, optimizer)
    for x, y in micro_batches:
        gradient = ms.value_and_grad(
            lambda x=x, y=y: ops.mse_loss(net(x), y), None, optimizer.parameters)
        accumulate(*gradient())
        seen.add(net.weight.asnumpy().tobytes())
    return net.weight.asnumpy()[0], len(seen - {bytes(12)})

_, updates = train([(rows[i : i + 1], ones[:1]) for i in range(3)], 2)
print("updates made of those due, 3 micro-batches, K = 2:", updates / 2)
two, one = train([(rows[:1], ones[:1]), (rows[1:], ones[1:])], 2)[0], train([(rows, ones)], 1)[0]
print("step along row 0, micro-batches of 1 and 2 rows against one batch:", float(two[0] / one[0]))
