"""A part of a shot, from cut to cut: its frames, what they are painted from, which are still to be painted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..bridge.shot import ShotFrame
from ..passes.draw import Frame
from ..steps import GO_ON, Steps
from .files import Folder
from .fingerprints import fingerprint
from .footage import Footage, Moment


class Part:
    def __init__(
        self, numbers: Sequence[int], interval: int, read: Callable[[int], Moment], draw: Callable[..., Frame]
    ) -> None:
        self.footage = Footage(numbers, interval, read, draw)
        self.interval = interval
        self.todo = set(range(len(numbers)))
        """Places of frames that are not on disk as they should be."""
        self.prints: dict[int, str] = {}
        """Frame number -> fingerprint, of those that were drawn so far."""
        self._place_of = {place.number: index for index, place in enumerate(self.footage.places)}

    def number(self, place: int) -> int:
        return self.footage.places[place].number

    def frame(self, place: int) -> Steps[ShotFrame]:
        """A frame to send; its fingerprint is known then. Raises what reading and drawing raise."""
        planned = self.footage.places[place]
        for other in (planned.before, planned.after, planned.previous):
            if other is not None and other not in self.prints:
                yield from self.frame(self._place_of[other])
        frame = yield from self.footage.frame(place)
        self.prints[frame.number] = fingerprint(frame, self.prints)
        return frame

    def survey(self, folder: Folder, say: Callable[[str], None]) -> Steps[None]:
        """Find out which frames are on disk as they would be painted now."""
        requests = {}
        for place in sorted(self.todo):
            requests[place] = folder.request(self.number(place))
            yield GO_ON
        there = [place for place, request in requests.items() if request]
        for place in range(max(there, default=-1) + 1):
            say(f"Looking for changes: frame {self.number(place)}")
            frame = yield from self.frame(place)
            request = requests[place]
            if request and request.get("fingerprint") == self.prints[frame.number]:
                self.todo.discard(place)
        self.footage.forget()

    @property
    def first(self) -> int:
        """Place of the first frame that is to be painted."""
        return min(self.todo)

    def continues(self, folder: Folder) -> str:
        """The job that has painted the keyframe from which the first frame to be painted goes on; empty if none has."""
        for place in range(self.first - 1, -1, -1):
            if self.footage.places[place].key:
                return str((folder.request(self.number(place)) or {}).get("job", ""))
        return ""

    def enough(self, place: int) -> bool:
        """Whether nothing near behind that place is to be painted: to begin anew there is quicker, or all is done."""
        return not any(place < later <= place + 2 * self.interval for later in self.todo)
