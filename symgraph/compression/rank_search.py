"""Rank search: the ranks that this device computes well, measured with the shapes of a network.

From the published rule (arXiv 2309.03824): between the rank of a ratio and that of the next ratio,
the time of each layer is measured and an edge of the staircase taken; a layer that is no faster
stays dense. There it is the edge with the largest drop from one rank to the next, which noise
decides where drops are alike; here it is the plateau with the most rank for its time (`choose`).
"""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, field
from pathlib import Path
from typing import Any

import numpy as np

from symgraph._version import __version__
from symgraph.autodiff.reverse import vjp
from symgraph.backends.choice import chosen_backend, device_number
from symgraph.backends.cuda.device import device
from symgraph.compression.exchange import layer_names, require_known, require_module
from symgraph.compression.lowrank import NARROW, dense_layers
from symgraph.compression.ranks import Ranks, losses, ranks_of_ratio, sides
from symgraph.compression.staircase import DIRECTIONS, Point, Staircase, choose, svg
from symgraph.config import config
from symgraph.cost import cost
from symgraph.debug.page import write_text
from symgraph.errors import ArgumentError
from symgraph.frozen import frozen
from symgraph.function import Function, function
from symgraph.graph.arguments import plain_int
from symgraph.graph.leaves import Shared, shared, tensor
from symgraph.graph.node import Value
from symgraph.graph.walk import topological
from symgraph.nn import Conv2d, Dense, LowRankConv2d, LowRankDense, Module
from symgraph.ops.conv import Conv
from symgraph.ops.linalg import Matmul
from symgraph.ops.random import default_stream
from symgraph.runtime.cache import default_cache, key
from symgraph.runtime.calibrate import identity

FORMAT = "seconds of layers by rank 1"
LONGEST = 200  # bytes of what is kept
EPSILON = 0.05
WARM, REPEATS = 2, 7  # runs that do not count, and those of which the median does


@frozen
class Work:
    """What is timed: a layer by its weight's shape, its input's, its ranks (none: dense).

    `moves` are stride, padding and dilation of a convolution.
    """

    shape: tuple[int, ...]
    input: tuple[int, ...]
    ranks: Ranks
    dtype: str = "float32"
    moves: tuple[Any, ...] = ()

    def layer(self) -> Module:
        """Make a layer that does it, without a bias."""
        options: dict[str, Any] = {"bias": None}
        inputs, outputs, _ = sides(self.shape)
        with config(float_dtype=self.dtype):
            if len(self.shape) == 2:
                if self.ranks:
                    return LowRankDense(inputs, outputs, self.ranks[0], **options)
                return Dense(inputs, outputs, **options)
            options |= dict(zip(("stride", "padding", "dilation"), self.moves, strict=True))
            kernel = (self.shape[2], self.shape[3])
            if self.ranks:
                return LowRankConv2d(inputs, outputs, kernel, self.ranks, **options)
            return Conv2d(inputs, outputs, kernel, **options)

    def flops(self) -> int:
        """Count those of one pass forward."""
        with _stream_kept():
            return int(cost(self.layer()(tensor("x", self.input, self.dtype))).flops)


Timer = Callable[[Sequence[Work]], Sequence[tuple[float, float]]]


