"""A row for each scalar operation: how it is written for registers of equal lanes."""

from __future__ import annotations

from collections.abc import Callable

from symgraph.errors import LoweringError
from symgraph.graph.dtypes import DType, is_float, itemsize
from symgraph.graph.philox import MULTIPLIERS, ROUNDS, WEYL
from symgraph.lower.llvm.types import REGISTER, Reg, is_signed, literal, suffix, wide
from symgraph.lower.llvm.writer import Writer

Emit = Callable[[Writer, list[Reg], DType], Reg]


def write(w: Writer, op: str, args: list[Reg], dtype: DType) -> Reg:
    """Write one operation; `dtype` is that of the result."""
    row = TABLE.get(op)
    if row is None:
        raise LoweringError(f"llvm: the scalar operation `{op}` of {dtype} has no form in LLVM.")
    return row(w, args, dtype)


def _two(ints: str, floats: str, bools: str = "") -> Emit:
    def emit(w: Writer, args: list[Reg], dtype: DType) -> Reg:
        a, b = args
        name = floats if is_float(dtype) else bools if dtype == "bool" and bools else ints
        made = w.reg(f"{name} {a}, {b.text}", dtype, a.lanes)
        return rounded(w, made) if is_float(dtype) else made

    return emit


def rounded(w: Writer, value: Reg) -> Reg:
    """Round a float that stands for a half precision to what that can hold."""
    if value.dtype == "bfloat16":
        return _as_float(w, _bfloat_bits(w, value), value)
    if value.dtype == "float16":
        half = w.new(f"fptrunc {value} to {wide('half', value.lanes)}")
        text = f"fpext {wide('half', value.lanes)} {half} to {value.type}"
        return w.reg(text, value.dtype, value.lanes)
    return value


def _bfloat_bits(w: Writer, value: Reg) -> str:
    """Give the bits of a float rounded to its upper half, ties to even; a NaN stays quiet."""
    n, type = value.lanes, wide("i32", value.lanes)
    bits = w.new(f"bitcast {value} to {type}")

    def number(x: int) -> str:
        return literal(x, "int32", n).text

    low = w.new(f"lshr {type} {bits}, {number(16)}")
    odd = w.new(f"and {type} {low}, {number(1)}")
    bias = w.new(f"add {type} {odd}, {number(0x7FFF)}")
    total = w.new(f"add {type} {bits}, {bias}")
    nan = w.new(f"fcmp uno {value}, {value.text}")
    quiet = w.new(f"or {type} {bits}, {number(0x400000)}")
    return w.new(f"select {wide('i1', n)} {nan}, {type} {quiet}, {type} {total}")


def _as_float(w: Writer, bits: str, like: Reg) -> Reg:
    type = wide("i32", like.lanes)
    high = w.new(f"and {type} {bits}, {literal(-65536, 'int32', like.lanes).text}")
    return w.reg(f"bitcast {type} {high} to {like.type}", like.dtype, like.lanes)


def bfloat_memory(w: Writer, value: Reg) -> str:
    """Give the 16 bits of a bfloat16 in memory from its register."""
    type = wide("i32", value.lanes)
    bits = w.new(f"bitcast {value} to {type}")
    high = w.new(f"lshr {type} {bits}, {literal(16, 'int32', value.lanes).text}")
    return w.new(f"trunc {type} {high} to {wide('i16', value.lanes)}")


def _intrinsic(name: str) -> Emit:
    def emit(w: Writer, args: list[Reg], dtype: DType) -> Reg:
        lanes = args[0].lanes
        full = f"llvm.{name}.{suffix(REGISTER[dtype], lanes)}"
        made = Reg(w.call(full, args[0].type, *map(str, args)), dtype, lanes)
        return rounded(w, made)

    return emit


def _choose(w: Writer, condition: str, yes: Reg, no: Reg) -> Reg:
    mask = wide("i1", yes.lanes)
    return w.reg(f"select {mask} {condition}, {yes}, {no}", yes.dtype, yes.lanes)


