"""Time against rank: plateaus, the rank that is worth its time, and a picture.

A device works in blocks (vector registers, tiles of matrix units), so that the time of a layer
rises by steps as its rank grows: some ranks cost as much as others that lose less.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import NamedTuple

from symgraph.compression.ranks import Ranks
from symgraph.cost.units import seconds_text
from symgraph.frozen import frozen

DIRECTIONS = ("both", "forward")
WIDE, HIGH, GAP = 380, 250, 18  # of a panel, in pixels
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 46, 38  # around its axes
COLUMNS = 3


class Point(NamedTuple):
    """The seconds of a layer at some ranks (none: dense), forward alone and with both gradients."""

    ranks: Ranks
    forward: float
    both: float
    flops: int = 0

    def seconds(self, direction: str) -> float:
        """Give the time that counts: of "forward" alone, or "both" ways as in training."""
        return self.forward if direction == "forward" else self.both


@frozen
class Staircase:
    """What was measured for layers that do the same work: `points` by growing rank, and dense.

    `chosen` are the ranks to take; none where the layer had better stay dense, for `reason`.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    dense: Point
    points: tuple[Point, ...]
    direction: str
    epsilon: float
    chosen: Ranks = ()
    reason: str = ""

    @property
    def seconds(self) -> float:
        """The time of one of the layers with what was chosen."""
        return self.at(self.chosen)

    def at(self, ranks: Ranks) -> float:
        """Give the time at some ranks that were measured, or dense."""
        every = {point.ranks: point for point in (self.dense, *self.points)}
        return every[ranks].seconds(self.direction)

    def __str__(self) -> str:
        name = self.names[0] + (f" and {len(self.names) - 1} like it" if self.names[1:] else "")
        before = seconds_text(self.dense.seconds(self.direction))
        if not self.chosen:
            return f"{name}: stays dense, {before}: {self.reason}"
        ranks = " x ".join(map(str, self.chosen))
        return f"{name}: rank {ranks}, {before} -> {seconds_text(self.seconds)}"


def plateaus(points: Sequence[Point], direction: str, epsilon: float) -> list[list[Point]]:
    """Group points of growing rank into plateaus, whose times are within `epsilon` of the least.

    What counts is the least time at that rank or a larger one: who wants the smaller rank can take
    the larger, so that a rank which is slow for itself (it fills no block) ends no plateau.

    >>> times = [(8, 1.0), (12, 1.4), (16, 1.0), (17, 2.0), (32, 2.0)]
    >>> points = [Point((rank,), seconds, seconds) for rank, seconds in times]
    >>> [[one.ranks[0] for one in group] for group in plateaus(points, "forward", 0.05)]
    [[8, 12, 16], [17, 32]]
    """
    least, reached = float("inf"), []
    for point in reversed(points):
        least = min(least, point.seconds(direction))
        reached.append(least)
    groups: list[list[Point]] = []
    floor = -1.0
    for point, seconds in zip(points, reversed(reached)):
        if not groups or seconds > (1 + epsilon) * floor:
            groups.append([])
            floor = seconds
        groups[-1].append(point)
    return groups


def choose(dense: Point, points: Sequence[Point], direction: str, epsilon: float) -> Point:
    """Give the point to take: the dense one, where factors do not save more than `epsilon`.

    Of each plateau the largest rank within `epsilon` of its least time is a candidate. Among these
    the one with the most rank for its time wins, and of those within `epsilon` of it the largest:
    where time only grows in proportion to the rank, nothing is gained by a smaller one.
    """
    tops = []
    for group in plateaus(points, direction, epsilon):
        floor = min(point.seconds(direction) for point in group)
        near = [point for point in group if point.seconds(direction) <= (1 + epsilon) * floor]
        tops.append(near[-1])
    worth = [point.ranks[0] / point.seconds(direction) for point in tops]
    good = [top for top, one in zip(tops, worth) if one >= (1 - epsilon) * max(worth)]
    best = good[-1] if good else dense
    pays = best.seconds(direction) < (1 - epsilon) * dense.seconds(direction)
    return best if pays else dense


# -- the picture -----------------------------------------------------------------------------------


