"""Recurrent layers: the same step on each row of a sequence, compiled as one loop.

Equations and the order of gates are PyTorch's, so that weights can be carried over; matrices are
(inputs, outputs) here as in `Dense`, the transpose of PyTorch's.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from symgraph.dims import dim, equal
from symgraph.errors import ArgumentError, ShapeError
from symgraph.graph.arguments import counts
from symgraph.graph.leaves import as_value, tensor
from symgraph.graph.node import Value, operand_lines
from symgraph.graph.registry import F
from symgraph.graph.types import Shape
from symgraph.nn import init
from symgraph.nn.activation import Dropout
from symgraph.nn.module import Module

States = tuple[Value, ...]


class _Cell(Module, ABC):
    """One step of one layer: a row (B, inputs) and states (B, hidden) -> the next states.

    The first state is the output. The products of rows by `input_weight` do not wait for the step
    before: the pass `loops` makes one large product of them, before the loop.
    """

    GATES: ClassVar[int] = 1
    STATES: ClassVar[int] = 1

    def __init__(self, inputs: int, hidden: int, bias: bool) -> None:
        # As PyTorch draws them; a row of each matrix meets every gate.
        draw = init.uniform(-1 / math.sqrt(hidden), 1 / math.sqrt(hidden))
        wide = self.GATES * hidden
        self.input_weight = self.parameter("input_weight", (inputs, wide), draw)
        self.state_weight = self.parameter("state_weight", (hidden, wide), draw)
        self.input_bias = self.parameter("input_bias", (wide,), draw) if bias else None
        self.state_bias = self.parameter("state_bias", (wide,), draw) if bias else None

    def _from_input(self, x: Value) -> Value:
        product = x @ self.input_weight
        return product if self.input_bias is None else product + self.input_bias

    def _from_state(self, hidden: Value) -> Value:
        product = hidden @ self.state_weight
        return product if self.state_bias is None else product + self.state_bias

    def _gates(self, value: Value) -> list[Value]:
        """Cut (B, gates hidden) into its gates."""
        hidden = int(self.state_weight.shape[0])
        return [value[:, n * hidden : (n + 1) * hidden] for n in range(self.GATES)]

    @abstractmethod
    def step(self, x: Value, states: States) -> States:
        """Give the states after a row."""


class _RNNCell(_Cell):
    activation = "tanh"

    def step(self, x: Value, states: States) -> States:
        """h' = f(x W + b + h V + c)."""
        function = getattr(F, self.activation)
        return (function(self._from_input(x) + self._from_state(states[0])),)


class _LSTMCell(_Cell):
    GATES = 4
    STATES = 2

    def step(self, x: Value, states: States) -> States:
        """Give the new output and the new memory."""
        hidden, memory = states
        gates = self._gates(self._from_input(x) + self._from_state(hidden))
        enter, keep, candidate, show = gates
        memory = F.sigmoid(keep) * memory + F.sigmoid(enter) * F.tanh(candidate)
        return F.sigmoid(show) * F.tanh(memory), memory


class _GRUCell(_Cell):
    GATES = 3

    def step(self, x: Value, states: States) -> States:
        """Give the new state."""
        (hidden,) = states
        reset_x, keep_x, new_x = self._gates(self._from_input(x))
        reset_h, keep_h, new_h = self._gates(self._from_state(hidden))
        keep = F.sigmoid(keep_x + keep_h)
        new = F.tanh(new_x + F.sigmoid(reset_x + reset_h) * new_h)
        return ((1 - keep) * new + keep * hidden,)


