"""JAX's LSTM: `lax.scan`, jitted with the weights donated, also unrolled."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import Contestant

from peers import load

jax = load("jax")
jnp = load("jax.numpy")

Array = np.ndarray[Any, Any]
UNROLLED = (1, 4)


def steps(lstm: Any, lr: float) -> list[Contestant]:
    """Make JAX's contestants."""
    return [_step(lstm, lr, unroll) for unroll in UNROLLED]


def _step(lstm: Any, lr: float, unroll: int) -> Contestant:
    batch, hidden = lstm.rows.shape[1], lstm.hidden.shape[0]

    def loss(weights: Any, rows: Any) -> Any:
        wx, wh, bias = weights

        def cell(state: Any, row: Any) -> Any:
            h, c = state
            i, f, g, o = jnp.split(row + h @ wh, 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((batch, hidden), rows.dtype)
        _, outputs = jax.lax.scan(cell, (zeros, zeros), rows @ wx + bias, unroll=unroll)
        return (outputs * outputs).sum() / (2 * batch)

    def step(weights: Any, rows: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(weights, rows)
        return value, [w - lr * g for w, g in zip(weights, gradients, strict=True)]

    fast = jax.jit(step, donate_argnums=0)
    rows = jnp.asarray(lstm.rows)
    now = [[jnp.array(one) for one in lstm.weights]]

    def run() -> None:
        value, now[0] = fast(now[0], rows)
        jax.block_until_ready((value, now))

    def check() -> Array:
        run()
        found: Array = lstm.gradients([np.array(one) for one in now[0]])
        now[0] = [jnp.array(one) for one in lstm.weights]
        return found

    return Contestant(f"jax unroll={unroll}", run, check=check)
