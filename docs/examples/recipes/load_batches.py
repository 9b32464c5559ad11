"""A DataLoader with workers over a file too large for memory: each worker maps it, and makes each tensor in one pass."""

import tempfile
from pathlib import Path

import numpy as np
import torch

import freehold as fh

SHAPE = (8, 4, 6, 3)  # images as cameras give them: height, width, channels, in bytes


class Images(torch.utils.data.Dataset):
    def __init__(self, path):
        self.path, self.images = path, None

    def __len__(self):
        return SHAPE[0]

    def __getitem__(self, index):
        if self.images is None:  # mapped where it is read: a mapping that is sent to a worker arrives as a copy
            self.images = np.memmap(self.path, dtype="uint8", mode="r", shape=SHAPE)
        # Channels first, as float32, out of read-only memory: one pass and no temporary.
        return fh.convert(self.images[index].transpose(2, 0, 1), "torch", dtype="float32", order="C")


if __name__ == "__main__":
    path = Path(tempfile.mkdtemp()) / "images.raw"
    np.arange(np.prod(SHAPE), dtype="uint8").tofile(path)
    mapped = np.memmap(path, dtype="uint8", mode="r", shape=SHAPE)
    plan = fh.plan(mapped[0].transpose(2, 0, 1), "torch", dtype="float32", order="C")
    print(plan.verdict, plan.steps, plan.bytes_copied)
    # >> copy ('layout', 'cast') 288

    mark = fh.ledger.mark()
    loader = torch.utils.data.DataLoader(Images(path), batch_size=4, num_workers=2)
    for batch in loader:
        print(batch.dtype, tuple(batch.shape), batch.is_contiguous())
    # >> torch.float32 (4, 3, 4, 6) True
    # >> torch.float32 (4, 3, 4, 6) True
    print(torch.equal(batch[0], torch.tensor(mapped[4].transpose(2, 0, 1).astype("float32"))))
    # >> True

    # A worker has a ledger of its own, which starts empty; nothing of theirs is open here.
    print(fh.ledger.leaks(since=mark))
    # >> []
