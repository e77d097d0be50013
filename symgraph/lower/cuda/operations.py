"""A row for each scalar operation: how it is written in CUDA C.

Names that C does not have are functions of `prelude.cuh`. Whole numbers are added and multiplied
without a sign, since what wraps around in NumPy is undefined in C.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from symgraph.errors import LoweringError
from symgraph.graph.dtypes import DType, is_float
from symgraph.lower.cuda.types import REGISTER, Reg

Write = Callable[[Sequence[Reg], DType], str]


def written(op: str, args: Sequence[Reg], dtype: DType) -> str:
    """Give the expression of one operation; `dtype` is that of the result."""
    row = TABLE.get(op)
    if row is None:
        raise LoweringError(f"cuda: the scalar operation `{op}` of {dtype} has no form in CUDA C.")
    return row(args, dtype)


def rounded(text: str, dtype: DType) -> str:
    """Round what stands for a half precision to what that can hold."""
    if dtype == "bfloat16":
        return f"round_bfloat16({text})"
    return f"round_float16({text})" if dtype == "float16" else text


def _two(symbol: str, bools: str) -> Write:
    def write(args: Sequence[Reg], dtype: DType) -> str:
        a, b = args
        if is_float(dtype):
            return rounded(f"{a} {symbol} {b}", dtype)
        if dtype == "bool":
            return f"{a} {bools} {b}"
        kind = REGISTER[dtype]
        return f"({kind})(whole({a}) {symbol} whole({b}))"

    return write


def _call(name: str) -> Write:
    return lambda args, dtype: rounded(f"{name}({', '.join(map(str, args))})", dtype)


def _divide(args: Sequence[Reg], dtype: DType) -> str:
    if not is_float(dtype):
        raise LoweringError(f"cuda: `div` is of floats, not of {dtype}.")
    return rounded(f"{args[0]} / {args[1]}", dtype)


def _compare(symbol: str) -> Write:
    return lambda args, dtype: f"{args[0]} {symbol} {args[1]}"


def _logic(symbol: str) -> Write:
    return lambda args, dtype: f"({args[0]} != 0) {symbol} ({args[1]} != 0)"


def _bits(symbol: str) -> Write:
    return lambda args, dtype: f"({REGISTER[dtype]})({args[0]} {symbol} {args[1]})"


def _negative(args: Sequence[Reg], dtype: DType) -> str:
    if is_float(dtype):
        return f"-{args[0]}"
    return f"({REGISTER[dtype]})(0 - whole({args[0]}))"


def _not_bits(args: Sequence[Reg], dtype: DType) -> str:
    return f"!{args[0]}" if dtype == "bool" else f"({REGISTER[dtype]})(~{args[0]})"


def _of_floats(name: str) -> Write:
    """Ask something that is false of whole numbers."""
    return lambda args, dtype: f"{name}({args[0]})" if is_float(args[0].dtype) else "false"


def _select(args: Sequence[Reg], dtype: DType) -> str:
    return f"{args[0]} ? {args[1]} : {args[2]}"


def cast(a: Reg, dtype: DType) -> str:
    """Convert as NumPy does; what does not fit a whole number gives some number."""
    if a.dtype == dtype:
        return a.text
    if dtype == "bool":
        return f"{a} != 0"
    if is_float(dtype):
        if dtype == "float16" and a.dtype in ("float64", "int32", "int64", "uint32", "uint64"):
            return f"round_float16(to_odd((double){a}))"  # one rounding, not two
        return rounded(f"({REGISTER[dtype]}){a}", dtype)
    if is_float(a.dtype):
        return f"cut<{REGISTER[dtype]}>({a})"
    return f"({REGISTER[dtype]}){a}"


def _bitcast(args: Sequence[Reg], dtype: DType) -> str:
    (a,) = args
    if a.dtype in ("float16", "bfloat16"):
        bits = f"{a.dtype}_bits({a})"
    elif is_float(a.dtype):
        bits = f"bits_of({a})"
    else:
        bits = a.text
    if dtype in ("float16", "bfloat16"):
        return f"{dtype}_of((unsigned short){bits})"
    if is_float(dtype):
        return f"float{'32' if dtype == 'float32' else '64'}_of({bits})"
    return f"({REGISTER[dtype]}){bits}"


# fmt: off
TABLE: dict[str, Write] = {
    "add": _two("+", "||"), "sub": _two("-", "!="), "mul": _two("*", "&&"), "div": _divide,
    "idiv": _call("floor_divide"), "imod": _call("floor_modulo"), "fmod": _call("modulo"),
    "neg": _negative, "abs": _call("absolute"), "sign": _call("sign_of"), "fma": _call("fused"),
    "min": _call("least"), "max": _call("largest"), "sqrt": _call("root"),
    "floor": _call("floor"), "ceil": _call("ceil"), "rint": _call("rint"), "trunc": _call("trunc"),
    "eq": _compare("=="), "ne": _compare("!="), "lt": _compare("<"), "le": _compare("<="),
    "gt": _compare(">"), "ge": _compare(">="),
    "and": _logic("&&"), "or": _logic("||"), "not": lambda args, dtype: f"!({args[0]} != 0)",
    "isnan": _of_floats("is_nan"), "isinf": _of_floats("is_infinite"),
    "bitand": _bits("&"), "bitor": _bits("|"), "bitxor": _bits("^"), "bitnot": _not_bits,
    "shl": _call("shift_left"), "shr": _call("shift_right"),
    "select": _select, "cast": lambda args, dtype: cast(args[0], dtype), "bitcast": _bitcast,
}
# fmt: on
