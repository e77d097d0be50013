"""Kernels that do not wait for each other as one: the number of a block tells which of them it is.

How many blocks each has follows from sizes, so these are arguments, and the text is one for all
sizes. What blocks share in memory lies in one place, as large as the largest of them needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from symgraph.frozen import frozen
from symgraph.lower.cuda.joining import MOST_THREADS
from symgraph.lower.cuda.kernel import Kernel, named
from symgraph.lower.reach import NOWHERE

MARK = "unsigned char* failed"


@frozen
class Bundle:
    """Kernels of equally large blocks, printed as one; its arguments are theirs, in order.

    Each is told, after its tasks, how many blocks it has. Where one of them looks at the mark of a
    failed check, or leaves it, the mark is the last argument.
    """

    name: str
    parts: tuple[Kernel, ...]

    @property
    def threads(self) -> int:
        """The size of a block."""
        return self.parts[0].threads

    @property
    def held(self) -> bool:
        """Whether it is told where a check leaves its mark."""
        return any(one.held or one.marks for one in self.parts)

    @property
    def words(self) -> int:
        """How many arguments it has."""
        return sum(len(one.arguments) + 1 for one in self.parts) + self.held

    def source(self, name: str, wide: bool) -> str:
        """Give the text under a name, with indices of 64 bits if they must be so wide, or of 32."""
        return named(self, name, wide)

    def stride(self, most: int) -> int:
        """Give how far a counter of its loops may go beyond an end, with so many blocks at most."""
        return max(one.stride(most) for one in self.parts)

    @cached_property
    def text(self) -> str:
        """The text."""
        parts = list(enumerate(self.parts))
        arguments = [one for place, part in parts for one in _arguments(place, part)]
        head = f'extern "C" __global__ void __launch_bounds__({self.threads}) {self.name}('
        lines = [
            head, f"    {', '.join([*arguments, *([MARK] if self.held else [])])}) {{",
            *_rooms(self.parts), "  unsigned block = blockIdx.x;",
            *(line for place, part in parts for line in _part(place, part)), "}",
        ]  # fmt: skip
        return "\n".join(lines) + "\n"


def _arguments(place: int, part: Kernel) -> Iterator[str]:
    """Give the arguments of a part, under names of their own."""
    for one in (*part.arguments, "long long blocks"):
        kind, name = one.rsplit(" ", 1)
        yield f"{kind} of{place}_{name}"


def _rooms(parts: tuple[Kernel, ...]) -> Iterator[str]:
    """Let what blocks share lie in one place, since a block runs one part."""
    each = [[room.plain for room in part.shared if room.common] for part in parts]
    if any(each):
        yield "  __shared__ union {"
        for place, rooms in enumerate(each):
            if rooms:
                yield f"    struct {{ {' '.join(rooms)} }} of{place};"
        yield "  } shared;"


def _part(place: int, part: Kernel) -> Iterator[str]:
    """Print a part, under a condition; after it the blocks of the next are counted from 0."""
    yield f"  if (block < of{place}_blocks) {{"
    if part.held:
        yield "    if (*failed) return;"
    for one in part.arguments:
        yield f"    {one} = of{place}_{one.rsplit(' ', 1)[1]};"
    yield f"    const unsigned blocks = (unsigned)of{place}_blocks;"
    for room in part.shared:
        own = f"{room.kind} (&{room.name})[{room.count}] = shared.of{place}.{room.name};"
        yield f"    {own if room.common else room}"
    for line in part.body:
        apart = line.replace("blockIdx.x", "block").replace("gridDim.x", "blocks")
        yield f"  {apart}"
    yield "    return;"
    yield "  }"
    yield f"  block -= (unsigned)of{place}_blocks;"


# A check of which nobody waits for the answer: where a condition does not hold it leaves the mark.
CHECK = Kernel(
    "check", "", ("const unsigned char* holds", "long long tasks"), (),
    ("  if (block == 0 && threadIdx.x == 0 && !*holds) *failed = 1;",),
    (), (), 1, MOST_THREADS, False, NOWHERE, marks=True,
)  # fmt: skip
