"""Single operations in PyTorch: eager, into memory that is kept, and compiled.

Images are (batch, channels, height, width) and lie so, or with the channels innermost. A backward
part is given what comes in from behind; eagerly it goes back through a graph that is kept.
"""

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


def turned(x: Any, y: Any) -> Any:
    """The transpose of x, plus y."""
    return x.T + y


def turned_first(x: Any, y: Any) -> Any:
    """The same, with the transpose copied before."""
    return x.T.contiguous().add_(y)


def add(x: Any, y: Any) -> Any:
    """x + y."""
    return x + y


def bias_relu(x: Any, b: Any) -> Any:
    """relu(x + b)."""
    return F.relu(x + b)


def bias_relu_in_place(x: Any, b: Any) -> Any:
    """relu(x + b), with one new array."""
    return (x + b).relu_()


def row_sum(x: Any) -> Any:
    """Sums of rows."""
    return x.sum(1)


def column_sum(x: Any) -> Any:
    """Sums of columns."""
    return x.sum(0)


def full_sum(x: Any) -> Any:
    """The sum of everything."""
    return x.sum()


def max_pool(x: Any) -> Any:
    """The largest of 3 x 3, at every second place."""
    return F.max_pool2d(x, 3, 2)


def lrn(x: Any) -> Any:
    """AlexNet's normalisation across channels; PyTorch divides alpha by the size."""
    return F.local_response_norm(x, 5, 5 * 1e-4, 0.75, 2.0)


def max_pool_back(x: Any, g: Any) -> Any:
    """The gradient of `max_pool`."""
    return torch.func.vjp(max_pool, x)[1](g)[0]


def lrn_back(x: Any, g: Any) -> Any:
    """The gradient of `lrn`."""
    return torch.func.vjp(lrn, x)[1](g)[0]


EAGER: dict[str, tuple[Callable[..., Any], ...]] = {
    "gelu": (gelu, gelu_in_place),
    "softmax": (softmax,),
    "layer_norm": (layer_norm,),
    "turned": (turned, turned_first),
    "add": (add,),
    "bias_relu": (bias_relu, bias_relu_in_place),
    "row_sum": (row_sum,),
    "column_sum": (column_sum,),
    "full_sum": (full_sum,),
    "max_pool": (max_pool,),
    "lrn": (lrn,),
    "max_pool_back": (max_pool_back,),
    "lrn_back": (lrn_back,),
}
INTO: dict[str, Callable[..., Any]] = {
    "softmax": lambda x, out: torch.softmax(x, -1, out=out),
    "turned": lambda x, y, out: torch.add(x.T, y, out=out),
}
OF_IMAGES = ("max_pool", "lrn", "max_pool_back", "lrn_back")
FORWARD: dict[str, Callable[..., Any]] = {"max_pool_back": max_pool, "lrn_back": lrn}


def exact(name: str, arrays: list[Array], device: str = "cpu") -> Array:
    """Compute an operation in float64: the reference of its errors."""
    tensors = [torch.tensor(array, dtype=torch.float64, device=device) for array in arrays]
    found: Array = EAGER[name][0](*tensors).cpu().numpy()
    return found


def _waiting(device: str) -> Callable[[], Any]:
    wait: Callable[[], Any] = (lambda: None) if device == "cpu" else torch.cuda.synchronize
    return wait


def _contestant(name: str, function: Callable[..., Any], tensors: list[Any]) -> Contestant:
    def run() -> Any:
        with torch.no_grad():
            return function(*tensors)

    wait = _waiting(tensors[0].device.type)
    return Contestant(f"torch {name}", run, check=lambda: run().cpu().numpy(), wait=wait)


def _kept_graph(forward: Callable[..., Any], x: Any) -> Callable[..., Any]:
    """Make the backward part of an operation on x as loss.backward() has it."""
    leaf = x.clone().requires_grad_()
    y = forward(leaf)

    def back(x: Any, g: Any) -> Any:
        return torch.autograd.grad(y, leaf, g, retain_graph=True)[0]

    return back


def kernels(name: str, arrays: list[Array], device: str = "cpu") -> list[Contestant]:
    """Make PyTorch's contestants for an operation."""
    tensors = [torch.tensor(array, device=device) for array in arrays]
    layouts = {"": tensors}
    if name in OF_IMAGES:
        last = [tensor.to(memory_format=torch.channels_last) for tensor in tensors]
        layouts[" channels_last"] = last
    found = []
    for layout, tensors in layouts.items():
        for function in EAGER[name]:
            eager = _kept_graph(FORWARD[name], tensors[0]) if name in FORWARD else function
            found.append(_contestant(f"eager {function.__name__}{layout}", eager, tensors))
        fast = torch.compile(EAGER[name][0], dynamic=False)
        found.append(_contestant(f"compile{layout}", fast, tensors))
    if name in INTO:
        out = torch.empty_like(tensors[-1])
        into: Callable[..., Any] = lambda *given: INTO[name](*given, out)
        found.append(_contestant("eager out=", into, tensors))
    return found


def sgd(
    weight: Array,
    gradient: Array,
    lr: float,
    momentum: float,
    decay: float,
    device: str = "cpu",
) -> list[Contestant]:
    """Make PyTorch's contestants for an update: its fused, its foreach and a compiled one."""

    def make(name: str, step: Callable[[Any, Any], None], parameter: Any) -> Contestant:
        velocity = torch.zeros_like(parameter)

        def check() -> Array:
            step(parameter, velocity)
            found: Array = parameter.detach().cpu().numpy().copy()
            return found

        run: Callable[[], Any] = lambda: step(parameter, velocity)
        return Contestant(f"torch {name}", run, check=check, wait=_waiting(device))

    def library(name: str) -> Contestant:
        parameter = torch.nn.Parameter(torch.tensor(weight, device=device))
        parameter.grad = g
        optimizer = torch.optim.SGD(
            [parameter], lr, momentum=momentum, weight_decay=decay, **{name: True}
        )
        return make(f"SGD {name}", lambda p, v: optimizer.step(), parameter)

    def update(parameter: Any, velocity: Any, g: Any) -> None:
        velocity.mul_(momentum).add_(g + decay * parameter)
        parameter.sub_(velocity * lr)

    fast = torch.compile(update, dynamic=False)
    g = torch.from_numpy(gradient).to(device)
    return [
        library("fused"),
        library("foreach"),
        make("compile", lambda p, v: fast(p, v, g), torch.tensor(weight, device=device)),
    ]