@frozen
class DeviceTimer:
    """Times layers on a device: seconds forward, and of forward with the gradients of everything.

    The median of `repeats` calls of a compiled function whose operands and results are shared
    variables, so that nothing is copied. All layers of a call take turns, and another one begins
    each round: a slow minute of the machine is shared by all. Found times are kept on the disk
    (`config.cache`), for the device, the versions of what computes, shapes, dtype and precision;
    with `anew` they are measured again. `clock` gives seconds.

    Raises `ArgumentError` for fewer than one repeat.
    """

    backend: str | None = None
    precision: str | None = None
    repeats: int = REPEATS
    anew: bool = False
    clock: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        if plain_int("DeviceTimer", "repeats", self.repeats) < 1:
            raise ArgumentError(f"DeviceTimer: repeats must be >= 1, got {self.repeats}.")

    def __call__(self, works: Sequence[Work]) -> list[tuple[float, float]]:
        """Give both times of each layer, kept or measured."""
        names = {work: self._key(work) for work in works}
        found: dict[Work, tuple[float, float]] = {}
        for work, name in names.items():
            kept = None if self.anew else _parsed(default_cache().get(name))
            if kept is not None:
                found[work] = kept
        missing = [work for work in names if work not in found]
        if missing:
            with _stream_kept():
                columns = [self._measured(missing, backward) for backward in (False, True)]
            for work, forward, both in zip(missing, *columns, strict=True):
                found[work] = forward, both
                default_cache().put(names[work], json.dumps(found[work]).encode())
        return [found[work] for work in works]

    def _key(self, work: Work) -> str:
        backend = chosen_backend("rank_search", self.backend)
        number = device_number(backend)
        where = [device(number).kind] if number >= 0 else identity()
        precision = self.precision or config.precision
        words = [backend.partition(":")[0], precision, str(config.threads), str(self.repeats)]
        return key(FORMAT, __version__, *where, *words, json.dumps(asdict(work), default=str))

    def _measured(self, works: Sequence[Work], backward: bool) -> list[float]:
        runs = [self._compiled(work, backward) for work in works]
        number = device_number(runs[0].backend)
        wait = device(number).settle if number >= 0 else lambda: None
        taken: list[list[float]] = [[] for _ in runs]
        for turn in range(WARM + self.repeats):
            for place in range(len(runs)):
                each = (turn + place) % len(runs)
                wait()
                begin = self.clock()
                runs[each]()
                wait()
                taken[each].append(self.clock() - begin)
        for run in runs:
            run.close()
        return [statistics.median(seconds[WARM:]) for seconds in taken]

    def _compiled(self, work: Work, backward: bool) -> Function:
        rng = np.random.default_rng(0)
        layer = work.layer()
        x = shared(rng.standard_normal(work.input).astype(work.dtype), "x")
        y = layer(x)
        results = [y]
        if backward:
            given = shared(np.ones(tuple(map(int, y.shape)), y.dtype), "gradient")
            results += vjp(y, [x, *layer.parameters()], given)
        kept = {
            shared(np.zeros(tuple(map(int, one.shape)), one.dtype), f"result {n}"): one
            for n, one in enumerate(results)
        }
        return function(
            [], [], updates=kept, name="layer", backend=self.backend, precision=self.precision
        )


@frozen(eq=False)
class RankSearch:
    """What was found for each layer: staircases, one for all layers that do the same work."""

    staircases: tuple[Staircase, ...] = field(repr=False)
    net: Module = field(repr=False)

    @property
    def ranks(self) -> dict[str, Ranks]:
        """Ranks by layer, none for one that stays dense: for `decompose_layers(net, ranks=...)`."""
        return {name: one.chosen for one in self.staircases for name in one.names}

    @property
    def seconds(self) -> tuple[float, float]:
        """The time of all layers, dense and as chosen."""
        pairs = [(one.at(()), one.seconds) for one in self.staircases for _ in one.names]
        return sum(dense for dense, _ in pairs), sum(low for _, low in pairs)

    def draw(self, path: str | os.PathLike[str]) -> Path:
        """Write a picture of all staircases (SVG); give its path."""
        return write_text("draw", path, svg(self.staircases))

    def within(self, seconds: float) -> dict[str, Ranks]:
        """Give ranks by layer with which all layers together take at most so many seconds.

        From dense layers on, one after another takes the step to fewer ranks that saves the most
        time for what its weight loses. Raises `ArgumentError` where the fastest take longer, and
        for a time that is not above 0.
        """
        if not seconds > 0:
            raise ArgumentError(f"rank_search: the seconds must be above 0, got {seconds}.")
        chosen: dict[str, Ranks] = dict.fromkeys(self.ranks, ())
        by_name = {name: one for one in self.staircases for name in one.names}
        lost = self._losses(by_name)
        while (now := sum(by_name[name].at(ranks) for name, ranks in chosen.items())) > seconds:
            steps = []
            for name, ranks in chosen.items():
                stairs = by_name[name]
                for point in stairs.points:
                    saved = stairs.at(ranks) - stairs.at(point.ranks)
                    more = lost[name, point.ranks] - lost[name, ranks]
                    if saved > 0 and (not ranks or point.ranks < ranks):
                        steps.append((saved / max(more, 1e-12), name, point.ranks))
            if not steps:
                raise ArgumentError(
                    f"rank_search: all layers together take {now:.3g} s at least, "
                    f"more than {seconds:.3g} s.",
                    fix="search with a larger ratio, or allow more time",
                )
            _, name, ranks = max(steps)
            chosen[name] = ranks
        return chosen

    def _losses(self, by_name: Mapping[str, Staircase]) -> dict[tuple[str, Ranks], float]:
        """Give what each weight loses at each rank, at most: squares, as parts of its own."""
        modules = dict(self.net.named_modules())
        found: dict[tuple[str, Ranks], float] = {}
        for name, one in by_name.items():
            weight = modules[name].weight.value  # type: ignore[attr-defined]
            found[name, ()] = 0.0
            ranks = [point.ranks for point in one.points]
            found |= {(name, each): lost for each, lost in zip(ranks, losses(weight, ranks))}
        return found


