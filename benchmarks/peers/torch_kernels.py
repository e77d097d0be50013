"""Single operations in PyTorch: eager, into memory that is kept, and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from harness import Contestant

from peers import load

torch = load("torch")
F: Any = torch.nn.functional

Array = np.ndarray[Any, Any]


def gelu(x: Any, w: Any, b: Any, r: Any) -> Any:
    """gelu(x w + b) + r."""
    return F.gelu(x * w + b) + r


def gelu_in_place(x: Any, w: Any, b: Any, r: Any) -> Any:
    """gelu(x w + b) + r, with as few new arrays as eager PyTorch can."""
    return F.gelu(torch.addcmul(b, x, w)).add_(r)


def softmax(x: Any) -> Any:
    """Softmax of rows."""
    return F.softmax(x, -1)


def layer_norm(x: Any, scale: Any, shift: Any) -> Any:
    """Layer norm of rows."""
    return F.layer_norm(x, x.shape[-1:], scale, shift, 1e-5)


EAGER: dict[str, tuple[Callable[..., Any], ...]] = {
    "gelu": (gelu, gelu_in_place),
    "softmax": (softmax,),
    "layer_norm": (layer_norm,),
}


def exact(name: str, arrays: list[Array]) -> Array:
    """Compute an operation in float64: the reference of its errors."""
    found: Array = EAGER[name][0](*(torch.tensor(array).double() for array in arrays)).numpy()
    return found


def _contestant(name: str, function: Callable[..., Any], tensors: list[Any]) -> Contestant:
    def run() -> Any:
        with torch.no_grad():
            return function(*tensors)

    return Contestant(f"torch {name}", run, check=lambda: run().numpy())


def kernels(name: str, arrays: list[Array]) -> list[Contestant]:
    """Make PyTorch's contestants for an operation."""
    tensors = [torch.tensor(array) for array in arrays]
    found = [
        _contestant(f"eager {function.__name__}", function, tensors) for function in EAGER[name]
    ]
    fast = torch.compile(EAGER[name][0], dynamic=False)
    found.append(_contestant("compile", fast, tensors))
    if name == "softmax":
        out = torch.empty_like(tensors[0])
        into: Callable[..., Any] = lambda x: torch.softmax(x, -1, out=out)
        found.append(_contestant("eager out=", into, tensors))
    return found


def sgd(
    weight: Array, gradient: Array, lr: float, momentum: float, decay: float
) -> list[Contestant]:
    """Make PyTorch's contestants for an update: its fused, its foreach and a compiled one."""

    def make(name: str, step: Callable[[Any, Any], None], parameter: Any) -> Contestant:
        velocity = torch.zeros_like(parameter)

        def check() -> Array:
            step(parameter, velocity)
            found: Array = parameter.detach().numpy().copy()
            return found

        return Contestant(f"torch {name}", lambda: step(parameter, velocity), check=check)

    def library(name: str) -> Contestant:
        parameter = torch.nn.Parameter(torch.tensor(weight))
        parameter.grad = torch.from_numpy(gradient)
        optimizer = torch.optim.SGD(
            [parameter], lr, momentum=momentum, weight_decay=decay, **{name: True}
        )
        return make(f"SGD {name}", lambda p, v: optimizer.step(), parameter)

    def update(parameter: Any, velocity: Any, g: Any) -> None:
        velocity.mul_(momentum).add_(g + decay * parameter)
        parameter.sub_(velocity * lr)

    fast = torch.compile(update, dynamic=False)
    g = torch.from_numpy(gradient)
    return [
        library("fused"),
        library("foreach"),
        make("compile", lambda p, v: fast(p, v, g), torch.tensor(weight)),
    ]
