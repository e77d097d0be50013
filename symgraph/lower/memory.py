"""The memory plan: an offset in one arena for every buffer, from when each is live.

With steps across and addresses up, a buffer is a rectangle that may only move up and down, and the
plan wants the lowest roof. The best-fit method of Sekiyama, Imamichi, Imai and Raymond
("Profile-guided memory optimization for deep neural networks", arXiv 1804.10001) fills the lowest
valley of the skyline with the first buffer, in some order, that fits between its walls; a valley
that nothing fits is filled up to its lower wall. Which order is good differs from graph to graph:
a few are tried until one comes close enough to the lower bound.

A buffer that is computed in place stands where the one stood whose place it takes, so both are one
block that moves as a whole.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence

from symgraph.errors import ArgumentError
from symgraph.frozen import frozen

ALIGN = 64  # bytes: a line of the cache, and the widest vector

GOOD = 256  # a plan that is at most 1/256 above the lower bound is not improved
MOST_TRIED = 6144  # buffers, counted again for every order that is tried
MOST_MARKS = 2048  # sets that are kept of one kind: memory is linear in the number of buffers


@frozen
class Interval:
    """A buffer of `size` bytes that is live from step `first` to step `last`, both included.

    `inplace` is the number of another interval whose last step is this one's first: the step reads
    that one, which an earlier step made, and writes this one, and may do so in the same memory.
    """

    size: int
    first: int
    last: int
    inplace: int | None = None


@frozen
class MemoryPlan:
    """Where each buffer starts, the bytes of the arena, and the bytes that no plan can do without.

    `lower_bound` is the largest sum of sizes, in multiples of `ALIGN`, that are live at one step,
    where one that is computed in place and the one whose place it takes count once.
    """

    offsets: tuple[int, ...]
    total: int
    lower_bound: int


@frozen
class _Block:
    """Intervals that take each other's place; `pieces` are (first, last, bytes), never growing.

    Times are counted in moments: the steps at which some interval starts. Two intervals that are
    live at the same step are live at the same moment.
    """

    members: tuple[int, ...]
    pieces: tuple[tuple[int, int, int], ...]
    first: int
    last: int
    size: int
    area: int


_RANKS: tuple[Callable[[_Block], tuple[int, int]], ...] = (
    lambda block: (-block.area, block.first),
    lambda block: (-block.last, block.first),
    lambda block: (block.first - block.last, -block.size),
    lambda block: (-block.size, block.first - block.last),
    lambda block: (block.first, -block.last),
)


def plan_memory(intervals: Sequence[Interval]) -> MemoryPlan:
    """Give offsets, multiples of `ALIGN`, at which no two buffers overlap while both are live.

    The same intervals give the same plan. A buffer stands in the place of its `inplace` if it is
    not larger and no larger one wants that place. Raises `ArgumentError` for an interval that has
    no meaning.

    >>> plan_memory([Interval(100, 0, 1), Interval(64, 1, 2), Interval(128, 2, 3)])
    MemoryPlan(offsets=(0, 128, 0), total=192, lower_bound=192)
    """
    _check(intervals)
    blocks, moments = _blocks(intervals)
    bound = _lower_bound(blocks, moments)
    floors: list[int] = []
    total = -1
    for rank in _RANKS[: max(1, MOST_TRIED // (len(blocks) + 1))]:
        tried = _Skyline(blocks, moments, rank).fill()
        roof = max([floor + block.size for floor, block in zip(tried, blocks)], default=0)
        if total < 0 or roof < total:
            floors, total = tried, roof
        if total - bound <= bound // GOOD:
            break
    offsets = [0] * len(intervals)
    for block, floor in zip(blocks, floors):
        for member in block.members:
            offsets[member] = floor
    return MemoryPlan(tuple(offsets), total, bound)


def _check(intervals: Sequence[Interval]) -> None:
    for number, each in enumerate(intervals):
        if each.size < 0 or each.last < each.first:
            raise ArgumentError(
                f"plan_memory: interval {number} has a negative size or ends before it starts: "
                f"{each}.",
                fix="size >= 0 and first <= last",
            )
        place = each.inplace
        if place is None:
            continue
        if place == number or not 0 <= place < len(intervals):
            raise ArgumentError(
                f"plan_memory: interval {number} takes the place of {place}, which is not another "
                f"of the {len(intervals)} intervals.",
                fix="inplace is the number of an interval that ends where this one starts",
            )
        if intervals[place].last != each.first:
            raise ArgumentError(
                f"plan_memory: interval {number} starts at step {each.first} and takes the place "
                f"of {place}, which ends at step {intervals[place].last}.",
                fix="inplace is the number of an interval that ends where this one starts",
            )


def _blocks(intervals: Sequence[Interval]) -> tuple[list[_Block], int]:
    """Join intervals that take each other's place; also give the number of moments."""
    starts = sorted({each.first for each in intervals})
    sizes = [-(-each.size // ALIGN) * ALIGN for each in intervals]
    heirs = _heirs(intervals, sizes)
    taken = set(heirs.values())
    blocks = []
    for number in range(len(intervals)):
        if number in taken:
            continue
        members, pieces, area, moment = [], [], 0, -1
        heir: int | None = number
        while heir is not None:
            members.append(heir)
            each, size = intervals[heir], sizes[heir]
            # At the step that both share, the heir stands in the larger one's place.
            first = max(bisect_left(starts, each.first), moment + 1)
            last = bisect_right(starts, each.last) - 1
            if first <= last:
                pieces.append((first, last, size))
                area += size * (last - first + 1)
                moment = last
            heir = heirs.get(heir)
        block = _Block(
            tuple(members), tuple(pieces), pieces[0][0], pieces[-1][1], sizes[number], area
        )
        blocks.append(block)
    return blocks, len(starts)


def _heirs(intervals: Sequence[Interval], sizes: Sequence[int]) -> dict[int, int]:
    """Give for a number the one that takes its place: the largest that fits, the first of equals.

    That one lowers the lower bound most.
    """
    heirs: dict[int, int] = {}
    for number, each in enumerate(intervals):
        place = each.inplace
        if place is None or sizes[number] > sizes[place]:
            continue
        if intervals[place].first == each.first:
            continue  # made by the very step that would have to read it
        if place not in heirs or sizes[number] > sizes[heirs[place]]:
            heirs[place] = number
    return heirs


def _lower_bound(blocks: Sequence[_Block], moments: int) -> int:
    change = [0] * (moments + 1)
    for block in blocks:
        for first, last, size in block.pieces:
            change[first] += size
            change[last + 1] -= size
    now = most = 0
    for amount in change:
        now += amount
        most = max(most, now)
    return most


class _Skyline:
    """The tops of the blocks placed so far, as valleys: stretches of moments with one height."""

    def __init__(
        self, blocks: Sequence[_Block], moments: int, rank: Callable[[_Block], tuple[int, int]]
    ) -> None:
        self.blocks = blocks
        self.moments = moments
        self.order = sorted(range(len(blocks)), key=lambda number: rank(blocks[number]))
        ends: dict[int, list[int]] = defaultdict(list)
        starts: dict[int, list[int]] = defaultdict(list)
        for bit, number in enumerate(self.order):
            ends[blocks[number].last].append(bit)
            starts[moments - 1 - blocks[number].first].append(bit)
        self.ended = _Sets(ends, moments)
        self.to_start = _Sets(starts, moments)  # counted from the end
        # By first moment, but `begin` by last moment.
        self.height: dict[int, int] = {}
        self.end: dict[int, int] = {}
        self.begin: dict[int, int] = {}
        self.heap: list[tuple[int, int]] = []  # (height, first); some are no more

    def fill(self) -> list[int]:
        """Place every block; gives their offsets."""
        floors = [0] * len(self.blocks)
        left = (1 << len(self.blocks)) - 1
        if left:
            self._add(0, self.moments - 1, 0)
        while left:
            floor, first = heapq.heappop(self.heap)
            if self.height.get(first) != floor:
                continue
            last = self.end.pop(first)
            del self.height[first], self.begin[last]
            fits = left & self.to_start.upto(self.moments - 1 - first) & self.ended.upto(last)
            if not fits:
                self._add(first, last, self._lower_wall(first, last))
                continue
            chosen = fits & -fits  # the lowest bit is the first in the order
            left ^= chosen
            number = self.order[chosen.bit_length() - 1]
            floors[number] = floor
            self._place(self.blocks[number], first, last, floor)
        return floors

    def _place(self, block: _Block, first: int, last: int, floor: int) -> None:
        if first < block.first:
            self._add(first, block.first - 1, floor)
        for start, stop, size in block.pieces:
            self._add(start, stop, floor + size)
        if block.last < last:
            self._add(block.last + 1, last, floor)

    def _lower_wall(self, first: int, last: int) -> int:
        """Give the height of the lower neighbour; the whole width is never asked: all fits it."""
        walls = []
        if first > 0:
            walls.append(self.height[self.begin[first - 1]])
        if last + 1 < self.moments:
            walls.append(self.height[last + 1])
        return min(walls)

    def _add(self, first: int, last: int, height: int) -> None:
        """Put a stretch where there is none, joined with neighbours of the same height."""
        before = self.begin.get(first - 1)
        if before is not None and self.height[before] == height:
            del self.begin[first - 1]
            first = before
        if self.height.get(last + 1) == height:
            following = last + 1
            last = self.end.pop(following)
            del self.height[following]
        self.height[first] = height
        self.end[first] = last
        self.begin[last] = first
        heapq.heappush(self.heap, (height, first))


class _Sets:
    """Which bits come at a moment or before, as one integer: a set that is cut in no time.

    For many moments only some sets are kept, and the bits since then are added when asked.
    """

    def __init__(self, bits: dict[int, list[int]], moments: int) -> None:
        self.bits = bits
        self.stride = moments // MOST_MARKS + 1
        self.marks = [0]
        now = 0
        for moment in range(moments):
            for bit in bits.get(moment, ()):
                now |= 1 << bit
            if (moment + 1) % self.stride == 0:
                self.marks.append(now)

    def upto(self, moment: int) -> int:
        """Give the bits that come at `moment` or before."""
        if self.stride == 1:
            return self.marks[moment + 1]
        kept = (moment + 1) // self.stride
        found = self.marks[kept]
        for later in range(kept * self.stride, moment + 1):
            for bit in self.bits.get(later, ()):
                found |= 1 << bit
        return found
