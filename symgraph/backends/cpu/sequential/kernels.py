"""The loops themselves: merging sort, and writing at the places that integers name.

Each writes a function of `text.worker` that does a range of tasks; `words` are whole numbers, the
first of which counts the tasks, `addresses` those of the arrays.
"""

from __future__ import annotations

from collections.abc import Sequence

from symgraph.backends.cpu.sequential.text import STORED, Code, worker
from symgraph.graph.dtypes import is_float


def _words(code: Code, count: int, first: int = 1) -> list[str]:
    return [code.load("i64", "%words", str(first + number)) for number in range(count)]


def _addresses(code: Code, count: int) -> list[str]:
    return [code.load("ptr", "%addresses", str(number)) for number in range(count)]


# -- sorting ---------------------------------------------------------------------------------------


def argsort(dtype: str, descending: bool) -> Code:
    """Sort positions by merging runs that double; equal elements keep their order.

    Tasks are rows. Words: the size of the axis, how far its elements lie apart. Arrays: elements,
    positions, and room for two rows of positions for each thread.
    """
    code = worker()
    size, apart = _words(code, 2)
    elements, result, room = _addresses(code, 3)
    mine = code.multiply("%own", code.multiply(size, "16"))
    first = code.at("i8", room, mine)
    second = code.at("i64", first, size)
    source, target = code.variable(first, "ptr"), code.variable(second, "ptr")
    with code.loop("%low", "%high") as row:
        outer, inner = code.new(f"udiv i64 {row}, {apart}"), code.new(f"urem i64 {row}, {apart}")
        base = code.add(code.multiply(outer, code.multiply(size, apart)), inner)
        keys = code.at(STORED[dtype], elements, base)
        with code.loop("0", size) as k:
            code.store("i64", k, code.get(source, "ptr"), k)
        width = code.variable("1")
        with code.repeat(lambda: code.less(code.get(width), size)):
            run = code.get(width)
            twice = code.add(run, run)
            start, end = code.get(source, "ptr"), code.get(target, "ptr")
            with code.loop("0", size, twice) as low:
                middle = code.smaller(code.add(low, run), size)
                high = code.smaller(code.add(low, twice), size)
                _merge(code, dtype, descending, keys, apart, (start, end), (low, middle, high))
            code.set(source, end, "ptr")
            code.set(target, start, "ptr")
            code.set(width, twice)
        with code.loop("0", size) as k:
            place = code.add(base, code.multiply(k, apart))
            code.store("i64", code.load("i64", code.get(source, "ptr"), k), result, place)
    return code


def _merge(
    code: Code, dtype: str, descending: bool, keys: str, apart: str, rooms: tuple[str, str],
    bounds: tuple[str, str, str],
) -> None:  # fmt: skip
    """Merge two neighbouring runs of positions."""
    source, target = rooms
    low, middle, high = bounds
    left, right = code.variable(low), code.variable(middle)
    with code.loop(low, high) as k:
        a, b = code.get(left), code.get(right)
        more = code.new(f"icmp slt i64 {b}, {high}")
        takes = code.variable(more, "i1")
        both = code.new(f"and i1 {more}, {code.less(a, middle)}")
        with code.when(both):
            one, other = (code.load("i64", source, place) for place in (a, b))
            here = _key(code, dtype, keys, code.multiply(one, apart))
            there = _key(code, dtype, keys, code.multiply(other, apart))
            code.set(takes, _before(code, dtype, descending, there, here), "i1")
        chosen = code.get(takes, "i1")
        place = code.new(f"select i1 {chosen}, i64 {b}, i64 {a}")
        code.store("i64", code.load("i64", source, place), target, k)
        step = code.new(f"zext i1 {chosen} to i64")
        code.set(right, code.add(b, step))
        code.set(left, code.add(a, code.new(f"sub i64 1, {step}")))


def _key(code: Code, dtype: str, base: str, index: str) -> str:
    """Read an element; a half precision is widened."""
    found = code.load(STORED[dtype], base, index)
    if dtype == "float16":
        return code.new(f"fpext half {found} to float")
    if dtype == "bfloat16":
        high = code.new(f"shl i32 {code.new(f'zext i16 {found} to i32')}, 16")
        return code.new(f"bitcast i32 {high} to float")
    return found


def _before(code: Code, dtype: str, descending: bool, a: str, b: str) -> str:
    """Whether one key comes strictly before another; a NaN is the largest."""
    if descending:
        a, b = b, a
    if not is_float(dtype):
        sign = "u" if dtype.startswith("u") else "s"
        return code.new(f"icmp {sign}lt {STORED[dtype]} {a}, {b}")
    kind = "double" if dtype == "float64" else "float"
    number = code.new(f"fcmp ord {kind} {a}, {a}")
    odd = code.new(f"fcmp uno {kind} {b}, {b}")
    last = code.new(f"and i1 {number}, {odd}")
    return code.new(f"or i1 {code.new(f'fcmp olt {kind} {a}, {b}')}, {last}")


# -- scattering ------------------------------------------------------------------------------------


