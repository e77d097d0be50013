"""Arrays that callers have on a device: brought into place, fetched, and given back.

An owner may write to an array again, in its own stream, as soon as the call that read it returns.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from symgraph.backends.cuda.device import Device
from symgraph.backends.cuda.exchange import DeviceArray
from symgraph.graph.dtypes import DType, dtype_name, numpy_dtype
from symgraph.graph.op import Array

Given = Array | DeviceArray


def plain(given: Given) -> Given:
    """Give a NumPy array in plain order; what lies on a device is put in order there."""
    return given if isinstance(given, DeviceArray) else np.ascontiguousarray(given)


def is_plain(array: DeviceArray, dtype: DType) -> bool:
    """Tell whether an array has a dtype and lies in plain order."""
    return array.contiguous and array.dtype == numpy_dtype(dtype)


def bring(device: Device, target: int, array: DeviceArray, dtype: DType) -> None:
    """Copy an array to an address of the same device, in plain order and as a dtype."""
    if is_plain(array, dtype):
        device.copy(target, array.address, array.nbytes)
    elif array.nbytes:
        device.gather(target, array, dtype)


def fetched(device: Device, array: DeviceArray) -> Array:
    """Give the numbers of an array here."""
    found = np.empty(array.shape, array.dtype)
    with device.lock:
        memory = device.reserve(found.nbytes)
        bring(device, memory.address, array, dtype_name(array.dtype))
        device.download(found, memory.address)
    return found


def release(device: Device, arrays: Iterable[Given]) -> None:
    """Let the streams of owners wait for what was read; where they are unknown, wait here."""
    streams = {one.stream for one in arrays if isinstance(one, DeviceArray)}
    for stream in sorted(one for one in streams if one is not None):
        device.lead(stream)
    if None in streams:
        device.settle()
