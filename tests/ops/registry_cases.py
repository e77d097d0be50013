"""What the generated tests of operations run on: every sample and error case of the registries.

An operation that some check leaves out stands in one of the tables here, with its reason; nothing
is left out anywhere else.
"""

from __future__ import annotations

import importlib
import pkgutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import symgraph.ops
from symgraph.dims import Dim, Guard, dim, evaluate
from symgraph.graph.dtypes import has_gradient, is_complex, is_float, numpy_dtype
from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import tensor
from symgraph.graph.measured import measured_sizes
from symgraph.graph.node import Value
from symgraph.graph.op import Op
from symgraph.graph.registry import COMPOSITES, OPS
from symgraph.graph.samples import Bad, Sample
from symgraph.graph.types import TensorType, TupleType
from symgraph.graph.walk import topological
from tests.tolerances import class_of, is_floating

Array = Any
FLOATS = ("float32", "float64", "float16", "bfloat16")

# -- what is left out, and why ---------------------------------------------------------------------

# operations without samples of their own: the structure of graphs
STRUCTURE: Mapping[str, str] = {
    "input": "a leaf: what it is, is fed",
    "constant": "a leaf: its numbers are its attribute",
    "shared": "a leaf: its numbers live outside the graph",
    "size_of": "a leaf: a size as a number; tests/graph",
    "item": "one result of another operation, tested with it",
    "batched": "another operation for many lanes; test_registry_transforms.py",
    "batched_host": "another operation, lane after lane; test_registry_transforms.py",
    "call": "a graph with rules of its own; tests/autodiff/test_custom.py",
    "attach": "updates attached to a value; tests/graph and tests of functions",
}

# operations of floats whose gradient is not checked against differences
NO_DIFFERENCES: Mapping[str, str] = {
    "stop_gradient": "its gradient is None by definition, its differences are 1",
    "cast": "between dtypes, rounding hides differences; tests/ops/test_elementwise.py",
    "clip_gradient": "its gradient is not its derivative; tests/autodiff/test_custom.py",
    "scale_gradient": "its gradient is not its derivative; tests/autodiff/test_custom.py",
    "reverse_gradient": "its gradient is not its derivative; tests/autodiff/test_custom.py",
    "gammainc": "by its first operand it has one of first order; tests/ops/test_special.py",
    "gammaincc": "by its first operand it has one of first order; tests/ops/test_special.py",
    "gammainc_slope": "by its first operand it has none; tests/ops/test_special.py",
    "portable": "parts of random numbers, without a gradient",
    "random_law": "random numbers do not depend on a float operand",
    "random_truncated": "random numbers do not depend on a float operand",
    "random_uniform": "random numbers do not depend on a float operand",
    "random_normal": "random numbers do not depend on a float operand",
    "random_bernoulli": "random numbers do not depend on a float operand",
}

# operations that need no sample with a named size
NO_SYMBOLIC_SIZE: Mapping[str, str] = {}

# dtypes that an operation refuses
REFUSED_DTYPES: Mapping[tuple[str, str], str] = {}

# operations whose meaning is not given by other operations or an index expression
NO_EXPANSION: Mapping[str, str] = {
    "loop": "runs a graph inside it again and again",
    "branch": "runs one of the graphs inside it",
    **{name: "its `ref` computes it" for name, op in OPS.items() if op.host and op.samples},
}

# operations that are in no file
NOT_SAVED: Mapping[str, str] = {"tap": "a Python function is its attribute"}

# operations whose errors of shape or dtype are about arguments, not about operands with a line
ABOUT_ARGUMENTS: Mapping[str, str] = {
    "zeros": "takes sizes, no tensors",
    "ones": "takes sizes, no tensors",
    "full": "takes sizes and a number",
    "empty": "takes sizes, no tensors",
    "linspace": "takes numbers and a size",
}


# -- loading ---------------------------------------------------------------------------------------


def _import(names: Sequence[str]) -> dict[str, str]:
    """Import modules and give the errors of those that cannot be: their own test fails, not all."""
    broken = {}
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as problem:  # noqa: BLE001 - reported by test_everything_imports
            broken[name] = f"{type(problem).__name__}: {problem}"
    return broken


_OPS = [f"symgraph.ops.{info.name}" for info in pkgutil.iter_modules(symgraph.ops.__path__)]
_ORACLES = [f"tests.ops.{path.stem}" for path in sorted(Path(__file__).parent.glob("oracle_*.py"))]
MODULES = [*_OPS, "symgraph.autodiff.reverse", *_ORACLES]
BROKEN = _import(MODULES)


