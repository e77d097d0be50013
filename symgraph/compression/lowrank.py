"""Low-rank decomposition: dense layers exchanged for two or three smaller ones, and back.

Hajimolahoseini, Ahmed, Liu: "Training acceleration of low-rank decomposed networks using sequential
freezing and rank quantization", 2023 (arXiv 2309.03824). The layers are `nn.LowRankDense` and
`nn.LowRankConv2d`, the factors those of `factorised`.
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
from symgraph.compression.ranks import (
    Numbers,
    Ranks,
    factorised,
    ranks_of_error,
    ranks_of_ratio,
    sides,
)
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
from symgraph.graph.registry import F
from symgraph.nn import Conv2d, Dense, LowRankConv2d, LowRankDense, Module, init
from symgraph.ops.conv import Conv
from symgraph.ops.linalg import Matmul

Layer = LowRankDense | LowRankConv2d
Key = TypeVar("Key")

RATIO = 2.0  # unless ranks are asked for in another way
NARROW = 16  # a layer with fewer inputs or outputs stays unless it is asked for
VALUES = ("fit", "draw")


@frozen(eq=False)
class LowRankLayer:
    """A layer that was looked at: its factors, or None where it stayed dense.

    `before` and `after` are the FLOPs of one pass forward, formulas in the sizes; `error` is how
    far the product of the factors is from the weight, as a part of its length.
    """

    name: str
    factors: Layer | None
    ranks: Ranks
    before: Size
    after: Size
    parameters: tuple[int, int]
    error: float | None = None

    def __str__(self) -> str:
        ranks = " x ".join(map(str, self.ranks))
        if self.factors is None:
            return f"{self.name}: stays dense, {self.before} FLOPs, of rank {ranks} {self.after}"
        said = change(self.before, self.after, self.parameters, self.error)
        return f"{self.name}: rank {ranks}, {said}"


@frozen(eq=False)
class Decomposition:
    """What `decompose` or `decompose_layers` did to each layer, in order."""

    layers: tuple[LowRankLayer, ...] = field(repr=False)

    @property
    def parameters(self) -> list[Shared]:
        """The factors' shared variables."""
        return variables(one.factors for one in self.layers)

    @property
    def ranks(self) -> dict[str, Ranks]:
        """The ranks of each layer that was exchanged: give them to another network like this."""
        return {one.name: one.ranks for one in self.layers if one.factors is not None}

    def __str__(self) -> str:
        return "\n".join(map(str, self.layers))


def decompose(
    graph: Graph,
    *,
    layers: Iterable[str] | None = None,
    ratio: float | None = None,
    error: float | None = None,
    ranks: Mapping[str, int | Sequence[int]] | None = None,
    values: str = "fit",
    rounds: int = 0,
) -> tuple[Graph, Decomposition]:
    """Give a graph with factors in the place of matrices and filters, variables or constants.

    Differentiate the new graph, not the old one. Products by a matrix on the right and
    two-dimensional convolutions in one group are looked at; `layers` are names of modules that made
    them, as `Sequential/0`, or of weights. How ranks are chosen, and the rest, as in
    `decompose_layers`; a bias that was added stays where it is.

    >>> import symgraph as sg
    >>> x = sg.tensor("x", (sg.dim("B"), 768))
    >>> graph = sg.Graph([x], [sg.nn.Dense(768, 3072)(x)])
    >>> print(sg.compression.decompose(graph, values="draw")[1])
    Dense: rank 307, 4718592*B -> 2357760*B FLOPs, 2,359,296 -> 1,178,880 parameters
    """
    if not isinstance(graph, Graph):
        raise ArgumentTypeError(
            f"decompose: takes a graph, got {type(graph).__name__}.",
            fix="decompose(sg.Graph([x], [y])); for a module, decompose_layers(net)",
        )
    plan = _Plan("decompose", layers, ratio, error, ranks, values, rounds)
    found = {one: names_of(one) for one in graph.values if _is_dense(one)}
    wanted = plan.wanted(found)
    made: dict[tuple[Value, Any], LowRankLayer] = {}  # one for all that share their weight
    replace: dict[Value, Value] = {}
    report: list[LowRankLayer] = []
    for one, names in found.items():
        x, weight = one.inputs
        if wanted[one] is False:
            continue
        given = tensor("x", x.shape, x.dtype)
        old = make(one.op, given, weight)
        known = made.get((weight, one.op))
        layer = plan.layer(names, wanted[one], weight, one.op, None, given, old, known)
        made[weight, one.op] = layer
        report.append(layer)
        if layer.factors is not None:
            with inherit(one.origins):
                replace[one] = layer.factors(x)
    return graph.rewrite(replace, "decompose"), Decomposition(tuple(report))


