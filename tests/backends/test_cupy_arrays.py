"""How CuPy is asked for what arrays of others need; NumPy plays CuPy here."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from symgraph.backends.arrays import Array
from symgraph.backends.cuda.device import CupyDevice
from symgraph.backends.cuda.exchange import DeviceArray, plain_strides
from tests.backends.host_device import viewed

DTYPES = [
    ("float32", "float32"), ("bool", "bool"), ("int8", "int8"), ("int64", "int64"),
    ("bfloat16", "bfloat16"), ("uint8", "float32"), ("bool", "float32"), ("float16", "float64"),
    ("bfloat16", "float32"), ("bfloat16", "float64"), ("int8", "bfloat16"), ("bool", "bfloat16"),
]  # fmt: skip


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


class Calls(list[Any]):
    """Notes what is called."""

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.append((name, *arguments))


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def device(calls: Calls) -> CupyDevice:
    def ndarray(shape: Any, dtype: Any, pointer: Any, strides: Any = None) -> Any:
        strides = plain_strides(shape, dtype.itemsize) if strides is None else strides
        return viewed(pointer, dtype, shape, strides, writable=True)

    cuda = SimpleNamespace(
        UnownedMemory=lambda address, size, owner, number: address,
        MemoryPointer=lambda memory, offset: memory + offset,
        Event=lambda disable_timing: SimpleNamespace(ptr=1000),
        get_current_stream=lambda: SimpleNamespace(ptr=0),
        runtime=calls,
    )
    made = CupyDevice.__new__(CupyDevice)
    made._cupy = SimpleNamespace(ndarray=ndarray, cuda=cuda)
    made._device, made._stream = nullcontext(), nullcontext()
    made.number, made.stream, made.name = 0, 77, "cuda:0"
    return made


@pytest.mark.parametrize(("own", "wanted"), DTYPES)
def test_gathering_keeps_every_number(own: str, wanted: str, device: CupyDevice) -> None:
    whole = np.arange(-3, 93).reshape(8, 12).astype(dtype_of(own))
    for array in (whole, whole.T, whole[::-2, 1::3], whole[2, ::4], whole[:0, ::2], whole[3, 4]):
        array = np.asarray(array)
        given = DeviceArray(array.ctypes.data, array.dtype, array.shape, array.strides, None, array)
        target = np.zeros(array.shape, dtype_of(wanted))
        device.gather(target.ctypes.data, given, wanted)
        np.testing.assert_array_equal(target, array.astype(dtype_of(wanted)))


def test_halves_keep_infinities_and_signs(device: CupyDevice) -> None:
    array = np.array([np.inf, -np.inf, np.nan, -0.0, 1e-40, 3e38]).astype(ml_dtypes.bfloat16)
    given = DeviceArray(array.ctypes.data, array.dtype, array.shape, array.strides, None, array)
    target = np.zeros(6, np.float32)
    device.gather(target.ctypes.data, given, "float32")
    assert target.tobytes() == array.astype(np.float32).tobytes()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_ref_computes_is_written_where_it_belongs(dtype: str, device: CupyDevice) -> None:
    """Operands may lie in any order; the library itself need not know bfloat16."""
    for name in ("ascontiguousarray", "asarray", "isnan", "where", "zeros"):
        setattr(device._cupy, name, getattr(np, name))
    seen = []

    def ref(xp: Any, x: Any, empty: Any) -> Any:
        seen.extend([x.dtype, empty.shape])
        return x / 3, xp.isnan(x)

    x = np.arange(-6, 6).reshape(3, 4).astype(dtype_of(dtype))
    x[1, 1] = np.nan
    third, missing = np.zeros((4, 3), dtype_of(dtype)), np.zeros((4, 3), np.bool_)
    device.compute(
        SimpleNamespace(ref=ref),  # type: ignore[arg-type]
        [(x.ctypes.data, Array((4, 3), dtype, (1, 4))), (0, Array((0, 2), "int8", (2, 1)))],
        [(third.ctypes.data, Array((4, 3), dtype, (3, 1))),
         (missing.ctypes.data, Array((4, 3), "bool", (3, 1)))],
    )  # fmt: skip
    assert seen == [np.dtype(np.float32), (0, 2)]
    wanted = (x.T.astype(np.float32) / 3).astype(dtype_of(dtype))
    np.testing.assert_array_equal(third.astype(np.float32), wanted.astype(np.float32))
    np.testing.assert_array_equal(missing, np.isnan(x.T.astype(np.float32)))


def test_nothing_is_cleared_where_there_is_nothing(device: CupyDevice, calls: Calls) -> None:
    device.clear(4096, 0)
    device.clear(4096, 12)
    assert calls == [("memsetAsync", 4096, 0, 12, 77)]


def test_streams_wait_by_events_and_not_for_themselves(device: CupyDevice, calls: Calls) -> None:
    assert device.caller() == 0
    device.follow(5)
    device.lead(5)
    device.follow(77)
    assert calls == [
        ("eventRecord", 1000, 5), ("streamWaitEvent", 77, 1000),
        ("eventRecord", 1000, 77), ("streamWaitEvent", 5, 1000),
    ]  # fmt: skip
