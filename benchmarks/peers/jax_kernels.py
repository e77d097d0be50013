"""Single operations in JAX, jitted; images are (batch, height, width, channels) here."""

from __future__ import annotations

from collections.abc import Callable
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


def max_pool(x: Any) -> Any:
    """The largest of 3 x 3, at every second place."""
    lowest = np.asarray(-np.inf, x.dtype)
    return jax.lax.reduce_window(x, lowest, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID")


def lrn(x: Any) -> Any:
    """AlexNet's normalisation across channels."""
    pads, zero = [(0, 0)] * 3 + [(2, 2)], np.zeros((), x.dtype)
    total = jax.lax.reduce_window(x * x, zero, jax.lax.add, (1, 1, 1, 5), (1, 1, 1, 1), pads)
    return x * (2.0 + 1e-4 * total) ** -0.75


def back(forward: Callable[[Any], Any]) -> Callable[..., Any]:
    """Make the gradient of an operation, from what comes in from behind."""
    return lambda x, g: jax.vjp(forward, x)[1](g)[0]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "gelu": gelu,
    "softmax": softmax,
    "layer_norm": layer_norm,
    "turned": lambda x, y: x.T + y,
    "add": lambda x, y: x + y,
    "bias_relu": lambda x, b: jax.nn.relu(x + b),
    "row_sum": lambda x: x.sum(1),
    "column_sum": lambda x: x.sum(0),
    "full_sum": lambda x: x.sum(),
}
OF_IMAGES: dict[str, Callable[..., Any]] = {
    "max_pool": max_pool,
    "lrn": lrn,
    "max_pool_back": back(max_pool),
    "lrn_back": back(lrn),
}


def kernels(name: str, arrays: list[Array], device: str = "cpu") -> list[Contestant]:
    """Make JAX's contestant for an operation; on a GPU, JAX's own choice, it does not wait."""
    images = name in OF_IMAGES
    fast = jax.jit((OF_IMAGES if images else FUNCTIONS)[name])
    given = [jnp.asarray(each.transpose(0, 2, 3, 1) if images else each) for each in arrays]
    last: list[Any] = []
    wait: Callable[[], Any] = lambda: jax.block_until_ready(last)

    def run() -> Any:
        last[:] = [fast(*given)]
        return last[0] if device != "cpu" else jax.block_until_ready(last[0])

    def check() -> Array:
        found: Array = np.asarray(run())
        return found.transpose(0, 3, 1, 2) if images else found

    return [Contestant("jax", run, check=check, wait=wait)]


def sgd(
    weight: Array,
    gradient: Array,
    lr: float,
    momentum: float,
    decay: float,
    device: str = "cpu",
) -> list[Contestant]:
    """Make JAX's contestant for an update; weights and velocity are donated."""

    def update(w: Any, v: Any, g: Any) -> Any:
        v = momentum * v + (g + decay * w)
        return w - lr * v, v

    fast = jax.jit(update, donate_argnums=(0, 1))
    now = [jnp.array(weight), jnp.zeros_like(weight)]
    g = jnp.asarray(gradient)

    wait: Callable[[], Any] = lambda: jax.block_until_ready(now)

    def run() -> None:
        now[:] = fast(*now, g)
        if device == "cpu":
            wait()

    def check() -> Array:
        run()
        return np.array(now[0])

    return [Contestant("jax", run, check=check, wait=wait)]
