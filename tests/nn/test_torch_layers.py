"""Recurrent layers and attention with PyTorch's weights carried over: outputs and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.nn import GRU, LSTM, RNN, MultiHeadAttention, TransformerBlock

torch = pytest.importorskip("torch")

NAMES = {"input_weight": "weight_ih", "state_weight": "weight_hh", "input_bias": "bias_ih",
         "state_bias": "bias_hh"}  # fmt: skip


def turned(array: np.ndarray) -> np.ndarray:
    """Turn matrices, which the two keep the other way round."""
    return array.T if array.ndim == 2 else array


def assert_close(found: Any, expected: Any) -> None:
    found = np.asarray(found)
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "options"), [(RNN, {}), (RNN, {"activation": "relu"}), (LSTM, {}), (GRU, {})]
)
@pytest.mark.parametrize(("layers", "both"), [(1, False), (2, True)])
def test_recurrent(
    rng: np.random.Generator, kind: type[Any], options: dict[str, str], layers: int, both: bool
) -> None:
    torch.manual_seed(3)
    theirs = getattr(torch.nn, kind.__name__)(
        3, 4, layers, bidirectional=both, dtype=torch.float64,
        **({"nonlinearity": options["activation"]} if options else {}),
    )  # fmt: skip
    with sg.config(float_dtype="float64"):
        net = kind(3, 4, layers, bidirectional=both, **options)
    peers = {}
    for name, variable in net.named_parameters():
        layer, way, own = name.split(".")
        peer = getattr(theirs, f"{NAMES[own]}_l{layer}{'_reverse' * int(way)}")
        variable.value = turned(peer.detach().numpy())
        peers[variable] = peer
    assert len(peers) == len(list(theirs.parameters()))
    count = net.CELL.STATES
    x = sg.tensor("x", (sg.dim("T"), sg.dim("B"), 3), "float64")
    starts = [
        sg.tensor(f"s{n}", (layers * net.directions, x.shape[1], 4), "float64")
        for n in range(count)
    ]
    outputs, last = net(x, tuple(starts))
    ends = list(last) if count > 1 else [last]
    weight = rng.normal(size=(5, 2, 4 * net.directions))
    loss = (outputs * weight).sum() + sum(one.sum() for one in ends)
    wanted = [x, *starts, *peers]
    feed = [rng.normal(size=(5, 2, 3)), *rng.normal(size=(count, layers * net.directions, 2, 4))]
    found = sg.function([x, *starts], [outputs, *ends, *sg.grad(loss, wanted)])(*feed)
    given = [torch.tensor(one, requires_grad=True) for one in feed]
    states = tuple(given[1:]) if count > 1 else given[1]
    expected, after = theirs(given[0], states)
    after = list(after) if count > 1 else [after]
    ((expected * torch.tensor(weight)).sum() + sum(one.sum() for one in after)).backward()
    assert_close(found[0], expected)
    for one, other in zip(found[1 : 1 + count], after, strict=True):
        assert_close(one, other)
    gradients = [one.grad for one in (*given, *peers.values())]
    for one, other in zip(found[1 + count :], gradients, strict=True):
        assert_close(turned(one), other)


def carry(net: MultiHeadAttention, theirs: Any) -> None:
    """Take the weights of PyTorch's attention."""
    net.inputs.weight.value = theirs.in_proj_weight.detach().numpy().T
    net.inputs.bias.value = theirs.in_proj_bias.detach().numpy()
    net.outputs.weight.value = theirs.out_proj.weight.detach().numpy().T
    net.outputs.bias.value = theirs.out_proj.bias.detach().numpy()


def test_attention_to_a_memory(rng: np.random.Generator) -> None:
    torch.manual_seed(3)
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)
    with sg.config(float_dtype="float64"):
        net = MultiHeadAttention(8, 2)
    carry(net, theirs)
    feed, extra = rng.normal(size=(2, 5, 8)), rng.normal(size=(2, 3, 8))
    given, memory = torch.tensor(feed), torch.tensor(extra)
    assert_close(net(feed).eval(), theirs(given, given, given)[0])
    assert_close(net(feed, memory=extra).eval(), theirs(given, memory, memory)[0])


@pytest.mark.parametrize("causal", [False, True])
def test_transformer_block(rng: np.random.Generator, causal: bool) -> None:
    torch.manual_seed(3)
    theirs = torch.nn.TransformerEncoderLayer(
        8, 2, 12, 0.0, "gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    with sg.config(float_dtype="float64"):
        net = TransformerBlock(8, 2, 12)
    carry(net.attention, theirs.self_attn)
    for norm, own in ((theirs.norm1, net.norm), (theirs.norm2, net.mlp_norm)):
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias)
        own.scale.value, own.shift.value = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    for dense, place in ((theirs.linear1, 0), (theirs.linear2, 3)):
        layer = net.mlp[place]
        layer.weight.value = dense.weight.detach().numpy().T
        layer.bias.value = dense.bias.detach().numpy()
    feed = rng.normal(size=(2, 5, 8))
    given = torch.tensor(feed, requires_grad=True)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
    expected = theirs(given, mask if causal else None)
    weight = rng.normal(size=(2, 5, 8))
    (expected * torch.tensor(weight)).sum().backward()
    x = sg.tensor("x", (sg.dim("B"), sg.dim("T"), 8), "float64")
    y = net(x, causal=causal)
    found, gradient = sg.function([x], [y, sg.grad((y * weight).sum(), x)])(feed)
    assert_close(found, expected)
    assert_close(gradient, given.grad)
