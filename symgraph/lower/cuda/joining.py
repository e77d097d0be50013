"""Reductions of several threads: their parts meet in shared memory, in a fixed order."""

from __future__ import annotations

from collections.abc import Sequence

from symgraph.frozen import frozen
from symgraph.graph.dtypes import is_float
from symgraph.graph.scalar import Scalar, operands_of
from symgraph.lower.cuda.operations import written
from symgraph.lower.cuda.types import REGISTER, Reg
from symgraph.lower.cuda.values import Frame, Values
from symgraph.lower.loops import Accumulate
from symgraph.lower.monoids import combine
from symgraph.lower.nest import Nest

WARP, MOST_THREADS = 32, 256


@frozen
class Room:
    """An array of a kernel: its block's, or of each thread, which begins as `aligned` asks."""

    kind: str
    name: str
    count: int
    common: bool = True
    aligned: str = ""

    @property
    def plain(self) -> str:
        """The array as it stands in a structure."""
        return f"{self.aligned}{self.kind} {self.name}[{self.count}];"

    def __str__(self) -> str:
        where = "__shared__ " if self.common else ""
        return f"{self.aligned}{where}{self.kind} {self.name}[{self.count}];"


class Joining(Values):
    """Prints how values are taken into accumulators, and how threads join theirs.

    A block has `threads`; where they stand in rows, there are `lanes` columns of them.
    """

    def __init__(self, nest: Nest) -> None:
        super().__init__(nest)
        self.accumulators: dict[Scalar, list[Reg]] = {}
        self.shared: list[Room] = []
        self.rooms: dict[tuple[int, str], str] = {}
        self.threads = MOST_THREADS
        self.lanes = 0  # positions along the vector axis at once, where there are rows

    def written_down(self, parts: Sequence[Reg], guard: str, place: str) -> list[str]:
        """Let threads write their parts to shared memory, the same for all reductions.

        Whoever reads them ends with a barrier, so that the next may be written there.
        """
        found = []
        for number, part in enumerate(parts):
            key = number, part.dtype
            if key not in self.rooms:
                self.rooms[key] = self.fresh("room")
                kind = REGISTER[part.dtype]
                self.shared.append(Room(kind, self.rooms[key], self.threads))
            found.append(self.rooms[key])
            self.line(f"{guard}{found[-1]}[{place}] = {part};")
        self.line("__syncthreads();")
        return found

    def across(self, node: Scalar, parts: Sequence[Reg]) -> None:
        """Combine the accumulators of a block in a fixed order; every thread gets the result.

        First a tree in each warp, then warp after warp.
        """
        half = self.fresh("half")
        with self.block(f"for (int {half} = {WARP // 2}; {half} > 0; {half} /= 2)"):
            other = [self.new(f"shift_down({part}, {half})", part.dtype) for part in parts]
            self.assign(parts, self.combined(node, parts, other))
        if self.threads == WARP:
            for part in parts:
                self.line(f"{part} = of_first({part});")
            self.line("__syncwarp();")  # before anybody reads what others have kept
            return
        first, mine = f"if (threadIdx.x % {WARP} == 0) ", f"threadIdx.x / {WARP}"
        rooms = self.written_down(parts, first, mine)
        for room, part in zip(rooms, parts):
            self.line(f"{part} = {room}[0];")
        self.one_after_another(node, parts, rooms, self.threads // WARP, "{}")

    def one_after_another(
        self, node: Scalar, parts: Sequence[Reg], rooms: Sequence[str], count: int, place: str
    ) -> None:
        """Combine what lies in shared memory at places 1, 2 and so on."""
        row = self.fresh("row")
        with self.block(f"for (int {row} = 1; {row} < {count}; {row} += 1)"):
            at = place.format(row)
            other = [self.new(f"{room}[{at}]", part.dtype) for room, part in zip(rooms, parts)]
            self.assign(parts, self.combined(node, parts, other))
        self.line("__syncthreads();")  # before anybody writes there again

    def assign(self, parts: Sequence[Reg], values: Sequence[Reg]) -> None:
        """Give accumulators new values."""
        for part, value in zip(parts, values):
            self.line(f"{part} = {value};")

    def down(self, node: Scalar, parts: Sequence[Reg]) -> None:
        """Combine the accumulators of a position's threads, one after another."""
        rooms = self.written_down(parts, "", "threadIdx.x")
        for room, part in zip(rooms, parts):
            self.line(f"{part} = {room}[threadIdx.x % {self.lanes}];")
        place = f"threadIdx.x % {self.lanes} + {{}} * {self.lanes}"
        self.one_after_another(node, parts, rooms, self.threads // self.lanes, place)

    def combined(self, node: Scalar, first: Sequence[Reg], second: Sequence[Reg]) -> list[Reg]:
        """Print how two partial results combine."""
        names = operands_of([reg.dtype for reg in (*first, *second)])
        frame = Frame(dict(zip(names, (*first, *second))))
        count = len(first)
        made = combine(node.attr.monoid, tuple(names[:count]), tuple(names[count:]))
        return [self.value(one, frame) for one in made]

    def accumulate(self, statement: Accumulate, frame: Frame) -> None:
        """Print one step of reductions."""
        for node in statement.reduces:
            slots = self.accumulators[node]
            self.assign(slots, self.step(node, slots, frame))

    def step(self, node: Scalar, old: Sequence[Reg], frame: Frame) -> list[Reg]:
        """Give the accumulators with one more element; a product is added with one rounding."""
        (first, *_) = node.args
        fused = node.attr.monoid.name == "sum" and first.op == "mul"
        if fused and is_float(first.dtype) and first.dtype in ("float32", "float64"):
            factors = [self.value(one, frame) for one in first.args]
            return [self.new(written("fma", [*factors, old[0]], first.dtype), first.dtype)]
        return self.combined(node, old, [self.value(one, frame) for one in node.args])
