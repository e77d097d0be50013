"""Oracles of what changes cotangents only: the operand itself."""

import numpy as np

ORACLES = {
    "clip_gradient": lambda op, x: np.copy(x),
    "scale_gradient": lambda op, x: np.copy(x),
    "reverse_gradient": lambda x: np.copy(x),
}
