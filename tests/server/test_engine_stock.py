"""The engine's pictures equal those of the stock diffusers pipelines, bit for bit on the CPU, in both families."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import diffusers
import torch
from PIL import Image

from paintover.bridge import hints
from paintover.bridge.messages import Generate
from paintover.bridge.parameters import Settings
from paintover.server import models
from paintover.server.pipelines.engine import DiffusersEngine

from .tiny_models import CONTROLS, Recorder, make_passes, write_model

pytestmark = pytest.mark.usefixtures("one_thread")

WIDTH, HEIGHT = 64, 48
STEPS = 3
PROMPT, NEGATIVE = "old red brick", "blurry"

# name -> (scale, start, end); the middle one leaves out steps at both ends
ONE = {"depth": (0.8, 0.0, 1.0)}
PART = {"normal": (1.0, 0.3, 0.7)}
ALL = {"depth": (0.9, 0.0, 1.0), "normal": (0.5, 0.25, 1.0), "edge": (1.2, 0.0, 0.5)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("tiny")
    return {
        "sd15": write_model(base / "sd15", "sd15"),
        "sdxl": write_model(base / "sdxl", "sdxl"),
        "inpainting": write_model(base / "inpainting", "sd15", in_channels=9),
        "distilled": write_model(base / "distilled", "sd15", time_cond_proj_dim=16),
    }


@pytest.fixture(scope="module")
def stock(folders: dict[str, Path]) -> dict[str, Stock]:
    family = {name: folders["sdxl" if name == "sdxl" else "sd15"] for name in folders}
    return {name: Stock(folder, family[name]) for name, folder in folders.items()}


class Watched(DiffusersEngine):
    """Keeps the floating-point picture of the last painting."""

    def paint_float(self, request: Generate, monitor: Any, *more: Any) -> tuple[np.ndarray, dict[str, float]]:
        self.picture, seconds = super().paint_float(request, monitor, *more)
        return self.picture, seconds


@pytest.fixture(scope="module")
def engines(folders: dict[str, Path]) -> dict[str, Watched]:
    """One for each model, so that none is loaded twice."""
    return {name: Watched("cpu") for name in folders}


@pytest.fixture(scope="module", autouse=True)
def registry(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("PAINTOVER_DATA", str(tmp_path_factory.mktemp("data")))
    for name, folder in folders.items():
        models.add(folder, name=name)
    for folder in (folders["sd15"], folders["sdxl"]):
        for control in CONTROLS:
            models.add(folder / f"controlnet-{control}", control=control)
    yield
    patch.undo()


def picture() -> np.ndarray:
    return make_passes(WIDTH, HEIGHT).color[..., :3].copy()  # type: ignore[index]


def hole() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[8:40, 16:48] = 255
    return mask


def request(family: str, controls: dict[str, tuple[float, float, float]], **changes: Any) -> Generate:
    """A Generate request; `changes` are settings, or image and mask."""
    given = {name: changes.pop(name) for name in ("image", "mask") if name in changes}
    values: dict[str, Any] = {"control_depth": False}
    for control, (scale, start, end) in controls.items():
        values |= {f"control_{control}": True, f"control_{control}_scale": scale}
        values |= {f"control_{control}_start": start, f"control_{control}_end": end}
    values |= {"prompt": PROMPT, "negative_prompt": NEGATIVE, "steps": STEPS, "guidance": 4.0, "seed": 7}
    settings = Settings.from_mapping(values | {"model": family} | changes)
    return Generate(settings, WIDTH, HEIGHT, passes=make_passes(WIDTH, HEIGHT), **given)


class Stock:
    """The stock pipelines over one folder's parts, each loaded once."""

    def __init__(self, folder: Path, controls: Path) -> None:
        self._pipe = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
        self._nets = {
            control: diffusers.ControlNetModel.from_pretrained(controls / f"controlnet-{control}")
            for control in CONTROLS
        }

    def paint(self, wanted: Generate, scheduler: Any = None) -> np.ndarray:
        """The stock picture for the same request: float32 (H, W, 3)."""
        settings, controls = wanted.settings, wanted.settings.controls
        kind = "Inpaint" if wanted.mask is not None else "Img2Img" if settings.strength < 1 else ""
        xl = "XL" if isinstance(self._pipe, diffusers.StableDiffusionXLPipeline) else ""
        cls = getattr(diffusers, f"StableDiffusion{xl}{'ControlNet' if controls else ''}{kind}Pipeline")
        one_or_all = (lambda values: values[0]) if len(controls) == 1 else list
        parts = {name: part for name, part in self._pipe.components.items() if name != "image_encoder"}
        if not xl:
            parts["requires_safety_checker"] = False
        if controls:
            parts["controlnet"] = one_or_all([self._nets[control.name] for control in controls])
        pipe = cls(**parts)
        pipe.scheduler = (scheduler or type(pipe.scheduler)).from_config(pipe.scheduler.config)
        pipe.set_progress_bar_config(disable=True)
        call: dict[str, Any] = {"width": WIDTH, "height": HEIGHT}
        if kind == "Img2Img" and not controls:
            call = {}  # these pipelines take the picture's size
        if kind:
            call |= {"image": Image.fromarray(wanted.image), "strength": settings.strength}
        if wanted.mask is not None:
            call |= {"mask_image": Image.fromarray(wanted.mask)}
        if controls:
            assert wanted.passes is not None
            pictures = [hints.make_hint(wanted.passes, control.name) for control in controls]
            pictures = [Image.fromarray((hint * 255).round().astype(np.uint8)) for hint in pictures]
            call |= {"control_image" if kind else "image": one_or_all(pictures)}
            call |= {"controlnet_conditioning_scale": one_or_all([control.scale for control in controls])}
            call |= {"control_guidance_start": one_or_all([control.start for control in controls])}
            call |= {"control_guidance_end": one_or_all([control.end for control in controls])}
        return pipe(
            prompt=settings.prompt, negative_prompt=settings.negative_prompt or None, guidance_scale=settings.guidance,
            num_inference_steps=settings.steps, generator=torch.Generator().manual_seed(settings.seed),
            output_type="np", **call,
        ).images[0]  # fmt: skip


