"""Kernels by hand in CUDA C of what writes at the places that integers name.

Updates are sorted by their places, stably, so that those of a place follow each other, in order. A
place is written by one thread, which adds up its updates one after the other, as the reference
does. Where there are more than a `piece` of them they are cut, counted from the first, so that the
sum of a place depends on its own updates and their number alone: each piece has a thread, and a
last one adds up the pieces, in order.

A lane is an element that updates and places have beside them: one row is sorted for all lanes
(`scatter`), or each lane has places of its own (`scatter_add_along_axis`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from symgraph.dims import Size, product
from symgraph.graph.dtypes import is_complex, is_float, itemsize
from symgraph.graph.rawkernel import Launch, RawKernel
from symgraph.graph.types import TensorType
from symgraph.ops.sorting_kernels import (
    BITS,
    NARROW,
    SCRATCH,
    THREADS,
    TILE,
    is_short,
    merges,
    pair_scratch,
    pairs_text,
    sort_launches,
)

LEAST = 64  # updates of a piece, at least
STORED = {
    "bool": "unsigned char", "int8": "signed char", "int16": "short", "int32": "int",
    "int64": "long long", "uint8": "unsigned char", "uint16": "unsigned short",
    "uint32": "unsigned int", "uint64": "unsigned long long", "float16": "unsigned short",
    "bfloat16": "unsigned short", "float32": "float", "float64": "double",
}  # fmt: skip

# What is added up, and how it is read and written: half precisions as float, rounded at the end.
PLAIN = """
typedef {kind} Total;
__device__ static Total total_of(Stored x) {{ return (Total)x; }}
__device__ static Stored stored_of(Total x) {{ return (Stored)x; }}
"""
BFLOAT16 = """
typedef float Total;
__device__ static Total total_of(Stored x) { return __int_as_float((int)((unsigned int)x << 16)); }
__device__ static Stored stored_of(Total x) {
  unsigned int bits = (unsigned int)__float_as_int(x);
  if (x != x) return (Stored)(bits >> 16 | 0x40u);
  return (Stored)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
"""
FLOAT16 = """
typedef float Total;
__device__ static Total total_of(Stored x) {
  unsigned int sign = (x & 0x8000u) << 16, rest = x & 0x7fffu;
  if (rest >= 0x7c00u) return __int_as_float((int)(sign | 0x7f800000u | (rest & 0x3ffu) << 13));
  if (rest >= 0x400u) return __int_as_float((int)(sign | ((rest << 13) + 0x38000000u)));
  float small = (float)rest * 0x1p-24f;
  return sign ? -small : small;
}
__device__ static Stored stored_of(Total x) {
  unsigned int bits = (unsigned int)__float_as_int(x), sign = bits >> 16 & 0x8000u;
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return (Stored)(sign | 0x7e00u);
  if (bits >= 0x477ff000u) return (Stored)(sign | 0x7c00u);
  if (bits < 0x38800000u) {  // a subnormal number: the sum is rounded to its last place
    float moved = __int_as_float((int)bits) + 0.5f;
    return (Stored)(sign | ((unsigned int)__float_as_int(moved) - 0x3f000000u));
  }
  return (Stored)(sign | ((bits + 0xfffu + (bits >> 13 & 1u) - 0x38000000u) >> 13));
}
"""
COMBINED = {
    "add": "a + b", "multiply": "a * b", "max": "a >= b || a != a ? a : b",
    "min": "a <= b || a != a ? a : b",
}  # fmt: skip

FILL = """
extern "C" __global__ void fill(long long tasks, {arrays}) {{
  long long task = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (task < tasks) y[task] = {own};
}}
"""
# What the rest knows: the sorted places of a lane, and where its elements are.
GIVEN = "long long count, long long places, long long lanes, long long columns, long long inner, long long piece, long long odd"  # noqa: E501
LANE = """  long long task = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (task >= tasks) return;
  long long chunk = task / lanes, lane = task % lanes, row = lane / columns;
  const Key* keys = (odd ? keys1 : keys0) + row * count;
  const Place* numbers = (odd ? numbers1 : numbers0) + row * count;
  long long before = lane / inner * inner, beside = lane % inner;
  const Stored* given = updates + before * count + beside;
  Stored* made = y + before * places + beside;
"""
SET_LAST = """
extern "C" __global__ void set_last(long long tasks, {arrays}, {GIVEN}) {{
{LANE}  long long place = keys[chunk];
  if (place < places && (chunk + 1 == count || keys[chunk + 1] != place))
    made[place * inner] = given[numbers[chunk] * inner];
}}
"""
# A place with more than a piece of updates begins in one chunk, goes on in the next ones, and no
# two such begin, or go on with a piece, in one chunk. `heads` and `tails` have sums of such pieces.
SUMS = """
__device__ static long long first_of(const Key* keys, long long count, Key key) {{
  long long low = 0, high = count;
  while (low < high) {{
    long long middle = (low + high) / 2;
    if (keys[middle] < key) low = middle + 1;
    else high = middle;
  }}
  return low;
}}
extern "C" __global__ void sum_first(long long tasks, {arrays}, {GIVEN}) {{
{LANE}  long long until = (chunk + 1) * piece < count ? (chunk + 1) * piece : count;
  for (long long t = chunk * piece; t < until;) {{
    Key place = keys[t];
    if (place >= places) return;
    if (t && keys[t - 1] == place) {{
      ++t;
      continue;
    }}
    Total total = total_of(made[place * inner]);
    long long end = t + piece < count ? t + piece : count;
    for (; t < end && keys[t] == place; ++t)
      total = combined(total, total_of(given[numbers[t] * inner]));
    if (t < count && keys[t] == place) heads[task] = total;
    else made[place * inner] = stored_of(total);
  }}
}}
extern "C" __global__ void sum_pieces(long long tasks, {arrays}, {GIVEN}) {{
{LANE}  long long begin = chunk * piece;
  Key place = keys[begin];
  if (!begin || place >= places || keys[begin - 1] != place) return;
  long long start = first_of(keys, count, place), end = first_of(keys, count, place + 1);
  long long t = start + (begin - start + piece - 1) / piece * piece;
  if (t >= end) return;
  long long until = t + piece < end ? t + piece : end;
  Total total = total_of(given[numbers[t] * inner]);
  for (++t; t < until; ++t) total = combined(total, total_of(given[numbers[t] * inner]));
  tails[task] = total;
}}
extern "C" __global__ void sum_rest(long long tasks, {arrays}, {GIVEN}) {{
{LANE}  long long begin = chunk * piece, after = begin + piece;
  if (after >= count) return;
  Key place = keys[after];
  if (place >= places || keys[after - 1] != place) return;
  long long start = first_of(keys, count, place), end = first_of(keys, count, place + 1);
  if (start < begin || end - start <= piece) return;
  Total total = heads[task];
  for (long long t = start + piece; t < end; t += piece)
    total = combined(total, tails[t / piece * lanes + lane]);
  made[place * inner] = stored_of(total);
}}
"""


def scatter_kernel(
    result: TensorType,
    updates: TensorType,
    indices: Sequence[TensorType],
    axis: int,
    mode: str,
    into: bool,
    along: bool = False,
) -> RawKernel | None:
    """Give the kernels that write updates at places: over an operand (`into`), or over zeros.

    The places are those of consecutive axes from `axis` on, which the axes of the indices replace
    in the updates; or, `along` an axis, each lane has indices of its own.
    """
    if is_complex(result.dtype):
        return None
    selected = 1 if along else len(indices)
    count = updates.shape[axis] if along else product(indices[0].shape)
    extents = result.shape[axis : axis + selected]
    places, inner = product(extents), product(result.shape[axis + selected :])
    numbers = count, places, product(result.shape[:axis]) * inner, inner
    wanted = not (is_short(count) or is_short(places))  # or what expressions do is linear
    if not all(isinstance(one, int) for one in (*numbers, *extents)):  # before they are known
        return RawKernel("", "fill", product(result.shape), wanted=wanted)
    dtypes = tuple(one.dtype for one in indices)
    wide = int(places) >= NARROW - 1, int(count) >= NARROW - TILE
    text = _text(result.dtype, mode, into, dtypes, along, *wide)
    then, scratch = _called(mode, result.dtype, numbers, extents, along, wide)
    tasks = product(result.shape)
    return RawKernel(text, "fill", tasks, (), THREADS, then, scratch, wanted)


def _called(
    mode: str, dtype: str, numbers: tuple[Size, ...], extents: Sequence[Size], along: bool,
    wide: tuple[bool, bool],
) -> tuple[tuple[Launch, ...], tuple[int, ...]]:  # fmt: skip
    """Give the calls after the first, at sizes that are numbers, and the memory for them."""
    count, places, lanes, inner = map(int, numbers)
    rows, columns, piece = *((lanes, 1) if along else (1, lanes)), piece_of(count)
    then: list[Launch] = []
    scratch = pair_scratch(count, rows, *wide)
    if mode != "set":
        partial = chunks_of(count) * lanes * max(itemsize(dtype), 4) if count > piece else 0
        scratch = (*scratch, partial, partial)
    if count and places and lanes:
        own = (places, inner) if along else (places, *map(int, extents))
        then.extend(sort_launches(count, rows, own))
        given = (count, places, lanes, columns, inner, piece, merges(count) % 2)
        if mode == "set":
            then.append(Launch("set_last", count * lanes, given, THREADS))
        else:
            names = ("sum_first", "sum_pieces", "sum_rest")[: 3 if count > piece else 1]
            then.extend(Launch(one, chunks_of(count) * lanes, given, THREADS) for one in names)
    return tuple(then), scratch


def piece_of(count: int) -> int:
    """Give how many updates of a place one thread adds up: about a quarter of the root of all."""
    return max(LEAST, 1 << ((count // 16).bit_length() // 2))


def chunks_of(count: int) -> int:
    """Give how many pieces there are."""
    return -(-count // piece_of(count))


@cache
def _text(
    dtype: str, mode: str, into: bool, indices: tuple[str, ...], along: bool, wide_key: bool,
    wide_place: bool,
) -> str:  # fmt: skip
    """Write the kernels: filling, sorting, then `set_last` or sums."""
    # what is only moved is its bits
    stored = BITS[itemsize(dtype)] if mode == "set" else STORED[dtype]
    given = ["const Stored* x"] if into else []
    given += ["const Stored* updates"]
    given += [f"const {STORED[one]}* indices{d}" for d, one in enumerate(indices)]
    arrays = ", ".join([*given, "Stored* y", SCRATCH])
    before, rest = [f"typedef {stored} Stored;", _key(len(indices))], SET_LAST
    if mode != "set":
        arrays += ", Total* heads, Total* tails"
        before.append(_total(dtype, mode))
        rest = SUMS
    if along:
        names = "places inner"
        key = "key_of(places, indices0[(row / inner * count + k) * inner + row % inner], places)"
    else:
        each = range(len(indices))
        names = " ".join(["places", *(f"extent{d}" for d in each)])
        key = ", ".join(["key_of(places", *(f"indices{d}[k], extent{d}" for d in each)]) + ")"
    text = pairs_text(wide_key, wide_place, "\n".join(before), arrays, key, names)
    own = "x[task]" if into else "0"
    return text + (FILL + rest).format(arrays=arrays, own=own, GIVEN=GIVEN, LANE=LANE)


def _key(count: int) -> str:
    """Write `key_of`: a place as one number, or one behind all others where there is none."""
    given = "".join(f", long long i{d}, long long extent{d}" for d in range(count))
    lines = [f"__device__ static Key key_of(long long places{given}) {{", "  long long place = 0;"]
    for d in range(count):
        lines.append(f"  if (i{d} < 0) i{d} += extent{d};")
        lines.append(f"  if (i{d} < 0 || i{d} >= extent{d}) return (Key)places;")
        lines.append(f"  place = place * extent{d} + i{d};")
    return "\n".join([*lines, "  return (Key)place;", "}"])


def _total(dtype: str, mode: str) -> str:
    """Write what updates are combined as, and how; whole numbers wrap."""
    halves = {"float16": FLOAT16, "bfloat16": BFLOAT16}
    kind = "Stored"
    if mode in ("add", "multiply") and not is_float(dtype):
        kind = "unsigned long long" if itemsize(dtype) == 8 else "unsigned int"
    text = halves.get(dtype) or PLAIN.format(kind=kind)
    function = f"__device__ static Total combined(Total a, Total b) {{ return {COMBINED[mode]}; }}"
    return text + function
