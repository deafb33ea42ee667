"""What earlier painted views know about the next one: which pixels to keep, to paint anew, and to refine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from paintover.bridge.scene import Passes

from .gather import PaintedView, gather
from .view import View

BETTER = 0.2
"""A surface is worth refining if it faces the new camera better by this cosine than any before (TEXTure)."""
OVERLAP = 1 / 64
"""By this share of the picture's side the open region is widened, so that the painting can join what is there."""
NEW, UPDATED, OLD = 1.0, 0.5, 0.1
"""What a point is worth when the next view is chosen (Text2Tex's automatic viewpoint scores)."""
JOINED = 0.05
"""Share of what a view sees that must be painted already for the view to go on from it."""
SAMPLES = 4000
"""Surface points by which the order of views is chosen."""


@dataclass(frozen=True, eq=False)
class Known:
    """A view before it is painted. Masks are uint8 (H, W), 255 where they apply."""

    color: NDArray[np.float32]
    """(H, W, 3) in 0…1: what earlier views say; meaningless where nothing is known."""
    known: NDArray[np.bool_]
    """(H, W): pixels whose surface an earlier view painted."""
    generate: NDArray[np.uint8]
    """Pixels to paint anew, a little wider than what is unknown."""
    refine: NDArray[np.uint8]
    """Known pixels that this view sees much better than those that painted them."""
    open_id: NDArray[np.uint16]
    """(H, W): the object whose surface is still open here and that this view sees well enough to paint; else 0."""

    @property
    def any(self) -> bool:
        return bool(self.known.any())

    def open_share(self, objects: Iterable[int]) -> float:
        """Share of the picture in which one of `objects` is open."""
        return float(np.isin(self.open_id, list(objects)).mean())

    def canvas(self, source: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """The picture to start from (H, W, 3): the known colours, and around them `source`, or else the nearest known
        colours, softened, so that the encoder sees no hard border."""
        known = (self.color * 255 + 0.5).astype(np.uint8)
        if source is not None:
            return np.where(self.known[..., None], known, source)
        nearest = ndimage.distance_transform_edt(~self.known, return_distances=False, return_indices=True)
        spread = known[nearest[0], nearest[1]].astype(np.float32)
        soft = ndimage.gaussian_filter(spread, (4, 4, 0))
        return np.where(self.known[..., None], known, soft.astype(np.uint8))


def known_in_view(passes: Passes, view: View, painted: Sequence[PaintedView]) -> Known:
    """Ask the painted views about every pixel of a view that is to be painted."""
    height, width = passes.depth.shape
    color = np.zeros((height, width, 3), np.float32)
    best = np.zeros((height, width), np.float32)
    own = np.zeros((height, width), np.float32)
    hit = np.isfinite(passes.depth)
    if hit.any():
        points, normals = _surface(passes, hit)
        points, normals = points.to(view.device), normals.to(view.device)
        own[hit] = _facing(view, points, normals)
        if painted:
            found = gather(points, normals, painted)
            color[hit] = found.color.clamp(0, 1).cpu().numpy()
            best[hit] = found.facing.cpu().numpy()
    known = best > 0
    wider = ndimage.binary_dilation(~known, iterations=max(1, round(OVERLAP * max(height, width))))
    better = known & (own - best > BETTER)
    open_id = passes.object_id * (~known & (own > 0))
    return Known(color, known, _mask(wider), _mask(better & ~wider), open_id)


def order_of_views(all_passes: Sequence[Passes], views: Sequence[View], objects: Iterable[int]) -> list[int]:
    """Indices of the views in the order to paint them: first the one that sees most, then always the one that adds most
    among those that share something with what is painted, and so can go on from there. Ties go to the earlier view."""
    parts = [_surface(passes, np.isin(passes.object_id, list(objects)), SAMPLES // len(views)) for passes in all_passes]
    points, normals = torch.cat([p for p, _ in parts]), torch.cat([n for _, n in parts])
    facing = np.stack([_facing(view, points.to(view.device), normals.to(view.device)) for view in views])
    best = np.zeros(facing.shape[1], np.float32)
    order: list[int] = []
    while len(order) < len(views):
        seen = facing > 0
        worth = np.where(best == 0, NEW, np.where(facing - best > BETTER, UPDATED, OLD)) * facing
        joined = (seen & (best > 0)).sum(axis=1) >= JOINED * seen.sum(axis=1)
        score = worth.sum(axis=1) + 1e6 * joined
        score[order] = -1
        order.append(int(score.argmax()))
        best = np.maximum(best, facing[order[-1]])
    return order


def _surface(passes: Passes, where: NDArray[np.bool_], most: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """World points and normals, each float32 (N, 3), of the pixels `where`; an even choice of at most `most`."""
    rows, columns = np.nonzero(where & np.isfinite(passes.depth))
    if most and len(rows) > most:
        chosen = np.linspace(0, len(rows) - 1, most).astype(np.int64)
        rows, columns = rows[chosen], columns[chosen]
    points = passes.camera.unproject(passes.depth)[rows, columns]
    normals = passes.normal[rows, columns].astype(np.float64) @ passes.camera.view[:3, :3]
    return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(normals.astype(np.float32))


def _facing(view: View, points: torch.Tensor, normals: torch.Tensor) -> NDArray[np.float32]:
    """How directly the view sees each point, 0 where it does not or only at a depth edge, where paint is not used."""
    sight = view.see(points, normals)
    facing = torch.zeros(len(points), device=points.device)
    facing[sight.index] = torch.where(sight.clarity > 0, sight.facing, 0.0)
    return facing.cpu().numpy()


def _mask(where: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return where.astype(np.uint8) * np.uint8(255)
