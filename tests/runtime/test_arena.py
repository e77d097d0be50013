"""The arena: aligned, alive while a view is, given back at once, and never above the limit."""

from __future__ import annotations

import gc
import mmap
import os
import random
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from symgraph.config import config
from symgraph.errors import ArgumentError, MemoryLimitError
from symgraph.lower.memory import Interval, plan_memory
from symgraph.runtime.arena import HUGE, Arena

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def mapped(address: int) -> bool:
    """Whether this process has memory at an address."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, _, last = line.split(maxsplit=1)[0].partition("-")
        if int(first, 16) <= address < int(last, 16):
            return True
    return False


def mapped_bytes() -> int:
    """Give the bytes of address space of this process."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE


def test_an_arena_starts_with_nothing() -> None:
    arena = Arena()
    assert (arena.size, arena.address) == (0, 0)
    assert not arena.reserve(0)
    assert arena.view(0, (0, 3), "float32").shape == (0, 3)
    with pytest.raises(ArgumentError, match="does not lie within its 0 bytes"):
        arena.view(0, (1,), "int8")


@pytest.mark.parametrize("size", [1, 4096, 100_000, HUGE, HUGE + 1, 9 * HUGE - 5])
def test_an_arena_is_aligned_zero_and_large_enough(size: int) -> None:
    arena = Arena()
    assert arena.reserve(size)
    assert arena.address % HUGE == 0
    assert size <= arena.size < size + mmap.PAGESIZE
    assert arena.size % mmap.PAGESIZE == 0
    everything = arena.view(0, (arena.size,), np.uint8)
    assert everything.ctypes.data == arena.address
    assert not everything.any()
    everything[:] = 255  # the last byte is there as well


def test_it_grows_and_tells_whether_it_moved() -> None:
    arena = Arena()
    assert arena.reserve(1000)
    address = arena.address
    assert not arena.reserve(10)
    assert not arena.reserve(arena.size)
    assert arena.address == address
    assert arena.reserve(3 * HUGE)
    assert arena.size == 3 * HUGE
    assert not arena.reserve(1000)
    assert arena.size == 3 * HUGE


def test_views_are_windows_of_one_memory() -> None:
    arena = Arena()
    arena.reserve(10_000)
    whole = arena.view(0, (10_000,), np.uint8)
    matrix = arena.view(128, (3, 4), "float32")
    matrix[:] = np.arange(12).reshape(3, 4)
    assert matrix.ctypes.data == arena.address + 128
    assert matrix.flags.writeable
    assert matrix.flags.c_contiguous
    assert whole[128 : 128 + 48].view("float32").tolist() == list(range(12))
    turned = arena.view(128, (4, 3), "float32", (4, 16))
    np.testing.assert_array_equal(turned, matrix.T)
    backwards = arena.view(128 + 44, (12,), "float32", (-4,))
    assert backwards.tolist() == list(range(11, -1, -1))
    spread = arena.view(128, (5, 4), "float32", (0, 4))
    assert spread[4].tolist() == [0, 1, 2, 3]
    assert arena.view(arena.size, (0,), "float64").size == 0
    assert arena.view(64, (), "int64").shape == ()
    assert arena.view(64, (3,), ml_dtypes.bfloat16).dtype == ml_dtypes.bfloat16
    with pytest.raises(ArgumentError, match="Python objects"):
        arena.view(64, (3,), object)


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (-4, (1,), None),
        (4096 - 4, (2,), None),
        (4096, (1,), None),
        (5000, (0,), None),
        (0, (1025,), None),
        (0, (2, 2), (4096, 4)),
        (0, (2,), (-4,)),
        (0, (-1,), None),
        (0, (2,), (4, 4)),
        (0, (1 << 62, 1 << 62), None),
    ],
)
def test_a_view_that_is_not_within_is_refused(
    offset: int, shape: tuple[int, ...], strides: tuple[int, ...] | None
) -> None:
    arena = Arena()
    arena.reserve(4096)
    assert arena.size == 4096
    with pytest.raises(ArgumentError, match=f"at byte {offset} .*does not lie within its 4096"):
        arena.view(offset, shape, "float32", strides)


@linux
def test_the_memory_goes_back_with_the_arena() -> None:
    arena = Arena()
    arena.reserve(64 * HUGE)
    address = arena.address
    arena.view(0, (arena.size,), np.uint8)[:] = 1
    assert mapped(address)
    before = mapped_bytes()
    arena.close()
    assert mapped_bytes() <= before - 64 * HUGE
    assert (arena.size, arena.address) == (0, 0)
    arena.close()
    assert arena.reserve(10)


