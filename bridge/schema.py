"""Dataclasses to plain JSON values with the arrays set apart, and back with every type checked.

A value travels as JSON; each array in it is replaced by its index in a list of arrays. What comes back is built
from the dataclass's own annotations, so nothing is ever constructed that the receiving code does not declare.
Supported annotations: str, int, float, bool, None, np.ndarray, dataclasses, tuple[T, ...], dict[str, T], unions
(a union of several dataclasses is told apart by its class name under "type").

Live, a change of a parameter passes here four times on its way to the picture. So what a type wants is found out once:
each annotation has its reader.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from .errors import BadMessage, PaintoverError

_ARRAY = "$array"
_SIMPLE = frozenset((str, int, float, bool, type(None)))

_Path = tuple[str, ...]
"""Where a value is in its message: the parts of its name, put together only for an error."""
_Reader = Callable[[Any, list[np.ndarray], _Path], Any]
"""Makes the value of plain data, the arrays and the path; raises BadMessage naming the field that does not fit."""


@cache
def _fields(cls: Any) -> tuple[str, ...] | None:
    """Names of a dataclass's fields; None for any other class."""
    return tuple(field.name for field in dataclasses.fields(cls)) if dataclasses.is_dataclass(cls) else None


def to_plain(value: Any, arrays: list[np.ndarray]) -> Any:
    """JSON-ready form of `value`; its arrays are appended to `arrays`."""
    cls: Any = type(value)
    if cls in _SIMPLE:
        return value
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {_ARRAY: len(arrays) - 1}
    if (names := _fields(cls)) is not None:
        plain: dict[str, Any] = {"type": cls.__name__}
        for name in names:
            item = getattr(value, name)
            plain[name] = item if type(item) in _SIMPLE else to_plain(item, arrays)
        return plain
    if isinstance(value, (tuple, list)):
        return [to_plain(item, arrays) for item in value]
    if isinstance(value, dict):
        return {key: to_plain(item, arrays) for key, item in value.items()}
    return value


def array_bytes(value: Any) -> int:
    """About how much memory a message holds: the bytes of its arrays and texts."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, str):
        return len(value)
    cls: Any = type(value)
    if cls in _SIMPLE:
        return 0
    if (names := _fields(cls)) is not None:
        items = [getattr(value, name) for name in names]
        return sum([array_bytes(item) for item in items if type(item) not in _NO_BYTES])
    if isinstance(value, (tuple, list)):
        return sum(map(array_bytes, value))
    if isinstance(value, dict):
        return sum(len(key) + array_bytes(item) for key, item in value.items())
    return 0


_NO_BYTES = _SIMPLE - {str}


def from_plain(want: Any, plain: Any, arrays: list[np.ndarray]) -> Any:
    """The value of type `want` described by `plain`, or BadMessage naming the field that does not fit."""
    return _reader(want)(plain, arrays, (want.__name__,) if _fields(want) is not None else ())


@cache
def _reader(want: Any) -> _Reader:
    """What reads values of an annotation."""
    origin = typing.get_origin(want)
    if origin in (typing.Union, types.UnionType):
        return _union(want)
    if origin is tuple:
        return _tuple(want)
    if origin is dict:
        return _dict(want)
    if dataclasses.is_dataclass(want):
        return _dataclass(want)
    if want is np.ndarray:
        return _array
    return _float if want is float else _exact(type(None) if want is None else want)


def _wrong(path: _Path, want: Any, have: Any) -> BadMessage:
    reason = f"{''.join(path)} should be {_class_name(want)}, not {_class_name(type(have))}"
    return BadMessage(name=path[0] if path else "", reason=reason)


def _class_name(want: Any) -> str:
    return str(getattr(want, "__name__", want))


def _exact(want: type) -> _Reader:
    def read(plain: Any, arrays: list[np.ndarray], path: _Path) -> Any:
        if type(plain) is not want:
            raise _wrong(path, want, plain)
        return plain

    return read


def _float(plain: Any, arrays: list[np.ndarray], path: _Path) -> float:
    if type(plain) in (int, float):
        try:
            number = float(plain)
        except OverflowError:  # an integer of hundreds of digits
            number = math.inf
        if math.isfinite(number):
            return number
    raise _wrong(path, float, plain)


def _array(plain: Any, arrays: list[np.ndarray], path: _Path) -> np.ndarray:
    index = plain[_ARRAY] if isinstance(plain, dict) and set(plain) == {_ARRAY} else None
    if type(index) is int and 0 <= index < len(arrays):
        return arrays[index]
    raise _wrong(path, np.ndarray, plain)


def _tuple(want: Any) -> _Reader:
    item = _reader(typing.get_args(want)[0])

    def read(plain: Any, arrays: list[np.ndarray], path: _Path) -> tuple[Any, ...]:
        if not isinstance(plain, list):
            raise _wrong(path, want, plain)
        return tuple([item(one, arrays, (*path, f"[{i}]")) for i, one in enumerate(plain)])

    return read


def _dict(want: Any) -> _Reader:
    item = _reader(typing.get_args(want)[1])

    def read(plain: Any, arrays: list[np.ndarray], path: _Path) -> dict[str, Any]:
        if not isinstance(plain, dict):
            raise _wrong(path, want, plain)
        return {key: item(one, arrays, (*path, f"[{key}]")) for key, one in plain.items()}

    return read


def _union(want: Any) -> _Reader:
    options = typing.get_args(want)
    optional = type(None) in options
    readers = {option: _reader(option) for option in options if option is not type(None)}
    named = {_class_name(option): reader for option, reader in readers.items() if dataclasses.is_dataclass(option)}
    simple = [reader for option, reader in readers.items() if not dataclasses.is_dataclass(option)]
    only = next(iter(readers.values())) if len(readers) == 1 else None

    def read(plain: Any, arrays: list[np.ndarray], path: _Path) -> Any:
        if plain is None and optional:
            return None
        if only:  # it can say what does not fit
            return only(plain, arrays, path)
        if isinstance(plain, dict) and isinstance(kind := plain.get("type"), str) and kind in named:
            return named[kind](plain, arrays, path)
        for reader in simple:
            try:
                return reader(plain, arrays, path)
            except BadMessage:
                continue  # the next member of the union may fit
        raise _wrong(path, want, plain)

    return read


def _dataclass(want: Any) -> _Reader:
    hints = typing.get_type_hints(want)
    readers = {name: _reader(hints[name]) for name in _fields(want) or ()}
    exact = {name: hints[name] for name in readers if hints[name] in (str, int, bool)}

    def read(plain: Any, arrays: list[np.ndarray], path: _Path) -> Any:
        if not isinstance(plain, dict) or plain.get("type") != want.__name__:
            raise _wrong(path, want, plain)
        values: dict[str, Any] = {}
        for name, value in plain.items():
            if type(value) is exact.get(name):
                values[name] = value
            elif reader := readers.get(name):
                values[name] = reader(value, arrays, (*path, ".", name))
            elif name != "type":
                raise BadMessage(name="".join(path), reason=f"unknown field {name!r}")
        try:
            return want(**values)
        except PaintoverError:
            raise
        except (TypeError, ValueError, AttributeError, ArithmeticError) as reason:
            raise BadMessage(name="".join(path), reason=str(reason)) from reason

    return read
