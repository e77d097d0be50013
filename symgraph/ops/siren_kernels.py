"""Kernels by hand of `siren`: a few pixels go through all layers without leaving the core.

LLVM: a tile is 16 pixels, and a layer takes six rows of its matrix at a time: six registers of sums
with AVX-512, twelve of sixteen with AVX2. A sine is one of half turns, omega / pi times
the sum: the nearest whole number goes, which is exact, and a polynomial does the rest. CUDA: a
thread is a pixel, its values are in registers, and all threads of an image read the same weights.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

Layers = Sequence[tuple[int, int]]  # (outputs, inputs), the last one without a sine

LANES, VECTORS = 16, 1
TILE = LANES * VECTORS
ROWS = 6
VECTOR = f"<{LANES} x float>"
INTEGERS = f"<{LANES} x i32>"
# sin(pi f) = f polynomial(f f) for |f| <= 1/2, off by 1.2e-7 at most
SINE = (
    3.141592653589793,
    -5.167709699853124,
    2.550062141790187,
    -0.5981844844252406,
    0.07743676859667815,
)


def literal(value: float) -> str:
    """Write a float32 as LLVM wants it: the bits of the same number as a double."""
    single = struct.unpack("<f", struct.pack("<f", value))[0]
    return f"0x{struct.unpack('<Q', struct.pack('<d', single))[0]:016X}"


def _all(value: float) -> str:
    return "<" + ", ".join([f"float {literal(value)}"] * LANES) + ">"


def _sine() -> str:
    """Write sin(pi x) of a vector."""
    steps = [
        f"%n = call {VECTOR} @llvm.rint.v{LANES}f32({VECTOR} %x)",
        f"%r = fsub {VECTOR} %x, %n",
        f"%q = fmul {VECTOR} %r, %r",
    ]
    found = _all(SINE[-1])
    for number, factor in enumerate(reversed(SINE[:-1])):
        steps.append(
            f"%p{number} = call {VECTOR} @llvm.fma.v{LANES}f32({VECTOR} %q, {VECTOR} {found}, "
            f"{VECTOR} {_all(factor)})"
        )
        found = f"%p{number}"
    ones = "<" + ", ".join(["i32 31"] * LANES) + ">"
    steps += [
        f"%s = fmul {VECTOR} %r, {found}",
        # a number beyond 32 bits has r = 0, of either sign; `fptosi.sat` goes lane by lane on AVX2
        f"%k = fptosi {VECTOR} %n to {INTEGERS}",
        f"%e = freeze {INTEGERS} %k",
        f"%f = shl {INTEGERS} %e, {ones}",
        f"%b = bitcast {VECTOR} %s to {INTEGERS}",
        f"%v = xor {INTEGERS} %b, %f",
        f"%y = bitcast {INTEGERS} %v to {VECTOR}",
        f"ret {VECTOR} %y",
    ]
    body = "\n  ".join(steps)
    return f"define internal {VECTOR} @sine({VECTOR} %x) alwaysinline {{\n  {body}\n}}\n"


def _at(lines: list[str], name: str, base: str, index: str) -> str:
    lines.append(f"%{name} = getelementptr float, ptr {base}, i64 {index}")
    return f"%{name}"


def _block(tag: str, rows: int, inputs: int, outputs: int, sine: bool, omega: float) -> list[str]:
    """Write the sums of some rows, from `%row{tag}` on, over all inputs."""
    sums = [(r, v) for r in range(rows) for v in range(VECTORS)]
    out = [f"%bias{tag} = add i64 %row{tag}, {outputs * inputs}"]
    for r in range(rows):
        place = _at(out, f"bp{tag}.{r}", "%w", f"%bias{tag}.{r}")
        out.insert(-1, f"%bias{tag}.{r} = add i64 %bias{tag}, {r}")
        out.append(f"%b{tag}.{r} = load float, ptr {place}")
        out += _splat(f"b{tag}.{r}")
        out.append(f"%base{tag}.{r}.0 = add i64 %row{tag}, {r}")
        out.append(f"%base{tag}.{r} = mul i64 %base{tag}.{r}.0, {inputs}")
    out += [f"br label %sum{tag}", f"sum{tag}:"]
    out.append(f"%i{tag} = phi i64 [ 0, %begin{tag} ], [ %i{tag}.next, %sum{tag} ]")
    for r, v in sums:
        out.append(
            f"%a{tag}.{r}.{v} = phi {VECTOR} [ %b{tag}.{r}.all, %begin{tag} ], "
            f"[ %a{tag}.{r}.{v}.next, %sum{tag} ]"
        )
    out.append(f"%from{tag} = mul i64 %i{tag}, {TILE}")
    for v in range(VECTORS):
        out.append(f"%at{tag}.{v} = add i64 %from{tag}, {v * LANES}")
        place = _at(out, f"xp{tag}.{v}", "%x", f"%at{tag}.{v}")
        out.append(f"%x{tag}.{v} = load {VECTOR}, ptr {place}, align 64")
    for r in range(rows):
        out.append(f"%wi{tag}.{r} = add i64 %base{tag}.{r}, %i{tag}")
        place = _at(out, f"wp{tag}.{r}", "%w", f"%wi{tag}.{r}")
        out.append(f"%w{tag}.{r} = load float, ptr {place}")
        out += _splat(f"w{tag}.{r}")
        for v in range(VECTORS):
            out.append(
                f"%a{tag}.{r}.{v}.next = call {VECTOR} @llvm.fma.v{LANES}f32("
                f"{VECTOR} %w{tag}.{r}.all, {VECTOR} %x{tag}.{v}, {VECTOR} %a{tag}.{r}.{v})"
            )
    out.append(f"%i{tag}.next = add i64 %i{tag}, 1")
    out.append(f"%more{tag} = icmp ult i64 %i{tag}.next, {inputs}")
    out += [f"br i1 %more{tag}, label %sum{tag}, label %end{tag}", f"end{tag}:"]
    for r, v in sums:
        found = f"%a{tag}.{r}.{v}.next"
        if sine:
            out.append(f"%z{tag}.{r}.{v} = fmul {VECTOR} {found}, {_all(omega / math.pi)}")
            out.append(f"%s{tag}.{r}.{v} = call {VECTOR} @sine({VECTOR} %z{tag}.{r}.{v})")
            found = f"%s{tag}.{r}.{v}"
        out.append(f"%o{tag}.{r}.{v}.0 = add i64 %row{tag}, {r}")
        out.append(f"%o{tag}.{r}.{v}.1 = mul i64 %o{tag}.{r}.{v}.0, %stride")
        out.append(f"%o{tag}.{r}.{v} = add i64 %o{tag}.{r}.{v}.1, {v * LANES}")
        place = _at(out, f"yp{tag}.{r}.{v}", "%y", f"%o{tag}.{r}.{v}")
        out.append(f"store {VECTOR} {found}, ptr {place}, align 4")
    return out


def _splat(name: str) -> list[str]:
    return [
        f"%{name}.one = insertelement {VECTOR} poison, float %{name}, i64 0",
        f"%{name}.all = shufflevector {VECTOR} %{name}.one, {VECTOR} poison, "
        f"{INTEGERS} zeroinitializer",
    ]


def _layer(name: str, outputs: int, inputs: int, sine: bool, omega: float) -> str:
    """Write a layer: numbers %w, values %x (inputs, 16) and %y, with rows `%stride` apart."""
    blocks = -(-outputs // ROWS)
    rows, more = divmod(outputs, blocks)  # as even as can be: a block of one row would wait
    parts = [(tag, r, n) for tag, r, n in (("A", rows + 1, more), ("B", rows, blocks - more)) if n]
    lines = [f"define internal void @{name}(ptr %w, ptr %x, ptr %y, i64 %stride) noinline {{"]
    lines += ["start:", f"br label %begin{parts[0][0]}"]
    before, first = "start", 0
    for number, (tag, high, count) in enumerate(parts):
        last = first + high * count
        lines.append(f"begin{tag}:")
        lines.append(f"%row{tag} = phi i64 [ {first}, %{before} ], [ %row{tag}.next, %end{tag} ]")
        lines += _block(tag, high, inputs, outputs, sine, omega)
        lines.append(f"%row{tag}.next = add i64 %row{tag}, {high}")
        lines.append(f"%goes{tag} = icmp ult i64 %row{tag}.next, {last}")
        after = f"begin{parts[number + 1][0]}" if number + 1 < len(parts) else "done"
        lines.append(f"br i1 %goes{tag}, label %begin{tag}, label %{after}")
        before, first = f"end{tag}", last
    return "\n  ".join([*lines, "done:", "ret void"]) + "\n}\n"


def llvm(layers: Layers, omega: float) -> str:
    """Write the kernel in LLVM IR: a task is a tile of an image, the last one ends at its end."""
    width, hidden = layers[0][0], len(layers) - 2
    count = sum(outputs * (inputs + 1) for outputs, inputs in layers)
    first, middle = 3 * width, width * (width + 1)
    texts = [_sine(), _layer("first", width, 2, True, omega)]
    texts.append(_layer("hidden", width, width, True, omega))
    texts.append(_layer("last", layers[-1][0], width, False, omega))
    places = "\n".join(
        f"  %p{c}.{v}.0 = add i64 %begin, {v * LANES}\n"
        f"  %p{c}.{v}.1 = {'add i64 0,' if c == 0 else 'add i64 %pixels,'} %p{c}.{v}.0\n"
        f"  %p{c}.{v}.2 = getelementptr float, ptr %places, i64 %p{c}.{v}.1\n"
        f"  %p{c}.{v} = load {VECTOR}, ptr %p{c}.{v}.2, align 4\n"
        f"  %q{c}.{v} = getelementptr float, ptr %one, i64 {c * TILE + v * LANES}\n"
        f"  store {VECTOR} %p{c}.{v}, ptr %q{c}.{v}, align 64"
        for c in range(2)
        for v in range(VECTORS)
    )
    size = max(width, 2) * TILE
    main = f"""