class Recurrent(Module):
    """Base of the recurrent layers: sequences (T, B, inputs) -> ((T, B, outputs), states).

    `layers` layers follow each other, each on the outputs of the one before, with dropout of rate
    `dropout` between them while training. With `bidirectional` each layer walks both ways, and
    outputs are twice as wide. Each state is (layers * directions, B, hidden); without `states` they
    start from zero. What comes back as `states` continues the sequence.

    Raises `ArgumentError` for sizes below 1, and `ShapeError` for sequences and states of another
    shape.
    """

    CELL: ClassVar[type[_Cell]]

    def __init__(
        self,
        inputs: int,
        hidden: int,
        layers: int = 1,
        *,
        dropout: float = 0.0,
        bidirectional: bool = False,
        bias: bool = True,
    ) -> None:
        name = type(self).__name__
        inputs, hidden, layers = counts(name, inputs=inputs, hidden=hidden, layers=layers)
        self.inputs, self.hidden, self.directions = inputs, hidden, 2 if bidirectional else 1
        self.dropout = Dropout(dropout)
        wide = [inputs, *(hidden * self.directions for _ in range(layers - 1))]
        self.layers = [
            [self.CELL(width, hidden, bias) for _ in range(self.directions)] for width in wide
        ]

    def input_shape(self) -> Shape:
        """(T, B, inputs)."""
        return dim("T"), dim("B"), self.inputs

    def example(self) -> Value:
        """Build the graph of the outputs for a sequence `x`, to be looked at."""
        return self(tensor("x", self.input_shape()))[0]

    def __call__(  # type: ignore[override]
        self, x: Any, states: Any = None, *, train: bool = False
    ) -> tuple[Value, Any]:
        """Build the graph: the outputs of all steps, and the states after the last one."""
        with self._entered():
            return self.forward(x, states, train=train)

    def forward(  # type: ignore[override]
        self, x: Any, states: Any = None, *, train: bool = False
    ) -> tuple[Value, Any]:
        """x: (T, B, inputs) -> ((T, B, directions * hidden), states)."""
        value = as_value(x)
        self._check_sequence(value)
        starts = self._starts(value, states)
        last: list[States] = []
        for number, cells in enumerate(self.layers):
            if number:
                value = self.dropout(value, train=train, rows=1)
            ways = []
            for way, cell in enumerate(cells):
                own = tuple(one[number * self.directions + way] for one in starts)
                outputs, ends = _walked(cell, value, own, backwards=way == 1)
                ways.append(outputs)
                last.append(ends)
            value = ways[0] if len(ways) == 1 else F.concat(ways, axis=2)
        after = tuple(F.stack(list(column), axis=0) for column in zip(*last))
        return value, after if self.CELL.STATES > 1 else after[0]

    def _check_sequence(self, x: Value) -> None:
        if x.ndim != 3 or equal(x.shape[2], self.inputs) is False:
            raise ShapeError(
                f"{type(self).__name__}: x must have the shape (T, B, {self.inputs}): steps, rows "
                "of a batch, features.",
                details=operand_lines([x]),
                fix="transpose a batch of sequences (B, T, features) with x.transpose(1, 0, 2)",
            )

    def _starts(self, x: Value, states: Any) -> States:
        """Give the first states, (layers * directions, B, hidden) each."""
        shape = (len(self.layers) * self.directions, x.shape[1], self.hidden)
        dtype = self.layers[0][0].state_weight.dtype
        count = self.CELL.STATES
        if states is None:
            return tuple(F.zeros(shape, dtype) for _ in range(count))
        given = tuple(states) if isinstance(states, list | tuple) else (states,)
        if len(given) != count:
            raise ArgumentError(
                f"{type(self).__name__}: it has {count} state{'s' * (count > 1)}, "
                f"got {len(given)}.",
                fix="give what the layer returned",
            )
        found = tuple(as_value(one) for one in given)
        for one in found:
            same = one.ndim == 3
            if not same or any(equal(a, b) is False for a, b in zip(one.shape, shape)):
                raise ShapeError(
                    f"{type(self).__name__}: a state must have the shape ({shape[0]}, B, "
                    f"{shape[2]}): layers * directions, rows of the batch, hidden.",
                    details=operand_lines([one, x]),
                    fix="give what the layer returned, or None for zeros",
                )
        return tuple(F.specify_shape(one, shape) for one in found)


def _walked(cell: _Cell, x: Value, states: States, *, backwards: bool) -> tuple[Value, States]:
    """Step through a sequence: all outputs in its order, and the states after the last step."""
    outputs: Any
    outputs, _ = F.scan(
        lambda row, *before: list(cell.step(row, before)),
        sequences=[x],
        outputs_info=list(states),
        go_backwards=backwards,
        name=type(cell).__name__.strip("_"),
    )
    every: list[Value] = outputs if isinstance(outputs, list) else [outputs]
    ends = tuple(one[-1] for one in every)
    return (F.flip(every[0], axis=0) if backwards else every[0]), ends


class RNN(Recurrent):
    """h' = f(x W + b + h V + c), with f "tanh" or "relu" (Elman, 1990): see `Recurrent`.

    >>> import symgraph as sg
    >>> outputs, state = sg.nn.RNN(3, 5)(sg.tensor("x", (7, 2, 3)))
    >>> outputs.shape, state.shape
    ((7, 2, 5), (1, 2, 5))
    """

    CELL = _RNNCell

    def __init__(
        self, inputs: int, hidden: int, layers: int = 1, *, activation: str = "tanh", **options: Any
    ) -> None:
        if activation not in ("tanh", "relu"):
            raise ArgumentError(f'RNN: activation must be "tanh" or "relu", got {activation!r}.')
        super().__init__(inputs, hidden, layers, **options)
        for cells in self.layers:
            for cell in cells:
                cell.activation = activation  # type: ignore[attr-defined]


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997; the gate f by Gers et al., 2000).

    i, f, g, o = the four parts of x W + b + h V + c, of which i, f, o through sigmoid, g through
    tanh; m' = f m + i g;  h' = o tanh(m'). There are two states, (h, m): see `Recurrent`.

    >>> import symgraph as sg
    >>> outputs, (hidden, memory) = sg.nn.LSTM(3, 5, layers=2)(sg.tensor("x", (7, 2, 3)))
    >>> outputs.shape, hidden.shape, memory.shape
    ((7, 2, 5), (2, 2, 5), (2, 2, 5))
    """

    CELL = _LSTMCell


class GRU(Recurrent):
    """Gated recurrent units (Cho et al., 2014), with the reset gate after the product.

    r, z = sigmoid of two parts of x W + b + h V + c;  n = tanh(x Wn + bn + r (h Vn + cn));
    h' = (1 - z) n + z h: see `Recurrent`.

    >>> import symgraph as sg
    >>> outputs, state = sg.nn.GRU(3, 5, bidirectional=True)(sg.tensor("x", (7, 2, 3)))
    >>> outputs.shape, state.shape
    ((7, 2, 10), (2, 2, 5))
    """

    CELL = _GRUCell
