"""`jit`: a Python function of arrays, compiled for the dtypes and ranks that it is called with."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from typing import Any, overload

from symgraph.backends.cuda.exchange import on_device
from symgraph.config import config
from symgraph.dims import anonymous
from symgraph.errors import (
    ArgumentError,
    ArgumentTypeError,
    GuardError,
    SymgraphError,
)
from symgraph.frozen import frozen
from symgraph.function import Function, function
from symgraph.graph.arrays import as_array
from symgraph.graph.dtypes import dtype_name
from symgraph.graph.leaves import as_value, tensor
from symgraph.graph.node import Value
from symgraph.graph.trees import Structure, put_together, taken_apart
from symgraph.passes.manager import Pass
from symgraph.passes.rules import Rule

MOST_SHAPES = 64  # that a function whose sizes must be numbers keeps traces for: those used last


@frozen(eq=False)
class Trace:
    """One way in which a function was traced: for any sizes, or for `shapes` alone."""

    function: Function
    shapes: tuple[tuple[int, ...], ...] | None
    structure: Structure = field(repr=False)  # of what the Python function returns

    def __str__(self) -> str:
        inputs = ", ".join(f"{one.label}: {one.type}" for one in self.function.inputs)
        return f"({inputs}) -> {', '.join(str(one.type) for one in self.function.graph.outputs)}"


class Jit:
    """A function that is traced when it is called, see `jit`."""

    def __init__(
        self, fn: Callable[..., Any], static: Sequence[str], options: dict[str, Any]
    ) -> None:
        functools.update_wrapper(self, fn)
        self.__name__: str = getattr(fn, "__name__", type(fn).__name__)
        self.__wrapped__ = fn
        self._static, self._options = tuple(static), options
        self._signature = inspect.signature(fn)
        self._lock = threading.RLock()
        self._any: dict[Any, Trace | None] = {}  # None: it was tried, sizes must be numbers
        self._fixed: dict[Any, Trace] = {}
        self._attribute = f"_jit_{self.__name__}_{id(self)}"
        for name in self._static:
            if name not in self._signature.parameters:
                raise ArgumentError(
                    f"jit: {self.__name__} has no parameter `{name}`.",
                    fix=f"one of {', '.join(self._signature.parameters)}",
                )

    @property
    def traces(self) -> tuple[Trace, ...]:
        """What was traced and is kept, each a compiled function; what was used last comes last.

        Of traces for certain shapes the 64 used last are kept.
        """
        found = [one for one in self._any.values() if one is not None]
        return (*found, *self._fixed.values())

    def clear(self) -> None:
        """Forget what was traced."""
        with self._lock:
            self._any.clear()
            self._fixed.clear()

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Trace if need be, and run; given symbolic values, give what the function builds."""
        call = _Call(self, args, named)
        if call.is_symbolic:
            return self.__wrapped__(*args, **named)
        with self._lock:
            if call.key not in self._any:
                self._any[call.key] = self._tried(call)
            trace = self._known(call) or self._any[call.key]
        if trace is not None:
            try:
                return call.run(trace)
            except GuardError:  # sizes that do not fit, or that this trace took for others
                if trace.shapes is not None:
                    raise
        return call.run(self._for_shapes(call))

    def trace(self, *args: Any, **named: Any) -> Function:
        """Give the compiled function for arguments, without running it: for `show` and `cost`."""
        call = _Call(self, args, named)
        if call.is_symbolic:
            raise ArgumentTypeError(
                f"{self.__name__}: is traced for arrays, it was given something symbolic.",
                fix="give arrays of the dtypes and ranks that it is to be compiled for",
            )
        with self._lock:
            if call.key not in self._any:
                self._any[call.key] = self._tried(call)
            trace = self._known(call) or self._any[call.key]
        return (trace or self._for_shapes(call)).function

    def _tried(self, call: _Call) -> Trace | None:
        """Trace for any sizes; None where the function needs numbers, or refuses what it gets."""
        try:
            return self._traced(call, None)
        except (SymgraphError, TypeError):  # said again, for these shapes, by who traces for them
            return None

    def _for_shapes(self, call: _Call) -> Trace:
        with self._lock:
            found = self._known(call)
            if found is None:
                found = self._fixed[call.fixed] = self._traced(call, call.shapes)
                if len(self._fixed) > MOST_SHAPES:
                    self._fixed.pop(next(iter(self._fixed)))
            return found

    def _known(self, call: _Call) -> Trace | None:
        """Give the trace for these shapes, if there is one; it has now been used last."""
        found = self._fixed.pop(call.fixed, None)
        if found is not None:
            self._fixed[call.fixed] = found
        return found

    def _traced(self, call: _Call, shapes: tuple[tuple[int, ...], ...] | None) -> Trace:
        """Call the function with inputs, and compile what it gives."""
        inputs: list[Value] = []
        for number, (path, array) in enumerate(call.leaves):
            sizes: list[Any] = [anonymous(f"{path}.shape[{axis}]") for axis in range(array.ndim)]
            shape = sizes if shapes is None else shapes[number]
            inputs.append(tensor(path, shape, _dtype(array)))
        args, named = call.with_leaves(inputs)
        structure, results = taken_apart(self.__wrapped__(*args, **named), "result")
        outputs = [self._value(path, one) for path, one in results]
        compiled = function(inputs, outputs, name=self.__name__, **self._options)
        return Trace(compiled, shapes, structure)

    def _value(self, path: str, found: Any) -> Value:
        try:
            return as_value(found)
        except ArgumentTypeError:
            raise ArgumentTypeError(
                f"{self.__name__}: {path} is of type {type(found).__name__}, which is no array.",
                fix="return values, numbers, None, and tuples, lists or dicts of these",
            ) from None

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Give the function for an instance, as methods are: what it traced is the instance's."""
        if instance is None:
            return self
        try:
            kept = instance.__dict__
        except AttributeError:
            raise ArgumentTypeError(
                f"jit: {type(instance).__name__} has no place for what `{self.__name__}` traces.",
                fix="let the class have a __dict__, or use sg.jit on a function",
            ) from None
        found = kept.get(self._attribute)
        if found is None or found.__wrapped__.__self__ is not instance:  # a copy has another's
            bound = self.__wrapped__.__get__(instance, owner)
            found = kept[self._attribute] = Jit(bound, self._static, self._options)
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Copy what was asked for, not what was traced: compiled functions cannot be copied."""
        return {**self.__dict__, "_lock": None, "_any": {}, "_fixed": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    def __repr__(self) -> str:
        return f"<jit {self.__name__}{self._signature}, {len(self.traces)} traces>"


def _dtype(array: Any) -> str:
    return dtype_name(str(array.dtype).removeprefix("torch."))


class _Call:
    """The arguments of a call: arrays by path, static ones by value, and what tells them apart."""

    def __init__(self, of: Jit, args: Sequence[Any], named: dict[str, Any]) -> None:
        self.of = of
        try:
            self.bound = of._signature.bind(*args, **named)
        except TypeError as problem:
            raise ArgumentTypeError(f"{of.__name__}: {problem}.") from None
        self.structures: dict[str, Structure] = {}
        self.leaves: list[tuple[str, Any]] = []
        static: list[tuple[str, type, Any]] = []
        for name, given in self.bound.arguments.items():
            if name in of._static:
                static.append((name, type(given), given))
                continue
            self.structures[name], leaves = taken_apart(given, name)
            self.leaves.extend(leaves)
        self.is_symbolic = any(isinstance(one, Value) for _, one in self.leaves)
        if self.is_symbolic:
            return
        self.leaves = [(path, self._array(path, one)) for path, one in self.leaves]
        kinds = tuple((_dtype(one), one.ndim) for _, one in self.leaves)
        settings = (config.float_dtype, config.backend, config.precision)
        self.key = (tuple(self.structures.items()), tuple(static), kinds, settings)
        self.shapes = tuple(tuple(one.shape) for _, one in self.leaves)
        self.fixed = (self.key, self.shapes)
        try:
            hash(self.key)
        except TypeError as problem:
            raise ArgumentTypeError(
                f"{of.__name__}: static arguments must be hashable: {problem}.",
                fix="give a tuple for a list",
            ) from None

    def _array(self, path: str, given: Any) -> Any:
        """Make a leaf an array; one on a device stays there."""
        if on_device(given) and hasattr(given, "dtype") and hasattr(given, "ndim"):
            return given
        if isinstance(given, str | bytes) or callable(given):
            raise ArgumentTypeError(
                f"{self.of.__name__}: `{path}` is of type {type(given).__name__}, which is no "
                "array.",
                fix=f"name it: sg.jit(static=({path.split('[')[0].split('.')[0]!r},))",
            )
        return as_array(f"{self.of.__name__}: `{path}`", given)

    def with_leaves(self, leaves: Iterable[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Give the arguments with other leaves."""
        rest = iter(leaves)
        arguments = dict(self.bound.arguments)
        for name, structure in self.structures.items():
            arguments[name] = put_together(structure, rest)
        made = inspect.BoundArguments(self.of._signature, arguments)
        return made.args, made.kwargs

    def run(self, trace: Trace) -> Any:
        """Run a trace on the arrays."""
        found = trace.function(*(one for _, one in self.leaves))
        return put_together(trace.structure, iter(found))


