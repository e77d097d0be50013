"""Operations with a kernel by hand, in LLVM IR and CUDA C: values, threads, sizes, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from symgraph.errors import LoweringError
from symgraph.graph.node import Value, make
from symgraph.graph.op import Op, op
from symgraph.graph.rawkernel import Launch, RawKernel
from symgraph.graph.registry import OPS
from symgraph.graph.types import TensorType
from tests.lower.cuda_host import COMPILER

native = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is a compiler")

LLVM = """
define void @decayed(i64 %first, i64 %until, ptr %x, ptr %keep, ptr %y, i64 %length) {
start:
  %factor = load float, ptr %keep
  br label %rows
rows:
  %row = phi i64 [ %first, %start ], [ %row_next, %row_end ]
  %more = icmp slt i64 %row, %until
  br i1 %more, label %begin, label %done
begin:
  %base = mul i64 %row, %length
  br label %steps
steps:
  %t = phi i64 [ 0, %begin ], [ %t_next, %step ]
  %state = phi float [ 0.0, %begin ], [ %new, %step ]
  %goes = icmp slt i64 %t, %length
  br i1 %goes, label %step, label %row_end
step:
  %place = add i64 %base, %t
  %from = getelementptr float, ptr %x, i64 %place
  %number = load float, ptr %from
  %scaled = fmul float %factor, %state
  %new = fadd float %scaled, %number
  %to = getelementptr float, ptr %y, i64 %place
  store float %new, ptr %to
  %t_next = add i64 %t, 1
  br label %steps
row_end:
  %row_next = add i64 %row, 1
  br label %rows
done:
  ret void
}
"""
CUDA = """
extern "C" __global__ void decayed(long long tasks, const float* x, const float* keep, float* y, long long length) {
  long long row = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (row < tasks) {
    float state = 0;
    for (long long t = 0; t < length; ++t) {
      state = keep[0] * state + x[row * length + t];
      y[row * length + t] = state;
    }
  }
}
"""  # noqa: E501 - the host device reads the parameters from one line


class _Decayed(Op):
    """y[..., t] = keep y[..., t - 1] + x[..., t]."""

    host = True  # where there is no kernel
    texts: Any = {"llvm": LLVM, "cuda": CUDA}

    def infer(self, x: TensorType, keep: TensorType) -> TensorType:
        return x

    def flops(self, of: Any, *types: Any) -> Any:
        return 0

    def ref(self, xp: ModuleType, x: Any, keep: Any) -> Any:
        y = xp.zeros_like(x)
        for t in range(x.shape[-1]):
            y[..., t] = x[..., t] + (keep * y[..., t - 1] if t else 0)
        return y

    def raw_kernel(self, language: str, *types: Any) -> RawKernel | None:
        x = types[0]
        text = self.texts.get(language)
        if text is None or x.dtype != "float32":
            return None
        rows = sg.dims.product(x.shape[:-1])
        return RawKernel(text, "decayed", rows, (x.shape[-1],), grain=4)


def defined(name: str, **changes: Any) -> type[Op]:
    """Register a variant for one test."""
    return op(type(name, (_Decayed,), changes))


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    before = dict(OPS)
    yield
    OPS.clear()
    OPS.update(before)


def problem(kind: type[Op], dtype: str = "float32") -> tuple[list[Value], Value]:
    x, keep = (
        sg.tensor("x", (sg.dim("many", min=0), 5, sg.dim("long", min=0)), dtype),
        sg.tensor("k", (), dtype),
    )
    return [x, keep], make(kind(), sg.exp(x), keep * 0.5) + 1  # fmt: skip


def expected(x: np.ndarray, keep: float) -> np.ndarray:
    """The definition, in float64 and one number at a time."""
    given, y = np.exp(x.astype(np.float64)), np.zeros(x.shape)
    for where in np.ndindex(x.shape[:-1]):
        state = 0.0
        for t in range(x.shape[-1]):
            state = 0.5 * keep * state + given[(*where, t)]
            y[(*where, t)] = state + 1
    return y


def ways(f: Any, *arrays: Any) -> set[str]:
    return {row.implementation for row in f.profile(*arrays).rows}


@native
def test_on_the_cpu(rng: np.random.Generator) -> None:
    inputs, y = problem(defined("DecayedCpu"))
    f = sg.function(inputs, y, backend="cpu")
    keep = np.float32(0.75)
    for shape in ((3, 5, 7), (40, 5, 33), (1, 5, 1), (0, 5, 4), (2, 5, 0)):
        x = rng.standard_normal(shape).astype(np.float32)
        for threads in (1, 2):
            with sg.config(threads=threads):
                np.testing.assert_allclose(f(x, keep), expected(x, 0.75), rtol=1e-5)
    assert "LLVM by hand" in ways(f, x, keep)


@native
def test_views_are_copied_before_it(rng: np.random.Generator) -> None:
    kind = defined("DecayedView")
    x, keep = sg.tensor("x", (6, 4)), sg.tensor("k", ())
    f = sg.function([x, keep], make(kind(), x.T[::-1], keep), backend="cpu")
    a = rng.standard_normal((6, 4)).astype(np.float32)
    with np.errstate(all="ignore"):
        wanted = expected(np.log(np.abs(a.T[::-1])), 1.0) - 1
    np.testing.assert_allclose(f(np.abs(a), np.float32(0.5)), wanted, rtol=1e-5)


@native
def test_without_one_for_a_dtype_the_reference_computes(rng: np.random.Generator) -> None:
    inputs, y = problem(defined("DecayedWide"), "float64")
    f = sg.function(inputs, y, backend="cpu")
    x = rng.standard_normal((3, 5, 7))
    np.testing.assert_allclose(f(x, 0.75), expected(x, 0.75), rtol=1e-12)
    assert "NumPy" in ways(f, x, 0.75)
    assert "LLVM by hand" not in ways(f, x, 0.75)


@native
def test_in_a_loop(rng: np.random.Generator) -> None:
    kind = defined("DecayedLoop")
    x, keep = sg.tensor("x", (4, 5, 6)), sg.tensor("k", ())
    rows, _ = sg.scan(lambda row, state: make(kind(), row + state, keep), x, [sg.zeros((5, 6))])
    f, reference = (sg.function([x, keep], rows, backend=one) for one in ("cpu", "reference"))
    a = rng.standard_normal((4, 5, 6)).astype(np.float32)
    np.testing.assert_allclose(f(a, 0.5), reference(a, 0.5), rtol=1e-4, atol=1e-5)


# -- several launches ------------------------------------------------------------------------------

LOOP = """
define void @{name}(i64 %first, i64 %until, ptr %x, ptr %y, ptr %sums, ptr %other, i64 %length) {{
start:
  br label %head
head:
  %task = phi i64 [ %first, %start ], [ %next, %{end} ]
  %more = icmp slt i64 %task, %until
  br i1 %more, label %body, label %done
body:
{body}
  %next = add i64 %task, 1
  br label %head
done:
  ret void
}}
"""
SUM = """  %begin = mul i64 %task, %length
  %to = getelementptr float, ptr %sums, i64 %task
  br label %add
