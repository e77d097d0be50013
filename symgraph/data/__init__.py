"""Images from disk to batches: prepare, open, augment, load.

`prepare` turns a folder of images into checked uint8 shards, `open_dataset` reads them as
hostile, `open_archive` reads CIFAR and MNIST as published, `digits` is a small real data set that
needs no download, `Loader` cuts any `Dataset` into augmented float32 batches in the background, by
threads or by a process of its own, with an exact cursor for resuming. An `InrSet` holds images as
small networks (`siren.py`, `inrset.py`), which `InrImages` decodes inside of a training step;
`symgraph.compression.encode` makes them.

But for `siren.py` and `inr.py`, this folder knows NumPy and arrays, not the graph: of symgraph it
imports `errors`, `io` for files, and `runtime.process` for what processes share. PIL, scikit-learn
and rich are imported late.
"""

from __future__ import annotations

from symgraph.data.archives import Archive, open_archive
from symgraph.data.augment import Augment, centre_crop, crop_mirror
from symgraph.data.dataset import Dataset
from symgraph.data.draws import crop_draws, permutation
from symgraph.data.embedded import Digits, digits
from symgraph.data.folder import Pictures, read_images
from symgraph.data.images import load_image
from symgraph.data.inr import InrImages, decode, measured, normalised
from symgraph.data.inrset import InrLayer, InrSet, open_inr, quantised
from symgraph.data.loader import Batch, Loader
from symgraph.data.pack import Report, prepare
from symgraph.data.shards import ShardedDataset, check_dataset, open_dataset
from symgraph.data.siren import Siren

__all__ = [
    "Archive",
    "Augment",
    "Batch",
    "Dataset",
    "Digits",
    "InrImages",
    "InrLayer",
    "InrSet",
    "Loader",
    "Pictures",
    "Report",
    "ShardedDataset",
    "Siren",
    "centre_crop",
    "check_dataset",
    "crop_draws",
    "crop_mirror",
    "decode",
    "digits",
    "load_image",
    "measured",
    "normalised",
    "open_archive",
    "open_dataset",
    "open_inr",
    "permutation",
    "prepare",
    "quantised",
    "read_images",
]
