"""What users of PyTorch do with a folder of JPEG files: a Dataset that decodes, and a DataLoader.

Two ways to make an image: by Pillow, as torchvision's ImageFolder with the classic transforms does
(written out here, so that torchvision is not needed), and by torchvision's decode_jpeg with its
second transforms on tensors of bytes, where torchvision is installed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from peers import installed, load

torch = load("torch")

SIZE, CROP = 256, 227
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#                                            maker     workers  persistent  prefetch
SETTINGS = {
    "torch Pillow, 1 worker":               ("pillow",       1, True,              2),
    "torch Pillow, 2 workers, prefetch 4":  ("pillow",       2, True,              4),
    "torch Pillow, 2 new workers an epoch": ("pillow",       2, False,             2),
    "torch decode_jpeg, 1 worker":          ("tensors",      1, True,              2),
    "torch decode_jpeg, 2 workers":         ("tensors",      2, True,              4),
}  # fmt: skip


class Pillow:
    """Decode and resize by Pillow, crop and mirror there, then a tensor in 0 .. 1, normalised."""

    def __init__(self, size: int, crop: int) -> None:
        self.size, self.crop = size, crop
        self.mean = torch.tensor(MEAN).view(3, 1, 1)
        self.std = torch.tensor(STD).view(3, 1, 1)

    def pixels(self, path: str) -> Any:
        """Give an image as Pillow's, of side `size`."""
        from PIL import Image

        with Image.open(path) as image:
            return image.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)

    def centre(self, path: str) -> Any:
        """Give the middle of an image as bytes (3, crop, crop): what is checked."""
        at, crop = (self.size - self.crop) // 2, self.crop
        cut = self.pixels(path).crop((at, at, at + crop, at + crop))
        return np.asarray(cut).transpose(2, 0, 1)

    def make(self, path: str) -> Any:
        """Give an image to train with."""
        from PIL import Image

        crop = self.crop
        top, left = torch.randint(0, self.size - crop + 1, (2,)).tolist()
        image = self.pixels(path).crop((left, top, left + crop, top + crop))
        if torch.rand(1) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        bytes_ = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        return bytes_.to(torch.float32).div_(255).sub_(self.mean).div_(self.std)


class Tensors:
    """torchvision on tensors of bytes; nothing becomes a float before it was cropped."""

    def __init__(self, size: int, crop: int) -> None:
        from torchvision.transforms import v2

        self.size, self.crop = size, crop
        self.resize = v2.Resize((size, size), antialias=True)
        self.rest = v2.Compose(
            [
                v2.RandomCrop(crop),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    def pixels(self, path: str) -> Any:
        """Give an image as bytes (3, size, size)."""
        from torchvision.io import ImageReadMode, decode_jpeg, read_file

        return self.resize(decode_jpeg(read_file(path), mode=ImageReadMode.RGB))

    def centre(self, path: str) -> Any:
        """Give the middle of an image as bytes (3, crop, crop): what is checked."""
        at, crop = (self.size - self.crop) // 2, self.crop
        return self.pixels(path)[:, at : at + crop, at : at + crop].numpy()

    def make(self, path: str) -> Any:
        """Give an image to train with."""
        return self.rest(self.pixels(path))


class Folder(torch.utils.data.Dataset):  # type: ignore[misc]
    """The files of a folder with their labels."""

    def __init__(self, files: Sequence[tuple[str, int]], maker: str, size: int, crop: int) -> None:
        self.files = list(files)
        self.maker = (Pillow if maker == "pillow" else Tensors)(size, crop)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        path, label = self.files[index]
        return self.maker.make(path), label


def settings() -> list[str]:
    """Name the settings that can run here."""
    usable = ("pillow", *(["tensors"] if installed("torchvision") else []))
    return [name for name, (maker, *_) in SETTINGS.items() if maker in usable]


class Loading:
    """A DataLoader with one of the settings; `epoch` goes through all images once."""

    def __init__(
        self, name: str, root: Path, files: Sequence[tuple[str, int]], batch: int,
        size: int = SIZE, crop: int = CROP,
    ) -> None:  # fmt: skip
        maker, workers, persistent, prefetch = SETTINGS[name]
        self.files = [(str(root / file), label) for file, label in files]
        self.folder = Folder(self.files, maker, size, crop)
        self.loader = torch.utils.data.DataLoader(
            self.folder, batch, shuffle=True, num_workers=workers,
            persistent_workers=persistent, prefetch_factor=prefetch,
        )  # fmt: skip

    def epoch(self) -> Iterator[Any]:
        """Give the batches of an epoch."""
        yield from self.loader

    def centres(self, count: int) -> Any:
        """Give the middles of the first files."""
        return np.stack([self.folder.maker.centre(path) for path, _ in self.files[:count]])

    def close(self) -> None:
        """End the workers."""
        self.loader = None
