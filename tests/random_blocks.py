"""The steps of random programs that hold a body of steps: loops, branches, maps over an axis.

Their oracles run the body's own NumPy evaluation, step after step, in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import symgraph as sg
from tests.random_steps import Refused, Step, step

Array = Any
BLOCKS: dict[str, Step] = {}
LONGEST = 20  # steps of a loop
F, ANY = ("f",), ("fib",)


def block(name: str, kinds: Sequence[str], build: Any, numpy: Any, prepare: Any) -> None:
    """Add a block: `prepare` draws its attributes, among them bodies, and gives its dtype."""
    step(name, kinds, build, numpy, prepare=prepare, smooth=True, aligned=False, group=BLOCKS)


def rows_of(slot: Any) -> tuple[Any, str, list[Array]]:
    """Give the parameter that a row of a slot is; where there is no row, numbers of its shape."""
    if any(not one.ndim or one.shape[0] > LONGEST for one in slot.lanes):
        raise Refused("operands")
    rows = [
        one[0] if len(one) else np.full(one.shape[1:], 0.75).astype(one.dtype) for one in slot.lanes
    ]
    return sg.tensor("row", slot.value.shape[1:], slot.dtype), slot.dtype, rows


def whole(slot: Any) -> tuple[Any, str, list[Array]]:
    """Give the parameter that a slot is."""
    return slot.value, slot.dtype, list(slot.lanes)


def some(maker: Any) -> int:
    """How many steps a body has."""
    return int(maker.chance.randint(1, 6))


def mixed(s: Any, new: Any) -> Any:
    """Keep a state bounded, on values."""
    return 0.5 * s + 0.5 * sg.tanh(new)


def mixed_numpy(s: Array, new: Array) -> Array:
    """Keep a state bounded, on arrays."""
    return 0.5 * s + 0.5 * np.tanh(new)


# -- scan and its relatives ------------------------------------------------------------------------


def _scan(maker: Any, x: Any, s: Any, w: Any) -> tuple[tuple[Any, ...], str]:
    back = bool(maker.chance.randint(0, 1))
    last = all(len(one) for one in x.lanes if one.ndim) and bool(maker.chance.randint(0, 1))
    body, _ = maker.body([rows_of(x), whole(s), whole(w)], some(maker), wanted=1)
    return (back, last, body), s.dtype


def _scan_build(x: Any, s: Any, w: Any, back: bool, last: bool, body: Any) -> Any:
    def one(row: Any, state: Any, other: Any) -> Any:
        return mixed(state, body(row, state, other))

    states, _ = sg.scan(one, x, [s], [w], go_backwards=back)
    return states[-1] if last else states


def _scan_numpy(x: Array, s: Array, w: Array, back: bool, last: bool, body: Any) -> Array:
    states, found = s, []
    for row in x[::-1] if back else x:
        states = mixed_numpy(states, body(row, states, w))
        found.append(states)
    return found[-1] if last else np.array(found).reshape(len(x), *s.shape)


block("scan", ("fib", "f", "fib"), _scan_build, _scan_numpy, _scan)


def _until(maker: Any, x: Any, s: Any) -> tuple[tuple[Any, ...], str]:
    body, _ = maker.body([rows_of(x), whole(s)], some(maker), wanted=1)
    every = maker.chance.choice([None, None, 2, 3])
    return (every, maker.chance.random() < 0.5, body), s.dtype


def _until_build(x: Any, s: Any, every: int | None, pad: bool, body: Any) -> Any:
    def one(row: Any, state: Any) -> Any:
        new = mixed(state, body(row, state))
        return new if every else (new, sg.until(sg.sum(row.cast("int64")) > 1))

    if every:
        return sg.scan(one, x, [s], checkpoint=every)[0]
    states = sg.scan(one, x, [s], pad=pad)[0]
    return states if pad else sg.sum(states, axis=0)  # as many rows as steps were taken


def _until_numpy(x: Array, s: Array, every: int | None, pad: bool, body: Any) -> Array:
    found = np.zeros((len(x), *s.shape))
    for number, row in enumerate(x):
        s = mixed_numpy(s, body(row, s))
        found[number] = s
        if not every and np.sum(row.astype(np.int64)) > 1:
            break
    return found if every or pad else found.sum(axis=0)


block("scan_until", ("ib", "f"), _until_build, _until_numpy, _until)


def _two_outputs(maker: Any, x: Any, s: Any) -> tuple[tuple[Any, ...], str]:
    body, _ = maker.body([rows_of(x), whole(s), whole(s)], some(maker), wanted=1)
    other, result = maker.body([rows_of(x), whole(s)], some(maker))
    return (body, other), result.dtype


def _two_outputs_build(x: Any, s: Any, body: Any, other: Any) -> Any:
    def one(row: Any, before: Any, state: Any) -> Any:
        return mixed(state, body(row, before, state)), other(row, state)

    taps = {"initial": sg.stack([s, 0.5 * s]), "taps": [-2, -1]}
    (_, kept), _ = sg.scan(one, x, [taps, None])
    return kept


def _two_outputs_numpy(x: Array, s: Array, body: Any, other: Any) -> Array:
    if not len(x):
        raise Refused("operands")
    before, state, found = s, 0.5 * s, []
    for row in x:
        found.append(other(row, state))
        before, state = state, mixed_numpy(state, body(row, before, state))
    return np.array(found)


block("scan_taps", ("fib", "f"), _two_outputs_build, _two_outputs_numpy, _two_outputs)


def _each(maker: Any, x: Any, w: Any) -> tuple[tuple[Any, ...], str]:
    body, result = maker.body([rows_of(x), whole(w)], some(maker))
    return (body,), result.dtype


def _each_numpy(x: Array, w: Array, body: Any) -> Array:
    if not len(x):
        raise Refused("operands")
    return np.array([body(row, w) for row in x])


block("map", ("fib", "fib"), lambda x, w, body: sg.map(body, x, [w])[0], _each_numpy, _each)
block("vmap", ("fib", "fib"), lambda x, w, body: sg.vmap(body, in_axes=(0, None))(x, w),
      _each_numpy, _each)  # fmt: skip


def _all_lanes(maker: Any, x: Any) -> tuple[tuple[Any, ...], str]:
    place = maker.chance.randint(0, 1)
    body, result = maker.body([rows_of(x), rows_of(x)], some(maker))
    if place and any(one.ndim < 1 for one in result.lanes):
        raise Refused("operands")
    return (place, body), result.dtype


def _all_lanes_numpy(x: Array, place: int, body: Any) -> Array:
    if not len(x):
        raise Refused("operands")
    return np.stack([body(row, again) for row, again in zip(x, x[::-1])], axis=place)


block("vmap_out", ("fib",),
      lambda x, place, body: sg.vmap(body, out_axes=place)(x, x[::-1]),
      _all_lanes_numpy, _all_lanes)  # fmt: skip


def _fold(maker: Any, x: Any, s: Any) -> tuple[tuple[Any, ...], str]:
    body, _ = maker.body([rows_of(x), whole(s)], some(maker), wanted=1)
    return (body,), s.dtype


def _fold_numpy(backwards: bool) -> Callable[..., Array]:
    def run(x: Array, s: Array, body: Any) -> Array:
        for row in x[::-1] if backwards else x:
            s = mixed_numpy(s, body(row, s))
        return s

    return run


block("foldl", ("fib", "f"),
      lambda x, s, body: sg.foldl(lambda row, v: mixed(v, body(row, v)), x, s)[0],
      _fold_numpy(False), _fold)  # fmt: skip
block("foldr", ("fib", "f"),
      lambda x, s, body: sg.foldr(lambda row, v: mixed(v, body(row, v)), x, s)[0],
      _fold_numpy(True), _fold)  # fmt: skip


# -- while -----------------------------------------------------------------------------------------


def _while(bounded: bool) -> Callable[..., tuple[tuple[Any, ...], str]]:
    def prepare(maker: Any, s: Any, k: Any) -> tuple[tuple[Any, ...], str]:
        most = maker.chance.randint(0, 4) if bounded else None
        body, _ = maker.body([whole(s), whole(k)], some(maker), wanted=0)
        return (most, body), s.dtype

    return prepare


def _while_build(s: Any, k: Any, most: int | None, body: Any) -> Any:
    times = sg.remainder(sg.sum(k.cast("int64")), 5)

    def one(state: Any) -> Any:
        return mixed(state[0], body(state[0], k)), state[1] - 1

    return sg.while_loop(lambda state: state[1] > 0, one, (s, times), max_steps=most)[0]


def _while_numpy(s: Array, k: Array, most: int | None, body: Any) -> Array:
    times = int(np.remainder(np.sum(k.astype(np.int64)), 5))
    for _ in range(times if most is None else min(times, most)):
        s = mixed_numpy(s, body(s, k))
    return s


block("while", ("f", "ib"), _while_build, _while_numpy, _while(False))
block("while_at_most", ("f", "ib"), _while_build, _while_numpy, _while(True))


# -- branches --------------------------------------------------------------------------------------


def _branches(count: int) -> Callable[..., tuple[tuple[Any, ...], str]]:
    def prepare(maker: Any, which: Any, x: Any, y: Any) -> tuple[tuple[Any, ...], str]:
        given = [whole(x), whole(y)]
        return tuple(maker.body(given, some(maker), wanted=0)[0] for _ in range(count)), x.dtype

    return prepare


def _cond_numpy(c: Array, x: Array, y: Array, yes: Any, no: Any) -> Array:
    return yes(x, y) if np.any(c) else no(x, y)


block("cond", ("b", "fib", "fib"),
      lambda c, x, y, yes, no: sg.cond(sg.any(c), lambda: yes(x, y), lambda: no(x, y)),
      _cond_numpy, _branches(2))  # fmt: skip
block("ifelse", ("b", "fib", "fib"),
      lambda c, x, y, yes, no: sg.ifelse(sg.any(c), yes(x, y), no(x, y)),
      lambda c, x, y, yes, no: (yes(x, y), no(x, y))[not np.any(c)], _branches(2))  # fmt: skip


def _switch_numpy(k: Array, x: Array, y: Array, *bodies: Any) -> Array:
    return bodies[int(np.clip(np.sum(k.astype(np.int64)), 0, len(bodies) - 1))](x, y)


block("switch", ("ib", "fib", "fib"),
      lambda k, x, y, *bodies: sg.switch(sg.sum(k.cast("int64")), bodies, x, y),
      _switch_numpy, _branches(3))  # fmt: skip


def _checkpointed(maker: Any, x: Any, y: Any) -> tuple[tuple[Any, ...], str]:
    body, result = maker.body([whole(x), whole(y)], some(maker))
    return (body,), result.dtype


block("checkpoint", ("f", "fib"), lambda x, y, body: sg.checkpoint(body)(x, y),
      lambda x, y, body: body(x, y), _checkpointed)  # fmt: skip