define void @siren(
  i64 %low, i64 %high, ptr %numbers, ptr %places, ptr %out, i64 %pixels, i64 %tiles
) {{
start:
  %one = alloca [{size} x float], align 64
  %two = alloca [{size} x float], align 64
  %last = sub i64 %pixels, {TILE}
  br label %tasks
tasks:
  %task = phi i64 [ %low, %start ], [ %task.next, %finish ]
  %more = icmp slt i64 %task, %high
  br i1 %more, label %tile, label %done
tile:
  %image = udiv i64 %task, %tiles
  %number = urem i64 %task, %tiles
  %wanted = mul i64 %number, {TILE}
  %over = icmp ugt i64 %wanted, %last
  %begin = select i1 %over, i64 %last, i64 %wanted
{places}
  %row = mul i64 %image, {count}
  %w0 = getelementptr float, ptr %numbers, i64 %row
  call void @first(ptr %w0, ptr %one, ptr %two, i64 {TILE})
  %w1 = getelementptr float, ptr %w0, i64 {first}
  br label %layers
layers:
  %k = phi i64 [ 0, %tile ], [ %k.next, %layer ]
  %w = phi ptr [ %w1, %tile ], [ %w.next, %layer ]
  %x = phi ptr [ %two, %tile ], [ %y, %layer ]
  %y = phi ptr [ %one, %tile ], [ %x, %layer ]
  %deeper = icmp ult i64 %k, {hidden}
  br i1 %deeper, label %layer, label %finish
layer:
  call void @hidden(ptr %w, ptr %x, ptr %y, i64 {TILE})
  %k.next = add i64 %k, 1
  %w.next = getelementptr float, ptr %w, i64 {middle}
  br label %layers
finish:
  %rows = mul i64 %image, {layers[-1][0]}
  %place = mul i64 %rows, %pixels
  %to = add i64 %place, %begin
  %result = getelementptr float, ptr %out, i64 %to
  call void @last(ptr %w, ptr %x, ptr %result, i64 %pixels)
  %task.next = add i64 %task, 1
  br label %tasks
done:
  ret void
}}
declare {VECTOR} @llvm.rint.v{LANES}f32({VECTOR})
declare {VECTOR} @llvm.fma.v{LANES}f32({VECTOR}, {VECTOR}, {VECTOR})
"""
    return "\n".join(texts) + main


def cuda(layers: Layers, omega: float) -> str:
    """Write the kernel in CUDA C: a thread is a pixel of an image."""
    width, hidden = layers[0][0], len(layers) - 2
    count = sum(outputs * (inputs + 1) for outputs, inputs in layers)
    return f"""
