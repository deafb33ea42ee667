"""A texture job: paint the views, then bake all of them into one texture per object.

One after the other (the scheme of TEXTure and Text2Tex): the first view is painted whole; in each next one, the pixels
whose surface was painted before are kept, the others are inpainted, so that every view goes on where the last ended.
Or all at once, held together at every step (synchronise.py).
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

from ..engine import Engine, Monitor, Part, Unfinished
from ..worker_messages import Halfway, Run, ViewDone
from .bake import bake
from .gather import PaintedView, to_tensor
from .known import Known, known_in_view, order_of_views
from .synchronise import Agreement
from .view import View

Picture = NDArray[np.uint8]

BAKE_SHARE = 0.1
"""Share of the progress bar that baking gets."""
LITTLE = 0.005
"""A view in which less of the picture than this is open adds nothing: it is not painted."""
REFINE_LEAST = 0.05
"""Share of the picture that must be seen clearly better than before to be worth a refinement."""
REFINE_STRENGTH = 0.4


def paint_textures(
    engine: Engine, run: Run, request: Texture, monitor: Monitor
) -> Iterator[ViewDone | Halfway | TextureResult]:
    """Paint every view that adds something, then bake. Yields each finished part.

    What an earlier run of the job has finished (run.views, run.baked, run.halfway) is taken as it is, and everything
    after it comes out as if the run had never been interrupted.

    Raises OutsideCameras for an object that no view sees, BadMesh and BadPasses for damaged input, and whatever the
    engine raises.
    """
    started = time.perf_counter()
    device = torch.device(engine.device if engine.device in ("cuda", "mps") else "cpu")
    meshes = run.meshes
    views = [View(passes, device) for passes in request.views]
    painted: list[PaintedView] = []
    paint = _together if request.settings.method == "synchronised" else _one_by_one
    repainted = False
    for part in paint(engine, run, request, views, painted, monitor):
        repainted = True
        yield part
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


def _one_by_one(
    engine: Engine, run: Run, request: Texture, views: list[View], painted: list[PaintedView], monitor: Monitor
) -> Iterator[ViewDone]:
    """Paint each view where those before it left the surface open. `painted` gets all, the run's finished ones too."""
    done = {view.index: view for view in run.views}
    targets = {mesh.object_id for mesh in run.meshes}
    order = order_of_views(request.views, views, targets)
    share = (1 - BAKE_SHARE) / len(order)
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
        yield ViewDone(run.job, index, ViewPainted(run.job, passes.camera.name, image), fresh)


def _together(
    engine: Engine, run: Run, request: Texture, views: list[View], painted: list[PaintedView], monitor: Monitor
) -> Iterator[ViewDone | Halfway]:
    """Paint all views at once. `painted` gets all, the run's finished ones too."""
    images = {view.index: view.painted.image for view in run.views}
    if len(images) < len(views):
        part = Part(monitor, f"Painting {len(views)} views", 0.0, 1 - BAKE_SHARE)
        part.progress("", 0.0)
        begin = Unfinished(run.halfway.step, run.halfway.latents) if run.halfway else None
        agreement, index = Agreement(request.views, views), 0
        for state in engine.paint_together(_requests(request), agreement, part, begin):
            if isinstance(state, Unfinished):
                yield Halfway(run.job, state.step, state.latents)
                continue
            if index not in images:  # else it is the same: painting is deterministic
                images[index] = state.image
                yield ViewDone(
                    run.job, index, ViewPainted(run.job, request.views[index].camera.name, state.image),
                    _whole(state.image),
                )  # fmt: skip
            index += 1
    painted += [_painted(view, images[index], _whole(images[index])) for index, view in enumerate(views)]


def _requests(request: Texture) -> list[Generate]:
    """What to paint in each view, as a whole picture."""
    settings, requests = request.settings, []
    for number, passes in enumerate(request.views):
        own = dataclasses.replace(settings, seed=(settings.seed + number) % 2**31)
        source = _source(passes) if settings.strength < 1 else None
        requests.append(Generate(own, passes.camera.width, passes.camera.height, passes, source))
    return requests


def _whole(image: Picture) -> Picture:
    """All of its pixels were painted now."""
    return np.ones(image.shape[:2], np.uint8)


def _source(passes: Passes) -> Picture | None:
    """The scene's own picture, to start from."""
    return None if passes.color is None else np.ascontiguousarray(passes.color[..., :3])


def _painted(view: View, image: Picture, fresh: Picture) -> PaintedView:
    return PaintedView(view, to_tensor(image, view.device), torch.tensor(fresh, device=view.device).float())


def _paint_view(
    engine: Engine, request: Texture, passes: Passes, known: Known, number: int, part: Part
) -> tuple[Picture, Picture]:
    """The view's picture, and which of its pixels were painted now (1) or taken from earlier views (0)."""
    camera = passes.camera
    seed = (request.settings.seed + number) % 2**31  # equal noise in every view would repeat the same flaws
    settings = dataclasses.replace(request.settings, seed=seed)
    source = _source(passes)

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
