"""What stays from step to step of a loop: computed by the first step, anew in the next call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from symgraph.backends.cpu.onednn.library import status
from symgraph.runtime.inner import Routine
from symgraph.runtime.native import BoundPlan, NativeExecutor

SIZE = 256  # columns of weights that the library does not read where they lie
with_library = pytest.mark.skipif(bool(status().problem), reason="needs oneDNN, which copies")
pytestmark = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is a compiler")


def bodies(plan: BoundPlan) -> list[Any]:
    """Give the bound plans of the bodies in a step."""
    used = [use.primitive for each in plan._asked.values() for use in each.uses]
    return [one for each in used if isinstance(each, Routine) for one in each.inside]


def inside(f: sg.Function) -> list[Any]:
    executor = f._executor
    assert isinstance(executor, NativeExecutor)
    assert executor.last is not None
    return bodies(executor.last)


def squashed(h: np.ndarray, w: np.ndarray, steps: int) -> np.ndarray:
    for _ in range(steps):
        h = np.tanh(h @ w)
    return h


def weights(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.standard_normal(shape) / SIZE**0.5).astype("float32")


def make() -> sg.Function:
    """Make a loop that multiplies by the same matrix in every step."""
    h, w = sg.tensor("h", (4, SIZE)), sg.tensor("w", (SIZE, SIZE))
    states, _ = sg.scan(lambda state, held: sg.tanh(state @ held), None, h, [w], n_steps=3)
    return sg.function([h, w], states[-1], backend="cpu")


@with_library
def test_the_first_step_copies_and_the_next_call_copies_anew(rng: np.random.Generator) -> None:
    f = make()
    h = rng.standard_normal((4, SIZE)).astype("float32")
    for _ in range(3):
        w = weights(rng, SIZE, SIZE)
        np.testing.assert_allclose(f(h, w), squashed(h, w, 3), rtol=1e-4, atol=1e-5)
    (body,) = inside(f)
    flags = list(body.records[:, 5])
    assert 0 < sum(flags) < len(flags)  # the copy, not the product
    assert f.bind().kept >= body.held_bytes() >= SIZE * SIZE * 4


@with_library
def test_loops_in_loops(rng: np.random.Generator) -> None:
    x, w = sg.tensor("x", (5, 4, SIZE)), sg.tensor("w", (5, SIZE, SIZE))

    def outer(row: sg.Value, held: sg.Value) -> sg.Value:
        states, _ = sg.scan(lambda state, k: sg.tanh(state @ k), None, row, [held], n_steps=3)
        return states[-1]

    rows, _ = sg.scan(outer, [x, w])
    f = sg.function([x, w], rows, backend="cpu")
    a, b = rng.standard_normal(x.shape).astype("float32"), weights(rng, 5, SIZE, SIZE)
    for first in (a, a[::-1]):
        expected = np.stack([squashed(h, k, 3) for h, k in zip(first, b)])
        np.testing.assert_allclose(f(first, b), expected, rtol=1e-4, atol=1e-5)
    (body,) = inside(f)
    assert not any(body.records[:, 5])  # other weights in each step
    assert any(bodies(body)[0].records[:, 5])


def test_a_branch_within_computes_it_whenever_it_is_taken(rng: np.random.Generator) -> None:
    x, w = sg.tensor("x", (6, 4)), sg.tensor("w", (4,))

    def step(row: sg.Value, held: sg.Value) -> sg.Value:
        return sg.cond(sg.sum(row) > 0, lambda: row * sg.exp(held), lambda: row - sg.exp(held))

    rows, _ = sg.scan(step, x, None, [w])
    f = sg.function([x, w], rows, backend="cpu")
    a = rng.standard_normal((6, 4)).astype("float32")
    for _ in range(2):
        b = rng.standard_normal(4).astype("float32")
        total = a.sum(1, keepdims=True)
        expected = np.where(total > 0, a * np.exp(b), a - np.exp(b))
        np.testing.assert_allclose(f(a, b), expected, rtol=1e-5, atol=1e-6)
