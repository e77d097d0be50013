"""JAX's networks: symgraph's modules read layer by layer into one jitted function.

Images lie as (batch, height, width, channels), which is what XLA's convolutions like best on a CPU,
and are turned round once, outside of the clock. In bf16, weights stay in fp32 and are rounded for
each step, as autocast does. A step gets its weights and momenta donated. On a GPU they lie so too;
a run gives it a step and does not wait, and the random numbers of a step come from a counter there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
from harness import Contestant
from ours import Problem

from models.alexnet import AlexNet
from models.resnet import Residual, ResNet
from peers import load
from symgraph.nn import (
    Activation,
    BatchNorm,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    LayerNorm,
    LocalResponseNorm,
    MaxPool2d,
    Module,
    Sequential,
)

jax = load("jax")
jnp, lax = jax.numpy, jax.lax

Arrays = dict[str, Any]
LAYOUT = ("NHWC", "HWIO", "NHWC")
# how GPUs multiply float32
PRODUCTS = {"fp32": "float32", "tf32": "tensorfloat32", "bf16": None}


@dataclass
class Run:
    """One pass through a network: where its numbers are, and what it moves on the way."""

    paths: dict[int, str]
    state: Arrays
    train: bool
    key: Any = None  # without one there is no dropout
    drawn: int = 0

    def get(self, module: Module, name: str) -> Any:
        """Give the numbers of a variable of a layer."""
        return self.state[f"{self.paths[id(module)]}.{name}"]

    def put(self, module: Module, name: str, value: Any) -> None:
        """Set the numbers of a variable of a layer."""
        self.state = {**self.state, f"{self.paths[id(module)]}.{name}": value}


@singledispatch
def forward(module: Any, x: Any, run: Run) -> Any:
    """Apply a layer; each kind registers its own."""
    raise TypeError(f"there is no twin in JAX of {type(module).__name__}")


def pair(value: Any) -> tuple[int, int]:
    """Give the sizes along both sides."""
    return (value, value) if isinstance(value, int) else tuple(value)


@forward.register
def _(module: Conv2d, x: Any, run: Run) -> Any:
    y = lax.conv_general_dilated(
        x, run.get(module, "weight"), pair(module.stride),
        [(side, side) for side in pair(module.padding)], rhs_dilation=pair(module.dilation),
        dimension_numbers=LAYOUT, feature_group_count=module.groups,
    )  # fmt: skip
    return y if module.bias is None else y + run.get(module, "bias")


@forward.register
def _(module: Dense, x: Any, run: Run) -> Any:
    y = x @ run.get(module, "weight")
    return y if module.bias is None else y + run.get(module, "bias")


@forward.register
def _(module: BatchNorm, x: Any, run: Run) -> Any:
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean, var = (run.get(module, name) for name in ("mean", "var"))
    if run.train:
        keep, count = 1 - module.momentum, wide.size // wide.shape[-1]
        batch_mean, batch_var = wide.mean((0, 1, 2)), wide.var((0, 1, 2))
        unbiased = batch_var * (count / max(count - 1, 1))
        run.put(module, "mean", keep * mean + module.momentum * lax.stop_gradient(batch_mean))
        run.put(module, "var", keep * var + module.momentum * lax.stop_gradient(unbiased))
        mean, var = batch_mean, batch_var
    scale = run.get(module, "scale") * lax.rsqrt(var + module.epsilon)
    return ((wide - mean) * scale + run.get(module, "shift")).astype(x.dtype)


@forward.register
def _(module: LayerNorm, x: Any, run: Run) -> Any:
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    centred = wide - wide.mean(-1, keepdims=True)
    normal = centred * lax.rsqrt((centred**2).mean(-1, keepdims=True) + module.epsilon)
    return (normal * run.get(module, "scale") + run.get(module, "shift")).astype(x.dtype)


@forward.register
def _(module: LocalResponseNorm, x: Any, run: Run) -> Any:
    options: dict[str, Any] = module.options
    size, alpha = options["size"], options["alpha"]
    alpha = alpha / size if options["form"] == "caffe" else alpha
    pads = [(0, 0)] * 3 + [(size // 2, size - 1 - size // 2)]
    zero = np.zeros((), x.dtype)
    total = lax.reduce_window(x * x, zero, lax.add, (1, 1, 1, size), (1, 1, 1, 1), pads)
    return x * (options["k"] + alpha * total) ** -options["beta"]


@forward.register
def _(module: MaxPool2d, x: Any, run: Run) -> Any:
    if module.ceil_mode or not isinstance(module.kernel, int):
        raise TypeError("square windows that end inside the image are all that JAX's twin has")
    stride, side = module.stride or module.kernel, module.padding
    pads = [(0, 0), (side, side), (side, side), (0, 0)]
    window, step = (1, module.kernel, module.kernel, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, np.asarray(-np.inf, x.dtype), lax.max, window, step, pads)


@forward.register
def _(module: GlobalAvgPool2d, x: Any, run: Run) -> Any:
    return x.mean((1, 2))


@forward.register
def _(module: Activation, x: Any, run: Run) -> Any:
    exact = {"approximate": False} if module.name == "gelu" else {}
    function = jnp.tanh if module.name == "tanh" else getattr(jax.nn, module.name)
    return function(x, **exact)


@forward.register
def _(module: Flatten, x: Any, run: Run) -> Any:
    return (x.transpose(0, 3, 1, 2) if x.ndim == 4 else x).reshape(x.shape[0], -1)


@forward.register
def _(module: Dropout, x: Any, run: Run) -> Any:
    if run.key is None:
        return x
    run.drawn += 1
    kept = jax.random.bernoulli(jax.random.fold_in(run.key, run.drawn), 1 - module.rate, x.shape)
    return jnp.where(kept, x / (1 - module.rate), 0).astype(x.dtype)


@forward.register
def _(module: Sequential, x: Any, run: Run) -> Any:
    for layer in module.layers:
        x = forward(layer, x, run)
    return x


@forward.register
def _(module: Residual, x: Any, run: Run) -> Any:
    across = x if module.shortcut is None else forward(module.shortcut, x, run)
    return jax.nn.relu(forward(module.branch, x, run) + across)


@forward.register
def _(module: ResNet, x: Any, run: Run) -> Any:
    for part in (module.stem, *module.stages, module.head):
        x = forward(part, x, run)
    return x


@forward.register
def _(module: AlexNet, x: Any, run: Run) -> Any:
    return forward(module.classifier, forward(module.features, x, run), run)


def lacking(net: Module) -> list[str]:
    """Name the kinds of layers of a network that have no twin here."""
    nothing = forward.dispatch(object)
    kinds = {type(module) for _, module in net.named_modules()}
    return sorted(kind.__name__ for kind in kinds if forward.dispatch(kind) is nothing)


def turned(array: Any, *, back: bool = False) -> Any:
    """Turn a convolution's weights (out, in, h, w) to (h, w, in, out), or back."""
    if array.ndim != 4:
        return array
    return array.transpose((3, 2, 0, 1) if back else (2, 3, 1, 0))


