from __future__ import annotations

import math

import pytest

from paintover.bridge.errors import BadParameter
from paintover.bridge.live import LIVE_BY_NAME, LiveSettings
from paintover.bridge.parameters import BY_NAME, CONTROLS, PARAMETERS, EdgeStyle, Settings, table
from paintover.bridge.schema import from_plain, to_plain


def test_every_row_is_complete_and_its_default_valid() -> None:
    rows = table(LiveSettings)  # what a job has, and what only a stream has
    for row, own in zip(rows, PARAMETERS, strict=False):
        assert (row.name, row.type, row.address, row.choices) == (own.name, own.type, own.address, own.choices)
        assert row.maximum == own.maximum or row.name == "steps", "fifty steps already take seconds a frame"
    for parameter in rows:
        assert parameter.check(parameter.default) == parameter.default
        assert parameter.label
        assert parameter.description[0].isupper()
        assert not parameter.description.endswith("."), "Blender adds the full stop of a tooltip itself"
    addresses = [parameter.address for parameter in rows]
    assert len(set(addresses)) == len(addresses)
    assert BY_NAME["control_depth_scale"].address == "control/depth/scale"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0), ("steps", 151), ("steps", 2.0), ("steps", True), ("steps", "3"),
        ("guidance", math.nan), ("guidance", math.inf), ("guidance", -0.1),
        ("seed", -2), ("seed", 2**31), ("size", 513), ("scheduler", "magic"), ("cameras", ""),
        ("prompt", "x" * 60_001), ("prompt", None), ("control_depth", 1),
        ("animate_interval", 0), ("animate_interval", 65), ("animate_hold", 1.5), ("seed_travel", -0.1),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(BadParameter, match=name):
        Settings.from_mapping({name: value})


def test_a_whole_number_will_do_for_a_float() -> None:
    settings = Settings(guidance=7)
    assert type(settings.guidance) is float


def test_unknown_names_are_refused() -> None:
    with pytest.raises(BadParameter, match="no such parameter"):
        Settings.from_mapping({"stepz": 3})


def test_controls_are_listed_in_order_with_their_own_values() -> None:
    settings = Settings(control_edge=True, control_edge_scale=0.5, control_normal=True, control_normal_end=0.5)
    assert [control.name for control in settings.controls] == list(CONTROLS)
    assert settings.controls[1].end == 0.5
    assert settings.controls[2].scale == 0.5
    assert Settings(control_depth=False).controls == ()


def test_edges_are_drawn_as_set() -> None:
    assert Settings().edges == EdgeStyle()
    settings = Settings(edge_width=2, edge_crease_angle=45, edge_mark=False)
    assert settings.edges == EdgeStyle(width=2.0, crease_angle=45.0, mark=False)
    for name in ("silhouette", "crease", "border", "mark", "intersection"):
        assert not getattr(Settings(**{f"edge_{name}": False}).edges, name)
    with pytest.raises(BadParameter, match="edge_width"):
        Settings(edge_width=0)


def test_settings_of_before_there_were_edge_parameters_are_read() -> None:
    """As they lie in the journals of older servers."""
    plain = {name: value for name, value in to_plain(Settings(steps=7), []).items() if not name.startswith("edge_")}
    assert from_plain(Settings, plain, []) == Settings(steps=7)


def test_a_control_cannot_end_before_it_starts() -> None:
    with pytest.raises(BadParameter, match="after the end"):
        Settings(control_depth_start=0.6, control_depth_end=0.4)


def test_near_is_nearer_than_far() -> None:
    with pytest.raises(BadParameter, match=r"9 is not nearer than Far, 8.*Set Near below Far"):
        Settings(depth_range="fixed", depth_near=9.0, depth_far=8.0)
    assert Settings(depth_near=9.0, depth_far=8.0).depth_limits is None
    assert Settings(depth_range="fixed", depth_near=2.0, depth_far=8.0).depth_limits == (2, 8)


def test_a_stream_may_change_what_the_table_calls_live() -> None:
    assert {"prompt", "seed", "control_edge_scale", "feedback_zoom", "play", "tempo_bpm"} <= set(LIVE_BY_NAME)
    assert "texture_size" not in LIVE_BY_NAME
    assert LiveSettings.from_mapping({"smooth": 0.5, "steps": 2}).smooth == 0.5
    with pytest.raises(BadParameter, match="tempo_quantize"):
        LiveSettings(tempo_quantize=3)


def test_on_a_stage_near_and_far_may_cross() -> None:
    assert LiveSettings(depth_range="fixed", depth_near=9.0, depth_far=2.0).depth_limits == (2.0, 9.0)
    near, far = LiveSettings(depth_range="fixed", depth_near=2.0, depth_far=2.0).depth_limits or (0, 0)
    assert near < far