def assert_equal(engines: dict[str, Watched], stock: dict[str, Stock], wanted: Generate, scheduler: Any = None) -> None:
    engine = engines[wanted.settings.model]
    painted = engine.paint(wanted, Recorder()).image
    ours = engine.picture
    theirs = stock[wanted.settings.model].paint(wanted, scheduler)
    assert ours.dtype == theirs.dtype == np.float32
    assert ours.shape == theirs.shape == (HEIGHT, WIDTH, 3)
    assert ours.std() > 0.01, "a picture of one colour shows nothing"
    np.testing.assert_array_equal(ours, theirs)
    quantised = (theirs * 255).round().astype(np.uint8)
    if wanted.mask is not None:
        quantised = np.where(wanted.mask[..., None] > 127, quantised, wanted.image)
    np.testing.assert_array_equal(painted, quantised)


both_families = pytest.mark.parametrize("family", ["sd15", "sdxl"])


@both_families
@pytest.mark.parametrize("controls", [{}, ONE, PART, ALL], ids=["plain", "one", "part", "three"])
def test_text_to_image(engines: dict[str, Watched], stock: dict[str, Stock], family: str, controls: dict) -> None:
    assert_equal(engines, stock, request(family, controls))


@both_families
@pytest.mark.parametrize("controls", [{}, PART, ALL], ids=["plain", "part", "three"])
def test_image_to_image(engines: dict[str, Watched], stock: dict[str, Stock], family: str, controls: dict) -> None:
    assert_equal(engines, stock, request(family, controls, image=picture(), strength=0.7, steps=4))


@both_families
@pytest.mark.parametrize("strength", [1.0, 0.7])
@pytest.mark.parametrize("controls", [{}, ALL], ids=["plain", "three"])
def test_inpainting(
    engines: dict[str, Watched], stock: dict[str, Stock], family: str, controls: dict, strength: float
) -> None:
    wanted = request(family, controls, image=picture(), mask=hole(), strength=strength, steps=3)
    assert_equal(engines, stock, wanted)


@both_families
@pytest.mark.parametrize("changes", [{"guidance": 1.0}, {"negative_prompt": ""}], ids=["unguided", "no negative"])
def test_prompts_and_guidance(engines: dict[str, Watched], stock: dict[str, Stock], family: str, changes: dict) -> None:
    assert_equal(engines, stock, request(family, ONE, **changes))


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("ddim", "DDIMScheduler"),
        ("euler", "EulerDiscreteScheduler"),
        ("euler_a", "EulerAncestralDiscreteScheduler"),
        ("dpmpp_2m", "DPMSolverMultistepScheduler"),
        ("unipc", "UniPCMultistepScheduler"),
        ("lcm", "LCMScheduler"),
    ],
)
@pytest.mark.parametrize("inpaint", [False, True], ids=["text", "inpaint"])
def test_schedulers(engines: dict[str, Watched], stock: dict[str, Stock], name: str, cls: str, inpaint: bool) -> None:
    given = {"image": picture(), "mask": hole(), "strength": 0.8} if inpaint else {}
    wanted = request("sd15", ONE, scheduler=name, steps=4, **given)
    assert_equal(engines, stock, wanted, getattr(diffusers, cls))


@pytest.mark.parametrize("strength", [1.0, 0.7])
def test_unet_trained_to_inpaint(engines: dict[str, Watched], stock: dict[str, Stock], strength: float) -> None:
    given = {"image": picture(), "mask": hole(), "strength": strength, "steps": 3}
    assert_equal(engines, stock, request("inpainting", ONE, **given))


def test_unet_with_guidance_distilled_into_it(engines: dict[str, Watched], stock: dict[str, Stock]) -> None:
    assert_equal(engines, stock, request("distilled", {}, scheduler="lcm"), diffusers.LCMScheduler)
