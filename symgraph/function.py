"""`function`: compile a graph into a callable. The only file that sees the whole pipeline."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

import symgraph.passes.standard  # noqa: F401 - registers the standard passes
from symgraph.backends.choice import chosen_backend, device_number, require_outputs_on
from symgraph.backends.cuda.device import device
from symgraph.config import config
from symgraph.dims import Dim, is_symbol
from symgraph.errors import (
    ArgumentTypeError,
    GraphError,
    InputError,
    PassError,
)
from symgraph.frozen import frozen
from symgraph.graph.arguments import plain_int
from symgraph.graph.graph import Graph, Step, collect_effects, missing_inputs
from symgraph.graph.leaves import Input, Shared, as_value
from symgraph.graph.measured import measured_sizes, substituted
from symgraph.graph.node import Value
from symgraph.graph.op import Array
from symgraph.graph.registry import function_of
from symgraph.graph.request import Pairs, givens_of, inputs_of, updates_of
from symgraph.graph.walk import leaves
from symgraph.io.functionfile import Saved, read_function, write_function
from symgraph.io.graphcodec import names_of
from symgraph.passes.manager import Pass, pipeline, run_passes
from symgraph.passes.precision import PASSES
from symgraph.passes.rules import Rule
from symgraph.runtime.binding import Binder
from symgraph.runtime.bound import Bound, Executor, bound
from symgraph.runtime.device import DeviceExecutor
from symgraph.runtime.device_profile import device_profile
from symgraph.runtime.feeds import Feeds, convert, merge_named
from symgraph.runtime.guard import NanGuard
from symgraph.runtime.interpreted import InterpretedExecutor
from symgraph.runtime.native import BoundPlan, NativeExecutor
from symgraph.runtime.profile import Profile, profile
from symgraph.runtime.staged import StagedExecutor
from symgraph.runtime.staged_profile import staged_profile

# Functions that share variables take turns: each sees all updates of another's call, or none.
_state = threading.RLock()

T = TypeVar("T")

Outputs = Any  # a Value, or None, or a sequence or mapping of Values


class Function:
    """A compiled graph: call it with arrays for its inputs.

    Inputs are never written, outputs are fresh arrays that nobody else holds, and the updates of
    shared variables are written together after everything was computed, or not at all.
    """

    def __init__(
        self,
        name: str,
        graph: Graph,
        built: Graph,
        structure: Any,
        passes: Iterable[Pass] = (),
        nan_guard: bool = False,
        backend: str = "reference",
        threads: int | None = None,
        precision: str = "fp32",
        outputs_on: str = "host",
    ) -> None:
        self.name = name
        self.graph = graph
        self.built = built
        self.passes = tuple(passes)
        self.nan_guard = nan_guard
        self._structure = structure
        found = device(device_number(backend)) if backend.startswith("cuda") else None
        self._feeds = Feeds(name, graph.inputs, found)
        machine = None if found is None else found.memory
        self._binder = Binder(name, graph, built.guards(), machine=machine)
        guard = name if nan_guard else ""
        self._executor: Executor
        if backend == "reference":
            self._executor = InterpretedExecutor(graph)
        elif graph.sizes:
            options = (found, precision, guard, threads, outputs_on)
            self._executor = StagedExecutor(graph, self._binder.decide, *options)
        elif found is not None:
            self._executor = DeviceExecutor(graph, found, precision, guard, outputs_on)
        else:
            self._executor = NativeExecutor(graph, precision == "bf16", guard, threads)
        self._shared = graph.shared
        self._lock = _state if self._shared else threading.RLock()
        self._process = os.getpid()
        self._last: _Last | None = None

    @property
    def inputs(self) -> tuple[Value, ...]:
        """The declared inputs."""
        return self.graph.inputs

    @property
    def backend(self) -> str:
        """What this function runs on: "cpu" (compiled), "cuda" or "reference"."""
        return self._executor.name

    @property
    def history(self) -> tuple[Step, ...]:
        """What each pass changed: a step for each, with the graphs before and after."""
        return self.graph.history

    @property
    def shared(self) -> dict[str, Shared]:
        """The variables that it reads or updates, by name (`w`, then `w_2` for another `w`)."""
        return names_of(self.built.shared)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, with the numbers of its variables; `load` reads it again.

        The graph is saved as it was built, before any pass: a newer version optimises it anew. How
        it was compiled (backend, precision, passes) is not saved. Raises `ArgumentTypeError` where
        a Python function is part of the graph, `CheckpointError` where the file cannot be written.
        """
        self._check_process()
        with self._lock:
            write_function(path, Saved(self.name, self.built, self._structure))

    def given(self, *args: Any, **named: Any) -> tuple[dict[Value, Array], Mapping[Dim, int]]:
        """Give the arrays of a call by input, and the numbers of its sizes; nothing runs."""
        feeds = self._feeds.take(args, named)
        env = self._binder.bind(feeds, {})
        if isinstance(self._executor, DeviceExecutor | StagedExecutor):
            feeds = self._executor.on_host(feeds)
        return feeds, env

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Run: arrays by position or by the inputs' names; raises before anything is written."""
        last = self._last  # once: another thread may put another call in its place
        if last is not None and not named and last.fits(args) and os.getpid() == self._process:
            with self._lock:
                outputs = last.executor.again(last.bound, args)
            return _packed(self._structure, outputs)
        return self._run(self._feeds.take(args, named), {})

    def bind(self, sizes: Mapping[Any, int] | None = None, /, **named: int) -> Bound:
        """Get ready for sizes, by name or by themselves, and tell the memory of a call, in bytes.

        Nothing is run. What a compiled function lays out by sizes it lays out for those that it
        sees first, here or in a call. Raises `ArgumentError` for a size that is missing or unknown,
        `GuardError` for sizes that the graph does not admit.

        >>> import symgraph as sg
        >>> x = sg.tensor("x", (sg.dim("B"), 3))
        >>> sg.function([x], sg.exp(x), backend="reference").bind(B=2).peak
        48
        """
        self._check_process()
        with self._lock:
            env = self._binder.bind_sizes(sizes, named)
            return bound(self.name, self._executor, self.graph, env)

    def profile(self, *args: Any, repeat: int = 3, **named: Any) -> Profile:
        """Run a call step by step and give the time of each; nothing is updated.

        Arguments are those of a call. Each step runs `repeat` times after once that does not count.
        """
        self._check_process()
        feeds = self._feeds.take(args, named)
        with self._lock:
            env = self._binder.bind(feeds, {})
            if isinstance(self._executor, StagedExecutor):
                return staged_profile(self.name, self._executor, feeds, env, repeat)
            if isinstance(self._executor, DeviceExecutor):
                return device_profile(self.name, self._executor, feeds, env, repeat)
            return profile(self.name, self._executor, feeds, env, repeat)

    def close(self) -> None:
        """Give back the memory that is kept between calls; a later call takes it anew."""
        self._check_process()
        with self._lock:
            self._last = None
            self._executor.close()

    def with_executor(self, use: Callable[[NativeExecutor], T]) -> T | None:
        """Let nobody else call while the compiled code is looked at; None where there is none."""
        self._check_process()
        with self._lock:
            return use(self._executor) if isinstance(self._executor, NativeExecutor) else None

    def _run(self, feeds: dict[Value, Array], given: Mapping[Dim, int]) -> Any:
        self._check_process()
        settings = config.stamp()
        with self._lock:
            env = self._binder.bind(feeds, given)
            if isinstance(self._executor, NativeExecutor):
                outputs = self._executor.run(feeds, env)
                if not given:
                    arrays = [feeds[one] for one in self.inputs]
                    self._last = _Last.of(arrays, self._executor, settings)
            elif isinstance(self._executor, InterpretedExecutor):
                watch = NanGuard(self.name) if self.nan_guard else None
                sizes = dict(env)
                outputs = self._executor.run(feeds, env, watch, partial(self._binder.decide, sizes))
            else:
                outputs = self._executor.run(feeds, env)
        return _packed(self._structure, outputs)

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise GraphError(
                f"{self.name}: was compiled before this process was forked off.",
                details=[f"compiled in process {self._process}, called in {os.getpid()}"],
                fix='start processes with "spawn", and compile in each',
            )

    def __reduce__(self) -> Any:
        raise GraphError(
            f"{self.name}: compiled functions cannot be copied or pickled.",
            fix="compile it again from the expression, in each process",
        )

    def __repr__(self) -> str:
        inputs = ", ".join(f"{value.label}: {value.type}" for value in self.inputs)
        return f"<function {self.name}({inputs}), {len(self.graph.values)} nodes>"


