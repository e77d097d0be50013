"""Maxima of few formulas against maxima of many, for many sizes."""

from __future__ import annotations

from random import Random

import pytest

from symgraph.cost.envelope import Polynomial, envelope
from symgraph.cost.fit import largest_fit
from symgraph.cost.formulas import compiled
from symgraph.dims import Dim, Size, dim, dims, evaluate, maximum, minimum, total

B, C = dims("B C")
Z = dim("Z", min=0)
ATOMS: tuple[Size, ...] = (
    B,
    C,
    Z,
    B * C,
    B * B,
    (B + 1) // 2,
    minimum(B, C, Z),
    B % 3,
    C // (B + 1),
)


def drawn(random: Random, atoms: tuple[Size, ...], low: int) -> Size:
    terms = [random.randint(low, 9) * random.choice(atoms) for _ in range(random.randint(0, 3))]
    return total([*terms, random.randint(low * 10, 90)])


@pytest.mark.parametrize("seed", range(60))
def test_the_envelope_has_the_same_maximum(seed: int) -> None:
    random = Random(seed)
    atoms = (B,) if seed % 3 == 0 else ATOMS
    low = -3 if seed % 2 else 0
    formulas = [drawn(random, atoms, low) for _ in range(40)]
    plus = drawn(random, ATOMS, 0)
    kept = envelope([Polynomial.of(size) for size in formulas], plus)
    assert len(kept) <= len(set(formulas))
    for _ in range(200):
        env = {
            B: random.choice((1, 2, 3, 9, 100)),
            C: random.randint(1, 20),
            Z: random.randint(0, 9),
        }
        expected = max(evaluate(size, env) for size in formulas) + evaluate(plus, env)
        assert max(evaluate(size, env) for size in kept) == expected


def test_straight_lines_keep_their_upper_hull() -> None:
    lines = [Polynomial.of(slope * B + (20 - slope) ** 2) for slope in range(21)]
    kept = envelope(lines)
    needed = {max(range(21), key=lambda s: s * b + (20 - s) ** 2) for b in range(1, 100)}
    assert len(kept) <= len(needed) + 1
    assert envelope([]) == (0,)
    assert envelope([], 3 * B) == (3 * B,)


@pytest.mark.parametrize("seed", range(20))
def test_compiled_formulas_give_what_evaluation_gives(seed: int) -> None:
    random = Random(seed)
    sizes = [drawn(random, ATOMS, -3) for _ in range(6)]
    sizes += [maximum(*sizes[:3]), minimum(*sizes[3:])]
    compute = compiled((B, C, Z), sizes, sizes)
    for _ in range(50):
        env = {B: random.randint(1, 99), C: random.randint(1, 99), Z: random.randint(0, 9)}
        expected = [evaluate(size, env) for size in sizes]
        assert compute(*env.values()) == (*expected, max(expected))


def test_a_sum_of_thousands_of_terms_is_compiled() -> None:
    many = [dim(f"n{i}") for i in range(5000)]
    compute = compiled(many, [total(many)], [])
    assert compute(*range(5000)) == (sum(range(5000)),)


@pytest.mark.parametrize("seed", range(40))
def test_the_largest_fit_is_that_of_trying_all(seed: int) -> None:
    random = Random(seed)
    atoms: tuple[Size, ...] = (B, (B + 1) // 2, B % 4, B // 3, C * B, Z)
    sizes = [drawn(random, atoms, -1) + B for _ in range(random.randint(1, 4))]
    others: dict[Dim, int] = {C: random.randint(1, 3), Z: random.randint(0, 3)}
    limit = random.randint(0, 2000)
    good = [
        number
        for number in range(1, 5000)
        if all(evaluate(size, {B: number, **others}) <= limit for size in sizes)
    ]
    bounded = any(evaluate(size, {B: 10**6, **others}) > limit for size in sizes)
    if bounded:
        assert largest_fit(sizes, B, others, limit) == (good[-1] if good else None)
