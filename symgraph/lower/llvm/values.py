"""Values of a kernel: the registers of scalars, loads, positions, offsets and sizes."""

from __future__ import annotations

from dataclasses import dataclass, field

from symgraph.dims import Dim, Size
from symgraph.errors import LoweringError
from symgraph.graph.index import Axis
from symgraph.graph.scalar import Scalar
from symgraph.lower.linear import Linear, linear
from symgraph.lower.llvm.access import Access
from symgraph.lower.llvm.operations import philox, write
from symgraph.lower.llvm.types import Reg, literal, wide
from symgraph.lower.llvm.writer import Writer
from symgraph.lower.loops import is_rare, unprinted
from symgraph.lower.nest import Nest


@dataclass
class Frame:
    """What is known at a place in the text: values, positions along axes, the open vector."""

    values: dict[Scalar, Reg] = field(default_factory=dict)
    parts: dict[Scalar, tuple[Reg, ...]] = field(default_factory=dict)
    places: dict[Axis, str] = field(default_factory=dict)
    vector: Axis | None = None
    lanes: int = 1
    mask: str | None = None

    def inner(self) -> Frame:
        """Give a copy for a nested block."""
        return Frame(dict(self.values), dict(self.parts), dict(self.places), self.vector,
                     self.lanes, self.mask)  # fmt: skip


class Values:
    """Prints what is asked for, where it is asked for, once a frame."""

    def __init__(self, nest: Nest, name: str, masks: bool) -> None:
        self.nest = nest
        self.w = Writer(name, "ptr %arguments, i64 %low, i64 %high")
        self.order = nest.order()
        self.free = nest.free()
        self.buffers = tuple(dict.fromkeys([*nest.reads(), *nest.writes()]))
        self.sizes: dict[Size, str] = {}
        self.head: list[str] = []
        self.forms: dict[Scalar, Linear] = {}
        self.access = Access(self.w, self.buffers, masks)

    # -- values ------------------------------------------------------------------------------------

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
        if node.op == "size":
            return Reg(self.size(node.attr), "int64")
        if node.op == "axis":
            return self.position(node.attr, frame)
        if node.op == "load":
            return self.load(node, frame)
        if node.op == "take":
            part: Reg = frame.parts[node.args[0]][node.attr]
            return part
        if node.op in ("reduce", "row", "operand"):
            raise LoweringError(f"llvm: `{node.op}` is used before its loop in {self.nest.name}.")
        if is_rare(node):
            return self.rare(node, frame)
        args = [frame.values[argument] for argument in node.args]
        lanes = max((arg.lanes for arg in args), default=1)
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
        other = w.splat(self.value(first, frame.inner()), lanes)
        chosen = w.new(f"select {given}, {other}, {usual}")
        last = w.block
        w.jump(f"end_{name}")
        w.label(f"end_{name}")
        text = f"phi {usual.type} [ {usual.text}, %{before} ], [ {chosen}, %{last} ]"
        return w.reg(text, node.dtype, lanes)

    def position(self, axis: Axis, frame: Frame) -> Reg:
        """Give the position along an axis: a vector of neighbours along the open vector axis."""
        place = frame.places[axis]
        if axis is not frame.vector:
            return Reg(place, "int64")
        base = self.w.splat(Reg(place, "int64"), frame.lanes)
        text = f"add {wide('i64', frame.lanes)} {base.text}, {iota(frame.lanes)}"
        return self.w.reg(text, "int64", frame.lanes)

    def load(self, node: Scalar, frame: Frame) -> Reg:
        """Print a load: neighbours, one element for all lanes, or gathered."""
        buffer, guarded = node.attr.buffer, node.attr.guarded
        form = self.form(node.args[0])
        guard = self.value(node.args[-1], frame) if guarded else None
        fill = literal(node.attr.fill, node.dtype)
        if frame.vector is None or frame.vector not in self.free[node]:
            return self.access.one(buffer, self.offset(form, frame), guard, fill)
        lanes = frame.lanes
        step = form.coefficient(frame.vector)
        if isinstance(step, int) and step == 1:
            place, wide_fill = self.offset(form, frame), self.w.splat(fill, lanes)
            if guard is not None and guard.lanes == 1:
                return self.access.all_or_none(buffer, place, lanes, guard, frame.mask, wide_fill)
            mask = self._mask(guard, frame)
            return self.access.many(buffer, place, lanes, mask, wide_fill)
        mask = self._mask(guard, frame)
        places = self.w.splat(self.value(node.args[0], frame), lanes)
        return self.access.gather(buffer, places, mask, self.w.splat(fill, lanes))

    def _mask(self, guard: Reg | None, frame: Frame) -> str | None:
        """Join a guard with the lanes that are in use."""
        if guard is None:
            return frame.mask
        wanted = self.w.splat(guard, frame.lanes)
        if frame.mask is None:
            return wanted.text
        return self.w.new(f"and {wide('i1', frame.lanes)} {frame.mask}, {wanted.text}")

    # -- addresses ---------------------------------------------------------------------------------

    def form(self, offset: Scalar) -> Linear:
        """Give the affine form of an offset."""
        if offset not in self.forms:
            self.forms[offset] = linear(offset)
        return self.forms[offset]

    def offset(self, form: Linear, frame: Frame) -> str:
        """Print an offset in i64, at the first lane of the open vector."""
        total = self.size(form.constant)
        for atom, factor in form.terms.items():
            if atom.op == "axis":
                place = frame.places[atom.attr]
            else:
                place = self.value(atom, frame).text
            total = self.w.whole("add", total, self.w.whole("mul", place, self.size(factor)))
        return total

    def size(self, size: Size) -> str:
        """Give a size: a literal, or an argument of the kernel."""
        if not isinstance(size, Dim):
            return str(int(size))
        found = self.sizes.get(size)
        if found is None:
            number = len(self.buffers) + len(self.sizes)
            found = self.sizes[size] = f"%size{len(self.sizes)}"
            self.head.append(f"  {found}_at = getelementptr i64, ptr %arguments, i64 {number}")
            self.head.append(f"  {found} = load i64, ptr {found}_at, !invariant.load !0")
        return found


def iota(lanes: int) -> str:
    """Give the whole numbers from 0 as a vector."""
    return "<" + ", ".join(f"i64 {i}" for i in range(lanes)) + ">"
