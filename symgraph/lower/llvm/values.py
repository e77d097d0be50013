"""Values of a kernel: besides scalars the registers of loads, positions, offsets and sizes."""

from __future__ import annotations

from symgraph.dims import Dim, Size
from symgraph.graph.index import Axis
from symgraph.graph.scalar import Scalar
from symgraph.lower.linear import Linear, linear
from symgraph.lower.llvm.access import Access
from symgraph.lower.llvm.scalars import Frame, Scalars
from symgraph.lower.llvm.types import Reg, literal, wide
from symgraph.lower.llvm.writer import Writer
from symgraph.lower.nest import Nest


class Values(Scalars):
    """Prints what is asked for in loops over memory."""

    def __init__(self, nest: Nest, name: str, masks: bool) -> None:
        super().__init__(Writer(name, "ptr %arguments, i64 %low, i64 %high"))
        self.nest = nest
        self.free = nest.free()
        self.buffers = tuple(dict.fromkeys([*nest.reads(), *nest.writes()]))
        self.sizes: dict[Size, str] = {}
        self.head: list[str] = []
        self.forms: dict[Scalar, Linear] = {}
        self.access = Access(self.w, self.buffers, masks)

    # -- values ------------------------------------------------------------------------------------

    def one(self, node: Scalar, frame: Frame) -> Reg:
        """Print one scalar whose arguments are there."""
        if node.op == "size":
            return Reg(self.size(node.attr), "int64")
        if node.op == "axis":
            return self.position(node.attr, frame)
        if node.op == "load":
            return self.load(node, frame)
        return super().one(node, frame)

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