@linux
def test_growing_frees_before_it_takes() -> None:
    arena = Arena()
    arena.reserve(64 * HUGE)
    before = mapped_bytes()
    arena.reserve(65 * HUGE)
    assert mapped_bytes() <= before + 2 * HUGE


@linux
def test_a_view_keeps_its_memory_alive() -> None:
    arena = Arena()
    arena.reserve(32 * HUGE)
    address, old = arena.address, arena.view(0, (4,), "int32")
    old[:] = 7
    part = old[1:]
    arena.reserve(33 * HUGE)
    assert arena.address != address
    arena.view(0, (4,), "int32")[:] = 9
    assert old.tolist() == [7] * 4
    arena.close()
    del arena, old
    gc.collect()
    assert part.tolist() == [7] * 3
    before = mapped_bytes()
    del part
    assert mapped_bytes() <= before - 32 * HUGE


@linux
def test_the_pages_that_are_touched_are_those_of_the_plan() -> None:
    rng = random.Random(1)
    intervals = [Interval(rng.randint(1, 1 << 20), i, 40 - i) for i in range(20)]
    plan = plan_memory(intervals)
    arena = Arena()
    arena.reserve(2 * plan.total + 50 * HUGE)
    assert arena.resident_bytes() == 0
    for each, offset in zip(intervals, plan.offsets):
        arena.view(offset, (each.size,), np.uint8)[:] = 1
    touched = arena.resident_bytes()
    assert plan.total <= touched < plan.total + HUGE
    assert Arena().resident_bytes() == 0


@linux
def test_a_small_arena_takes_small_pages() -> None:
    arena = Arena()
    arena.reserve(10 * mmap.PAGESIZE)
    arena.view(0, (1,), np.uint8)[:] = 1
    assert arena.resident_bytes() == mmap.PAGESIZE


@linux
def test_a_large_arena_asks_for_huge_pages() -> None:
    if "[never]" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text():
        pytest.skip("this kernel gives no huge pages")
    arena = Arena()
    arena.reserve(8 * HUGE)
    start = f"{arena.address:x}-"
    text = Path("/proc/self/smaps").read_text()
    assert start in text  # asking makes a region of its own
    flags = text[text.index(start) :].split("VmFlags:")[1].splitlines()[0].split()
    assert "hg" in flags


@linux
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork beside threads: it only exits
def test_a_child_has_its_own_copy() -> None:
    arena = Arena()
    arena.reserve(4096)
    number = arena.view(0, (1,), "int32")
    number[:] = 1
    child = os.fork()
    if not child:
        number[:] = 2
        os._exit(0)
    os.waitpid(child, 0)
    assert number[0] == 1


def test_more_than_the_limit_is_refused_before_anything_is_mapped() -> None:
    arena = Arena()
    arena.reserve(4096)
    kept = arena.view(0, (4,), "int8")
    kept[:] = 3
    with config(memory_limit="1 MB"), pytest.raises(MemoryLimitError) as caught:
        arena.reserve(1_000_001)
    assert str(caught.value) == (
        "arena: it does not fit in memory.\n"
        "  needed : 1 MB\n"
        "  limit  : 1 MB\n"
        "  fix: raise the limit, sg.config.set(memory_limit=...), or compute less"
    )
    assert arena.size == 4096
    assert arena.view(0, (4,), "int8").tolist() == [3] * 4
    with config(memory_limit="1 MB"):
        assert arena.reserve(1_000_000)


@pytest.mark.parametrize("size", [1 << 60, 1 << 62, 1 << 63, 1 << 70])
def test_what_the_system_refuses_is_the_same_error(size: int) -> None:
    arena = Arena()
    arena.reserve(4096)
    with config(memory_limit=size), pytest.raises(MemoryLimitError, match="gives no memory"):
        arena.reserve(size)
    assert (arena.size, arena.address) == (0, 0)
    assert arena.reserve(4096)


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ArgumentError, match="cannot reserve -1 bytes"):
        Arena().reserve(-1)


def test_a_system_that_does_not_tell_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    arena = Arena()
    arena.reserve(os.sysconf("SC_PAGE_SIZE"))
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(OSError, match="does not tell"):
        arena.resident_bytes()
