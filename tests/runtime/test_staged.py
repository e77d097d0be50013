"""Functions whose data decide sizes: stages, what goes from one to the next, and what can fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.backends.cpu.compiler import unavailable
from symgraph.errors import ArgumentError, GraphError, GuardError, IndexRangeError, ShapeError
from symgraph.runtime import native
from symgraph.runtime.staged import StagedExecutor
from tests.backends.host_device import HostDevice
from tests.lower.cuda_host import COMPILER

needs_compiler = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "there is one")
both = pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_compiler)])

B = sg.dim("B")
RNG = np.random.default_rng(3)


def stages_of(f: sg.Function) -> list[Any]:
    executor = f._executor
    assert isinstance(executor, StagedExecutor)
    return list(executor.stages)


def rows(count: int) -> Any:
    return RNG.normal(size=(count, 3)).astype(np.float32)


# -- values ----------------------------------------------------------------------------------------


@both
def test_everything_goes_on_with_a_size_that_the_data_decide(backend: str) -> None:
    """Elementwise, products, reductions, other selections of what was selected, and gradients."""
    x, w = sg.tensor("x", (B, 3)), sg.shared(np.arange(6, dtype=np.float32).reshape(3, 2), "w")
    chosen = x[x[:, 0] > 0]
    product = sg.tanh(chosen) @ w
    again = product[product[:, 1] > product[:, 0]]
    loss = (chosen * chosen * chosen).sum() + sg.exp(again).sum()
    outputs = [product, again, chosen.mean(axis=1), sg.grad(loss, x), loss, w]
    f = sg.function([x], outputs, backend=backend)
    for count in (5, 1, 33, 5):
        a = rows(count)
        a[0, 0] = 1.0
        found = f(a)
        kept = a[a[:, 0] > 0]
        made = np.tanh(kept) @ w.value
        mask = made[:, 1] > made[:, 0]
        slope = np.zeros_like(a)
        inner = np.where(mask[:, None], np.exp(made), 0) @ w.value.T * (1 - np.tanh(kept) ** 2)
        slope[a[:, 0] > 0] = 3 * kept**2 + inner
        total = (kept**3).sum() + np.exp(made[mask]).sum()
        wanted = [made, made[mask], kept.mean(axis=1), slope, total, w.value]
        for one, other in zip(found, wanted, strict=True):
            assert one.shape == other.shape
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@both
def test_results_are_fresh_and_inputs_are_not_written(backend: str) -> None:
    x = sg.tensor("x", (B,))
    mask = x > 0
    f = sg.function([x], [mask, mask, x[mask], x], backend=backend)
    a = np.array([1, -1, 2], np.float32)
    first = f(a)
    second = f(np.array([5, 6, 7], np.float32))
    assert first[2].tolist() == [1, 2]
    assert second[2].tolist() == [5, 6, 7]
    assert first[0].tolist() == first[1].tolist() == [True, False, True]
    first[3][:] = first[0][:] = 0
    assert a.tolist() == [1, -1, 2]
    assert first[1].tolist() == [True, False, True]


@both
def test_a_value_decides_how_many_steps_there_are(backend: str) -> None:
    n = sg.iscalar("n")
    powers, _ = sg.scan(lambda p: 2 * p, None, [np.int64(1)], n_steps=n)
    f = sg.function([n], [powers, powers[-1]], backend=backend)
    assert f(5)[0].tolist() == [2, 4, 8, 16, 32]
    assert f(1)[1] == 2
    with pytest.raises(GuardError, match=r"the data make size `n` -1, it must be 0 or more"):
        f(-1)
    with pytest.raises(GuardError, match=r"index into axis 0 .*must be inside.*n"):
        f(0)


@both
def test_until_has_a_gradient_through_the_rows_that_were_made(backend: str) -> None:
    x = sg.tensor("x", (B,), "float64")
    sums, _ = sg.scan(lambda a, s: (s + a * a, sg.until(s + a * a > 3.0)), x, [np.float64(0)])
    f = sg.function([x], [sums[-1], sg.grad(sums[-1], x)], backend=backend)
    found, slope = f([1.0, 1.5, 2.0, 2.0])
    assert found == 3.25
    assert slope.tolist() == [2.0, 3.0, 0.0, 0.0]


# -- stages ----------------------------------------------------------------------------------------


@needs_compiler
def test_equal_masks_are_one_size_and_a_stage_is_cut_for_each_level() -> None:
    x, y = sg.tensor("x", (B,)), sg.tensor("y", (B,))
    assert x[x > 0].shape[0] is y[x > 0].shape[0]
    assert sg.nonzero(x > 0)[0] is sg.flatnonzero(x > 0)
    chosen = x[x > 0] + y[x > 0]
    deeper = chosen[chosen > 1]
    f = sg.function([x, y], [deeper.sum(), y[y > 5].sum(), sg.exp(y).sum()], backend="cpu")
    first, second, last = stages_of(f)
    assert [len(stage.sizes) for stage in (first, second, last)] == [2, 1, 0]
    names = {node.op.name for stage in (first, second) for node in stage.graph.values}
    assert "exp" not in names, "what no size needs is computed at last"
    assert sum(node.op.name == "add" for s in stages_of(f) for node in s.graph.values) == 1
    a, b = np.array([2, -1, 3], np.float32), np.array([-4, 1, 6], np.float32)
    np.testing.assert_allclose(f(a, b), [9, 6, np.exp(b).sum()], rtol=1e-6)


@needs_compiler
def test_views_are_made_again_where_they_are_needed() -> None:
    x = sg.tensor("x", (B, 4))
    flat = sg.reshape(x, (-1,))
    f = sg.function([x], sg.reshape(flat, (-1, 2))[flat[::2] > 0], backend="cpu")
    assert [value.dtype for stage in stages_of(f) for value in stage.kept] == ["bool"]
    a = rows(5)[:4].reshape(3, 4)
    np.testing.assert_array_equal(f(a), a.reshape(-1, 2)[a.reshape(-1)[::2] > 0])


@needs_compiler
def test_a_size_that_comes_again_binds_nothing() -> None:
    x = sg.tensor("x", (B,))
    f = sg.function([x], x[x > 0] * 2, backend="cpu")
    for sign in (1, -1, 1, -1):
        f(np.array([1, sign, 1], np.float32))
    executor = f._executor
    assert isinstance(executor, StagedExecutor)
    assert [len(one._bound) for one in executor.executors] == [1, 2]
    for count in range(40):
        f(np.arange(40, dtype=np.float32) - count)
    assert max(len(one._bound) for one in executor.executors) <= native.MOST_BOUND
    f.close()
    assert f(np.ones(2, np.float32)).tolist() == [2, 2]


@needs_compiler
def test_kernels_serve_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    x = sg.tensor("x", (B,))
    f = sg.function([x], sg.exp(x[x > 0]).sum(), backend="cpu")
    f(np.ones(3, np.float32))

    def refuse(text: str) -> bytes:
        raise AssertionError("another size must not compile")

    monkeypatch.setattr(native, "compile_text", refuse)
    for count in (0, 1, 100):
        assert f(np.ones(count + 1, np.float32)) > 2.7 * count


def test_givens_change_what_a_size_is_measured_from() -> None:
    x, y = sg.tensor("x", (B,)), sg.tensor("y", (B,))
    chosen = x[x > 0] * sg.arange(x[x > 0].shape[0], dtype="float32")
    f = sg.function([y], chosen, givens={x: y - 1}, backend="reference")
    assert f([1.0, 2.0, 0.0, 4.0]).tolist() == [0, 3]
    assert chosen.eval(x=[1, 2, 0, 4]).tolist() == [0, 2, 8]


def test_an_input_may_have_a_size_that_the_data_of_another_decide() -> None:
    x = sg.tensor("x", (B,))
    weights = sg.tensor("weights", x[x > 0].shape)
    f = sg.function([x, weights], (x[x > 0] * weights).sum(), backend="reference")
    assert f([1, -1, 2], [10, 100]) == 210
    with pytest.raises(GuardError, match="is 3 in the given arrays, but the data make it 2"):
        f([1, -1, 2], [1, 1, 1])


# -- failures --------------------------------------------------------------------------------------


@both
def test_updates_are_written_after_everything_that_can_fail(backend: str) -> None:
    x, count, best = sg.tensor("x", (B,)), sg.shared(0, "count"), sg.shared(np.float32(0), "best")
    chosen = x[x > 0]
    updates = {count: count + sg.count_nonzero(x > 0), best: chosen.max()}
    f = sg.function([x], chosen, updates=updates, backend=backend)
    assert f([1, 3, -1]).tolist() == [1, 3]
    assert (int(count.value), float(best.value)) == (2, 3.0)
    with pytest.raises(GuardError, match=r"max: axis 0 .* must not be empty: .*1 > 0"):
        f([-1, -2])
    assert (int(count.value), float(best.value)) == (2, 3.0)
    g = sg.function([x], best, updates={best: best + 1, count: count + chosen.sum().cast("int64")},
                    backend=backend)  # fmt: skip
    assert g([2, -1]) == 3.0
    assert (int(count.value), float(best.value)) == (4, 4.0)


@both
def test_what_stands_in_the_data_can_be_wrong(backend: str) -> None:
    x, n = sg.tensor("x", (B,)), sg.tensor("n", (B,), "int32")
    total = sg.shared(np.float32(0), "total")
    f = sg.function([x, n], sg.repeat(x, n), updates={total: total + 1}, backend=backend)
    assert f([1, 2], [0, 2]).tolist() == [2, 2]
    with pytest.raises(IndexRangeError, match="cannot be repeated -1 times"):
        f([1, 2], [3, -1])
    assert float(total.value) == 1
    with pytest.raises(GuardError, match=r"update_at|scatter|broadcast|must"):
        sg.function([x, n], x.at[x > 0].set(n.cast("float32")), backend=backend)([1, -2], [3, 4])


def test_ragged_lanes_and_sizes_inside_of_loops_are_refused() -> None:
    x, m = sg.tensor("x", (B, 3)), sg.tensor("m", (3,), "bool")
    with pytest.raises(ShapeError, match=r"vmap: the size .* differs from lane to lane"):
        sg.vmap(lambda row: row[row > 0].sum())(x)
    same = sg.vmap(lambda row: row[m])(x)  # all lanes have one mask
    assert same.eval(x=[[1, 2, 3]], m=[True, False, True]).tolist() == [[1, 3]]
    with pytest.raises(GraphError, match=r"scan: the size .* depends on numbers that") as bad:
        sg.scan(lambda row: row[row > 0].sum(), x)
    assert "test_staged.py" in str(bad.value)
    with pytest.raises(GraphError, match=r"sg.scan\(..., pad=True\)"):
        sg.while_loop(lambda x: x.sum() < 0, lambda x: x + x[x > 0].sum(), x)
    outside = x[x[:, 0] > 0]
    sums, _ = sg.scan(lambda row, s: s + row.sum(), outside, [0.0])
    assert sums.eval(x=[[1, 2, 3], [-1, 0, 0], [1, 1, 1]]).tolist() == [6, 9]


@both
def test_a_branch_may_decide_sizes_from_its_operands(backend: str) -> None:
    """In both directions, nested, and with a gradient that goes through the branch that ran."""
    x, k = sg.tensor("x", (B, 3)), sg.tensor("k", (), "int32")

    def chosen(row: Any) -> Any:
        return (row[row > 0] ** 2).sum()

    def inner(v: Any) -> Any:
        return sg.cond(v[0, 0] > 0, lambda u: chosen(u[0]), lambda u: sg.unique_values(u).sum(), v)

    y = sg.switch(k, [lambda v: v.sum(), inner, lambda v: chosen(v[:, 2])], x)
    f = sg.function([x, k], [y, sg.grad(y, x)], backend=backend)
    a = np.array([[1, -2, 3], [-4, 5, 1], [0, 3, 1]], np.float32)
    for sign in (1, -1):
        b, ones = a * sign, np.ones_like(a)
        wanted = [b.sum(), (b[0][b[0] > 0] ** 2).sum(), (b[:, 2][b[:, 2] > 0] ** 2).sum()]
        slopes = [ones, np.zeros_like(a), np.zeros_like(a)]
        slopes[1][0] = 2 * np.maximum(b[0], 0)
        slopes[2][:, 2] = 2 * np.maximum(b[:, 2], 0)
        if sign < 0:
            values, places = np.unique(b, return_index=True)
            wanted[1], slopes[1] = values.sum(), np.zeros_like(a)
            slopes[1].ravel()[places] = 1
        for branch in range(3):
            value, slope = f(b, branch)
            np.testing.assert_allclose(value, wanted[branch], rtol=1e-6)
            np.testing.assert_allclose(slope, slopes[branch], rtol=1e-6)


@both
def test_a_slice_between_values_is_changed(backend: str) -> None:
    """With one number for all no size is measured: lanes and steps have bounds of their own."""
    x, v, i, j = sg.tensor("x", (B, 3)), sg.tensor("v", (2, 3)), sg.iscalar("i"), sg.iscalar("j")
    both_ways = [x.at[i:j].set(v), x.at[i:j].add(v[0]), x.at[j:i:-2, 1].multiply(10.0)]
    loss = (x.at[i:j].multiply(v) ** 2).sum()
    f = sg.function([x, v, i, j], [*both_ways, sg.grad(loss, x), sg.grad(loss, v)], backend=backend)
    a, b = rows(7), rows(2)
    for start, stop in ((0, 2), (-3, 6), (-2, 99)):
        put, added, times = a.copy(), a.copy(), a.copy()
        put[start:stop] = b
        added[start:stop] += b[0]
        times[stop:start:-2, 1] *= 10
        scale, slope = np.ones_like(a), 2 * a[start:stop] ** 2 * b
        scale[start:stop] = b
        found = f(a, b, start, stop)
        for one, other in zip(found, [put, added, times, 2 * a * scale**2, slope], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5)
    with pytest.raises(GuardError, match=r"needs 2 == x.cut, but 2 != 1"):
        f(a, b, 3, 4)
    many = sg.tensor("many", (4,), "int32")
    lanes = sg.vmap(lambda n: x[:, 0].at[n:].set(0.0))(many)
    steps, _ = sg.scan(lambda n, h: h.at[:n, 2].add(1.0), many, [x])
    g = sg.function([x, many], [lanes, steps[-1]], backend=backend)
    numbers = np.array([0, 3, -1, 99], np.int32)
    cut, counted = g(a, numbers)
    for lane, n in zip(cut, numbers, strict=True):
        whole = a[:, 0].copy()
        whole[n:] = 0
        np.testing.assert_array_equal(lane, whole)
    expected = a.copy()
    for n in numbers:
        expected[:n, 2] += 1
    np.testing.assert_allclose(counted, expected, rtol=1e-6)


# -- what one can ask of such a function -----------------------------------------------------------


@both
def test_bind_profile_show_cost_check_and_files(backend: str, tmp_path: Path) -> None:
    x = sg.tensor("x", (B,))
    mask = x > 0
    chosen = x[mask]
    f = sg.function([x], [sg.exp(chosen).sum(), chosen], backend=backend, name="chosen")
    a = np.array([1, -1, 2], np.float32)
    assert "size mask.count = " in sg.show(f)
    cost = sg.cost(f)
    assert [str(size) for size in cost.sizes] == ["B", "mask.count"]
    assert cost.evaluate({"B": 3, "mask.count": 2}).flops > 0
    bound = f.bind({"mask.count": 2}, B=3)
    assert bound.peak >= bound.inputs + bound.outputs == 12 + 12
    with pytest.raises(ArgumentError, match=r"mask.count .* no number"):
        f.bind(B=3)
    assert "greater" in str(f.profile(a)) or backend == "cpu"
    assert {"exp", "places"} <= {name for row in f.profile(a).rows for name in row.name.split(", ")}
    assert sg.check(f, a) is None
    f.save(tmp_path / "chosen.sgz")
    again = sg.load(tmp_path / "chosen.sgz", backend=backend)
    for one, other in zip(again(a), f(a), strict=True):
        np.testing.assert_array_equal(one, other)
    traced = sg.jit(lambda x: x[x > 0], backend=backend)
    assert traced(a).tolist() == [1, 2]
    assert traced(-a).tolist() == [1]


def test_a_pass_may_rewrite_what_decides_a_size() -> None:
    x = sg.tensor("x", (B,))
    f = sg.function([x], x[(x + 0.0) * 1.0 > 0], backend="reference")
    assert {node.op.name for node in f.graph.values}.isdisjoint({"add", "multiply"})
    assert [step.after.sizes.keys() for step in f.history]
    assert f([1, -1]).tolist() == [1]


@pytest.mark.full  # g++ takes its time
@pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")
def test_on_a_device(host: HostDevice) -> None:
    x, i, j = sg.tensor("x", (B, 3)), sg.iscalar("i"), sg.iscalar("j")
    total = sg.shared(np.float32(0), "total")
    cut = x[i:j]
    f = sg.function([x, i, j], [sg.exp(cut), sg.exp(x).sum(), cut.sum(axis=0)],
                    updates={total: total + cut.sum()}, backend="cuda")  # fmt: skip
    a, wanted = rows(6), 0.0
    for start, stop in ((1, 3), (0, 6), (-2, 6), (4, 2), (1, 3)):
        found = f(a, start, stop)
        np.testing.assert_allclose(found[0], np.exp(a[start:stop]), rtol=1e-5)
        np.testing.assert_allclose(found[1], np.exp(a).sum(), rtol=1e-5)
        np.testing.assert_allclose(found[2], a[start:stop].sum(axis=0), rtol=1e-5, atol=1e-6)
        wanted += a[start:stop].sum()
    np.testing.assert_allclose(total.value, wanted, rtol=1e-5)
