"""The engine's pictures equal those of the stock diffusers pipelines, bit for bit on the CPU, in both families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import diffusers
import torch
from PIL import Image

from paintover.bridge.messages import Generate
from paintover.bridge.parameters import Settings
from paintover.server import hints, models
from paintover.server.pipelines.engine import DiffusersEngine

from .tiny_models import CONTROLS, Recorder, make_passes, write_model

WIDTH, HEIGHT = 64, 48
STEPS = 4
PROMPT, NEGATIVE = "old red brick", "blurry"

# name -> (scale, start, end); the middle one leaves out steps at both ends
ONE = {"depth": (0.8, 0.0, 1.0)}
PART = {"normal": (1.0, 0.25, 0.75)}
ALL = {"depth": (0.9, 0.0, 1.0), "normal": (0.5, 0.25, 1.0), "edge": (1.2, 0.0, 0.5)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("tiny")
    return {family: write_model(base / family, family) for family in ("sd15", "sdxl")}


@pytest.fixture(scope="module")
def engine() -> DiffusersEngine:
    return DiffusersEngine("cpu")


@pytest.fixture(autouse=True)
def registry(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAINTOVER_DATA", str(tmp_path))
    for family, folder in folders.items():
        models.add(folder, name=family)
        for control in CONTROLS:
            models.add(folder / f"controlnet-{control}", control=control)


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


def stock(folder: Path, wanted: Generate, scheduler: Any = None) -> np.ndarray:
    """The stock pipeline's picture for the same request: float32 (H, W, 3)."""
    settings = wanted.settings
    painting_over = wanted.image is not None and (wanted.mask is not None or settings.strength < 1)
    kind = "Inpaint" if wanted.mask is not None else "Img2Img" if painting_over else ""
    family = "XL" if settings.model == "sdxl" else ""
    controls = settings.controls
    name = f"StableDiffusion{family}{'ControlNet' if controls else ''}{kind}Pipeline"
    nets = [diffusers.ControlNetModel.from_pretrained(folder / f"controlnet-{control.name}") for control in controls]
    one_or_all = (lambda values: values[0]) if len(controls) == 1 else list
    extra: dict[str, Any] = {"controlnet": one_or_all(nets)} if controls else {}
    pipe = getattr(diffusers, name).from_pretrained(folder, local_files_only=True, **extra)
    pipe.set_progress_bar_config(disable=True)
    if scheduler is not None:
        pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    call: dict[str, Any] = {"width": WIDTH, "height": HEIGHT}
    if kind == "Img2Img" and not controls:
        call = {}  # these pipelines take the picture's size
    if painting_over:
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


def assert_equal(engine: DiffusersEngine, folders: dict[str, Path], wanted: Generate, scheduler: Any = None) -> None:
    ours, _ = engine.paint_float(wanted, Recorder())
    theirs = stock(folders[wanted.settings.model], wanted, scheduler)
    assert ours.dtype == theirs.dtype == np.float32 and ours.shape == theirs.shape == (HEIGHT, WIDTH, 3)
    assert ours.std() > 0.01, "a picture of one colour shows nothing"
    np.testing.assert_array_equal(ours, theirs)
    painted = engine.paint(wanted, Recorder()).image
    quantised = (theirs * 255).round().astype(np.uint8)
    if wanted.mask is not None:
        quantised = np.where(wanted.mask[..., None] > 127, quantised, wanted.image)
    np.testing.assert_array_equal(painted, quantised)


both_families = pytest.mark.parametrize("family", ["sd15", "sdxl"])


@both_families
@pytest.mark.parametrize("controls", [{}, ONE, PART, ALL], ids=["plain", "one", "part", "three"])
def test_text_to_image(engine: DiffusersEngine, folders: dict[str, Path], family: str, controls: dict) -> None:
    assert_equal(engine, folders, request(family, controls))


@both_families
@pytest.mark.parametrize("controls", [{}, PART, ALL], ids=["plain", "part", "three"])
def test_image_to_image(engine: DiffusersEngine, folders: dict[str, Path], family: str, controls: dict) -> None:
    assert_equal(engine, folders, request(family, controls, image=picture(), strength=0.6, steps=5))


@both_families
@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("controls", [{}, ALL], ids=["plain", "three"])
def test_inpainting(
    engine: DiffusersEngine, folders: dict[str, Path], family: str, controls: dict, strength: float
) -> None:
    wanted = request(family, controls, image=picture(), mask=hole(), strength=strength, steps=5)
    assert_equal(engine, folders, wanted)


@both_families
@pytest.mark.parametrize("changes", [{"guidance": 1.0}, {"negative_prompt": ""}], ids=["unguided", "no negative"])
def test_prompts_and_guidance(engine: DiffusersEngine, folders: dict[str, Path], family: str, changes: dict) -> None:
    assert_equal(engine, folders, request(family, ONE, **changes))


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
def test_schedulers(engine: DiffusersEngine, folders: dict[str, Path], name: str, cls: str, inpaint: bool) -> None:
    given = {"image": picture(), "mask": hole(), "strength": 0.8} if inpaint else {}
    wanted = request("sd15", ONE, scheduler=name, steps=5, **given)
    assert_equal(engine, folders, wanted, getattr(diffusers, cls))
