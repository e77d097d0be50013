"""Arrays of CuPy in and out of functions: what only a GPU can prove. Part of `pytest -m gpu`.

A stream is late where `spin` keeps it busy: who does not wait for it reads numbers of before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cuda.device import device as opened
from symgraph.backends.cuda.exchange import read
from symgraph.backends.cuda.status import status
from symgraph.errors import BackendError, InputError, MemoryLimitError

pytestmark = pytest.mark.gpu

SPIN = r"""
extern "C" __global__ void spin(long long cycles) {
    long long begin = clock64();
    while (clock64() - begin < cycles) {}
}
"""
CYCLES = 60_000_000  # some 30 ms


@pytest.fixture
def cupy() -> Any:
    found = status()
    assert not found.problem, found.problem
    return found.cupy


@pytest.fixture
def spin(cupy: Any) -> Callable[[], None]:
    """Keep the current stream busy."""
    kernel = cupy.RawKernel(SPIN, "spin")
    kernel((1,), (1,), (np.int64(1),))  # compiled
    cupy.cuda.Device(0).synchronize()
    return lambda: kernel((1,), (1,), (np.int64(CYCLES),))


@contextmanager
def no_trips(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let nothing go to the device nor come from it."""

    def trip(*arguments: Any) -> None:
        raise AssertionError("a trip through the host")

    with monkeypatch.context() as patch:
        patch.setattr(opened(0), "upload", trip)
        patch.setattr(opened(0), "download", trip)
        yield


