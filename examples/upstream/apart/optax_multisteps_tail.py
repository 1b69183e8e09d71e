"""optax.MultiSteps: the last, shorter window of the training stays in its state; means count alike."""
import jax
import jax.numpy as jnp
import optax

def loss(w, x, y):
    return jnp.mean((x @ w - y) ** 2)

def train(micro_batches, steps):
    w, updates = jnp.zeros(3), 0
    optimizer = optax.MultiSteps(optax.sgd(0.1), every_k_schedule=steps)
    state = optimizer.init(w)
    for x, y in micro_batches:
        change, state = optimizer.update(jax.grad(loss)(w, x, y), state, w)
        w = optax.apply_updates(w, change)
        updates += int(optimizer.has_updated(state))
    return w, updates, state

rows = jnp.eye(3)
_, updates, state = train([(rows[i : i + 1], jnp.ones(1)) for i in range(3)], steps=2)
print("gradient that is left in the state", state.acc_grads)
print("updates made of those due, 3 micro-batches, K = 2:", updates / 2)
k2 = train([(rows[:1], jnp.ones(1)), (rows[1:], jnp.ones(2))], steps=2)[0]
k1 = train([(rows, jnp.ones(3))], steps=1)[0]
print("step along row 0, micro-batches of 1 and 2 rows against one batch:", float(k2[0] / k1[0]))
