"""Bound calls: from Python, from native code, from threads; errors, lifetimes, memory."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

from symgraph.backends.cpu.onednn.attributes import Relu
from symgraph.backends.cpu.onednn.calls import Call, Primitive
from symgraph.backends.cpu.onednn.descriptors import Descriptor
from symgraph.backends.cpu.onednn.library import load
from symgraph.backends.cpu.onednn.primitives import convolution, matmul, reorder
from symgraph.errors import BackendError
from tests.backends.onednn_memory import bound, buffers_of, memory, need_onednn, normal
from tests.tolerances import assert_close

need_onednn()

ROWS, INNER, COLUMNS = 6, 5, 7


def product() -> Primitive:
    return matmul(
        Descriptor.dense((ROWS, INNER)),
        Descriptor.dense((INNER, COLUMNS)),
        None,
        Descriptor.dense((ROWS, COLUMNS)),
    )


def factors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return normal(rng, (ROWS, INNER), "float32"), normal(rng, (INNER, COLUMNS), "float32")


def result(buffer: np.ndarray) -> np.ndarray:
    return buffer.view(np.float32).reshape(ROWS, COLUMNS)


def native(call: Call) -> int:
    """Run the record as native code would: through the addresses in it, and nothing else."""
    execute, primitive, stream, count, arguments = (int(number) for number in call.record)
    prototype = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p
    )
    return int(prototype(execute)(primitive, stream, count, arguments))


def test_a_record_is_enough_for_native_code(rng: np.random.Generator) -> None:
    a, b = factors(rng)
    primitive = product()
    buffers = buffers_of(primitive, {"src": a, "weights": b})
    call = bound(primitive, buffers)
    assert call.record.dtype == np.int64
    assert call.record.shape == (5,)
    assert call.record[3] == len(primitive.arguments)
    assert not call.record.flags.writeable
    assert native(call) == 0
    assert_close(result(buffers["dst"]), a.astype(float) @ b, "contract")


def test_rebinding_moves_one_argument_in_the_same_record(rng: np.random.Generator) -> None:
    a, b = factors(rng)
    other = normal(rng, a.shape, "float32")
    primitive = product()
    buffers = buffers_of(primitive, {"src": a, "weights": b})
    call = bound(primitive, buffers)
    before = call.record.copy()
    elsewhere = memory(buffers["dst"].nbytes)
    call.rebind("src", other.ctypes.data)
    call.rebind("dst", elsewhere.ctypes.data)
    assert (call.record == before).all()
    assert native(call) == 0
    assert_close(result(elsewhere), other.astype(float) @ b, "contract")
    assert np.isnan(result(buffers["dst"])).all()


def test_native_code_can_rebind(rng: np.random.Generator) -> None:
    a, b = factors(rng)
    primitive = product()
    buffers = buffers_of(primitive, {"src": a, "weights": b})
    call = bound(primitive, buffers)
    elsewhere = memory(buffers["dst"].nbytes)
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    rebind = prototype(primitive.library.address("dnnl_memory_set_data_handle"))
    assert rebind(call.memory("dst"), elsewhere.ctypes.data) == 0
    call()
    assert_close(result(elsewhere), a.astype(float) @ b, "contract")


def test_a_call_keeps_what_it_needs(rng: np.random.Generator) -> None:
    a, b = factors(rng)
    primitive = product()
    buffers = buffers_of(primitive, {"src": a, "weights": b})
    call = bound(primitive, buffers)
    del primitive
    gc.collect()
    assert native(call) == 0
    assert_close(result(buffers["dst"]), a.astype(float) @ b, "contract")
    gone = weakref.ref(call.primitive)
    del call
    gc.collect()
    assert gone() is None


# -- errors ---------------------------------------------------------------------------------------


def test_buffers_that_do_not_fit_are_all_named() -> None:
    primitive = product()
    address = memory(4096).ctypes.data
    with pytest.raises(BackendError) as caught:
        primitive.bind(
            {
                "src": (Descriptor.dense((ROWS, INNER)), address),
                "weights": (Descriptor((INNER, COLUMNS), "float32", (1, INNER)), address),
                "bias": (Descriptor.dense((1, COLUMNS)), address),
            }
        )
    lines = str(caught.value).splitlines()
    assert lines[0] == "matmul: the buffers do not fit."
    assert "  bias : not an argument" in lines
    assert "  dst : missing" in lines
    assert "  weights : is float32[5, 7] ba, must be float32[5, 7] ab" in lines


def test_an_address_may_come_later(rng: np.random.Generator) -> None:
    a, b = factors(rng)
    primitive = product()
    buffers = buffers_of(primitive, {"src": a, "weights": b})
    addresses = {role: buffers[role].ctypes.data for role in primitive.arguments}
    call = primitive.bind(
        {
            role: (primitive.arguments[role], 0 if role in ("dst", "src") else addresses[role])
            for role in primitive.arguments
        }
    )
    with pytest.raises(BackendError, match="matmul: no address yet for dst, src"):
        call()
    call.rebind("src", addresses["src"])
    call.rebind("dst", addresses["dst"])
    call()
    assert_close(result(buffers["dst"]), a.astype(float) @ b, "contract")
    call.rebind("dst", 0)
    with pytest.raises(BackendError, match="no address yet for dst"):
        call()
    with pytest.raises(BackendError, match="bias is not an argument, only src, "):
        call.rebind("bias", 64)


def test_a_primitive_shows_itself() -> None:
    lines = repr(product()).splitlines()
    assert lines[0].startswith("matmul (")
    assert any(line.split() == ["src", ":", "float32[6,", "5]", "ab"] for line in lines)


def test_a_failing_status_names_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    primitive = product()
    buffers = buffers_of(primitive, {})
    call = bound(primitive, buffers)
    monkeypatch.setattr(call, "_compiled", load().nothing)
    with pytest.raises(BackendError) as caught:
        call()
    assert "matmul: oneDNN" in caught.value.message
    assert "invalid_arguments" in caught.value.message
    assert any("float32[6, 5] ab" in line for line in caught.value.details)


# -- memory, threads, processes -------------------------------------------------------------------


def resident() -> int:
    """Give the bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc of Linux")