@frozen
class _Last:
    """A compiled call: what its arrays were, and under which settings they were looked at."""

    arrays: tuple[tuple[tuple[int, ...], Any], ...]
    executor: NativeExecutor
    bound: BoundPlan
    settings: object

    @classmethod
    def of(
        cls, arrays: Sequence[Array], executor: NativeExecutor, settings: object
    ) -> _Last | None:
        """Remember a call that has just run."""
        if executor.last is None:
            return None
        found = tuple((array.shape, array.dtype) for array in arrays)
        return cls(found, executor, executor.last, settings)

    def fits(self, args: tuple[Any, ...]) -> bool:
        """Tell whether a call is like this one, so that nothing has to be looked at again."""
        if len(args) != len(self.arrays) or config.stamp() != self.settings:
            return False
        for array, (shape, dtype) in zip(args, self.arrays):
            if type(array) is not np.ndarray or array.dtype is not dtype or array.shape != shape:
                return False
            if not array.flags.c_contiguous:
                return False
        return True


def function(
    inputs: Sequence[Value] | Value,
    outputs: Outputs = None,
    updates: Pairs | None = None,
    givens: Pairs | None = None,
    *,
    name: str = "function",
    passes: Iterable[Pass | Rule] = (),
    nan_guard: bool = False,
    backend: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    outputs_on: str = "host",
) -> Function:
    """Compile: `outputs` as a function of `inputs`, writing `updates` of shared variables.

    `outputs` is a value, a sequence, a mapping (its keys come back), or None. `givens` replaces
    values by others of the same type before compiling. `passes` are passes and rules that run
    besides the standard ones. With `nan_guard` a call raises `NotFiniteError`, which names the
    first value that is not finite, and updates nothing (compiled functions look at outputs and
    updates, and for the first value only where one of these is not finite). `backend` is
    "cpu", "cuda", "reference" or "auto" (`config.backend`). With `precision="bf16"` products and
    convolutions of float32 are computed in bfloat16 and added up in float32, with "fp16" in float16
    (`sg.optim.LossScaling`), with "tf32", on CUDA devices, rounded to 11 bits (`config.precision`).
    `threads` is how many a compiled function uses, else `config.threads` at each call.
    With `outputs_on="device"` outputs of a CUDA backend are arrays of CuPy, for its current stream.
    Raises `GraphError` for an input that is missing or not an input, `ShapeError` or `DTypeError`
    for updates and givens of another type, and `ConfigError` for more threads than usable cores.

    >>> import symgraph as sg
    >>> x, n = sg.vector("x"), sg.shared(0)
    >>> count = sg.function([x], x.sum(), updates={n: n + 1})
    >>> float(count([1, 2])), float(count([3])), int(n.value)
    (3.0, 3.0, 2)
    """
    if not isinstance(name, str):
        raise ArgumentTypeError(
            f"function: the name must be a string, got {type(name).__name__}.", fix='name="step"'
        )
    _check_guard(name, nan_guard)
    config.pick("threads", threads)  # a number that cannot be is found now
    declared = inputs_of([inputs] if isinstance(inputs, Value) else inputs, name)
    structure, values = _flat(outputs)
    wanted = updates_of(updates or {}, name)
    roots = [*values, *wanted.values()]
    replace = givens_of(givens or {}, name)
    if replace:
        done = substituted(roots, replace)
        roots = [done[root] for root in roots]
    effects, _ = collect_effects([*roots, *measured_sizes(roots).values()])
    for target, new in effects.items():
        wanted.setdefault(target, new)
    new_values = [*roots[len(values) :], *list(wanted.values())[len(roots) - len(values) :]]
    sizes = measured_sizes([*roots[: len(values)], *new_values])
    built = Graph(declared, roots[: len(values)], dict(zip(wanted, new_values)), sizes)
    _check_inputs(built, name)
    options = (passes, nan_guard, backend, precision, threads, outputs_on)
    return _compiled(name, built, structure, *options)


