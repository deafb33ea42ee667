"""What a model brings along when it is chosen: values that suit it; and what it has changed, for when it is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paintover.bridge.live import LIVE_BY_NAME
from paintover.bridge.live_messages import Value

from .state import LiveState

MAX_OUTPUT = 512
"""Pixels of a frame's side that choosing a model sets at most: live, rate counts for more."""


class Suit:
    """Belongs to the stage."""

    def __init__(self, state: LiveState, defaults_of: Callable[[str], dict[str, Any]]) -> None:
        self._state, self._defaults_of = state, defaults_of
        self._model = str(state.values["model"])
        self._before: dict[str, Value] = {}
        """What choosing the model has changed."""

    def bring(self, model: str, now: float) -> None:
        """Set what suits a model that was chosen. Raises MissingModel and what else keeps its defaults from us."""
        self._before, self._model = {"model": self._model}, model
        wanted = dict(self._defaults_of(model))
        if size := wanted.pop("size", None):
            wanted["output_width"] = wanted["output_height"] = min(size, MAX_OUTPUT)
        wanted = {name: value for name, value in wanted.items() if name in LIVE_BY_NAME}
        self._before |= {name: self._state.values[name] for name in wanted}
        self._state.apply(wanted, now)

    def take_back(self, now: float) -> None:
        """The model is not to be had: go back to the one before, and to its values."""
        self._state.apply(self._before, now)
