"""Painted views -> one texture for an object: fragments of its UVs gather from the views, the rest is filled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paintover.bridge.errors import OutsideCameras
from paintover.bridge.scene import MeshData

from .fill import fill_outside, fill_unseen
from .gather import SHARPNESS, PaintedView, gather
from .raster import Fragments, UVRaster

SOURCES = 50_000
"""Painted points that unseen texels look to, about: a few texels apart, so that fills blend instead of streaking."""


@dataclass(frozen=True)
class BakeReport:
    """What the artist should know about a bake."""

    inside: int
    """Texels inside the mesh's UVs."""
    visible: int
    """Of these, texels that any view sees at 75° or less."""
    painted: int
    """Of these, texels that got their colour from the views."""
    shared: int
    """Texels inside that several places of the surface use (mirrored or overlapping UVs, Array, instances)."""

    @property
    def coverage(self) -> float:
        """Share of the visible texels that got paint."""
        return self.painted / self.visible


@dataclass(frozen=True, eq=False)
class Texture:
    """A finished texture, row 0 at the top (v = 1)."""

    image: NDArray[np.float32]
    """(S, S, C) in 0…1; every texel has a colour."""
    painted: NDArray[np.bool_]
    """(S, S): texels whose colour comes from the views; the others are filled."""
    report: BakeReport

    def to_uint8(self) -> NDArray[np.uint8]:
        """The image (S, S, C) in 8 bits."""
        return (self.image * 255 + 0.5).astype(np.uint8)


class _Surface:
    """A mesh's corners on the device, to interpolate fragments' points and normals from."""

    def __init__(self, mesh: MeshData, device: torch.device) -> None:
        self._positions = torch.from_numpy(mesh.positions[mesh.triangles]).to(device)
        self._normals = torch.tensor(mesh.normals, device=device)
        self.device = device

    def at(self, fragments: Fragments) -> tuple[Tensor, Tensor]:
        """World points and normals (not unit), each (F, 3)."""
        triangle = torch.from_numpy(fragments.triangle).to(self.device)
        weights = torch.from_numpy(fragments.barycentric).to(self.device)[:, :, None]
        return (self._positions[triangle] * weights).sum(1), (self._normals[triangle] * weights).sum(1)


def bake(
    mesh: MeshData,
    views: Sequence[PaintedView],
    size: int,
    *,
    sharpness: float = SHARPNESS,
    check: Callable[[], None] = lambda: None,
) -> Texture:
    """The texture (size, size) of `mesh` as the views painted it; the work runs on the views' device.

    A texel at several places of the surface averages over all of them by weight. Texels that no view sees, and the
    space between UV islands, are filled (see fill.py). If hardly any of the mesh is clear of depth edges (wires,
    rails), paint from the edges is used too.

    `check` is called every now and then; it may raise to stop the bake. Raises BadMesh for a mesh that is empty or has
    NaN, OutsideCameras if no view sees any of it.
    """
    mesh.check_values()
    if not views:
        raise OutsideCameras(name=mesh.name)
    device = views[0].view.device
    raster, surface = UVRaster(mesh.uvs, size, mesh.name), _Surface(mesh, device)
    color = torch.zeros(size * size, views[0].image.shape[2], device=device)
    weight = torch.zeros(size * size, device=device)
    copies = torch.zeros(size * size, dtype=torch.int32, device=device)
    clear = torch.zeros(size * size, dtype=torch.bool, device=device)
    for fragments in raster:
        check()
        points, normals = surface.at(fragments)
        texel = torch.from_numpy(fragments.texel).to(device)
        found = gather(points, normals, views, object_id=mesh.object_id, sharpness=sharpness)
        color.index_add_(0, texel, found.color * found.weight[:, None])
        weight.index_add_(0, texel, found.weight)
        copies.index_add_(0, texel, torch.ones_like(texel, dtype=torch.int32))
        clear[texel[found.facing > 0]] = True

    visible = weight > 0
    if not visible.any():
        raise OutsideCameras(name=mesh.name)
    painted = clear if clear.sum() >= 0.5 * visible.sum() else visible
    color = (color / weight.clamp_min(1e-30)[:, None]).clamp_(0, 1)
    report = BakeReport(
        inside=int((copies > 0).sum()),
        visible=int(visible.sum()),
        painted=int(painted.sum()),
        shared=int((copies > 1).sum()),
    )
    image = _filled(color.cpu().numpy(), painted.cpu().numpy(), (copies > 0).cpu().numpy(), raster, mesh)
    return Texture(image, painted.cpu().numpy().reshape(size, size), report)


def _filled(
    color: NDArray[np.float32],
    painted: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    raster: UVRaster,
    mesh: MeshData,
) -> NDArray[np.float32]:
    """Complete the colours (S·S, C) of painted texels to an image (S, S, C)."""
    unseen = inside & ~painted
    if unseen.any():
        chance = np.random.default_rng(0).random(len(painted), dtype=np.float32)
        source = painted & (chance <= SOURCES / painted.sum())
        _fill_from(color, source if source.any() else painted, unseen, raster, mesh)
    shape = (raster.size, raster.size)
    return fill_outside(color.reshape(*shape, -1), inside.reshape(shape))


def _fill_from(
    color: NDArray[np.float32],
    source: NDArray[np.bool_],
    unseen: NDArray[np.bool_],
    raster: UVRaster,
    mesh: MeshData,
) -> None:
    """Give the unseen texels of `color` (S·S, C) the colours of the source texels around them on the surface."""
    surface = _Surface(mesh, torch.device("cpu"))
    texels, points, normals = [], [], []
    for fragments in raster:
        wanted = (source | unseen)[fragments.texel]
        some = Fragments(fragments.texel[wanted], fragments.triangle[wanted], fragments.barycentric[wanted])
        point, normal = surface.at(some)
        texels.append(some.texel)
        points.append(point.numpy())
        normals.append(normal.numpy())
    # A texel with several copies takes its first one's place.
    texel, first = np.unique(np.concatenate(texels), return_index=True)
    at, facing, known = np.concatenate(points)[first], np.concatenate(normals)[first], source[texel]
    color[texel[~known]] = fill_unseen(at[known], facing[known], color[texel[known]], at[~known], facing[~known])
