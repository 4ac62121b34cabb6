"""Photos in PyTorch: a DataLoader whose workers decode, cut and resize with Pillow."""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from benchmarks.harness.timing import say_facts, windows
from benchmarks.peers.torch_small import DEVICE, wait

BATCH, SIZE = 128, 224
threads = int(sys.argv[2])
torch.set_num_threads(threads)
root = Path(sys.argv[1]).with_suffix("")
classes = sorted(path.name for path in root.iterdir())
files = [(path, classes.index(path.parent.name)) for path in sorted(root.glob("*/*"))]


class Photos(Dataset):
    def __len__(self) -> int:
        return len(files)

    def __getitem__(self, number: int):
        path, label = files[number]
        with Image.open(path) as image:
            image.draft("RGB", (SIZE, SIZE))
            square = ImageOps.fit(image.convert("RGB"), (SIZE, SIZE), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(square).transpose(2, 0, 1)), label


loader = DataLoader(Photos(), BATCH, shuffle=True, num_workers=threads, persistent_workers=True)


def run(n: int) -> None:
    for _ in range(n):
        for x, _y in loader:
            x.to(DEVICE).float().div_(255)
    wait()


started = time.perf_counter()
checks = [0.0, 0.0]
for x, y in loader:
    checks[0] += float((x.to(DEVICE).float() / 255).sum())
    checks[1] += float(y.sum())
first = time.perf_counter() - started
say_facts(
    versions={"torch": torch.__version__},
    first_seconds=first,
    checks=checks,
    windows=windows(run, warm=(1,), count=3),
)
