"""What the generated tests do not ask: rows without keys, the row of an embedding that stays."""

from __future__ import annotations

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import DTypeError
from symgraph.graph.registry import F
from tests.ops.running import run, run_grad

RNG = np.random.default_rng(5)
Q, K, V = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(2, 5, 4)), RNG.normal(size=(2, 5, 2))


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_a_query_without_keys_gives_zeros_and_no_gradient(kind: str) -> None:
    seen = np.ones((3, 5), bool)
    seen[1] = False
    mask = seen if kind == "bool" else np.where(seen, 0.0, -np.inf)

    def call(q: sg.Value, k: sg.Value, v: sg.Value, m: sg.Value) -> sg.Value:
        return F.scaled_dot_product_attention(q, k, v, m)

    found = run(call, Q, K, V, mask)
    assert (found[:, 1] == 0).all()
    assert (found[:, 0] != 0).all()
    slope = run_grad(call, Q, K, V, mask)
    assert (slope[:, 1] == 0).all()
    assert np.isfinite(slope).all()


def test_a_nan_stays_where_a_mask_is_given() -> None:
    q = Q.copy()
    q[0, 0] = np.nan
    found = run(F.scaled_dot_product_attention, q, K, V, np.ones((3, 5), bool))
    assert np.isnan(found[0, 0]).all()
    assert np.isfinite(found[1:]).all()


def test_half_precisions_are_rounded_once() -> None:
    halves = [each.astype(np.float16) for each in (Q, K, V)]
    found = run(F.scaled_dot_product_attention, *halves)
    expected = run(F.scaled_dot_product_attention, *(each.astype(np.float32) for each in halves))
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, expected.astype(np.float16))


def test_the_padding_of_an_embedding_gets_no_gradient() -> None:
    table, rows = RNG.normal(size=(4, 2)), np.array([0, 3, 3, 1])

    def call(weight: sg.Value) -> sg.Value:
        return F.embedding(rows, weight, padding=3)

    np.testing.assert_array_equal(run(call, table), table[rows])
    np.testing.assert_array_equal(run_grad(call, table)[:, 0], [1, 1, 0, 0])
    with pytest.raises(DTypeError, match=r"embedding: .* must hold integers"):
        F.embedding([0.5], table)
