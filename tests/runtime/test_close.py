"""`f.close()` gives memory back, and a later call is as right as the first."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from tests.backends.host_device import HostDevice
from tests.lower.cuda_host import COMPILER


def step(backend: str) -> tuple[Any, sg.Shared]:
    x = sg.tensor("x", (sg.dim("close_batch"), 64))
    w = sg.shared(np.full((64, 64), 0.01, np.float32))
    loss = sg.tanh(sg.tanh(x @ w) @ w).sum()
    return sg.function([x], loss, {w: w - 0.1 * sg.grad(loss, w)}, backend=backend), w


ROWS = np.random.default_rng(0).standard_normal((128, 64)).astype(np.float32)


def same_after(backend: str) -> None:
    f, w = step(backend)
    g, v = step(backend)
    for _ in range(3):
        assert f(ROWS) == g(ROWS)
        f.close()
        f.close()
    np.testing.assert_array_equal(w.value, v.value)


def test_on_the_reference() -> None:
    same_after("reference")


@pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is a compiler")
def test_compiled() -> None:
    same_after("cpu")
    f, _ = step("cpu")
    f(ROWS)
    held: list[Any] = []
    f.with_executor(lambda one: held.append(weakref.ref(one.arena)))
    assert held[0]() is not None
    f.close()
    gc.collect()
    assert held[0]() is None, "the arena is gone"


@pytest.mark.full
@pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")
def test_on_a_device(host: HostDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    same_after("cuda")
    f, _ = step("cuda")
    f(ROWS)
    made: list[Any] = []
    reserve = host.reserve
    monkeypatch.setattr(host, "reserve", lambda size: made.append(reserve(size)) or made[-1])
    f.bind(close_batch=16)
    region = weakref.ref(made.pop())
    assert region() is not None
    f.close()
    gc.collect()
    assert region() is None
