"""What is set on the stage: every live parameter, presets, morphs, transitions and the beat.

Pure: no I/O and no clock of its own (`now` is seconds on the caller's monotonic clock). Clients, OSC and the web page
set values here; the stage, the output and the echo read them. Belongs to one event loop.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Collection, Mapping
from typing import Any

from paintover.bridge.errors import BadParameter, Clamped, NoPreset, PaintoverError, UnsupportedControl, WrongType
from paintover.bridge.live import LIVE, LIVE_BY_NAME, TRIGGERS_BY_ADDRESS, LiveSettings
from paintover.bridge.live_messages import Value
from paintover.bridge.parameters import CONTROLS, Parameter
from paintover.bridge.prompts import Blend

from .blend import TEXTS, Fade, asked, mixed
from .presets import COUNT, LOOK, Morph
from .tempo import Tempo

_LOOK = frozenset(LOOK)
_TEXTS = frozenset(TEXTS)
_SWITCHES = {f"control_{control}": control for control in CONTROLS}
SHOWN = 60
"""Characters of a value in an error."""
MOST = 16
"""Arguments of a trigger."""


def coerce(row: Parameter, value: Any) -> tuple[Value, bool]:
    """The value in the parameter's own type and range, and whether it had to be moved there.

    Numbers are taken for each other: a fader sends floats for everything. Raises WrongType, or BadParameter for a text
    that is too long.
    """
    if row.type is str:
        if not isinstance(value, str) or not _encodes(value):
            raise WrongType(name=row.name, reason=f"{_shown(value)} is not text")
        return row.check(value), False
    if not isinstance(value, int | float):
        raise WrongType(name=row.name, reason=f"{_shown(value)} is not a number")
    if not _finite(value):
        raise WrongType(name=row.name, reason=f"{_shown(value)} is not a finite number")
    if row.type is bool:
        return value >= 0.5, False
    if row.choices:
        nearest = min(row.choices, key=lambda choice: abs(int(choice) - value))
        return nearest, nearest != value
    used: int | float = value
    if row.minimum is not None and row.maximum is not None:
        used = min(max(value, row.minimum), row.maximum)
    if row.type is int:
        used = round(used / row.step) * row.step if row.step else round(used)
        return used, abs(used - value) > (0 if row.step else 0.5) and not _same(used, value)
    return float(used), not _same(used, value)


def _same(one: float, other: float) -> bool:
    """The same number but for a 32-bit float's rounding: what OSC makes of 0.15 is no longer in 0…0.15."""
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # JSON may hold integers of hundreds of digits
        return False


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON may hold halves of characters
        return False
    return True


