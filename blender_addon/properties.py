"""Scene.paintover: the parameter table as Blender properties, generated, and their snapshot for a request.

Jobs and the stage share prompt and controls. Model and sampling the stage has apart (live_…), since it paints with few
steps, by models that can.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import bpy

from .bridge import loras, prompts
from .bridge.live import LIVE
from .bridge.live_messages import Value
from .bridge.messages import ModelInfo
from .bridge.parameters import BLENDER_UNITS, BY_NAME, PARAMETERS, Parameter, Settings

LIVE_SIZE = ("output_width", "output_height")


def _property(parameter: Parameter, *, live: bool = False) -> Any:
    """The Blender property for a row of the table; for the stage it may be one apart."""
    common: dict[str, Any] = {"name": parameter.label, "description": parameter.description}
    if parameter.choices:
        items = [(str(choice), _title(str(choice)), "") for choice in parameter.choices]
        return bpy.props.EnumProperty(items=items, default=str(parameter.default), **common)
    common["default"] = parameter.default
    if parameter.type is bool:
        return bpy.props.BoolProperty(**common)
    if parameter.type is str:
        if parameter.name == "model":
            common |= {"search": _known_models, "search_options": {"SUGGESTION"}}
            if not live:
                common["update"] = _model_changed
        return bpy.props.StringProperty(**common)
    limits = {"min": parameter.minimum, "max": parameter.maximum}
    if parameter.type is float:
        of_space = parameter.unit == BLENDER_UNITS
        subtype, precision = ("DISTANCE", 3) if of_space else ("NONE", 2)
        return bpy.props.FloatProperty(**common, **limits, precision=precision, step=5, subtype=subtype)
    subtype = "PIXEL" if parameter.unit == "px" else "NONE"
    update = _rounded(parameter) if parameter.step else None
    return bpy.props.IntProperty(
        **common,
        **{k: int(v) for k, v in limits.items()},
        subtype=subtype,
        step=parameter.step or 1,
        update=update,
    )


def _title(choice: str) -> str:
    return {"ddim": "DDIM", "dpmpp_2m": "DPM++ 2M", "unipc": "UniPC", "lcm": "LCM", "euler_a": "Euler a"}.get(
        choice, choice.capitalize()
    )


def _rounded(parameter: Parameter) -> Any:
    """Typing 500 for a size that must be divisible by 8 gives 504 instead of an error at the end."""
    step = parameter.step or 1

    def update(self: Any, context: Any) -> None:
        value = getattr(self, parameter.name)
        if value % step:
            setattr(self, parameter.name, min(round(value / step) * step, int(parameter.maximum or value)))
        if parameter.name in LIVE_SIZE:
            self.live_match = False  # somebody has chosen a size

    return update


def _known_models(self: Any, context: Any, text: str) -> Iterable[str]:
    return [model.name for model in _models if text.lower() in model.name.lower()]


def _model_changed(self: Any, context: Any) -> None:
    if found := model(self.model):
        apply_defaults(self, found)


_models: tuple[ModelInfo, ...] = ()


def set_models(models: tuple[ModelInfo, ...]) -> None:
    """What the connected server can paint with (nothing: not connected). Its recommendations go to every scene."""
    global _models
    _models = models
    if models:
        for scene in bpy.data.scenes:
            _model_changed(scene.paintover, None)


def model(name: str) -> ModelInfo | None:
    """The server's model of that name, if there is one."""
    return next((one for one in _models if one.name == name), None)


def apply_defaults(properties: Any, model: ModelInfo) -> None:
    """Set what the model recommends, but nothing that the user has set by hand. What only the model before recommended
    goes back to its default: a sampling method for few steps ruins pictures of a model that needs many."""
    before = json.loads(properties.recommended or "{}")
    defaults = {name: BY_NAME[name].default for name in before if name in BY_NAME}
    for name, value in {**defaults, **model.defaults}.items():
        untouched = not properties.is_property_set(name) or getattr(properties, name) == before.get(name)
        if untouched and getattr(properties, name) != value:
            setattr(properties, name, value)
    properties.recommended = json.dumps(model.defaults)


def snapshot(scene: Any, *, words: str | None = None) -> Settings:
    """The scene's parameters as a request takes them; `words`: what a marker says in place of the prompt."""
    values = {row.name: _ranged(row, getattr(scene.paintover, row.name)) for row in PARAMETERS}
    return Settings(**{**values, "prompt": prompt(scene.paintover, words), "lora": lora(scene.paintover)})


