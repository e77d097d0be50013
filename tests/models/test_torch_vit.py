"""The vision transformer with PyTorch's weights carried over: logits and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from models.vit import SCALE, SIZES, VisionTransformer

torch = pytest.importorskip("torch")
nn = torch.nn

FEATURES, BLOCKS, HEADS, CLASSES, CROP, PATCH = 12, 2, 3, 5, 8, 4


class TorchVit(nn.Module):
    """The paper's network of PyTorch's own encoder layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_proj = nn.Conv2d(3, FEATURES, PATCH, PATCH)
        self.class_token = nn.Parameter(torch.zeros(1, 1, FEATURES))
        self.positions = nn.Parameter(torch.zeros(1, (CROP // PATCH) ** 2 + 1, FEATURES))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                FEATURES, HEADS, 4 * FEATURES, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True
            )
            for _ in range(BLOCKS)
        )
        self.ln, self.head = nn.LayerNorm(FEATURES, 1e-6), nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Any) -> Any:
        """Images to logits."""
        words = self.conv_proj(x).flatten(2).transpose(1, 2)
        value = torch.cat([self.class_token.expand(len(x), -1, -1), words], 1) + self.positions
        for layer in self.layers:
            value = layer(value)
        return self.head(self.ln(value)[:, 0])


def torch_pairs(net: Any) -> dict[str, Any]:
    """Name the parameters of `TorchVit` as ours are named."""
    pairs = {"token": net.class_token, "positions": net.positions}
    pairs |= dense("patches", net.conv_proj) | norm("norm", net.ln) | dense("head", net.head)
    for number, layer in enumerate(net.layers):
        place = f"blocks.{number}"
        pairs |= norm(f"{place}.norm", layer.norm1) | norm(f"{place}.mlp_norm", layer.norm2)
        pairs |= attention(f"{place}.attention", layer.self_attn)
        pairs |= dense(f"{place}.mlp.0", layer.linear1) | dense(f"{place}.mlp.3", layer.linear2)
    return pairs


def torchvision_pairs(net: Any) -> dict[str, Any]:
    """Name the parameters of torchvision's as ours are named."""
    pairs = {"token": net.class_token, "positions": net.encoder.pos_embedding}
    pairs |= dense("patches", net.conv_proj) | norm("norm", net.encoder.ln)
    pairs |= dense("head", net.heads.head)
    for number, layer in enumerate(net.encoder.layers):
        place = f"blocks.{number}"
        pairs |= norm(f"{place}.norm", layer.ln_1) | norm(f"{place}.mlp_norm", layer.ln_2)
        pairs |= attention(f"{place}.attention", layer.self_attention)
        pairs |= dense(f"{place}.mlp.0", layer.mlp[0]) | dense(f"{place}.mlp.3", layer.mlp[3])
    return pairs


def dense(place: str, layer: Any) -> dict[str, Any]:
    return {f"{place}.weight": layer.weight, f"{place}.bias": layer.bias}


def norm(place: str, layer: Any) -> dict[str, Any]:
    return {f"{place}.scale": layer.weight, f"{place}.shift": layer.bias}


def attention(place: str, layer: Any) -> dict[str, Any]:
    own = dense(f"{place}.outputs", layer.out_proj)
    return {
        f"{place}.inputs.weight": layer.in_proj_weight,
        f"{place}.inputs.bias": layer.in_proj_bias,
        **own,
    }


def turned(array: np.ndarray) -> np.ndarray:
    """Turn matrices, which the two keep the other way round."""
    return array.T if array.ndim == 2 else array


def assert_same(theirs: Any, pairs: dict[str, Any], rng: np.random.Generator) -> None:
    """Fail unless logits, loss and every gradient are the same with random weights."""
    theirs = theirs.double().train()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, 0.0, 0.3)
    with sg.config(float_dtype="float64"):
        net = VisionTransformer(FEATURES, BLOCKS, HEADS, CLASSES, crop=CROP, patch=PATCH)
        x = sg.tensor("x", (sg.dim("B"), 3, CROP, CROP))
    named = dict(net.named_parameters())
    assert named.keys() == pairs.keys()
    for name, variable in named.items():
        variable.value = turned(pairs[name].detach().numpy())
    labels, feed = np.array([1, 4, 0]), rng.normal(0, 60, (3, 3, CROP, CROP))
    logits = net(x, train=True)
    loss = sg.nn.cross_entropy(logits, labels).mean()
    found, *gradients = sg.function([x], [logits, *sg.grad(loss, list(named.values()))])(feed)
    expected = theirs(torch.tensor(feed * SCALE))
    nn.functional.cross_entropy(expected, torch.tensor(labels)).backward()
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-9, atol=1e-10)
    for name, gradient in zip(named, gradients, strict=True):
        other = pairs[name].grad.numpy()
        np.testing.assert_allclose(turned(gradient), other, rtol=1e-7, atol=1e-10, err_msg=name)


def test_against_layers_of_pytorch(rng: np.random.Generator) -> None:
    torch.manual_seed(4)
    theirs = TorchVit()
    assert_same(theirs, torch_pairs(theirs.double()), rng)


def test_against_torchvision(rng: np.random.Generator) -> None:
    vision = pytest.importorskip("torchvision.models.vision_transformer")
    torch.manual_seed(4)
    theirs = vision.VisionTransformer(
        CROP, PATCH, BLOCKS, HEADS, FEATURES, 4 * FEATURES, num_classes=CLASSES
    )
    assert_same(theirs, torchvision_pairs(theirs.double()), rng)


def test_size_b_is_torchvisions() -> None:
    vision = pytest.importorskip("torchvision.models.vision_transformer")
    with torch.device("meta"):
        theirs = vision.vit_b_16()
    shapes = {n: tuple(p.shape[::-1] if p.ndim == 2 else p.shape)
              for n, p in torchvision_pairs(theirs).items()}  # fmt: skip
    own = VisionTransformer(*SIZES["B"]).named_parameters()
    assert {name: tuple(map(int, variable.shape)) for name, variable in own} == shapes
