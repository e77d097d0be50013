"""`scan` with Theano's signature, and `map`, `reduce`, `foldl`, `foldr` by it.

A step gets rows of sequences, what was computed in steps before, and what is the same in all of
them; it is written once, and compiled as the body of a loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from symgraph.dims import Dim, Size, equal, less, less_equal, minimum
from symgraph.errors import ArgumentError, ArgumentTypeError, ShapeError
from symgraph.frozen import frozen
from symgraph.graph.arguments import plain_int
from symgraph.graph.body import closed, like, same_type
from symgraph.graph.draws import collect_draws, draw_by_step, drawn
from symgraph.graph.leaves import Shared, as_value
from symgraph.graph.measured import measured, substituted
from symgraph.graph.node import Value, operand_lines
from symgraph.graph.registry import F, function_of, lookup
from symgraph.graph.types import TensorType
from symgraph.ops.scan_loop import ScanLoop

Updates = dict[Shared, Value]


@frozen
class until:  # noqa: N801 - read as a word of the language
    """Returned by a step beside its outputs: the loop ends after the step where `condition` holds.

    >>> import symgraph as sg
    >>> x = sg.vector("x")
    >>> total, _ = sg.scan(lambda row, s: (s + row, sg.until(s + row > 3)), x, [0.0])
    >>> total.eval(x=[1, 2, 3, 4]).tolist()
    [1.0, 3.0, 6.0]
    """

    condition: Value


@frozen
class _Sequence:
    """What a scan walks along, and the places that a step sees, counted from its own."""

    value: Value
    taps: tuple[int, ...]

    @property
    def low(self) -> int:
        return min(0, *self.taps)

    @property
    def lost(self) -> int:
        """How many steps fewer there are than rows."""
        return max(0, *self.taps) - self.low


@frozen
class _State:
    """A recurrent output: its value so many steps before the first, and those that a step sees."""

    before: tuple[Value, ...]  # one step before the first, two steps, ...
    taps: tuple[int, ...]


@function_of
def scan(
    fn: Callable[..., Any],
    sequences: Any = None,
    outputs_info: Any = None,
    non_sequences: Any = None,
    n_steps: Size | None = None,
    truncate_gradient: int = -1,
    go_backwards: bool = False,
    *,
    checkpoint: int | None = None,
    pad: bool = False,
    name: str = "scan",
) -> tuple[Any, Updates]:
    """Call `fn` step by step and stack what it gives: (outputs, updates), as Theano's `scan`.

    `fn` gets, in this order: a row of each sequence; for each output with an initial value, what
    it was one step before; `non_sequences` as they are. A sequence may be `dict(input=x,
    taps=[-1, 0])`, an initial value `dict(initial=x0, taps=[-2, -1])`, where `x0` then has a row
    for each step before the first. `outputs_info` has an entry for each output, None where it is
    not fed back. `fn` returns an output, or several, and may add a dictionary of updates of shared
    variables, which then change from step to step, and `until(condition)`, after which there are
    no more rows: how many, the data decide. With `pad` there are all, those of steps that were not
    made zero; inside of another loop it must be so. `go_backwards` reads the sequences from their
    ends. The gradient goes back at most `truncate_gradient` steps. With `checkpoint=k` the way back
    keeps the states of every k-th step only, and computes the others again.

    Raises `ShapeError` or `DTypeError` where an output does not fit its initial value, and
    `ArgumentError` for what does not belong together. Random values made in `fn` differ from step
    to step.

    >>> import symgraph as sg
    >>> x = sg.vector("x")
    >>> total, _ = sg.scan(lambda row, before: before + row, x, [0.0])
    >>> total.eval(x=[1, 2, 3]).tolist()
    [1.0, 3.0, 6.0]
    """
    if not callable(fn):
        raise ArgumentTypeError(f"{name}: fn must be a function, got {type(fn).__name__}.")
    rows = [_sequence(name, one) for one in _listed(sequences)]
    infos = [_state(name, one) for one in _listed(outputs_info)]
    others = [as_value(one) for one in _listed(non_sequences)]
    length = _length(name, rows, n_steps)
    made = _Trace(name, fn, rows, infos, others, bool(go_backwards))
    limit = plain_int(name, "truncate_gradient", truncate_gradient)
    outputs, _, updates = made.run(length, limit, checkpoint, bool(pad))
    if not outputs:
        return None, updates
    return (outputs[0] if made.single else outputs), updates


def _listed(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]


def _taps(name: str, given: Any, default: tuple[int, ...]) -> tuple[int, ...]:
    if given is None:
        return default
    several = given if isinstance(given, Iterable) else (given,)
    found = tuple(plain_int(name, "a tap", one) for one in several)
    if not found:
        raise ArgumentError(
            f"{name}: taps must not be empty.", fix="leave them out for [0] or [-1]"
        )
    return found


def _sequence(name: str, given: Any) -> _Sequence:
    if isinstance(given, Mapping):
        _only(name, given, ("input", "taps"))
        found = _Sequence(as_value(given["input"]), _taps(name, given.get("taps"), (0,)))
    else:
        found = _Sequence(as_value(given), (0,))
    if not found.value.ndim:
        raise ShapeError(
            f"{name}: the sequence `{found.value.label}` must have an axis to walk along.",
            details=operand_lines([found.value]),
            fix="give what is the same in all steps as non_sequences",
        )
    return found


def _state(name: str, given: Any) -> _State | None:
    if isinstance(given, Mapping):
        _only(name, given, ("initial", "taps"))
        if given.get("initial") is None:
            return None
        taps = _taps(name, given.get("taps"), (-1,))
        if max(taps) >= 0:
            raise ArgumentError(
                f"{name}: taps of an output must be before the step, got {list(taps)}.",
                fix="taps=[-2, -1] for the last two steps",
            )
        first, depth = as_value(given["initial"]), -min(taps)
        if depth == 1:
            return _State((first,), taps)
        if not first.ndim:
            raise ShapeError(
                f"{name}: `{first.label}` must have {depth} rows, one for each step before.",
                details=operand_lines([first]),
            )
        return _State(tuple(first[depth - back] for back in range(1, depth + 1)), taps)
    return None if given is None else _State((as_value(given),), (-1,))


def _only(name: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    unknown = [key for key in given if key not in known]
    if unknown or known[0] not in given:
        what = f"`{unknown[0]}` is not known" if unknown else f"`{known[0]}` is missing"
        raise ArgumentError(
            f"{name}: {what} in {dict(given)!r:.60}.", fix=f"keys {', '.join(known)}"
        )


def _length(name: str, rows: Sequence[_Sequence], n_steps: Any) -> Size:
    """Give the number of steps: as asked, else that of the shortest sequence."""
    if n_steps is not None:
        if isinstance(n_steps, Value):
            size: Size = lookup("as_size")(n_steps)
            return size
        count = n_steps if isinstance(n_steps, Dim) else plain_int(name, "n_steps", n_steps)
        if less(count, 0):
            raise ArgumentError(
                f"{name}: n_steps must be >= 0, got {count}.",
                fix="go_backwards=True reads sequences from their ends" if rows else "",
            )
        return count
    if not rows:
        raise ArgumentError(
            f"{name}: how many steps are there?", fix="give sequences, or n_steps=10"
        )
    sizes = [one.value.shape[0] - one.lost for one in rows]
    first, *rest = sizes
    return first if all(equal(first, one) is True for one in rest) else minimum(*sizes)


class _Trace:
    """A step, called once with placeholders; the loop is made of what it gave."""

    def __init__(
        self,
        name: str,
        fn: Callable[..., Any],
        rows: Sequence[_Sequence],
        infos: Sequence[_State | None],
        others: Sequence[Value],
        backwards: bool,
    ) -> None:
        self.name, self.rows, self.infos, self.backwards = name, rows, infos, backwards
        self.row_inputs = [
            like(one.value.tensor.with_shape(one.value.shape[1:]), f"{one.value.label}_row")
            for one in rows
            for _ in one.taps
        ]
        self.states = [one for info in infos if info is not None for one in info.before]
        self.state_inputs = [like(one.tensor, f"{one.label}_before") for one in self.states]
        place, seen = 0, []
        for info in infos:
            if info is not None:
                seen += [self.state_inputs[place - tap - 1] for tap in info.taps]
                place += len(info.before)
        with collect_draws() as draws:
            found = fn(*self.row_inputs, *seen, *others)
        self.outputs, self.updates, self.stop = self._parsed(found)
        self.step: Value | None = None
        if draws:
            self.step = like(TensorType("int64", ()), "step")
            roots = [*self.outputs, *self.updates.values(), *([self.stop] if self.stop else [])]
            done = substituted(roots, draw_by_step(draws, self.step))
            self.outputs = [done[one] for one in self.outputs]
            self.updates = {target: done[new] for target, new in self.updates.items()}
            self.stop = done[self.stop] if self.stop else None
        self._fit()

    def _parsed(self, found: Any) -> tuple[list[Value], Updates, Value | None]:
        """Take apart what a step returned."""
        parts = list(found) if isinstance(found, list | tuple) else [found]
        self.single = not isinstance(found, list | tuple)
        outputs: list[Value] = []
        updates: Updates = {}
        stop: Value | None = None
        for part in parts:
            if isinstance(part, until):
                stop = F.cast(as_value(part.condition), "bool")
            elif isinstance(part, Mapping):
                updates.update(self._checked(part))
            elif isinstance(part, list | tuple) and len(parts) <= 3:
                outputs += [as_value(one) for one in part]
            elif part is not None:
                outputs.append(as_value(part))
        plain = [p for p in parts if not isinstance(p, until | Mapping) and p is not None]
        if len(plain) == 1 and not isinstance(plain[0], list | tuple):
            self.single = True
        if stop is not None and stop.ndim:
            raise ShapeError(
                f"{self.name}: the condition of until must be a scalar.",
                details=operand_lines([stop]), fix="use sg.any(...) or sg.all(...)",
            )  # fmt: skip
        if self.infos and len(self.infos) != len(outputs):
            raise ArgumentError(
                f"{self.name}: outputs_info has {len(self.infos)} entries, fn gives "
                f"{len(outputs)} outputs.",
                details=operand_lines(outputs),
                fix="one entry for each output, None where it is not fed back",
            )
        return outputs, updates, stop

    def _checked(self, updates: Mapping[Any, Any]) -> Updates:
        for target in updates:
            if not isinstance(target, Shared):
                raise ArgumentTypeError(
                    f"{self.name}: fn gives a dictionary with the key {target!r:.40}, which is no "
                    "shared variable.",
                    fix="a dictionary holds updates; outputs are a value, a tuple or a list",
                )
        return {target: as_value(new, target.dtype) for target, new in updates.items()}

    def _fit(self) -> None:
        """Give recurrent outputs the types of their initial values."""
        self.new_states: list[Value] = []
        place = 0
        for number, info in enumerate(self.infos):
            if info is None:
                continue
            own = self.state_inputs[place : place + len(info.before)]
            output = same_type(
                self.name, f"output {number}", self.outputs[number], own[0], "its initial value"
            )
            self.outputs[number] = output
            self.new_states += [output, *own[:-1]]
            place += len(info.before)

    # -- the loop ----------------------------------------------------------------------------------

    def run(
        self, length: Size, limit: int, checkpoint: int | None, pad: bool = True
    ) -> tuple[list[Value], list[Value], Updates]:
        """Make the loop: the outputs, stacked; the last states; the updates of variables."""
        starts = [*self.states, *self.updates]  # variables that change are states, too
        inputs = [*self.state_inputs, *(like(one.tensor, one.label) for one in self.updates)]
        changing: dict[Value, Value] = dict(zip(self.updates, inputs[len(self.states) :]))
        news = [*self.new_states, *self.updates.values()]
        if self.step is not None:
            starts.append(F.constant(0, "int64"))
            inputs.append(self.step)
            news.append(self.step + 1)
        counted = self.stop is not None and not pad and bool(self.outputs)
        if counted:
            starts.append(F.constant(0, "int64"))
            inputs.append(like(TensorType("int64", ()), "steps"))
            news.append(inputs[-1] + 1)
        if self.stop is not None:
            starts.insert(0, F.constant(True))
            inputs.insert(0, like(TensorType("bool", ()), "going"))
            news.insert(0, F.logical_not(self.stop))
        if changing:
            done = substituted([*news, *self.outputs], changing)
            news = [done[one] for one in news]
            outputs = [done[one] for one in self.outputs]
        else:
            outputs = self.outputs
        body, others, effects = closed(self.name, [*self.row_inputs, *inputs], [*news, *outputs])
        for target, new in effects.items():
            self._no_conflict(target, new)
        sequences = self._cut(length)
        looped = ScanLoop(body, len(starts), self.stop is not None, list(others))
        last, kept = looped.run(sequences, starts, length, limit, checkpoint, self.name)
        if self.step is not None and last:
            drawn(last[0].inputs[0])
        if effects and kept:
            kept[0] = F.with_updates(kept[0], effects)
        if counted:
            made = measured(last.pop(), f"{self.name}.steps", length)
            kept = [F.slice_at(one, (0,) * one.ndim, (made, *one.shape[1:])) for one in kept]
        if self.stop is not None:
            last = last[1:]
        return kept, last, dict(zip(self.updates, last[len(self.states) :]))

    def _no_conflict(self, target: Shared, new: Value) -> None:
        if target in self.updates:
            raise ArgumentError(
                f"{self.name}: `{target.label}` is updated by a value inside and by the step.",
                details=operand_lines([target, new]),
            )

    def _cut(self, length: Size) -> list[Value]:
        """Give for each tap of each sequence the rows that the steps see."""
        found = []
        for one in self.rows:
            whole = F.flip(one.value, axis=0) if self.backwards else one.value
            found += [self._rows(whole, tap - one.low, one.lost, length) for tap in one.taps]
        return found

    def _rows(self, whole: Value, start: int, lost: int, length: Size) -> Value:
        """Give `length` rows from one on; whether there are as many may be for a call to say."""
        size, rest = whole.shape[0], whole.shape[1:]
        there = less_equal(length + lost, size)
        if there is False:
            raise ShapeError(
                f"{self.name}: {length} steps need {length + lost} rows of `{whole.label}`, "
                f"which has {size}.",
                details=operand_lines([whole]),
                fix="leave n_steps out, or give longer sequences",
            )
        if there and less_equal(0, length):
            return F.slice_at(whole, (start, *(0 for _ in rest)), (length, *rest))
        return F.specify_shape(whole[start : start + length], (length, *rest))


@function_of
def map(
    fn: Callable[..., Any],
    sequences: Any,
    non_sequences: Any = None,
    truncate_gradient: int = -1,
    go_backwards: bool = False,
    name: str = "map",
) -> tuple[Any, Updates]:
    """Apply `fn` to the rows of sequences: (outputs, updates); see `scan`.

    >>> import symgraph as sg
    >>> sg.map(lambda row: row.sum(), sg.constant([[1.0, 2.0], [3.0, 4.0]]))[0].eval().tolist()
    [3.0, 7.0]
    """
    return scan(
        fn, sequences, None, non_sequences, None, truncate_gradient, go_backwards, name=name
    )


@function_of
def foldl(
    fn: Callable[..., Any],
    sequences: Any,
    outputs_info: Any,
    non_sequences: Any = None,
    name: str = "foldl",
) -> tuple[Any, Updates]:
    """Fold rows from the first to the last, and give the last outputs: (outputs, updates).

    >>> import symgraph as sg
    >>> sg.foldl(lambda row, acc: acc * 10 + row, sg.constant([1, 2, 3]), 0)[0].eval().item()
    123
    """
    return _fold(fn, sequences, outputs_info, non_sequences, False, name)


@function_of
def foldr(
    fn: Callable[..., Any],
    sequences: Any,
    outputs_info: Any,
    non_sequences: Any = None,
    name: str = "foldr",
) -> tuple[Any, Updates]:
    """Fold rows from the last to the first, and give the last outputs: (outputs, updates).

    >>> import symgraph as sg
    >>> sg.foldr(lambda row, acc: acc * 10 + row, sg.constant([1, 2, 3]), 0)[0].eval().item()
    321
    """
    return _fold(fn, sequences, outputs_info, non_sequences, True, name)


@function_of
def reduce(
    fn: Callable[..., Any],
    sequences: Any,
    outputs_info: Any,
    non_sequences: Any = None,
    go_backwards: bool = False,
    name: str = "reduce",
) -> tuple[Any, Updates]:
    """Fold rows and give the last outputs: (outputs, updates); see `scan`."""
    return _fold(fn, sequences, outputs_info, non_sequences, go_backwards, name)


def _fold(
    fn: Callable[..., Any], sequences: Any, first: Any, others: Any, backwards: bool, name: str
) -> tuple[Any, Updates]:
    rows = [_sequence(name, one) for one in _listed(sequences)]
    given = [_state(name, one) for one in _listed(first)]
    infos = [one for one in given if one is not None]
    if not infos or len(infos) < len(given):
        raise ArgumentError(
            f"{name}: every output needs an initial value.", fix="outputs_info=[0.0]"
        )
    fixed = [as_value(one) for one in _listed(others)]
    made = _Trace(name, fn, rows, infos, fixed, backwards)
    _, states, updates = made.run(_length(name, rows, None), -1, None)
    depths = [len(one.before) for one in infos]
    last = [states[sum(depths[:number])] for number in range(len(infos))]
    return (last[0] if made.single else last), updates
