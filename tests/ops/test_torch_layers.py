"""PyTorch on the CPU as a second opinion: activations, losses, resizing, norms, attention, CTC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from symgraph.graph.interpret import interpret
from symgraph.graph.leaves import tensor
from symgraph.graph.registry import F

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

RNG = np.random.default_rng(12)
T: Any = torch.nn.functional
SP: Any = torch.special
X = RNG.normal(size=(6, 8)) * 3
Y = RNG.normal(size=(6, 8))
Z = RNG.normal(size=(6, 8))
SHARES = RNG.uniform(0.05, 0.95, size=(2, 6, 8))
SIGNS = np.sign(RNG.normal(size=(6, 8)))
ROWS = RNG.normal(size=(2, 4, 7))
IMAGES = RNG.normal(size=(2, 4, 5, 7))
VOLUMES = RNG.normal(size=(1, 2, 3, 5, 4))
Q, K, V = (RNG.normal(size=shape) for shape in ((2, 3, 5, 4), (2, 3, 6, 4), (2, 3, 6, 2)))
MASK = RNG.uniform(size=(5, 6)) < 0.7
MASK[:, 0] = True
FRAMES = RNG.normal(size=(9, 3, 5))
TARGETS = np.array([[1, 2, 2, 4], [3, 3, 1, 1], [4, 1, 1, 1]])
LENGTHS = np.array([9, 7, 8]), np.array([4, 2, 1])
POSITIVE = np.exp(RNG.normal(size=(6, 8)))

Case = tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...]]
CHANNELS = RNG.normal(size=(2, 4))


def unreduced(name: str, **options: Any) -> Callable[..., Any]:
    return lambda *xs: getattr(T, name)(*xs, reduction="none", **options)


def pooled(library: Any, kind: str, size: tuple[int, ...]) -> Callable[..., Any]:
    return lambda x: getattr(library, f"adaptive_{kind}_pool{len(size)}d")(x, size)


# fmt: off
CASES: dict[str, Case] = {
    **{
        name: (getattr(F, name), getattr(T, other), (X,))
        for name, other in {
            "relu6": "relu6", "hardsigmoid": "hardsigmoid", "hardswish": "hardswish",
            "selu": "selu", "softsign": "softsign", "mish": "mish", "tanhshrink": "tanhshrink",
            "log_sigmoid": "logsigmoid", "celu": "celu", "hardtanh": "hardtanh", "glu": "glu",
            "softshrink": "softshrink", "hardshrink": "hardshrink",
        }.items()
    },
    "gelu tanh": (lambda x: F.gelu(x, approximate="tanh"),
                  lambda x: T.gelu(x, approximate="tanh"), (X,)),
    "threshold": (lambda x: F.threshold(x, 0.3, -2.0), lambda x: T.threshold(x, 0.3, -2.0), (X,)),
    "prelu": (F.prelu, T.prelu, (IMAGES, RNG.normal(size=4))),

    "mse_loss":       (F.mse_loss, unreduced("mse_loss"), (X, Y)),
    "l1_loss":        (F.l1_loss, unreduced("l1_loss"), (X, Y)),
    "huber_loss":     (lambda x, y: F.huber_loss(x, y, 0.7), unreduced("huber_loss", delta=0.7),
                       (X, Y)),
    "smooth_l1_loss": (lambda x, y: F.smooth_l1_loss(x, y, 0.7),
                       unreduced("smooth_l1_loss", beta=0.7), (X, Y)),
    "binary_cross_entropy": (F.binary_cross_entropy, unreduced("binary_cross_entropy"),
                             tuple(SHARES)),
    "kl_div":         (F.kl_div, unreduced("kl_div"), (Y, SHARES[0])),
    "kl_div log":     (lambda x, y: F.kl_div(x, y, log_target=True),
                       unreduced("kl_div", log_target=True), (Y, Z)),
    "poisson_nll_loss": (F.poisson_nll_loss, unreduced("poisson_nll_loss"), (Y, SHARES[0])),
    "gaussian_nll_loss": (F.gaussian_nll_loss, unreduced("gaussian_nll_loss"), (X, Y, POSITIVE)),
    "cosine_similarity": (F.cosine_similarity, lambda x, y: T.cosine_similarity(x, y, dim=-1),
                          (X, Y)),
    "pairwise_distance": (F.pairwise_distance, T.pairwise_distance, (X, Y)),
    "triplet_margin_loss": (lambda x, y, z: F.triplet_margin_loss(x, y, z, swap=True),
                            unreduced("triplet_margin_loss", swap=True), (X, Y, Z)),
    "ctc_loss": (
        lambda x: F.ctc_loss(F.log_softmax(x), TARGETS, *LENGTHS),
        lambda x: T.ctc_loss(T.log_softmax(x, -1), torch.tensor(TARGETS),
                             *map(torch.tensor, LENGTHS), reduction="none"),
        (FRAMES,),
    ),

    **{
        f"adaptive_{kind}_pool{len(size)}d {size}": (
            pooled(F, kind, size), pooled(T, kind, size), (x,),
        )
        for kind in ("avg", "max")
        for size, x in (((3,), ROWS), ((3, 4), IMAGES), ((8, 2), IMAGES), ((2, 3, 1), VOLUMES))
    },
    **{
        f"interpolate {mode} {size} {corners}": (
            lambda x, m=mode, s=size, c=corners: F.interpolate(x, s, mode=m, align_corners=c),
            lambda x, m=mode, s=size, c=corners: T.interpolate(
                x, s, mode=m, align_corners=c if "linear" in m else None
            ),
            (x,),
        )
        for mode, size, corners, x in (
            ("nearest", (3,), False, ROWS), ("nearest", (9, 14), False, IMAGES),
            ("nearest-exact", (9, 4), False, IMAGES), ("area", (3, 9), False, IMAGES),
            ("linear", (11,), False, ROWS), ("linear", (1,), True, ROWS),
            ("bilinear", (3, 15), False, IMAGES), ("bilinear", (9, 4), True, IMAGES),
            ("trilinear", (5, 2, 8), False, VOLUMES), ("trilinear", (5, 2, 8), True, VOLUMES),
        )
    },
    "interpolate by a factor": (lambda x: F.interpolate(x, scale_factor=(2, 1.5)),
                                lambda x: T.interpolate(x, scale_factor=(2, 1.5)), (IMAGES,)),
    "pixel_shuffle":   (lambda x: F.pixel_shuffle(x, 2), lambda x: T.pixel_shuffle(x, 2),
                        (IMAGES,)),
    "pixel_unshuffle": (lambda x: F.pixel_unshuffle(x[..., :4, :6], 2),
                        lambda x: T.pixel_unshuffle(x[..., :4, :6], 2), (IMAGES,)),

    "group_norm":    (lambda x, a, b: F.group_norm(x, 2, a, b),
                      lambda x, a, b: T.group_norm(x, 2, a, b), (IMAGES, *CHANNELS)),
    "instance_norm": (F.instance_norm, lambda x, a, b: T.instance_norm(x, weight=a, bias=b),
                      (IMAGES, *CHANNELS)),
    "embedding":     (lambda w: F.embedding(TARGETS, w, padding=1),
                      lambda w: T.embedding(torch.tensor(TARGETS), w, padding_idx=1),
                      (RNG.normal(size=(5, 3)),)),
    "attention":        (F.scaled_dot_product_attention, T.scaled_dot_product_attention, (Q, K, V)),
    "attention causal": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3),
        lambda q, k, v: T.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3),
        (Q, K, V),
    ),
    "attention mask": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, MASK),
        lambda q, k, v: T.scaled_dot_product_attention(q, k, v, torch.tensor(MASK)),
        (Q, K, V),
    ),

    **{
        name: (getattr(F, name), getattr(SP, name), (x,))
        for name, x in {
            "erfinv": SHARES[0], "ndtr": Y, "ndtri": SHARES[0], "log_ndtr": 5 * Y,
            "gammaln": POSITIVE, "digamma": POSITIVE, "i0": X, "i0e": X, "i1": X, "i1e": X,
            "sinc": X, "entr": POSITIVE, "logit": SHARES[0], "expit": X,
        }.items()
    },
    "polygamma": (lambda x: F.polygamma(2, x), lambda x: SP.polygamma(2, x), (POSITIVE,)),
    "xlogy":     (F.xlogy, SP.xlogy, (X, POSITIVE)),
    "xlog1py":   (F.xlog1py, SP.xlog1py, (X, POSITIVE)),
}
# fmt: on


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_pytorch(name: str) -> None:
    ours, theirs, arrays = CASES[name]
    inputs = [tensor(f"x{i}", array.shape, "float64") for i, array in enumerate(arrays)]
    found = ours(*inputs)
    peers = [torch.tensor(array, requires_grad=True) for array in arrays]
    expected = theirs(*peers)
    weights = RNG.normal(size=tuple(expected.shape))
    (expected * torch.tensor(weights)).sum().backward()
    slopes = F.vjp([found], inputs, [F.constant(weights)], missing="zero")
    values = interpret([found, *slopes], dict(zip(inputs, arrays)), {})
    np.testing.assert_allclose(values[0], expected.detach().numpy(), rtol=1e-9, atol=1e-11)
    for slope, peer in zip(values[1:], peers):
        wanted = np.zeros(peer.shape) if peer.grad is None else peer.grad.numpy()
        # the slope of PyTorch's hardsigmoid is 1 / 6 in float32
        np.testing.assert_allclose(slope, wanted, rtol=1e-7, atol=1e-10)
