"""The update of a rank's part: any rule that allows it is the rule on whole tensors."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.graph.leaves import Storage
from symgraph.graph.node import Value
from symgraph.graph.registry import F
from symgraph.parallel import Alone, Team, train_step
from symgraph.parallel.update import Sharded, Whole
from tests.parallel import nodes
from tests.parallel.teams import together

ROWS, STEPS = 7, 4
SHAPES = {"w": (5, 33), "v": (33, 3), "b": (33,), "s": (), "t": (1,)}
RULES: dict[str, Any] = {
    "sgd": lambda ps: sg.optim.SGD(ps, 0.05),
    "momentum": lambda ps: sg.optim.SGD(ps, 0.05, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda ps: sg.optim.SGD(
        [sg.optim.Group(ps[:2], decay=0.2), sg.optim.Group(ps[2:], rate=2.0)],
        0.05, momentum=0.9, nesterov=True,
    ),
    "clipped": lambda ps: sg.optim.SGD(ps, 0.5, momentum=0.5, clip_norm=0.3, clip_value=0.2),
    "adam": lambda ps: sg.optim.Adam(ps, 0.02, weight_decay=0.1),
    "adamw, clipped": lambda ps: sg.optim.AdamW(ps, 0.02, clip_norm=0.1),
}  # fmt: skip


def model(dtype: str, of_t: str) -> tuple[dict[str, sg.Shared], list[Value], Value]:
    """A net of two layers whose tensors have odd sizes; `t` may be of another dtype."""
    random = np.random.default_rng(3)
    at = {
        name: sg.shared(
            (random.normal(size=shape) / 3).astype(of_t if name == "t" else dtype), name
        )
        for name, shape in SHAPES.items()
    }
    x = sg.tensor("x", (sg.dim("B"), 5), dtype)
    hidden = sg.tanh(x @ at["w"] + at["b"]) @ at["v"]
    return at, [x], ((at["s"] * hidden - at["t"]) ** 2).sum(axis=1).mean()


def trained(
    team: Team, make: Any, *, dtype: str = "float64", of_t: str | None = None, **options: Any
) -> dict[str, Any]:
    """Take steps on rows that do not divide; give all weights and slots, by name."""
    at, inputs, loss = model(dtype, of_t or dtype)
    rule = make(list(at.values()))
    step = train_step(team, inputs, loss, rule, **options)
    random = np.random.default_rng(4)
    first, last = (ROWS * rank // team.size for rank in (team.rank, team.rank + 1))
    losses = []
    for _ in range(STEPS):
        batch = random.normal(size=(ROWS, 5)).astype(dtype)
        losses.append(step(batch[first:last], row=first).loss)
    named = {**at, **rule.state(dict(at))}
    found = {name: one.value for name, one in named.items()}
    kind = None if step.update is None else type(step.update)
    step.close()
    for name, one in named.items():
        np.testing.assert_array_equal(one.value, found[name])
    return {**found, "losses": np.array(losses), "kind": kind}


def assert_same(found: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name in set(expected) - {"kind"}:
        np.testing.assert_allclose(
            found[name], expected[name], rtol=tolerance, atol=tolerance, err_msg=name
        )


def assert_same_bits(found: list[Any]) -> None:
    for other in found[1:]:
        for name in set(found[0]) - {"kind"}:
            assert found[0][name].tobytes() == other[name].tobytes(), name


@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.full)])
@pytest.mark.parametrize("rule", RULES)
def test_parts_of_an_update_are_the_whole(rule: str, size: int) -> None:
    alone = trained(Alone(), RULES[rule])
    found: Any = together(size, lambda team: trained(team, RULES[rule]))
    assert_same(found[0], alone, 1e-11)
    assert_same_bits(found)
    assert [one["kind"] for one in found] == [Sharded] * size
    assert np.ptp(alone["losses"]) > 0.01


def test_parts_by_the_interpreter() -> None:
    rule = RULES["adamw, clipped"]
    found: Any = together(2, lambda team: trained(team, rule, backend="reference"))
    assert_same(found[0], trained(Alone(), rule), 1e-11)
    assert_same_bits(found)


def test_parts_of_two_dtypes() -> None:
    rule, options = RULES["clipped"], {"of_t": "float32"}
    found: Any = together(2, lambda team: trained(team, rule, **options))
    assert_same(found[0], trained(Alone(), rule, **options), 1e-5)
    assert_same_bits(found)
    assert (found[0]["t.velocity"].dtype, found[0]["kind"]) == (np.float32, Sharded)


@pytest.mark.parametrize("layout", [[[0, 1, 2], [3]], [[0, 2], [1, 3]]], ids=str)
def test_nodes_of_other_sizes_end_with_the_same_bits(layout: list[list[int]]) -> None:
    """Norms are added up in another order on a node of another size."""
    rule = RULES["adamw, clipped"]
    found: Any = nodes.together(layout, lambda team: trained(team, rule, dtype="float32"))
    assert_same(found[0], trained(Alone(), rule, dtype="float32"), 2e-5)
    assert_same_bits(found)


def test_ranks_without_a_part_count_steps_all_the_same() -> None:
    def work(team: Team) -> Any:
        w = sg.shared(np.float32([1.0, 2.0]), "w")
        x = sg.tensor("x", (sg.dim("B"), 2))
        rule = sg.optim.Adam([w], 0.5, clip_norm=1.0)
        step = train_step(team, [x], (x @ w).mean(), rule)
        for _ in range(2):
            step(np.ones((1, 2), np.float32), row=team.rank)
        return w.value.tolist(), int(rule.count.value), rule.slots[w]["mean"].value.tolist()

    first, *others = together(3, work)
    assert others == [first] * 2
    np.testing.assert_allclose(first[0], [0.0, 1.0], atol=1e-6)  # type: ignore[index]
    assert first[1] == 2  # type: ignore[index]


# -- momenta ---------------------------------------------------------------------------------------


def test_momenta_exist_once() -> None:
    def work(team: Team) -> Any:
        w = sg.shared(np.zeros((300, 40)), "w")
        x = sg.tensor("x", (sg.dim("B"), 300), "float64")
        rule = sg.optim.Adam([w], 0.1)
        step = train_step(team, [x], (x @ w).sum(axis=1).mean(), rule)
        step(np.ones((2, 300)), row=2 * team.rank)
        for slot in rule.slots[w].values():
            with pytest.raises(AttributeError):  # nobody has asked for an array
                Storage.array.__get__(slot.storage)  # type: ignore[attr-defined]
        assert isinstance(step.update, Sharded)
        return step.update.momenta.arena.size, float(rule.slots[w]["mean"].value.sum())

    size, moments = 2 * 300 * 40 * 8 // 2, 300 * 40 * (1 - 0.9)
    for found in together(2, work):
        assert found == (size, pytest.approx(moments))


def test_momenta_are_read_assigned_and_shared_out() -> None:
    """As a checkpoint does, and one that is restored; `start` gives all what rank 0 has."""

    def work(team: Team) -> Any:
        w = sg.shared(np.zeros(100, np.float32), "w")
        x = sg.tensor("x", (sg.dim("B"), 100))
        rule = sg.optim.SGD([w], 1.0, momentum=0.5)
        step, slot = train_step(team, [x], (x @ w).mean(), rule), rule.slots[w]["velocity"]
        ones, seen = np.ones((1, 100), np.float32), []
        step(ones, row=team.rank)
        seen.append(slot.value.copy())
        if team.rank == 0:
            slot.value = np.arange(100, dtype=np.float32)
        step.start()
        seen.append(slot.value)
        step(ones, row=team.rank)
        seen.append(slot.value)
        step.close()
        again = train_step(team, [x], (x @ w).mean(), rule)  # another step goes on with them
        again(ones, row=team.rank)
        again.close()
        return np.array([*seen, slot.value])

    first, second = together(2, work)
    np.testing.assert_array_equal(first, second)  # type: ignore[arg-type]
    numbers = np.arange(100, dtype=np.float32)
    expected = [np.full(100, -1.0), numbers, numbers / 2 - 1, numbers / 4 - 1.5]
    np.testing.assert_array_equal(first, expected)  # type: ignore[arg-type]


# -- rules of others -------------------------------------------------------------------------------


class Rule(sg.optim.SGD):
    """Gradient descent on what `change` makes of a gradient."""

    change: Any = None

    def step(self, parameter: Any, gradient: Value, rate: Value, decay: float) -> Any:
        changed = type(self).change(self, parameter, gradient)
        return super().step(parameter, changed, rate, decay)


def rule_of(change: Any) -> Any:
    kind = type("Odd", (Rule,), {"change": change})
    return lambda parameters: kind(parameters, 0.05, momentum=0.9)


def of_norms(self: Any, w: Any, g: Value) -> Value:
    return g * (F.sqrt(F.sum(w * w)) / (F.sqrt(F.sum(g * g)) + 1.0))


def positive(self: Any, w: Any, g: Value) -> Value:
    return F.where(F.zeros_like(g) < w, g + 2 * F.ones_like(g), F.maximum(g, F.zeros_like(w)))


def centred(self: Any, w: Any, g: Value) -> Value:
    return g - F.mean(g)


def spread(self: Any, w: Any, g: Value) -> Value:
    """A number of all places is written out at each: it has to be that of all ranks."""
    return g / F.broadcast_to(F.sqrt(F.sum(g * g)) + 1.0, g.shape)


@pytest.mark.parametrize("change", [of_norms, positive, centred, spread])
def test_rules_of_norms_and_places_are_cut(change: Any) -> None:
    alone = trained(Alone(), rule_of(change))
    found: Any = together(2, lambda team: trained(team, rule_of(change)))
    assert_same(found[0], alone, 1e-11)
    assert_same_bits(found)
    assert found[0]["kind"] is Sharded


def largest(self: Any, w: Any, g: Value) -> Value:
    return g / (F.max(F.abs(g)) + 1.0)


def by_rows(self: Any, w: Any, g: Value) -> Value:
    return g - F.sum(g, axis=0) if len(g.shape) > 1 else g


def with_mask(self: Any, w: Any, g: Value) -> Value:
    return g * sg.constant(np.linspace(0, 1, 33)) if w.label == "b" else g


def twice(self: Any, w: Any, g: Value) -> Value:
    centre = g - F.sum(g) / 100
    return centre / (1 + F.sum(centre * centre))


def of_another(self: Any, w: Any, g: Value) -> Value:
    scalar = next(one for one in self.parameters if one.label == "s")
    return g * scalar


REFUSED = {
    "`max` looks at several places of `w`": largest,
    "`sum` looks at several places of `w`": by_rows,
    "`multiply` gives each place of `b` a number of its own": with_mask,
    "a sum over `w` needs another sum first": twice,
    "`multiply` mixes `w` and `s`": of_another,
}


@pytest.mark.parametrize("reason", REFUSED)
def test_other_rules_are_made_whole_by_every_rank(
    reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    make = rule_of(REFUSED[reason])
    with caplog.at_level(logging.WARNING, logger="symgraph"):
        found: Any = together(2, lambda team: trained(team, make))
    assert_same(found[0], trained(Alone(), make), 1e-11)
    assert_same_bits(found)
    assert found[0]["kind"] is Whole
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"train step: every worker makes the whole update of Odd: {reason}"
