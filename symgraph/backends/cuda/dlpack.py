"""What a DLPack capsule says of an array: the structures of DLPack 0.6 to 1.x, read by ctypes.

A capsule is not consumed but kept: with its last reference the memory goes back to its owner.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from symgraph.errors import DTypeError
from symgraph.graph.dtypes import numpy_dtype

CUDA, MANAGED = 2, 13  # DLDeviceType
VERSION = (1, 0)
_BFLOAT = 4  # DLDataTypeCode, as the letters of NumPy
_LETTERS = {0: "i", 1: "u", 2: "f", 5: "c", 6: "b"}


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("number", ctypes.c_int32))


class _DType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Versioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.argtypes, _is_valid.restype = (ctypes.py_object, ctypes.c_char_p), ctypes.c_int
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.argtypes, _pointer.restype = (ctypes.py_object, ctypes.c_char_p), ctypes.c_void_p


def opened(
    subject: str, capsule: Any
) -> tuple[int, np.dtype[Any], tuple[int, ...], tuple[int, ...] | None]:
    """Give address, dtype, shape and, unless the order is plain, the strides in bytes.

    Raises `DTypeError` for a dtype that NumPy and ml_dtypes do not have, and for versions to come.
    """
    if _is_valid(capsule, b"dltensor_versioned"):
        whole = _Versioned.from_address(_pointer(capsule, b"dltensor_versioned"))
        if whole.major > VERSION[0]:
            raise DTypeError(
                f"{subject} speaks DLPack {whole.major}.{whole.minor}, 1.x is known here.",
                fix="a newer symgraph, or an older version of the library that made the array",
            )
        tensor = whole.tensor
    elif _is_valid(capsule, b"dltensor"):
        tensor = _Tensor.from_address(_pointer(capsule, b"dltensor"))
    else:
        raise DTypeError(
            f"{subject} gives no DLPack capsule, or one that was used.", fix="give the array anew"
        )
    dtype = _dtype(subject, tensor.dtype)
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    strides = None
    if tensor.strides:
        # CuPy divides strides below zero as if they had no sign: what comes round is right again
        strides = tuple(
            ctypes.c_int64(tensor.strides[axis] * dtype.itemsize).value
            for axis in range(tensor.ndim)
        )
    return (tensor.data or 0) + tensor.byte_offset, dtype, shape, strides


def _dtype(subject: str, told: _DType) -> np.dtype[Any]:
    if told.lanes == 1 and (told.code, told.bits) == (_BFLOAT, 16):
        return numpy_dtype("bfloat16")
    try:
        if told.lanes == 1 and told.bits % 8 == 0:
            return np.dtype(f"{_LETTERS[told.code]}{told.bits // 8}")
    except (KeyError, TypeError):  # no such letter, or no such size
        pass
    raise DTypeError(
        f"{subject} has a dtype that NumPy does not know "
        f"(DLPack: code {told.code}, {told.bits} bits, {told.lanes} lanes).",
        fix="convert it before",
    )
