"""The judge: names the material at every fourth pixel. It measures mini, and helps to train the VAE."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from .data import Pictures
from .materials import MATERIALS
from .run import Run

FILE = "classifier.safetensors"
SHIPPED = Path(__file__).with_name("judge.safetensors")
_CROP = 128
_BATCH = 24


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU())


class Classifier(nn.Module):
    """rgb (n, 3, h, w) in -1..1 -> logits (n, materials + 1, h / 4, w / 4); the last class is background."""

    def __init__(self) -> None:
        super().__init__()
        widths = (16, 32, 64, 96)
        self.stages = nn.ModuleList(
            nn.Sequential(_convolution(before, width, 1 if before == 3 else 2), _convolution(width, width))
            for before, width in zip((3, *widths), widths, strict=False)
        )
        self.join = _convolution(widths[2] + widths[3], 96)
        self.out = nn.Conv2d(96, len(MATERIALS) + 1, 1)

    def features(self, rgb: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for stage in self.stages:
            rgb = stage(rgb)
            found.append(rgb)
        return found

    def forward(self, rgb: torch.Tensor) -> torch.Tensor:
        *_, fine, coarse = self.features(rgb)
        return self.out(self.join(torch.cat([fine, F.interpolate(coarse, size=fine.shape[-2:])], 1)))


def to_tensor(rgb: list[np.ndarray], device: torch.device) -> torch.Tensor:
    """Pictures (h, w, 3) uint8 as one tensor (n, 3, h, w) in -1..1."""
    pixels = torch.from_numpy(np.stack(rgb)).to(device)
    return (pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def crops(
    pictures: Pictures, names: tuple[str, ...], indices: np.ndarray, size: int, rng: np.random.Generator
) -> list[list[np.ndarray]]:
    """The same random square of every named array, for each picture."""
    corners = rng.integers(0, 256 - size + 1, (len(indices), 2))
    return [
        [a[y : y + size, x : x + size] for a, (y, x) in zip(pictures.get(name, indices), corners, strict=True)]
        for name in names
    ]


def train(run: Run, samples: int) -> None:
    """Train the classifier; leaves it in run.folder."""
    pictures = Pictures.training(run.folder / "data")
    model = Classifier().to(run.device, memory_format=torch.channels_last)
    trainer = run.trainer("classifier", model, samples, rate=3e-3, orthogonal=True)
    for rng in trainer.steps(_BATCH):
        indices = np.sort(rng.integers(len(pictures), size=_BATCH))
        rgb, material = crops(pictures, ("rgb", "material"), indices, _CROP, rng)
        x = to_tensor(rgb, run.device)
        if rng.random() < 0.4:  # generated pictures are softer, noisier, and off in brightness
            x = F.avg_pool2d(x, 3, 1, 1)
        x = x * rng.uniform(0.85, 1.1) + rng.uniform(-0.1, 0.1) + torch.randn_like(x) * rng.uniform(0, 0.08)
        truth = torch.from_numpy(np.stack(material)).to(run.device)[:, 2::4, 2::4].long()
        with run.autocast():
            logits = model(x)
        loss = F.cross_entropy(logits.float(), truth)
        trainer.learn(loss, right=(logits.argmax(1) == truth).float().mean().item())
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, run.folder / FILE)


def load(run: Run) -> Classifier:
    model = Classifier()
    model.load_state_dict(load_file(run.folder / FILE))
    return model.to(run.device).eval().requires_grad_(False)


def shipped() -> Classifier:
    """The trained judge that lies beside this file."""
    model = Classifier()
    model.load_state_dict({name: weight.float() for name, weight in load_file(SHIPPED).items()})
    return model.eval().requires_grad_(False)


def name_materials(model: Classifier, rgb: list[np.ndarray], masks: list[np.ndarray]) -> list[np.ndarray]:
    """For each picture, its material numbers, likeliest first, judged inside its mask (h, w)."""
    ranks = []
    device = next(model.parameters()).device
    with torch.no_grad():
        for picture, mask in zip(rgb, masks, strict=True):
            chances = model(to_tensor([picture], device))[0, : len(MATERIALS)].log_softmax(0).cpu().numpy()
            ranks.append(chances[:, mask[2::4, 2::4]].mean(1).argsort()[::-1])
    return ranks
