"""Scene.paintover: the parameter table as Blender properties, generated, and their snapshot for a request."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import bpy

from .bridge.messages import ModelInfo
from .bridge.parameters import BLENDER_UNITS, PARAMETERS, Parameter, Settings


def _property(parameter: Parameter) -> Any:
    """The Blender property for a row of the table."""
    common: dict[str, Any] = {"name": parameter.label, "description": parameter.description}
    if parameter.choices:
        items = [(choice, _title(choice), "") for choice in parameter.choices]
        return bpy.props.EnumProperty(items=items, default=parameter.default, **common)
    common["default"] = parameter.default
    if parameter.type is bool:
        return bpy.props.BoolProperty(**common)
    if parameter.type is str:
        if parameter.name == "model":
            common |= {"search": _known_models, "search_options": {"SUGGESTION"}, "update": _model_changed}
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
    """Set what the model recommends, but nothing that the user has set by hand."""
    before = json.loads(properties.recommended or "{}")
    for name, value in model.defaults.items():
        untouched = not properties.is_property_set(name) or getattr(properties, name) == before.get(name)
        if untouched and getattr(properties, name) != value:
            setattr(properties, name, value)
    properties.recommended = json.dumps(model.defaults)


def snapshot(scene: Any) -> Settings:
    """The scene's parameters as a request takes them."""
    properties = scene.paintover
    return Settings(**{parameter.name: getattr(properties, parameter.name) for parameter in PARAMETERS})


SHADING = (
    ("UNLIT", "Unlit", "Show the painting as it is: light that is painted is not lit again"),
    ("LIT", "Lit", "Use the painting as the base colour of a material that the scene's lights act on"),
)


class PAINTOVER_PG_settings(bpy.types.PropertyGroup):
    shading: bpy.props.EnumProperty(name="Shading", description="How painted objects are shaded", items=SHADING)  # type: ignore[valid-type]
    recommended: bpy.props.StringProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    identity: bpy.props.StringProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    """The scene's own for good (away.identify): its jobs find it under whatever name, in whatever file."""
    places: bpy.props.StringProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    """Of the files that it was in (Origin.place), newest last."""
    applied: bpy.props.StringProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    """Names of the jobs whose results the scene got, newest last. It is saved, and undone, with them: a file that lost
    a result by a crash asks for it again."""


PAINTOVER_PG_settings.__annotations__.update({p.name: _property(p) for p in PARAMETERS})


def register() -> None:
    bpy.utils.register_class(PAINTOVER_PG_settings)
    bpy.types.Scene.paintover = bpy.props.PointerProperty(type=PAINTOVER_PG_settings)


def unregister() -> None:
    del bpy.types.Scene.paintover
    bpy.utils.unregister_class(PAINTOVER_PG_settings)
