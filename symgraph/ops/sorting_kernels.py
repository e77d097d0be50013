"""Kernels by hand in CUDA C that sort: tiles in shared memory, then merges of runs that double.

What is sorted are pairs of a key and the number of an element in its row. A key is a whole number
without sign that is in the order wanted, so that one comparison serves all dtypes. No two pairs are
equal, so that any network sorts stably. A block sorts a tile, or several short rows, by Batcher's
bitonic network (1968). In a merge a block looks where its part of the result begins and ends in
both runs (merge path: Odeh, Green, Birk et al., 2012), reads both pieces, and each of its threads
does the same with those.
"""

from __future__ import annotations

from functools import cache

from symgraph.dims import Size, product
from symgraph.graph.dtypes import itemsize
from symgraph.graph.rawkernel import Launch, RawKernel
from symgraph.graph.types import TensorType

TILE = 1024  # elements that a block sorts or merges
THREADS = 256
SHORT = 32  # a known size up to which looking at everything for every element is as good
NARROW = 1 << 32  # what fits 32 bits

BITS = {1: "unsigned char", 2: "unsigned short", 4: "unsigned int", 8: "unsigned long long"}
# the bits of infinity without a sign: above it are NaNs
INFINITY = {
    "float16": 0x7C00, "bfloat16": 0x7F80, "float32": 0x7F800000, "float64": 0x7FF0000000000000,
}  # fmt: skip

# where pairs are: a merge reads those of one number and writes the others
SCRATCH = "Key* keys0, Key* keys1, Place* numbers0, Place* numbers1"

SORT_TILES = """
extern "C" __global__ void sort_tiles(long long tasks, {arrays}, long long count, long long rows, long long width{sizes}) {{
  __shared__ Key keys[{TILE}];
  __shared__ Place numbers[{TILE}];
  int own = (int)width;
  long long tiles = (count + width - 1) / width, first = blockIdx.x * (long long)({TILE} / own);
  for (int e = threadIdx.x; e < {TILE}; e += {THREADS}) {{
    long long unit = first + e / own, row = unit / tiles, k = unit % tiles * width + e % own;
    keys[e] = ~(Key)0;  // behind all others, as its number is larger
    numbers[e] = (Place)k;
    if (row < rows && k < count) keys[e] = {key};
  }}
  __syncthreads();
  for (int span = 2; span <= own; span *= 2)
    for (int step = span / 2; step; step /= 2) {{
      for (int pair = threadIdx.x; pair < {TILE} / 2; pair += {THREADS}) {{
        int a = pair / step * 2 * step + pair % step, b = a + step;
        bool wrong = keys[b] < keys[a] || (keys[b] == keys[a] && numbers[b] < numbers[a]);
        if (wrong == (((a & (own - 1)) & span) == 0)) {{
          Key key = keys[a];
          Place number = numbers[a];
          keys[a] = keys[b], numbers[a] = numbers[b];
          keys[b] = key, numbers[b] = number;
        }}
      }}
      __syncthreads();
    }}
  for (int e = threadIdx.x; e < {TILE}; e += {THREADS}) {{
    long long unit = first + e / own, row = unit / tiles, k = unit % tiles * width + e % own;
    if (row < rows && k < count) {{
      bool last = {finishes} && tiles == 1;
      if (last) {{ {finish} }}
      else keys0[row * count + k] = keys[e], numbers0[row * count + k] = numbers[e];
    }}
  }}
}}
"""  # noqa: E501 - compilers read the parameters from one line

