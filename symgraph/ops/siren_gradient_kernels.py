"""The kernel by hand of `siren_gradient`: forwards and backwards, 64 pixels at a time.

Channels are the vectors here, padded with zeros to eights, so that all three products of a layer
have one form, and nothing is transposed: rows of C are sums over k of a number of A times row k of
B. C is the layer's values (A the values before, B the matrix across), their gradient (A that of the
next layer, B its matrix), or the gradient of the matrix (A that of the values, across, B the values
before). What 64 pixels need of all layers stays in the second cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from symgraph.ops.siren_kernels import SINE, Layers, literal

TILE = 64
EIGHT = 8  # channels are padded to such
REGISTERS, MOST = 16, 12  # of eight numbers; rows at a time at most
# cos(pi f) = polynomial(f f) for |f| <= 1/2, off by 4.7e-8 at most
COSINE = (
    0.999999953247608,
    -4.934792830619655,
    4.058411352862771,
    -1.3318765680817477,
    0.21968961109916693,
)
LARGEST = 1 << 19  # bytes that a tile may need, all layers together


def padded(channels: int) -> int:
    """Give how many numbers a row of so many channels takes."""
    return -(-channels // EIGHT) * EIGHT


def memory(layers: Layers) -> int:
    """Give the bytes that a kernel keeps of a tile, weights and gradients among them."""
    return sum(4 * (2 * TILE + 3 * inputs) * padded(outputs) for outputs, inputs in layers)


@dataclass
class _Loop:
    """A loop that is being written: its counter, and the values that go from round to round."""

    index: str
    carried: list[str]
    then: list[str] = field(default_factory=list)  # what they are in the next round


class _Text:
    """A function of LLVM IR, line by line; every value has a name of its own."""

    def __init__(self, name: str, parameters: Sequence[str]) -> None:
        self.head = f"define internal void @{name}({', '.join(parameters)}) noinline {{"
        self.lines = ["start:"]
        self.block = "start"
        self.count = 0

    def let(self, text: str) -> str:
        """Write an instruction, and give the name of its result."""
        self.count += 1
        self.lines.append(f"  %v{self.count} = {text}")
        return f"%v{self.count}"

    def do(self, text: str) -> None:
        """Write an instruction without a result."""
        self.lines.append(f"  {text}")

    def at(self, base: str, index: str) -> str:
        """Give the address of a float."""
        return self.let(f"getelementptr float, ptr {base}, i64 {index}")

    def sum_of(self, a: str, b: str | int) -> str:
        """Give a sum of indices."""
        return self.let(f"add i64 {a}, {b}")

    def times(self, a: str, b: str | int) -> str:
        """Give a product of indices."""
        return self.let(f"mul i64 {a}, {b}")

    def load(self, base: str, index: str, lanes: int = 1) -> str:
        """Load a number or several."""
        return self.let(f"load {_type(lanes)}, ptr {self.at(base, index)}, align 4")

    def store(self, value: str, base: str, index: str, lanes: int = 1) -> None:
        """Store a number or several."""
        self.do(f"store {_type(lanes)} {value}, ptr {self.at(base, index)}, align 4")

    def splat(self, value: str, lanes: int) -> str:
        """Give a vector of one number."""
        kind = _type(lanes)
        one = self.let(f"insertelement {kind} poison, float {value}, i64 0")
        return self.let(
            f"shufflevector {kind} {one}, {kind} poison, <{lanes} x i32> zeroinitializer"
        )

    def fma(self, a: str, b: str, c: str, lanes: int) -> str:
        """Give a b + c."""
        kind = _type(lanes)
        return self.let(f"call {kind} @llvm.fma.v{lanes}f32({kind} {a}, {kind} {b}, {kind} {c})")

    @contextmanager
    def loop(
        self,
        begin: str | int,
        end: str | int,
        step: int = 1,
        carried: Sequence[tuple[str, str]] = (),
    ) -> Iterator[_Loop]:
        """Write a loop that runs at least once; after it `carried` are the last ones."""
        self.count += 1
        own, before = self.count, self.block
        made = _Loop(f"%i{own}", [f"%c{own}.{k}" for k in range(len(carried))])
        place = len(self.lines) + 2
        self.lines += [f"  br label %body{own}", f"body{own}:"]
        self.block = f"body{own}"
        yield made
        latch = self.block
        phis = [f"  {made.index} = phi i64 [ {begin}, %{before} ], [ %n{own}, %{latch} ]"]
        phis += [
            f"  {name} = phi {kind} [ {first}, %{before} ], [ {then}, %{latch} ]"
            for name, (kind, first), then in zip(made.carried, carried, made.then, strict=True)
        ]
        self.lines[place:place] = phis
        self.do(f"%n{own} = add i64 {made.index}, {step}")
        self.do(f"%m{own} = icmp slt i64 %n{own}, {end}")
        self.do(f"br i1 %m{own}, label %body{own}, label %after{own}")
        self.lines.append(f"after{own}:")
        self.block = f"after{own}"
        made.carried = made.then

    def text(self) -> str:
        """Give the text."""
        return "\n".join([self.head, *self.lines, "  ret void", "}", ""])


def _type(lanes: int) -> str:
    return "float" if lanes == 1 else f"<{lanes} x float>"


def _all(value: float, lanes: int) -> str:
    return "<" + ", ".join([f"float {literal(value)}"] * lanes) + ">"


def _vectors(width: int) -> list[tuple[int, int]]:
    """Cut a padded row into vectors of sixteen, and one of eight: (begin, lanes)."""
    cuts = [(at, 2 * EIGHT) for at in range(0, width - EIGHT, 2 * EIGHT)]
    return cuts if width % (2 * EIGHT) == 0 else [*cuts, (width - EIGHT, EIGHT)]


def _product(
    name: str, rows: int, depth: int, width: int, down: int, along: int, begin: str
) -> str:
    """Write C[r, :] = begin + sum over k of A[r * down + k * along] B[k, :].

    Rows of B and C are `width` numbers, `begin` is "bias", "zero" or "sums": what C held.
    """
    text = _Text(name, ["ptr %c", "ptr %a", "ptr %b", "ptr %bias"])
    vectors = width // EIGHT  # sums, a row of B and a number of A have to fit the registers
    blocks = -(-rows // max(1, min(MOST, (REGISTERS - 1 - vectors) // vectors)))
    least, more = divmod(rows, blocks)  # as even as can be: a block of one row would wait
    first = 0
    for high, count in ((least + 1, more), (least, blocks - more)):
        if not count:
            continue
        with text.loop(first, first + high * count, high) as block:
            _sums(text, block.index, high, depth, width, (down, along), begin)
        first += high * count
    return text.text()


def _sums(
    text: _Text, row: str, high: int, depth: int, width: int, steps: tuple[int, int], begin: str
) -> None:
    """Write the sums of a few rows from `row` on."""
    down, along = steps
    vectors = _vectors(width)
    rows = [text.sum_of(row, r) for r in range(high)]
    places = [(text.sum_of(text.times(at, width), v), lanes) for at in rows for v, lanes in vectors]
    starts = [
        text.load("%bias", str(v), lanes) if begin == "bias" else "zeroinitializer"
        for _ in rows for v, lanes in vectors
    ]  # fmt: skip
    if begin == "sums":
        starts = [text.load("%c", place, lanes) for place, lanes in places]
    heads = [text.times(at, down) for at in rows]
    carried = [(_type(lanes), start) for (_, lanes), start in zip(places, starts)]
    with text.loop(0, depth, carried=carried) as inner:
        beside = text.times(inner.index, width)
        b = [text.load("%b", text.sum_of(beside, v), lanes) for v, lanes in vectors]
        over = text.times(inner.index, along)
        sums = iter(inner.carried)
        for head in heads:
            a = text.load("%a", text.sum_of(head, over))
            for each, (_, lanes) in zip(b, vectors):
                inner.then.append(text.fma(text.splat(a, lanes), each, next(sums), lanes))
    for value, (place, lanes) in zip(inner.carried, places, strict=True):
        text.store(value, "%c", place, lanes)


def _sines(width: int, omega: float) -> str:
    """Write z -> sin(omega z), in its place, and omega cos(omega z)."""
    lanes = 2 * EIGHT
    kind, whole = _type(lanes), f"<{lanes} x i32>"
    text = _Text("sines", ["ptr %z", "ptr %cosines"])
    with text.loop(0, TILE * width, lanes) as loop:
        z = text.load("%z", loop.index, lanes)
        turns = text.let(f"fmul {kind} {z}, {_all(omega / math.pi, lanes)}")
        near = text.let(f"call {kind} @llvm.rint.v{lanes}f32({kind} {turns})")
        rest = text.let(f"fsub {kind} {turns}, {near}")
        square = text.let(f"fmul {kind} {rest}, {rest}")
        found = []
        for factors in (SINE, COSINE):
            value = _all(factors[-1], lanes)
            for factor in reversed(factors[:-1]):
                value = text.fma(square, value, _all(factor, lanes), lanes)
            found.append(value)
        sine = text.let(f"fmul {kind} {rest}, {found[0]}")
        cosine = text.let(f"fmul {kind} {found[1]}, {_all(omega, lanes)}")
        # as in siren_kernels: what does not fit 32 bits is even there too
        half = text.let(f"fptosi {kind} {near} to {whole}")
        half = text.let(f"freeze {whole} {half}")
        sign = text.let(f"shl {whole} {half}, <{', '.join(['i32 31'] * lanes)}>")
        for value, base in ((sine, "%z"), (cosine, "%cosines")):
            bits = text.let(f"bitcast {kind} {value} to {whole}")
            bits = text.let(f"xor {whole} {bits}, {sign}")
            text.store(text.let(f"bitcast {whole} {bits} to {kind}"), base, loop.index, lanes)
    return text.text()


def _through(width: int) -> str:
    """Write g -> g cosines, in its place, and add its columns to the sums of a bias."""
    text = _Text("through", ["ptr %g", "ptr %cosines", "ptr %sums"])
    vectors = _vectors(width)
    starts = [(_type(lanes), text.load("%sums", str(at), lanes)) for at, lanes in vectors]
    with text.loop(0, TILE, carried=starts) as loop:
        row = text.times(loop.index, width)
        for (at, lanes), total in zip(vectors, loop.carried):
            place = text.sum_of(row, at)
            g, c = text.load("%g", place, lanes), text.load("%cosines", place, lanes)
            value = text.let(f"fmul {_type(lanes)} {g}, {c}")
            text.store(value, "%g", place, lanes)
            loop.then.append(text.let(f"fadd {_type(lanes)} {total}, {value}"))
    for value, (at, lanes) in zip(loop.carried, vectors):
        text.store(value, "%sums", str(at), lanes)
    return text.text()


def _matrices(name: str, outputs: int, inputs: int, width: int, before: int) -> str:
    """Write W (outputs, inputs) and its bias, row by row, into padded rows, as it is and across."""
    text = _Text(name, ["ptr %w", "ptr %across", "ptr %plain", "ptr %bias"])
    with text.loop(0, outputs) as o:
        with text.loop(0, inputs) as i:
            value = text.load("%w", text.sum_of(text.times(o.index, inputs), i.index))
            text.store(value, "%across", text.sum_of(text.times(i.index, width), o.index))
            text.store(value, "%plain", text.sum_of(text.times(o.index, before), i.index))
        value = text.load("%w", text.sum_of(o.index, outputs * inputs))
        text.store(value, "%bias", o.index)
    return text.text()


def _results(name: str, outputs: int, inputs: int, before: int) -> str:
    """Write the gradients of a matrix and its bias to where they are wanted."""
    text = _Text(name, ["ptr %out", "ptr %sums", "ptr %bias"])
    with text.loop(0, outputs) as o:
        with text.loop(0, inputs) as i:
            value = text.load("%sums", text.sum_of(text.times(o.index, before), i.index))
            text.store(value, "%out", text.sum_of(text.times(o.index, inputs), i.index))
        value = text.load("%bias", o.index)
        text.store(value, "%out", text.sum_of(o.index, outputs * inputs))
    return text.text()


def _given(colours: int) -> str:
    """Write the places of a tile (64, 8), its gradients (colours, 64), and add these up.

    Beyond the last pixel it is the last one once more, with gradients of zero.
    """
    text = _Text("given", ["ptr %x", "ptr %g", "ptr %sums", "ptr %places", "ptr %gradients",
                           "i64 %begin", "i64 %end", "i64 %pixels"])  # fmt: skip
    text.do("%last = sub i64 %end, 1")
    with text.loop(0, TILE) as loop:
        pixel = text.sum_of(loop.index, "%begin")
        inside = text.let(f"icmp slt i64 {pixel}, %end")
        pixel = text.let(f"select i1 {inside}, i64 {pixel}, i64 %last")
        row = text.times(loop.index, EIGHT)
        text.store(text.load("%places", pixel), "%x", row)
        across = text.load("%places", text.sum_of(pixel, "%pixels"))
        text.store(across, "%x", text.sum_of(row, 1))
        for colour in range(colours):
            place = text.sum_of(pixel, text.times("%pixels", colour))
            value = text.load("%gradients", place)
            value = text.let(f"select i1 {inside}, float {value}, float {literal(0.0)}")
            text.store(value, "%g", text.sum_of(loop.index, TILE * colour))
            total = text.let(f"fadd float {text.load('%sums', str(colour))}, {value}")
            text.store(total, "%sums", str(colour))
    return text.text()


@dataclass
class _Room:
    """Pieces of the kernel's own memory, one after another, in floats."""

    size: int = 0

    def piece(self, floats: int) -> int:
        """Give where a piece begins: on a line of the cache."""
        begin, self.size = self.size, self.size + -(-floats // 16) * 16
        return begin


def llvm(layers: Layers, omega: float) -> str:
    """Write the kernel in LLVM IR: a task is a part of an image's pixels."""
    (width, _), *hidden, (colours, _) = layers
    row = padded(width)
    texts = [
        _product("first_values", TILE, 2, row, EIGHT, 1, "bias"),
        _product("first_numbers", width, TILE, EIGHT, 1, row, "sums"),
        _product("last_through", TILE, colours, row, 1, TILE, "zero"),
        _product("last_numbers", colours, TILE, row, TILE, 1, "sums"),
        _matrices("first_matrices", width, 2, row, EIGHT),
        _matrices("last_matrices", colours, width, EIGHT, row),
        _results("first_results", width, 2, EIGHT),
        _results("last_results", colours, width, row),
        _sines(row, omega), _through(row), _given(colours),
    ]  # fmt: skip
    if hidden:
        texts += [
            _product("values", TILE, width, row, row, 1, "bias"),
            _product("through_matrix", TILE, width, row, row, 1, "zero"),
            _product("numbers", width, TILE, row, 1, row, "sums"),
            _matrices("matrices", width, width, row, row),
            _results("results", width, width, row),
        ]
    lanes = 2 * EIGHT
    texts += [
        f"declare {_type(n)} @llvm.fma.v{n}f32({_type(n)}, {_type(n)}, {_type(n)})"
        for n in (EIGHT, lanes)
    ]
    texts.append(f"declare {_type(lanes)} @llvm.rint.v{lanes}f32({_type(lanes)})")
    texts.append("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
    return "\n".join([*texts, _main(layers)])


def _main(layers: Layers) -> str:
    """Write the loop over tasks: matrices in, tiles forwards and backwards, gradients out."""
    (width, _), *_, (colours, _) = layers
    row, depth, room = padded(width), len(layers) - 1, _Room()
    kinds = ["first", *[""] * (depth - 1), "last"]
    befores = [EIGHT] + [row] * depth  # of a row of what goes into a layer
    across = [room.piece(inputs * padded(outputs)) for outputs, inputs in layers]
    plain = [room.piece(outputs * b) for (outputs, _), b in zip(layers, befores)]
    bias = [room.piece(padded(outputs)) for outputs, _ in layers]
    sums = [room.piece(outputs * b) for (outputs, _), b in zip(layers, befores)]
    totals = [room.piece(padded(outputs)) for outputs, _ in layers]
    cleared = room.size
    values = [room.piece(TILE * b) for b in befores]
    cosines = [room.piece(TILE * row) for _ in range(depth)]
    given, *spare = (room.piece(TILE * n) for n in (colours, row, row))
    count = sum(outputs * (inputs + 1) for outputs, inputs in layers)

    text = _Text("task", ["ptr %room", "ptr %w", "ptr %places", "ptr %gradients", "ptr %out",
                          "i64 %begin", "i64 %end", "i64 %pixels"])  # fmt: skip

    def call(name: str, *pieces: int | str) -> None:
        places = [text.at("%room", str(one)) if isinstance(one, int) else one for one in pieces]
        text.do(f"call void @{name}({', '.join('ptr ' + one for one in places)})")

    def named(kind: str, what: str) -> str:
        return f"{kind}_{what}" if kind else what

    # places of a tile have eight numbers for two, and the padding stays zero
    text.do(
        f"call void @llvm.memset.p0.i64(ptr %room, i8 0, i64 {4 * (cleared + TILE * EIGHT)}, i1 0)"
    )
    begin = 0
    for k, (outputs, inputs) in enumerate(layers):
        source = text.at("%w", str(begin))
        call(named(kinds[k], "matrices"), source, across[k], plain[k], bias[k])
        begin += outputs * (inputs + 1)
    with text.loop("%begin", "%end", TILE) as tile:
        pieces = ", ".join(
            f"ptr {text.at('%room', str(p))}" for p in (values[0], given, totals[-1])
        )
        text.do(
            f"call void @given({pieces}, ptr %places, ptr %gradients, i64 {tile.index}, "
            "i64 %end, i64 %pixels)"
        )
        for k in range(depth):
            call(named(kinds[k], "values"), values[k + 1], values[k], across[k], bias[k])
            call("sines", values[k + 1], cosines[k])
        call("last_numbers", sums[-1], given, values[-1], sums[-1])
        call("last_through", spare[0], given, plain[-1], spare[0])
        for k in reversed(range(depth)):
            call("through", spare[0], cosines[k], totals[k])
            call(named(kinds[k], "numbers"), sums[k], spare[0], values[k], sums[k])
            if k:
                call("through_matrix", spare[1], spare[0], plain[k], spare[0])
            spare.reverse()
    begin = 0
    for k, (outputs, inputs) in enumerate(layers):
        target = text.at("%out", str(begin))
        call(named(kinds[k], "results"), target, sums[k], totals[k])
        begin += outputs * (inputs + 1)
    return (
        text.text()
        + f"""
define void @siren_gradient(
  i64 %low, i64 %high, ptr %numbers, ptr %places, ptr %gradients, ptr %out,
  i64 %pixels, i64 %parts, i64 %size
) {{
start:
  %room = alloca [{room.size} x float], align 64
  br label %tasks
tasks:
  %task = phi i64 [ %low, %start ], [ %task.next, %next ]
  %more = icmp slt i64 %task, %high
  br i1 %more, label %work, label %done
work:
  %image = udiv i64 %task, %parts
  %part = urem i64 %task, %parts
  %first = mul i64 %image, {count}
  %w = getelementptr float, ptr %numbers, i64 %first
  %rows = mul i64 %image, {colours}
  %before = mul i64 %rows, %pixels
  %g = getelementptr float, ptr %gradients, i64 %before
  %to = mul i64 %task, {count}
  %result = getelementptr float, ptr %out, i64 %to
  %wanted = mul i64 %part, %size
  %over = icmp slt i64 %wanted, %pixels
  %begin = select i1 %over, i64 %wanted, i64 %pixels
  %until = add i64 %begin, %size
  %inside = icmp slt i64 %until, %pixels
  %end = select i1 %inside, i64 %until, i64 %pixels
  %some = icmp slt i64 %begin, %end
  br i1 %some, label %pixels.of, label %none
pixels.of:
  call void @task(
    ptr %room, ptr %w, ptr %places, ptr %g, ptr %result, i64 %begin, i64 %end, i64 %pixels)
  br label %next
none: ; sums of nothing, whatever the numbers are
  call void @llvm.memset.p0.i64(ptr %result, i8 0, i64 {4 * count}, i1 0)
  br label %next
next:
  %task.next = add i64 %task, 1
  br label %tasks
done:
  ret void
}}
"""
    )
