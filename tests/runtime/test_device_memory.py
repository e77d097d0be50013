"""Variables take arrays where they lie; the memory of a plan is limited and given back."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import DTypeError, MemoryLimitError, ShapeError
from symgraph.interrupts import held_interrupt
from symgraph.runtime.resident import resident
from tests.backends.foreign_arrays import MAKERS, Tensor, affine, aligned
from tests.backends.host_device import HostArray, HostDevice
from tests.lower.cuda_host import COMPILER

pytestmark = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")

# -- variables -------------------------------------------------------------------------------------


def test_a_variable_takes_an_array_where_it_is(host: HostDevice) -> None:
    w = sg.shared(np.zeros((2, 3), np.float32), "w")
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    w.value = HostArray(host, numbers)  # it was on no device yet: one trip
    np.testing.assert_array_equal(w.value, numbers)
    double = sg.function([], w * 2, backend="cuda")
    double()
    trips, fetched = host.uploads, host.downloads
    makers = (MAKERS["own"], MAKERS["dlpack"], MAKERS["interface"])
    given = [numbers + 1, (numbers.reshape(3, 2).copy() + 2).T, numbers.astype(np.int16)]
    for make, new in zip(makers, given):
        host.order.clear()
        w.value = make(host, new)
        assert host.order[-1][0] in ("lead", "settle"), "its owner may write again"
        np.testing.assert_allclose(double(), new * 2)
        version = w.storage.version
        np.testing.assert_array_equal(w.value, new)
        assert w.storage.version == version
    assert host.uploads == trips
    assert host.downloads == fetched + 6, "an output and the numbers, each time"
    with pytest.raises(ShapeError, match=r"`w` is float32\[2, 3\], the new value is float32\[3"):
        w.value = Tensor(np.zeros((3, 2), np.float32))
    with pytest.raises(DTypeError, match="`w` is float32, it was given float64"):
        w.value = Tensor(np.zeros((2, 3)))
    np.testing.assert_array_equal(w.value, given[-1])
    elsewhere = HostArray(host, numbers)
    host.elsewhere[numbers.ctypes.data] = 1
    elsewhere.__class__ = type("Far", (HostArray,), {"__dlpack_device__": lambda self: (2, 1)})
    w.value = elsewhere  # by one trip
    np.testing.assert_array_equal(double(), numbers * 2)


def test_what_refuses_to_become_an_array_is_told(host: HostDevice) -> None:
    class Torch(Tensor):
        def __array__(self, *args: Any, **options: Any) -> Any:
            raise TypeError("can't convert cuda:0 device type tensor to numpy.")

    with pytest.raises(DTypeError, match=r"can't convert cuda:0 .*\n  fix: copy it to the host"):
        sg.shared(Torch(np.zeros(3, np.float32)))
    shared = sg.shared(HostArray(host, np.ones(3, np.float32)))
    np.testing.assert_array_equal(shared.value, 1)


# -- memory ----------------------------------------------------------------------------------------


def test_more_than_the_limit_is_refused_before_anything_is_reserved(
    host: HostDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = sg.tensor("x", (sg.dim("array_batch"),))
    w = sg.shared(np.float32(3), "w")
    f = sg.function([x], [x * w, x.sum()], backend="cuda")
    needed = f.bind(array_batch=2).peak
    f.close()
    asked: list[int] = []
    reserve = host.reserve
    monkeypatch.setattr(host, "reserve", lambda size: asked.append(size) or reserve(size))
    numbers = np.ones(2, np.float32)
    with sg.config(memory_limit=needed - 1), pytest.raises(MemoryLimitError) as caught:
        f(numbers)
    assert asked == []
    assert str(caught.value) == (
        f"{host.name}: it does not fit in memory.\n"
        f"  needed : {needed} bytes\n"
        f"  limit  : {needed - 1} bytes\n"
        "  fix: raise the limit, sg.config.set(memory_limit=...), or compute less"
    )
    with sg.config(memory_limit=needed):
        f(numbers)
    assert sum(asked) == needed
    with sg.config(memory_limit=8), pytest.raises(MemoryLimitError, match="needed : at least"):
        f(numbers)


def test_without_a_limit_it_is_the_memory_of_the_device(host: HostDevice) -> None:
    x = sg.tensor("x", (sg.dim("array_batch"), 1000))
    host.memory = 1000 * 1000
    f = sg.function([x], sg.exp(x).sum(), backend="cuda")
    f(np.ones((100, 1000), np.float32))
    with pytest.raises(MemoryLimitError, match="limit  : 1 MB"):
        f(np.ones((300, 1000), np.float32))
    g = sg.function([x], sg.exp(x).sum(), backend="reference")
    g(np.ones((300, 1000), np.float32))


def test_close_gives_the_memory_back_at_once(
    host: HostDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    f = affine(outputs_on="device")
    made: list[Any] = []
    reserve = host.reserve

    def watched(size: int) -> Any:
        memory = reserve(size)
        made.append(weakref.ref(memory))
        return memory

    monkeypatch.setattr(host, "reserve", watched)
    x, y = aligned((4, 8)), aligned((8,), 1)
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            kept, _ = f(Tensor(x), Tensor(y))
        assert [one for one in made if one() is not None]
        f.close()
        assert not [one for one in made if one() is not None]
    finally:
        gc.enable()
    np.testing.assert_allclose(kept.numbers, x * 2 + y, rtol=1e-6)


def powers(size: int) -> tuple[Any, Any, Any]:
    """Give a function with temporaries and a constant, its operand, and what it should give."""
    x = sg.tensor("x", (size, size))
    ramp = np.arange(size, dtype=np.float32)
    f = sg.function([x], sg.cumulative_sum(x @ x, axis=1) + sg.constant(ramp), backend="cuda")
    array = np.random.default_rng(size).standard_normal((size, size)).astype(np.float32)
    return f, array, np.cumsum(array.astype(np.float64) @ array, 1) + ramp


@pytest.mark.parametrize("capture", [True, False])
def test_functions_compute_in_the_same_memory(host: HostDevice, capture: bool) -> None:
    made = [powers(size) for size in (30, 60, 40)]
    rooms = resident(host).rooms
    with sg.config(capture=capture):
        for _ in range(4):  # eagerly, recorded, and replayed; the first moves once
            for f, array, wanted in made:
                np.testing.assert_allclose(f(array), wanted, rtol=1e-3, atol=1e-3)
    sizes = [f.bind().peak for f, _, _ in made]
    gc.collect()
    assert [room.size for room in rooms._alive] == [rooms.largest().size]
    assert rooms.largest().size < max(sizes) < sum(sizes)
    reserved = host.reserved
    again, array, wanted = powers(50)
    np.testing.assert_allclose(again(array), wanted, rtol=1e-3, atol=1e-3)
    assert host.reserved - reserved < rooms.largest().size, "the room was there"
    for f in (*(one for one, _, _ in made), again):
        f.close()
    assert rooms.largest() is None


def test_a_plan_that_moves_is_no_launch_that_ctrl_c_may_meet(
    host: HostDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []

    def noted() -> Any:
        held.append(host.launches)
        return held_interrupt()

    monkeypatch.setattr("symgraph.runtime.device.held_interrupt", noted)
    x = sg.tensor("x", (8,))
    f = sg.function([x], sg.sin(x).sum(), backend="cuda")
    first = np.ones(8, np.float32)
    with sg.config(capture=True):
        for _ in range(4):
            f(first)
        calls = len(held)
        assert 0 < calls < 4, "the first calls go step by step, the others are one launch"
        larger, array, _ = powers(70)
        larger(array)
        before = len(held)
        f(first)  # in the larger room: nothing is recorded there yet
        assert len(held) == before + 1


def test_what_is_kept_between_calls_is_not_in_the_way_of_others(host: HostDevice) -> None:
    x = sg.tensor("x", (8,))
    table = sg.constant(np.arange(8, dtype=np.float32))
    outputs, _ = sg.scan(lambda row, state: sg.sin(state + row * table), sequences=[x],
                      outputs_info=[sg.zeros((8,))])  # fmt: skip
    f = sg.function([x], outputs, backend="cuda", outputs_on="device")
    first = np.ones(8, np.float32)
    wanted = sg.function([x], outputs, backend="reference")(first)
    for f_again in range(3):
        kept = f(first)
        other, array, right = powers(33 + f_again)
        np.testing.assert_allclose(other(array), right, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(kept.numbers, wanted, rtol=1e-5, atol=1e-6)


def test_arrays_that_were_given_are_not_kept(host: HostDevice) -> None:
    f = affine(outputs_on="device")
    for capture in (True, False):
        with sg.config(capture=capture):
            given = Tensor(aligned((4, 8)))
            f(given, aligned((8,), 1))
            gone = weakref.ref(given)
            del given
            gc.collect()
            assert gone() is None
