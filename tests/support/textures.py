"""Small parts that a method can learn: waves with a little noise, and a planted defect."""

import torch

from uipad_cli.records import Batch

SIZE = 112


def texture(seed):
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    waves = 0.5 + 0.2 * torch.sin(rows / 4) + 0.2 * torch.cos(columns / 5)
    return (waves + 0.02 * torch.randn(3, SIZE, SIZE, generator=generator)).clamp(0, 1)


def batch(seeds, *, planted=False, known=None):
    rgb = torch.stack([texture(seed) for seed in seeds])
    geometry = torch.stack([texture(seed + 100).mean(0, keepdim=True).expand(3, -1, -1) for seed in seeds]).clone()
    if planted:
        for image in (rgb, geometry):
            image[:, :, 70:98, 14:42] = (torch.arange(28) % 2).float()
    return Batch(rgb, geometry, torch.ones(len(seeds), SIZE, SIZE, dtype=torch.bool), known)
