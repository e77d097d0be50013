"""Flattened convolutions: dense filters exchanged for chains of convolutions along one axis.

Jin, Dundar, Culurciello: "Flattened Convolutional Neural Networks for Feedforward Acceleration",
2014 (arXiv 1412.5474). The layer is `nn.FlattenedConv`; here it takes the place of what is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, TypeVar

import numpy as np

from symgraph.compression.exchange import (
    are_numbers,
    change,
    exchange,
    is_less,
    layer_names,
    names_of,
    numbers_of,
    require_known,
    require_module,
    variables,
)
from symgraph.compression.rankone import rank_one
from symgraph.config import config
from symgraph.cost import cost
from symgraph.dims import Size
from symgraph.errors import ArgumentError, ArgumentTypeError
from symgraph.frozen import frozen
from symgraph.graph.arguments import plain_int
from symgraph.graph.graph import Graph
from symgraph.graph.leaves import Shared, tensor
from symgraph.graph.node import Value, make
from symgraph.graph.origin import inherit
from symgraph.nn import Conv2d, FlattenedConv, Module, init
from symgraph.ops.conv import Conv

VALUES = ("draw", "fit")

Key = TypeVar("Key")


@frozen(eq=False)
class FlattenedLayer:
    """A convolution that was looked at: what stands in its place, or None where it stayed.

    `before` and `after` are the FLOPs of one pass forward, formulas in the sizes; `error` is how
    far fitted products are from the filters, as a part of their length.
    """

    name: str
    flat: FlattenedConv | None
    before: Size
    after: Size
    parameters: tuple[int, int]
    error: float | None = None

    def __str__(self) -> str:
        if self.flat is None:
            return f"{self.name}: left alone, {self.before} FLOPs, flattened {self.after}"
        return f"{self.name}: {change(self.before, self.after, self.parameters, self.error)}"


@frozen(eq=False)
class Flattening:
    """What `flatten` or `flatten_layers` did to each convolution, in order."""

    layers: tuple[FlattenedLayer, ...] = field(repr=False)

    @property
    def parameters(self) -> list[Shared]:
        """The new shared variables, all to be trained."""
        return variables(one.flat for one in self.layers)

    def __str__(self) -> str:
        return "\n".join(map(str, self.layers))


def flatten(
    graph: Graph,
    *,
    layers: Iterable[str] | None = None,
    stages: int = 2,
    values: str = "draw",
) -> tuple[Graph, Flattening]:
    """Give a graph with flattened convolutions in the place of those by variables or constants.

    Differentiate the new graph, not the old one. `layers` are names of modules that made the
    convolutions, as `AlexNet/features.0`, or of filters. Unless given, what costs fewer FLOPs
    afterwards is exchanged, by `sg.cost`; where that depends on sizes without a number, they are
    taken as 256. All new convolutions have a bias but the last of a layer: what added one to its
    result does so still. With `values="draw"` all weights are drawn, as published: the network is
    to be trained. With "fit" each filter becomes a product of vectors near to it (`rank_one`), in
    one stage, while the others hand on what they get: to go on from trained weights.

    Raises `ArgumentError` for layers that are not there, stages below 1 and other `values`.

    >>> import symgraph as sg
    >>> x = sg.tensor("x", (sg.dim("B"), 64, 32, 32))
    >>> graph = sg.Graph([x], [sg.nn.Conv2d(64, 64, 5, padding=2)(x)])
    >>> print(sg.compression.flatten(graph)[1])
    Conv2d: 209715200*B -> 19726336*B FLOPs, 102,400 -> 9,792 parameters
    """
    if not isinstance(graph, Graph):
        raise ArgumentTypeError(
            f"flatten: takes a graph, got {type(graph).__name__}.",
            fix="flatten(sg.Graph([x], [y])); for a module, flatten_layers(net)",
        )
    plan = _Plan("flatten", layers, stages, values)
    found = {one: names_of(one) for one in graph.values if _is_dense(one)}
    wanted = plan.wanted(found)
    made: dict[tuple[Value, Any], FlattenedConv] = {}  # one for all that share their filters
    replace: dict[Value, Value] = {}
    report: list[FlattenedLayer] = []
    for one, names in found.items():
        x, filters = one.inputs
        if (filters, one.op) not in made:
            made[filters, one.op] = plan.layer(filters, one.op, None)
        flat = made[filters, one.op]
        given = tensor("x", x.shape, x.dtype)
        dense = make(one.op, given, filters)
        layer = plan.decided(names[0], wanted[one], filters, dense, flat(given), flat)
        report.append(layer)
        if layer.flat is not None:
            with inherit(one.origins):
                replace[one] = flat(x)
    return graph.rewrite(replace, "flatten"), Flattening(tuple(report))


def flatten_layers(
    net: Module,
    *,
    layers: Iterable[str] | None = None,
    stages: int = 2,
    values: str = "draw",
) -> Flattening:
    """Exchange `Conv2d` layers of a network, in place, for `FlattenedConv`.

    As `flatten` does in a graph; `layers` are names of `net.named_modules()`, and a layer's bias
    becomes that of the last convolution in its place. Graphs built before keep the old layers.

    >>> import symgraph as sg
    >>> net = sg.nn.Sequential(sg.nn.Conv2d(3, 96, 5), sg.nn.Conv2d(96, 128, 5))
    >>> print([layer.flat is not None for layer in sg.compression.flatten_layers(net).layers])
    [False, True]
    """
    require_module("flatten_layers", net, "flatten(sg.Graph([x], [y]))")
    plan = _Plan("flatten_layers", layers, stages, values)
    modules = net.named_modules()
    flats = [one for _, one in modules if isinstance(one, FlattenedConv)]
    inner = {id(one) for flat in flats for _, one in flat.named_modules()}
    found = {one: (name,) for name, one in modules if type(one) is Conv2d and id(one) not in inner}
    wanted = plan.wanted(found)
    those: dict[Module, Module] = {}
    report: list[FlattenedLayer] = []
    for conv, (name,) in found.items():
        flat = plan.layer(conv.weight, conv, conv.bias)
        x = tensor("x", conv.input_shape(), conv.weight.dtype)
        report.append(plan.decided(name, wanted[conv], conv.weight, conv(x), flat(x), flat))
        if report[-1].flat is not None:
            those[conv] = flat
    exchange(net, those)
    return Flattening(tuple(report))


# -- which, and how --------------------------------------------------------------------------------


class _Plan:
    """What was asked for, checked, and what it makes of each layer."""

    def __init__(self, caller: str, layers: Iterable[str] | None, stages: Any, values: Any) -> None:
        self.caller, self.stages = caller, plain_int(caller, "stages", stages)
        if self.stages < 1:
            raise ArgumentError(
                f"{caller}: stages must be >= 1, got {stages}.", fix="stages=2, as published"
            )
        if values not in VALUES:
            raise ArgumentError(
                f"{caller}: values must be one of {', '.join(VALUES)}, got {values!r:.60}.",
                fix='values="draw" to train anew, values="fit" to go on from the filters',
            )
        self.fit = values == "fit"
        self.layers = layer_names(caller, layers)

    def wanted(self, found: Mapping[Key, Sequence[str]]) -> dict[Key, bool | None]:
        """Tell for each convolution whether it was asked for; None where the cost decides."""
        if self.layers is None:
            return dict.fromkeys(found)
        known = [name for names in found.values() for name in names]
        require_known(self.caller, self.layers, known, "flatten")
        return {key: any(name in self.layers for name in names) for key, names in found.items()}

    def layer(self, filters: Value, like: Any, bias: Shared | None) -> FlattenedConv:
        """Make what can stand in the place of a convolution of these filters and attributes."""
        outputs, own, *kernel = (int(size) for size in filters.shape)  # a leaf's are numbers
        with config(float_dtype=filters.dtype):
            made = FlattenedConv(
                own * like.groups, outputs, (kernel[0], kernel[1]), stages=self.stages,
                stride=like.stride, padding=like.padding, dilation=like.dilation,
                groups=like.groups, bias=None if bias is None else init.ZEROS,
            )  # fmt: skip
        last = made.horizontal[-1].bias
        if bias is not None and last is not None:
            last.value = bias.value
        return made

    def decided(
        self,
        name: str,
        wanted: bool | None,
        filters: Value,
        old: Value,
        new: Value,
        flat: FlattenedConv,
    ) -> FlattenedLayer:
        """Say what becomes of a layer, and fit its weights where they are to be fitted."""
        whole = cost(old)
        before, after, counts = whole.flops, cost(new).flops, (whole.parameters, flat.count())
        if not (is_less(after, before) if wanted is None else wanted):
            return FlattenedLayer(name, None, before, after, counts)
        error = fit(flat, numbers_of(filters)) if self.fit else None
        return FlattenedLayer(name, flat, before, after, counts, error)


def _is_dense(one: Value) -> bool:
    """Tell whether a value is a two-dimensional convolution by filters that are numbers."""
    if type(one.op) is not Conv or len(one.op.stride) != 2:
        return False
    return are_numbers(one.inputs[1])


def fit(flat: FlattenedConv, filters: np.ndarray[Any, Any]) -> float:
    """Give the weights of a layer values near to dense filters; return how far they are off.

    The first lateral convolution, and the last vertical and horizontal one, are the vectors of
    each filter's product; the others hand on what they get. Inner biases are 0.
    """
    near = rank_one(filters)
    outputs, rest = len(filters), len(flat.stages) - 1
    own = outputs // flat.groups
    for stage, (lateral, vertical, horizontal) in enumerate(flat.stages):
        same = np.zeros((outputs, own))
        same[np.arange(outputs), np.arange(outputs) % own] = 1
        rows, columns = (np.zeros((outputs, k)) for k in flat.kernel)
        rows[:, (flat.kernel[0] - 1) // 2] = columns[:, (flat.kernel[1] - 1) // 2] = 1
        if stage == 0:
            same = near.lateral
        if stage == rest:
            rows, columns = near.vertical, near.horizontal
        for conv, numbers in ((lateral, same), (vertical, rows), (horizontal, columns)):
            conv.weight.value = numbers.reshape(conv.weight.shape).astype(conv.weight.dtype)
            if conv.bias is not None and not (stage == rest and conv is horizontal):
                conv.bias.value = np.zeros(conv.bias.shape, conv.bias.dtype)
    return near.error
