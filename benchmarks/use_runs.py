"""One run of the comparison of training with generated scenes: a network that completes scans, trained and judged.

The network is of the kind of LMSCNet (Roldão et al. 2020): a U-Net of 2D convolutions that takes height as channels,
weighed cross entropy, flips as augmentation. It is smaller, as is the grid: a sixty-fourth of theirs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader
from use_data import Views

from dyncity.datasets.mixing import mixed
from dyncity.datasets.shards import OccupancyShards
from dyncity.metrics.reconstruction import class_iou, confusion, mapped, mean_iou
from dyncity.scene import UNKNOWN
from dyncity.taxonomy import CARLASC

WIDTHS = (48, 64, 96)
BLOCK = 2  # columns along a side that are one place of the U-Net: its convolutions cost a quarter
LEARNING_RATE = 4e-3
Matrix = NDArray[np.int64]


def _convolved(before: int, after: int) -> nn.Sequential:
    """A convolution that keeps the size, normalised frame by frame: no frame tells of others in its batch."""
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(4, after), nn.ReLU())


class Completion(nn.Module):
    """Scans ``[b, z, x, y]`` -> scores ``[b, k, x, y, z]`` of CarlaSC's k classes.

    Args:
        height: voxels along z.
    """

    def __init__(self, height: int) -> None:
        super().__init__()
        first, middle, last = WIDTHS
        self.down = nn.ModuleList(
            [
                _convolved(BLOCK**2 * height, first),
                nn.Sequential(_convolved(first, middle), _convolved(middle, middle)),
                nn.Sequential(_convolved(middle, last), _convolved(last, last), nn.Conv2d(last, middle, 1)),
            ]
        )
        self.up = nn.ModuleList(
            [nn.Sequential(_convolved(2 * middle, middle), nn.Conv2d(middle, first, 1)), _convolved(2 * first, first)]
        )
        # Whole columns again, beside the scan itself: a pedestrian is one column.
        self.fine = _convolved(first // BLOCK**2 + height, 32)
        self.classes = nn.Conv2d(32, len(CARLASC) * height, 1)

    def forward(self, scan: torch.Tensor) -> torch.Tensor:
        """The scores of a batch."""
        levels, flow = [], nn.functional.pixel_unshuffle(scan, BLOCK)
        for number, block in enumerate(self.down):
            flow = block(nn.functional.max_pool2d(flow, 2) if number else flow)  # [b, width, x / 2^(n+1), y / 2^(n+1)]
            levels.append(flow)
        for beside, block in zip(levels[-2::-1], self.up, strict=True):
            flow = block(torch.cat([beside, nn.functional.interpolate(flow, scale_factor=2.0)], dim=1))
        flow = self.fine(torch.cat([nn.functional.pixel_shuffle(flow, BLOCK), scan], dim=1))
        return self.classes(flow).unflatten(1, (len(CARLASC), -1)).permute(0, 1, 3, 4, 2)


def class_weights(views: Views) -> torch.Tensor:
    """``[k]`` the share of each class of the known voxels to the power of -1/4, their mean over classes 1."""
    counts = np.bincount(views.targets.reshape(-1), minlength=UNKNOWN + 1)[: len(CARLASC)]
    weights = np.maximum(counts / counts.sum(), 1e-6) ** -0.25
    return torch.tensor(weights / weights.mean(), dtype=torch.float32)


def trained(
    corpora: Sequence[OccupancyShards], ratio: Sequence[int], weights: torch.Tensor, steps: int, batch: int, seed: int
) -> Completion:
    """A network after ``steps`` steps on ``batch`` frames each, drawn from the corpora at a ratio.

    The budget is the same whatever there is to learn from: the rate rises for a tenth of the steps and falls to 0.
    """
    frames, sampler = mixed(corpora, ratio, seed=seed, batch_size=batch)
    loader = DataLoader(frames, batch_size=batch, sampler=sampler, drop_last=True)
    torch.manual_seed(seed)
    network = Completion(corpora[0].corpus.grid.shape[2]).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, fused=True)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    flips, step = np.random.default_rng(seed), 0
    while step < steps:
        for _, item in zip(range(steps - step), loader, strict=False):
            axes = [axis for axis in (2, 3) if flips.random() < 0.5]
            scan, target = item["scan"].flip(axes), item["target"].flip([axis - 1 for axis in axes])
            with torch.autocast("cpu", torch.bfloat16):
                scores = network(scan.contiguous(memory_format=torch.channels_last))
            loss = nn.functional.cross_entropy(scores.float(), target.long(), weights, ignore_index=UNKNOWN)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rate.step()
            step += 1
        sampler.set_epoch(sampler.epoch + 1)
    return network


@torch.inference_mode()
def judged(network: Completion, views: Views) -> dict[str, Matrix]:
    """Confusion of held-out frames ``[k, k]``: of all of them, and of those of scenes that turn."""
    k = len(CARLASC)
    matrices = {"all": np.zeros((k, k), np.int64), "turning": np.zeros((k, k), np.int64)}
    for number, turning in enumerate(views.turning):
        row = views.row(number)
        with torch.autocast("cpu", torch.bfloat16):
            guess = network(row["scan"][None])[0].argmax(dim=0).numpy().astype(np.uint8)
        matrix = confusion(views.targets[number], guess, k)
        matrices["all"] += matrix
        matrices["turning"] += matrix * turning
    return matrices


def figures(matrix: Matrix) -> dict[str, float]:
    """Percent: mIoU, IoU of completion (occupied or not), IoU of each class that occurs."""
    iou = dict(zip(CARLASC.classes, class_iou(matrix), strict=True))
    occupied = mapped(matrix, np.minimum(np.arange(256), 1).astype(np.uint8), 2)
    values = {"mIoU": mean_iou(matrix, CARLASC), "completion": class_iou(occupied)[1]}
    values |= {name: value for name, value in iou.items() if name != "free"}
    return {name: 100 * float(value) for name, value in values.items() if np.isfinite(value)}
