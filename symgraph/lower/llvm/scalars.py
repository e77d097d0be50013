"""Registers of scalars that are computed of others, each printed once, where it is asked for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from symgraph.errors import LoweringError
from symgraph.graph.index import Axis
from symgraph.graph.scalar import Scalar
from symgraph.lower.llvm.operations import philox, write
from symgraph.lower.llvm.types import Reg, literal
from symgraph.lower.llvm.writer import Writer
from symgraph.lower.loops import PLACED, is_rare, rare_inputs, unprinted

RARE_LANES = 8  # what is rare is compiled once, for few lanes, and called for each part of a vector


@dataclass
class Frame:
    """What is known at a place in the text: values, positions along axes, the open vector."""

    values: dict[Scalar, Reg] = field(default_factory=dict)
    parts: dict[Scalar, tuple[Reg, ...]] = field(default_factory=dict)
    places: dict[Axis, str] = field(default_factory=dict)
    ranges: dict[Axis, tuple[str, str]] = field(default_factory=dict)  # of axes walked in part
    vector: Axis | None = None
    lanes: int = 1
    mask: str | None = None

    def inner(self) -> Frame:
        """Give a copy for a nested block."""
        return Frame(dict(self.values), dict(self.parts), dict(self.places), dict(self.ranges),
                     self.vector, self.lanes, self.mask)  # fmt: skip


class Scalars:
    """Prints what is asked for, where it is asked for, once a frame."""

    def __init__(self, writer: Writer) -> None:
        self.w = writer

    def value(self, wanted: Scalar, frame: Frame) -> Reg:
        """Give the register of a value, printing what is not there yet."""
        found = frame.values.get(wanted)
        if found is not None:
            return found
        for node in unprinted(wanted, frame.values):
            frame.values[node] = self.one(node, frame)
        return frame.values[wanted]

    def one(self, node: Scalar, frame: Frame) -> Reg:
        """Print one scalar whose arguments are there."""
        if node.op == "const":
            return literal(node.attr, node.dtype)
        if node.op == "take":
            part: Reg = frame.parts[node.args[0]][node.attr]
            return part
        if is_rare(node):
            return self.rare(node, frame)
        if node.op in PLACED and node.op != "philox":
            raise LoweringError(f"llvm: `{node.op}` is used before its loop in {self.w.name}.")
        args = [frame.values[argument] for argument in node.args]
        lanes = max((arg.lanes for arg in args), default=1)
        if node.op == "select" and args[0].lanes == 1 < lanes:  # one branch for all lanes
            first, second = (self.w.splat(arg, lanes) for arg in args[1:])
            return self.w.reg(f"select {args[0]}, {first}, {second}", node.dtype, lanes)
        args = [self.w.splat(arg, lanes) for arg in args]
        if node.op == "philox":
            frame.parts[node] = philox(self.w, args)
            return frame.parts[node][0]
        return write(self.w, node.op, args, node.dtype)

    def rare(self, node: Scalar, frame: Frame) -> Reg:
        """Print a choice with a branch around what no lane may want."""
        w, (condition, first, second) = self.w, node.args
        given, usual = frame.values[condition], frame.values[second]
        lanes = max(given.lanes, usual.lanes)
        given, usual = w.splat(given, lanes), w.splat(usual, lanes)
        wanted, before, name = given.text, w.block, w.fresh("rare")
        if lanes > 1:
            wanted = w.call(f"llvm.vector.reduce.or.v{lanes}i1", "i1", str(given))
        w.line(f"br i1 {wanted}, label %then_{name}, label %end_{name}, !prof !2")
        w.label(f"then_{name}")
        other = self._called(first, frame.inner(), lanes)
        chosen = w.new(f"select {given}, {other}, {usual}")
        last = w.block
        w.jump(f"end_{name}")
        w.label(f"end_{name}")
        text = f"phi {usual.type} [ {usual.text}, %{before} ], [ {chosen}, %{last} ]"
        return w.reg(text, node.dtype, lanes)

    def _called(self, wanted: Scalar, frame: Frame, lanes: int) -> Reg:
        """Call a function of the module for a value, once for each part of a vector."""
        w, part = self.w, min(lanes, RARE_LANES)
        inputs = rare_inputs(wanted, frame.values)
        name = _function(w, wanted, inputs, part)
        given = [w.splat(self.value(one, frame), lanes) for one in inputs]
        parts = []
        for start in range(0, lanes, part):
            few = [w.lanes(one, start, part) for one in given]
            made = Reg("", wanted.dtype, part)
            text = f"call {made.type} @{name}({', '.join(map(str, few))})"
            parts.append(w.reg(text, wanted.dtype, part))
        return w.joined(parts)


def _function(w: Writer, wanted: Scalar, inputs: list[Scalar], lanes: int) -> str:
    """Define a function of inputs in the module, where equal ones are one; give its name."""
    own = Writer("", "")
    known = {one: Reg(f"%a{number}", one.dtype, lanes) for number, one in enumerate(inputs)}
    made = own.splat(Scalars(own).value(wanted, Frame(dict(known), lanes=lanes)), lanes)
    own.line(f"ret {made}")
    head, body = f"({', '.join(map(str, known.values()))}) #1", own.body()
    own.name = "rare_" + hashlib.blake2b(f"{head}{body}".encode(), digest_size=8).hexdigest()
    w.declared.update(own.declared)
    w.declared[own.name] = f"define internal {made.type} @{own.name}{head} {body}"
    return own.name
