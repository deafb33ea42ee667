"""What the libraries raise, in the project's own words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from paintover.bridge.errors import BadModelFile, OutOfMemory, PaintoverError


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch's means that there is no memory left."""
    signs = ("out of memory", "can't allocate memory", "Invalid buffer size")
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


@contextmanager
def memory_watched(what: str) -> Iterator[None]:
    """Turn the many ways in which torch runs out of memory into OutOfMemory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise OutOfMemory(reason=what) from error
        raise


@contextmanager
def bad_file(source: str) -> Iterator[None]:
    """Say which file it was when the libraries cannot read it, in whichever of their many ways they say so."""
    try:
        yield
    except PaintoverError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise BadModelFile(name=source, reason=reason) from error