def _compare(floats: str, ints: str) -> Emit:
    def emit(w: Writer, args: list[Reg], dtype: DType) -> Reg:
        a, b = args
        if is_float(a.dtype):
            return w.reg(f"fcmp {floats} {a}, {b.text}", "bool", a.lanes)
        name = ints
        if ints not in ("eq", "ne"):
            name = ("s" if is_signed(a.dtype) else "u") + ints
        return w.reg(f"icmp {name} {a}, {b.text}", "bool", a.lanes)

    return emit


def _extreme(floats: str, ints: str) -> Emit:
    def emit(w: Writer, args: list[Reg], dtype: DType) -> Reg:
        a, b = args
        if not is_float(dtype):
            sign = "s" if is_signed(dtype) else "u"
            return _choose(w, w.new(f"icmp {sign}{ints} {a}, {b.text}"), a, b)
        better = _choose(w, w.new(f"fcmp {floats} {a}, {b.text}"), a, b)  # gives b for a NaN in a
        return _choose(w, w.new(f"fcmp uno {a}, {a.text}"), a, better)

    return emit


def _neg(w: Writer, args: list[Reg], dtype: DType) -> Reg:
    (a,) = args
    text = f"fneg {a}" if is_float(dtype) else f"sub {literal(0, dtype, a.lanes)}, {a.text}"
    return w.reg(text, dtype, a.lanes)


def _abs(w: Writer, args: list[Reg], dtype: DType) -> Reg:
    (a,) = args
    if is_float(dtype):
        return _intrinsic("fabs")(w, args, dtype)
    if not is_signed(dtype):
        return a
    below = w.new(f"icmp slt {a}, {literal(0, dtype, a.lanes).text}")
    return _choose(w, below, _neg(w, [a], dtype), a)


def _sign(w: Writer, args: list[Reg], dtype: DType) -> Reg:
    (a,) = args
    zero, one = literal(0, dtype, a.lanes), literal(1, dtype, a.lanes)
    above = write(w, "gt", [a, zero], "bool").text
    if dtype == "bool" or (not is_float(dtype) and not is_signed(dtype)):
        return _choose(w, above, one, zero)
    below = write(w, "lt", [a, zero], "bool").text
    rest = zero
    if is_float(dtype):
        rest = _choose(w, w.new(f"fcmp uno {a}, {a.text}"), a, zero)
    return _choose(w, above, one, _choose(w, below, literal(-1, dtype, a.lanes), rest))


def _whole_division(remainder: bool) -> Emit:
    """Floor division; by 0 it gives 0, and the least number by -1 wraps as it does in NumPy."""

    def emit(w: Writer, args: list[Reg], dtype: DType) -> Reg:
        a, b = args
        n, type = a.lanes, a.type
        zero, one = literal(0, dtype, n), literal(1, dtype, n)
        none = w.new(f"icmp eq {b}, {zero.text}")
        if not is_signed(dtype):
            safe = _choose(w, none, one, b)
            made = w.reg(f"{'urem' if remainder else 'udiv'} {a}, {safe.text}", dtype, n)
            return _choose(w, none, zero, made)
        flip = w.new(f"icmp eq {b}, {literal(-1, dtype, n).text}")
        odd = w.new(f"or {wide('i1', n)} {none}, {flip}")
        safe = _choose(w, odd, one, b)
        quotient = w.reg(f"sdiv {a}, {safe.text}", dtype, n)
        rest = w.reg(f"srem {a}, {safe.text}", dtype, n)
        left = w.new(f"icmp ne {rest}, {zero.text}")
        other = w.new(f"xor {rest}, {safe.text}")
        differ = w.new(f"icmp slt {type} {other}, {zero.text}")
        down = w.new(f"and {wide('i1', n)} {left}, {differ}")
        if remainder:
            moved = w.reg(f"add {rest}, {safe.text}", dtype, n)
            return _choose(w, odd, zero, _choose(w, down, moved, rest))
        lower = w.reg(f"sub {quotient}, {one.text}", dtype, n)
        found = _choose(w, down, lower, quotient)
        found = _choose(w, flip, _neg(w, [a], dtype), found)
        return _choose(w, none, zero, found)

    return emit


