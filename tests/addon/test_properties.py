"""The scene's properties, which are made from the parameter table."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import bpy
import pytest

from paintover import operators, properties
from paintover.bridge.messages import ModelInfo
from paintover.bridge.parameters import PARAMETERS, Settings

pytestmark = pytest.mark.usefixtures("registered")


def test_every_parameter_is_a_property_and_snapshots_agree(registered: Any) -> None:
    assert properties.snapshot(bpy.context.scene) == Settings()
    registered.steps, registered.prompt, registered.scheduler, registered.control_edge = 33, "moss", "euler", True
    expected = Settings(steps=33, prompt="moss", scheduler="euler", control_edge=True)
    assert properties.snapshot(bpy.context.scene) == expected
    for parameter in PARAMETERS:
        shown = registered.bl_rna.properties[parameter.name]
        assert shown.name == parameter.label
        assert shown.description == parameter.description
        if parameter.minimum is not None:
            assert shown.hard_min == pytest.approx(parameter.minimum), "Blender keeps it in 32 bits"
            assert shown.hard_max == pytest.approx(parameter.maximum)


def test_a_models_defaults_leave_alone_what_the_user_set(registered: Any) -> None:
    registered.steps = 50
    small = ModelInfo("small", "sd15", (), {"steps": 12, "size": 256})
    large = ModelInfo("large", "sdxl", (), {"steps": 30, "size": 1024})
    properties.apply_defaults(registered, small)
    assert (registered.steps, registered.size) == (50, 256)
    properties.apply_defaults(registered, large)
    assert (registered.steps, registered.size) == (50, 1024)
    registered.size = 768
    properties.apply_defaults(registered, small)
    assert registered.size == 768


def test_what_only_the_model_before_wanted_goes_with_it(registered: Any) -> None:
    quick = ModelInfo("quick", "sd15", (), {"steps": 2, "scheduler": "lcm", "control_depth": False})
    plain = ModelInfo("plain", "sd15", (), {"steps": 12})
    properties.apply_defaults(registered, quick)
    properties.apply_defaults(registered, plain)
    assert (registered.steps, registered.scheduler, registered.control_depth) == (12, "default", True)
    properties.apply_defaults(registered, quick)
    registered.scheduler = "euler"
    properties.apply_defaults(registered, plain)
    assert registered.scheduler == "euler", "which was chosen by hand"


def test_what_the_buttons_say(registered: Any) -> None:
    operators.register()
    try:
        for cls in operators.CLASSES:
            said = getattr(bpy.ops.paintover, cls.bl_idname.split(".")[1]).get_rna_type().description
            assert said
            assert "\n" not in said, f"{cls.bl_idname}: Blender breaks lines where they are broken"
        shot = next(cls for cls in operators.CLASSES if cls.bl_idname == "paintover.render_shot")
        said = [shot.description(bpy.context, SimpleNamespace(again=again)) for again in (False, True)]
        assert "are kept" in said[0]
        assert "anew" in said[1]
        assert "kept" not in said[1]
    finally:
        operators.unregister()
