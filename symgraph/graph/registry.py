"""The two registries: operations (classes) by name, and the functions that build them.

`apply("add", x, y)` calls the function registered as `add`; `F.add(x, y)` is the same written as
an attribute. Operators and methods of `Value`, gradient rules and expansions all go through here,
so that files of `ops/` need not import each other.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from symgraph.errors import SymgraphError, UnknownNameError

if TYPE_CHECKING:
    from symgraph.graph.node import Value
    from symgraph.graph.op import Op
    from symgraph.graph.samples import Bad, Sample

Build = TypeVar("Build", bound=Callable[..., Any])

OPS: dict[str, type[Op]] = {}
FUNCTIONS: dict[str, Callable[..., Any]] = {}
COMPOSITES: dict[str, tuple[tuple[Sample, ...], tuple[Bad, ...]]] = {}


class _Hooks:
    """What node.py, which imports this file, gives back to it."""

    operand_lines: Callable[[Iterable[Any]], Sequence[str]] = staticmethod(lambda arguments: ())


hooks = _Hooks()


def function_of(build: Build) -> Build:
    """Register a function on values under its own name, without a trailing underscore.

    An error that it raises about its arguments also shows the values among them and their lines.
    """
    name = build.__name__.rstrip("_")
    if name in FUNCTIONS:
        raise UnknownNameError(
            f"registry: the function `{name}` is registered twice "
            f"({FUNCTIONS[name].__module__} and {build.__module__})."
        )

    @functools.wraps(build)
    def call(*args: Any, **options: Any) -> Any:
        try:
            return build(*args, **options)
        except SymgraphError as problem:
            if not problem.details:
                problem.details = tuple(hooks.operand_lines((*args, *options.values())))
            raise

    FUNCTIONS[name] = call
    return call  # type: ignore[return-value]


def composite(samples: Sequence[Sample] = (), bad: Sequence[Bad] = ()) -> Callable[[Build], Build]:
    """Register a function made of other functions, with the examples its tests are made from.

    An error from inside also names the function that the user called.
    """

    def register(build: Build) -> Build:
        name = build.__name__.rstrip("_")
        COMPOSITES[name] = (tuple(samples), tuple(bad))

        @functools.wraps(build)
        def named(*args: Any, **options: Any) -> Any:
            try:
                return build(*args, **options)
            except SymgraphError as problem:
                if not problem.message.startswith(f"{name}:"):
                    problem.message = f"{name}: {problem.message}"
                raise

        return function_of(named)  # type: ignore[return-value]

    return register


def lookup(name: str) -> Callable[..., Any]:
    """Find a registered function, or raise `UnknownNameError` with near misses."""
    found = FUNCTIONS.get(name)
    if found is None:
        near = difflib.get_close_matches(name, FUNCTIONS, n=3)
        raise UnknownNameError(
            f"no operation is called `{name}`.",
            fix=f"did you mean {' or '.join(near)}?" if near else "see symgraph.F for the list",
        )
    return found


def apply(name: str, *args: Any, **options: Any) -> Value:
    """Call the function registered under `name`."""
    result: Value = lookup(name)(*args, **options)
    return result


class Functions:
    """All registered functions as attributes; rules receive it as `F`.

    They are typed as giving a `Value`; a function with several results gives a tuple, which
    unpacks as a value would.
    """

    def __getattr__(self, name: str) -> Callable[..., Value]:
        return lookup(name)

    def __dir__(self) -> list[str]:
        return sorted(FUNCTIONS)


F = Functions()
