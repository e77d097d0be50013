"""Which image files a source folder holds: classes, splits and their fixed order.

One sub-folder is one class. A source with `train/` (and `val/` or `validation/`) folders of
classes keeps its splits; any other is split by class, by seed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from symgraph.data.draws import FILE_STREAM, SPLIT_STREAM, permutation
from symgraph.data.images import SUFFIXES
from symgraph.data.npy import shown
from symgraph.errors import ArgumentError, DataError, DataMissingError
from symgraph.frozen import frozen

DEFAULT_VALIDATION = 0.1
_VALIDATION_FOLDERS = ("val", "validation")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image of the source: its name relative to the source and its label."""

    name: str
    label: int


@frozen
class Skipped:
    """A file that looked like an image but is not in the data set, and why."""

    file: str
    reason: str


@dataclass
class Listing:
    """All files of a source, each split in the order in which it will be stored."""

    root: Path
    classes: list[str] = field(default_factory=list)
    splits: dict[str, list[ImageFile]] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder that are not hidden, in the order of their names."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{shown(folder)} cannot be listed: {error.strerror}.") from error
    return sorted(visible, key=lambda entry: entry.name)


def _refuse_link(entry: os.DirEntry[str], root: Path) -> None:
    """Raise `DataError` for a link that leaves the source, or that could make a walk loop."""
    target = os.path.realpath(entry.path)
    if os.path.commonpath([target, root]) != str(root):
        raise DataError(
            f"{shown(entry.path)} is a symbolic link that leaves the source folder.",
            details=[f"source : {shown(root)}", f"link to: {shown(target)}"],
            fix="replace the link by the files, or prepare the folder that it points to",
        )
    if os.path.isdir(target):
        raise DataError(
            f"{shown(entry.path)} is a symbolic link to a folder, which is not followed.",
            fix="replace the link by the folder",
        )


def _folders(folder: Path, listing: Listing) -> list[str]:
    """Return the names of the sub-folders; other entries are noted as ignored."""
    names = []
    for entry in _entries(folder):
        if entry.is_symlink():
            _refuse_link(entry, listing.root)
        if entry.is_dir(follow_symlinks=False):
            names.append(entry.name)
        else:
            listing.ignored.append(shown(os.path.relpath(entry.path, listing.root)))
    return names


def _walk(folder: Path, listing: Listing) -> Iterator[str]:
    """Yield the image files below a folder, relative to the source, in the order of their names."""
    waiting = [folder]
    while waiting:
        deeper = []
        for entry in _entries(waiting.pop()):
            name = os.path.relpath(entry.path, listing.root)
            if entry.is_symlink():
                _refuse_link(entry, listing.root)
            if entry.is_dir(follow_symlinks=False):
                deeper.append(Path(entry.path))
            elif not entry.name.lower().endswith(SUFFIXES):
                listing.ignored.append(shown(name))
            elif reason := _not_regular(entry):
                listing.skipped.append(Skipped(shown(name), reason))
            else:
                yield name
        waiting.extend(reversed(deeper))


def _not_regular(entry: os.DirEntry[str]) -> str:
    """Return why a file cannot be opened safely; empty where it can."""
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if stat.S_ISREG(mode) else "is not a regular file"


def _class_files(listing: Listing, folder: Path, names: list[str]) -> dict[str, list[str]]:
    """Return the image files of each class folder."""
    return {name: sorted(_walk(folder / name, listing)) for name in names}


def _split_counts(count: int, fraction: float) -> int:
    """Return how many of a class's images are for validation: one at least, but never all."""
    if fraction == 0 or count < 2:
        return 0
    return min(max(int(count * fraction + 0.5), 1), count - 1)