extern "C" __global__ void siren(long long tasks, const float* numbers, const float* places, float* out, long long pixels) {{
  long long task = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (task >= tasks) return;
  long long image = task / pixels, pixel = task % pixels;
  const float* w = numbers + image * {count};
  const float down = places[pixel], across = places[pixels + pixel];
  float x[{width}], y[{width}];
  #pragma unroll
  for (int o = 0; o < {width}; ++o)
    x[o] = sinf({omega!r}f * (w[2 * o] * down + w[2 * o + 1] * across + w[{2 * width} + o]));
  w += {3 * width};
  for (int layer = 0; layer < {hidden}; ++layer) {{
    #pragma unroll
    for (int o = 0; o < {width}; ++o) {{
      float sum = w[{width * width} + o];
      #pragma unroll
      for (int i = 0; i < {width}; ++i) sum += w[o * {width} + i] * x[i];
      y[o] = sinf({omega!r}f * sum);
    }}
    #pragma unroll
    for (int o = 0; o < {width}; ++o) x[o] = y[o];
    w += {width * (width + 1)};
  }}
  #pragma unroll
  for (int o = 0; o < 3; ++o) {{
    float sum = w[{3 * width} + o];
    #pragma unroll
    for (int i = 0; i < {width}; ++i) sum += w[o * {width} + i] * x[i];
    out[(image * 3 + o) * pixels + pixel] = sum;
  }}
}}
"""  # noqa: E501 - compilers read the parameters from one line
