"""Dtypes in CUDA C: what stands in memory, what in registers, and how literals are written.

Half precisions stand in registers as float, which holds them exactly, and in memory as 16 bits;
bools are `bool` in registers and a byte in memory. Indices are `Index`, which is `int` or `long
long`: what is printed once is compiled as one or the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from symgraph.graph.dtypes import DType, is_float

INDEX = "index"  # instead of int64, of what is made of axes and sizes alone
WIDTHS = {False: "int", True: "long long"}  # what `Index` is, by whether it must be wide
REGISTER: dict[DType, str] = {
    INDEX: "Index",
    "bool": "bool", "int8": "signed char", "int16": "short", "int32": "int", "int64": "long long",
    "uint8": "unsigned char", "uint16": "unsigned short", "uint32": "unsigned int",
    "uint64": "unsigned long long",
    "float16": "float", "bfloat16": "float", "float32": "float", "float64": "double",
}  # fmt: skip
MEMORY: dict[DType, str] = {
    **REGISTER, "bool": "unsigned char", "float16": "unsigned short", "bfloat16": "unsigned short",
}  # fmt: skip
BITS: dict[DType, str] = {"float32": "unsigned int", "float64": "unsigned long long"}


@dataclass(frozen=True, slots=True)
class Reg:
    """A value in the text: its name or literal, and its dtype."""

    text: str
    dtype: DType

    def __str__(self) -> str:
        return self.text


def literal(value: float, dtype: DType) -> Reg:
    """Write a number of a dtype; floats exactly."""
    if dtype == "bool":
        return Reg("true" if value else "false", dtype)
    if is_float(dtype):
        return Reg(_float(float(value), dtype), dtype)
    number = int(value)
    if dtype == INDEX:
        return Reg(f"(Index){number}" if number >= 0 else f"(Index)({number})", dtype)
    if dtype == "int64" and number == -(1 << 63):
        return Reg("(-9223372036854775807LL - 1)", dtype)
    if dtype == "int32" and number == -(1 << 31):
        return Reg("(-2147483647 - 1)", dtype)
    ending = {"int64": "LL", "uint64": "ULL", "uint32": "U"}.get(dtype, "")
    text = f"{number}{ending}" if number >= 0 else f"({number}{ending})"
    return Reg(text if dtype.endswith(("32", "64")) else f"(({REGISTER[dtype]}){text})", dtype)


def _float(value: float, dtype: DType) -> str:
    width = 64 if dtype == "float64" else 32
    if math.isnan(value):
        return f"nan{width}()"
    if math.isinf(value):
        return f"infinity{width}()" if value > 0 else f"(-infinity{width}())"
    text = value.hex() + ("f" if width == 32 else "")
    return f"({text})" if math.copysign(1, value) < 0 else text