def rank_search(
    net: Module,
    example: Value | Sequence[int],
    *,
    ratio: float = 2.0,
    layers: Iterable[str] | None = None,
    direction: str = "both",
    epsilon: float = EPSILON,
    step: int = 16,
    most: int = 8,
    timer: Timer | None = None,
) -> RankSearch:
    """Find for each layer of a network the ranks that are worth their time on a device.

    `example` is the shape of the network's input with the batch that it will see, or a value that
    was built by the network from inputs of such shapes. Ranks lie between those of `ratio` and of
    `ratio + 1`: these two and multiples of `step` between them, at most `most`. `direction` says
    which time counts: of "both" passes, as in training, or "forward" alone. Factors that have no
    fewer FLOPs than the dense layer are not run at all; layers with fewer than 16 inputs or outputs
    are not looked at unless `layers` names them. `timer` measures: a `DeviceTimer` unless given.

    Nothing is exchanged: give `.ranks` to `decompose_layers`. Raises `ArgumentError` for sizes
    without numbers, for a step, a number of ranks and an epsilon out of range.

    >>> import symgraph as sg
    >>> net = sg.nn.Sequential(sg.nn.Dense(64, 64))
    >>> blocks = lambda work: -(-sum(work.ranks or (50,)) // 8)
    >>> by_blocks_of_8 = lambda works: [(blocks(work), 3 * blocks(work)) for work in works]
    >>> rank_search(net, (32, 64), step=1, timer=by_blocks_of_8).ranks
    {'0': (16,)}
    """
    require_module("rank_search", net, "give the network that made it")
    step, most = plain_int("rank_search", "step", step), plain_int("rank_search", "most", most)
    if step < 1 or most < 2 or not 0 <= epsilon < 1 or direction not in DIRECTIONS:
        raise ArgumentError(
            f"rank_search: step={step}, most={most}, epsilon={epsilon}, "
            f"direction={direction!r:.40} do not fit.",
            fix=f"step >= 1, most >= 2, 0 <= epsilon < 1, direction one of {', '.join(DIRECTIONS)}",
        )
    found = dense_layers(net)
    names = layer_names("rank_search", layers)
    if names is not None:
        require_known("rank_search", names, found, "search ranks for")
        found = {name: found[name] for name in found if name in names}
    else:
        found = {n: one for n, one in found.items() if min(sides(one.weight.shape)[:2]) >= NARROW}
    works: dict[tuple[Work, ...], list[str]] = {}
    for name, uses in _uses(net, found, example).items():
        works.setdefault(uses, []).append(name)
    measure = timer or DeviceTimer()
    stairs = [
        _staircase(tuple(names), uses, ratio, direction, epsilon, (step, most), measure)
        for uses, names in works.items()
    ]
    return RankSearch(tuple(stairs), net)


def _staircase(
    names: tuple[str, ...],
    uses: tuple[Work, ...],
    ratio: float,
    direction: str,
    epsilon: float,
    grid: tuple[int, int],
    measure: Timer,
) -> Staircase:
    """Measure a layer at all its candidates, and choose."""
    shape = uses[0].shape
    most = sum(work.flops() for work in uses)
    flops: dict[Ranks, int] = {(): most}
    for ranks in candidates(shape, ratio, *grid):
        counted = sum(_with(work, ranks).flops() for work in uses)
        if counted < most:
            flops[ranks] = counted
    dense, *points = _measured(uses, flops, measure)
    best = choose(dense, points, direction, epsilon)
    less = f"save less than {100 * epsilon:.0f} %" if points else "have no fewer FLOPs"
    reason = "" if best.ranks else f"factors {less}"
    return Staircase(names, shape, dense, tuple(points), direction, epsilon, best.ranks, reason)