def decompose_layers(
    net: Module,
    *,
    layers: Iterable[str] | None = None,
    ratio: float | None = None,
    error: float | None = None,
    ranks: Mapping[str, int | Sequence[int]] | None = None,
    values: str = "fit",
    rounds: int = 0,
) -> Decomposition:
    """Exchange `Dense` and `Conv2d` layers of a network, in place, for factors of low rank.

    Ranks are chosen so that each layer has `ratio` times fewer numbers (2 unless told otherwise),
    or so that its weight is off by at most `error`, or they are given by name in `ranks`, where an
    empty tuple says that a layer stays dense. `layers` are names of `net.named_modules()`. Unless
    layers are named in one of these ways, those with fewer than 16 inputs or outputs stay, and
    those that cost more FLOPs as factors. With `values="fit"` factors are near to the weights
    (`factorised`, with so many `rounds`), with "draw" they are drawn. The factors of a layer `a`
    are `a.first`, `a.core` and `a.last`, which has the bias. Graphs built before keep the old
    layers. A convolution in groups, and a weight that two modules hold, stay.

    Raises `ArgumentError` for layers that are not there, and for ranks that are too small or large.

    >>> import symgraph as sg
    >>> net = sg.nn.Sequential(sg.nn.Dense(64, 64), sg.nn.Dense(64, 10))
    >>> sg.compression.decompose_layers(net, ratio=4).ranks
    {'0': (8,)}
    >>> [name for name, _ in net.named_parameters()]
    ['0.first.weight', '0.last.weight', '0.last.bias', '1.weight', '1.bias']
    """
    require_module("decompose_layers", net, "decompose(sg.Graph([x], [y]))")
    plan = _Plan("decompose_layers", layers, ratio, error, ranks, values, rounds)
    found: dict[Dense | Conv2d, tuple[str, ...]] = {
        one: (name,) for name, one in dense_layers(net).items()
    }
    wanted = plan.wanted(found)
    exchanged: dict[Module, Module] = {}
    report: list[LowRankLayer] = []
    for one, names in found.items():
        if wanted[one] is False:
            continue
        x = tensor("x", one.input_shape(), one.weight.dtype)
        like = None if isinstance(one, Dense) else one
        layer = plan.layer(names, wanted[one], one.weight, like, one.bias, x, one(x))
        report.append(layer)
        if layer.factors is not None:
            exchanged[one] = layer.factors
    exchange(net, exchanged)
    return Decomposition(tuple(report))


def dense_layers(net: Module) -> dict[str, Dense | Conv2d]:
    """Name the layers of a network that have a low-rank form: whose weight only they hold."""
    modules = net.named_modules()
    factors = [one for _, one in modules if isinstance(one, Layer)]
    inner = {id(part) for one in factors for _, part in one.named_modules()}
    holders: dict[Shared, int] = {}
    for _, module in modules:
        for held in module.__dict__.values():
            if isinstance(held, Shared):
                holders[held] = holders.get(held, 0) + 1
    return {
        name: one
        for name, one in modules
        if isinstance(one, Dense | Conv2d)
        and type(one) in (Dense, Conv2d)
        and id(one) not in inner
        and holders[one.weight] == 1
        and getattr(one, "groups", 1) == 1
    }


def merge(graph: Graph, decomposition: Decomposition) -> Graph:
    """Give a graph in which the factors of a decomposition are dense weights again.

    Their numbers are multiplied out now, into new shared variables.
    """
    made = {one.factors: merged(one.factors) for one in decomposition.layers if one.factors}
    by_last = {factors.last.weight: factors for factors in made}
    replace: dict[Value, Value] = {}
    for one in graph.values:
        factors = by_last.get(one.inputs[1]) if len(one.inputs) == 2 else None  # type: ignore[call-overload]
        if factors is None or not isinstance(one.op, Conv | Matmul):
            continue
        x = one
        for _ in factors.children():
            x = x.inputs[0]
        with inherit(one.origins):
            replace[one] = made[factors].forward(x)
    return graph.rewrite(replace, "merge")