def held(properties: Any) -> Any:
    """The scene's parameters as they are now, in a form that `animated` and `snapshot` take: whatever is typed into the
    tab afterwards is not in it."""
    lists = {
        kind: [SimpleNamespace(text=one.text, weight=one.weight) for one in getattr(properties, kind)]
        for kind in ("prompts", "loras")
    }
    return SimpleNamespace(**{row.name: getattr(properties, row.name) for row in PARAMETERS}, **lists)


def animated(held: Any, properties: Any, paths: Iterable[str]) -> Any:
    """What `held` gave, with that of `properties`, evaluated at a frame, to which the paths of curves or drivers
    lead."""
    found = SimpleNamespace(**vars(held))
    for path in paths:
        owner, _, name = path.partition(".")
        kind = name.partition("[")[0]
        if owner != "paintover":
            continue
        if name in BY_NAME:
            setattr(found, name, getattr(properties, name))
        elif kind in ("prompts", "loras"):
            pairs = zip(getattr(held, kind), getattr(properties, kind), strict=False)
            setattr(found, kind, [SimpleNamespace(text=one.text, weight=now.weight) for one, now in pairs])
    return found


def prompt(properties: Any, words: str | None = None) -> str:
    """The prompt, or a marker's words in its place, blended with those of the list that have any weight."""
    main = properties.prompt if words is None else words
    listed = [(one.text.strip(), one.weight) for one in properties.prompts if one.text.strip() and one.weight > 0]
    if not listed:
        return main
    own = [(blend.text, blend.weight) for blend in prompts.parse(main)] if main.strip() else []
    return prompts.join([*own, *listed]) if own or len(listed) > 1 else listed[0][0]


def lora(properties: Any) -> str:
    """The LoRAs of the field, and those of the list."""
    listed = [(one.text, one.weight) for one in properties.loras if one.text.strip()]
    return " ".join(filter(None, [properties.lora.strip(), loras.join(listed)])) if listed else properties.lora


def live_name(row: Parameter) -> str:
    """Name of the property that holds a live parameter."""
    return f"live_{row.name}" if row.name in BY_NAME and row.group in ("model", "image") else row.name


def live_values(scene: Any) -> dict[str, Value]:
    """What the scene's properties say of every live parameter."""
    return {row.name: _live_value(scene.paintover, row) for row in LIVE}


def _live_value(properties: Any, row: Parameter) -> Value:
    return _ranged(row, getattr(properties, live_name(row)))


def _ranged(row: Parameter, given: Any) -> Value:
    """In the row's own type and range: 0.15 as a float of 32 bits is more than 0.15, and curves and drivers go
    anywhere."""
    value: Value = row.type(given)
    if row.minimum is not None and row.maximum is not None:
        value = min(max(value, row.minimum), row.maximum)  # type: ignore[type-var]
    return value


def live_choices(scene: Any) -> dict[str, Value]:
    """Those of `live_values` that somebody has chosen for this scene: no defaults, and no model's recommendations."""
    properties = scene.paintover
    recommended = json.loads(properties.recommended or "{}")
    return {
        row.name: _live_value(properties, row)
        for row in LIVE
        if properties.is_property_set(name := live_name(row)) and getattr(properties, name) != recommended.get(name)
    }


def show_live(scene: Any, values: dict[str, Value]) -> None:
    """Make the stage's values the scene's. What is the same already is not touched; what is unknown is skipped."""
    properties, matches = scene.paintover, scene.paintover.live_match
    for row in LIVE:
        if row.name in values:
            value = str(values[row.name]) if row.choices else row.type(values[row.name])
            if getattr(properties, live_name(row)) != value:
                setattr(properties, live_name(row), value)
    if properties.live_match != matches:
        properties.live_match = matches


LIVE_CAMERAS = (
    ("VIEWPORT", "Viewport", "Paint what this viewport shows"),
    ("SCENE", "Scene Camera", "Paint what the scene's camera sees; the viewport shows that from wherever it looks"),
)
SHADING = (
    ("UNLIT", "Unlit", "Show the painting as it is: light that is painted is not lit again"),
    ("LIT", "Lit", "Use the painting as the base colour of a material that the scene's lights act on"),
)


