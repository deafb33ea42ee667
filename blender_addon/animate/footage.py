"""Frames of a shot with their links: where every surface is in the frames that paint is taken from.

Moments are read in order of showing, as a film is, and kept from one keyframe to the next: their geometry, which
deforms, is what links are drawn from. So memory does not grow with the shot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..bridge import shot
from ..bridge.parameters import Settings
from ..bridge.scene import Camera, Passes
from ..bridge.shot import Link, Place, ShotFrame
from ..passes.assemble import assemble
from ..passes.draw import Before, Frame
from ..passes.geometry import Geometry
from ..passes.instances import Group, Stage
from ..steps import Steps


@dataclass(frozen=True, eq=False)
class Moment:
    """A frame of the timeline, evaluated: all that passes and links are drawn from."""

    stage: Stage
    camera: Camera
    settings: Settings
    color: np.ndarray | None = None
    """uint8 (H, W, 4): the scene's own render, where it is painted over (a strength below 1)."""


class Footage:
    """The frames of a part of a shot, from cut to cut."""

    def __init__(
        self, numbers: Sequence[int], interval: int, read: Callable[[int], Moment], draw: Callable[..., Frame]
    ) -> None:
        """`read` evaluates a frame; `draw` is Drawer.draw."""
        self.numbers = tuple(numbers)
        self.places: tuple[Place, ...] = tuple(shot.plan(numbers, interval))
        """In the order of sending."""
        self._order = {number: index for index, number in enumerate(self.numbers)}
        self._read, self._draw = read, draw
        self._moments: dict[int, Moment] = {}
        """By position in the order of showing."""

    def frame(self, place: int) -> Steps[ShotFrame]:
        """The frame at that place of the order of sending. A step is one frame of the timeline that is read, or the
        drawing. Raises what reading and drawing raise."""
        planned = self.places[place]
        wanted = [planned.number, planned.before, planned.after, planned.previous]
        positions = [self._order[number] for number in wanted if number is not None]
        self._moments = {at: kept for at, kept in self._moments.items() if at >= min(positions)}
        for at in range(min(positions), max(positions) + 1):
            if at not in self._moments:
                moment = self._read(self.numbers[at])
                if last := self._moments.get(at - 1):
                    moment = replace(moment, stage=shared(moment.stage, last.stage))
                self._moments[at] = moment
                yield ""
        return self._drawn(planned)

    def moment(self, number: int) -> Moment:
        """What was read of one of the frames of the last `frame`."""
        return self._moments[self._order[number]]

    def forget(self) -> None:
        self._moments.clear()

    def _drawn(self, place: Place) -> ShotFrame:
        here = self.moment(place.number)
        others = {name: getattr(place, name) for name in ("before", "after", "previous")}
        links: dict[str, Link] = {}
        drawn = None
        for name, other in others.items():
            if other is not None:
                there = self.moment(other)
                edges = None if drawn else here.settings.edges  # the first drawing gives the passes, too
                found = self._draw(
                    here.stage, here.camera, Before(there.camera, there.stage), position=True, edges=edges
                )
                links[name] = Link(other, _place(found))
                drawn = drawn or found
        drawn = drawn or self._draw(here.stage, here.camera, edges=here.settings.edges)
        return ShotFrame(place.number, here.settings, passes_of(drawn, here.color), place.key, **links)


def passes_of(drawn: Frame, color: np.ndarray | None = None) -> Passes:
    """Passes of a drawing. Raises BadPasses."""
    found = assemble(drawn.camera, drawn.depth, drawn.normal, drawn.object_id, drawn.edge, drawn.names)
    return found if color is None else replace(found, color=color)


def _place(drawn: Frame) -> np.ndarray:
    """Link.place of a drawing with motion to the other frame."""
    assert drawn.depth_before is not None
    return np.concatenate([drawn.motion, drawn.depth_before[..., None]], -1, dtype=np.float32)


def shared(stage: Stage, before: Stage) -> Stage:
    """The same stage, with the geometry of an earlier one wherever that has not changed: it is held, and uploaded,
    once."""
    rows = stage.places_in(before)
    groups = []
    for group in stage.groups:
        row = rows[group.rows[0]]
        old = before.groups[before.group_of[row]].geometry if row >= 0 else None
        groups.append(Group(old, group.looks, group.rows) if old and _same(group.geometry, old) else group)
    return replace(stage, groups=groups)


def _same(geometry: Geometry, before: Geometry) -> bool:
    pairs = (
        (getattr(geometry, name), getattr(before, name)) for name in ("positions", "normals", "uvs", "mask_uvs")
    )
    return geometry.follows(before) and all(
        a is b or (a is not None and b is not None and np.array_equal(a, b)) for a, b in pairs
    )