MERGE_TILES = """
__device__ static long long smaller(long long a, long long b) {{ return a < b ? a : b; }}
// How many of the first `both` pairs of two runs, merged, are of the left one.
__device__ static long long share(const Key* left, long long lefts, const Key* right, long long rights, long long both) {{
  long long low = both > rights ? both - rights : 0, high = smaller(both, lefts);
  while (low < high) {{
    long long middle = (low + high) / 2;
    if (left[middle] <= right[both - 1 - middle]) low = middle + 1;
    else high = middle;
  }}
  return low;
}}
extern "C" __global__ void merge_tiles(long long tasks, {arrays}, long long count, long long run, long long odd, long long finishes{sizes}) {{
  __shared__ Key keys[{TILE}];
  __shared__ Place numbers[{TILE}];
  __shared__ long long cuts[2];
  long long blocks = (count + {TILE} - 1) / {TILE}, row = blockIdx.x / blocks, begin = blockIdx.x % blocks * {TILE};
  const Key* given = (odd ? keys1 : keys0) + row * count;
  const Place* ordinals = (odd ? numbers1 : numbers0) + row * count;
  long long low = begin / (2 * run) * (2 * run), middle = smaller(low + run, count);
  long long high = smaller(low + 2 * run, count);
  int size = (int)smaller({TILE}, count - begin);
  if (threadIdx.x < 2)
    cuts[threadIdx.x] = share(given + low, middle - low, given + middle, high - middle, begin - low + threadIdx.x * size);
  __syncthreads();
  int lefts = (int)(cuts[1] - cuts[0]);
  long long left = low + cuts[0], right = middle + (begin - low - cuts[0]) - lefts;
  for (int e = threadIdx.x; e < size; e += {THREADS}) {{
    long long from = (e < lefts ? left : right) + e;
    keys[e] = given[from];
    numbers[e] = ordinals[from];
  }}
  __syncthreads();
  int first = (int)smaller(threadIdx.x * {EACH}, size);
  int a = (int)share(keys, lefts, keys + lefts, size - lefts, first), b = lefts + first - a;
  Key merged[{EACH}];
  Place own[{EACH}];
  #pragma unroll
  for (int k = 0; k < {EACH}; ++k)
    if (first + k < size) {{
      int from = a < lefts && (b >= size || keys[a] <= keys[b]) ? a++ : b++;
      merged[k] = keys[from];
      own[k] = numbers[from];
    }}
  __syncthreads();
  #pragma unroll
  for (int k = 0; k < {EACH}; ++k)
    if (first + k < size) keys[first + k] = merged[k], numbers[first + k] = own[k];
  __syncthreads();
  for (int e = threadIdx.x; e < size; e += {THREADS}) {{
    long long k = begin + e;
    if (finishes) {{ {finish} }}
    else {{
      (odd ? keys0 : keys1)[row * count + k] = keys[e];
      (odd ? numbers0 : numbers1)[row * count + k] = numbers[e];
    }}
  }}
}}
"""  # noqa: E501


def key_text(dtype: str, descending: bool) -> str:
    """Write `key_of`, which gives the bits of a number so that they are in order.

    All NaNs have the largest key, both zeros the same.
    """
    size = itemsize(dtype)
    width = 8 * size
    lines = [f"typedef {BITS[size]} Bits;", "__device__ static Key key_of(Bits given) {"]
    lines.append("  Key x = given;")
    sign = f"((Key)1 << {width - 1})"
    if dtype in INFINITY:
        lines += [
            f"  Key size = x & ~{sign}, ones = ((({sign} - 1) << 1) | 1);",
            f"  if (size > (Key){INFINITY[dtype]:#x}ull) x = ones;",
            f"  else if (size == 0) x = {sign};",
            f"  else x = x & {sign} ? ones ^ x : x | {sign};",
        ]
    elif not dtype.startswith("u"):
        lines.append(f"  x ^= {sign};")
    lines += [f"  return {'~x' if descending else 'x'};", "}"]
    return "\n".join(lines)


