"""PaddlePaddle: Model.fit(accumulate_grad_batches=4) adds up 4 means and never divides by 4."""
import numpy as np
import paddle

x = np.linspace(-1, 1, 24, dtype="float32").reshape(8, 3)
rows = paddle.io.TensorDataset([paddle.to_tensor(x), paddle.to_tensor(2 + x.sum(1, keepdims=True))])

def moved(batch_size, steps):
    """How far one update moves the weights."""
    net = paddle.nn.Linear(3, 1, weight_attr=paddle.nn.initializer.Constant(0.0))
    model = paddle.Model(net)
    model.prepare(paddle.optimizer.SGD(0.01, parameters=net.parameters()), paddle.nn.MSELoss())
    model.fit(rows, batch_size=batch_size, epochs=1, shuffle=False, verbose=0, accumulate_grad_batches=steps)
    return float(np.linalg.norm(net.weight.numpy()))

print("step of the weights, K = 4 against one batch:", moved(2, 4) / moved(8, 1))
