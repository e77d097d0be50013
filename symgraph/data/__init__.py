"""Images from disk to batches: prepare, open, augment, load.

`prepare` turns a folder of images into checked uint8 shards, `open_dataset` reads them as
hostile, `open_archive` reads CIFAR and MNIST as published, `digits` is a small real data set that
needs no download, `Loader` cuts any `Dataset` into augmented float32 batches in the background, by
threads or by a process of its own, with an exact cursor for resuming.

This folder knows NumPy and arrays, not the graph: of symgraph it imports `errors`, and
`runtime.process` for what processes share. PIL, scikit-learn and rich are imported late.
"""

from __future__ import annotations

from symgraph.data.archives import Archive, open_archive
from symgraph.data.augment import Augment, centre_crop, crop_mirror
from symgraph.data.dataset import Dataset
from symgraph.data.draws import crop_draws, permutation
from symgraph.data.embedded import Digits, digits
from symgraph.data.images import load_image
from symgraph.data.loader import Batch, Loader
from symgraph.data.pack import Report, prepare
from symgraph.data.shards import ShardedDataset, check_dataset, open_dataset

__all__ = [
    "Archive",
    "Augment",
    "Batch",
    "Dataset",
    "Digits",
    "Loader",
    "Report",
    "ShardedDataset",
    "centre_crop",
    "check_dataset",
    "crop_draws",
    "crop_mirror",
    "digits",
    "load_image",
    "open_archive",
    "open_dataset",
    "permutation",
    "prepare",
]
