"""Random numbers as a pure function of (seed, node, step, element): same bits on every device.

A random value is an operation on the state of a `Stream`, three uint64 numbers (seed, step,
offset). Element i of it comes from one block of Philox4x32-10 with

    counter = (low and high half of i // n, low half of step, key of the node), n numbers a block,
    key     = (low half of seed, high half of seed xor high half of step),

so it depends neither on the size of the array nor on layout, fusion, order or number of workers.
With `by_row`, i also counts the elements of the `offset` rows that come before in a larger array:
workers that hold the rows of one batch draw what one worker would have drawn. Each call of a
compiled function advances the step by one. There is no gradient.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from symgraph.config import config
from symgraph.dims import Size, product, require_sizes
from symgraph.errors import ArgumentError, ArgumentTypeError, DTypeError, PassError, ShapeError
from symgraph.frozen import frozen
from symgraph.graph.arguments import plain_int, shape_argument
from symgraph.graph.draws import drawn
from symgraph.graph.dtypes import DType, default_float, dtype_name, is_float, numpy_dtype
from symgraph.graph.index import Compute, axes, load, m, position
from symgraph.graph.leaves import Shared, as_value, shared
from symgraph.graph.node import Value, make, operand_lines
from symgraph.graph.op import Array, Cotangent, Op, op
from symgraph.graph.registry import F, Functions, function_of
from symgraph.graph.samplers import bernoulli_body, normal_body, uniform_body, words_per_element
from symgraph.graph.samples import arg, bad, sample
from symgraph.graph.scalar import NumpyMath, const
from symgraph.graph.types import TensorType

BLOCK = 1 << 16  # elements that the reference draws at a time, so that they stay in the cache
LOW = 0xFFFFFFFF
STATE = arg((3,), "uint64", values=(0x0123456789ABCDEF, 2**32 + 5, 3))
DUMMY = arg(("B", 3), "int32")  # only its shape is used


@frozen(eq=False, repr=False)
class Random(Op):
    """What random values share: where the words of each element come from."""

    shape: tuple[Size, ...]
    dtype: DType
    node: int
    by_row: bool

    def infer(self, state: TensorType) -> TensorType:
        if state.dtype != "uint64" or len(state.shape) != 1 or state.shape[0] != 3:
            raise ShapeError(f"{{state}} must be uint64[3] (seed, step, offset), not {state}.")
        if self.by_row and not self.shape:
            raise ShapeError("by_row needs an axis of rows; the shape is ().")
        require_sizes(self.shape)
        return TensorType(self.dtype, self.shape)

    def body(self, m: Any, *words: Any) -> Any:
        """Give one number from its words, on arrays and on scalars alike."""
        raise PassError(f"{self.name}: the random operation has no `body`.")

    def words_each(self) -> int:
        """Give how many words one number takes."""
        return words_per_element(self.dtype)

    def ref(self, xp: ModuleType, *arrays: Array) -> Array:
        seed, step, offset = (int(number) for number in arrays[0])
        count = int(product(self.shape))
        first = offset * int(product(self.shape[1:])) if self.by_row else 0
        result = xp.empty(count, numpy_dtype(self.dtype))
        math = NumpyMath(xp)
        with np.errstate(all="ignore"):
            for start in range(0, count, BLOCK):
                stop = min(start + BLOCK, count)
                words = self.words(xp, seed, step, first + start, stop - start)
                result[start:stop] = self.body(math, *words)
        return result.reshape(self.shape)

    def words(
        self, xp: ModuleType, seed: int, step: int, first: int, count: int
    ) -> tuple[Array, ...]:
        """Give the words of `count` elements from `first` on: one array for each word."""
        each = self.words_each()
        held = 4 // each
        blocks = xp.arange(first // held, (first + count - 1) // held + 1, dtype=np.uint64)
        fixed = (step & LOW, self.node, seed & LOW, (seed >> 32) ^ (step >> 32))
        third, fourth, *key = (xp.asarray([word], np.uint32) for word in fixed)
        low, high = (blocks & LOW).astype(np.uint32), (blocks >> 32).astype(np.uint32)
        whole = xp.stack(NumpyMath(xp).philox(low, high, third, fourth, *key), axis=-1)
        elements = whole.reshape(-1, each)[first % held :][:count]
        return tuple(elements[:, number] for number in range(each))

    def vjp(self, F: Functions, g: Any, y: Any, *xs: Value) -> tuple[Cotangent, ...]:
        return (None,)

    def expand(self, F: Functions, *xs: Value) -> Compute:
        out = axes(self.shape)
        place = position(0)
        for each in out:
            place = place * position(each.extent) + each.scalar()
        seed, step, offset = (load(0, "uint64", number) for number in range(3))
        element = m.cast(place, "uint64")
        if self.by_row:
            element = element + offset * m.cast(position(product(self.shape[1:])), "uint64")
        each_word = self.words_each()
        shift = 2 if each_word == 1 else 1
        block, lane = element >> shift, element & (4 // each_word - 1)
        halves = (block, block >> 32, step)
        counter = [m.cast(word & LOW, "uint32") for word in halves]
        key = [m.cast(word & LOW, "uint32") for word in (seed, (seed >> 32) ^ (step >> 32))]
        words = m.philox(*counter, const(self.node, "uint32"), *key)
        chosen = words[:each_word]
        for number in range(1, 4 // each_word):
            candidates = words[number * each_word : (number + 1) * each_word]
            chosen = tuple(m.select(lane == number, a, b) for a, b in zip(candidates, chosen))
        return Compute(out, m.cast(self.body(m, *chosen), self.dtype))


@op
class RandomUniform(Random):
    """Even numbers in [0, 1)."""

    samples = (
        sample(lambda s, x: make(RandomUniform(x.shape, "float32", 7, False), s), STATE, DUMMY),
        sample(
            lambda s, x: make(RandomUniform(x.shape, "float64", 1, True), s), STATE, DUMMY,
            sizes={"B": 6},
        ),
        sample(
            lambda s, x: make(RandomUniform(x.shape, "float16", 0, True), s), STATE, DUMMY,
            sizes={"B": 1},
        ),
        sample(
            lambda s, x: make(RandomUniform(x.shape, "bfloat16", 0, False), s), STATE, DUMMY,
            sizes={"B": 0},
        ),
        sample(lambda s: make(RandomUniform((), "float32", 2**32 - 1, False), s), STATE),
    )  # fmt: skip
    bad = (
        bad(
            lambda s: make(RandomUniform((2,), "float32", 0, False), s), arg((3,), "int64"),
            match="must be uint64",
        ),
        bad(
            lambda s: make(RandomUniform((), "float32", 0, True), s), STATE,
            match="needs an axis of rows",
        ),
    )  # fmt: skip

    def body(self, m: Any, *words: Any) -> Any:
        return uniform_body(m, self.dtype, *words)


@op
class RandomNormal(Random):
    """Numbers with mean 0 and standard deviation 1."""

    samples = (
        sample(lambda s, x: make(RandomNormal(x.shape, "float32", 7, False), s), STATE, DUMMY),
        sample(
            lambda s, x: make(RandomNormal(x.shape, "float64", 1, True), s), STATE, DUMMY,
            sizes={"B": 40},
        ),
        sample(lambda s: make(RandomNormal((33,), "float16", 0, True), s), STATE),
        sample(lambda s: make(RandomNormal((17,), "bfloat16", 0, False), s), STATE),
    )  # fmt: skip
    bad = (
        bad(
            lambda s: make(RandomNormal((2,), "float32", 0, False), s), arg((2,), "uint64"),
            match="must be uint64",
        ),
    )  # fmt: skip

    def body(self, m: Any, *words: Any) -> Any:
        return normal_body(m, self.dtype, *words)


@op
class RandomBernoulli(Random):
    """True with probability `threshold` / 2**32; `dtype` is bool."""

    threshold: int
    samples = (
        sample(lambda s, x: make(_coin(x.shape, 0.3, 7, False), s), STATE, DUMMY),
        sample(lambda s, x: make(_coin(x.shape, 0.5, 7, True), s), STATE, DUMMY, sizes={"B": 9}),
        sample(lambda s: make(_coin((5,), 1.0, 0, False), s), STATE),
        sample(lambda s: make(_coin((5,), 0.0, 0, False), s), STATE),
    )
    bad = (
        bad(
            lambda s: make(_coin((2,), 0.5, 0, False), s), arg((3, 1), "uint64"),
            match="must be uint64",
        ),
    )  # fmt: skip

    def body(self, m: Any, *words: Any) -> Any:
        return bernoulli_body(m, self.threshold, *words)


def _coin(shape: tuple[Size, ...], p: float, node: int, by_row: bool) -> RandomBernoulli:
    return RandomBernoulli(shape, "bool", node, by_row, int(p * 2**32 + 0.5))


class Stream:
    """A source of random values with a state (seed, step, offset) that functions advance.

    Random values are numbered in the order in which they are made, so the same program gives the
    same numbers. `offset` is the number of the first row that this process holds, for values drawn
    by row. Without a seed it takes `config.seed`, or a fresh one.

    >>> a, b = Stream(1), Stream(1)
    >>> bool((a.uniform((3,)).eval() == b.uniform((3,)).eval()).all())
    True
    """

    __slots__ = ("_lock", "_made", "variable")

    variable: Shared

    def __init__(self, seed: int | None = None) -> None:
        self._lock = threading.Lock()
        self.variable = shared(np.zeros(3, np.uint64), "random_state")
        self.seed(seed)

    def seed(self, seed: int | None = None) -> None:
        """Start again: set the seed, step 0, and number random values from 0 once more.

        Values made before and after draw the same numbers where they have the same number, so seed
        before a program is built, not in the middle. Raises `ArgumentError` outside 0..2**64-1.
        """
        number = config.seed if seed is None else seed
        chosen = secrets.randbits(64) if number is None else _word("seed", "seed", number)
        with self._lock:
            self._made = 0
            self.variable.value = np.array([chosen, 0, 0], np.uint64)

    def state(self) -> dict[str, int]:
        """Give what continues the stream, for a checkpoint: `seed`, `step` and `offset`."""
        seed, step, offset = (int(number) for number in self.variable.value)
        return {"seed": seed, "step": step, "offset": offset}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Continue where `state()` was taken; the numbering of values goes on as it is.

        Raises `ArgumentError` unless it has the three numbers, each in 0..2**64-1.
        """
        names = ("seed", "step", "offset")
        if set(state) != set(names):
            raise ArgumentError(
                f"random state: needs {', '.join(names)}, got {', '.join(map(str, state))}.",
                fix="give what `state()` returned",
            )
        numbers = [_word("random state", name, state[name]) for name in names]
        self.variable.value = np.array(numbers, np.uint64)

    @property
    def offset(self) -> int:
        """The number in the whole batch of the first row that this process holds."""
        return self.state()["offset"]

    @offset.setter
    def offset(self, row: int) -> None:
        self.set_state({**self.state(), "offset": row})

    def take_number(self) -> int:
        """Take the number of the next random value, or of an initial weight drawn elsewhere."""
        with self._lock:
            number, self._made = self._made, self._made + 1
        return number

    def draw(self, operation: Callable[[int], Op]) -> Value:
        """Make the next random value of this stream; each call of a function advances the step."""
        value = drawn(make(operation(self.take_number()), self.variable))
        advanced = self.variable + F.constant(np.array([0, 1, 0], np.uint64))
        return F.with_updates(value, {self.variable: advanced})

    def uniform(self, shape: Any, low: Any = 0.0, high: Any = 1.0, **options: Any) -> Value:
        """Draw even numbers from this stream; see `uniform`."""
        return uniform(shape, low, high, stream=self, **options)

    def normal(self, shape: Any, mean: Any = 0.0, std: Any = 1.0, **options: Any) -> Value:
        """Draw normal numbers from this stream; see `normal`."""
        return normal(shape, mean, std, stream=self, **options)

    def bernoulli(self, shape: Any, p: Any = 0.5, **options: Any) -> Value:
        """Draw bools from this stream; see `bernoulli`."""
        return bernoulli(shape, p, stream=self, **options)


