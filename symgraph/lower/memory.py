"""The memory plan: an offset in one arena for every buffer, from when each is live.

With times across and addresses up, a buffer is a rectangle whose times are fixed: it may only move
up and down, and the plan wants the lowest roof. The best-fit method of Sekiyama, Imamichi, Imai and
Raymond ("Profile-guided memory optimization for deep neural networks", 2018, section 3) fills the
lowest valley of the skyline with the first buffer, in some order, that fits between its walls; a
valley that nothing fits is filled up to its lower wall. A buffer that is computed in place stands
on the same floor as the one whose place it takes, and both move as one.

Which order is good differs from graph to graph, so that a few are tried, forwards and backwards,
until one meets the lower bound. Bits of integers are the sets: a step of the search costs a
microsecond for a few thousand buffers.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from symgraph.errors import ArgumentError

ALIGN = 64  # bytes: a line of the cache, and the widest vector

Piece = tuple[int, int, int]  # first moment, last moment, bytes


@dataclass(frozen=True)
class Interval:
    """A buffer of `size` bytes that is live from step `first` to step `last`, both included.

    `inplace` is the number of another interval whose last step is this one's first: the step reads
    that one and writes this one, and may do so in the same memory.
    """

    size: int
    first: int
    last: int
    inplace: int | None = None


@dataclass(frozen=True)
class MemoryPlan:
    """Where every buffer starts, the bytes of the whole arena, and the bytes that are needed.

    `lower_bound` is the largest sum of sizes, in multiples of `ALIGN`, that are live at one step.
    """

    offsets: tuple[int, ...]
    total: int
    lower_bound: int


@dataclass(frozen=True)
class _Block:
    """Intervals that take each other's place, and when how much of it is needed: never growing."""

    members: tuple[int, ...]
    pieces: tuple[Piece, ...]

    @property
    def first(self) -> int:
        return self.pieces[0][0]

    @property
    def last(self) -> int:
        return self.pieces[-1][1]

    @property
    def size(self) -> int:
        return self.pieces[0][2]

    @property
    def area(self) -> int:
        return sum(size * (last - first + 1) for first, last, size in self.pieces)


def plan_memory(intervals: Sequence[Interval]) -> MemoryPlan:
    raise NotImplementedError


def _round(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def _blocks(intervals):
    starts = sorted({each.first for each in intervals})
    spans = [(bisect_left(starts, e.first), bisect_right(starts, e.last) - 1) for e in intervals]
    sizes = [_round(e.size) for e in intervals]
    heir = {}
    for number, each in enumerate(intervals):
        before = each.inplace
        if before is None or sizes[number] > sizes[before]:
            continue
        if before not in heir or sizes[number] > sizes[heir[before]]:
            heir[before] = number
    heirs = set(heir.values())
    blocks = []
    for number in range(len(intervals)):
        if number in heirs:
            continue
        members = [number]
        pieces = [(*spans[number], sizes[number])]
        while number in heir:
            number = heir[number]
            members.append(number)
            first, last = spans[number]
            if last > first:
                pieces.append((first + 1, last, sizes[number]))
        blocks.append(_Block(tuple(members), tuple(pieces)))
    return blocks, len(starts)


def _lower_bound(blocks, moments):
    change = [0] * (moments + 1)
    for block in blocks:
        for first, last, size in block.pieces:
            change[first] += size
            change[last + 1] -= size
    now = most = 0
    for c in change:
        now += c
        if now > most: most = now
    return most


def _skyline(blocks, moments, rank):
    order = sorted(range(len(blocks)), key=lambda n: rank(blocks[n]))
    starting = [0] * (moments + 1)
    ending = [0] * (moments + 1)
    for bit, n in enumerate(order):
        starting[blocks[n].first] |= 1 << bit
        ending[blocks[n].last] |= 1 << bit
    for m in range(moments - 1, -1, -1):
        starting[m] |= starting[m + 1]
    for m in range(1, moments):
        ending[m] |= ending[m - 1]
    left = (1 << len(blocks)) - 1
    offsets = [0] * len(blocks)
    end = {0: moments - 1}
    begin = {moments - 1: 0}
    height = {0: 0}
    heap = [(0, 0)]
    while left:
        floor, first = heapq.heappop(heap)
        if height.get(first) != floor:
            continue
        last = end[first]
        fits = left & starting[first] & ending[last]
        del height[first], end[first], begin[last]
        if not fits:
            walls = [height[begin[first-1]]] if first else []
            if last + 1 in height: walls.append(height[last+1])
            parts = [(first, last, min(walls))]
        else:
            lowest = fits & -fits
            left ^= lowest
            n = order[lowest.bit_length() - 1]
            offsets[n] = floor
            b = blocks[n]
            parts = [(f, l, floor + s) for f, l, s in b.pieces]
            if first < b.first: parts.insert(0, (first, b.first - 1, floor))
            if b.last < last: parts.append((b.last + 1, last, floor))
        for f, l, h in parts:
            if f and height[begin[f - 1]] == h:
                pf = begin.pop(f - 1)
                f = pf
            height[f], end[f], begin[l] = h, l, f
            new = (h, f)
            lastf = f
            heapq.heappush(heap, new)
        # merge right
        nxt = l + 1
        if height.get(nxt) == h:
            del begin[l]
            l = end.pop(nxt); del height[nxt]
            end[f] = l; begin[l] = f
    return offsets


def _total(blocks, offsets):
    return max((o + b.size for b, o in zip(blocks, offsets)), default=0)

RANKS = {
 "long": lambda b: (b.first - b.last, -b.size),
 "size": lambda b: (-b.size, b.first - b.last),
 "area": lambda b: (-b.area, ),
 "firsts": lambda b: (b.first, -b.last),
 "lasts": lambda b: (-b.last, b.first),
}
