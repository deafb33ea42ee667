"""The parameters that only a stream of frames has: prompts that blend, feedback, pacing, tempo, the stage's switches.

They continue the one parameter table (parameters.py). `LIVE` holds all that may change while frames stream; OSC
addresses, OSCQuery, the monitor page and Blender's live panel are generated from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .parameters import Parameter, Settings, parameter, table

SLOTS = 8
"""Prompts that can be blended with the main one."""


def _slot(number: int) -> Any:
    return parameter(
        "", f"Prompt {number}", "A prompt that is blended with the main one by its weight", "prompts",
        live=True, address=f"prompt/{number}/text",
    )  # fmt: skip


def _weight(number: int) -> Any:
    return parameter(
        0.0, "Weight", f"Share of prompt {number} in the blend; the main prompt's is 1", "prompts",
        minimum=0.0, maximum=1.0, live=True, address=f"prompt/{number}/weight",
    )  # fmt: skip


def _live(default: Any, label: str, description: str, group: str, address: str, **details: Any) -> Any:
    return parameter(default, label, description, group, live=True, address=address, **details)


@dataclass(frozen=True)
class LiveSettings(Settings):
    """A snapshot of every parameter that a streamed frame depends on. An instance is always valid."""

    # What suits the model that is there from the start, and few steps: fifty already take seconds a frame.
    model: str = _live(
        "mini-turbo", "Model", "Name of an installed model; it brings values that suit it", "model", "model"
    )
    steps: int = _live(
        2, "Steps", "Denoising steps of a frame: more are slower and cleaner", "image", "steps",
        minimum=1, maximum=50,
    )  # fmt: skip
    in_flight: bool = _live(
        False, "Overlap Frames", "Paint the steps of several frames together: more frames a second, each shown later",
        "image", "steps/overlap",
    )  # fmt: skip
    guidance: float = _live(
        1.0, "Guidance", "How closely the painting follows the prompt: 1 is as the model was trained", "image",
        "guidance", minimum=0.0, maximum=30.0,
    )  # fmt: skip
    control_depth: bool = _live(
        False, "Depth", "Let the ControlNet for depth hold the painting to the scene", "control", "control/depth/enable"
    )
    control_normal: bool = _live(
        True, "Normal", "Let the ControlNet for surface normals hold the painting to the scene", "control",
        "control/normal/enable",
    )  # fmt: skip
    prompt_1: str = _slot(1)
    prompt_1_weight: float = _weight(1)
    prompt_2: str = _slot(2)
    prompt_2_weight: float = _weight(2)
    prompt_3: str = _slot(3)
    prompt_3_weight: float = _weight(3)
    prompt_4: str = _slot(4)
    prompt_4_weight: float = _weight(4)
    prompt_5: str = _slot(5)
    prompt_5_weight: float = _weight(5)
    prompt_6: str = _slot(6)
    prompt_6_weight: float = _weight(6)
    prompt_7: str = _slot(7)
    prompt_7_weight: float = _weight(7)
    prompt_8: str = _slot(8)
    prompt_8_weight: float = _weight(8)
    prompt_transition: float = _live(
        0.0, "Transition", "Time in which the picture travels from the old prompt to a new one", "prompts",
        "prompt/transition", minimum=0.0, maximum=60.0, unit="s",
    )  # fmt: skip
    feedback_amount: float = _live(
        0.0, "Feedback", "How much of the last frame the next one starts from", "feedback",
        "feedback/amount", minimum=0.0, maximum=1.0,
    )  # fmt: skip
    feedback_zoom: float = _live(
        1.0, "Zoom", "Scale of the last frame before it is fed back", "feedback",
        "feedback/zoom", minimum=0.75, maximum=1.5,
    )  # fmt: skip
    feedback_rotate: float = _live(
        0.0, "Rotate", "Turn of the last frame before it is fed back", "feedback",
        "feedback/rotate", minimum=-10.0, maximum=10.0, unit="°",
    )  # fmt: skip
    feedback_x: float = _live(
        0.0, "Shift X", "Shift of the last frame to the right, as a share of its width", "feedback",
        "feedback/x", minimum=-0.15, maximum=0.15,
    )  # fmt: skip
    feedback_y: float = _live(
        0.0, "Shift Y", "Shift of the last frame upward, as a share of its height", "feedback",
        "feedback/y", minimum=-0.15, maximum=0.15,
    )  # fmt: skip
    smooth: float = _live(
        0.0, "Smooth", "Share of the last frame in each new one: less flicker, slower changes", "feedback",
        "smooth", minimum=0.0, maximum=0.99,
    )  # fmt: skip
    play: bool = _live(True, "Play", "Paint frames", "stage", "play")
    freeze: bool = _live(False, "Freeze", "Hold the frame that is shown", "stage", "freeze")
    blackout: float = _live(0.0, "Blackout", "Fade the output to black", "stage", "blackout", minimum=0.0, maximum=1.0)
    output_fps: float = _live(
        30.0, "Output Rate", "Frames a second that are sent out; between painted ones the newest is repeated", "stage",
        "output/fps", minimum=1.0, maximum=120.0, unit="fps",
    )  # fmt: skip
    output_width: int = _live(
        256, "Width", "Width of the painted frames", "stage",
        "output/width", minimum=64, maximum=2048, unit="px", step=64,
    )  # fmt: skip
    output_height: int = _live(
        256, "Height", "Height of the painted frames", "stage",
        "output/height", minimum=64, maximum=2048, unit="px", step=64,
    )  # fmt: skip
    tempo_bpm: float = _live(
        120.0, "Tempo", "Beats a minute", "tempo", "tempo/bpm", minimum=20.0, maximum=999.0, unit="bpm"
    )
    tempo_quantize: int = _live(
        0, "Quantize", "Hold changes back to the next beat (1) or bar (4); 0 applies them at once", "tempo",
        "tempo/quantize", choices=(0, 1, 4),
    )  # fmt: skip
    tempo_compensate: bool = _live(
        False, "Compensate Latency", "Apply held changes early by the measured latency, so that the picture changes on "
        "the beat", "tempo", "tempo/compensate",
    )  # fmt: skip
    camera_orbit: float = _live(
        0.0, "Orbit", "Turn of Blender's camera around what it looks at", "blender",
        "camera/orbit", minimum=-360.0, maximum=360.0, unit="°",
    )  # fmt: skip
    camera_elevation: float = _live(
        0.0, "Elevation", "Rise of Blender's camera over what it looks at", "blender",
        "camera/elevation", minimum=-89.0, maximum=89.0, unit="°",
    )  # fmt: skip
    camera_distance: float = _live(
        0.0, "Distance", "Distance of Blender's camera from what it looks at; 0 leaves it", "blender",
        "camera/distance", minimum=0.0, maximum=10_000.0, unit="m",
    )  # fmt: skip
    timeline: float = _live(
        -1.0, "Timeline", "Where Blender's timeline is, in seconds from the scene's first frame; −1 leaves it",
        "blender", "timeline", minimum=-1.0, maximum=86_400.0, unit="s",
    )  # fmt: skip

    def __post_init__(self) -> None:
        # Faders move one after the other: for a moment Near may lie behind Far, and that must not stop a show.
        if self.depth_near >= self.depth_far:
            near, far = self.depth_far, self.depth_near
            object.__setattr__(self, "depth_near", near)
            object.__setattr__(self, "depth_far", max(far, near * 1.001))
        super().__post_init__()


LIVE: tuple[Parameter, ...] = tuple(row for row in table(LiveSettings) if row.live)
LIVE_BY_NAME: dict[str, Parameter] = {row.name: row for row in LIVE}


@dataclass(frozen=True)
class Trigger:
    """Something to do once. It fires without a value or with a number other than 0, which is a button's release."""

    address: str
    label: str
    description: str
    tags: str = ""
    """OSC types of its arguments; those in brackets may be left out."""
    for_client: bool = False
    """The client that sends the frames does it, not the server."""


TRIGGERS: tuple[Trigger, ...] = (
    Trigger("reset", "Reset", "Forget the frames so far: feedback and smoothing start anew"),
    Trigger("preset/store", "Store Preset", "Keep how the picture looks under this number, 1 to 128", "i"),
    Trigger("preset/recall", "Recall Preset", "Go to a preset, at once or in this many seconds", "i[f]"),
    Trigger("tempo/tap", "Tap", "Tap the tempo; the first of a series starts a bar"),
    Trigger("texture/run", "Texture", "Start painting textures in Blender, with its own settings", for_client=True),
    Trigger("animation/run", "Animation", "Start painting an animation in Blender", for_client=True),
    Trigger("cancel", "Cancel", "Stop the job that Blender runs", for_client=True),
)
TRIGGERS_BY_ADDRESS: dict[str, Trigger] = {trigger.address: trigger for trigger in TRIGGERS}