def _word(name: str, what: str, value: Any) -> int:
    number = plain_int(name, what, value)
    if not 0 <= number < 2**64:
        raise ArgumentError(f"{name}: {what} must be from 0 to 2**64 - 1, got {number}.")
    return number


_default: list[Stream] = []
_default_lock = threading.Lock()


@function_of
def default_stream() -> Stream:
    """Give the stream that random values use unless they are given another."""
    with _default_lock:
        if not _default:
            _default.append(Stream())
        return _default[0]


@function_of
def stream(seed: int | None = None) -> Stream:
    """Make a stream of random values; see `Stream`."""
    return Stream(seed)


@function_of
def seed(number: int | None = None) -> None:
    """Seed all randomness of the default stream, and number its random values from 0 again.

    Without a number it takes `config.seed`, or a fresh seed. Raises `ArgumentError` outside of
    0..2**64-1.

    >>> seed(1)
    >>> default_stream().state()
    {'seed': 1, 'step': 0, 'offset': 0}
    """
    default_stream().seed(number)


def _float(name: str, dtype: Any) -> DType:
    found = default_float() if dtype is None else dtype_name(dtype)
    if not is_float(found):
        raise DTypeError(f"{name}: the dtype must be a float, not {found}.", fix='dtype="float32"')
    return found


