"""PyTorch's optimisers as a second opinion, over 20 steps from the same weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from symgraph.optim import SGD, Adam, AdamW, Optimizer

torch = pytest.importorskip("torch")

CASES: dict[str, tuple[Callable[..., Optimizer], Callable[..., Any], dict[str, Any]]] = {
    "sgd": (SGD, torch.optim.SGD, {}),
    "momentum": (SGD, torch.optim.SGD, {"momentum": 0.9}),
    "nesterov": (SGD, torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.02}),
    "decay": (SGD, torch.optim.SGD, {"momentum": 0.5, "weight_decay": 0.02}),
    "adam": (Adam, torch.optim.Adam, {"betas": (0.8, 0.99)}),
    "adam decay": (Adam, torch.optim.Adam, {"weight_decay": 0.1}),
    "adamw": (AdamW, torch.optim.AdamW, {"weight_decay": 0.1}),
}
TOLERANCE = {"float64": 1e-11, "float32": 3e-5}


def peer(subject: Any) -> tuple[dict[str, Any], Callable[[int], Any]]:
    """Give torch's copy of the weights, and its loss of a step."""
    weights = {
        name: torch.nn.Parameter(torch.from_numpy(value))
        for name, value in subject.values().items()
    }

    def loss(step: int) -> Any:
        x, t = (torch.from_numpy(array) for array in subject.batch(step))
        hidden = torch.tanh(x @ weights["w0"] + weights["b0"])
        return ((hidden @ weights["w1"] + weights["b1"] - t) ** 2).mean()

    return weights, loss


def run(optimizer: Any, loss: Callable[[int], Any], before_step: Callable[[], Any]) -> None:
    for step in range(20):
        optimizer.zero_grad()
        loss(step).backward()
        before_step()
        optimizer.step()


def assert_same(found: dict[str, np.ndarray], weights: dict[str, Any], dtype: str) -> None:
    for name, weight in weights.items():
        expected = weight.detach().numpy()
        error = np.linalg.norm(found[name] - expected) / np.linalg.norm(expected)
        assert error < TOLERANCE[dtype], name


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", CASES)
def test_against_torch(problem: Any, case: str, dtype: str) -> None:
    ours, theirs, options = CASES[case]
    subject = problem(dtype)
    weights, loss = peer(subject)
    run(theirs(weights.values(), lr=0.05, **options), loss, lambda: None)
    found = subject.run(ours(subject.variables.values(), 0.05, **options))
    assert_same(found, weights, dtype)


def test_groups(problem: Any) -> None:
    """Biases at twice the rate and without decay, as AlexNet has them."""
    subject = problem()
    weights, loss = peer(subject)
    groups = [
        {"params": [weights["w0"], weights["w1"]], "weight_decay": 0.02},
        {"params": [weights["b0"], weights["b1"]], "lr": 0.1},
    ]
    run(torch.optim.SGD(groups, lr=0.05, momentum=0.9), loss, lambda: None)
    ours = SGD(subject.groups(rate=2.0, decay=0.0), 0.05, momentum=0.9, weight_decay=0.02)
    assert_same(subject.run(ours), weights, "float64")


@pytest.mark.parametrize("limit", ["norm", "value"])
def test_clipping(problem: Any, limit: str) -> None:
    subject = problem()
    weights, loss = peer(subject)
    if limit == "norm":
        options = {"clip_norm": 0.1}
        clip = lambda: torch.nn.utils.clip_grad_norm_(weights.values(), 0.1)
    else:
        options = {"clip_value": 0.01}
        clip = lambda: torch.nn.utils.clip_grad_value_(weights.values(), 0.01)
    run(torch.optim.SGD(weights.values(), lr=0.05, momentum=0.9), loss, clip)
    found = subject.run(SGD(subject.variables.values(), 0.05, momentum=0.9, **options))
    for name, weight in weights.items():
        # torch divides by the norm plus 1e-6
        np.testing.assert_allclose(found[name], weight.detach().numpy(), rtol=1e-4, atol=1e-6)


def test_schedules() -> None:
    from symgraph.optim import Cosine, Steps

    parameter = [torch.nn.Parameter(torch.zeros(1))]
    pairs = [
        (Steps(0.1, at=(3, 7)), torch.optim.lr_scheduler.MultiStepLR, {"milestones": [3, 7]}),
        (Cosine(0.1, 12, 0.01), torch.optim.lr_scheduler.CosineAnnealingLR,
         {"T_max": 12, "eta_min": 0.01}),
    ]  # fmt: skip
    for ours, kind, options in pairs:
        optimizer = torch.optim.SGD(parameter, lr=0.1)
        theirs = kind(optimizer, **options)
        for epoch in range(12):
            assert ours(epoch) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
            optimizer.step()
            theirs.step()