def scatter(dtype: str, mode: str, indices: Sequence[str], into: bool) -> Code:
    """Write updates one after the other; an index that does not exist is left out.

    Tasks are columns: elements behind the selected axes. Words: rows before them, updates of a row,
    the places of a row, then the size and the stride of each selected axis. Arrays: what is
    written into (with `into`), updates, indices, the result.
    """
    code = worker()
    kind = STORED[dtype]
    outer, count, places = _words(code, 3)
    axes = [tuple(_words(code, 2, 4 + 2 * number)) for number in range(len(indices))]
    width = code.load("i64", "%words", "0")
    arrays = _addresses(code, 2 + into + len(indices))
    given, updates, result = arrays[0] if into else "", arrays[into], arrays[-1]
    chosen = arrays[into + 1 : -1]
    with code.loop("0", outer) as row:
        rows = code.multiply(row, places)
        with code.loop("0", places) as place:
            line = code.multiply(code.add(rows, place), width)
            with code.loop("%low", "%high") as column:
                own = code.add(line, column)
                zero = "0.0" if is_float(dtype) else "0"
                code.store(kind, code.load(kind, given, own) if into else zero, result, own)
        with code.loop("0", count) as k:
            target, exists = _place(code, indices, chosen, axes, k)
            with code.when(exists):
                line = code.multiply(code.add(rows, target), width)
                update = code.multiply(code.add(code.multiply(row, count), k), width)
                with code.loop("%low", "%high") as column:
                    new = code.load(kind, updates, code.add(update, column))
                    _combine(code, dtype, mode, result, code.add(line, column), new)
    return code


def scatter_along(dtype: str, index: str) -> Code:
    """Add updates up, each at a place of its own along an axis.

    Tasks are rows. Words: updates of a row, the size of the axis, how far its elements lie apart.
    Arrays: updates, indices, the result.
    """
    code = worker()
    kind = STORED[dtype]
    count, size, apart = _words(code, 3)
    updates, indices, result = _addresses(code, 3)
    with code.loop("%low", "%high") as row:
        outer, inner = code.new(f"udiv i64 {row}, {apart}"), code.new(f"urem i64 {row}, {apart}")
        base = code.add(code.multiply(outer, code.multiply(size, apart)), inner)
        with code.loop("0", size) as k:
            own = code.add(base, code.multiply(k, apart))
            code.store(kind, "0.0" if is_float(dtype) else "0", result, own)
        start = code.add(code.multiply(outer, code.multiply(count, apart)), inner)
        with code.loop("0", count) as k:
            own = code.add(start, code.multiply(k, apart))
            place, exists = _counted(code, index, code.load(STORED[index], indices, own), size)
            with code.when(exists):
                new = code.load(kind, updates, own)
                target = code.add(base, code.multiply(place, apart))
                _combine(code, dtype, "add", result, target, new)
    return code


def _place(
    code: Code, dtypes: Sequence[str], indices: Sequence[str], axes: Sequence[tuple[str, ...]],
    k: str,
) -> tuple[str, str]:  # fmt: skip
    """Give which place of a row an update goes to, and whether there is such a place."""
    total, all_ = "0", "true"
    for dtype, array, (size, stride) in zip(dtypes, indices, axes):
        index = code.load(STORED[dtype], array, k)
        place, exists = _counted(code, dtype, index, size)
        total = code.add(total, code.multiply(place, stride))
        all_ = code.new(f"and i1 {all_}, {exists}")
    return total, all_


def _counted(code: Code, dtype: str, index: str, size: str) -> tuple[str, str]:
    """Give an index counted from the front, and whether it exists."""
    wide = index
    if STORED[dtype] != "i64":
        widen = "zext" if dtype.startswith("u") else "sext"
        wide = code.new(f"{widen} {STORED[dtype]} {index} to i64")
    below = code.less(wide, "0")
    place = code.new(f"select i1 {below}, i64 {code.add(wide, size)}, i64 {wide}")
    return place, code.new(f"icmp ult i64 {place}, {size}")


def _combine(code: Code, dtype: str, mode: str, base: str, index: str, new: str) -> None:
    """Combine a new value with what stands at a place."""
    kind = STORED[dtype]
    if mode == "set":
        code.store(kind, new, base, index)
        return
    old = code.load(kind, base, index)
    floating = is_float(dtype)
    if mode in ("add", "multiply"):
        word = {"add": "add", "multiply": "mul"}[mode]
        found = code.new(f"{'f' if floating else ''}{word} {kind} {old}, {new}")
    elif floating:
        compare = "ogt" if mode == "max" else "olt"
        better = code.new(f"fcmp {compare} {kind} {new}, {old}")
        odd = code.new(f"fcmp uno {kind} {new}, {new}")
        better = code.new(f"or i1 {better}, {odd}")  # a NaN wins, and is not replaced
        found = code.new(f"select i1 {better}, {kind} {new}, {kind} {old}")
    else:
        compare = ("u" if dtype.startswith("u") else "s") + ("gt" if mode == "max" else "lt")
        better = code.new(f"icmp {compare} {kind} {new}, {old}")
        found = code.new(f"select i1 {better}, {kind} {new}, {kind} {old}")
    code.store(kind, found, base, index)