def _shift(w: Writer, args: list[Reg], dtype: DType, left: bool) -> Reg:
    """Shift; by the width or more nothing is left but the sign."""
    a, b = args
    width = 8 * itemsize(dtype)
    fits = w.new(f"icmp ult {b}, {literal(width, dtype, a.lanes).text}")
    name = "shl" if left else "ashr" if is_signed(dtype) else "lshr"
    most = literal(width - 1 if name == "ashr" else 0, dtype, a.lanes)
    made = w.reg(f"{name} {a}, {_choose(w, fits, b, most).text}", dtype, a.lanes)
    return made if name == "ashr" else _choose(w, fits, made, literal(0, dtype, a.lanes))


def _logic(name: str) -> Emit:
    def emit(w: Writer, args: list[Reg], dtype: DType) -> Reg:
        a, b = (cast(w, one, "bool") for one in args)
        return w.reg(f"{name} {a}, {b.text}", "bool", a.lanes)

    return emit


def _not(w: Writer, args: list[Reg], dtype: DType) -> Reg:
    a = cast(w, args[0], "bool")
    return w.reg(f"xor {a}, {literal(True, 'bool', a.lanes).text}", "bool", a.lanes)


def _bits(name: str) -> Emit:
    return lambda w, args, dtype: w.reg(f"{name} {args[0]}, {args[1].text}", dtype, args[0].lanes)


def _bitnot(w: Writer, args: list[Reg], dtype: DType) -> Reg:
    (a,) = args
    text = "splat (i1 true)" if dtype == "bool" and a.lanes > 1 else ""
    ones = text or ("true" if dtype == "bool" else literal(-1, dtype, a.lanes).text)
    return w.reg(f"xor {a}, {ones}", dtype, a.lanes)


def _isnan(w: Writer, args: list[Reg], dtype: DType) -> Reg:
    (a,) = args
    if not is_float(a.dtype):
        return literal(False, "bool", a.lanes)
    return w.reg(f"fcmp uno {a}, {a.text}", "bool", a.lanes)


def _isinf(w: Writer, args: list[Reg], dtype: DType) -> Reg:
    (a,) = args
    if not is_float(a.dtype):
        return literal(False, "bool", a.lanes)
    size = _intrinsic("fabs")(w, [a], a.dtype)
    return w.reg(
        f"fcmp oeq {size}, {literal(float('inf'), a.dtype, a.lanes).text}", "bool", a.lanes
    )


def _select(w: Writer, args: list[Reg], dtype: DType) -> Reg:
    condition, yes, no = args
    return _choose(w, condition.text, yes, no)


def _fma(w: Writer, args: list[Reg], dtype: DType) -> Reg:
    return _intrinsic("fma")(w, args, dtype)


# -- conversions -----------------------------------------------------------------------------------


def cast(w: Writer, a: Reg, dtype: DType) -> Reg:
    """Convert as NumPy does."""
    n = a.lanes
    if a.dtype == dtype:
        return a
    if dtype == "bool":
        name = "fcmp une" if is_float(a.dtype) else "icmp ne"
        return w.reg(f"{name} {a}, {literal(0, a.dtype, n).text}", "bool", n)
    target = wide(REGISTER[dtype], n)
    if is_float(dtype):
        return _to_float(w, a, dtype, target)
    if is_float(a.dtype):
        return _to_whole(w, a, dtype, target)
    if a.dtype == "bool" or itemsize(a.dtype) < itemsize(dtype):
        name = "sext" if is_signed(a.dtype) else "zext"
        return w.reg(f"{name} {a} to {target}", dtype, n)
    if itemsize(a.dtype) == itemsize(dtype):
        return Reg(a.text, dtype, n)
    return w.reg(f"trunc {a} to {target}", dtype, n)