class Bare:
    """Speaks DLPack alone, as a tensor of another library."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        kind, number = self.array.__dlpack_device__()
        return int(kind), int(number)

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)


class Old(Bare):
    def __dlpack__(self, *, stream: int) -> Any:  # type: ignore[override]
        return self.array.__dlpack__(stream=stream)


class Interface:
    """Speaks `__cuda_array_interface__` alone."""

    def __init__(self, array: Any) -> None:
        self.__cuda_array_interface__ = array.__cuda_array_interface__


class Streaming:
    """Says its stream by itself, as a stream of another library does."""

    def __init__(self, array: Any, stream: Any) -> None:
        self.stream = stream
        self.__cuda_array_interface__ = {**array.__cuda_array_interface__, "stream": None}

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, int(self.stream.ptr)


def affine(**options: Any) -> Any:
    x, y = sg.tensor("x", (sg.dim("gpu_batch"), 64)), sg.tensor("y", (64,))
    return sg.function([x, y], [x * 2 + y, x.sum(axis=0)], name="f", backend="cuda", **options)


def numbers(count: int = 33) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, 64)).astype("f"), rng.standard_normal(64).astype("f")


each_mode = pytest.mark.parametrize("capture", [True, False])


@each_mode
def test_every_protocol_without_a_trip(
    capture: bool, cupy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    f = affine(outputs_on="device")
    x, y = numbers()
    there, offset = cupy.asarray(x), cupy.asarray(y)
    makers = [lambda a: a, Bare, Old, Interface,
              lambda a: Streaming(a, cupy.cuda.get_current_stream())]  # fmt: skip
    with sg.config(capture=capture):
        f(there, offset)
        for make in makers:
            with no_trips(monkeypatch):
                for _ in range(3):
                    affined, total = f(make(there), make(offset))
            assert isinstance(affined, cupy.ndarray)
            np.testing.assert_allclose(affined.get(), x * 2 + y, rtol=1e-6)
            np.testing.assert_allclose(total.get(), x.sum(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(there.get(), x)
    mixed, _ = affine()(there, y)
    assert type(mixed) is np.ndarray
    np.testing.assert_allclose(mixed, x * 2 + y, rtol=1e-6)


def test_any_order_and_every_dtype(cupy: Any) -> None:
    f = affine()
    wide = cupy.asarray(np.random.default_rng(1).standard_normal((128, 128)).astype("f"))
    y = wide[5, ::2]
    for view in (wide[:, ::2], wide[::-1, 64:], wide.T[3:, :64], wide[:9, 1:65],
                 cupy.broadcast_to(wide[0, :64], (5, 64))):  # fmt: skip
        for make in (lambda a: a, Bare, Interface):
            found, _ = f(make(view), make(y))
            np.testing.assert_allclose(found, view.get() * 2 + y.get(), rtol=1e-6)
    x = sg.tensor("x", (2, 3))
    g = sg.function([x], x * 2, backend="cuda")
    for dtype in ("uint8", "int16", "float16", "bool"):
        array = np.array([[0, 1, 1], [1, 0, 1]], dtype)
        for given in (cupy.asarray(array), cupy.asarray(array.T.copy()).T):
            np.testing.assert_array_equal(g(given), array.astype("f") * 2)
    empty = sg.tensor("e", (sg.dim("gpu_any", min=0), 3))
    h = sg.function(
        [empty], [sg.exp(empty), empty.sum(axis=0)], backend="cuda", outputs_on="device"
    )
    rows, total = h(cupy.zeros((0, 3), "f"))
    assert rows.shape == (0, 3)
    np.testing.assert_array_equal(total.get(), 0)


@each_mode
def test_bfloat16(capture: bool, cupy: Any) -> None:
    array = np.arange(-8, 8).reshape(4, 4).astype(ml_dtypes.bfloat16)
    bits = cupy.asarray(array.view(np.uint16))

    class Narrow(Bare):
        def __dlpack__(self, **options: Any) -> Any:
            from tests.backends.foreign_arrays import BFLOAT, told

            capsule = super().__dlpack__(**options)
            told(capsule).dtype.code = BFLOAT
            return capsule

    x, wide = sg.tensor("x", (4, 4), "bfloat16"), sg.tensor("w", (4, 4))
    f = sg.function([x], x.cast("float32") * 2, backend="cuda")
    g = sg.function([wide], wide * 2, backend="cuda")
    with sg.config(capture=capture):
        for _ in range(3):
            np.testing.assert_array_equal(f(Narrow(bits)), array.astype("f") * 2)
            np.testing.assert_array_equal(f(Narrow(bits.T)), array.T.astype("f") * 2)
            np.testing.assert_array_equal(g(Narrow(bits)), array.astype("f") * 2)


def test_bfloat16_of_cupy_itself(cupy: Any) -> None:
    """CuPy 14 knows the dtype of ml_dtypes, and little to do with it."""
    x = sg.tensor("x", (4, 4), "bfloat16")
    f = sg.function([x], x * 2, backend="cuda", outputs_on="device")
    array = np.arange(16).reshape(4, 4).astype(ml_dtypes.bfloat16)
    there = cupy.asarray(array)
    assert there.dtype == ml_dtypes.bfloat16
    once = f(there)
    assert once.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(once.get(), array * 2)
    np.testing.assert_array_equal(f(once).get(), array * 4)


@each_mode
def test_a_late_producer_is_waited_for(capture: bool, cupy: Any, spin: Any) -> None:
    f = affine()
    y = cupy.zeros(64, "f")
    x = cupy.zeros((8, 64), "f")
    stream = cupy.cuda.Stream(non_blocking=True)
    makers = [lambda a: a, Bare, Interface, lambda a: Streaming(a, stream)]
    with sg.config(capture=capture):
        f(x, y)
        for k, make in enumerate(makers, 1):
            for again in range(3):
                cupy.cuda.Device(0).synchronize()
                with stream:
                    spin()
                    x.fill(10 * k + again)
                    given = make(x)
                    found, _ = f(given, y)
                assert (found == 2 * (10 * k + again)).all(), make
        cupy.cuda.Device(0).synchronize()
        with stream:
            spin()
            x.fill(-1)
            given = Streaming(x, stream)
        found, _ = f(given, y)  # by its own word, in no stream of CuPy's
        assert (found == -2).all()


@each_mode
def test_owners_write_again_at_once(
    capture: bool, cupy: Any, spin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    f = affine(outputs_on="device")
    device = opened(0)
    y = cupy.zeros(64, "f")
    with sg.config(capture=capture):
        f(cupy.zeros((8, 64), "f"), y)
        for make in (lambda a: a, Bare, Interface):
            for again in range(3):
                x = cupy.full((8, 64), again + 1, "f")
                cupy.cuda.Device(0).synchronize()
                with device._stream:  # the function itself is late
                    spin()
                found, _ = f(make(x), y)
                x.fill(-9)  # in its owner's stream, not here
                assert (found.get() == 2 * (again + 1)).all()
                del x
                cupy.full((8, 64), -7, "f")  # perhaps where it was


@each_mode
def test_outputs_are_there_for_the_stream_that_is_current(
    capture: bool, cupy: Any, spin: Any
) -> None:
    f = affine(outputs_on="device")
    device = opened(0)
    y = cupy.zeros(64, "f")
    cupy.cuda.Device(0).synchronize()
    kept = []
    with sg.config(capture=capture):
        for k in range(6):
            with cupy.cuda.Stream(non_blocking=True) as stream:
                with device._stream:
                    spin()
                found, total = f(cupy.full((8, 64), k, "f"), y)
                later = found + 1  # waits, though nobody said so
                del found
                spin()  # and the memory is not given away before it was read
                again, _ = f(cupy.full((8, 64), -k, "f"), y)
                stream.synchronize()
            kept.append((k, later, again, total))
    for k, later, again, total in kept:
        assert (later.get() == 2 * k + 1).all()
        assert (again.get() == -2 * k).all()
        assert (total.get() == 8 * k).all()


@each_mode
def test_outputs_are_fresh_and_speak_every_protocol(capture: bool, cupy: Any) -> None:
    f = affine(outputs_on="device")
    x, y = numbers()
    with sg.config(capture=capture):
        arrays = [f(cupy.asarray(x * k), y) for k in range(5)]
    for k, (found, _) in enumerate(arrays):
        np.testing.assert_allclose(found.get(), x * k * 2 + y, rtol=1e-5, atol=1e-6)
    found, _ = arrays[1]
    assert found.__cuda_array_interface__["data"][0] == found.data.ptr
    assert tuple(map(int, found.__dlpack_device__())) == (2, 0)
    assert float(cupy.from_dlpack(Bare(found))[0, 0]) == float(found[0, 0])
    next_one, _ = f(found, y)
    np.testing.assert_allclose(next_one.get(), (x * 2 + y) * 2 + y, rtol=1e-5, atol=1e-6)


def test_training_and_variables_without_a_trip(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x = sg.tensor("x", (sg.dim("gpu_batch"), 64))
    w = sg.shared(np.ones(64, np.float32), "w")
    loss = ((x * w).sum(axis=1) ** 2).mean()
    step = sg.function([x], loss, {w: w - 1e-3 * sg.grad(loss, w)}, backend="cuda",
                       outputs_on="device")  # fmt: skip
    read_w = sg.function([], w, backend="cuda", outputs_on="device")
    batch = cupy.asarray(numbers()[0])
    step(batch)
    read_w()
    with no_trips(monkeypatch):
        losses = [step(batch) for _ in range(5)]
        now = read_w()
    values = [float(one) for one in losses]
    assert values == sorted(values, reverse=True)
    np.testing.assert_array_equal(now.get(), w.value)
    new = cupy.asarray(np.arange(128, dtype="f"))[::2]
    for make in (lambda a: a, Bare, Interface):
        with no_trips(monkeypatch):
            w.value = make(new)
            now = read_w()
            new += 1  # at once
        np.testing.assert_array_equal(now.get(), new.get() - 1)
        np.testing.assert_array_equal(w.value, new.get() - 1)
    fresh = sg.shared(new)  # by a trip
    fresh.value = new * 2
    np.testing.assert_array_equal(fresh.value, new.get() * 2)


def test_errors(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    f = affine()
    _, y = numbers()
    for wrong in (
        np.zeros((4, 64)),
        np.zeros(64, "f"),
        np.zeros((4, 63), "f"),
        np.zeros((4, 64), "F"),
    ):
        with pytest.raises(sg.errors.SymgraphError) as expected:
            f(wrong, y)
        for make in (lambda a: a, Bare, Interface):
            with no_trips(monkeypatch), pytest.raises(type(expected.value)) as caught:
                f(make(cupy.asarray(wrong)), y)
            assert str(caught.value) == str(expected.value)

    class Far(Bare):
        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 5

    with pytest.raises(InputError, match="`x` lies on cuda:5, it is needed on cuda:0"):
        f(Far(cupy.zeros((4, 64), "f")), y)
    x = sg.tensor("x", (3,))
    g = sg.function([x], x * 2, backend="reference")
    with pytest.raises(InputError, match=r"array\.get\(\) in CuPy"):
        g(cupy.zeros(3, "f"))
    at = sg.tensor("at", (2,), "int32")
    h = sg.function([x, at], sg.take(x, at, axis=0), backend="cuda")
    with pytest.raises(sg.errors.IndexRangeError, match="7"):
        h(cupy.zeros(3, "f"), cupy.asarray(np.array([0, 7], np.int32)))


def test_where_arrays_lie(cupy: Any) -> None:
    device = opened(0)
    assert device.where(cupy.zeros(3).data.ptr) == 0
    managed = cupy.cuda.malloc_managed(64)
    assert device.where(managed.ptr) is None
    pinned = cupy.cuda.alloc_pinned_memory(64)
    assert device.where(pinned.ptr) is None
    found = read("x", cupy.zeros((2, 3), "f"), device)
    assert (found.contiguous, found.shape, found.nbytes) == (True, (2, 3), 24)


def test_memory_is_limited_and_given_back(cupy: Any) -> None:
    x = sg.tensor("x", (sg.dim("gpu_batch"), 1 << 20))
    f = sg.function([x], (sg.tanh(x) * 2).sum(axis=0), backend="cuda", outputs_on="device")
    f.bind(gpu_batch=1)
    f.close()

    def free() -> int:
        return int(cupy.cuda.Device(0).mem_info[0])

    cupy.get_default_memory_pool().free_all_blocks()
    before = free()
    with sg.config(memory_limit="64 MB"), pytest.raises(MemoryLimitError):
        f.bind(gpu_batch=64)
    assert free() == before, "nothing was reserved"
    peak = f.bind(gpu_batch=64).peak
    assert peak >= 64 << 22
    assert before - free() >= peak
    f.close()
    assert before - free() < 16 << 20
    with pytest.raises((MemoryLimitError, BackendError)):
        f.bind(gpu_batch=1 << 20)
