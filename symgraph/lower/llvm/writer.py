"""Writes the text of one function: fresh names, blocks, the entry's allocations, declarations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from symgraph.graph.dtypes import DType
from symgraph.lower.llvm.types import REGISTER, Reg, wide


class Writer:
    """One function under construction."""

    def __init__(self, name: str, parameters: str) -> None:
        self.name, self.parameters = name, parameters
        self.entry: list[str] = []
        self.lines: list[str] = []
        self.declared: dict[str, str] = {}
        self.block = "start"
        self._serial = 0

    # -- text --------------------------------------------------------------------------------------

    def fresh(self, hint: str = "v") -> str:
        """Give a new name."""
        self._serial += 1
        return f"{hint}{self._serial}"

    def line(self, text: str) -> None:
        """Write an instruction that gives nothing."""
        self.lines.append(f"  {text}")

    def new(self, text: str, hint: str = "v") -> str:
        """Write an instruction and give the name of its result."""
        name = f"%{self.fresh(hint)}"
        self.lines.append(f"  {name} = {text}")
        return name

    def label(self, name: str) -> None:
        """Start a block."""
        self.lines.append(f"{name}:")
        self.block = name

    def jump(self, name: str) -> None:
        """End the block."""
        self.line(f"br label %{name}")

    def branch(self, condition: str, yes: str, no: str) -> None:
        """End the block with a choice."""
        self.line(f"br i1 {condition}, label %{yes}, label %{no}")

    def allocate(self, type: str, hint: str = "slot") -> str:
        """Give a slot on the stack, made in the entry block, where it becomes a register."""
        name = f"%{self.fresh(hint)}"
        self.entry.append(f"  {name} = alloca {type}, align 64")
        return name

    def call(self, function: str, result: str, *args: str) -> str:
        """Call an intrinsic; arguments are written with their types."""
        types = ", ".join(_type_of(one) for one in args)
        self.declared[function] = f"declare {result} @{function}({types})"
        text = f"call {result} @{function}({', '.join(args)})"
        if result == "void":
            self.line(text)
            return ""
        return self.new(text)

    # -- registers ---------------------------------------------------------------------------------

    def reg(self, text: str, dtype: DType, lanes: int) -> Reg:
        """Write an instruction whose result is a register of a dtype."""
        return Reg(self.new(text), dtype, lanes)

    def splat(self, value: Reg, lanes: int) -> Reg:
        """Give a value in all lanes."""
        if value.lanes == lanes or lanes == 1:
            return value
        type = REGISTER[value.dtype]
        if not value.text.startswith("%"):
            return Reg(f"splat ({type} {value.text})", value.dtype, lanes)
        one = self.new(f"insertelement {wide(type, lanes)} poison, {value}, i64 0")
        zero = f"<{lanes} x i32> zeroinitializer"
        text = f"shufflevector {wide(type, lanes)} {one}, {wide(type, lanes)} poison, {zero}"
        return self.reg(text, value.dtype, lanes)

    def lanes(self, value: Reg, start: int, count: int) -> Reg:
        """Give some neighbouring lanes of a value."""
        if count == value.lanes:
            return value
        if count == 1:
            return self.reg(f"extractelement {value}, i64 {start}", value.dtype, 1)
        picks = ", ".join(f"i32 {start + i}" for i in range(count))
        text = f"shufflevector {value}, {value.type} poison, <{count} x i32> <{picks}>"
        return self.reg(text, value.dtype, count)

    def picked(self, low: Reg, high: Reg, lanes: Sequence[int]) -> Reg:
        """Give a value of lanes of two, which are counted through both."""
        picks = ", ".join(f"i32 {lane}" for lane in lanes)
        text = f"shufflevector {low}, {high}, <{len(lanes)} x i32> <{picks}>"
        return self.reg(text, low.dtype, len(lanes))

    def joined(self, parts: Sequence[Reg]) -> Reg:
        """Give a value of the lanes of several, a power of two of them with equally many each."""
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2])
            parts = [self.picked(low, high, range(2 * low.lanes)) for low, high in pairs]
        return parts[0]

    # -- whole numbers of addresses ----------------------------------------------------------------

    def whole(self, operation: str, first: str, second: str) -> str:
        """Compute with two i64, folding what is known."""
        try:
            a, b = int(first), int(second)
        except ValueError:
            if operation == "mul" and "1" in (first, second):
                return second if first == "1" else first
            if operation in ("mul",) and "0" in (first, second):
                return "0"
            if operation == "add" and "0" in (first, second):
                return second if first == "0" else first
            return self.new(f"{operation} i64 {first}, {second}")
        return str(a * b if operation == "mul" else a + b if operation == "add" else a - b)

    @contextmanager
    def loop(self, start: str, stop: str, step: int = 1) -> Iterator[str]:
        """Count from `start` while `position + step <= stop`; gives the counter."""
        name = self.fresh("i")
        head, body, done = f"head_{name}", f"body_{name}", f"done_{name}"
        before = self.block
        self.jump(head)
        self.label(head)
        slot = len(self.lines)
        self.lines.append("")  # the phi, once the last block of the body is known
        last = self.whole("sub", stop, str(step - 1)) if step > 1 else stop
        go = self.new(f"icmp slt i64 %{name}, {last}")
        self.branch(go, body, done)
        self.label(body)
        yield f"%{name}"
        following = self.new(f"add nsw i64 %{name}, {step}")
        self.lines[slot] = (
            f"  %{name} = phi i64 [ {start}, %{before} ], [ {following}, %{self.block} ]"
        )
        self.jump(head)
        self.label(done)

    def when(self, condition: str, body: Callable[[], None]) -> None:
        """Run the body where the condition holds."""
        name = self.fresh("if")
        self.branch(condition, f"then_{name}", f"end_{name}")
        self.label(f"then_{name}")
        body()
        self.jump(f"end_{name}")
        self.label(f"end_{name}")

    def text(self) -> str:
        """Give the function."""
        return f"define void @{self.name}({self.parameters}) #0 {self.body()}\n"

    def body(self) -> str:
        """Give what stands in the braces of the function, and them."""
        lines = "\n".join([*self.entry, *self.lines])
        return f"{{\nstart:\n{lines}\n}}"


def _type_of(argument: str) -> str:
    return argument[: argument.index(">") + 1] if argument.startswith("<") else argument.split()[0]
