"""OSC packets to messages and back, with python-osc's codec; whatever arrives may be malformed.

python-osc alone would loop for ever on a bundle whose element has a negative length, log a line for each unknown type
tag, and take time that grows with the square of a packet's length. So packets are taken apart here, and it gets single
messages that are known to be small in number of arguments.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from pythonosc.osc_message import OscMessage, ParseError
from pythonosc.parsing import ntp, osc_types

from paintover.bridge.errors import BadPacket, WrongType

BUNDLE = b"#bundle\0"
MAX_DEPTH = 8
MAX_MESSAGES = 4096
"""In one packet."""
MAX_ARGUMENTS = 16
MAX_PACKET = 65_507
MAX_PATTERN = 200
BUNDLE_ROOM = 1400
"""Bytes of a bundle that is sent: it fits an Ethernet frame."""
_KNOWN = frozenset(b"ifhdsTFNIbtrm")
_TAKEN = frozenset(b"ifhdsTFNI")
Argument = int | float | str | bool


def split(packet: bytes) -> tuple[list[bytes], str]:
    """The messages of a packet, out of bundles and bundles in them, and what is wrong with the rest of it, if it is."""
    if packet.startswith(b"/"):
        return [packet], ""
    if not packet.startswith(BUNDLE):
        return [], "it begins with neither an address nor #bundle"
    found: list[bytes] = []
    return found, _take_apart(packet, 1, found)


def _take_apart(bundle: bytes, depth: int, found: list[bytes]) -> str:
    if depth > MAX_DEPTH:
        return f"bundles are nested deeper than {MAX_DEPTH}"
    at = 16
    if len(bundle) < at:
        return "a bundle is cut short"
    while at < len(bundle):
        size = int.from_bytes(bundle[at : at + 4], "big", signed=True)
        at += 4
        if size <= 0 or at + size > len(bundle):
            return "a bundle's element has a wrong length"
        element = bundle[at : at + size]
        at += size
        if element.startswith(b"/"):
            found.append(element)
            if len(found) > MAX_MESSAGES:
                return f"it holds more than {MAX_MESSAGES} messages"
        elif not element.startswith(BUNDLE):
            return "a bundle's element is neither a message nor a bundle"
        elif wrong := _take_apart(element, depth + 1, found):
            return wrong
    return ""


def due(packet: bytes) -> float:
    """Seconds since 1970 at which a bundle asks to be applied; 0 for at once."""
    if not packet.startswith(BUNDLE) or len(packet) < 16 or packet[8:16] == ntp.IMMEDIATELY:
        return 0.0
    return float(osc_types.get_date(packet, 8)[0])


def address_of(message: bytes) -> bytes:
    end = message.find(b"\0")
    return message[:end] if end >= 0 else message


def asks(message: bytes, address: bytes) -> bool:
    """Whether a message carries no value, or “?”."""
    rest = message[len(address) // 4 * 4 + 4 :]
    return len(rest) <= 8 and rest[:2] in (b"", b",\0", b",s") and rest[4:5] in (b"", b"?")


def parse(message: bytes) -> tuple[str, list[Argument]]:
    """Address and arguments; nil and impulse, which only say “now”, are none. Raises BadPacket, WrongType."""
    raw = address_of(message)
    at = len(raw) // 4 * 4 + 4
    try:
        address = raw.decode("utf-8")
        if at >= len(message) and len(raw) < len(message):
            return address, []
        tags = message[at : max(at, message.find(b"\0", at))]
        if tags == b",s":
            # A long prompt: python-osc looks at each of its bytes.
            end = message.find(b"\0", at + 4)
            if end < 0:
                raise BadPacket(reason="its text has no end")
            return address, [message[at + 4 : end].decode("utf-8")]
        if not tags.startswith(b",") or not _KNOWN.issuperset(tags[1:]):
            raise BadPacket(reason="its type tags cannot be read")
        if len(tags) - 1 > MAX_ARGUMENTS:
            raise BadPacket(reason=f"it has more than {MAX_ARGUMENTS} arguments")
        if not _TAKEN.issuperset(tags[1:]):
            raise WrongType(name=address[:60], reason=f"arguments of type {tags[1:].decode()} are not taken")
        if b"I" in tags:
            message = message[:at] + tags.replace(b"I", b"N") + message[at + len(tags) :]
        return address, [value for value in OscMessage(message).params if value is not None]
    except (ParseError, osc_types.ParseError, ValueError, IndexError, struct.error) as reason:
        raise BadPacket(reason="it is cut short or damaged") from reason


def encode(address: str, *arguments: Argument) -> bytes:
    """A message. Floats are 32 bit and switches are 0 and 1, which every receiver takes."""
    tags, parts = ",", []
    for value in arguments:
        if isinstance(value, str):
            tags += "s"
            parts.append(osc_types.write_string(value.replace("\0", " ")))
        elif isinstance(value, float):
            tags += "f"
            parts.append(osc_types.write_float(value))
        elif -(2**31) <= value < 2**31:
            tags += "i"
            parts.append(osc_types.write_int(int(value)))
        else:
            tags += "h"
            parts.append(osc_types.write_int64(value))
    return b"".join((osc_types.write_string(address), osc_types.write_string(tags), *parts))


def bundles(messages: Iterable[bytes], room: int = BUNDLE_ROOM) -> list[bytes]:
    """Messages in as few bundles as have room for them; a long one has its own."""
    found: list[bytes] = []
    now: list[bytes] = []

    def close() -> None:
        if now:
            found.append(b"".join((BUNDLE, ntp.IMMEDIATELY, *(osc_types.write_int(len(m)) + m for m in now))))
            now.clear()

    for message in messages:
        if 16 + sum(len(m) + 4 for m in now) + 4 + len(message) > room:
            close()
        now.append(message)
    close()
    # A text of the greatest length has room for itself, but not for the bundle around it.
    return [bundle if len(bundle) <= MAX_PACKET else bundle[20:] for bundle in found]


def matching(pattern: str, addresses: Iterable[str]) -> list[str]:
    """Those of the addresses that an OSC pattern (*, ?, [a-z], [!a], {one,two}) matches; * also goes over slashes."""
    if len(pattern) > MAX_PATTERN:
        return []
    patterns = [_tokens(one) for one in _alternatives(pattern)]
    return [address for address in addresses if any(_matches(tokens, address) for tokens in patterns)]


# Not with `re`: its patterns could be made to take for ever, and would push everybody else's out of its cache.
def _tokens(pattern: str) -> list[str | None]:
    """For each place, the characters that match there, after “!” those that do not; None for any number of any."""
    found: list[str | None] = []
    at = 0
    while at < len(pattern):
        sign, at = pattern[at], at + 1
        if sign == "[" and (end := pattern.find("]", at)) >= 0:
            inside, at = pattern[at:end], end + 1
            negated = inside.startswith("!")
            expanded = _expanded(inside[negated:])
            found.append("!" + expanded if negated else expanded)
        elif sign == "*":
            found.append(None)
        else:
            found.append("!" if sign == "?" else sign)
    return found


def _expanded(characters: str) -> str:
    """Characters with ranges (a-z) written out."""
    made, at = "", 0
    while at < len(characters):
        if characters[at + 1 : at + 2] == "-" and at + 2 < len(characters):
            first, last = ord(characters[at]), ord(characters[at + 2])
            made += "".join(map(chr, range(first, min(last, 127) + 1)))
            at += 3
        else:
            made += characters[at]
            at += 1
    return made


def _matches(tokens: list[str | None], text: str) -> bool:
    at = token = 0
    star = resume = -1
    while at < len(text):
        if token < len(tokens) and (wanted := tokens[token]) is None:
            star, resume = token, at
            token += 1
        elif token < len(tokens) and wanted is not None and _fits(wanted, text[at]):
            token, at = token + 1, at + 1
        elif star >= 0:  # let the last star have one more
            resume += 1
            token, at = star + 1, resume
        else:
            return False
    return all(rest is None for rest in tokens[token:])


def _fits(wanted: str, character: str) -> bool:
    return character not in wanted[1:] if wanted.startswith("!") else character in wanted


def _alternatives(pattern: str, limit: int = 16) -> list[str]:
    """A pattern without its {braces}: one for each alternative."""
    before, opened, rest = pattern.partition("{")
    inside, closed, after = rest.partition("}")
    if not opened or not closed:
        return [pattern]
    tails = _alternatives(after, limit)
    return [before + one + tail for one in inside.split(",")[:limit] for tail in tails][:limit]