def _oracles() -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {}
    for name in _ORACLES:
        if name not in BROKEN:
            found.update(importlib.import_module(name).ORACLES)
    return found


ORACLES = _oracles()


# -- cases -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One sample of one operation or composite."""

    name: str
    label: str
    sample: Sample
    composite: bool

    @property
    def id(self) -> str:
        """How pytest calls it: `conv:stride2`."""
        return f"{self.name}:{self.label}"

    @property
    def seed(self) -> int:
        """The seed of its random numbers, the same in every run."""
        return zlib.crc32(self.id.encode())

    @property
    def float_operands(self) -> tuple[int, ...]:
        """The operands that are floats, real or complex."""
        return tuple(i for i, each in enumerate(self.sample.args) if has_gradient(each.dtype))

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes that its floats may take; complex numbers have no halves."""
        real = any(is_float(each.dtype) for each in self.sample.args)
        return FLOATS if real else ("float32", "float64")

    @property
    def kind(self) -> str:
        """How near it must come: exact operations on the parts of complex numbers are not exact."""
        kind = class_of(self.name)
        complexes = any(is_complex(each.dtype) for each in self.sample.args)
        return "elementwise" if kind == "exact" and complexes else kind

    @property
    def checked(self) -> tuple[int, ...]:
        """The operands whose gradient is checked."""
        chosen = self.sample.gradient
        return self.float_operands if chosen is None else tuple(chosen)

    @property
    def oracle(self) -> Callable[..., Any] | None:
        """What this sample is held against."""
        return ORACLES.get(f"{self.name}:{self.sample.label}") or ORACLES.get(self.name)


def _cases(name: str, samples: Sequence[Sample], composite: bool) -> Iterator[Case]:
    taken: set[str] = set()
    for number, each in enumerate(samples):
        label = each.label.replace(" ", "_") or str(number)
        if label in taken:
            label = f"{label}.{number}"
        taken.add(label)
        yield Case(name, label, each, composite)


NAMES: Mapping[str, tuple[tuple[Sample, ...], tuple[Bad, ...]]] = {
    **{
        name: (tuple(kind.samples), tuple(kind.bad))
        for name, kind in OPS.items()
        if name not in STRUCTURE and kind.__module__.startswith("symgraph.")
    },
    **{name: parts for name, parts in COMPOSITES.items() if name not in OPS},
}
# what kernels compute; the rest is a graph of its own, or its `ref`
KERNEL_NAMES = tuple(name for name in NAMES if name not in NO_EXPANSION)
CASES = [
    case for name, (samples, _) in NAMES.items() for case in _cases(name, samples, name not in OPS)
]
BAD = [
    (name, f"{name}:bad{number}", bad)
    for name, (_, cases) in NAMES.items()
    for number, bad in enumerate(cases)
]


# -- the daily slice -------------------------------------------------------------------------------


def chosen(cases: Sequence[Case], check: str) -> set[str]:
    """Give the names of the samples that stand for their operation every day in a costly check.

    One of each operation, chosen by its name and the check's, so that checks meet different ones;
    the others are for `-m full`.
    """
    ranked = sorted(cases, key=lambda case: zlib.crc32(f"{case.id}:{check}".encode()))
    return set({case.name: case.id for case in ranked}.values())


# -- building and running --------------------------------------------------------------------------


@dataclass
class Built:
    """A sample as a graph with arrays for its inputs."""

    case: Case
    inputs: list[Value]
    outputs: list[Value]
    arrays: list[Array]
    env: dict[Dim, int]
    seen: dict[Value, Any] = field(default_factory=dict)

    @property
    def feeds(self) -> dict[Value, Array]:
        """The arrays by input."""
        return dict(zip(self.inputs, self.arrays))

    def run(self) -> dict[Value, Any]:
        """Compute everything, check it against the inferred types, and give each node's array."""
        self.check_guards()
        if not self.seen:
            before = [array.tobytes() for array in self.arrays]
            watch_into(self.seen, self.outputs, self.feeds, self.env)
            self.check_guards()  # and those of sizes that data decide
            after = [array.tobytes() for array in self.arrays]
            assert before == after, f"{self.case.id} writes into an operand"
        return self.seen

    def check_guards(self) -> None:
        """Raise `GuardError` where the numbers of the sizes do not fit."""
        for node in topological(self.outputs):
            for guard in node.guards:
                if guard.free() <= self.env.keys() or not decided(guard):
                    guard.check(self.env)

    def nodes(self) -> list[Value]:
        """The nodes of the operation under test."""
        return [node for node in topological(self.outputs) if node.op.name == self.case.name]