def _shown(value: object) -> str:
    text = repr(value[: SHOWN + 1] if isinstance(value, str | bytes) else value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def in_order(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What somebody sets, the model first, since it brings other values with it. Raises BadParameter for more than
    there are parameters: to say of each what is wrong with it would take long."""
    if len(values) > len(LIVE):
        raise BadParameter(name=f"{len(values):,} values", reason=f"there are {len(LIVE)} live parameters")
    return sorted(values.items(), key=lambda item: item[0] != "model")


class LiveState:
    """The values now, and what changes them over time: call `advance` while `busy`."""

    def __init__(self, controls_of: Callable[[str], Collection[str]] = lambda model: CONTROLS) -> None:
        """`controls_of` tells for which of CONTROLS a model has a ControlNet; it raises for one that is not there."""
        self._controls_of = controls_of
        self._switched_off: set[str] = set()
        """Names of switches of ControlNets, which a model that has none for them has switched off."""
        self.values: dict[str, Value] = {row.name: row.default for row in LIVE}
        """What is in effect, by name. The seed is never −1: it says which was chosen."""
        self.values["seed"] = secrets.randbelow(2**31)
        self.presets: dict[int, dict[str, Value]] = {}
        self.resets = 0
        self.version = 0
        """Counts up with every change of anything that is kept, and with every step of a transition."""
        self.latency = 0.0
        """Seconds from a change to its picture, as measured: by so much `tempo_compensate` is early."""
        self.tempo = Tempo(float(self.values["tempo_bpm"]), LIVE_BY_NAME["tempo_bpm"].maximum or math.inf)
        self.listeners: list[Callable[[str, Value, object], None]] = []
        """Called with name, value and origin at each change. What comes of itself, as in a morph, has no origin."""
        self.triggered: list[Callable[[str, tuple[float, ...], object], None]] = []
        """Called with address, arguments and origin for each trigger, once it has done its part here."""
        self.reports: list[Callable[[PaintoverError, str, object], None]] = []
        """Called with Clamped, the parameter's name and the origin; with None for what is everybody's trouble."""
        self._fade: Fade | None = None
        self._morph: Morph | None = None
        self._held: dict[str, tuple[Value, object]] = {}
        self._held_recall: tuple[int, float] | None = None
        self._due = 0.0
        self._settings: LiveSettings | None = None

    # ------------------------------------------------------------ what is in effect

    @property
    def busy(self) -> bool:
        """Something changes by itself."""
        return bool(self._fade or self._morph or self._held or self._held_recall)

    def settings(self) -> LiveSettings:
        if self._settings is None:
            self._settings = LiveSettings(**self.values)  # type: ignore[arg-type]  # each was checked by its row
        return self._settings

    def prompts(self, now: float) -> tuple[Blend, ...]:
        """What to paint: main prompt, slots and transition as texts with weights that sum to 1."""
        target = asked(self.values)
        return mixed(self._fade.source, target, self._fade.share(now)) if self._fade else target

    # ------------------------------------------------------------ changes

    def set(self, name: str, value: Any, *, origin: object, now: float) -> Value:
        """Set a parameter. Returns what it is now, or will be at the beat.

        Raises BadParameter, MissingModel; UnsupportedControl for the switch of a ControlNet that the model has not.
        """
        row = LIVE_BY_NAME.get(name)
        if row is None:
            raise BadParameter(name=_shown(name), reason="there is no such live parameter")
        used, moved = coerce(row, value)
        if moved:
            self._report(Clamped(name=name, given=_shown(value), used=used), name, origin)
        if name == "model" and used != self.values["model"]:
            self._controls_of(str(used))
        if name in _SWITCHES:
            if used and not self.values[name]:
                self._check_control(name)
            self._switched_off.discard(name)
        if name == "seed" and used == -1:
            # Whoever asked wants to know which it is, too.
            used, origin = secrets.randbelow(2**31), None
        if name in _LOOK and self.values["tempo_quantize"]:
            self._hold(now)
            self._held[name] = (used, origin)
        else:
            self._leave_morph(name)
            self._put(name, used, origin, now)
        return used

    def trigger(self, address: str, arguments: tuple[Any, ...] = (), *, origin: object, now: float) -> None:
        """Do something once (bridge.live.TRIGGERS). Raises BadParameter, WrongType, NoPreset.

        The arguments are numbers; beyond MOST they are left out.
        """
        if address not in TRIGGERS_BY_ADDRESS:
            raise BadParameter(name=_shown(address), reason="there is no such trigger")
        arguments = tuple(_number(address, one) for one in arguments[:MOST])
        if address.startswith("preset/"):
            number = self._preset_number(address, arguments, origin)
            if address == "preset/store":
                self.store(number)
            else:
                seconds = arguments[1] if len(arguments) > 1 else 0.0
                self.recall(number, min(max(seconds, 0.0), 3600.0), now)
        elif address == "tempo/tap":
            if (bpm := self.tempo.tap(now)) is not None:
                self._put("tempo_bpm", bpm, None, now, tapped=True)
            self._rehold(now)
        elif address == "reset":
            self.resets += 1
            self.version += 1
        for listener in self.triggered:
            listener(address, arguments, origin)

    def store(self, number: int) -> None:
        """Keep the look as preset `number`: what it is going to be, when it is on its way."""
        coming = self.coming()
        self.presets[number] = {name: coming[name] for name in LOOK}
        self.version += 1

    def apply(self, values: Mapping[str, Any], now: float) -> None:
        """Put values into effect at once, without waiting for the beat: what comes along with a model."""
        for name, value in values.items():
            self._leave_morph(name)
            self._switched_off.discard(name)
            self._put(name, coerce(LIVE_BY_NAME[name], value)[0], None, now)

    def recall(self, number: int, seconds: float, now: float) -> None:
        """Go to a preset within `seconds`, from the next beat on where changes wait for it. Raises NoPreset."""
        if number not in self.presets:
            raise NoPreset(number=number)
        if self.values["tempo_quantize"]:
            self._hold(now)
            self._held.clear()  # it would all be replaced at once
            self._held_recall = (number, seconds)
        else:
            self._begin(number, seconds, now)

    def coming(self) -> dict[str, Value]:
        """The values once everything that is on its way has arrived."""
        values = dict(self.values)
        if self._morph:
            values |= self._morph.target
        if self._held_recall:
            values |= self.presets[self._held_recall[0]]
        return values | {name: value for name, (value, _) in self._held.items()}

    def advance(self, now: float) -> bool:
        """Go on with morph, transition and beat. True if what is painted has changed."""
        before = self.version
        if (self._held or self._held_recall) and now >= self._due:
            self._release(now)
        if self._morph:
            morph = self._morph
            for name, value in morph.at(now).items():
                self._put(name, value, None, now)
            if morph.over(now):
                self._morph = None
        if self._fade:
            self.version += 1
            if self._fade.share(now) >= 1.0:
                self._fade = None
        return self.version != before

    # ------------------------------------------------------------ how

    def _put(self, name: str, value: Value, origin: object, now: float, *, tapped: bool = False) -> None:
        """Put a value into effect and tell so."""
        if self.values[name] == value:
            return
        if name in _TEXTS and (seconds := float(self.values["prompt_transition"])) > 0:
            self._fade = Fade(self.prompts(now), now, seconds)
        self.values[name] = value
        self._settings = None
        self.version += 1
        if name == "tempo_bpm" and not tapped:
            self.tempo.set(float(value), now)
        if name.startswith("tempo_"):
            self._rehold(now)
        for listener in self.listeners:
            listener(name, value, origin)
        if name == "model":  # and what suits it, by now
            self._fit_controls(now)

    def _check_control(self, switch: str) -> None:
        """Raises UnsupportedControl."""
        model, control = str(self.coming()["model"]), _SWITCHES[switch]
        if control not in self._controls_of(model):
            raise UnsupportedControl(model=model, control=control)

    def _fit_controls(self, now: float) -> None:
        """A switch shows what is: it goes off where the model has no ControlNet for it, and on again with one that
        has."""
        try:
            there = self._controls_of(str(self.values["model"]))
        except PaintoverError:  # it was there a moment ago; the worker says what becomes of it
            return
        for name, control in _SWITCHES.items():
            if self.values[name] and control not in there:
                self._put(name, False, None, now)
                self._switched_off.add(name)
            elif name in self._switched_off and control in there:
                self._switched_off.discard(name)
                self._put(name, True, None, now)

    def _begin(self, number: int, seconds: float, now: float) -> None:
        """Start the way to a preset. Where its model is not there any more, the one that is stays."""
        before, preset, fade = dict(self.values), dict(self.presets[number]), None
        try:
            if preset["model"] != before["model"]:
                self._controls_of(str(preset["model"]))
        except PaintoverError as error:
            preset["model"] = before["model"]
            self._report(error, "model", None)
        if seconds > 0 and any(preset[name] != self.values[name] for name in TEXTS):
            fade = Fade(self.prompts(now), now, seconds)
        self._put("model", preset["model"], None, now)  # it brings values along; the preset's own come after them
        self._morph = Morph.between(before, preset, now, seconds)
        for name, value in preset.items():
            if name not in self._morph.target:
                self._put(name, value, None, now)
        self._switched_off.clear()
        self._fit_controls(now)
        if seconds > 0:
            self._fade = fade  # the morph's own time, not the transition's
        if not self._morph.target:
            self._morph = None

    def _leave_morph(self, name: str) -> None:
        """A value that is set meanwhile stays as it is set."""
        if self._morph and self._morph.target.pop(name, None) is not None:
            self._morph.source.pop(name)

    def _hold(self, now: float) -> None:
        """Something waits for the beat."""
        if not self._held and not self._held_recall:
            self._due = self._next_beat(now)

    def _next_beat(self, now: float) -> float:
        lead = self.latency if self.values["tempo_compensate"] else 0.0
        return self.tempo.next(int(self.values["tempo_quantize"]), now + lead) - lead

    def _rehold(self, now: float) -> None:
        """The beat has changed: what waits for it waits for the new one, or no longer."""
        if not self._held and not self._held_recall:
            return
        if self.values["tempo_quantize"]:
            self._due = self._next_beat(now)
        else:
            self._release(now)

    def _release(self, now: float) -> None:
        held, recall = self._held, self._held_recall
        self._held, self._held_recall = {}, None
        if recall:
            self._begin(*recall, now)
        for name, (value, origin) in in_order(held):
            self._leave_morph(name)
            self._put(name, value, origin, now)

    def _preset_number(self, address: str, arguments: tuple[Any, ...], origin: object) -> int:
        if not arguments:
            raise WrongType(name=address, reason="it needs the preset's number")
        given = arguments[0]
        number = round(min(max(given, 1), COUNT))
        if abs(number - given) > 0.5:
            self._report(Clamped(name=address, given=_shown(given), used=number), address, origin)
        return number

    def _report(self, error: PaintoverError, name: str, origin: object) -> None:
        for report in self.reports:
            report(error, name, origin)

    # ------------------------------------------------------------ what outlives the server

    def to_json(self) -> dict[str, Any]:
        """All that a restart of the server must not lose. What is on its way has arrived by then."""
        return {"values": self.coming(), "presets": {str(number): look for number, look in self.presets.items()}}

    def from_json(self, kept: Mapping[str, Any], now: float) -> list[PaintoverError]:
        """Take over what to_json gave, also an older version's. Returns what could not be, which stays as it was."""
        troubles: list[PaintoverError] = []
        look, presets = kept.get("values"), kept.get("presets")
        for name, value in _sound(look, troubles).items():
            try:
                if name == "model":
                    self._controls_of(str(value))
            except PaintoverError as error:
                troubles.append(error)
                continue
            self._put(name, value, None, now)
        self._switched_off.clear()
        self._fit_controls(now)
        for number, preset in presets.items() if isinstance(presets, Mapping) else ():
            if str(number).isdecimal() and 1 <= int(number) <= COUNT:
                defaults = {name: LIVE_BY_NAME[name].default for name in LOOK} | {"seed": 0}
                found = {name: value for name, value in _sound(preset, troubles).items() if name in _LOOK}
                self.presets[int(number)] = defaults | found
        self._fade = None
        return troubles


def _number(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or not _finite(value):
        raise WrongType(name=name, reason=f"{_shown(value)} is not a number")
    return value


def _sound(values: Any, troubles: list[PaintoverError]) -> dict[str, Value]:
    """Those of the named values that are parameters' values; a seed is never −1."""
    found: dict[str, Value] = {}
    for name, value in values.items() if isinstance(values, Mapping) else ():
        row = LIVE_BY_NAME.get(str(name))
        if row is None:
            continue  # a parameter of another version
        try:
            found[row.name] = coerce(row, value)[0]
        except PaintoverError as error:
            troubles.append(error)
    if found.get("seed") == -1:
        found["seed"] = secrets.randbelow(2**31)
    return found