@overload
def jit(fn: Callable[..., Any], /) -> Jit: ...


@overload
def jit(
    *,
    static: Sequence[str] | str = (),
    backend: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    passes: Iterable[Pass | Rule] = (),
) -> Callable[[Callable[..., Any]], Jit]: ...


def jit(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    static: Sequence[str] | str = (),
    backend: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    passes: Iterable[Pass | Rule] = (),
) -> Any:
    """Compile a Python function of arrays: `@sg.jit`, or `@sg.jit(static=("n",), backend="cpu")`.

    It is traced, called once with symbolic inputs, for each combination of dtypes, ranks and
    structure of its arguments, and of the values of `static` ones, which must be hashable. All
    sizes are symbolic; where the function needs numbers for them (a size that must be 1, a loop in
    Python over an axis), it is traced for each combination of shapes. Arguments and results are
    arrays and numbers, and tuples, lists and dicts of these. Side effects in Python happen when it
    is traced; updates attached to its results are applied in each call. Methods keep what they
    trace with their instance. Given a symbolic value, it gives what it builds. `f.traces` shows
    what is compiled, `f.trace(*args)` gives the `Function` for arguments. The other options are
    those of `function`.

    >>> import numpy as np, symgraph as sg
    >>> @sg.jit
    ... def scaled(x, by): return {"y": sg.tanh(x) * by}
    >>> float(scaled(np.zeros(3), 2)["y"].sum()), len(scaled.traces)
    (0.0, 1)
    """
    names = (static,) if isinstance(static, str) else tuple(static)
    options = {
        "backend": backend, "precision": precision, "threads": threads, "passes": tuple(passes),
    }  # fmt: skip
    if fn is None:
        return lambda inner: jit_of(inner, names, options)
    return jit_of(fn, names, options)


def jit_of(fn: Any, static: Sequence[str], options: dict[str, Any]) -> Jit:
    """Wrap a function; raises `ArgumentTypeError` for what is none."""
    if not callable(fn):
        raise ArgumentTypeError(
            f"jit: takes a function, got {type(fn).__name__}.", fix="@sg.jit above a def"
        )
    return Jit(fn, static, options)