def merge_layers(net: Module, *, layers: Iterable[str] | None = None) -> list[str]:
    """Exchange factors of a network, in place, for dense layers, and give their names.

    All are, unless `layers` names some. Raises `ArgumentError` for one that has no factors.
    """
    require_module("merge_layers", net, "merge(graph, decomposition)")
    found = {name: one for name, one in net.named_modules() if isinstance(one, Layer)}
    wanted = layer_names("merge_layers", layers)
    names = list(found if wanted is None else wanted)
    require_known("merge_layers", names, found, "merge")
    exchange(net, {found[name]: merged(found[name]) for name in names})
    return names


def merged(factors: Layer) -> Dense | Conv2d:
    """Make the dense layer that factors stand for."""
    weight = np.asarray(factors.weight.eval())
    bias = None if factors.last.bias is None else init.ZEROS
    shape = tuple(map(int, factors.weight.shape))
    made: Dense | Conv2d
    with config(float_dtype=factors.first.weight.dtype):
        if isinstance(factors, LowRankDense):
            made = Dense(shape[0], shape[1], weight=init.ZEROS, bias=bias)
        else:
            like = factors.kernel
            made = Conv2d(
                shape[1], shape[0], (shape[2], shape[3]), stride=like.stride, padding=like.padding,
                dilation=like.dilation, weight=init.ZEROS, bias=bias,
            )  # fmt: skip
    made.weight.value = weight
    if made.bias is not None and factors.last.bias is not None:
        made.bias.value = factors.last.bias.value
    return made


def sketch(layer: Dense | Conv2d, x: Value, ranks: Sequence[Size]) -> Value:
    """Build a layer's low-rank form on inputs for the factors, with ranks that may be symbols.

    To be looked at, and for `sg.cost`: a formula in the ranks before they are chosen.

    >>> import symgraph as sg
    >>> r, x = sg.dim("r"), sg.tensor("x", (sg.dim("B"), 64))
    >>> print(sg.cost(sg.compression.sketch(sg.nn.Dense(64, 32, bias=None), x, (r,))).flops)
    192*B*r
    """
    inputs, outputs, _ = found = sides(layer.weight.shape)
    if len(ranks) != (1 if found.one_rank else 2):
        raise ArgumentError(f"sketch: the layer has other than {len(ranks)} ranks.")
    kind = layer.weight.dtype
    if isinstance(layer, Dense):
        first = tensor("first", (inputs, ranks[0]), kind)
        y = x @ first @ tensor("last", (ranks[0], outputs), kind)
        return y if layer.bias is None else y + layer.bias
    moves = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
    one_by_one = tensor("first", (ranks[0], inputs, 1, 1), kind)
    if found.one_rank:
        y = F.conv2d(x, one_by_one, **moves)
    else:
        core = tensor("core", (ranks[1], ranks[0], *layer.weight.shape[2:]), kind)
        y = F.conv2d(F.conv2d(x, one_by_one), core, **moves)
    y = F.conv2d(y, tensor("last", (outputs, ranks[-1], 1, 1), kind))
    return y if layer.bias is None else y + F.reshape(layer.bias, (outputs, 1, 1))


# -- which, and how --------------------------------------------------------------------------------


