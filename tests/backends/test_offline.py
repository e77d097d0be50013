"""Kernels compiled for devices that are not there: training steps, on three architectures."""

from __future__ import annotations

from functools import cache

import pytest

from symgraph.backends.cuda import offline
from symgraph.errors import BackendError
from symgraph.lower.cuda.module import LATCH
from symgraph.lower.plan import Plan
from tests.lower.cuda_steps import MODELS, B, step

REGISTERS = 65536  # of a multiprocessor: what all threads of a block may use
SELDOM = [(m, "bf16", a) for m in ("alexnet", "resnet50") for a in ("sm_80", "sm_100")]
SELDOM += [
    ("resnet50", p, a)
    for p, a in (("fp32", "sm_80"), ("fp32", "sm_90"), ("fp32", "sm_100"), ("bf16", "sm_90"))
]
SPILLED = 32  # bytes: some kernels keep a few conditions on the stack

# The large networks take half a minute each; AlexNet in float32 is enough of a daily run.
CASES = [
    pytest.param(
        model, precision, architecture,
        marks=pytest.mark.full if (model, precision, architecture) in SELDOM else (),
    )
    for model in MODELS
    for precision in ("fp32", "bf16")
    for architecture in ("sm_80", "sm_90", "sm_100")
]  # fmt: skip

needed = pytest.mark.skipif(offline.found()[0] is None, reason=offline.found()[1])


@cache
def planned(model: str, precision: str) -> tuple[Plan, str]:
    """Plan once for all architectures: the source is the same."""
    plan = offline.planned(step(model, precision), {B: 128}, narrow=precision == "bf16")
    return plan, offline.source_of(plan)


@needed
@pytest.mark.parametrize(("model", "precision", "architecture"), CASES)
def test_training_steps(model: str, precision: str, architecture: str) -> None:
    plan, source = planned(model, precision)
    made = offline.compiled(source, architecture)
    assert made.code.startswith(b"\x7fELF")
    names = {LATCH, *(f"kernel{n}" for n in range(len(plan.kernels)))}
    assert {one.name for one in made.kernels} == names
    for one in made.kernels:
        if one.name == LATCH:
            continue
        threads = plan.kernels[int(one.name.removeprefix("kernel"))].threads
        assert 0 < one.registers * threads <= REGISTERS, one
        assert max(one.spilled, one.stack) <= SPILLED, one


@needed
def test_wide_indices() -> None:
    """They are for sizes beyond 2**31, and take more registers."""
    plan = offline.planned(step("perceptron"), {B: 128})
    narrow, wide = (
        {one.name: one.registers for one in offline.compiled(source, "sm_90").kernels}
        for source in (offline.source_of(plan), offline.source_of(plan, wide=True))
    )
    assert set(wide) == {LATCH, *(f"kernel{n}_wide" for n in range(len(plan.kernels)))}
    assert sum(narrow.values()) < sum(wide.values())


@needed
def test_what_a_kernel_needs_is_read() -> None:
    source = """
    extern "C" __global__ void shared_one(float* x) {
      __shared__ float held[256];
      held[threadIdx.x] = x[threadIdx.x];
      __syncthreads();
      x[threadIdx.x] = held[255 - threadIdx.x];
    }
    extern "C" __global__ void stack_one(float* x, int n) {
      float held[64];
      for (int k = 0; k < 64; k++) held[(k * n) % 64] = x[k];
      x[0] = held[n % 64];
    }
    """
    first, second = sorted(offline.compiled(source, "sm_90").kernels, key=lambda one: one.name)
    assert (first.name, first.shared, first.stack) == ("shared_one", 1024, 0)
    assert (second.name, second.shared, second.stack) == ("stack_one", 0, 256)
    assert first.registers > 0


@needed
def test_wrong_sources_and_architectures_are_errors() -> None:
    with pytest.raises(BackendError, match=r"refused the kernels for sm_90(.|\n)*undefined_thing"):
        offline.compiled('extern "C" __global__ void f() { undefined_thing(); }', "sm_90")
    with pytest.raises(BackendError, match="NVRTC"):
        offline.compiled('extern "C" __global__ void f() {}', "sm_1")


def test_without_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "found", lambda: (None, "nvidia-cuda-nvrtc is not installed"))
    with pytest.raises(BackendError, match="is not installed") as caught:
        offline.compiled("", "sm_90")
    assert "pip install nvidia-cuda-nvrtc" in str(caught.value)