@function_of
def uniform(
    shape: Any,
    low: Any = 0.0,
    high: Any = 1.0,
    *,
    dtype: Any = None,
    by_row: bool = False,
    stream: Stream | None = None,
) -> Value:
    """Draw numbers evenly from [low, high): low + (high - low) * k / 2**24 (2**53 for float64).

    `low` and `high` are numbers or values, broadcast to the shape; rounding may give `high` itself.
    With `by_row`, row i depends on `offset` + i of the stream. Raises `DTypeError` unless the dtype
    is a float.

    >>> uniform((2, 3), -1, 1).type.shape
    (2, 3)
    """
    kind, sizes = _float("uniform", dtype), shape_argument("uniform", shape)
    value = _stream(stream).draw(lambda node: RandomUniform(sizes, kind, node, bool(by_row)))
    if _plain(low, 0) and _plain(high, 1):
        return value
    lower, upper = (
        parameter("uniform", "low", low, value),
        parameter("uniform", "high", high, value),
    )
    return value * (upper - lower) + lower


@function_of
def normal(
    shape: Any,
    mean: Any = 0.0,
    std: Any = 1.0,
    *,
    dtype: Any = None,
    by_row: bool = False,
    stream: Stream | None = None,
) -> Value:
    """Draw normal numbers: mean + std * z, z within 6.4 (float32 and halves) or 8.3 (float64).

    `mean` and `std` are numbers or values, broadcast to the shape. With `by_row`, row i depends on
    `offset` + i of the stream. Raises `DTypeError` unless the dtype is a float.
    """
    kind, sizes = _float("normal", dtype), shape_argument("normal", shape)
    value = _stream(stream).draw(lambda node: RandomNormal(sizes, kind, node, bool(by_row)))
    return moved("normal", value, ("mean", mean), ("std", std))


