"""Whole Jacobians and Hessians: a product with each unit vector, all of them in one batch.

Where it is known which elements are zero, unit vectors that touch no row (or column) together are
added up first: the colours of a graph, often only a few (Curtis, Powell and Reid, 1974).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import networkx as nx
import numpy as np

from symgraph.autodiff.forward import jvp
from symgraph.autodiff.reverse import Missing, check_float, values
from symgraph.autodiff.sparsity import depends
from symgraph.dims import Size, product
from symgraph.errors import ArgumentError, ArgumentTypeError, GradError, ShapeError
from symgraph.graph.body import like
from symgraph.graph.dtypes import is_complex
from symgraph.graph.node import Value, operand_lines
from symgraph.graph.registry import F, function_of

Mode = Literal["auto", "forward", "reverse"]
Places = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


@function_of
def jacobian(
    y: Value,
    x: Any,
    mode: Mode = "auto",
    *,
    missing: Missing = "error",
    sparsity: Any = None,
    dense: bool = False,
) -> Any:
    """Give all derivatives of `y` by `x`: an array of shape y.shape + x.shape, one for each `x`.

    Forward mode costs one pass for each element of `x`, reverse mode for each of `y`; "auto" takes
    the cheaper one, reverse mode where sizes are symbols. With `sparsity`, a matrix of bools with a
    row for each element of `y` and a column for each of `x` (NumPy's or SciPy's), elements that are
    False must be zero; the others come as a vector in the order of the pattern, or with `dense` as
    the whole array. sparsity="detect" reads the pattern off the operations; the order is then by
    rows. Raises `GradError` as `grad` does, `ShapeError` for another pattern.

    >>> import symgraph as sg
    >>> x = sg.tensor("x", (2,))
    >>> sg.jacobian(x * x, x).eval(x=[2.0, 3.0]).tolist()
    [[4.0, 0.0], [0.0, 6.0]]
    """
    if mode not in ("auto", "forward", "reverse"):
        raise ArgumentError(f'jacobian: mode must be "auto", "forward" or "reverse", got {mode!r}.')
    (output,) = values("jacobian", "y", y)
    _check_real(output)
    wrt = values("jacobian", "x", x)
    if sparsity is not None:
        if not isinstance(x, Value):
            raise ArgumentTypeError("jacobian: a pattern is for one `x`.", fix="call it for each")
        return _sparse(output, x, _places(sparsity, output, x), mode, missing, dense)
    found = [_dense(output, one, mode, missing) for one in wrt]
    return found[0] if isinstance(x, Value) else found


@function_of
def hessian(loss: Value, x: Any, mode: Literal["forward", "reverse"] = "forward") -> Any:
    """Give all second derivatives of a scalar: an array of shape x.shape + x.shape.

    Several `x` give a list of lists: row i has the derivatives of the gradient by x[i]. It is
    differentiated in forward mode, which keeps nothing. Raises as `grad` does.

    >>> import symgraph as sg
    >>> x = sg.tensor("x", (2,))
    >>> sg.hessian(x[0] * x[1] * x[1], x).eval(x=[2.0, 3.0]).tolist()
    [[0.0, 6.0], [6.0, 4.0]]
    """
    wrt = values("hessian", "x", x)
    firsts: Any = F.grad(loss, wrt)
    found = [[_dense(first, one, mode, "zero") for one in wrt] for first in firsts]
    return found[0][0] if isinstance(x, Value) else found


def _check_real(value: Value) -> None:
    """Raise `GradError` unless a value holds real floats."""
    check_float("jacobian", value)
    if is_complex(value.dtype):
        raise GradError(
            f"jacobian: of complex numbers there are two, by each part; `{value.label}` is "
            f"{value.type}.",
            details=operand_lines([value]),
            fix="take real(x) and imag(x), or products by sg.jvp and sg.vjp",
        )


def _dense(y: Value, x: Value, mode: Mode, missing: Missing) -> Value:
    _check_real(x)
    if mode == "auto":
        known = isinstance(x.size, int) and isinstance(y.size, int)
        mode = "forward" if known and x.size < y.size else "reverse"
    if mode == "reverse":
        rows = _pulled(y, x, _units(y), y.size, missing)
        return F.reshape(rows, (*y.shape, *x.shape))
    columns = _pushed(y, x, _units(x), x.size, missing)
    whole = F.moveaxis(columns, 0, columns.ndim - 1)
    return F.reshape(whole, (*y.shape, *x.shape))


def _units(x: Value) -> Value:
    """Give all unit vectors of a shape, one after the other."""
    return F.reshape(F.eye(x.size, dtype=x.dtype), (x.size, *x.shape))


def _pulled(y: Value, x: Value, cotangents: Value, count: Size, missing: Missing) -> Value:
    seed = like(y.tensor)
    pulled: Any = F.vjp(y, x, seed, missing=missing)
    whole: Any = F.batch([pulled], {seed: cotangents}, count)
    found: Value = whole[0]
    return found


def _pushed(y: Value, x: Value, tangents: Value, count: Size, missing: Missing) -> Value:
    seed = like(x.tensor)
    whole: Any = F.batch([jvp(y, x, seed, missing=missing)], {seed: tangents}, count)
    found: Value = whole[0]
    return found


# -- patterns --------------------------------------------------------------------------------------


def _places(pattern: Any, y: Value, x: Value) -> Places:
    """Give the rows and the columns that may be nonzero, in the order of the pattern."""
    if isinstance(pattern, str) and pattern == "detect":
        pattern = depends(y, x)
    if hasattr(pattern, "tocoo"):
        coordinates = pattern.tocoo()
        shape, found = coordinates.shape, [coordinates.row, coordinates.col]
    else:
        matrix = np.asarray(pattern)
        shape, found = matrix.shape, list(np.nonzero(matrix))
    expected = (y.size, x.size)
    if not all(isinstance(size, int) for size in expected):
        raise ShapeError(
            f"jacobian: a pattern needs sizes that are numbers; `y` has {y.size} elements and `x` "
            f"{x.size}.",
            details=operand_lines([y, x]),
        )
    if tuple(shape) != expected:
        raise ShapeError(
            f"jacobian: the pattern must have shape {expected}, one row for each element of "
            f"`{y.label}` and one column for each of `{x.label}`; it has {tuple(shape)}.",
            details=operand_lines([y, x]),
        )
    rows, columns = (np.asarray(each, np.int64) for each in found)
    return rows, columns


def _sparse(y: Value, x: Value, places: Places, mode: Mode, missing: Missing, dense: bool) -> Value:
    rows, columns = places
    by_column = colours(columns, rows, int(x.size)) if mode != "reverse" else None
    by_row = colours(rows, columns, int(y.size)) if mode != "forward" else None
    if by_row is None or (by_column is not None and _count(by_column) <= _count(by_row)):
        assert by_column is not None  # at least one of the two is there
        packed = _pushed(y, x, _seeds(by_column, x), _count(by_column), missing)
        found = _picked(packed, by_column[columns], rows)
    else:
        packed = _pulled(y, x, _seeds(by_row, y), _count(by_row), missing)
        found = _picked(packed, by_row[rows], columns)
    if not dense:
        return found
    flat = F.scatter_add((y.size * x.size,), rows * int(x.size) + columns, found)
    return F.reshape(flat, (*y.shape, *x.shape))


def colours(
    lines: Iterable[int], across: Iterable[int], count: int
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Give each of `count` lines a colour; lines of one colour never cross the same other line.

    Entry i of a sparse matrix stands where line lines[i] crosses across[i].

    >>> colours([0, 0, 1, 2], [0, 1, 1, 2], 3).tolist()
    [0, 1, 0]
    """
    crossing: dict[int, list[int]] = {}
    for line, other in zip(lines, across):
        crossing.setdefault(int(other), []).append(int(line))
    conflicts = nx.Graph()
    conflicts.add_nodes_from(range(count))
    for together in crossing.values():
        first = dict.fromkeys(together)
        conflicts.add_edges_from((a, b) for a in first for b in first if a < b)
    chosen = nx.greedy_color(conflicts, strategy="largest_first")
    return np.array([chosen[line] for line in range(count)], np.int64).reshape(count)


def _count(chosen: np.ndarray[Any, Any]) -> int:
    return int(chosen.max(initial=-1)) + 1


def _seeds(chosen: np.ndarray[Any, Any], x: Value) -> Value:
    """Give for each colour the sum of the unit vectors that have it."""
    table = chosen == np.arange(_count(chosen))[:, None]
    return F.reshape(F.cast(F.constant(table), x.dtype), (len(table), *x.shape))


def _picked(packed: Value, colour: np.ndarray[Any, Any], place: np.ndarray[Any, Any]) -> Value:
    """Take the entries out of the sums: entry i stands in row colour[i] at place[i]."""
    flat = F.reshape(packed, (packed.shape[0], product(packed.shape[1:])))
    return F.gather(flat, (colour, place))