def decided(guard: Guard) -> bool:
    """Tell whether a guard is about sizes that data decide."""
    return any(size.source is not None for size in guard.free())


def watch_into(
    seen: dict[Value, Any],
    outputs: Sequence[Value],
    feeds: Mapping[Value, Array],
    env: dict[Dim, int],
) -> list[Array]:
    """Interpret, keep the array of every node, and check it against the inferred type.

    Sizes that data decide are put into `env`.
    """

    def watch(node: Value, array: Any) -> None:
        check_type(node, array, env)
        seen[node] = array

    return interpret(outputs, feeds, env, watch=watch, bound=env.__setitem__)


def check_type(node: Value, result: Any, env: Mapping[Dim, int]) -> None:
    """Fail unless a result has the dtype and shape that were inferred."""
    if isinstance(node.type, TupleType):
        assert isinstance(result, tuple), f"{node.op}: several results are a tuple of arrays"
        assert len(result) == len(node.type.types), f"{node.op}: gives {len(result)} results"
        pairs = list(zip(node.type.types, result))
    else:
        pairs = [(node.type, result)]
    for type, array in pairs:
        assert isinstance(array, np.ndarray | np.generic), f"{node.op}: gives {array!r:.60}"
        found = (str(array.dtype), array.shape)
        assert found == (type.dtype, shape_of(type, env)), (
            f"{node.op}: infers {type}, gives {found}"
        )


def shape_of(type: TensorType, env: Mapping[Dim, int]) -> tuple[int, ...]:
    """Give the shape of a type for sizes."""
    return tuple(size if isinstance(size, int) else evaluate(size, env) for size in type.shape)


def build(
    case: Case,
    dtype: str | None = None,
    symbolic: bool = True,
    other_sizes: Mapping[str, int] | None = None,
) -> Built:
    """Build a sample, with named sizes as symbols or as numbers; `dtype` replaces float dtypes.

    `env` also has the numbers of sizes that the data decide.
    """
    sizes = {**case.sample.sizes, **(other_sizes or {})}
    # a size that the sample runs at 0 must be allowed to be 0
    named: dict[str, Any] = {
        name: dim(name if number else f"{name}_or_0", min=1 if number else 0)
        if symbolic
        else number
        for name, number in sizes.items()
    }
    env = {named[name]: number for name, number in sizes.items()} if symbolic else {}
    inputs = declare(case.sample.args, named, dtype)
    rng = np.random.default_rng(case.seed)
    arrays = [each.draw(rng, sizes, dtype) for each in case.sample.args]
    built = Built(case, inputs, as_list(case.sample.call(*inputs)), arrays, env)
    if measured_sizes(built.outputs):
        built.run()  # then the data have decided
    return built


def declare(args: Sequence[Any], sizes: Mapping[str, Any], dtype: str | None = None) -> list[Value]:
    """Make an input for each operand of a sample."""
    made = []
    for number, each in enumerate(args):
        shape = [sizes[size] if isinstance(size, str) else size for size in each.shape]
        made.append(tensor(f"x{number}", shape, each.other(dtype)))
    return made


def as_list(found: Any) -> list[Value]:
    """Make one or several values a list."""
    return [found] if isinstance(found, Value) else list(found)


def widened(arrays: Sequence[Any]) -> list[Any]:
    """Give floats as float64 and complex numbers as complex128, for oracles."""
    return [
        array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
        if is_floating(array.dtype)
        else np.asarray(array)
        for array in arrays
    ]


def results(found: Any) -> list[Any]:
    """Make one or several arrays a list."""
    return list(found) if isinstance(found, tuple | list) else [found]


@cache
def instances(name: str) -> list[tuple[Op, Value]]:
    """Give each different operation that the samples of a name build, with one node of it."""
    found: dict[Op, Value] = {}
    for case in CASES:
        if case.name == name:
            for node in build(case).nodes():
                found.setdefault(node.op, node)
    return list(found.items())


def random_like(rng: np.random.Generator, type: TensorType, env: Mapping[Dim, int]) -> Array:
    """Draw a float array of a type, away from 0."""
    shape = shape_of(type, env)
    signs = rng.choice([-1.0, 1.0], shape)
    found = np.asarray(signs * rng.uniform(0.5, 1.0, shape))
    if is_complex(type.dtype):
        found = found * np.exp(1j * rng.uniform(-1.0, 1.0, shape))
    return np.asarray(found).astype(numpy_dtype(type.dtype))
