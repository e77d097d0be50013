"""Single operations in JAX, jitted."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import Contestant

from peers import load

jax = load("jax")
jnp = jax.numpy

Array = np.ndarray[Any, Any]


def gelu(x: Any, w: Any, b: Any, r: Any) -> Any:
    """gelu(x w + b) + r."""
    return jax.nn.gelu(x * w + b, approximate=False) + r


def softmax(x: Any) -> Any:
    """Softmax of rows."""
    return jax.nn.softmax(x, -1)


def layer_norm(x: Any, scale: Any, shift: Any) -> Any:
    """Layer norm of rows."""
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * scale + shift


FUNCTIONS = {"gelu": gelu, "softmax": softmax, "layer_norm": layer_norm}


def kernels(name: str, arrays: list[Array]) -> list[Contestant]:
    """Make JAX's contestant for an operation."""
    fast, given = jax.jit(FUNCTIONS[name]), [jnp.asarray(array) for array in arrays]
    return [Contestant("jax", lambda: jax.block_until_ready(fast(*given)))]


def sgd(
    weight: Array, gradient: Array, lr: float, momentum: float, decay: float
) -> list[Contestant]:
    """Make JAX's contestant for an update; weights and velocity are donated."""

    def update(w: Any, v: Any, g: Any) -> Any:
        v = momentum * v + (g + decay * w)
        return w - lr * v, v

    fast = jax.jit(update, donate_argnums=(0, 1))
    now = [jnp.array(weight), jnp.zeros_like(weight)]
    g = jnp.asarray(gradient)

    def run() -> None:
        now[:] = jax.block_until_ready(fast(*now, g))

    def check() -> Array:
        run()
        return np.array(now[0])

    return [Contestant("jax", run, check=check)]