def svg(staircases: Sequence[Staircase]) -> str:
    """Draw staircases side by side: time against rank, dense as a dashed line, the chosen rank.

    The grey line is what FLOPs alone would make of the dense time.
    """
    shown = [one for one in staircases if one.points]
    columns = max(1, min(COLUMNS, len(shown)))
    rows = max(1, -(-len(shown) // columns))
    width, height = columns * (WIDE + GAP) + GAP, rows * (HIGH + GAP) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, one in enumerate(shown):
        x, y = (GAP + place * (size + GAP) for place, size in
                zip((number % columns, number // columns), (WIDE, HIGH)))  # fmt: skip
        parts += [f'<g transform="translate({x} {y})">', *_panel(one), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


class _Axes(NamedTuple):
    low: int
    high: int
    most: float

    def x(self, rank: float) -> float:
        share = (rank - self.low) / max(1, self.high - self.low)
        return LEFT + share * (WIDE - LEFT - RIGHT)

    def y(self, seconds: float) -> float:
        return HIGH - BOTTOM - seconds / self.most * (HIGH - TOP - BOTTOM)


def _panel(one: Staircase) -> list[str]:
    """Draw one staircase."""
    ranks = [point.ranks[0] for point in one.points]
    times = [point.seconds(one.direction) for point in one.points]
    dense = one.dense.seconds(one.direction)
    margin = max(1, (ranks[-1] - ranks[0]) // 20)
    axes = _Axes(ranks[0] - margin, ranks[-1] + margin, 1.12 * max(dense, *times))
    title = one.names[0] + (f" (x {len(one.names)})" if one.names[1:] else "")
    said = f"rank {' x '.join(map(str, one.chosen))}" if one.chosen else "stays dense"
    way = "forward" if one.direction == "forward" else "forward and backward"
    path = " ".join(f"{axes.x(r):.1f},{axes.y(t):.1f}" for r, t in zip(ranks, times))
    parts = [
        _text(LEFT, 16, title, 'font-weight="bold" font-size="12"'),
        _text(LEFT, 32, f"{'x'.join(map(str, one.shape))}, {way}: {said}", 'fill="#555"'),
        *_frame(axes, dense),
    ]
    if all(point.flops for point in (one.dense, *one.points)):
        expected = [dense * point.flops / one.dense.flops for point in one.points]
        line = " ".join(f"{axes.x(r):.1f},{axes.y(t):.1f}" for r, t in zip(ranks, expected))
        parts.append(f'<polyline points="{line}" fill="none" stroke="#bbb" stroke-width="1.5"/>')
    parts.append(f'<polyline points="{path}" fill="none" stroke="#1f6fb2" stroke-width="1.5"/>')
    for point, seconds in zip(one.points, times):
        taken = point.ranks == one.chosen
        parts.append(
            f'<circle cx="{axes.x(point.ranks[0]):.1f}" cy="{axes.y(seconds):.1f}" '
            f'r="{5.5 if taken else 2.8}" fill="{"#d1495b" if taken else "#1f6fb2"}"/>'
        )
    return parts


def _frame(axes: _Axes, dense: float) -> list[str]:
    """Draw the axes, their numbers, and the dense layer's time."""
    left, right, bottom = LEFT, WIDE - RIGHT, HIGH - BOTTOM
    parts = [
        f'<path d="M{left} {TOP}V{bottom}H{right}" fill="none" stroke="#888"/>',
        f'<path d="M{left} {axes.y(dense):.1f}H{right}" stroke="#444" stroke-dasharray="5 4"/>',
        _text(right, axes.y(dense) - 5, f"dense {seconds_text(dense)}", 'text-anchor="end"'),
        _text((left + right) / 2, HIGH - 6, "rank", 'text-anchor="middle"'),
    ]
    for share in (0.0, 0.5, 1.0):
        rank = round(axes.low + share * (axes.high - axes.low))
        parts.append(_text(axes.x(rank), bottom + 15, str(rank), 'text-anchor="middle"'))
        seconds = share * axes.most / 1.12
        said = seconds_text(seconds) if seconds else "0"
        parts.append(_text(left - 6, axes.y(seconds) + 4, said, 'text-anchor="end"'))
    return parts


def _text(x: float, y: float, words: str, options: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {options}>{html.escape(words)}</text>'
