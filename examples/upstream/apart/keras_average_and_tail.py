"""Keras: with gradient_accumulation_steps weights are averaged at every micro-batch, and the tail is lost."""
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
import numpy as np

def fit(steps, batch_size, rows, **average):
    layer, seen = keras.layers.Dense(1, kernel_initializer="zeros"), {b"start"}
    model = keras.Sequential([keras.Input((3,)), layer])
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=steps, **average)
    model.compile(optimizer, "mse")
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, **_: seen.add(layer.get_weights()[0].tobytes()))
    x = np.linspace(-1, 1, 3 * rows).reshape(rows, 3)
    model.fit(x, 2 + x.sum(1, keepdims=True), batch_size, 4, 0, shuffle=False, callbacks=[note])
    return np.linalg.norm(layer.get_weights()[0]), len(seen - {b"start", bytes(12)})

def ratio(**average):
    return fit(4, 2, 8, **average)[0] / fit(None, 8, 8, **average)[0]

print("weights after 4 updates, K = 4 against one batch:", ratio())
print("their moving average, K = 4 against one batch:", ratio(use_ema=True, ema_momentum=0.5))
print("updates made of those due, 4 epochs of 5 micro-batches, K = 4:", fit(4, 2, 10)[1] / 8)