def _to_float(w: Writer, a: Reg, dtype: DType, target: str) -> Reg:
    n = a.lanes
    if not is_float(a.dtype):
        if dtype == "float16" and itemsize(a.dtype) >= 4:  # one rounding, not two
            exact = _to_float(w, a, "float64", wide("double", n))
            return _narrowed(w, exact, dtype)
        name = "sitofp" if is_signed(a.dtype) else "uitofp"
        return rounded(w, w.reg(f"{name} {a} to {target}", dtype, n))
    if a.dtype == "float64":
        return _narrowed(w, a, dtype)
    if dtype == "float64":
        return w.reg(f"fpext {a} to {target}", dtype, n)
    return rounded(w, Reg(a.text, dtype, n))


def _narrowed(w: Writer, a: Reg, dtype: DType) -> Reg:
    """Round a double once: for float16 first to odd, which a second rounding cannot spoil."""
    n = a.lanes
    near = w.reg(f"fptrunc {a} to {wide('float', n)}", "float32", n)
    if dtype != "float16":
        return rounded(w, Reg(near.text, dtype, n))
    back = w.reg(f"fpext {near} to {a.type}", "float64", n)
    exact = w.new(f"fcmp ueq {back}, {a.text}")
    size, target = _intrinsic("fabs")(w, [back], "float64"), _intrinsic("fabs")(w, [a], "float64")
    above = w.new(f"fcmp ogt {size}, {target.text}")
    type = wide("i32", n)
    bits = w.new(f"bitcast {near} to {type}")
    less = w.new(f"sub {type} {bits}, {literal(1, 'int32', n).text}")
    down = w.new(f"select {wide('i1', n)} {above}, {type} {less}, {type} {bits}")
    odd = w.new(f"or {type} {down}, {literal(1, 'int32', n).text}")
    chosen = w.new(f"select {wide('i1', n)} {exact}, {type} {bits}, {type} {odd}")
    return rounded(w, w.reg(f"bitcast {type} {chosen} to {near.type}", dtype, n))


def _to_whole(w: Writer, a: Reg, dtype: DType, target: str) -> Reg:
    """Cut off the fraction; what does not fit gives some number, as in NumPy."""
    n = a.lanes
    if dtype == "uint64":
        made = w.new(f"fptoui {a} to {target}")
        return w.reg(f"freeze {target} {made}", dtype, n)
    through = "i32" if itemsize(dtype) <= 2 or dtype == "int32" else "i64"
    made = w.new(f"fptosi {a} to {wide(through, n)}")
    fixed = w.new(f"freeze {wide(through, n)} {made}")
    if through == REGISTER[dtype]:
        return Reg(fixed, dtype, n)
    return w.reg(f"trunc {wide(through, n)} {fixed} to {target}", dtype, n)


def _bitcast(w: Writer, args: list[Reg], dtype: DType) -> Reg:
    (a,) = args
    n = a.lanes
    if REGISTER[a.dtype] == REGISTER[dtype] and itemsize(a.dtype) == itemsize(dtype):
        return Reg(a.text, dtype, n)
    bits = _memory_bits(w, a)
    if dtype == "bfloat16":
        grown = w.new(f"zext {wide('i16', n)} {bits} to {wide('i32', n)}")
        up = w.new(f"shl {wide('i32', n)} {grown}, {literal(16, 'int32', n).text}")
        return w.reg(f"bitcast {wide('i32', n)} {up} to {wide('float', n)}", dtype, n)
    if dtype == "float16":
        half = w.new(f"bitcast {wide('i16', n)} {bits} to {wide('half', n)}")
        return w.reg(f"fpext {wide('half', n)} {half} to {wide('float', n)}", dtype, n)
    kind = wide(f"i{8 * itemsize(dtype)}", n)
    if not is_float(dtype):
        return Reg(bits, dtype, n)
    return w.reg(f"bitcast {kind} {bits} to {wide(REGISTER[dtype], n)}", dtype, n)