class _Plan:
    """What was asked for, checked, and what it makes of each layer."""

    def __init__(
        self,
        caller: str,
        layers: Iterable[str] | None,
        ratio: float | None,
        error: float | None,
        ranks: Mapping[str, int | Sequence[int]] | None,
        values: Any,
        rounds: Any,
    ) -> None:
        given = {"ratio": ratio, "error": error, "ranks": ranks}
        several = [name for name, value in given.items() if value is not None]
        if len(several) > 1 or (ranks is not None and layers is not None):
            words = several if len(several) > 1 else ["layers", "ranks"]
            raise ArgumentError(
                f"{caller}: {' and '.join(words)} say the same thing in different ways.",
                fix="give one of ratio, error and ranks; ranks name their layers",
            )
        if values not in VALUES:
            raise ArgumentError(
                f"{caller}: values must be one of {', '.join(VALUES)}, got {values!r:.60}.",
                fix='values="fit" to go on from the weights, values="draw" to train anew',
            )
        self.caller, self.fit = caller, values == "fit"
        self.rounds = plain_int(caller, "rounds", rounds)
        if self.rounds < 0:
            raise ArgumentError(f"{caller}: rounds must be >= 0, got {rounds}.")
        self.ratio, self.error = RATIO if not several else ratio, error
        self.layers = layer_names(caller, layers)
        self.ranks: dict[str, Ranks] | None = None
        if ranks is not None:
            self.layers = tuple(ranks)
            self.ranks = {name: self._ranks(name, rank) for name, rank in ranks.items()}

    def _ranks(self, name: str, given: Any) -> Ranks:
        several = given if isinstance(given, list | tuple) else (given,)
        return tuple(plain_int(self.caller, f"a rank of {name}", rank) for rank in several)

    def wanted(self, found: Mapping[Key, Sequence[str]]) -> dict[Key, bool | None]:
        """Tell for each layer whether it was asked for; None where its cost decides."""
        if self.layers is None:
            return dict.fromkeys(found)
        known = [name for names in found.values() for name in names]
        require_known(self.caller, self.layers, known, "decompose")
        chosen = {name for name in self.layers if self.ranks is None or self.ranks[name]}
        return {key: any(name in chosen for name in names) for key, names in found.items()}

    def layer(
        self,
        names: Sequence[str],
        wanted: bool | None,
        weight: Value,
        like: Any,
        bias: Shared | None,
        x: Value,
        old: Value,
        known: LowRankLayer | None = None,
    ) -> LowRankLayer:
        """Say what becomes of a layer, and make its factors; of `known` ones they are taken."""
        if known is not None and known.factors is not None:
            factors, ranks, error = known.factors, known.ranks, known.error
        else:
            ranks, error = self._chosen(names, weight), None
            factors = self._factors(weight, ranks, like, bias)
        whole, new = cost(old), cost(factors(x)).flops
        counts = (whole.parameters, factors.count())
        least = min(sides(weight.shape)[:2])
        if wanted is None and (least < NARROW or not is_less(new, whole.flops)):
            return LowRankLayer(names[0], None, ranks, whole.flops, new, counts)
        if self.fit and known is None:
            error = _fit(factors, numbers_of(weight), ranks, self.rounds)
        return LowRankLayer(names[0], factors, ranks, whole.flops, new, counts, error)

    def _chosen(self, names: Sequence[str], weight: Value) -> Ranks:
        shape = tuple(map(int, weight.shape))
        if self.ranks is not None:
            return next(self.ranks[name] for name in names if name in self.ranks)
        if self.error is not None:
            return ranks_of_error(numbers_of(weight), self.error)
        return ranks_of_ratio(shape, RATIO if self.ratio is None else self.ratio)

    def _factors(self, weight: Value, ranks: Ranks, like: Any, bias: Shared | None) -> Layer:
        """Make what can stand in the place of a weight, with the moves of a convolution."""
        drawn = init.ZEROS if self.fit else None
        options: dict[str, Any] = {"weight": drawn, "bias": None if bias is None else init.ZEROS}
        inputs, outputs, _ = map(int, sides(weight.shape))
        made: Layer
        with config(float_dtype=weight.dtype):
            if len(weight.shape) == 2:
                _require_one(self.caller, ranks)
                made = LowRankDense(inputs, outputs, ranks[0], **options)
            else:
                kernel = (int(weight.shape[2]), int(weight.shape[3]))
                made = LowRankConv2d(
                    inputs, outputs, kernel, ranks, stride=like.stride, padding=like.padding,
                    dilation=like.dilation, **options,
                )  # fmt: skip
        if bias is not None and made.last.bias is not None:
            made.last.bias.value = bias.value
        return made


def _require_one(caller: str, ranks: Ranks) -> None:
    if len(ranks) != 1:
        raise ArgumentError(f"{caller}: a matrix has one rank, got {ranks}.", fix="one number")


def _fit(factors: Layer, weight: Numbers, ranks: Ranks, rounds: int) -> float:
    """Give factors the numbers nearest to a weight; return how far they are off."""
    found = factorised(weight, ranks, rounds=rounds)
    parts = [factors.first, getattr(factors, "core", None), factors.last]
    for part, numbers in zip([part for part in parts if part], found.weights, strict=True):
        part.weight.value = numbers.astype(part.weight.dtype)
    return found.error


def _is_dense(one: Value) -> bool:
    """Tell whether a value is a product or convolution by a weight that is numbers."""
    if isinstance(one.op, Conv):
        right = type(one.op) is Conv and len(one.op.stride) == 2 and one.op.groups == 1
    else:
        right = type(one.op) is Matmul and len(one.inputs[1].shape) == 2
    return right and are_numbers(one.inputs[1])
