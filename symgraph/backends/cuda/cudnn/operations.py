"""Convolutions as graphs of cuDNN: forward, by the input, by the filters.

A bias is not given to cuDNN: with one, and float16 or bfloat16, its engines gave wrong sums on an
H200 (cuDNN 9.19), and were slower; the kernel that reads the result adds it.

Arrays are told by strides, so that any layout may be asked for; with the channels innermost there
are the fastest engines. A convolution along one axis is one along two, the first of size one.

Nothing is planned before it is asked for: a plan that is read back needs no other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from symgraph.backends.arrays import Array, Arrays
from symgraph.backends.cuda.cudnn.kept import Kept, written
from symgraph.backends.cuda.cudnn.library import FIRST, Cudnn
from symgraph.backends.matrices import always_sums
from symgraph.dims import less_equal
from symgraph.errors import BackendError
from symgraph.graph.dtypes import itemsize
from symgraph.graph.node import Value
from symgraph.graph.op import Op
from symgraph.lower.program import Operand

ALIGNED = 16  # bytes: what the frontend tells cuDNN of every address
MOST_PLANS = 6  # that are measured; the fastest was among them in a trial of AlexNet's convolutions
MOST_GROUPS = 4  # that may be computed one by one
APART = ", group by group"  # ends the names of plans for one group
TYPES = {"float32": "FLOAT", "float16": "HALF", "bfloat16": "BFLOAT16"}

_log = logging.getLogger("symgraph")


class Convolutions:
    """Convolutions on one device, or planned for one."""

    def __init__(self, library: Cudnn) -> None:
        self.library = library

    @property
    def version(self) -> str:
        """The library and its version."""
        return f"cuDNN {self.library.module.backend_version()}"

    def takes(self, value: Value) -> bool:
        """Take one to three spatial axes of the floats that cuDNN has."""
        types = [one.tensor for one in (*value.inputs, value)]
        if any(one.dtype not in TYPES for one in types) or value.ndim not in (3, 4, 5):
            return False
        return types[0].dtype == types[1].dtype == value.dtype and always_sums(value)

    def reads(self, value: Value, view: Operand) -> bool:
        """Read what lies forwards, nothing repeated, and begins where 16 bytes do."""
        start = view.offset
        if not isinstance(start, int) or start * itemsize(view.buffer.dtype) % ALIGNED:
            return False
        return all(less_equal(1, step) is True for step in view.strides)

    def prepare(
        self, op: Op, arrays: Arrays, result: Array, alignment: int, tf32: bool
    ) -> Convolution:
        """Give a convolution; where cuDNN has no engine for it, asking for one is an error."""
        if alignment % ALIGNED:
            raise BackendError(f"{op.name}: an operand does not begin where {ALIGNED} bytes do.")
        return Convolution(self.library, op, arrays, result, tf32)


class Convolution:
    """One convolution, by one of the ways that cuDNN has for it."""

    def __init__(self, library: Cudnn, op: Any, arrays: Arrays, result: Array, tf32: bool) -> None:
        self.key = f"{op} of {arrays} as {result}{', tf32' if tf32 else ''}"
        whole = arrays, result, [tuple(0 for _ in (*arrays, result))]
        group = _group(op, arrays, result)
        self._pieces = [whole] if group is None else [whole, group]
        self._asked = library, op, tf32
        self._graphs: list[Planned] = []
        self._way: tuple[int, int] | None = None  # which graph and plan; None: its first
        self._kept: Kept | None = None  # what runs instead

    def _graph(self, number: int) -> Planned:
        library, op, tf32 = self._asked
        while len(self._graphs) <= number:
            arrays, result, _ = self._pieces[len(self._graphs)]
            self._graphs.append(Planned(library, op, arrays, result, tf32))
        return self._graphs[number]

    @property
    def implementation(self) -> str:
        """The name of the plan that runs."""
        return self._kept.name if self._kept is not None else self._named(*self._chosen())

    @property
    def workspace(self) -> int:
        """The bytes that the plan needs while it runs."""
        if self._kept is not None:
            return self._kept.workspace
        graph, plan = self._chosen()
        return self._graph(graph).workspace(plan)

    def _chosen(self) -> tuple[int, int]:
        """Give the graph and the plan that run."""
        if self._way is None:
            self._way = 0, self._graph(0).first
        return self._way

    def _named(self, graph: int, plan: int) -> str:
        return f"cuDNN {self._graph(graph).plan_name(plan)}{APART if graph else ''}"

    def alternatives(self) -> list[str]:
        """Name the plans that cuDNN thinks are fastest, of groups one by one, too."""
        return [self._named(*way) for way in self._ways()]

    def choose(self, name: str) -> bool:
        """Take one of them from now on; False if there is none of that name.

        No other is built: engines that cuDNN compiles while it runs take most of a second each.
        """
        for number, graph in self._had():
            for plan in range(graph.count):
                if self._named(number, plan) == name and graph.builds(plan):
                    self._way, self._kept = (number, plan), None
                    return True
        return False

    def saved(self) -> bytes:
        """Give the plan that runs as bytes; none where they cannot be read back."""
        if self._kept is not None:
            return self._kept.saved
        graph, plan = self._chosen()
        name, saved = self._named(graph, plan), self._graph(graph).written(plan)
        return saved if self._read(name, saved) is not None else b""

    def restore(self, name: str, saved: bytes) -> bool:
        """Take a plan that was saved from now on, without planning; False if it is none for us."""
        if name.endswith(APART) and len(self._pieces) == 1:
            return False
        kept = self._read(name, saved)
        self._kept = kept or self._kept
        return kept is not None

    def _read(self, name: str, saved: bytes) -> Kept | None:
        """Read a plan back. Where that fails it is built as ever: another version may have come."""
        try:
            return Kept(self._asked[0], name, saved)
        except BackendError as problem:
            _log.debug("%s: %s", self.key, " ".join(str(problem).split()))
            return None

    def _ways(self) -> Iterator[tuple[int, int]]:
        for number, graph in self._had():
            yield from ((number, plan) for plan in graph.built(MOST_PLANS))

    def _had(self) -> Iterator[tuple[int, Planned]]:
        """Give the graphs that cuDNN has engines for: of the whole, and of one group."""
        yield 0, self._graph(0)
        if len(self._pieces) > 1:
            try:
                one = self._graph(1)
            except BackendError:  # a group alone is nothing that cuDNN has
                del self._pieces[1:]
                return
            yield 1, one

    def run(self, addresses: Sequence[int], workspace: int) -> None:
        """Queue it for operands and the result."""
        kept = self._kept
        try:
            self._queue(addresses, workspace)
        except BackendError as problem:
            if kept is None or not self._rebuilt(kept):
                raise
            _log.warning("%s It is built anew.", " ".join(str(problem).split()))
            self._queue(addresses, workspace)

    def _rebuilt(self, kept: Kept) -> bool:
        """Build the plan that was read back; False if it needs more memory than there is for it."""
        if self.choose(kept.name) and self.workspace <= kept.workspace:
            return True
        self._kept = kept
        return False

    def _queue(self, addresses: Sequence[int], workspace: int) -> None:
        kept = self._kept
        if kept is not None:
            for places in self._places(int(kept.name.endswith(APART)), addresses):
                kept.run(places, workspace)
            return
        graph, plan = self._chosen()
        for places in self._places(graph, addresses):
            self._graph(graph).run(places, workspace, plan)

    def _places(self, graph: int, addresses: Sequence[int]) -> Iterator[list[int]]:
        """Give the addresses of each run of a graph."""
        for offsets in self._pieces[graph][2]:
            yield [at + offset for at, offset in zip(addresses, offsets, strict=True)]


class Planned:
    """A convolution as a graph of cuDNN, with the plans that it has for it."""

    def __init__(self, library: Cudnn, op: Any, arrays: Arrays, result: Array, tf32: bool) -> None:
        self._library, self._op = library, op
        self._cudnn = library.module
        self._rank = max(2, len(result.dims) - 2)
        self._graph = library.graph()
        operands = [self._tensor(one, place) for place, one in enumerate(arrays, FIRST)]
        out = BUILD[op.name](self, *operands)
        dims, strides = _spatial(result, self._rank)
        out.set_output(True).set_dim(dims).set_stride(strides)
        out.set_data_type(self._type(result.dtype)).set_uid(FIRST + len(arrays))
        self._known: dict[int, bool] = {}  # plans that were tried, and whether they are any good
        self._last: Exception | None = None
        self._plan(exact=arrays[0].dtype == "float32" and not tf32)
        found = self.built(1)
        if not found:
            raise self._refused(self._last)
        (self.first,) = found

    def _type(self, dtype: str) -> Any:
        return getattr(self._cudnn.data_type, TYPES[dtype])

    def _tensor(self, one: Array, number: int) -> Any:
        dims, strides = _spatial(one, self._rank)
        return self._graph.tensor(
            name=f"x{number}", dim=dims, stride=strides, data_type=self._type(one.dtype), uid=number
        )

    @property
    def _window(self) -> dict[str, list[int]]:
        """The attributes of a convolution, under cuDNN's names."""
        op, more = self._op, max(0, 2 - len(self._op.stride))
        return {
            "pre_padding": [0] * more + [low for low, _ in op.padding],
            "post_padding": [0] * more + [high for _, high in op.padding],
            "stride": [1] * more + list(op.stride),
            "dilation": [1] * more + list(op.dilation),
        }

    def forward(self, x: Any, w: Any) -> Any:
        """Add the convolution to the graph."""
        return self._graph.conv_fprop(image=x, weight=w, **self._window)

    def by_input(self, g: Any, w: Any) -> Any:
        """Add the gradient by the input to the graph."""
        return self._graph.conv_dgrad(loss=g, filter=w, **self._window)

    def by_filters(self, x: Any, g: Any) -> Any:
        """Add the gradient by the filters to the graph."""
        return self._graph.conv_wgrad(image=x, loss=g, **self._window)

    def _plan(self, exact: bool) -> None:
        """Ask for engines, the likely fastest first, of those that are wanted.

        Engines that add in any order, so that bits change from run to run, are not.
        """
        cudnn, graph = self._cudnn, self._graph
        try:
            graph.validate()
            graph.build_operation_graph()
            graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
            notes = cudnn.numerical_note
            strict = [notes.TENSOR_CORE, notes.DOWN_CONVERT_INPUTS] if exact else []
            graph.deselect_numeric_notes([notes.NONDETERMINISTIC, *strict])
            graph.check_support()
        except (cudnn.cudnnGraphNotSupportedError, RuntimeError) as problem:
            raise self._refused(problem) from problem

    def built(self, most: int) -> list[int]:
        """Give the first plans that can be had, as many as that at most."""
        return list(islice(filter(self.builds, range(self.count)), most))

    @property
    def count(self) -> int:
        """How many plans cuDNN thinks of."""
        return int(self._graph.get_execution_plan_count())

    def builds(self, plan: int) -> bool:
        """Build a plan, if that can be done."""
        if plan not in self._known:
            try:
                self._graph.build_plan_at_index(plan)
                self._known[plan] = True
            except self._cudnn.cudnnGraphNotSupportedError as problem:
                self._known[plan], self._last = False, problem  # or not for these layouts
        return self._known[plan]

    def plan_name(self, plan: int) -> str:
        """Give cuDNN's name of a plan: the engine, and how it is set."""
        return str(self._graph.get_plan_name_at_index(plan))

    def workspace(self, plan: int) -> int:
        """Give the bytes that a plan needs while it runs."""
        return int(self._graph.get_workspace_size_plan_at_index(plan))

    def written(self, plan: int) -> bytes:
        """Give a plan that has been built as bytes."""
        return written(self._library, self._graph, plan)

    def _refused(self, problem: Exception | None) -> BackendError:
        return BackendError(
            f"{self._op.name}: cuDNN has no engine for this convolution.",
            details=str(problem or "").splitlines()[:1],
            fix='compile with backend="cpu", and please report the sizes',
        )

    def run(self, addresses: Sequence[int], workspace: int, plan: int) -> None:
        """Queue a plan for operands and the result."""
        given = dict(enumerate(addresses, FIRST))
        try:
            self._graph.execute_plan_at_index(given, workspace, plan, handle=self._library.handle)
        except RuntimeError as problem:
            raise BackendError(
                f"{self._op.name}: cuDNN could not run {self.plan_name(plan)}.",
                details=str(problem).splitlines()[:1],
            ) from problem