SHOT_FORMATS = (
    ("PNG", "PNG", "Frames as they are painted, 8 bits a channel"),
    ("OPEN_EXR", "OpenEXR", "Frames in linear light, 16-bit floats, for compositing"),
)


class PAINTOVER_PG_prompt(bpy.types.PropertyGroup):
    text: bpy.props.StringProperty(name="Prompt", description="What to paint")  # type: ignore[valid-type]
    weight: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Weight",
        description="How much it counts against the other prompts. Keyframe it to go from one prompt to another",
        default=1.0, min=0.0, max=1.0, subtype="FACTOR",
    )  # fmt: skip


class PAINTOVER_PG_lora(bpy.types.PropertyGroup):
    text: bpy.props.StringProperty(name="LoRA", description="Name of an installed LoRA")  # type: ignore[valid-type]
    weight: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Weight",
        description="How much of it there is: 0 is none, below 0 is its opposite. Keyframe it to have it come and go",
        default=1.0, min=-loras.MOST, max=loras.MOST, soft_min=0.0, soft_max=1.0,
    )  # fmt: skip


class PAINTOVER_PG_settings(bpy.types.PropertyGroup):
    shading: bpy.props.EnumProperty(name="Shading", description="How painted objects are shaded", items=SHADING)  # type: ignore[valid-type]
    live_camera: bpy.props.EnumProperty(name="View", description="What is painted live", items=LIVE_CAMERAS)  # type: ignore[valid-type]
    live_match: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Match Camera",
        description="Give the painted frames the proportions of the scene's camera, with about as many pixels as now. "
        "A Width or Height that is set here or over OSC switches this off",
        default=True,
    )
    live_folder: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Folder",
        description="Where snapshots and recordings are saved",
        subtype="DIR_PATH",
        default="//paintover",
        options={"PATH_SUPPORTS_BLEND_RELATIVE"} if bpy.app.version >= (4, 5, 0) else set(),
    )
    prompts: bpy.props.CollectionProperty(type=PAINTOVER_PG_prompt, name="Prompts")  # type: ignore[valid-type]
    prompt_index: bpy.props.IntProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    loras: bpy.props.CollectionProperty(type=PAINTOVER_PG_lora, name="LoRAs")  # type: ignore[valid-type]
    lora_index: bpy.props.IntProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    shot_folder: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Output",
        description="Folder for the painted frames",
        subtype="DIR_PATH",
        default="//paintover",
        options={"PATH_SUPPORTS_BLEND_RELATIVE"} if bpy.app.version >= (4, 5, 0) else set(),
    )
    shot_format: bpy.props.EnumProperty(name="Format", description="Of the painted frames", items=SHOT_FORMATS)  # type: ignore[valid-type]
    shot_backwards: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Backwards", description="Paint from the last frame to the first, each from the one after it"
    )
    look_every: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Every", description="Look First paints every so many frames", default=12, min=1, soft_max=100
    )
    recommended: bpy.props.StringProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    identity: bpy.props.StringProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    """The scene's own for good (away.identify): its jobs find it under whatever name, in whatever file."""
    places: bpy.props.StringProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    """Of the files that it was in (Origin.place), newest last."""
    applied: bpy.props.StringProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    """Names of the jobs whose results the scene got, newest last. It is saved, and undone, with them: a file that lost
    a result by a crash asks for it again."""


PAINTOVER_PG_settings.__annotations__.update({p.name: _property(p) for p in PARAMETERS})
PAINTOVER_PG_settings.__annotations__.update(
    {live_name(row): _property(row, live=True) for row in LIVE if live_name(row) not in BY_NAME}
)


def register() -> None:
    bpy.utils.register_class(PAINTOVER_PG_prompt)
    bpy.utils.register_class(PAINTOVER_PG_lora)
    bpy.utils.register_class(PAINTOVER_PG_settings)
    bpy.types.Scene.paintover = bpy.props.PointerProperty(type=PAINTOVER_PG_settings)


def unregister() -> None:
    del bpy.types.Scene.paintover
    bpy.utils.unregister_class(PAINTOVER_PG_settings)
    bpy.utils.unregister_class(PAINTOVER_PG_lora)
    bpy.utils.unregister_class(PAINTOVER_PG_prompt)
