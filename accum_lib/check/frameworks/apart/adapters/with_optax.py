"""optax: ``MultiSteps`` around an optimizer, as its guide on gradient accumulation has it, on JAX."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from adapter import Case, arrays, flat, serve, windows

jax.config.update("jax_enable_x64", True)


@jax.jit
@jax.grad
def gradient(parameters: Any, inputs: Any, labels: Any) -> Any:
    logits = inputs @ parameters["weight"] + parameters["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def documented(case: Case) -> dict[str, Any]:
    optimizer = optax.MultiSteps(optax.sgd(case["rate"]), every_k_schedule=case["accumulation_steps"])
    return train(case, optimizer, [1.0] * len(case["labels"]))


def mended(case: Case) -> dict[str, Any]:
    """A sum of gradients, each times its share of the window's rows; a schedule of the windows' lengths."""
    parts = windows(case["labels"], case["accumulation_steps"])
    lengths = jnp.array([len(part) for part in parts], jnp.int32)
    optimizer = optax.MultiSteps(
        optax.sgd(case["rate"]), lambda update: lengths[update % len(parts)], use_grad_mean=False
    )
    return train(case, optimizer, [len(y) / sum(map(len, part)) for part in parts for y in part])


def train(case: Case, optimizer: Any, shares: list[float]) -> dict[str, Any]:
    parameters = {"weight": jnp.array(case["weight"]), "bias": jnp.array(case["bias"])}
    state, update, updates, position = optimizer.init(parameters), jax.jit(optimizer.update), [], 0
    for _ in range(case["epochs"]):
        for (inputs, labels), share in zip(arrays(case), shares, strict=True):
            gradients = jax.tree.map(lambda g, share=share: g * share, gradient(parameters, inputs, labels))
            changes, state = update(gradients, state, parameters)
            parameters = optax.apply_updates(parameters, changes)
            position += 1
            if optimizer.has_updated(state):
                updates.append((position, flat(parameters["weight"], parameters["bias"])))
    return {"updates": updates}


serve(documented, mended)
