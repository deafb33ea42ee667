"""The stage's parameters in Blender's panel: one side's changes reach the other, and none comes back as an echo.

The properties are looked at, not listened to: so keyframes, drivers and scripts count like the mouse.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from .. import properties
from ..bridge.live import LIVE_BY_NAME
from ..bridge.live_messages import Value
from . import view

SWITCHES = {"play", "freeze", "blackout"}
"""Whoever joins the stage leaves these as they are."""


class Parameters:
    """What the stage and the scene last agreed on."""

    def __init__(self) -> None:
        self._agreed: dict[str, Value] | None = None
        """As the properties hold it (their floats have 32 bits)."""
        self._of_stage: dict[str, Value] = {}
        self._rejoined = False
        self._model: Value | None = None
        """For which the stage has told a size last."""
        self._made: deque[dict[str, Value]] = deque(maxlen=16)
        """Sizes that matched the camera lately: the stage answers with them."""
        self._matches = True
        """Whether the size follows the scene's camera: an undo does not change that."""

    @property
    def values(self) -> dict[str, Value]:
        """The newest values of the stage; empty before it has told them."""
        return self._of_stage

    def outgoing(self, scene: Any, *, of_camera: bool = False) -> dict[str, Value]:
        """What was changed in Blender since the last time, for LiveSet. `of_camera`: the scene's camera is painted, so
        the size follows its proportions, unless somebody has set another one."""
        if self._agreed is None:  # the stage has not said yet what it has
            return {}
        now = properties.live_values(scene)
        if of_camera and scene.paintover.live_match:
            properties.show_live(scene, size := _matching(scene, now))
            now |= size
            if size not in self._made:
                self._made.append(size)
        self._matches = scene.paintover.live_match
        changed = {name: value for name, value in now.items() if value != self._agreed[name]}
        self._agreed = now
        self._of_stage.update(changed)
        return changed

    def incoming(self, scene: Any, values: dict[str, Value]) -> dict[str, Value]:
        """Show what the stage has; returns what it is to have instead: when it tells all for the first time, what was
        set in this scene; later, what was changed here while there was no connection; and after a new beginning
        (`rejoined`) what the stage has lost."""
        lost = self._lost(values) if self._rejoined else {}
        if self._is_by_hand(values):
            scene.paintover.live_match = False
        self._rejoined = False
        self._of_stage.update(values)
        if not values.keys().isdisjoint(properties.LIVE_SIZE):
            self._model = self._of_stage.get("model")
        if self._agreed is None:
            chosen = properties.live_choices(scene)
            kept = {name: value for name, value in chosen.items() if name in values and name not in SWITCHES}
        else:
            kept = lost | self.outgoing(scene)
        self._of_stage.update(kept)
        properties.show_live(scene, {name: value for name, value in values.items() if name not in kept})
        self._agreed = properties.live_values(scene)
        return {name: value for name, value in kept.items() if value != values.get(name)}

    def _is_by_hand(self, values: dict[str, Value]) -> bool:
        """Whether somebody else has set a size: it comes neither with a model, nor with joining, nor from here."""
        now = self._of_stage | values
        size = {name: now[name] for name in properties.LIVE_SIZE if name in now}
        if self._agreed is None or self._rejoined or size == {name: self._of_stage[name] for name in size}:
            return False
        return now.get("model") == self._model and size not in self._made

    def rejoined(self) -> None:
        """The next values come from a stage that was joined anew: it may be another server's."""
        self._rejoined = True

    def _lost(self, values: dict[str, Value]) -> dict[str, Value]:
        """What was not as it is by default, and is now: a server that was started without what it had stored."""
        return {
            name: value
            for name, value in self._of_stage.items()
            if name in values and values[name] == LIVE_BY_NAME[name].default != value
        }

    def restore(self, scene: Any) -> None:
        """After an undo: the stage goes on as it is, and the scene shows that."""
        if self._agreed is not None:
            properties.show_live(scene, self._of_stage)
            scene.paintover.live_match = self._matches
            self._agreed = properties.live_values(scene)


def _matching(scene: Any, values: dict[str, Value]) -> dict[str, Value]:
    """The size with the proportions of the scene's camera, and about as many pixels as it has now."""
    width, height = (int(values[name]) for name in properties.LIVE_SIZE)
    size = view.sized(width, height, scene.render.resolution_x, scene.render.resolution_y)
    return dict(zip(properties.LIVE_SIZE, size, strict=True))
