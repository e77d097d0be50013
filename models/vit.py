"""Vision transformers of three sizes: Ti, S and B.

Dosovitskiy et al.: "An image is worth 16 x 16 words: transformers for image recognition at scale",
2020 (arXiv 2010.11929): patches, class token, learned positions, norms before attention and MLP;
B is the paper's. Ti and S, and decay for matrices only, are of Touvron et al.: "Training
data-efficient image transformers", 2020 (arXiv 2012.12877).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: find `models` and `symgraph` in this checkout
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import symgraph as sg
from models.common.classifier import Classifier
from models.common.commandline import (
    ModelParser,
    build_parser,
    exit_with,
    positive_int,
)
from models.common.lowrank import add_strategy_flags, with_strategy
from models.common.trainer import command
from symgraph.errors import ArgumentError
from symgraph.graph.node import Value
from symgraph.nn import Conv2d, Dense, Dropout, LayerNorm, Module, TransformerBlock, init

#        features, blocks, heads
SIZES = {
    "Ti": (192, 12, 3),
    "S":  (384, 12, 6),
    "B":  (768, 12, 12),
}  # fmt: skip
CROP, PATCH = 224, 16  # pixels, as published
SMALL_CROP, SMALL_PATCH = 28, 7  # of the digits
MAX_CROP, MAX_PATCHES, MAX_EPOCHS = 4096, 1 << 14, 1 << 30
EPSILON = 1e-6  # of the norms, as in the authors' and torchvision's code
# Pixels less their mean lie in -255 .. 255: as they are they would drown positions and blocks.
SCALE = 1 / 64


class VisionTransformer(Module):
    """Patches as words, a class token before them, blocks, and one dense layer on the class token.

    Images (B, 3, crop, crop) of pixels less their mean -> logits (B, classes). For 1,000 classes,
    images of 224 pixels and patches of 16, the sizes Ti, S and B have 5,717,416, 22,050,664 and
    86,567,656 parameters.

    Raises `ArgumentError` where the patches do not cover the image exactly, and where they are more
    than 16,384.
    """

    def __init__(
        self,
        features: int,
        blocks: int,
        heads: int,
        classes: int = 1000,
        *,
        crop: int = CROP,
        patch: int = PATCH,
        dropout: float = 0.0,
    ) -> None:
        if not 1 <= crop <= MAX_CROP or patch < 1 or crop % patch:
            raise ArgumentError(
                f"VisionTransformer: patches of {patch} must cover {crop} pixels exactly, "
                f"of which there are 1 .. {MAX_CROP}.",
                fix="choose a crop that is a multiple of the patch",
            )
        count = (crop // patch) ** 2
        if count > MAX_PATCHES:
            raise ArgumentError(
                f"VisionTransformer: {count} patches are more than {MAX_PATCHES}.",
                fix="choose larger patches",
            )
        self.features = features
        self.patches = Conv2d(3, features, patch, stride=patch, weight=init.he(1.0))
        self.token = self.parameter("token", (1, 1, features), init.ZEROS)
        self.positions = self.parameter("positions", (1, count + 1, features), init.normal(0.02))
        self.drop = Dropout(dropout)
        self.blocks = [
            TransformerBlock(features, heads, dropout=dropout, epsilon=EPSILON)
            for _ in range(blocks)
        ]
        self.norm = LayerNorm(features, epsilon=EPSILON)
        self.head = Dense(features, classes, weight=init.ZEROS)

    def forward(self, x: Any, *, train: bool = False) -> Value:
        """Images (B, 3, crop, crop) -> logits (B, classes)."""
        grid = self.patches(x * SCALE)
        words = sg.permute_dims(sg.flatten(grid, 2), (0, 2, 1))  # (B, patches, features)
        token = sg.broadcast_to(self.token, (words.shape[0], 1, self.features))
        value = sg.concat([token, words], axis=1) + self.positions
        value = self.drop(value, train=train)
        for block in self.blocks:
            value = block(value, train=train)
        # Only the class token is looked at, and a norm is of each word by itself.
        return self.head(self.norm(value[:, 0]))

    @property
    def filters(self) -> Value:
        """What a patch is multiplied by: (features, 3, patch, patch)."""
        return self.patches.weight


def optimizer(net: Module, lr: float) -> sg.optim.AdamW:
    """AdamW; matrices decay by 0.05, everything else does not, and gradients are clipped."""
    named = net.named_parameters()
    matrices = [variable for name, variable in named if name.endswith("weight")]
    others = [variable for name, variable in named if not name.endswith("weight")]
    groups = [sg.optim.Group(matrices), sg.optim.Group(others, decay=0.0)]
    return sg.optim.AdamW(groups, lr, weight_decay=0.05, clip_norm=1.0)


def classifier(
    model: str = "Ti", crop: int = CROP, patch: int = PATCH, epochs: int = 300, warmup: int = 5
) -> Classifier:
    """One of the family; the digits are enlarged to eight sevenths of `crop`, as 256 is of 224.

    The rate rises for `warmup` epochs, and falls along a cosine that ends after `epochs`.
    """
    if model not in SIZES:
        raise ArgumentError(f"vit: model must be one of {', '.join(SIZES)}, got {model!r:.40}.")
    if not 1 <= crop <= MAX_CROP or not 1 <= patch <= MAX_CROP:
        raise ArgumentError(
            f"vit: crop and patch must lie in 1 .. {MAX_CROP}, got {crop} and {patch}."
        )
    if not 1 <= warmup <= MAX_EPOCHS or not 1 <= epochs <= MAX_EPOCHS:
        raise ArgumentError(
            f"vit: epochs and warmup must lie in 1 .. {MAX_EPOCHS}, got {epochs} and {warmup}."
        )
    features, blocks, heads = SIZES[model]
    return Classifier(
        name="vit",
        crop=crop,
        build=lambda classes: VisionTransformer(
            features, blocks, heads, classes, crop=crop, patch=patch
        ),
        optimizer=optimizer,
        schedule=lambda lr: sg.optim.Warmup(sg.optim.Cosine(lr, epochs), warmup, start=0.1),
        first_layer=lambda net: net.filters,  # type: ignore[attr-defined]
        size=-(-8 * crop // 7),
        settings={
            "model": model, "crop": crop, "patch": patch, "epochs": epochs, "warmup": warmup,
        },
        variant=classifier,
    )  # fmt: skip


MODEL = with_strategy(classifier())

NOTES = """\
without --data the images are the 1,797 handwritten digits that ship with scikit-learn, enlarged to
32 x 32 and cropped to 28 x 28, in 16 patches of 7 x 7.
prepare images of your own (a folder for each class) with
  python -m symgraph data prepare PHOTOS prepared/photos
