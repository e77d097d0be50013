"""Dtypes in LLVM: what stands in memory, what in registers, and how literals are written.

Half precisions stand in registers as float, which holds them exactly; bools are i1 in registers
and a byte in memory.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from symgraph.graph.dtypes import DType, is_float

REGISTER: dict[DType, str] = {
    "bool": "i1", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
    "uint8": "i8", "uint16": "i16", "uint32": "i32", "uint64": "i64",
    "float16": "float", "bfloat16": "float", "float32": "float", "float64": "double",
}  # fmt: skip
MEMORY: dict[DType, str] = {**REGISTER, "bool": "i8", "float16": "half", "bfloat16": "i16"}
SUFFIX = {"float": "f32", "double": "f64", "half": "f16"}


@dataclass(frozen=True, slots=True)
class Reg:
    """A value in the text: its name or literal, its dtype, and its lanes (1: a scalar)."""

    text: str
    dtype: DType
    lanes: int = 1

    @property
    def type(self) -> str:
        """The type in the text."""
        return wide(REGISTER[self.dtype], self.lanes)

    def __str__(self) -> str:
        return f"{self.type} {self.text}"


def wide(type: str, lanes: int) -> str:
    """Give the type of a vector, or the type itself for one lane."""
    return type if lanes == 1 else f"<{lanes} x {type}>"


def suffix(type: str, lanes: int = 1) -> str:
    """Give the part of an intrinsic's name that says its type."""
    one = SUFFIX.get(type, type)
    return one if lanes == 1 else f"v{lanes}{one}"


def literal(value: float, dtype: DType, lanes: int = 1) -> Reg:
    """Write a number of a dtype; floats by their bits."""
    if dtype == "bool":
        text = "true" if value else "false"
    elif is_float(dtype):
        (bits,) = struct.unpack("<Q", struct.pack("<d", float(value)))
        text = f"0x{bits:016X}"
    else:
        text = str(int(value))
    if lanes > 1:
        text = f"splat ({REGISTER[dtype]} {text})"
    return Reg(text, dtype, lanes)


def is_signed(dtype: DType) -> bool:
    """Tell whether a whole-number dtype has a sign."""
    return dtype.startswith("int")