BUILD: dict[str, Callable[..., Any]] = {
    "conv": Planned.forward,
    "conv_input": Planned.by_input,
    "conv_weight": Planned.by_filters,
}


def _group(
    op: Op, arrays: Arrays, result: Array
) -> tuple[Arrays, Array, list[tuple[int, ...]]] | None:
    """Give the operands and the result of one group, and the bytes to where each group begins.

    None where there is one, or many, or where they do not begin where cuDNN reads.
    """
    whole = (*arrays, result)
    filters = {"conv_input": 1, "conv_weight": 2}.get(op.name, 1)  # which of them
    images = whole[2 if op.name == "conv_input" else 0]
    count = images.dims[1] // whole[filters].dims[1]
    if not 1 < count <= MOST_GROUPS:
        return None
    pieces, steps = [], []
    for place, one in enumerate(whole):
        axis = 0 if place == filters else 1
        size = one.dims[axis] // count
        dims = (*one.dims[:axis], size, *one.dims[axis + 1 :])
        pieces.append(Array(dims, one.dtype, one.strides))
        steps.append(size * one.strides[axis] * itemsize(one.dtype))
    if any(step % ALIGNED for step in steps):
        return None
    offsets = [tuple(step * group for step in steps) for group in range(count)]
    return tuple(pieces[:-1]), pieces[-1], offsets


def _spatial(one: Array, rank: int) -> tuple[list[int], list[int]]:
    """Give dims and strides with two or three spatial axes."""
    dims, strides = list(one.dims), list(one.strides)
    if len(dims) == 3:
        dims.insert(2, 1)
        strides.insert(2, dims[3] * strides[2])
    return dims, strides
