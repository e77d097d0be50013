"""Operations computed by their `ref`, with an array library, on arrays that lie on a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from symgraph.backends.arrays import Array
from symgraph.graph.dtypes import numpy_dtype
from symgraph.graph.op import Op

Placed = tuple[int, Array]  # where something lies, and what it is
View = Callable[[int, Array, np.dtype[Any]], Any]

QUIET = 0x7FC0  # a NaN of bfloat16


def compute(
    xp: Any, op: Op, operands: Sequence[Placed], results: Sequence[Placed], view: View
) -> None:
    """Compute an operation; `view` gives what lies at an address, as an array of a dtype.

    The library need not know bfloat16: such operands are float32 here, and results are rounded.
    """
    found = op.ref(xp, *(_read(xp, address, one, view) for address, one in operands))
    for (address, one), result in zip(results, found if len(results) > 1 else (found,)):
        if one.empty:
            continue
        if one.dtype == "bfloat16":
            view(address, one, np.dtype(np.uint16))[...] = narrowed(xp, xp.asarray(result))
        else:
            view(address, one, numpy_dtype(one.dtype))[...] = result


def _read(xp: Any, address: int, one: Array, view: View) -> Any:
    half = one.dtype == "bfloat16"
    if one.empty:
        return xp.zeros(one.dims, np.float32 if half else numpy_dtype(one.dtype))
    if half:
        return widened(view(address, one, np.dtype(np.uint16)))
    return view(address, one, numpy_dtype(one.dtype))


def widened(bits: Any) -> Any:
    """Give the float32 of which bfloat16 are the upper bits."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def narrowed(xp: Any, numbers: Any) -> Any:
    """Give the bits of the nearest bfloat16, of two the even one; NaN stays NaN."""
    wide = xp.ascontiguousarray(numbers.astype(np.float32)).reshape(numbers.shape)
    bits = wide.view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = (bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    return xp.where(xp.isnan(wide), np.uint32(QUIET), rounded).astype(np.uint16)
