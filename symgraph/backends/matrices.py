"""Operands of a product as matrices with rows or columns one after another, and batches of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from symgraph.backends.arrays import Array
from symgraph.dims import less_equal
from symgraph.errors import BackendError
from symgraph.graph.node import Value


def always_sums(value: Value) -> bool:
    """Tell whether no factor of a product or convolution can be empty, unless the result is."""
    first, second = (one.shape for one in value.inputs[:2])
    name = value.op.name
    if name.startswith("matmul"):  # both sides say how much is summed, one may know more
        return any(
            less_equal(1, size) is True for size in (first[-1], second[-min(2, len(second))])
        )
    if name == "conv_weight":
        summed = (*first, *second)
    elif name == "conv_input":
        summed = (*second, *value.shape[1:])
    else:
        summed = (*first[1:], *second[1:])
    return all(less_equal(1, size) is True for size in summed)


class Matrices:
    """An operand as matrices: a batch of them, with the steps from one to the next."""

    def __init__(self, one: Array, batch: tuple[int, ...]) -> None:
        missing = len(batch) - (len(one.dims) - 2)
        own = [0 if d == 1 else s for d, s in zip(one.dims[:-2], one.strides)]
        self.batch, self.steps = list(batch), [0] * missing + own
        self.rows, self.columns = one.dims[-2:]
        self.down, self.along = one.strides[-2:]

    def lies(self, what: str) -> tuple[bool, int]:
        """Tell whether columns, not rows, lie one after another, and how far apart they begin."""
        rows, columns = self.rows, self.columns
        if (columns == 1 or self.along == 1) and (rows == 1 or self.down >= columns):
            return False, columns if rows == 1 else self.down
        if (rows == 1 or self.down == 1) and (columns == 1 or self.along >= rows):
            return True, rows if columns == 1 else self.along
        raise BackendError(
            f"matmul: a library cannot take {what}, {rows} x {columns} with strides"
            f" {self.down} and {self.along}."
        )

    def offsets(self) -> npt.NDArray[np.int64]:
        """Give where each matrix begins."""
        found = np.zeros(1, np.int64)
        for size, step in zip(self.batch, self.steps):
            found = np.add.outer(found, step * np.arange(size, dtype=np.int64)).ravel()
        return found


def fold(x: Matrices, y: Matrices, out: Matrices) -> None:
    """Let a batch that is multiplied by one matrix be the rows of one product."""
    while out.batch:
        size = out.batch[-1]
        goes_on = y.steps[-1] == 0 and all(
            one.steps[-1] >= one.columns if one.rows == 1 else one.steps[-1] == one.rows * one.down
            for one in (x, out)
        )
        if size > 1 and not goes_on:
            return
        for one in (x, y, out):
            step = one.steps.pop()
            one.batch.pop()
            if size > 1 and one is not y:
                one.down = step if one.rows == 1 else one.down
                one.rows *= size
