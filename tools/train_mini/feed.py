"""Training batches for the diffusion parts, from the pictures' shards. New shards are taken up as they are rendered."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from .autoencoder import latents_of
from .data import CAPTIONS
from .run import Run

SHARDS_A_BATCH = 4
LATENT_SIDE = 32

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Stage:
    """One stretch of a part's training, up to a share of its samples."""

    until: float
    crop: int  # side of the square that is learned, in latent pixels of 32
    batch: int
    kinds: tuple[str, ...]
    rich: float  # share of captions with synonyms and filler words


class Shard:
    """A folder of pictures: on a GPU, in its memory; on the CPU, mapped from the disk."""

    def __init__(self, folder: Path, vae: AutoencoderKL, run: Run) -> None:
        latents_of(folder, vae, run)
        names = ("latents", "normal", "depth", "edge", "tokens", "mask")
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in names}
        self.arrays = {name: torch.from_numpy(array).to(run.device) for name, array in arrays.items()}
        self.masks = arrays["mask"]
        self.kinds = np.load(folder / "kind.npy")
        self._of: dict[tuple[str, ...], np.ndarray] = {}

    def of(self, kinds: tuple[str, ...]) -> np.ndarray:
        """Indices of the pictures whose scene is of one of the kinds; of all pictures if there are none."""
        if kinds not in self._of:
            found = np.flatnonzero(np.isin(self.kinds, kinds))
            self._of[kinds] = found if len(found) else np.arange(len(self.kinds))
        return self._of[kinds]

    def corner(self, i: int, crop: int, rng: np.random.Generator) -> tuple[int, int]:
        """Upper left of a crop with some of an object near its middle."""
        shown = np.flatnonzero(self.masks[i] > 0.5)
        y, x = divmod(int(rng.choice(shown)) if len(shown) else LATENT_SIDE**2 // 2, LATENT_SIDE)
        limit = LATENT_SIDE - crop
        return tuple(int(np.clip(at - rng.integers(crop // 4, 3 * crop // 4 + 1), 0, limit)) for at in (y, x))

    def take(self, indices: np.ndarray, control: str, crop: int, rich: float, rng: np.random.Generator) -> Batch:
        """latents (n, 4, c, c), mask (n, c, c), hint (n, 8 c, 8 c[, 3]) uint8, ids (n, 32), for c = crop."""
        device = self.arrays["latents"].device
        at = torch.from_numpy(indices).to(device)
        variants = rng.integers(CAPTIONS, size=len(indices)) + CAPTIONS * (rng.random(len(indices)) < rich)
        whole = {
            "latents": self.arrays["latents"][at],
            "mask": self.arrays["mask"][at],
            "hint": self.arrays[control][at],
            "ids": self.arrays["tokens"][at, torch.from_numpy(variants).to(device)].long(),
        }
        if crop == LATENT_SIDE:
            return whole
        corners = [self.corner(i, crop, rng) for i in indices]

        def cut(name: str, unit: int) -> torch.Tensor:
            side = crop * unit
            latents = name == "latents"
            return torch.stack(
                [
                    picture[..., y * unit : y * unit + side, x * unit : x * unit + side]
                    if latents
                    else picture[y * unit : y * unit + side, x * unit : x * unit + side]
                    for picture, (y, x) in zip(whole[name], corners, strict=True)
                ]
            )

        return {**whole, "latents": cut("latents", 1), "mask": cut("mask", 1), "hint": cut("hint", 8)}


class Feed:
    """Makes batches from all shards that lie in a folder."""

    def __init__(self, run: Run, pattern: str) -> None:
        self.run, self.pattern = run, pattern
        self.shards: dict[Path, Shard] = {}
        self.refresh()

    @cached_property
    def _vae(self) -> AutoencoderKL:
        vae = AutoencoderKL.from_pretrained(self.run.folder / "vae")
        return vae.to(self.run.device, memory_format=torch.channels_last)

    def refresh(self) -> None:
        """Take up shards that have been rendered since."""
        for folder in sorted((self.run.folder / "data").glob(self.pattern)):
            if folder not in self.shards and folder.suffix != ".part":
                self.shards[folder] = Shard(folder, self._vae, self.run)

    def batch(self, stage: Stage, control: str, rng: np.random.Generator) -> Batch:
        """x0 (n, 4, c, c), weight (n, 1, c, c), hint (n, 3, 8 c, 8 c), ids (n, 32)."""
        size = stage.batch * self.run.batch_scale
        parts = []
        for part in np.array_split(np.arange(size), min(SHARDS_A_BATCH, size)):
            shard = self._shard(rng)
            parts.append(shard.take(rng.choice(shard.of(stage.kinds), len(part)), control, stage.crop, stage.rich, rng))
        return self._finished({name: torch.cat([part[name] for part in parts]) for name in parts[0]}, control, rng)

    def first(self, count: int, kinds: tuple[str, ...], control: str) -> Batch:
        """Always the same whole pictures, for measuring."""
        rng, shard = np.random.default_rng(0), next(iter(self.shards.values()))
        return self._finished(shard.take(shard.of(kinds)[:count], control, LATENT_SIDE, 0.0, rng), "", rng)

    def _shard(self, rng: np.random.Generator) -> Shard:
        return list(self.shards.values())[int(rng.integers(len(self.shards)))]

    def _finished(self, raw: Batch, control: str, rng: np.random.Generator) -> Batch:
        hint = raw["hint"]
        hint = hint.permute(0, 3, 1, 2) if hint.ndim == 4 else hint[:, None]
        if control == "edge":  # other programs' lines are softer or wider
            wide = torch.maximum(hint, hint.roll(1, 2 + int(rng.integers(2))))
            soft = wide // 2 + hint // 2
            way = torch.from_numpy(rng.choice(3, size=len(hint), p=(0.5, 0.25, 0.25))).to(hint.device)
            way = way.view(-1, 1, 1, 1)
            hint = torch.where(way == 0, hint, torch.where(way == 1, wide, soft))
        hint = (hint.float() / 255).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        # Objects are a smaller part of most pictures than of what one cares about.
        weight = 0.5 + 0.5 * raw["mask"].float()[:, None]
        return {"x0": raw["latents"].float(), "weight": weight / weight.mean(), "hint": hint, "ids": raw["ids"]}
