"""A texture job, view by view: paint what earlier views left open, then bake all views into one texture per object.

The scheme of TEXTure and Text2Tex: the first view is painted whole; in each next one, the pixels whose surface was
painted before are kept, the others are inpainted, so that every view goes on where the last one ended.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from paintover.bridge.messages import Generate, Texture, TextureResult, ViewPainted
from paintover.bridge.scene import Passes

from ..engine import Engine, Monitor
from ..worker_messages import Run, ViewDone
from .bake import bake
from .gather import PaintedView, to_tensor
from .known import Known, known_in_view, order_of_views
from .view import View

Picture = NDArray[np.uint8]

BAKE_SHARE = 0.1
"""Share of the progress bar that baking gets."""
LITTLE = 0.005
"""A view in which less of the picture than this is open adds nothing: it is not painted."""
REFINE_LEAST = 0.05
"""Share of the picture that must be seen clearly better than before to be worth a refinement."""
REFINE_STRENGTH = 0.4


class Part:
    """A stretch of a job's progress: passes an engine's reports on, scaled and with the job's own words."""

    def __init__(self, monitor: Monitor, words: str, start: float, span: float) -> None:
        self._monitor, self._words, self._start, self._span = monitor, words, start, span

    def progress(self, stage: str, fraction: float) -> None:
        self._monitor.progress(f"{self._words}: {stage}" if stage else self._words, self._start + self._span * fraction)

    def preview(self, image: NDArray[np.uint8]) -> None:
        self._monitor.preview(image)

    def check(self) -> None:
        self._monitor.check()


def paint_textures(engine: Engine, run: Run, request: Texture, monitor: Monitor) -> Iterator[ViewDone | TextureResult]:
    """Paint every view that adds something, then bake. Yields each finished part.

    What an earlier run of the job has finished (run.views, run.baked) is taken as it is, and everything after it comes
    out as if the run had never been interrupted.

    Raises OutsideCameras for an object that no view sees, BadMesh and BadPasses for damaged input, and whatever the
    engine raises.
    """
    started = time.perf_counter()
    device = torch.device(engine.device if engine.device in ("cuda", "mps") else "cpu")
    meshes = run.meshes
    done = {view.index: view for view in run.views}
    targets = {mesh.object_id for mesh in meshes}
    views = [View(passes, device) for passes in request.views]
    order = order_of_views(request.views, views, targets)
    painted: list[PaintedView] = []
    share, repainted = (1 - BAKE_SHARE) / len(order), False
    for number, index in enumerate(order):
        if index in done:
            image, fresh = done[index].painted.image, done[index].fresh
            painted.append(_painted(views[index], image, fresh))
            continue
        words = f"Painting view {number + 1} of {len(order)}"
        part = Part(monitor, words, number * share, share)
        part.progress("", 0.0)
        passes = request.views[index]
        known = known_in_view(passes, views[index], painted)
        if painted and known.open_share(targets) < LITTLE:
            continue
        image, fresh = _paint_view(engine, request, passes, known, number, part)
        painted.append(_painted(views[index], image, fresh))
        done.clear()  # what was finished behind a gap went on from another picture than this one
        repainted = True
        yield ViewDone(run.job, index, ViewPainted(run.job, passes.camera.name, image), fresh)
    painting = time.perf_counter()
    for number, mesh in enumerate(meshes):
        if mesh.object_id in run.baked and not repainted:
            continue
        monitor.check()
        monitor.progress(f"Baking {mesh.name}", 1 - BAKE_SHARE + BAKE_SHARE * number / len(meshes))
        texture = bake(mesh, painted, request.settings.texture_size, check=monitor.check)
        report = texture.report
        yield TextureResult(
            run.job,
            mesh.object_id,
            mesh.name,
            texture.to_uint8(),
            coverage=report.coverage,
            seen=report.visible / max(1, report.inside),
            shared=report.shared / max(1, report.inside),
            settings=request.settings,
            seconds={"paint": painting - started, "bake": time.perf_counter() - painting},
        )


def _painted(view: View, image: Picture, fresh: Picture) -> PaintedView:
    return PaintedView(view, to_tensor(image, view.device), torch.tensor(fresh, device=view.device).float())


def _paint_view(
    engine: Engine, request: Texture, passes: Passes, known: Known, number: int, part: Part
) -> tuple[Picture, Picture]:
    """The view's picture, and which of its pixels were painted now (1) or taken from earlier views (0)."""
    camera = passes.camera
    seed = (request.settings.seed + number) % 2**31  # equal noise in every view would repeat the same flaws
    settings = dataclasses.replace(request.settings, seed=seed)
    source = None if passes.color is None else np.ascontiguousarray(passes.color[..., :3])

    def generate(strength: float, image: Picture | None, mask: Picture | None) -> Picture:
        asked = dataclasses.replace(settings, strength=strength)
        return engine.paint(Generate(asked, camera.width, camera.height, passes, image, mask), part).image

    if not known.any:
        image = generate(settings.strength, source if settings.strength < 1 else None, None)
        return image, np.ones(image.shape[:2], np.uint8)
    start = known.canvas() if source is None or settings.strength >= 1 else known.canvas(source)
    image = generate(settings.strength, start, known.generate)
    painted = known.generate > 0
    if (known.refine > 127).mean() >= REFINE_LEAST:
        image = generate(min(REFINE_STRENGTH, settings.strength), image, known.refine)
        painted |= known.refine > 0
    return image, painted.astype(np.uint8)
