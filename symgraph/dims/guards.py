"""Guards: what could not be decided while building, to be checked when the sizes are known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

from symgraph.dims.core import Dim, Size, is_symbol
from symgraph.dims.decide import divides, equal, less_equal
from symgraph.dims.walk import evaluate, free
from symgraph.errors import DimError, GuardError, UndecidedError
from symgraph.frozen import frozen

Relation = Literal["equal", "less_equal", "divides"]

_QUESTION = {"equal": equal, "less_equal": less_equal, "divides": divides}
_HOLDS = {"equal": "{0} == {1}", "less_equal": "{0} <= {1}", "divides": "{1} % {0} == 0"}
_FAILS = {"equal": "{0} != {1}", "less_equal": "{0} > {1}", "divides": "{1} % {0} != 0"}


@frozen
class Guard:
    """`left relation right` must hold for the sizes of every call; `why` says what needs it.

    `divides` means that `left` divides `right`.
    """

    relation: Relation
    left: Size
    right: Size
    why: str

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Guard):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        # Sizes are compared by identity: `==` between formulas may have no answer.
        sides = (x if type(x) is int else ("formula", id(x)) for x in (self.left, self.right))
        return (self.relation, *sides, self.why)

    def __str__(self) -> str:
        return f"{_written(_HOLDS, self.relation, self.left, self.right)} ({self.why})"

    def free(self) -> frozenset[Dim]:
        """The sizes that must be known to check it."""
        return free(self.left) | free(self.right)

    def holds(self, env: Mapping[Dim, int]) -> bool | None:
        """Whether it holds for these sizes; None if a size is missing."""
        if not self.free() <= env.keys():
            return None
        left, right = evaluate(self.left, env), evaluate(self.right, env)
        return _QUESTION[self.relation](left, right)

    def check(self, env: Mapping[Dim, int]) -> None:
        """Raises GuardError if it does not hold, DimError if a size is missing."""
        left, right = evaluate(self.left, env), evaluate(self.right, env)
        if _QUESTION[self.relation](left, right):
            return
        sizes = ", ".join(sorted(f"{size} = {env[size]}" for size in self.free()))
        values = _FAILS[self.relation].format(left, right)
        needed = _written(_HOLDS, self.relation, self.left, self.right)
        raise GuardError(
            f"{self.why}: needs {needed}, but {values}.",
            details=[f"`{self.left}` is {left}", f"`{self.right}` is {right}", f"with {sizes}"],
            fix="give arrays whose sizes fit",
        )


def _written(form: dict[str, str], relation: Relation, left: Size, right: Size) -> str:
    """The relation between two sizes as text, with parentheses where an operator needs them."""
    sides = [str(left), str(right)]
    if relation == "divides":
        sides = [f"({side})" if not is_symbol(x) and type(x) is not int else side
                 for side, x in zip(sides, (left, right))]  # fmt: skip
    return form[relation].format(*sides)


_collector: ContextVar[list[Guard] | None] = ContextVar("symgraph_guards", default=None)


@contextmanager
def collect_guards() -> Iterator[list[Guard]]:
    """Collect the guards recorded inside the block, each once; the innermost block counts.

    >>> from symgraph.dims import dims
    >>> B, C = dims("B C")
    >>> with collect_guards() as guards:
    ...     require_equal(B, C, "add")
    >>> print(guards[0])
    B == C (add)
    """
    guards: list[Guard] = []
    token = _collector.set(guards)
    try:
        yield guards
    finally:
        _collector.reset(token)


def require_equal(left: Size, right: Size, why: str) -> None:
    """`left == right` must hold.

    Raises DimError if it never does; records a guard if that depends on the sizes, and raises
    UndecidedError if nobody collects guards.
    """
    _require("equal", left, right, why)


def require_less_equal(left: Size, right: Size, why: str) -> None:
    """`left <= right` must hold; else as `require_equal`."""
    _require("less_equal", left, right, why)


def require_sizes(shape: Iterable[Size]) -> None:
    """No size of a shape may be negative; else as `require_equal`."""
    for size in shape:
        _require("less_equal", 0, size, "sizes are not negative")


def require_divides(divisor: Size, size: Size, why: str) -> None:
    """`divisor` must divide `size`; else as `require_equal`."""
    _require("divides", divisor, size, why)


def require(guard: Guard) -> None:
    """State a guard again, for a node that holds the one it was stated for."""
    _require(guard.relation, guard.left, guard.right, guard.why)


def _require(relation: Relation, left: Size, right: Size, why: str) -> None:
    answer = _QUESTION[relation](left, right)
    if answer:
        return
    if answer is False:
        raise DimError(impossible(relation, left, right, why))
    guards = _collector.get()
    if guards is None:
        raise UndecidedError(
            f"{why}: whether {_written(_HOLDS, relation, left, right)} depends on the sizes.",
            fix="use the same size on both sides, or numbers; inside sg.function it becomes a "
            "check at run time",
        )
    guard = Guard(relation, left, right, why)
    if guard not in guards:
        guards.append(guard)


def impossible(relation: Relation, left: Size, right: Size, why: str) -> str:
    """The sentence for a relation that holds for no sizes."""
    return f"{why}: {_written(_FAILS, relation, left, right)}{for_every(left, right)}."


def for_every(*sizes: Size) -> str:
    """` for every B, H`: the end of a sentence about formulas; empty for numbers."""
    names = sorted({str(symbol) for size in sizes for symbol in free(size)})
    return f" for every {', '.join(names)}" if names else ""
