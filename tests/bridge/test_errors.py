from __future__ import annotations

import re

from paintover.bridge import errors
from paintover.bridge.errors import BY_CODE, PaintoverError, from_wire


def test_codes_are_unique_and_every_error_has_a_next_step() -> None:
    classes = errors._subclasses(PaintoverError)
    assert len(BY_CODE) == len(set(classes)) > 25
    for error in classes:
        assert re.fullmatch("[a-z_]+", error.code)
        assert error.text[0].isupper() or error.text[0] == "{"
        assert error.hint or error is errors.Cancelled


def test_details_that_are_missing_become_question_marks() -> None:
    for error in errors._subclasses(PaintoverError):
        assert ("?" in str(error())) == ("{" in error.text + error.hint)
    assert errors.TooLarge().message == "? is ? bytes; the limit is ?."


def test_errors_survive_the_wire() -> None:
    original = errors.MissingModel(name="sd99")
    back = from_wire(original.code, original.message, original.hint)
    assert type(back) is errors.MissingModel
    assert str(back) == str(original)
    assert "sd99" in back.hint


def test_an_unknown_code_keeps_its_words() -> None:
    error = from_wire("from_the_future", "Too many moons.", "Wait.")
    assert type(error) is PaintoverError
    assert str(error) == "Too many moons. Wait."
