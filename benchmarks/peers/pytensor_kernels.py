"""Single operations in PyTensor, in each of its modes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from harness import Contestant

from peers import load

pytensor = load("pytensor")
pt: Any = load("pytensor.tensor")

MODES = ("NUMBA", "CVM")
Array = np.ndarray[Any, Any]
HALF, ROOT = np.float32(0.5), np.float32(math.sqrt(0.5))


def gelu(x: Any, w: Any, b: Any, r: Any) -> Any:
    """gelu(x w + b) + r."""
    z = x * w + b
    return HALF * z * (np.float32(1) + pt.erf(z * ROOT)) + r


def softmax(x: Any) -> Any:
    """Softmax of rows."""
    return pt.special.softmax(x, axis=-1)


def layer_norm(x: Any, scale: Any, shift: Any) -> Any:
    """Layer norm of rows."""
    centred = x - x.mean(-1, keepdims=True)
    var = pt.sqr(centred).mean(-1, keepdims=True)
    return centred / pt.sqrt(var + np.float32(1e-5)) * scale + shift


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "gelu": gelu,
    "softmax": softmax,
    "layer_norm": layer_norm,
    "turned": lambda x, y: x.T + y,
}


def kernels(name: str, arrays: list[Array]) -> list[Contestant]:
    """Make PyTensor's contestants for an operation."""
    found = []
    for mode in MODES:
        symbols = [pt.TensorType("float32", (None,) * array.ndim)() for array in arrays]
        function = pytensor.function(symbols, FUNCTIONS[name](*symbols), mode=mode)
        function.trust_input = True

        def run(function: Any = function) -> Any:
            return function(*arrays)

        found.append(Contestant(f"pytensor {mode}", run))
    return found


def sgd(
    weight: Array, gradient: Array, lr: float, momentum: float, decay: float
) -> list[Contestant]:
    """Make PyTensor's contestants for an update of shared variables."""
    found = []
    for mode in MODES:
        w, v = pytensor.shared(weight.copy()), pytensor.shared(np.zeros_like(weight))
        g = pt.fvector("g")
        velocity = np.float32(momentum) * v + (g + np.float32(decay) * w)
        updates = [(v, velocity), (w, w - np.float32(lr) * velocity)]
        function = pytensor.function([g], [], updates=updates, mode=mode)
        function.trust_input = True

        def run(function: Any = function) -> None:
            function(gradient)

        def check(run: Any = run, w: Any = w) -> Array:
            run()
            found: Array = w.get_value()
            return found

        found.append(Contestant(f"pytensor {mode}", run, check=check))
    return found