def load(
    path: str | os.PathLike[str],
    *,
    passes: Iterable[Pass | Rule] = (),
    nan_guard: bool = False,
    backend: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    outputs_on: str = "host",
) -> Function:
    """Read a function that `Function.save` has written, and compile it for this machine.

    Its variables are new ones, `f.shared` by name, with the numbers that they had when it was
    saved; its updates write these. The other arguments are those of `function`. An operation of
    your own must be registered before, by importing the module that defines it. A file computes
    what it says: load those of people you trust. Raises `CheckpointError` for a file that is
    damaged, cut short, of another kind or newer than this version, or needs an unknown operation.
    """
    _check_guard("load", nan_guard)
    config.pick("threads", threads)
    saved = read_function(path)
    options = (passes, nan_guard, backend, precision, threads, outputs_on)
    return _compiled(saved.name, saved.graph, saved.structure, *options)


def _check_guard(name: str, nan_guard: bool) -> None:
    if not isinstance(nan_guard, bool):
        raise ArgumentTypeError(
            f"{name}: nan_guard must be True or False, got {nan_guard!r:.60}.",
            fix="nan_guard=True to find the first value that is not finite",
        )


def _compiled(
    name: str,
    built: Graph,
    structure: Any,
    passes: Iterable[Pass | Rule],
    nan_guard: bool,
    backend: str | None,
    precision: str | None,
    threads: int | None,
    outputs_on: str,
) -> Function:
    """Optimise a graph and make it a function."""
    asked = precision is not None  # a setting of tf32 is fp32 where there is no such thing
    lowered, precision = _precision(name, precision)
    several = isinstance(passes, Iterable) and not isinstance(passes, Pass | Rule)
    planned = pipeline([*passes, *lowered] if several else passes)
    graph = run_passes(built, planned)
    _check_passes(graph, name)
    chosen = chosen_backend(name, backend)
    if precision == "tf32" and not chosen.startswith("cuda") and asked:
        raise ArgumentTypeError(
            f"{name}: the precision tf32 is one of NVIDIA GPUs, not of the backend {chosen}.",
            fix='precision="fp32", or backend="cuda"',
        )
    require_outputs_on(name, outputs_on, chosen)
    return Function(
        name, graph, built, structure, planned, nan_guard, chosen, threads, precision, outputs_on
    )


