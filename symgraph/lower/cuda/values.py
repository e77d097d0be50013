"""Values of a kernel: its lines, the names of scalars, loads, offsets and sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from symgraph.dims import Dim, Size
from symgraph.errors import LoweringError
from symgraph.graph.index import Axis
from symgraph.graph.scalar import Scalar
from symgraph.lower.cuda.operations import written
from symgraph.lower.cuda.schedule import WIDE
from symgraph.lower.cuda.types import INDEX, MEMORY, REGISTER, Reg, literal
from symgraph.lower.linear import Linear, linear
from symgraph.lower.loops import is_rare, unprinted
from symgraph.lower.nest import Buffer, Nest, Store
from symgraph.lower.reach import LIMIT, Indices

COMPARED = ("eq", "ne", "lt", "le", "gt", "ge")


@dataclass
class Frame:
    """What is known at a place in the text; `vector` is the axis that threads walk together.

    With `rows`, several threads have each position of it, and the next loop is shared among them;
    `guard` is the condition under which a store is this thread's.
    """

    values: dict[Scalar, Reg] = field(default_factory=dict)
    parts: dict[Scalar, tuple[Reg, ...]] = field(default_factory=dict)
    places: dict[Axis, str] = field(default_factory=dict)
    vector: Axis | None = None
    rows: bool = False
    guard: str = ""

    def inner(self) -> Frame:
        """Give a copy for a nested block."""
        copied = dict(self.values), dict(self.parts), dict(self.places)
        return Frame(*copied, self.vector, self.rows, self.guard)


class Values:
    """Prints what is asked for, where it is asked for, once a frame."""

    def __init__(self, nest: Nest) -> None:
        self.nest = nest
        self.buffers = tuple(dict.fromkeys([*nest.reads(), *nest.writes()]))
        self.names = {each: f"b{number}" for number, each in enumerate(self.buffers)}
        self.sizes: dict[Size, str] = {}
        self.forms: dict[Scalar, Linear] = {}
        self.indices = Indices()
        self.indexed: dict[Scalar, None] = {}  # the indices that are computed
        self.offsets: dict[Scalar, Linear] = {}  # the addresses, by what they are the forms of
        self.lines: list[str] = []
        self.depth = 1
        self._serial = 0

    # -- text --------------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        """Write a line."""
        self.lines.append("  " * self.depth + text)

    def fresh(self, hint: str = "v") -> str:
        """Give a new name."""
        self._serial += 1
        return f"{hint}{self._serial}"

    def new(self, text: str, dtype: str) -> Reg:
        """Name an expression."""
        name = self.fresh()
        self.line(f"const {REGISTER[dtype]} {name} = {text};")
        return Reg(name, dtype)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Write a block in braces."""
        self.line(f"{head} {{")
        self.depth += 1
        yield
        self.depth -= 1
        self.line("}")

    # -- values ------------------------------------------------------------------------------------

    def value(self, wanted: Scalar, frame: Frame) -> Reg:
        """Give the register of a value, as its dtype, printing what is not there yet."""
        return _as_data(self.held(wanted, frame))

    def held(self, wanted: Scalar, frame: Frame) -> Reg:
        """Give the register of a value, an index as it is."""
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
            return Reg(self.size(node.attr), INDEX)
        if node.op == "axis":
            return Reg(frame.places[node.attr], INDEX)
        if node.op == "load":
            return self.load(node, frame)
        if node.op == "take":
            part: Reg = frame.parts[node.args[0]][node.attr]
            return part
        if node.op in ("reduce", "row", "operand"):
            raise LoweringError(f"cuda: `{node.op}` is used before its loop in {self.nest.name}.")
        if node in self.indices:
            self.indexed[node] = None
            return self.new(written(node.op, self._as_indices(node.args, frame), INDEX), INDEX)
        if node.op in COMPARED and all(one in self.indices for one in node.args):
            return self.new(written(node.op, self._as_indices(node.args, frame), "bool"), "bool")
        if is_rare(node):
            return self.rare(node, frame)
        args = [_as_data(frame.values[argument]) for argument in node.args]
        if node.op == "philox":
            words = self.fresh("words")
            self.line(f"const Words {words} = philox({', '.join(map(str, args))});")
            parts = tuple(Reg(f"{words}.word[{k}]", "uint32") for k in range(4))
            frame.parts[node] = parts
            return parts[0]
        return self.new(written(node.op, args, node.dtype), node.dtype)

    def rare(self, node: Scalar, frame: Frame) -> Reg:
        """Print a choice with a branch around what may not be wanted."""
        condition, first, second = node.args
        made = Reg(self.fresh("v"), node.dtype)
        usual, wanted = _as_data(frame.values[second]), _as_data(frame.values[condition])
        self.line(f"{REGISTER[node.dtype]} {made} = {usual};")
        with self.block(f"if ({wanted})"):
            self.line(f"{made} = {self.value(first, frame.inner())};")
        return made

    def _as_indices(self, args: Sequence[Scalar], frame: Frame) -> list[Reg]:
        """Give numbers as indices; conditions among them stay what they are."""
        found = []
        for one in args:
            reg = frame.values[one]
            if one.op == "const" and one.dtype == "int64":
                reg = literal(one.attr, INDEX)
            elif reg.dtype == "int64":  # an index that was kept
                self.indexed[one] = None
                reg = Reg(f"(Index){reg}", INDEX)
            found.append(reg)
        return found

    def load(self, node: Scalar, frame: Frame) -> Reg:
        """Print a load; where its guard is false memory is not touched."""
        source, guarded = node.attr.buffer, node.attr.guarded
        if not guarded:
            place = self.offset(node.args[0], frame)
            return self.new(_register(f"{self.names[source]}[{place}]", source), source.dtype)
        guard = self.value(node.args[-1], frame)
        place = self.offset(node.args[0], frame)
        loaded = _register(f"{self.names[source]}[{place}]", source)
        fill = literal(node.attr.fill, source.dtype)
        return self.new(f"{guard} ? {loaded} : {fill}", source.dtype)

    # -- neighbours --------------------------------------------------------------------------------

    def four(self, kind: str, pointer: str, guard: str = "", fill: str = "") -> list[str]:
        """Print one load of neighbours; where a guard is false memory is not touched."""
        held = self.fresh("four")
        text = f"*(const Four<{kind}>*)({pointer})"
        if guard:
            text = f"{guard} ? {text} : Four<{kind}>::all({fill})"
        self.line(f"const Four<{kind}> {held} = {text};")
        return [f"{held}.at[{step}]" for step in range(WIDE)]

    def write_four(self, kind: str, pointer: str, values: Sequence[str]) -> None:
        """Print one store of neighbours."""
        held = self.fresh("four")
        self.line(f"Four<{kind}> {held};")
        for step, value in enumerate(values):
            self.line(f"{held}.at[{step}] = {value};")
        self.line(f"*(Four<{kind}>*)({pointer}) = {held};")

    def load_together(self, node: Scalar, frames: Sequence[Frame]) -> None:
        """Print one load of neighbours, which frames have one each; the first tells where."""
        source = node.attr.buffer
        guard = str(self.value(node.args[-1], frames[0])) if node.attr.guarded else ""
        fill = in_memory(literal(node.attr.fill, source.dtype)) if guard else ""
        pointer = f"{self.names[source]} + ({self.offset(node.args[0], frames[0])})"
        found = self.four(MEMORY[source.dtype], pointer, guard, fill)
        for frame, text in zip(frames, found, strict=True):
            frame.values[node] = self.new(_register(text, source), source.dtype)

    def put_together(self, store: Store, frames: Sequence[Frame]) -> None:
        """Print one store of neighbours."""
        values = [in_memory(self.value(store.value, frame)) for frame in frames]
        pointer = self.names[store.buffer]
        pointer += f" + ({self.offset(store.index[0], frames[0])})"
        self.write_four(MEMORY[store.buffer.dtype], pointer, values)

    # -- addresses ---------------------------------------------------------------------------------

    def form(self, offset: Scalar) -> Linear:
        """Give the affine form of an offset."""
        if offset not in self.forms:
            self.forms[offset] = linear(offset)
        return self.forms[offset]

    def offset(self, offset: Scalar, frame: Frame) -> str:
        """Print an offset; with a number of 64 bits in it, it has as many."""
        form, terms = self.form(offset), []
        self.offsets[offset] = form
        for atom, factor in form.terms.items():
            if atom.op == "axis":
                place = frame.places[atom.attr]
            else:
                place = self.held(atom, frame).text
            one = not isinstance(factor, Dim) and factor == 1
            terms.append(place if one else f"{place} * {self.size(factor)}")
        if not terms or isinstance(form.constant, Dim) or form.constant != 0:
            terms.append(self.size(form.constant))
        return " + ".join(terms)

    def size(self, size: Size) -> str:
        """Give a size: a literal, or an argument of the kernel, which is an index there."""
        if not isinstance(size, Dim):
            return str(size) if abs(size) <= LIMIT else literal(size, "int64").text
        return self.sizes.setdefault(size, f"s{len(self.sizes)}")


def _as_data(value: Reg) -> Reg:
    """Give an index as the number of 64 bits that it stands for."""
    return Reg(f"(long long){value}", "int64") if value.dtype == INDEX else value


def _register(text: str, source: Buffer) -> str:
    """Give the register of what stands in memory."""
    if source.dtype in ("float16", "bfloat16"):
        return f"{source.dtype}_of({text})"
    return f"{text} != 0" if source.dtype == "bool" else text


def in_memory(value: Reg) -> str:
    """Give what stands in memory for a register."""
    if value.dtype in ("float16", "bfloat16"):
        return f"{value.dtype}_bits({value})"
    return f"{value} ? 1 : 0" if value.dtype == "bool" else value.text