class Net:
    """A network in JAX on the problem's batch; `narrow` rounds to the precision's type."""

    def __init__(self, problem: Problem, precision: str) -> None:
        self.problem = problem
        if problem.device != "cpu":
            jax.config.update("jax_default_matmul_precision", PRODUCTS[precision])
        self.paths = {id(module): path for path, module in problem.net.named_modules()}
        self.kind = jnp.bfloat16 if precision == "bf16" else jnp.float32
        trained = dict(problem.net.named_parameters())
        every = {name: turned(array) for name, array in problem.state.items()}
        self.weights = {name: array for name, array in every.items() if name in trained}
        self.buffers = {name: array for name, array in every.items() if name not in trained}
        images = (
            problem.images.transpose(0, 2, 3, 1) if problem.images.ndim == 4 else problem.images
        )
        self.images = jnp.asarray(np.ascontiguousarray(images), self.kind)
        self.labels = jnp.asarray(problem.labels)

    def logits(
        self, weights: Arrays, buffers: Arrays, images: Any, train: bool, key: Any = None
    ) -> tuple[Any, Arrays]:
        """Give logits, and the buffers as they are after it."""
        rounded = jax.tree.map(lambda array: array.astype(self.kind), weights)
        run = Run(self.paths, {**rounded, **buffers}, train, key)
        found = forward(self.problem.net, images, run)
        return found.astype(jnp.float32), {name: run.state[name] for name in buffers}

    def loss(
        self, weights: Arrays, buffers: Arrays, batch: tuple[Any, Any], key: Any
    ) -> tuple[Any, Arrays]:
        """Give the mean cross-entropy, and the buffers as they are after it."""
        images, labels = batch
        logits, after = self.logits(weights, buffers, images, True, key)
        chances = jax.nn.log_softmax(logits)
        return -jnp.take_along_axis(chances, labels[..., None], -1).mean(), after