def _stratified(
    files: dict[str, list[str]], fraction: float, seed: int
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Split each class's files by seed into (train, validation)."""
    train, validation = {}, {}
    for label, (name, members) in enumerate(files.items()):
        order = permutation(len(members), seed, label, SPLIT_STREAM).tolist()
        cut = _split_counts(len(members), fraction)
        validation[name] = sorted(members[i] for i in order[:cut])
        train[name] = sorted(members[i] for i in order[cut:])
    return train, validation


def _shuffled(files: dict[str, list[str]], classes: list[str], seed: int) -> list[ImageFile]:
    """Return one split's files in the order in which they are stored: shuffled once, by seed."""
    labels = {name: label for label, name in enumerate(classes)}
    flat = [ImageFile(file, labels[name]) for name in sorted(files) for file in files[name]]
    return [flat[i] for i in permutation(len(flat), seed, 0, FILE_STREAM).tolist()]


def _validation_folder(root: Path, top: list[str]) -> str | None:
    """Return the name of the source's validation folder, if it has one."""
    found = [name for name in _VALIDATION_FOLDERS if name in top]
    if len(found) > 1:
        raise DataError(f"{shown(root)} has both val/ and validation/; one of them must go.")
    return found[0] if found else None


def _given_splits(
    listing: Listing, top: list[str], fraction: float | None, seed: int
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Read a source that has a `train/` folder of classes."""
    root = listing.root
    folder = _validation_folder(root, top)
    listing.ignored += [f"{shown(name)}/" for name in top if name not in ("train", folder)]
    listing.classes = _folders(root / "train", listing)
    train = _class_files(listing, root / "train", listing.classes)
    if folder is None:
        return _stratified(train, DEFAULT_VALIDATION if fraction is None else fraction, seed)
    if fraction is not None:
        raise ArgumentError(
            f"{shown(root)} has its own {folder}/ folder; validation={fraction} cannot be used.",
            fix=f"leave validation out, or prepare {shown(root / 'train')} alone",
        )
    names = _folders(root / folder, listing)
    unknown = [shown(name) for name in names if name not in train]
    if unknown:
        raise DataError(
            f"{folder}/ has classes that train/ does not have: {', '.join(unknown[:5])}."
        )
    return train, _class_files(listing, root / folder, names)


def list_source(source: str | os.PathLike[str], validation: float | None, seed: int) -> Listing:
    """Return the classes and the shuffled image files of each split of a source folder.

    Raises `DataMissingError` where there is no such folder and `DataError` for one without
    classes, with a class without images, or with links that leave it.
    """
    root = Path(os.path.realpath(source))
    if not root.exists():
        raise DataMissingError(f"The source folder {shown(root)} does not exist.")
    if not root.is_dir():
        raise DataError(f"The source {shown(root)} is not a folder.")
    if validation is not None and not 0 <= validation < 1:
        raise ArgumentError(f"validation must be a fraction in [0, 1), got {validation!r}.")
    listing = Listing(root)
    top = _folders(root, listing)
    if "train" in top and any(
        entry.is_dir(follow_symlinks=False) for entry in _entries(root / "train")
    ):
        train, held_out = _given_splits(listing, top, validation, seed)
    else:
        listing.classes = top
        files = _class_files(listing, root, top)
        fraction = DEFAULT_VALIDATION if validation is None else validation
        train, held_out = _stratified(files, fraction, seed)
    if not listing.classes:
        raise DataError(
            f"{shown(root)} has no class folders.",
            fix="put the images of each class into a folder of its own, named after the class",
        )
    empty = [shown(name) for name in listing.classes if not train[name]]
    if empty:
        raise DataError(
            f"{shown(root)}: {len(empty)} classes have no images to train on: "
            f"{', '.join(empty[:5])}.",
            fix="remove these folders, or put images into them",
        )
    listing.splits["train"] = _shuffled(train, listing.classes, seed)
    if any(held_out.values()):
        listing.splits["validation"] = _shuffled(held_out, listing.classes, seed)
    return listing


def list_images(source: str | os.PathLike[str]) -> Listing:
    """Return all images of a folder in the order of their names, as its only split "all".

    Sub-folders are classes; images that lie in the folder itself are of one class, its name.
    Raises `DataMissingError` where there is no such folder, and `DataError` for one without images,
    with both sub-folders and images, or with links that leave it.
    """
    root = Path(os.path.realpath(source))
    if not root.exists():
        raise DataMissingError(f"The folder {shown(root)} does not exist.")
    if not root.is_dir():
        raise DataError(f"{shown(root)} is not a folder.")
    listing = Listing(root)
    top = _folders(root, listing)
    loose = [name for name in listing.ignored if name.lower().endswith(SUFFIXES)]
    if top and loose:
        raise DataError(
            f"{shown(root)} holds folders and images: {top[0]!r:.60}, {loose[0]!r:.60}.",
            fix="put every image into the folder of its class",
        )
    listing.classes = top or [root.name]
    listing.ignored.clear()
    files = _class_files(listing, root, top) if top else {root.name: sorted(_walk(root, listing))}
    listing.splits["all"] = [
        ImageFile(name, label) for label, names in enumerate(files.values()) for name in names
    ]
    if not listing.splits["all"]:
        raise DataError(
            f"{shown(root)} holds no images.",
            fix=f"put files into it that end in {', '.join(SUFFIXES[:5])}",
        )
    return listing
