"""The training pictures: rendered in shards of 100, each a folder of arrays that can be memory-mapped.

A shard is written under another name and renamed when whole, so a stopped run leaves no half shards and
training can begin on the first ones while more are made.
"""

import json
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np
from transformers import CLIPTokenizer

from . import hints, scenes, text, words
from .materials import BACKGROUND
from .render import render
from .scenes import Content

SHARD = 100
SIDE = 256
CAPTIONS = 8
"""Of each picture that are plain, and as many that are rich."""
KINDS = (scenes.PLAIN, scenes.FLOOR, scenes.TWO)
KIND_SHARES = (0.6, 0.22, 0.18)
HELD_OUT_SEED = 900_000_000  # scenes from here on are never trained on


def make_shard(folder: Path, first_seed: int, size: int, tokenizer: CLIPTokenizer) -> None:
    """Render `size` scenes with the seeds from first_seed on into the folder, and say what they show."""
    temporary = folder.with_name(folder.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    kinds = np.random.default_rng(first_seed).choice(KINDS, size=size, p=KIND_SHARES)
    names = {"rgb": (3,), "normal": (3,), "depth": (), "edge": (), "material": ()}
    arrays = {
        name: np.lib.format.open_memmap(temporary / f"{name}.npy", "w+", np.uint8, (size, SIDE, SIDE, *more))
        for name, more in names.items()
    }
    contents: list[Content] = []
    for start in range(0, size, 50):
        seeds = list(range(first_seed + start, first_seed + min(start + 50, size)))
        views, tables, counts, found = scenes.scenes(seeds, [str(k) for k in kinds[start : start + len(seeds)]])
        out = render(views, tables, counts, SIDE)
        out["normal"] = hints.normal_hint(out["normal"])
        out["depth"] = np.stack([hints.depth_hint(d)[..., 0] for d in out["depth"]])
        for name, array in arrays.items():
            array[start : start + len(seeds)] = out[name]
        contents += found
    np.save(temporary / "kind.npy", kinds)
    np.save(temporary / "mask.npy", _object_masks(arrays["material"], contents))
    np.save(temporary / "tokens.npy", _captions(contents, first_seed, tokenizer))
    for array in arrays.values():
        array.flush()
    (temporary / "contents.json").write_text(json.dumps([content.as_dict() for content in contents]))
    temporary.rename(folder)


def _object_masks(materials: np.ndarray, contents: list[Content]) -> np.ndarray:
    """(n, 32, 32) float16: the share of each latent pixel that shows a surface which is not the floor."""
    floors = np.array([content.floor for content in contents])[:, None, None]
    shown = (materials != BACKGROUND) & (materials != floors)
    return shown.reshape(len(contents), SIDE // 8, 8, SIDE // 8, 8).mean((2, 4)).astype(np.float16)


def _captions(contents: list[Content], seed: int, tokenizer: CLIPTokenizer) -> np.ndarray:
    """(n, 2 CAPTIONS, 32) int16: token numbers, the plain captions first."""
    rng = np.random.default_rng([seed, 1])
    said = [words.caption(c, rng, rich).text for c in contents for rich in (False, True) for _ in range(CAPTIONS)]
    numbers = text.tokenize(tokenizer, said).numpy().astype(np.int16)
    return numbers.reshape(len(contents), 2 * CAPTIONS, -1)


def make(root: Path, tokenizer: Path, images: int, seed: int) -> None:
    """Make what is missing of `images` training pictures, and the held-out shard, under root: a shard a core."""
    wanted = {root / "held_out": (HELD_OUT_SEED, min(images, 200))}
    for k in range(-(-images // SHARD)):
        wanted[root / f"shard_{k:04d}"] = (seed * 10_000_000 + k * SHARD, min(SHARD, images))
    missing = {folder: what for folder, what in wanted.items() if not folder.exists()}
    if not missing:
        return
    cores = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, len(missing))
    with _one_thread(), ProcessPoolExecutor(cores, get_context("spawn"), _end_with_parent) as pool:
        made = [pool.submit(_make, folder, *what, tokenizer) for folder, what in missing.items()]
        for k, one in enumerate(made):
            one.result()
            print(f"data: {k + 1} of {len(made)} shards", flush=True)


def _end_with_parent() -> None:
    """Have this process end when the one that started it is killed."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _make(folder: Path, first_seed: int, size: int, tokenizer: Path) -> None:
    make_shard(folder, first_seed, size, CLIPTokenizer.from_pretrained(tokenizer))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes that are started meanwhile render with one thread each."""
    name = "NUMBA_NUM_THREADS"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


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
