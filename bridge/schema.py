"""Dataclasses to plain JSON values with the arrays set apart, and back with every type checked.

A value travels as JSON; each array in it is replaced by its index in a list of arrays. What comes back is built
from the dataclass's own annotations, so nothing is ever constructed that the receiving code does not declare.
Supported annotations: str, int, float, bool, None, np.ndarray, dataclasses, tuple[T, ...], dict[str, T], unions
(a union of several dataclasses is told apart by its class name under "type").
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from functools import cache
from typing import Any

import numpy as np

from .errors import BadMessage, PaintoverError

_ARRAY = "$array"


def to_plain(value: Any, arrays: list[np.ndarray]) -> Any:
    """JSON-ready form of `value`; its arrays are appended to `arrays`."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {_ARRAY: len(arrays) - 1}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain = {f.name: to_plain(getattr(value, f.name), arrays) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **plain}
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
    if dataclasses.is_dataclass(value):
        return sum(array_bytes(getattr(value, f.name)) for f in dataclasses.fields(value))
    if isinstance(value, (tuple, list)):
        return sum(map(array_bytes, value))
    if isinstance(value, dict):
        return sum(len(key) + array_bytes(item) for key, item in value.items())
    return 0


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _wrong(path: str, want: Any, have: Any) -> BadMessage:
    name = getattr(want, "__name__", str(want))
    return BadMessage(name=path.split(".")[0], reason=f"{path} should be {name}, not {type(have).__name__}")


def from_plain(want: Any, plain: Any, arrays: list[np.ndarray], path: str = "") -> Any:
    """The value of type `want` described by `plain`, or BadMessage naming the field that does not fit."""
    origin = typing.get_origin(want)
    if origin in (typing.Union, types.UnionType):
        return _union(want, plain, arrays, path)
    if want is None or want is type(None):
        if plain is None:
            return None
    elif want is np.ndarray:
        index = plain[_ARRAY] if isinstance(plain, dict) and set(plain) == {_ARRAY} else None
        if type(index) is int and 0 <= index < len(arrays):
            return arrays[index]
    elif origin is tuple:
        if isinstance(plain, list):
            (item, _) = typing.get_args(want)
            return tuple(from_plain(item, one, arrays, f"{path}[{i}]") for i, one in enumerate(plain))
    elif origin is dict:
        if isinstance(plain, dict):
            item = typing.get_args(want)[1]
            return {key: from_plain(item, one, arrays, f"{path}[{key}]") for key, one in plain.items()}
    elif dataclasses.is_dataclass(want):
        return _dataclass(want, plain, arrays, path)
    elif want is float and type(plain) in (int, float) and math.isfinite(number := _float(plain)):
        return number
    elif type(plain) is want:
        return plain
    raise _wrong(path, want, plain)


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # an integer of hundreds of digits
        return math.inf


def _union(want: Any, plain: Any, arrays: list[np.ndarray], path: str) -> Any:
    options = typing.get_args(want)
    if plain is None and type(None) in options:
        return None
    if isinstance(plain, dict) and "type" in plain:
        for option in options:
            if dataclasses.is_dataclass(option) and getattr(option, "__name__", None) == plain["type"]:
                return from_plain(option, plain, arrays, path)
    simple = [option for option in options if option is not type(None) and not dataclasses.is_dataclass(option)]
    for option in simple:
        try:
            return from_plain(option, plain, arrays, path)
        except BadMessage:
            continue  # the next member of the union may fit
    only = [option for option in options if option is not type(None)]
    if len(only) == 1:
        return from_plain(only[0], plain, arrays, path)
    raise _wrong(path, want, plain)


def _dataclass(want: Any, plain: Any, arrays: list[np.ndarray], path: str) -> Any:
    path = path or want.__name__
    if not isinstance(plain, dict) or plain.get("type") != want.__name__:
        raise _wrong(path, want, plain)
    hints = _hints(want)
    known = {f.name for f in dataclasses.fields(want)}
    unknown = set(plain) - known - {"type"}
    if unknown:
        raise BadMessage(name=path, reason=f"unknown field {sorted(unknown)[0]!r}")
    values = {name: from_plain(hints[name], plain[name], arrays, f"{path}.{name}") for name in known if name in plain}
    try:
        return want(**values)
    except PaintoverError:
        raise
    except (TypeError, ValueError, AttributeError, ArithmeticError) as reason:
        raise BadMessage(name=path, reason=str(reason)) from reason