def _memory_bits(w: Writer, a: Reg) -> str:
    n = a.lanes
    if a.dtype == "bfloat16":
        return bfloat_memory(w, a)
    if a.dtype == "float16":
        half = w.new(f"fptrunc {a} to {wide('half', n)}")
        return w.new(f"bitcast {wide('half', n)} {half} to {wide('i16', n)}")
    if is_float(a.dtype):
        return w.new(f"bitcast {a} to {wide(f'i{8 * itemsize(a.dtype)}', n)}")
    return a.text


# -- random words ----------------------------------------------------------------------------------


def philox(w: Writer, args: list[Reg]) -> tuple[Reg, Reg, Reg, Reg]:
    """Give the four words of Philox 4x32-10."""
    n = args[0].lanes
    long, short = wide("i64", n), wide("i32", n)
    words, key = list(args[:4]), list(args[4:])

    def product(word: Reg, factor: int) -> tuple[Reg, Reg]:
        grown = w.new(f"zext {word} to {long}")
        both = w.new(f"mul {long} {grown}, {literal(factor, 'int64', n).text}")
        high = w.new(f"lshr {long} {both}, {literal(32, 'int64', n).text}")
        upper = w.reg(f"trunc {long} {high} to {short}", "uint32", n)
        return upper, w.reg(f"trunc {long} {both} to {short}", "uint32", n)

    def mixed(*parts: Reg) -> Reg:
        total = parts[0]
        for part in parts[1:]:
            total = w.reg(f"xor {total}, {part.text}", "uint32", n)
        return total

    for number in range(ROUNDS):
        high0, low0 = product(words[0], MULTIPLIERS[0])
        high1, low1 = product(words[2], MULTIPLIERS[1])
        words = [mixed(high1, words[1], key[0]), low1, mixed(high0, words[3], key[1]), low0]
        if number + 1 < ROUNDS:
            key = [w.reg(f"add {k}, {literal(step, 'uint32', n).text}", "uint32", n)
                   for k, step in zip(key, WEYL)]  # fmt: skip
    first, second, third, fourth = words
    return first, second, third, fourth


# fmt: off
TABLE: dict[str, Emit] = {
    "add": _two("add", "fadd", "or"), "sub": _two("sub", "fsub", "xor"),
    "mul": _two("mul", "fmul", "and"), "div": _two("sdiv", "fdiv"),
    "idiv": _whole_division(False), "imod": _whole_division(True), "fmod": _two("srem", "frem"),
    "neg": _neg, "abs": _abs, "sign": _sign, "fma": _fma,
    "min": _extreme("olt", "lt"), "max": _extreme("ogt", "gt"),
    "sqrt": _intrinsic("sqrt"), "floor": _intrinsic("floor"), "ceil": _intrinsic("ceil"),
    "rint": _intrinsic("roundeven"), "trunc": _intrinsic("trunc"),
    "exp": _intrinsic("exp"), "log": _intrinsic("log"), "sin": _intrinsic("sin"),
    "cos": _intrinsic("cos"), "pow": _intrinsic("pow"), "tan": _intrinsic("tan"),
    "eq": _compare("oeq", "eq"), "ne": _compare("une", "ne"), "lt": _compare("olt", "lt"),
    "le": _compare("ole", "le"), "gt": _compare("ogt", "gt"), "ge": _compare("oge", "ge"),
    "and": _logic("and"), "or": _logic("or"), "not": _not, "isnan": _isnan, "isinf": _isinf,
    "bitand": _bits("and"), "bitor": _bits("or"), "bitxor": _bits("xor"), "bitnot": _bitnot,
    "shl": lambda w, args, dtype: _shift(w, args, dtype, True),
    "shr": lambda w, args, dtype: _shift(w, args, dtype, False),
    "select": _select,
    "cast": lambda w, args, dtype: cast(w, args[0], dtype), "bitcast": _bitcast,
}
# fmt: on