def _with(work: Work, ranks: Ranks) -> Work:
    return Work(work.shape, work.input, ranks, work.dtype, work.moves)


def _measured(uses: Sequence[Work], flops: Mapping[Ranks, int], measure: Timer) -> list[Point]:
    """Time a layer at all these ranks, at all its places together."""
    works = [_with(work, ranks) for ranks in flops for work in uses]
    taken = [tuple(pair) for pair in measure(works)]
    if len(taken) != len(works) or not all(map(_are_times, taken)):
        raise ArgumentError(
            f"rank_search: the timer must give two finite times above 0 for each of {len(works)} "
            f"works, got {taken!r:.100}.",
            fix="(seconds forward, seconds forward and backward) for each",
        )
    points = []
    for number, (ranks, counted) in enumerate(flops.items()):
        own = taken[number * len(uses) : (number + 1) * len(uses)]
        forward, both = (sum(column) for column in zip(*own))
        points.append(Point(ranks, forward, both, counted))
    return points


def _are_times(pair: tuple[float, ...]) -> bool:
    return len(pair) == 2 and all(0 < one < math.inf for one in pair)


def candidates(shape: Sequence[int], ratio: float, step: int, most: int) -> list[Ranks]:
    """List ranks between those of a ratio and of the next one: both, and multiples of a step.

    Where they are more than `most`, some are left out evenly. Of filters the second rank keeps its
    ratio to the first, in multiples of the step where it has room.

    >>> candidates((768, 768), 2, 16, 8)
    [(128,), (144,), (160,), (176,), (192,)]
    """
    high, low = ranks_of_ratio(shape, ratio), ranks_of_ratio(shape, ratio + 1)
    between = range(-(-(low[0] + 1) // step) * step, high[0], step)
    found = [low]
    for first in between:
        if len(high) == 1:
            found.append((first,))
        else:
            second = first * high[1] // high[0]
            found.append((first, max(1, second // step * step or second)))
    found = list(dict.fromkeys([*found, high]))
    if len(found) > most:
        picked = np.linspace(0, len(found) - 1, most).round().astype(int)
        found = [found[number] for number in dict.fromkeys(picked.tolist())]
    return found


def _uses(
    net: Module, layers: Mapping[str, Dense | Conv2d], example: Value | Sequence[int]
) -> dict[str, tuple[Work, ...]]:
    """Find on what each layer works; one that is used in another way is left out."""
    if not isinstance(example, Value):
        sizes = tuple(plain_int("rank_search", "a size of the example", one) for one in example)
        example = net(tensor("x", sizes), train=True)
    names = {one.weight: name for name, one in layers.items()}
    found: dict[str, list[Work]] = {}
    for value in topological([example]):
        weight = value.inputs[1] if len(value.inputs) == 2 else None
        if not isinstance(value.op, Conv | Matmul) or not isinstance(weight, Shared):
            continue
        if weight in names:
            layer, x = layers[names[weight]], value.inputs[0]
            if not all(isinstance(size, int) for size in x.shape):
                raise ArgumentError(
                    f"rank_search: the input of {names[weight]} has sizes without numbers: "
                    f"{tuple(map(str, x.shape))}.",
                    details=[x.describe()],
                    fix="build the example from inputs of the sizes that it will see",
                )
            moves: Any = ()
            if isinstance(layer, Conv2d):
                moves = layer.stride, layer.padding, layer.dilation
            shape = tuple(map(int, layer.weight.shape))
            work = Work(shape, tuple(map(int, x.shape)), (), x.dtype, _hashable(moves))
            found.setdefault(names[weight], []).append(work)
    return {name: tuple(found[name]) for name in layers if name in found}


def _hashable(moves: Any) -> Any:
    return tuple(map(_hashable, moves)) if isinstance(moves, list | tuple) else moves


@contextmanager
def _stream_kept() -> Iterator[None]:
    """Draw what nobody keeps without moving the stream of initial weights."""
    stream = default_stream()
    before = stream.state()
    try:
        yield
    finally:
        stream.set_state(before)


def _parsed(data: bytes | None) -> tuple[float, float] | None:
    """Read what was kept; None where it is not what this file writes."""
    if data is None or len(data) > LONGEST:
        return None
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or len(found) != 2:
        return None
    if not all(isinstance(one, float) and 0 < one < math.inf for one in found):
        return None
    return found[0], found[1]