@function_of
def bernoulli(
    shape: Any, p: Any = 0.5, *, by_row: bool = False, stream: Stream | None = None
) -> Value:
    """Draw bools that are true with probability `p`, to the nearest 2**-32.

    A symbolic `p` is compared with even numbers of its own dtype instead. With `by_row`, row i
    depends on `offset` + i of the stream. Raises `ArgumentError` unless 0 <= p <= 1.
    """
    if isinstance(p, Value):
        even = uniform(shape, dtype=_float("bernoulli", p.dtype), by_row=by_row, stream=stream)
        return F.less(even, p)
    if isinstance(p, bool) or not isinstance(p, int | float | np.number):
        raise ArgumentTypeError(f"bernoulli: p must be a number, got {p!r:.60}.", fix="p=0.5")
    if not 0 <= p <= 1:
        raise ArgumentError(f"bernoulli: p must be from 0 to 1, got {p}.", fix="p=0.5")
    sizes = shape_argument("bernoulli", shape)
    return _stream(stream).draw(lambda node: _coin(sizes, float(p), node, bool(by_row)))


def parameter(name: str, what: str, given: Any, made: Value) -> Value:
    """Give a parameter of a law for the numbers that were made.

    One of another shape is refused: several of its elements would share a draw.
    """
    if isinstance(given, tuple):  # NumPy has the shape last: normal(0, 1, (3,))
        raise ArgumentTypeError(
            f"{name}: {what} must be a number or a value, got {given!r:.60}.",
            fix=f"the shape comes first, {name}((2, 3), ...)",
        )
    value = as_value(given, made.dtype)
    if not value.ndim:
        return value
    try:
        return F.broadcast_to(value, made.shape)
    except ShapeError:
        raise ShapeError(
            f"{name}: {what}, {value.type}, must fit the shape "
            f"({', '.join(map(str, made.shape))}).",
            details=operand_lines([value]),
            fix=f"draw as many: {name}(({', '.join(map(str, value.shape))},), ...)",
        ) from None


def moved(name: str, value: Value, location: tuple[str, Any], scale: tuple[str, Any]) -> Value:
    """Give location + scale * value; both come with what they are called."""
    if not _plain(scale[1], 1):
        value = value * parameter(name, *scale, value)
    return value if _plain(location[1], 0) else value + parameter(name, *location, value)


def _stream(chosen: Stream | None) -> Stream:
    return default_stream() if chosen is None else chosen


def _plain(value: Any, number: int) -> bool:
    return isinstance(value, int | float) and value == number