def pairs_text(
    wide_key: bool, wide_place: bool, before: str, arrays: str, key: str, sizes: str,
    finish: str = "",
) -> str:  # fmt: skip
    """Write both kernels: a text that comes before, all arrays, and names of further sizes.

    `key` gives the key of element `k` of `row`; `finish` does something with number `numbers[e]` at
    place `k` of `row` when all is sorted, instead of writing pairs.
    """
    kinds = "\n".join(
        f"typedef unsigned {'long long' if wide else 'int'} {name};"
        for wide, name in ((wide_key, "Key"), (wide_place, "Place"))
    )
    written = {
        "arrays": arrays, "key": key, "finish": finish, "TILE": TILE,
        "sizes": "".join(f", long long {name}" for name in sizes.split()), "THREADS": THREADS,
        "EACH": TILE // THREADS, "finishes": "true" if finish else "false",
    }  # fmt: skip
    return "\n".join([kinds, before]) + (SORT_TILES + MERGE_TILES).format(**written)


def sort_launches(
    count: int, rows: int, sizes: tuple[int, ...] = (), finishes: bool = False
) -> tuple[Launch, ...]:
    """Give the calls that sort rows: those of the merges are as many as `merges` says."""
    width = min(TILE, max(1 << (count - 1).bit_length(), 2)) if count else TILE
    units = rows * -(-count // width)  # 0 where there is nothing
    blocks = -(-units // (TILE // width))
    found = [Launch("sort_tiles", blocks * THREADS, (count, rows, width, *sizes), THREADS)]
    tasks, last = rows * -(-count // TILE) * THREADS, merges(count) - 1
    for number in range(last + 1):
        own = (count, TILE << number, number % 2, int(finishes and number == last), *sizes)
        found.append(Launch("merge_tiles", tasks, own, THREADS))
    return tuple(found)


def merges(count: int) -> int:
    """Give how many merges make one run of a row; after an odd number pairs are in the second."""
    return (-(-count // TILE) - 1).bit_length() if count else 0


def pair_scratch(
    count: int, rows: int, wide_key: bool, wide_place: bool, pairs: bool = True
) -> tuple[int, ...]:
    """Give the bytes of the memory for pairs, twice; what is not used has none."""
    merged = merges(count) > 0
    sizes = (count * rows * (8 if wide else 4) for wide in (wide_key, wide_place))
    return tuple(size * used for size in sizes for used in (pairs or merged, merged))


def ordering_kernel(
    x: TensorType, axis: int, descending: bool, inverse: bool, language: str
) -> RawKernel | None:
    """Give the kernels of `argsort`, or of its inverse, `sort_places`, in CUDA C."""
    if language != "cuda":
        return None
    size, apart = x.shape[axis], product(x.shape[axis + 1 :])
    rows = product(x.shape[:axis]) * apart
    wanted = not is_short(size)
    if not (isinstance(size, int) and isinstance(rows, int) and isinstance(apart, int)):
        return RawKernel("", "sort_tiles", product(x.shape), wanted=wanted)  # before they are known
    wide = size >= NARROW - TILE
    text = ordering(x.dtype, descending, inverse, wide)
    scratch = pair_scratch(size, rows, itemsize(x.dtype) == 8, wide, pairs=False)
    first, *then = sort_launches(size, rows, (apart,), finishes=True)
    return RawKernel(
        text, first.name, first.tasks, first.sizes, first.grain, tuple(then), scratch, wanted
    )


@cache
def ordering(dtype: str, descending: bool, inverse: bool, wide: bool) -> str:
    """Write the kernels of `argsort`, or of its inverse, `sort_places`."""
    kind = BITS[itemsize(dtype)]
    row = "row / apart * count * apart + row % apart"
    place, found = ("numbers[e]", "k") if inverse else ("k", "numbers[e]")
    return pairs_text(
        itemsize(dtype) == 8,
        wide,
        key_text(dtype, descending),
        f"const {kind}* x, long long* y, {SCRATCH}",
        f"key_of(x[{row} + k * apart])",
        "apart",
        f"y[{row} + (long long){place} * apart] = (long long){found};",
    )


def is_short(size: Size) -> bool:
    """Tell whether a size is known, and so small that kernels by hand are no better."""
    return isinstance(size, int) and size <= SHORT
