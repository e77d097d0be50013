"""Refusing what cannot fit: the setting, the machine, and the text of the error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from symgraph.config import parse_bytes
from symgraph.cost import limit
from symgraph.cost.limit import machine_memory, memory_limit, peak_bytes, require_memory
from symgraph.errors import DimError, MemoryLimitError

B, C = sg.dims.dims("B C")

needs_compiler = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is one")


def graph() -> sg.Graph:
    x, w = sg.tensor("x", (B, C, 10)), sg.shared([[1.0] * 10] * 10, "w")
    return sg.Graph([x], [sg.exp(sg.matmul(x, w))])


def test_what_fits_is_not_refused() -> None:
    env = {B: 100, C: 3}
    needed = peak_bytes(graph(), env)
    assert needed == 3 * 100 * 3 * 10 * 4 + 400
    require_memory("step", graph(), env, needed)
    with pytest.raises(MemoryLimitError):
        require_memory("step", graph(), env, needed - 1)


def test_the_refusal_says_what_is_needed_and_what_would_fit() -> None:
    with pytest.raises(MemoryLimitError) as caught:
        require_memory("train step", graph(), {B: 128, C: 1000}, 8_000_000)
    assert isinstance(caught.value, MemoryError)
    assert str(caught.value).splitlines() == [
        "train step: it does not fit in memory.",
        "  needed : at least 15.4 MB = 120 bytes*B*C + 400 bytes",
        "  sizes  : B = 128, C = 1000",
        "  limit  : 8 MB",
        "  fix: the largest B that fits is 66 or the largest C that fits is 520",
    ]
    for name, number in (("B", 66), ("C", 520)):
        env = {B: 128, C: 1000, sg.dim(name): number}
        assert peak_bytes(graph(), env) <= 8_000_000
        env[sg.dim(name)] += 1
        assert peak_bytes(graph(), env) > 8_000_000


def test_where_no_size_helps_the_fix_is_another() -> None:
    with pytest.raises(MemoryLimitError, match="memory_limit=") as caught:
        require_memory("step", graph(), {B: 1, C: 1}, 300)
    assert "largest" not in str(caught.value)
    x = sg.tensor("x", (3,))
    with pytest.raises(MemoryLimitError) as caught:
        require_memory("step", sg.Graph([x], [sg.exp(x)]), {}, 23)
    assert "\n  needed : at least 24 bytes\n  limit  : 23 bytes\n" in str(caught.value)


def test_sizes_that_do_not_follow_count_nothing() -> None:
    x, y = sg.tensor("x", (B * C,)), sg.tensor("y", (C,))
    made = sg.Graph([x, y], [sg.exp(x), sg.exp(y)])
    with pytest.raises(DimError, match="size `B` is not given"):
        peak_bytes(made, {C: 100})
    require_memory("step", made, {C: 100}, 800)
    with pytest.raises(MemoryLimitError, match="at least 800 bytes\n"):
        require_memory("step", made, {C: 100}, 799)


def test_the_setting_wins_over_the_machine() -> None:
    assert memory_limit() == machine_memory() > 1 << 20
    with sg.config(memory_limit="8 GB"):
        assert memory_limit() == 8 * 10**9
    with sg.config(memory_limit=0):
        assert memory_limit() == 0


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("80 GB", 80 * 10**9), ("80gb", 80 * 10**9), ("1 GiB", 2**30), ("1.5 KiB", 1536),
        ("0.1 kB", 100), ("7", 7), (" 7 B ", 7), ("2 TB", 2 * 10**12), ("1 PiB", 2**50),
        ("0.0000001 kB", 0), (12, 12), (10**30, 10**30),
    ],
)  # fmt: skip
def test_bytes_are_read(text: int | str, number: int) -> None:
    assert parse_bytes(text) == number


@pytest.mark.parametrize(
    "wrong",
    ["", "GB", "-1", "1e9", "1 gigabyte", "1 G B", ".5 GB", "1.", "nan", -1, 1.5, True, None],
)
def test_other_texts_are_no_bytes(wrong: object) -> None:
    with pytest.raises(ValueError, match='text such as "8 GB"'):
        parse_bytes(wrong)


@pytest.mark.parametrize(
    ("groups", "files", "limits"),
    [
        ("0::/job/step\n", {"job/memory.max": "900", "job/step/memory.max": "max"}, [900]),
        ("0::/\n", {"memory.max": "123\n"}, [123]),
        (
            "5:cpu:/a\n4:memory:/box\n",
            {"memory/box/memory.limit_in_bytes": "77", "memory/memory.limit_in_bytes": "99"},
            [77, 99],
        ),
        ("", {}, []),
        ("nonsense\n", {"memory.max": "max"}, []),
    ],
)
def test_the_control_group_is_read(
    tmp_path: Path, groups: str, files: dict[str, str], limits: list[int]
) -> None:
    for name, text in {
        "proc/self/cgroup": groups,
        **{f"sys/fs/cgroup/{n}": t for n, t in files.items()},
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert sorted(limit._group_limits(tmp_path)) == limits


def test_without_a_word_of_the_system_there_is_no_limit(tmp_path: Path) -> None:
    assert limit._group_limits(tmp_path) == []


@pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_compiler)])
def test_an_output_that_repeats_elements_counts_whole(backend: str) -> None:
    x = sg.tensor("x", (B,))
    y = sg.broadcast_to(x, (1000, x.shape[0]))
    assert sg.cost([y, y * 2]).evaluate(B=1000).peak >= 8_000_000
    f = sg.function([x], y, backend=backend)
    with (
        sg.config(memory_limit="1 MB"),
        pytest.raises(MemoryLimitError, match="the largest B that fits is 249"),
    ):
        f(np.ones(1000, np.float32))
    assert f(np.ones(1000, np.float32)).nbytes == 4_000_000
    assert sg.cost([y.sum()]).evaluate(B=1000).peak < 10_000  # nothing is written out
