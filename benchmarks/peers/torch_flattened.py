"""Flattened and dense convolutional layers in PyTorch, with the weights of symgraph's modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from harness import Contestant

from peers import load

torch = load("torch")
F: Any = torch.nn.functional

Array = np.ndarray[Any, Any]
State = Mapping[str, Any]


def layers(state: State, x: Any) -> Any:
    """Apply all layers: convolutions that keep the size, each layer followed by relu.

    The names say what they are: `0.lateral.1.weight` is of layer 0, `2.weight` of a dense layer.
    """
    for layer in dict.fromkeys(name.split(".")[0] for name in state):
        if f"{layer}.weight" in state:
            x = _conv(x, state, layer)
        for stage in range(sum(name.startswith(f"{layer}.lateral.") for name in state) // 2):
            for part in ("lateral", "vertical", "horizontal"):
                x = _conv(x, state, f"{layer}.{part}.{stage}")
        x = F.relu(x)
    return x


def _conv(x: Any, state: State, name: str) -> Any:
    weight = state[f"{name}.weight"]
    groups = x.shape[1] // weight.shape[1]
    padding = tuple(size // 2 for size in weight.shape[2:])
    return F.conv2d(x, weight, state[f"{name}.bias"], padding=padding, groups=groups)


def _tensors(state: Mapping[str, Array], dtype: Any, last: bool) -> dict[str, Any]:
    form = torch.channels_last if last else torch.contiguous_format
    found = {}
    for name, array in state.items():
        one = torch.tensor(array, dtype=dtype)
        one = one.contiguous(memory_format=form) if one.ndim == 4 else one
        found[name] = one.requires_grad_()
    return found


def _work(state: dict[str, Any], x: Any, g: Any, mode: str, apply: Any) -> Callable[[], Any]:
    """Give what computes the result, or the gradients of the images and of all parameters."""

    def forward() -> Any:
        with torch.no_grad():
            return apply(state, x)

    def train() -> dict[str, Any]:
        y = apply(state, x)
        slopes = torch.autograd.grad(y, [x, *state.values()], g.to(y.dtype))
        return dict(zip(["x", *state], slopes))

    return forward if mode == "forward" else train


def _arrays(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: one.detach().double().numpy() for name, one in found.items()}
    return found.detach().double().numpy()


def exact(state: Mapping[str, Array], images: Array, cotangent: Array, mode: str) -> Any:
    """Compute in float64: the reference of errors."""
    tensors = _tensors(state, torch.float64, False)
    x = torch.tensor(images, dtype=torch.float64).requires_grad_()
    g = torch.tensor(cotangent, dtype=torch.float64)
    return _arrays(_work(tensors, x, g, mode, layers)())


def contestants(
    state: Mapping[str, Array], images: Array, cotangent: Array, mode: str, precision: str
) -> list[Contestant]:
    """Make PyTorch's contestants: eager in both layouts, and compiled with channels innermost."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    found = []
    for name, last, apply in (
        ("eager", False, layers),
        ("eager channels_last", True, layers),
        ("compile channels_last", True, torch.compile(layers, dynamic=False)),
    ):
        form = torch.channels_last if last else torch.contiguous_format
        x = torch.tensor(images, dtype=dtype).contiguous(memory_format=form).requires_grad_()
        g = torch.tensor(cotangent, dtype=dtype).contiguous(memory_format=form)
        run = _work(_tensors(state, dtype, last), x, g, mode, apply)
        found.append(Contestant(f"torch {name}", run, check=lambda run=run: _arrays(run())))
    return found
