"""Convolutions as graphs of cuDNN: forward with or without a bias, by the input, by the filters.

Arrays are told by strides, so that any layout may be asked for; with the channels innermost there
are the fastest engines. A convolution along one axis is one along two, the first of size one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from symgraph.backends.arrays import Array, Arrays
from symgraph.backends.cuda.cudnn.library import Cudnn
from symgraph.backends.matrices import always_sums
from symgraph.dims import less_equal
from symgraph.errors import BackendError
from symgraph.graph.dtypes import itemsize
from symgraph.graph.node import Value
from symgraph.graph.op import Op
from symgraph.lower.program import Operand

ALIGNED = 16  # bytes: what the frontend tells cuDNN of every address
TYPES = {"float32": "FLOAT", "float16": "HALF", "bfloat16": "BFLOAT16"}


class Convolutions:
    """Convolutions on one device, or planned for one."""

    def __init__(self, library: Cudnn) -> None:
        self.library = library

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
        """Plan a convolution. Raises `BackendError` where cuDNN has no engine."""
        if alignment % ALIGNED:
            raise BackendError(f"{op.name}: an operand does not begin where {ALIGNED} bytes do.")
        return Convolution(self.library, op, arrays, result, tf32)


class Convolution:
    """One convolution with its plan."""

    def __init__(self, library: Cudnn, op: Any, arrays: Arrays, result: Array, tf32: bool) -> None:
        self._library, self._op = library, op
        self._cudnn = library.module
        self._rank = max(2, len(result.dims) - 2)
        self._graph = library.graph()
        operands = [self._tensor(one, f"x{place}") for place, one in enumerate(arrays)]
        out = BUILD[op.name](self, *operands)
        dims, strides = _spatial(result, self._rank)
        out.set_output(True).set_dim(dims).set_stride(strides)
        out.set_data_type(self._type(result.dtype))
        self._ids = [one.get_uid() for one in operands]
        exact = arrays[0].dtype == "float32" and not tf32
        self.implementation = self._plan(exact)
        self._ids.append(out.get_uid())
        self.workspace = int(self._graph.get_workspace_size())

    def _type(self, dtype: str) -> Any:
        return getattr(self._cudnn.data_type, TYPES[dtype])

    def _tensor(self, one: Array, name: str) -> Any:
        dims, strides = _spatial(one, self._rank)
        return self._graph.tensor(
            name=name, dim=dims, stride=strides, data_type=self._type(one.dtype)
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

    def forward_bias(self, x: Any, w: Any, b: Any) -> Any:
        """Add the convolution and its bias to the graph."""
        return self._graph.bias(input=self.forward(x, w), bias=b)

    def by_input(self, g: Any, w: Any) -> Any:
        """Add the gradient by the input to the graph."""
        return self._graph.conv_dgrad(loss=g, filter=w, **self._window)

    def by_filters(self, x: Any, g: Any) -> Any:
        """Add the gradient by the filters to the graph."""
        return self._graph.conv_wgrad(image=x, loss=g, **self._window)

    def _plan(self, exact: bool) -> str:
        """Take the engine that cuDNN thinks is fastest, of those that are wanted; give its name.

        Engines that add in any order, so that bits change from run to run, are not.
        """
        cudnn, graph = self._cudnn, self._graph
        unsupported = cudnn.cudnnGraphNotSupportedError
        try:
            graph.validate()
            graph.build_operation_graph()
            graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
            notes = cudnn.numerical_note
            strict = [notes.TENSOR_CORE, notes.DOWN_CONVERT_INPUTS] if exact else []
            graph.deselect_numeric_notes([notes.NONDETERMINISTIC, *strict])
            graph.check_support()
        except (unsupported, RuntimeError) as problem:
            raise self._refused(problem) from problem
        last: Exception | None = None
        for index in range(graph.get_execution_plan_count()):
            try:
                graph.build_plan_at_index(index)  # which selects it, too
            except unsupported as problem:  # unwanted, or not for these layouts
                last = problem
                continue
            return f"cuDNN {graph.get_plan_name_at_index(index)}"
        raise self._refused(last)

    def _refused(self, problem: Exception | None) -> BackendError:
        return BackendError(
            f"{self._op.name}: cuDNN has no engine for this convolution.",
            details=str(problem or "").splitlines()[:1],
            fix='compile with backend="cpu", and please report the sizes',
        )

    def run(self, addresses: Sequence[int], workspace: int) -> None:
        """Queue it for operands and the result."""
        given = dict(zip(self._ids, addresses, strict=True))
        self._graph.execute(given, workspace, handle=self._library.handle)


BUILD: dict[str, Callable[..., Any]] = {
    "conv": Convolution.forward,
    "conv_bias": Convolution.forward_bias,
    "conv_input": Convolution.by_input,
    "conv_weight": Convolution.by_filters,
}


def _spatial(one: Array, rank: int) -> tuple[list[int], list[int]]:
    """Give dims and strides with two or three spatial axes; a bias lies along the channels."""
    dims, strides = list(one.dims), list(one.strides)
    if len(dims) == 1:
        whole = dims[0] * strides[0]
        return [1, dims[0], *[1] * rank], [whole, strides[0], *[whole] * rank]
    if len(dims) == 3:
        dims.insert(2, 1)
        strides.insert(2, dims[3] * strides[2])
    return dims, strides