def _precision(name: str, wanted: str | None) -> tuple[list[Pass], str]:
    """Give the passes that lower the precision of products, and the precision."""
    if wanted is not None and wanted not in PASSES:
        raise ArgumentTypeError(
            f"{name}: there is no precision {wanted!r:.60}.", fix=f"one of {', '.join(PASSES)}"
        )
    chosen = config.precision if wanted is None else wanted
    return list(PASSES[chosen]), chosen


def _flat(outputs: Outputs) -> tuple[Any, list[Value]]:
    """Split outputs into their structure and their values."""
    if outputs is None:
        return None, []
    if isinstance(outputs, Mapping):
        return dict.fromkeys(outputs), [_output(value) for value in outputs.values()]
    if isinstance(outputs, Sequence) and not isinstance(outputs, str):
        return [None] * len(outputs), [_output(value) for value in outputs]
    return "one", [as_value(outputs)]


def _output(value: Any) -> Value:
    inside: Iterable[Any] = value.values() if isinstance(value, Mapping) else ()
    if isinstance(value, list | tuple):
        inside = value
    if any(isinstance(one, Value) for one in inside):
        raise ArgumentTypeError(
            f"function: an output must be one value, got a {type(value).__name__} of values.",
            fix="give one sequence or mapping; sg.stack joins values, sg.jit takes nested ones",
        )
    return as_value(value)