def test_making_running_and_dropping_does_not_grow(rng: np.random.Generator) -> None:
    src, weights, dst = (1, 16, 6, 6), (16, 16, 3, 3), (1, 16, 4, 4)

    def once() -> None:
        primitive = convolution(
            Descriptor(src), Descriptor(weights), None, Descriptor(dst), post_ops=[Relu()]
        )
        buffers = {role: memory(each.size) for role, each in primitive.arguments.items()}
        bound(primitive, buffers)()
        assert primitive.dst is not None
        assert primitive.dst.key.dims == dst

    for _ in range(200):
        once()
    gc.collect()
    before = resident()
    for _ in range(1000):
        once()
    gc.collect()
    assert resident() - before < 2**20, "1000 primitives leave more than 1 KiB each behind"


def test_threads_share_a_primitive(rng: np.random.Generator) -> None:
    """Each thread has a call of its own, and all of them one primitive that none has compiled."""
    size = 48
    shared = matmul(*[Descriptor.dense((size, size))] * 2, None, Descriptor.dense((size, size)))
    pairs = [tuple(normal(rng, (size, size), "float32") for _ in "ab") for _ in range(4)]
    found: dict[int, np.ndarray] = {}
    start = threading.Barrier(len(pairs))

    def work(number: int) -> None:
        a, b = pairs[number]
        buffers = buffers_of(shared, {"src": a, "weights": b})
        start.wait()
        call = bound(shared, buffers)
        for _ in range(50):
            call()
            own = reorder(Descriptor.dense((3, size)), Descriptor((3, size), "float32", (1, 3)))
            own.compile()
        found[number] = buffers["dst"].view(np.float32).reshape(size, size)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(pairs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(pairs)
    for number, (a, b) in enumerate(pairs):
        assert_close(found[number], a.astype(float) @ b, "contract")


def shell(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )


ONE_CALL = """
import os, numpy as np
from symgraph.backends.cpu.onednn.descriptors import Descriptor
from symgraph.backends.cpu.onednn.primitives import reorder
from symgraph.errors import BackendError
d = Descriptor.dense((4096, 64))
x = np.ones((4096, 64), "float32")
y = np.zeros_like(x)
call = reorder(d, d).bind({"src": (d, x.ctypes.data), "dst": (d, y.ctypes.data)})
call()
"""


def test_an_interpreter_ends_in_peace() -> None:
    """Objects are alive at exit, in a module, in a cycle, in a thread that still runs."""
    done = shell(
        ONE_CALL
        + """
import sys, threading
cycle = [call, reorder(d, d)]
cycle.append(cycle)
sys.keep = call
def work():
    while True:
        call()
threading.Thread(target=work, daemon=True).start()
print("end")
"""
    )
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_is_told_and_does_not_hang() -> None:
    done = shell(
        ONE_CALL
        + """
child = os.fork()
if child == 0:
    for use in (call, lambda: Descriptor((2, 3)), lambda: reorder(d, d).bind({})):
        try:
            use()
        except BackendError as error:
            print(error.message[:60], flush=True)
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
    )
    told = "oneDNN: this process was forked after the library was loaded"
    assert done.stdout.splitlines() == [told] * 3 + ["0"], done.stderr
