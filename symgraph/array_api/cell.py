"""Expressions that are computed when somebody asks for their numbers, each at most once.

A cell holds an expression without inputs. Its numbers come from the interpreter: compiling costs
milliseconds, and what runs once does not earn them back; whoever repeats a computation compiles it
with `sg.jit`. Once a cell is computed its expression is a constant, and what was below is free.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary, ref

import numpy as np

from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import Constant, constant
from symgraph.graph.node import Value
from symgraph.graph.walk import postorder

Numbers = np.ndarray[Any, Any]

DEEPEST = 256  # operations on top of each other that wait; a loop that never asks stays bounded


class Cell:
    """An expression, and its numbers as soon as they are known."""

    __slots__ = ("__weakref__", "_numbers", "_value", "depth")

    def __init__(self, value: Value, numbers: Numbers | None, depth: int) -> None:
        self._value: Value | None = value
        self._numbers = numbers
        self.depth = depth

    @property
    def value(self) -> Value:
        """The expression: a constant where the numbers are known."""
        if self._value is None:
            self._value = constant(self.numbers)
        return self._value

    @property
    def numbers(self) -> Numbers:
        """The numbers, which are computed now unless they are known; never to be written into."""
        if self._numbers is None:
            value = self.value
            found = _compute(value)
            if self._numbers is None:  # another thread's cell of the same expression was shown it
                self.settle(value, found)
            return found
        return self._numbers

    @property
    def is_computed(self) -> bool:
        """Whether the numbers are known."""
        return self._numbers is not None

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes, which are numbers: nothing here has a symbolic one."""
        return tuple(int(size) for size in self.value.shape)

    @property
    def dtype(self) -> str:
        """The dtype by its canonical name."""
        return self.value.dtype

    def settle(self, value: Value, numbers: Numbers) -> None:
        """Take the numbers of the expression; the expression itself is not needed any more."""
        self._numbers, self.depth = numbers, 0
        self._value = value if isinstance(value.op, Constant) else None


# What waits, by the identity of its expression, which a waiting cell holds.
_waiting: WeakValueDictionary[int, Cell] = WeakValueDictionary()
# What is computed, as long as an expression that is not yet holds it as an operand.
_computed: dict[int, tuple[ref[Value], Numbers]] = {}


def cell_of(value: Value, depth: int) -> Cell:
    """Give the cell of an expression: of equal expressions the same, while it waits."""
    if isinstance(value.op, Constant):
        return Cell(value, value.op.array, 0)
    known = _computed.get(id(value))
    if known is not None:
        return Cell(value, known[1], 0)
    found = _waiting.get(id(value))
    if found is None:
        found = Cell(value, None, depth)
        _waiting[id(value)] = found
        if depth > DEEPEST:
            _compute(value)
    return found


def _compute(value: Value) -> Numbers:
    """Compute an expression and let every waiting cell on the way have its numbers."""
    order = postorder([value], lambda node: () if id(node) in _computed else node.inputs)
    feeds = {node: _computed[id(node)][1] for node in order if id(node) in _computed}
    (found,) = interpret([value], feeds, order=order, watch=_show)
    return _read_only(found)


def _read_only(result: Any) -> Numbers:
    numbers = np.asarray(result)
    if numbers.flags.writeable:  # a view, since the interpreter may go on with the array itself
        numbers = numbers.view()
        numbers.flags.writeable = False
    return numbers


def _show(value: Value, result: Any) -> None:
    cell = _waiting.get(id(value))
    if cell is None:
        return
    numbers = _read_only(result)
    key = id(value)
    _computed[key] = (ref(value, lambda _: _forget(key)), numbers)
    cell.settle(value, numbers)
    _waiting.pop(key, None)  # another thread may have computed it as well


def _forget(key: int) -> None:
    _computed.pop(key, None)
