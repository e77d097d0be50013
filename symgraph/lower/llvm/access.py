"""Loads and stores: one element, neighbours, gathered and scattered ones; masked where needed."""

from __future__ import annotations

from collections.abc import Sequence

from symgraph.graph.dtypes import DType, itemsize
from symgraph.lower.llvm.operations import bfloat_memory
from symgraph.lower.llvm.types import MEMORY, Reg, literal, suffix, wide
from symgraph.lower.llvm.writer import Writer
from symgraph.lower.nest import Buffer

NOWHERE = "@nowhere"  # zeros that a load whose guard is false reads instead


class Access:
    """Prints memory accesses; buffers are the first words of the kernel's arguments.

    `masks` tells whether the processor has registers for masks.
    """

    def __init__(self, w: Writer, buffers: Sequence[Buffer], masks: bool) -> None:
        self.w, self.masks = w, masks
        self.zero = ""
        self.pointers = {each: f"%buffer{number}" for number, each in enumerate(buffers)}

    def loads(self) -> list[str]:
        """Give the lines that fetch the addresses of the buffers."""
        lines = []
        for number, name in enumerate(self.pointers.values()):
            lines.append(f"  {name}_at = getelementptr ptr, ptr %arguments, i64 {number}")
            lines.append(f"  {name} = load ptr, ptr {name}_at, !invariant.load !0")
        return lines

    def address(self, buffer: Buffer, offset: str) -> str:
        """Give the address of an element."""
        if offset == "0":
            return self.pointers[buffer]
        return self.w.new(
            f"getelementptr {MEMORY[buffer.dtype]}, ptr {self.pointers[buffer]}, i64 {offset}"
        )

    def one(self, buffer: Buffer, offset: str, guard: Reg | None, fill: Reg) -> Reg:
        """Load one element; where the guard is false memory is not touched."""
        pointer = self.address(buffer, offset)
        type = MEMORY[buffer.dtype]
        if guard is None:
            return self.grown(self.w.new(f"load {type}, ptr {pointer}"), buffer.dtype, 1)
        safe = self.w.new(f"select {guard}, ptr {pointer}, ptr {NOWHERE}")
        found = self.grown(self.w.new(f"load {type}, ptr {safe}"), buffer.dtype, 1)
        return self.w.reg(f"select {guard}, {found}, {fill}", buffer.dtype, 1)

    def many(self, buffer: Buffer, offset: str, lanes: int, mask: str | None, fill: Reg) -> Reg:
        """Load neighbours."""
        found = self._neighbours(buffer, self.address(buffer, offset), lanes, mask)
        return found if mask is None else self.filled(found, mask, fill)

    def _neighbours(self, buffer: Buffer, pointer: str, lanes: int, mask: str | None) -> Reg:
        type = wide(MEMORY[buffer.dtype], lanes)
        size = itemsize(buffer.dtype)
        if mask is None:
            name = self.w.new(f"load {type}, ptr {pointer}, align {size}")
            return self.grown(name, buffer.dtype, lanes)
        name = self.w.call(
            f"llvm.masked.load.{suffix(MEMORY[buffer.dtype], lanes)}.p0", type,
            f"ptr {pointer}", f"i32 {size}", f"{wide('i1', lanes)} {self._hidden(mask, lanes)}",
            f"{type} zeroinitializer",
        )  # fmt: skip
        return self.grown(name, buffer.dtype, lanes)

    def _hidden(self, mask: str, lanes: int) -> str:
        """Give a mask of which LLVM knows nothing, where the processor has no registers for them.

        LLVM 22 cuts a wide load under a mask in two for AVX2; where it knows that the mask leaves
        out one half, that half becomes a load without a mask: wrong, and outside of the buffer.
        """
        if self.masks:
            return mask
        if not self.zero:
            self.zero = "%zero"
            self.w.entry.append('  %zero_word = call i64 asm "", "=r,0"(i64 0)')
            self.w.entry.append("  %zero = trunc i64 %zero_word to i1")
        zero = self.w.splat(Reg(self.zero, "bool"), lanes)
        return self.w.new(f"xor {wide('i1', lanes)} {mask}, {zero.text}")

    def all_or_none(
        self, buffer: Buffer, offset: str, lanes: int, guard: Reg, mask: str | None, fill: Reg
    ) -> Reg:
        """Load neighbours where one guard holds for all of them, else zeros from elsewhere."""
        pointer = self.address(buffer, offset)
        safe = self.w.new(f"select {guard}, ptr {pointer}, ptr {NOWHERE}")
        found = self._neighbours(buffer, safe, lanes, mask)
        if fill.text == literal(0, fill.dtype, lanes).text:
            return found
        return self.w.reg(f"select {guard}, {found}, {fill}", found.dtype, lanes)

    def gather(self, buffer: Buffer, places: Reg, mask: str | None, fill: Reg) -> Reg:
        """Load elements from anywhere."""
        lanes, type = places.lanes, MEMORY[buffer.dtype]
        pointers = self.w.new(
            f"getelementptr {type}, ptr {self.pointers[buffer]}, {places.type} {places.text}"
        )
        active = mask or literal(True, "bool", lanes).text
        if mask is not None and itemsize(buffer.dtype) < 4:  # no such instruction: loads, not jumps
            pointers = self.w.new(
                f"select {wide('i1', lanes)} {mask}, <{lanes} x ptr> {pointers}, "
                f"<{lanes} x ptr> splat (ptr {NOWHERE})"
            )
            active = literal(True, "bool", lanes).text
        name = self.w.call(
            f"llvm.masked.gather.{suffix(type, lanes)}.v{lanes}p0", wide(type, lanes),
            f"<{lanes} x ptr> {pointers}", f"i32 {itemsize(buffer.dtype)}",
            f"{wide('i1', lanes)} {active}", f"{wide(type, lanes)} zeroinitializer",
        )  # fmt: skip
        found = self.grown(name, buffer.dtype, lanes)
        return self.filled(found, mask, fill) if mask is not None else found

    def filled(self, found: Reg, mask: str, fill: Reg) -> Reg:
        """Put the fill into lanes that were not loaded (they are zero already)."""
        if fill.text == literal(0, fill.dtype, fill.lanes).text:
            return found
        text = f"select {wide('i1', found.lanes)} {mask}, {found}, {fill}"
        return self.w.reg(text, found.dtype, found.lanes)

    def store(
        self, buffer: Buffer, offset: str, value: Reg, mask: str | None, streamed: bool = False
    ) -> None:
        """Store neighbours, or one element; whole lines go past the caches if `streamed`."""
        pointer = self.address(buffer, offset)
        text, lanes = self.shrunk(value), value.lanes
        type = wide(MEMORY[buffer.dtype], lanes)
        size = itemsize(buffer.dtype)
        if mask is None and streamed:
            self.w.line(f"store {type} {text}, ptr {pointer}, align 64, !nontemporal !1")
            return
        if mask is None:
            self.w.line(f"store {type} {text}, ptr {pointer}, align {size}")
            return
        self.w.call(
            f"llvm.masked.store.{suffix(MEMORY[buffer.dtype], lanes)}.p0", "void",
            f"{type} {text}", f"ptr {pointer}", f"i32 {size}", f"{wide('i1', lanes)} {mask}",
        )  # fmt: skip

    def scatter(self, buffer: Buffer, places: Reg, value: Reg, mask: str | None) -> None:
        """Store elements anywhere."""
        lanes, type = places.lanes, MEMORY[buffer.dtype]
        pointers = self.w.new(
            f"getelementptr {type}, ptr {self.pointers[buffer]}, {places.type} {places.text}"
        )
        active = mask or literal(True, "bool", lanes).text
        self.w.call(
            f"llvm.masked.scatter.{suffix(type, lanes)}.v{lanes}p0", "void",
            f"{wide(type, lanes)} {self.shrunk(value)}", f"<{lanes} x ptr> {pointers}",
            f"i32 {itemsize(buffer.dtype)}", f"{wide('i1', lanes)} {active}",
        )  # fmt: skip

    # -- between memory and registers --------------------------------------------------------------

    def grown(self, name: str, dtype: DType, lanes: int) -> Reg:
        """Give the register of what stood in memory."""
        memory = wide(MEMORY[dtype], lanes)
        if dtype == "bool":
            return self.w.reg(f"icmp ne {memory} {name}, {literal(0, 'int8', lanes).text}",
                              dtype, lanes)  # fmt: skip
        if dtype == "float16":
            return self.w.reg(f"fpext {memory} {name} to {wide('float', lanes)}", dtype, lanes)
        if dtype == "bfloat16":
            long = wide("i32", lanes)
            grown = self.w.new(f"zext {memory} {name} to {long}")
            up = self.w.new(f"shl {long} {grown}, {literal(16, 'int32', lanes).text}")
            return self.w.reg(f"bitcast {long} {up} to {wide('float', lanes)}", dtype, lanes)
        return Reg(name, dtype, lanes)

    def shrunk(self, value: Reg) -> str:
        """Give what stands in memory for a register; half precisions are rounded already."""
        if value.dtype == "bool":
            return self.w.new(f"zext {value} to {wide('i8', value.lanes)}")
        if value.dtype == "float16":
            return self.w.new(f"fptrunc {value} to {wide('half', value.lanes)}")
        if value.dtype == "bfloat16":
            return bfloat_memory(self.w, value)
        return value.text
