"""PyTorch's modules, made from symgraph's, with the same weights.

Layers become those that a user of PyTorch would write.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

import numpy as np

from models.alexnet import AlexNet
from models.resnet import Residual, ResNet
from peers import load
from symgraph.graph.leaves import Shared
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
    Sequential,
)

torch = load("torch")
nn: Any = torch.nn
F: Any = torch.nn.functional

ACTIVATIONS = {"gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


@dataclass
class Book:
    """Which tensor of PyTorch holds which shared variable, and whether it is turned."""

    entries: dict[Shared, tuple[Any, bool]] = field(default_factory=dict)

    def keep(self, variable: Shared, tensor: Any, *, turned: bool = False) -> None:
        """Fill a tensor with the numbers of a variable, and remember it."""
        value = variable.value.T if turned else variable.value
        with torch.no_grad():
            tensor.copy_(torch.tensor(np.ascontiguousarray(value)))
        self.entries[variable] = tensor, turned


@singledispatch
def twin(module: Any, book: Book) -> Any:
    """Make PyTorch's module with the weights of one of symgraph's; a layer registers its own."""
    raise TypeError(f"there is no twin in PyTorch of {type(module).__name__}")


@twin.register
def _(module: Conv2d, book: Book) -> Any:
    outputs, inputs, *window = map(int, module.weight.shape)
    made = nn.Conv2d(
        inputs * module.groups, outputs, window, module.stride, module.padding, module.dilation,
        module.groups, bias=module.bias is not None,
    )  # fmt: skip
    book.keep(module.weight, made.weight)
    if module.bias is not None:
        book.keep(module.bias, made.bias)
    return made


@twin.register
def _(module: Dense, book: Book) -> Any:
    inputs, outputs = map(int, module.weight.shape)
    made = nn.Linear(inputs, outputs, bias=module.bias is not None)
    book.keep(module.weight, made.weight, turned=True)
    if module.bias is not None:
        book.keep(module.bias, made.bias)
    return made


@twin.register
def _(module: BatchNorm, book: Book) -> Any:
    made = nn.BatchNorm2d(int(module.scale.shape[0]), module.epsilon, module.momentum)
    book.keep(module.scale, made.weight)
    book.keep(module.shift, made.bias)
    book.keep(module.mean, made.running_mean)
    book.keep(module.var, made.running_var)
    return made


@twin.register
def _(module: LayerNorm, book: Book) -> Any:
    made = nn.LayerNorm(int(module.scale.shape[0]), module.epsilon)
    book.keep(module.scale, made.weight)
    book.keep(module.shift, made.bias)
    return made


@twin.register
def _(module: LocalResponseNorm, book: Book) -> Any:
    options: dict[str, Any] = module.options
    size, alpha = options["size"], options["alpha"]
    if options["form"] != "caffe":  # PyTorch divides alpha by the size, as Caffe does
        alpha = alpha * size
    return nn.LocalResponseNorm(size, alpha, options["beta"], options["k"])


@twin.register
def _(module: MaxPool2d, book: Book) -> Any:
    return nn.MaxPool2d(module.kernel, module.stride, module.padding, ceil_mode=module.ceil_mode)


@twin.register
def _(module: GlobalAvgPool2d, book: Book) -> Any:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


@twin.register
def _(module: Activation, book: Book) -> Any:
    return nn.ReLU() if module.name == "relu" else ACTIVATIONS[module.name]()


@twin.register
def _(module: Flatten, book: Book) -> Any:
    return nn.Flatten(module.start)


@twin.register
def _(module: Dropout, book: Book) -> Any:
    if not module.inverted:
        raise TypeError("PyTorch's dropout is the inverted one: see ours.invert_dropout")
    return nn.Dropout(module.rate)


@twin.register
def _(module: Sequential, book: Book) -> Any:
    made: list[Any] = []
    for before, layer in zip([None, *module.layers], module.layers, strict=False):
        one = twin(layer, book)
        if isinstance(one, nn.ReLU) and isinstance(before, Conv2d | Dense | BatchNorm):
            one = nn.ReLU(inplace=True)  # what comes before does not need its result again
        made.append(one)
    return nn.Sequential(*made)


class TorchResidual(nn.Module):  # type: ignore[misc]
    """relu(branch(x) + shortcut(x))."""

    def __init__(self, branch: Any, shortcut: Any) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, x: Any) -> Any:
        """x: (B, C, H, W)."""
        across = x if self.shortcut is None else self.shortcut(x)
        return F.relu_(self.branch(x).add_(across))


@twin.register
def _(module: Residual, book: Book) -> Any:
    shortcut = None if module.shortcut is None else twin(module.shortcut, book)
    return TorchResidual(twin(module.branch, book), shortcut)


@twin.register
def _(module: ResNet, book: Book) -> Any:
    parts = [module.stem, *module.stages, module.head]
    return nn.Sequential(*(twin(part, book) for part in parts))


@twin.register
def _(module: AlexNet, book: Book) -> Any:
    return nn.Sequential(twin(module.features, book), twin(module.classifier, book))
