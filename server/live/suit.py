"""What a model brings along when it is chosen: values that suit it; and what it has changed, for when it is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paintover.bridge.errors import WorkerDied
from paintover.bridge.live import LIVE_BY_NAME
from paintover.bridge.live_messages import Value

from .state import LiveState

MAX_OUTPUT = 512
"""Pixels of a frame's side that choosing a model sets at most: live, rate counts for more."""
DEADLY = 3
"""Workers that die in a row without one frame in between, after which the model is taken for what kills them: it is
the first one that may have painted with another before."""


class Suit:
    """Belongs to the stage."""

    def __init__(self, state: LiveState, defaults_of: Callable[[str], dict[str, Any]]) -> None:
        self._state, self._defaults_of = state, defaults_of
        self._model = str(state.values["model"])
        self._before: dict[str, Value] = {}
        """What choosing the model has changed."""
        self._deaths = 0

    def bring(self, model: str, now: float) -> None:
        """Set what suits a model that was chosen. Raises MissingModel and what else keeps its defaults from us."""
        if model == self._model:
            return  # it was gone back to
        self._before, self._model = {"model": self._model}, model
        wanted = dict(self._defaults_of(model))
        if size := wanted.pop("size", None):
            wanted["output_width"] = wanted["output_height"] = min(size, MAX_OUTPUT)
        wanted = {name: value for name, value in wanted.items() if name in LIVE_BY_NAME}
        self._before |= {name: self._state.values[name] for name in wanted}
        self._state.apply(wanted, now)

    def take_back(self, now: float) -> None:
        """The model is not to be had: go back to the one before, and to its values."""
        before, self._before = self._before, {}  # if that one is refused, too, there is nothing to go back to
        self._model = str(before.get("model", self._model))
        self._state.apply(before, now)

    def painted(self) -> None:
        """A frame has come."""
        self._deaths = 0

    def died(self, now: float) -> WorkerDied | None:
        """A worker died that had something to paint. Returns what is to be said if it was the model's doing, which is
        then taken back: its loading may take more memory than there is, however often it is tried."""
        self._deaths += 1
        if self._deaths < DEADLY or not self._before:
            return None
        self._deaths = 0
        hint = f"Live is back at {self._before['model']}. Use a smaller model, or free some memory."
        died = WorkerDied(reason=f"each time that it was to paint live with {self._model}", hint=hint)
        self.take_back(now)
        return died
