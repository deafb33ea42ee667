"""The training pictures: rendered in shards of 500, each a folder of arrays that can be memory-mapped.

A shard is written under another name and renamed when whole, so a stopped run leaves no half shards and
training can begin on the first ones while more are made.
"""

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from . import hints, scenes
from .materials import BACKGROUND
from .render import render
from .scenes import Content

SHARD = 500
SIDE = 256
KINDS = (scenes.PLAIN, scenes.FLOOR, scenes.TWO)
KIND_SHARES = (0.6, 0.22, 0.18)
HELD_OUT_SEED = 900_000_000  # scenes from here on are never trained on


def make_shard(folder: Path, first_seed: int, size: int = SHARD) -> None:
    """Render `size` scenes with the seeds from first_seed on into the folder."""
    temporary = folder.with_name(folder.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    kinds = np.random.default_rng(first_seed).choice(KINDS, size=size, p=KIND_SHARES)
    names = {"rgb": (3,), "normal": (3,), "depth": (), "edge": (), "material": ()}
    arrays = {
        name: np.lib.format.open_memmap(temporary / f"{name}.npy", "w+", np.uint8, (size, SIDE, SIDE, *more))
        for name, more in names.items()
    }
    contents: list[dict] = []
    for start in range(0, size, 50):
        seeds = list(range(first_seed + start, first_seed + min(start + 50, size)))
        views, tables, counts, found = scenes.scenes(seeds, [str(k) for k in kinds[start : start + len(seeds)]])
        out = render(views, tables, counts, SIDE)
        out["normal"] = hints.normal_hint(out["normal"])
        out["depth"] = np.stack([hints.depth_hint(d)[..., 0] for d in out["depth"]])
        for name, array in arrays.items():
            array[start : start + len(seeds)] = out[name]
        contents += [content.as_dict() for content in found]
    for array in arrays.values():
        array.flush()
    (temporary / "contents.json").write_text(json.dumps(contents))
    temporary.rename(folder)


def make(root: Path, images: int, seed: int) -> None:
    """Make what is missing of `images` training pictures, and the held-out shard, under root."""
    held = root / "held_out"
    if not held.exists():
        make_shard(held, HELD_OUT_SEED, size=min(images, 200))
    for k in range(-(-images // SHARD)):
        folder = root / f"shard_{k:04d}"
        if not folder.exists():
            make_shard(folder, seed * 10_000_000 + k * SHARD, size=min(SHARD, images))
            print(f"data: {(k + 1) * SHARD} of {images} pictures", flush=True)


@dataclass
class Pictures:
    """The shards under a folder as one list of pictures. Index i counts through the shards in order."""

    folders: list[Path]

    @classmethod
    def training(cls, root: Path) -> "Pictures":
        return cls(sorted(p for p in root.glob("shard_*") if not p.name.endswith(".part")))

    @classmethod
    def held_out(cls, root: Path) -> "Pictures":
        return cls([root / "held_out"])

    @cached_property
    def contents(self) -> list[Content]:
        return [Content(**c) for folder in self.folders for c in json.loads((folder / "contents.json").read_text())]

    def __len__(self) -> int:
        return len(self.contents)

    @cached_property
    def starts(self) -> np.ndarray:
        sizes = [len(json.loads((folder / "contents.json").read_text())) for folder in self.folders]
        return np.cumsum([0, *sizes])

    @cached_property
    def _maps(self) -> dict[tuple[int, str], np.ndarray]:
        return {}

    def get(self, name: str, indices: np.ndarray) -> list[np.ndarray]:
        """The arrays called `name` (rgb, normal, depth, edge, material, latents) of the given pictures."""
        out = []
        for i in indices:
            k = int(np.searchsorted(self.starts, i, side="right")) - 1
            if (k, name) not in self._maps:
                self._maps[k, name] = np.load(self.folders[k] / f"{name}.npy", mmap_mode="r")
            out.append(self._maps[k, name][i - self.starts[k]])
        return out

    def of_kind(self, kinds: tuple[str, ...]) -> np.ndarray:
        """Indices of the pictures whose scene is of one of the kinds; of all pictures if there are none."""

        def kind(c: Content) -> str:
            return scenes.TWO if c.second >= 0 else scenes.FLOOR if c.floor >= 0 else scenes.PLAIN

        found = [i for i, c in enumerate(self.contents) if kind(c) in kinds]
        return np.array(found or range(len(self)))

    @cached_property
    def object_masks(self) -> np.ndarray:
        """(n, 32, 32) float16: the share of each latent pixel that shows a surface which is not the floor."""
        out = []
        for start in range(0, len(self), 100):
            indices = np.arange(start, min(start + 100, len(self)))
            for i, material in zip(indices, self.get("material", indices), strict=True):
                shown = (material != BACKGROUND) & (material != self.contents[i].floor)
                out.append(shown.reshape(SIDE // 8, 8, SIDE // 8, 8).mean((1, 3)).astype(np.float16))
        return np.stack(out)
