"""More steps of random programs, which the programs of Hypothesis leave out: other dtypes, sorting,
running sums, writes to places, products over several axes."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
from scipy import special

import symgraph as sg
from tests.random_steps import (
    Refused,
    Step,
    a_flag,
    a_slice,
    an_axis,
    an_index,
    away,
    full,
    no_tie,
    step,
)

Array = Any
MORE: dict[str, Step] = {}
F, I, ANY = ("f",), ("i",), ("fib",)


def more(name: str, kinds: Any, build: Any, numpy: Any, *attributes: Any, **options: Any) -> None:
    """Add a step."""
    step(name, kinds, build, numpy, *attributes, aligned=False, group=MORE, **options)


def same_shape(x: Array, y: Array, *rest: Any) -> bool:
    """Whether two arrays have one shape."""
    return bool(x.shape == y.shape)


# -- dtypes ---------------------------------------------------------------------------------------

for _dtype in ("float32", "float64", "float16", "bfloat16"):
    more(f"to_{_dtype}", F, lambda x, d=_dtype: x.cast(d), lambda x: x + 0.0, dtype=_dtype)
    more(f"{_dtype}_of_any", ("ib",), lambda x, d=_dtype: x.cast(d),
         lambda x: x.astype(np.float64), dtype=_dtype)  # fmt: skip
for _dtype in ("int8", "uint8", "int32"):
    more(f"{_dtype}_of_small", ("ib",), lambda x, d=_dtype: x.cast(d),
         lambda x, d=_dtype: x.astype(d),
         when=lambda x: np.all((x >= 0) & (x < 120)))  # fmt: skip

# -- along an axis --------------------------------------------------------------------------------

more("sort", F, sg.sort, np.sort, an_axis, when=no_tie)
more("int_sort", I, sg.sort, np.sort, an_axis)
more("argsort", F, sg.argsort, lambda x, a: np.argsort(x, a), an_axis, when=no_tie)
more("cumulative_sum", F, lambda x, a: sg.cumulative_sum(x, axis=a),
     lambda x, a: np.cumsum(x, axis=a), an_axis)  # fmt: skip
more("cumulative_prod", F, lambda x, a: sg.cumulative_prod(x, axis=a),
     lambda x, a: np.cumprod(x, axis=a), an_axis)  # fmt: skip
more("roll", ANY, lambda x, a: sg.roll(x, 1, axis=a), lambda x, a: np.roll(x, 1, axis=a), an_axis)
more("repeat", ANY, lambda x, a: sg.repeat(x, 2, axis=a), lambda x, a: np.repeat(x, 2, axis=a),
     an_axis)  # fmt: skip
more("tile", ANY, lambda x: sg.tile(x, (2, 1)), lambda x: np.tile(x, (2, 1)))
more("std", F, lambda x, a, k: sg.std(x, a, keepdims=k),
     lambda x, a, k: np.std(x, axis=a, keepdims=k), an_axis, a_flag,
     when=lambda x, a, k: full(x, a) and np.std(x, axis=a) > 0.05)  # fmt: skip
more("diff", F, lambda x, a: sg.diff(x, axis=a), lambda x, a: np.diff(x, axis=a), an_axis,
     when=full)  # fmt: skip
more("flat_sum", F, lambda x: x.reshape(-1).sum(), np.sum)
more("normalized", F,
     lambda x, a: (x - sg.mean(x, a, keepdims=True))
     / sg.sqrt(sg.var(x, a, keepdims=True) + 0.1),
     lambda x, a: (x - x.mean(a, keepdims=True)) / np.sqrt(x.var(a, keepdims=True) + 0.1),
     an_axis, when=full)  # fmt: skip
more("relative_max", F, lambda x, a: sg.exp(x - sg.max(x, a, keepdims=True)),
     lambda x, a: np.exp(x - x.max(a, keepdims=True)), an_axis, when=no_tie)  # fmt: skip
more("logsumexp_all", F, lambda x: sg.log(sg.sum(sg.exp(x))), special.logsumexp,
     when=lambda x: x.size and np.abs(x).max() < 20)  # fmt: skip

# -- places ---------------------------------------------------------------------------------------


def _value_at(x: Array, i: Any, result: Array) -> Array:
    changed = x.copy()
    changed[i] = result(changed[i])
    return changed


more("at_set", F, lambda x, i: x.at[i].set(0.5), lambda x, i: _value_at(x, i, lambda _: 0.5),
     an_index)  # fmt: skip
more("at_add", F, lambda x, i: x.at[i].add(x[0]), lambda x, i: _value_at(x, i, lambda v: v + x[0]),
     an_index)  # fmt: skip
more("at_slice", F, lambda x, s: x.at[s].multiply(0.5),
     lambda x, s: _value_at(x, s, lambda v: v * 0.5), a_slice)  # fmt: skip


def _added_at(x: Array, k: Array) -> Array:
    changed = x.copy()
    np.add.at(changed, np.remainder(k, len(x)), 0.25)
    return changed


more("at_places", ("f", "i"), lambda x, k: x.at[sg.remainder(k, x.shape[0])].add(0.25), _added_at,
     when=lambda x, k: x.ndim and len(x) and x.ndim + k.ndim < 5)  # fmt: skip
more("take_rows", ("fib", "i"), lambda x, k: x[sg.remainder(k.cast("int64"), x.shape[0])],
     lambda x, k: x[np.remainder(k.astype(np.int64), len(x))],
     when=lambda x, k: x.ndim and len(x) and x.ndim + k.ndim < 5)  # fmt: skip
more("take_along", ("f", "f"),
     lambda x, y: sg.take_along_axis(x.cast(sg.result_type(x, y)), sg.argsort(y, -1), -1),
     lambda x, y: np.take_along_axis(x, np.argsort(y, -1), -1),
     when=lambda x, y: x.ndim and same_shape(x, y) and no_tie(y, -1))  # fmt: skip
more("diagonal", F, lambda x: sg.diagonal(x), np.diagonal, when=lambda x: x.ndim == 2)
more("tril", F, sg.tril, np.tril, when=lambda x: x.ndim == 2)
more("slice_both", ANY, lambda x, s, t: x[s, t], lambda x, s, t: x[s, t], a_slice, a_slice,
     when=lambda x, s, t: x.ndim > 1)  # fmt: skip


def _newaxis(x: Any) -> Any:
    return x[..., None, :]


more("newaxis", ANY, _newaxis, _newaxis, when=lambda x: x.ndim)

# -- products -------------------------------------------------------------------------------------


def _letters(chance: Random, x: Array, y: Array) -> str:
    if x.ndim > 3 or y.ndim > 3 or not x.ndim or not y.ndim:
        raise Refused
    left, right = "abc"[: x.ndim], ""
    free = iter("xyz")
    used: set[str] = set()
    for size in y.shape:
        same = [c for c, n in zip(left, x.shape) if n == size and c not in used]
        letter = chance.choice(same) if same and chance.randint(0, 3) else next(free)
        used.add(letter)
        right += letter
    every = sorted({*left, *right})
    kept = chance.sample(every, chance.randint(0, min(3, len(every))))
    return f"{left},{right}->{''.join(kept)}"


more("einsum", ("f", "f"), lambda x, y, e: sg.einsum(e, x, y), lambda x, y, e: np.einsum(e, x, y),
     _letters, when=lambda x, y, e: _own_sizes(x, y, e))  # fmt: skip


def _own_sizes(x: Array, y: Array, letters: str) -> bool:
    """Whether no axis of size 1 meets another: whether it stretches is known by its type only."""
    left, right = letters.split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for letter, size in [*zip(left, x.shape), *zip(right, y.shape)]:
        if sizes.setdefault(letter, size) != size:
            return False
    return True


more("batched_matmul", ("f", "f"), sg.matmul, np.matmul,
     when=lambda x, y: x.ndim == 3 and y.ndim in (2, 3) and x.shape[-1] == y.shape[-2]
     and (y.ndim == 2 or x.shape[0] == y.shape[0]))  # fmt: skip
more("linear_relu", ("f", "f"), lambda x, y: sg.relu(sg.matmul(x, y) + 0.125),
     lambda x, y: np.maximum(np.matmul(x, y) + 0.125, 0),
     when=lambda x, y: x.ndim == 2 and y.ndim == 2 and x.shape[1] == y.shape[0]
     and away(np.matmul(x, y) + 0.125))  # fmt: skip
more("matmul_turned", ("f", "f"), lambda x, y: sg.matmul(x.T, y), lambda x, y: np.matmul(x.T, y),
     when=lambda x, y: x.ndim == 2 and y.ndim == 2 and x.shape[0] == y.shape[0])  # fmt: skip
more("squared_distance", ("f", "f"),
     lambda x, y: sg.sum((x[:, None] - y[None]) ** 2, -1),
     lambda x, y: np.sum((x[:, None] - y[None]) ** 2, -1),
     when=lambda x, y: x.ndim == 2 and y.ndim == 2 and x.shape[1] == y.shape[1])  # fmt: skip