add:
  %k = phi i64 [ 0, %body ], [ %after, %added ]
  %sum = phi float [ 0.0, %body ], [ %new, %added ]
  %some = icmp slt i64 %k, %length
  br i1 %some, label %added, label %ended
added:
  %place = add i64 %begin, %k
  %from = getelementptr float, ptr %x, i64 %place
  %number = load float, ptr %from
  %new = fadd float %sum, %number
  %after = add i64 %k, 1
  br label %add
ended:
  store float %sum, ptr %to"""
REST = """  %row = udiv i64 %task, %length
  %at = getelementptr float, ptr %sums, i64 %row
  %sum = load float, ptr %at
  %from = getelementptr float, ptr %x, i64 %task
  %number = load float, ptr %from
  %new = fsub float %number, %sum
  %to = getelementptr float, ptr %y, i64 %task
  store float %new, ptr %to"""
TWO_LLVM = LOOP.format(name="summed", end="ended", body=SUM)
TWO_LLVM += LOOP.format(name="lowered", end="body", body=REST)
GIVEN = "long long tasks, const float* x, float* y, float* sums, float* other, long long length"
TWO_CUDA = f"""
extern "C" __global__ void summed({GIVEN}) {{
  long long row = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= tasks) return;
  float sum = 0;
  for (long long k = 0; k < length; ++k) sum += x[row * length + k];
  sums[row] = sum;
}}
extern "C" __global__ void lowered({GIVEN}) {{
  long long task = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (task < tasks) y[task] = x[task] - sums[task / length];
}}
"""


class _Lowered(Op):
    """y[..., k] = x[..., k] - the sum of x[..., :], in two launches; much memory is not used."""

    host = True

    def infer(self, x: TensorType) -> TensorType:
        return x

    def flops(self, of: Any, *types: Any) -> Any:
        return 0

    def ref(self, xp: ModuleType, x: Any) -> Any:
        return x - x.sum(-1, keepdims=True)

    def raw_kernel(self, language: str, *types: Any) -> RawKernel | None:
        x, _ = types
        rows, length = sg.dims.product(x.shape[:-1]), x.shape[-1]
        last = Launch("lowered", rows * length, (length,), grain=3)
        text = {"llvm": TWO_LLVM, "cuda": TWO_CUDA}[language]
        scratch = (4 * rows, 1 << 20)
        return RawKernel(text, "summed", rows, (length,), 2, (last,), scratch)


def lowered(name: str, backend: str) -> Any:
    x = sg.tensor("x", (sg.dim("many", min=0), 5, sg.dim("long", min=0)))
    kind = op(type(name, (_Lowered,), {}))
    return sg.function([x], make(kind(), make(kind(), x * 2)) + 1, backend=backend)


def twice_lowered(x: np.ndarray) -> np.ndarray:
    found = 2 * x.astype(np.float64)
    for _ in range(2):
        found = found - found.sum(-1, keepdims=True)
    return found + 1


@native
def test_several_on_the_cpu(rng: np.random.Generator) -> None:
    f = lowered("LoweredCpu", "cpu")
    for shape in ((3, 5, 7), (40, 5, 3), (0, 5, 4), (2, 5, 0)):
        x = rng.standard_normal(shape).astype(np.float32)
        for threads in (1, 2):
            with sg.config(threads=threads):
                np.testing.assert_allclose(f(x), twice_lowered(x), rtol=1e-4, atol=1e-4)
    assert "LLVM by hand" in ways(f, x)
    assert f.bind(many=3, long=7).peak >= 1 << 20


def test_several_on_a_device(there: Any, rng: np.random.Generator) -> None:
    f = lowered("LoweredCuda", "cuda")
    for shape in ((3, 5, 7), (40, 5, 3), (0, 5, 4), (2, 5, 0)):
        x = rng.standard_normal(shape).astype(np.float32)
        for _ in range(3):
            np.testing.assert_allclose(f(x), twice_lowered(x), rtol=1e-4, atol=1e-4)
    assert 1 << 20 <= f.bind(many=3, long=7).peak < 3 << 19  # both work in one place


@pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")
def test_they_are_recorded_with_what_is_around_them(host: Any, rng: np.random.Generator) -> None:
    f = lowered("LoweredOnce", "cuda")
    x = rng.standard_normal((3, 5, 7)).astype(np.float32)
    f(x)
    before, launches = host.replays, host.launches
    for count in range(1, 4):
        np.testing.assert_allclose(f(x), twice_lowered(x), rtol=1e-4, atol=1e-4)
        assert host.replays - before == count  # one launch of what was recorded
    assert host.launches - launches == 3 * (2 * 2 + 2)


def test_several_in_a_loop_on_a_device(there: Any, rng: np.random.Generator) -> None:
    kind = op(type("LoweredLoop", (_Lowered,), {}))
    x = sg.tensor("x", (4, 5, 6))
    rows, _ = sg.scan(lambda row, state: make(kind(), row + state), x, [sg.zeros((5, 6))])
    f, reference = (sg.function([x], rows, backend=one) for one in ("cuda", "reference"))
    a = rng.standard_normal((4, 5, 6)).astype(np.float32)
    np.testing.assert_allclose(f(a), reference(a), rtol=1e-4, atol=1e-3)


@native
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"texts": {"llvm": "define void @decayed() {"}}, "LLVM refuses its kernel `decayed`"),
        ({"texts": {"llvm": LLVM.replace("decayed", "other")}}, "LLVM refuses its kernel"),
        ({"raw_kernel": lambda self, *given: "text"}, "gives str, not a RawKernel or None"),
        ({"raw_kernel": lambda self, *given: RawKernel("", "a b", 1)}, "none of a function: 'a b'"),
        ({"raw_kernel": lambda self, *given: RawKernel("", "a", 1, grain=0)}, "a grain of 0"),
        ({"raw_kernel": lambda self, *given: RawKernel("", "a", 1, then=("b",))}, "str in `then`"),
        (
            {"raw_kernel": lambda self, *given: RawKernel("", "a", 1, then=(Launch("", 1),))},
            "none of a function: ''",
        ),
    ],
)
def test_what_is_none_is_refused(changes: dict[str, Any], message: str) -> None:
    inputs, y = problem(defined("DecayedWrong", **changes))
    with pytest.raises(LoweringError, match=message):
        sg.function(inputs, y, backend="cpu")(np.zeros((2, 5, 3), np.float32), np.float32(1))


def test_on_a_device(there: Any, rng: np.random.Generator) -> None:
    inputs, y = problem(defined("DecayedCuda"))
    f = sg.function(inputs, y, backend="cuda")
    keep = np.float32(0.75)
    for shape in ((3, 5, 7), (40, 5, 33), (0, 5, 4)):
        x = rng.standard_normal(shape).astype(np.float32)
        for _ in range(3):
            np.testing.assert_allclose(f(x, keep), expected(x, 0.75), rtol=1e-5)
    assert "CUDA C by hand" in ways(f, x, keep)
