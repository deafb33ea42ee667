"""Hints of a rendered sphere, held against the pictures that their ControlNets were trained on.

Real Blender exports the passes of a sphere. controlnet_aux' own detectors (the extra `detectors`) draw that sphere too:
all of their code from the network's answer to the finished picture, with the truth in place of the network's answer.
That proves channel order, signs, scaling and polarity of what ControlNets were trained on. What it cannot prove is in
which axes a network answers; of NormalBae that is told by the README of ControlNet 1.1 (github.com/lllyasviel/
ControlNet-v1-1-nightly: “blue is front, red is left, green is top”), and measured here where its weights (scannet.pt)
are in the cache of the Hugging Face hub: they are not downloaded.
"""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .conftest import Blender
from .test_extension import exr_channels

SIZE = 256


@pytest.fixture(scope="module")
def detectors() -> Any:
    """controlnet_aux, which `scripts/test` puts in the way of this file alone."""
    if importlib.util.find_spec("controlnet_aux") is None:
        pytest.skip("controlnet-aux is not here: scripts/test runs this file by itself, with it")
    import torch

    # A torchvision of another build than torch cannot load its compiled operators, and asks for these when it is
    # imported. None of the detectors calls them.
    operators = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parts that are not used here
        import controlnet_aux
    return controlnet_aux


@pytest.fixture
def sphere(blender: Blender) -> SimpleNamespace:
    """The exported hints, uint8 (H, W, 3), the exact passes, and what a camera sees, uint8 (H, W, 3)."""
    blender.run(
        f"""
        install(); camera()
        bpy.ops.mesh.primitive_uv_sphere_add(segments=256, ring_count=128)
        bpy.ops.object.shade_smooth()
        bpy.ops.mesh.primitive_plane_add(size=30, location=(0, 0, -1))
        bpy.ops.object.light_add(type="SUN", rotation=(0.7, 0.4, 0))
        scene = bpy.context.scene
        scene.render.resolution_x = scene.render.resolution_y = {SIZE}
        scene.paintover.size = {SIZE}
        bpy.ops.paintover.export_passes(directory=os.path.abspath("passes"))
        scene.render.engine, scene.cycles.samples = "CYCLES", 4
        scene.render.filepath = os.path.abspath("seen.png")
        bpy.ops.render.render(write_still=True)
        """
    )
    folder = blender.folder / "passes"
    exact = exr_channels(folder / "passes.exr")
    return SimpleNamespace(
        **{name: read(folder / f"{name}.png") for name in ("depth", "normal", "edge")},
        disparity=1 / exact["Depth.Z"],
        normals=np.stack([exact[f"Normal.{axis}"] for axis in "XYZ"], -1),
        seen=read(blender.folder / "seen.png"),
    )


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


class Answers:
    """Stands where a detector has its network."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def parameters(self) -> Any:
        import torch

        return iter([torch.zeros(1)])

    def __call__(self, image: Any) -> Any:
        return self.answer


def test_normals_are_as_normalbae_draws_them(sphere: SimpleNamespace, detectors: Any) -> None:
    import torch

    left_up_front = sphere.normals * (-1, 1, 1)
    hit = sphere.normals.any(-1)
    left_up_front[~hit] = (0, 0, 1)
    answer = torch.from_numpy(left_up_front.transpose(2, 0, 1)[None]).float()
    detector = detectors.NormalBaeDetector(Answers([[answer]]))
    theirs = detector(sphere.seen, detect_resolution=SIZE, image_resolution=SIZE, output_type="np")
    assert hit.mean() > 0.3
    assert np.ptp(theirs[hit], axis=0).min() > 100, "the sphere has normals of every direction"
    np.testing.assert_allclose(sphere.normal.astype(int), theirs.astype(int), atol=1)


def test_depth_is_as_midas_draws_it(sphere: SimpleNamespace, detectors: Any) -> None:
    import torch

    detector = detectors.MidasDetector(Answers([torch.from_numpy(sphere.disparity.astype(np.float32))]))
    picture = detector(sphere.seen, detect_resolution=SIZE, image_resolution=SIZE, output_type="np")
    theirs, ours = picture[..., 0].astype(float), sphere.depth[..., 0].astype(float)
    hit = sphere.disparity > 0
    assert (ours[~hit] == 0).all()
    assert (theirs[~hit] == 0).all()
    told = hit & (ours > 51) & (ours < 255)  # the rest is clipped
    assert told.sum() > 0.3 * hit.sum()
    slope, offset = np.polyfit(theirs[told], ours[told], 1)
    assert slope > 0, "near is white"
    np.testing.assert_allclose(ours[told], slope * theirs[told] + offset, atol=3)


@pytest.mark.parametrize(
    ("name", "options"), [("CannyDetector", {"image_resolution": SIZE}), ("LineartStandardDetector", {})]
)
def test_edges_are_as_detectors_draw_them(
    name: str, options: dict[str, int], sphere: SimpleNamespace, detectors: Any
) -> None:
    """White lines on black, where the picture's own are: Canny's along the sphere's outline within 2 pixels of ours."""
    theirs = getattr(detectors, name)()(sphere.seen, detect_resolution=SIZE, output_type="np", **options)
    ours = sphere.edge[..., 0]
    assert set(np.unique(sphere.edge)) <= set(range(256))
    assert np.ptp(sphere.edge, axis=-1).max() == 0
    for lines in (ours, theirs[..., 0]):
        assert np.median(lines) < 20, "black is the ground"
        assert lines.max() > 100
    if name == "CannyDetector":
        rows, columns = np.nonzero(ours > 127)
        around = [np.s_[max(0, r - 2) : r + 3, max(0, c - 2) : c + 3] for r, c in zip(rows, columns, strict=True)]
        near = [theirs[place].max() > 0 for place in around]
        assert np.mean(near) > 0.8


def test_normalbae_itself_answers_in_these_axes(sphere: SimpleNamespace, detectors: Any) -> None:
    """The network, where its weights are at hand, on the sphere as a camera sees it."""
    try:
        detector = detectors.NormalBaeDetector.from_pretrained("lllyasviel/Annotators", local_files_only=True)
    except Exception as reason:  # noqa: BLE001 - not there, in the words of any library
        pytest.skip(f"NormalBae's weights are not in the hub's cache: {str(reason).splitlines()[0]}")
    theirs = detector(sphere.seen, detect_resolution=512, image_resolution=SIZE, output_type="np").astype(float) - 127.5
    ours = sphere.normal.astype(float) - 127.5
    bent = np.abs(sphere.normals[..., :2]).max(-1) > 0.4
    for channel in range(3):
        assert np.corrcoef(theirs[..., channel][bent], ours[..., channel][bent])[0, 1] > 0.5