def training(problem: Problem, precision: str) -> Contestant:
    """Make the contestant that trains; for what is checked see `ours.training`."""
    net, momentum, rates = Net(problem, precision), problem.optimizer.momentum, problem.rates
    drops = any(isinstance(module, Dropout) for _, module in problem.net.named_modules())
    random = jax.random.key(0, impl="rbg")

    def step(weights: Arrays, moving: Arrays, buffers: Arrays, count: Any, batch: Any) -> Any:
        key = jax.random.fold_in(random, count) if drops and count is not None else None
        gradients = jax.value_and_grad(net.loss, has_aux=True)
        (loss, after), found = gradients(weights, buffers, batch, key)
        new_weights, new_moving = {}, {}
        for name, (lr, decay) in rates.items():
            new_moving[name] = momentum * moving[name] + (found[name] + decay * weights[name])
            new_weights[name] = weights[name] - lr * new_moving[name]
        return loss, new_weights, new_moving, after, None if count is None else count + 1

    def begin() -> list[Any]:
        moving = {name: np.zeros_like(array) for name, array in net.weights.items()}
        parts = [jax.tree.map(jnp.array, part) for part in (net.weights, moving, net.buffers)]
        return [*parts, jnp.uint32(0)]

    fast: Callable[..., Any] = jax.jit(step, donate_argnums=(0, 1, 2))
    now, batch = begin(), (net.images, net.labels)
    wait: Callable[[], Any] = lambda: jax.block_until_ready(now)

    def run() -> Any:
        loss, *now[:] = fast(*now, batch)
        if problem.device == "cpu":
            wait()
        return loss

    def check() -> dict[str, Any]:
        *first, count = begin()
        loss, _, moving, _, _ = fast(*first, None if drops else count, batch)
        found = {name: turned(np.asarray(moving[name], np.float64), back=True) for name in rates}
        return {"loss": np.asarray(float(loss)), **found}

    return Contestant("jax", run, check=check, wait=wait)


def inference(problem: Problem, precision: str) -> Contestant:
    """Make the contestant that computes logits."""
    net = Net(problem, precision)
    weights = jax.tree.map(lambda array: jnp.asarray(array, net.kind), net.weights)
    buffers = jax.tree.map(jnp.asarray, net.buffers)
    fast = jax.jit(lambda weights, buffers, x: net.logits(weights, buffers, x, False)[0])
    last: list[Any] = []

    def run() -> Any:
        last[:] = [fast(weights, buffers, net.images)]
        return last[0] if problem.device != "cpu" else jax.block_until_ready(last[0])

    return Contestant("jax", run, wait=lambda: jax.block_until_ready(last))
