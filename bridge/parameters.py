"""The one parameter table: every setting, declared once.

Blender properties and panels, wire validation, command-line flags, OSC addresses and the reference page are all
generated from `PARAMETERS` (and `LIVE`, live.py: what a stream of frames has besides). `Settings` is a snapshot of all
of them and travels with every request.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, Self

from .errors import BadParameter, BadSize

CONTROLS = ("depth", "normal", "edge")
"""The passes that can condition the painting, in the order in which their ControlNets run."""

SCHEDULERS = ("default", "ddim", "euler", "euler_a", "dpmpp_2m", "unipc", "lcm")
METHODS = ("synchronised", "sequential")
CAMERA_SOURCES = ("automatic", "scene", "selected")
DEPTH_RANGES = ("automatic", "fixed")
BLENDER_UNITS = "Blender units"


@dataclass(frozen=True)
class Parameter:
    """One setting: everything that a panel, a wire check, a flag or a reference page needs to know of it."""

    name: str
    type: type
    default: Any
    label: str
    description: str
    group: str
    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""
    step: int | None = None
    choices: tuple[str | int, ...] = ()
    live: bool = False
    """May change while frames stream, without starting a new job."""
    address: str = ""
    """OSC address below the root."""
    multiline: bool = False

    def check(self, value: Any) -> Any:
        """The value in this parameter's own type, or BadParameter."""
        if (kind := type(value)) is int and self.type is float:
            value, kind = float(value), float
        if kind is not self.type:
            raise BadParameter(name=self.name, reason=f"{value!r} is of type {kind.__name__}, not {self.type.__name__}")
        if kind is float and not math.isfinite(value):
            raise BadParameter(name=self.name, reason=f"{value} is not a finite number")
        if self.minimum is not None and value < self.minimum:
            raise BadParameter(name=self.name, reason=f"{value} is below its minimum {self.minimum:g}")
        if self.maximum is not None and value > self.maximum:
            raise BadParameter(name=self.name, reason=f"{value} is above its maximum {self.maximum:g}")
        if self.choices and value not in self.choices:
            raise BadParameter(name=self.name, reason=f"{value!r} is not one of {', '.join(map(str, self.choices))}")
        if kind is str and len(value.encode()) > MAX_TEXT:
            raise BadParameter(name=self.name, reason=f"the text is longer than {MAX_TEXT:,} bytes")
        if self.step and value % self.step:
            raise BadParameter(name=self.name, reason=f"{value} is not divisible by {self.step}")
        return value


MAX_TEXT = 60_000
"""Longest text of a parameter in UTF-8 bytes (it must fit a UDP packet for OSC)."""


def parameter(default: Any, label: str, description: str, group: str, **details: Any) -> Any:
    return field(default=default, metadata={"label": label, "description": description, "group": group, **details})


def _scale(control: str) -> Any:
    return parameter(
        1.0, "Scale", f"How strongly the {control} ControlNet steers the painting", "control",
        minimum=0.0, maximum=2.0, live=True, address=f"control/{control}/scale",
    )  # fmt: skip


def _enable(control: str, default: bool, what: str) -> Any:
    return parameter(
        default, control.capitalize(), f"Let the ControlNet for {what} hold the painting to the scene", "control",
        live=True, address=f"control/{control}/enable",
    )  # fmt: skip


def _bound(control: str, default: float, label: str, which: str) -> Any:
    return parameter(
        default, label, f"Share of the steps {which} which the {control} ControlNet acts", "control",
        minimum=0.0, maximum=1.0, address=f"control/{control}/{label.lower()}",
    )  # fmt: skip


def _kind(name: str, label: str, where: str) -> Any:
    return parameter(True, label, f"Draw lines {where}", "edge", address=f"edge/{name}")


