"""`sg.linalg` where its names mean something else than `sg`'s: the last two axes."""

import numpy as np

import symgraph as sg


def test_diagonals_and_traces_are_those_of_the_last_two_axes() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    for offset in (-1, 0, 2):
        found = sg.linalg.diagonal(x, offset=offset).eval()
        np.testing.assert_array_equal(found, np.linalg.diagonal(x, offset=offset))
        np.testing.assert_array_equal(
            sg.linalg.trace(x, offset=offset).eval(), np.linalg.trace(x, offset=offset)
        )
    assert set(dir(sg.linalg)) >= set(sg.linalg.__all__)