the rate falls to zero over --epochs: another number of them is another course from the beginning.
transformers know nothing of images before they have seen many: from ImageNet alone, size S takes
--epochs 300 --batch 1024 --learning-rate 0.001 and more augmentation than there is here.
"""


def make_parser() -> ModelParser:
    """Make the command line."""
    parser = build_parser("vit", "Train a vision transformer, as published in 2020.", NOTES)
    add = parser.add_model_argument
    add("--model", choices=tuple(SIZES), default="Ti", help="the size")
    add(
        "--crop", type=positive_int, metavar="N",
        help=f"side of the network's input, cut from larger images (default: {SMALL_CROP} for the "
        f"digits, else {CROP})",
    )  # fmt: skip
    add(
        "--patch", type=positive_int, metavar="N",
        help=f"side of a patch, of which the crop is a multiple (default: {SMALL_PATCH} for the "
        f"digits, else {PATCH})",
    )  # fmt: skip
    add(
        "--warmup", type=positive_int, default=3, metavar="N",
        help="epochs in which the rate rises",
    )  # fmt: skip
    add_strategy_flags(parser)
    parser.train.set_defaults(epochs=20, batch=16, learning_rate=0.0005)
    return parser


def settle(chosen: argparse.Namespace) -> None:
    """Choose the crop and the patch that suit the images, where not given."""
    small = chosen.data == "digits"
    if chosen.crop is None:
        chosen.crop = SMALL_CROP if small else CROP
    if chosen.patch is None:
        chosen.patch = SMALL_PATCH if small else PATCH


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    return command(MODEL, make_parser().parse_args(arguments), settle)


if __name__ == "__main__":
    exit_with(main)