@dataclass(frozen=True)
class Settings:
    """A snapshot of every parameter. Construction checks all values: an instance is always valid."""

    prompt: str = parameter(
        "",
        "Prompt",
        "What to paint, for example: old red brick, mossy stone",
        "prompt",
        live=True,
        multiline=True,
    )
    negative_prompt: str = parameter(
        "", "Negative", "What the painting should not show", "prompt", live=True, address="prompt/negative"
    )
    lora: str = parameter(
        "", "LoRA", "Names and weights of installed LoRAs, for example: film:0.8 sketch:0.4 (see: paintover models "
        "list)", "model", live=True,
    )  # fmt: skip
    model: str = parameter(
        "mini",
        "Model",
        "Name of an installed model (see: paintover models list)",
        "model",
        live=True,
    )
    seed: int = parameter(
        -1, "Seed", "The same seed and settings give the same image; −1 chooses one and tells which", "image",
        minimum=-1, maximum=2**31 - 1, live=True,
    )  # fmt: skip
    seed_travel: float = parameter(
        0.0, "Seed Travel", "How far on the way from the seed's noise to the next seed's", "image",
        minimum=0.0, maximum=1.0, live=True, address="seed/travel",
    )  # fmt: skip
    steps: int = parameter(
        20,
        "Steps",
        "Denoising steps: more are slower and cleaner",
        "image",
        minimum=1,
        maximum=150,
        live=True,
    )
    guidance: float = parameter(
        5.0, "Guidance", "How closely the painting follows the prompt (classifier-free guidance)", "image",
        minimum=0.0, maximum=30.0, live=True,
    )  # fmt: skip
    strength: float = parameter(
        1.0, "Strength", "How much of the scene's own render is painted over; 1 ignores it", "image",
        minimum=0.0, maximum=1.0, live=True,
    )  # fmt: skip
    scheduler: str = parameter(
        "default", "Scheduler", "Sampling method; “default” is the model's own", "image", choices=SCHEDULERS
    )
    size: int = parameter(
        512,
        "View Size",
        "Longer side of a painted view",
        "image",
        minimum=64,
        maximum=4096,
        unit="px",
        step=8,
    )
    control_depth: bool = _enable("depth", True, "depth")
    control_depth_scale: float = _scale("depth")
    control_depth_start: float = _bound("depth", 0.0, "Start", "after")
    control_depth_end: float = _bound("depth", 1.0, "End", "until")
    control_normal: bool = _enable("normal", False, "surface normals")
    control_normal_scale: float = _scale("normal")
    control_normal_start: float = _bound("normal", 0.0, "Start", "after")
    control_normal_end: float = _bound("normal", 1.0, "End", "until")
    control_edge: bool = _enable("edge", False, "edges")
    control_edge_scale: float = _scale("edge")
    control_edge_start: float = _bound("edge", 0.0, "Start", "after")
    control_edge_end: float = _bound("edge", 1.0, "End", "until")
    edge_width: float = parameter(
        1.0, "Line Width", "Width of the edge pass's lines", "edge",
        minimum=0.5, maximum=16.0, unit="px", address="edge/width",
    )  # fmt: skip
    edge_crease_angle: float = parameter(
        30.0, "Crease Angle", "Faces that meet at more than this angle make a crease, unless they are shaded smooth",
        "edge", minimum=1.0, maximum=180.0, unit="°", address="edge/crease_angle",
    )  # fmt: skip
    edge_silhouette: bool = _kind("silhouette", "Silhouettes", "where a surface ends or hides another one")
    edge_crease: bool = _kind("crease", "Creases", "where faces meet at an angle")
    edge_border: bool = _kind("border", "Borders", "where one object or material ends and another begins")
    edge_mark: bool = _kind("mark", "Freestyle Marks", "along edges marked for Freestyle (Edge > Mark Freestyle Edge)")
    edge_intersection: bool = _kind("intersection", "Intersections", "where surfaces pass through each other")
    depth_range: str = parameter(
        "automatic", "Range", "Which distances the depth hint tells apart: those in each image, or from Near to Far in "
        "all of them", "depth", choices=DEPTH_RANGES, live=True, address="depth/range",
    )  # fmt: skip
    depth_near: float = parameter(
        1.0, "Near", "Distance from the camera that is white in the depth hint, with a fixed range", "depth",
        minimum=0.001, maximum=1e6, unit=BLENDER_UNITS, live=True, address="depth/near",
    )  # fmt: skip
    depth_far: float = parameter(
        10.0, "Far", "Distance from the camera that is darkest in the depth hint, with a fixed range", "depth",
        minimum=0.001, maximum=1e6, unit=BLENDER_UNITS, live=True, address="depth/far",
    )  # fmt: skip
    method: str = parameter(
        "synchronised", "Method", "All views at once, so that they agree from the first step on; or one after the "
        "other, each going on where the last one ended", "texture", choices=METHODS,
    )  # fmt: skip
    cameras: str = parameter(
        "automatic", "Cameras", "From where to paint: placed around the objects, all cameras of the scene, or the "
        "selected ones", "texture", choices=CAMERA_SOURCES,
    )  # fmt: skip
    views: int = parameter(8, "Views", "How many cameras to place around the objects", "texture", minimum=1, maximum=32)
    texture_size: int = parameter(
        1024, "Texture Size", "Side of each object's square texture", "texture",
        minimum=64, maximum=8192, unit="px", step=8,
    )  # fmt: skip
    animate_interval: int = parameter(
        8, "Keyframe Every", "Frames from one painted keyframe of a shot to the next; those between take their paint "
        "from both sides. 1 paints into every frame", "animate", minimum=1, maximum=64, address="animate/interval",
    )  # fmt: skip
    animate_hold: float = parameter(
        1.0, "Hold", "Share of the steps in which a keyframe is held to the paint that the one before has on the same "
        "surfaces. 1 keeps that paint, less paints it over: livelier, and it boils a little", "animate",
        minimum=0.0, maximum=1.0, address="animate/hold",
    )  # fmt: skip
    animate_noise: bool = parameter(
        True, "Noise on Surfaces", "Start from noise that sticks to the surfaces, instead of to the screen", "animate",
        address="animate/noise",
    )  # fmt: skip
    animate_attention: bool = parameter(
        False, "Look Back", "Let keyframes see the shot's first picture and the keyframe before (cross-frame "
        "attention). Each costs three paintings then", "animate", address="animate/attention",
    )  # fmt: skip
    animate_deflicker: float = parameter(
        0.0, "Deflicker", "With Hold below 1: how much of the keyframe before is mixed into the finished one, as far "
        "as the colours around each pixel allow", "animate", minimum=0.0, maximum=1.0, address="animate/deflicker",
    )  # fmt: skip

    animate_motion: str = parameter(
        "", "Motion", "Name of an installed motion adapter (AnimateDiff, see: paintover models list), which paints the "
        "frames of a shot together, livelier and less exactly than keyframes do; empty for none", "animate",
        address="animate/motion",
    )  # fmt: skip

    def __post_init__(self) -> None:
        for row in table(type(self)):  # type: ignore[arg-type]  # mypy takes a dataclass itself for unhashable
            given = getattr(self, row.name)
            if (used := row.check(given)) is not given:
                object.__setattr__(self, row.name, used)
        for control in CONTROLS:
            if getattr(self, f"control_{control}_start") > getattr(self, f"control_{control}_end"):
                raise BadParameter(name=f"control_{control}_start", reason="it is after the end")
        if self.depth_range == "fixed" and self.depth_near >= self.depth_far:
            reason = f"{self.depth_near:g} is not nearer than Far, {self.depth_far:g}"
            raise BadParameter(name="depth_near", reason=reason, hint="Set Near below Far, or the range to Automatic.")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Settings from names and values; what is not named keeps its default. Unknown names: BadParameter."""
        known = {row.name for row in table(cls)}  # type: ignore[arg-type]
        for name in values:
            if name not in known:
                raise BadParameter(name=str(name), reason="there is no such parameter")
        return cls(**values)

    @property
    def depth_limits(self) -> tuple[float, float] | None:
        """Near and far of the depth hint in Blender units; None if every image has its own."""
        return (self.depth_near, self.depth_far) if self.depth_range == "fixed" else None

    @property
    def controls(self) -> tuple[Control, ...]:
        """The enabled ControlNets, in the order of CONTROLS."""
        return tuple(
            Control(
                name,
                getattr(self, f"control_{name}_scale"),
                getattr(self, f"control_{name}_start"),
                getattr(self, f"control_{name}_end"),
            )
            for name in CONTROLS
            if getattr(self, f"control_{name}")
        )

    @property
    def edges(self) -> EdgeStyle:
        """How the edge pass is drawn."""
        return EdgeStyle(*(getattr(self, f"edge_{f.name}") for f in fields(EdgeStyle)))


@dataclass(frozen=True)
class EdgeStyle:
    """Which lines the edge pass has, and how wide they are."""

    width: float = 1.0
    """Pixels."""
    crease_angle: float = 30.0
    """Degrees between the normals of two faces."""
    silhouette: bool = True
    crease: bool = True
    border: bool = True
    mark: bool = True
    intersection: bool = True


@dataclass(frozen=True)
class Control:
    """One enabled ControlNet: its pass and how it acts."""

    name: str
    scale: float
    start: float
    end: float


@cache
def table(cls: type[Settings]) -> tuple[Parameter, ...]:
    """The rows of `Settings`, or of a class that adds some, in the order of their declaration."""
    types = {"str": str, "int": int, "float": float, "bool": bool}
    rows = []
    for f in fields(cls):
        details = dict(f.metadata)
        address = details.pop("address", f.name)
        rows.append(Parameter(f.name, types[str(f.type)], f.default, address=address, **details))
    return tuple(rows)


PARAMETERS: tuple[Parameter, ...] = table(Settings)
BY_NAME: dict[str, Parameter] = {row.name: row for row in PARAMETERS}


def check_size(width: int, height: int) -> None:
    """Raise BadSize for a picture that is not painted: both sides have what View Size says."""
    row = BY_NAME["size"]
    try:
        row.check(width)
        row.check(height)
    except BadParameter as error:
        reason = str(error.details["reason"])
        raise BadSize(width=width, height=height, minimum=row.minimum, maximum=row.maximum, reason=reason) from error