def _packed(structure: Any, arrays: list[Array]) -> Any:
    if structure is None:
        return None
    if isinstance(structure, dict):
        return dict(zip(structure, arrays))
    return arrays if isinstance(structure, list) else arrays[0]


def _check_inputs(graph: Graph, name: str) -> None:
    missing = missing_inputs(graph.inputs, graph.roots)
    if missing:
        names = ", ".join(f"`{value.label}`" for value in missing)
        raise GraphError(
            f"{name}: the outputs need {names}, which {'is' if len(missing) == 1 else 'are'} "
            "not among the inputs.",
            details=[value.describe() for value in missing],
            fix="add to the inputs, or replace with givens",
        )


def _check_passes(graph: Graph, name: str) -> None:
    """Raise `PassError` when a pass brought in an input that no caller can give."""
    if not missing_inputs(graph.inputs, graph.roots):
        return
    for step in graph.history:
        missing = missing_inputs(graph.inputs, step.after.roots)
        if missing:
            raise PassError(
                f"{name}: after the pass `{step.reason}` the graph needs the input "
                f"`{missing[0].label}`, which is not among the inputs.",
                details=[missing[0].describe()],
                fix="build replacements from what they replace, and from constants",
            )


@function_of
def eval(value: Value, feeds: Any = None, /, **named: Any) -> Array:
    """Compute a value now. Feeds map inputs to arrays and sizes to numbers, or go by name.

    Updates attached to values on the way (running means, random streams) are applied.
    """
    counts = measured_sizes([value]).values()
    needed = [leaf for leaf in leaves([value, *counts]) if isinstance(leaf.op, Input)]
    for key in feeds if isinstance(feeds, Mapping) else ():
        # an input of which only the sizes are needed is no leaf of the value
        if isinstance(key, Value) and isinstance(key.op, Input) and key not in set(needed):
            needed.append(key)
    compiled = function(needed, value, name="eval", backend="reference")
    arrays: dict[Value, Array] = {}
    sizes: dict[Dim, int] = {}
    for key, given in merge_named(feeds, named).items():
        if isinstance(key, Dim) and is_symbol(key):
            sizes[key] = plain_int("eval", f"the size {key}", given)
            continue
        meant = [one for one in needed if one is key or (isinstance(key, str) and one.label == key)]
        if len(meant) != 1 or meant[0] in arrays:
            label = key.label if isinstance(key, Value) else key
            twice = f"is given `{label}` twice, or several inputs are called so"
            raise InputError(
                f"eval: `{value.label}` "
                + (f"{twice}." if meant else f"does not depend on an input {label!r}."),
                details=[leaf.describe() for leaf in needed],
                fix="x.eval({input: array})" if meant else "",
            )
        arrays[meant[0]] = convert("eval", meant[0], given)
    absent = [leaf for leaf in needed if leaf not in arrays]
    if absent:
        raise InputError(
            f"eval: missing {', '.join(f'`{leaf.label}`' for leaf in absent)}.",
            details=[leaf.describe() for leaf in absent],
        )
    return compiled._run(arrays, sizes)
