"""The stage's values outlive the server: a real file, also a damaged one and a disk that takes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Awaitable
from pathlib import Path

import numpy as np
import pytest

from paintover.bridge.errors import DiskFull, NotStored, PaintoverError
from paintover.server.live.state import LiveState
from paintover.server.live.store import Store

from ..small_disk import small_disk
from ..waiting import eventually


@contextlib.asynccontextmanager
async def task(work: Awaitable[None]):  # type: ignore[no-untyped-def]
    running = asyncio.ensure_future(work)
    yield running
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_what_is_set_is_kept_by_itself_and_at_the_end(tmp_path: Path) -> None:
    path, live = tmp_path / "not there yet" / "live-9700.json", LiveState()
    store = Store(path, live)
    assert store.load(0) == []
    troubles: list[PaintoverError] = []
    async with task(store.keep(troubles.append)):
        live.set("prompt", "moß", origin=None, now=0)
        live.store(7)
        await eventually(lambda: path.exists() and "moß" in path.read_text(encoding="utf-8"))
        live.set("strength", 0.25, origin=None, now=0)
    again = LiveState()
    assert Store(path, again).load(0) == []
    assert (again.values, again.presets) == (live.values, live.presets)
    assert again.values["strength"] == 0.25
    names = sorted(entry.name for entry in path.parent.iterdir())
    assert names == ["live-9700-presets.json", "live-9700.json"]
    assert not troubles


@pytest.mark.parametrize("damage", [b"", b'{"values": {"pro', b"[1]", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_a_damaged_file_is_set_aside_and_said(tmp_path: Path, damage: bytes) -> None:
    path, live = tmp_path / "live.json", LiveState()
    path.write_bytes(damage)
    before = dict(live.values)
    (trouble,) = Store(path, live).load(0)
    assert "live.damaged" in trouble.hint
    assert (tmp_path / "live.damaged").read_bytes() == damage
    assert live.values == before
    Store(path, live).save()
    assert path.exists()


def test_damaged_presets_leave_the_values(tmp_path: Path) -> None:
    live, again = LiveState(), LiveState()
    live.set("prompt", "brick", origin=None, now=0)
    for number in (1, 128):
        live.store(number)
    store = Store(tmp_path / "live.json", live)
    store.save()
    live.store(2)
    store.save()
    assert Store(tmp_path / "live.json", again).load(0) == []
    assert again.presets == live.presets
    (tmp_path / "live-presets.json").write_text("{")
    other = LiveState()
    (trouble,) = Store(tmp_path / "live.json", other).load(0)
    assert "live-presets.damaged" in trouble.hint
    assert (other.values["prompt"], other.presets) == ("brick", {})


def test_what_has_not_changed_is_not_written_again(tmp_path: Path) -> None:
    live = LiveState()
    store = Store(tmp_path / "live.json", live)
    live.store(1)
    store.save()
    (tmp_path / "live-presets.json").unlink()
    live.set("strength", 0.5, origin=None, now=0)
    store.save()
    assert not (tmp_path / "live-presets.json").exists()
    live.store(1)
    store.save()
    assert (tmp_path / "live-presets.json").exists()


async def test_what_cannot_be_kept_at_the_end_is_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, live = tmp_path / "data", LiveState()
    async with task(Store(folder / "live.json", live).keep(lambda error: None)):
        await eventually((folder / "live.json").exists)
        shutil.rmtree(folder)
        folder.write_text("in the way")
        live.set("strength", 0.5, origin=None, now=0)
    assert "what is set on the stage" in caplog.text


async def test_a_disk_that_fails_is_told_once_and_tried_on(tmp_path: Path) -> None:
    folder, live = tmp_path / "data", LiveState()
    folder.write_text("in the way")
    troubles: list[PaintoverError] = []
    async with task(Store(folder / "live.json", live).keep(troubles.append)):
        await eventually(lambda: bool(troubles))
        live.set("strength", 0.5, origin=None, now=0)
        folder.unlink()
        await eventually((folder / "live.json").exists)
    (trouble,) = troubles
    assert isinstance(trouble, NotStored)


def freeze(live: LiveState, on: bool) -> None:
    live.set("freeze", on, origin=None, now=0)


def test_the_picture_that_is_frozen_is_kept_as_long_as_it_is(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    live, path = LiveState(), tmp_path / "live.json"
    store = Store(path, live, lambda: picture if live.values["freeze"] else None)
    freeze(live, True)
    store.save()
    again = Store(path, LiveState())
    assert again.load(0) == []
    assert np.array_equal(again.picture, picture)
    freeze(live, False)
    store.save()
    assert [entry.name for entry in tmp_path.glob("*frozen*")] == []
    freeze(live, True)
    Store(path, live).save()  # frozen before there was a picture
    again = Store(path, LiveState())
    assert (again.load(0), again.picture) == ([], None)


@pytest.mark.parametrize("damage", ["empty", "half", "no picture", "too large"])
def test_a_damaged_picture_is_set_aside_and_said(tmp_path: Path, damage: str) -> None:
    live, path, kept = LiveState(), tmp_path / "live.json", tmp_path / "live-frozen.png"
    freeze(live, True)
    side = 4096 if damage == "too large" else 64
    Store(path, live, lambda: np.zeros((side, side, 3), np.uint8)).save()
    whole = kept.read_bytes()
    kept.write_bytes({"empty": b"", "half": whole[: len(whole) // 2], "no picture": b"{}"}.get(damage, whole))
    again = Store(path, LiveState())
    (trouble,) = again.load(0)
    assert "live-frozen.damaged" in trouble.hint
    assert again.picture is None
    assert (tmp_path / "live-frozen.damaged").exists()
    assert not kept.exists()


def test_a_disk_without_room_for_the_picture_has_the_values(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    with small_disk(tmp_path / "data", 64) as full:
        live = LiveState()
        store = Store(full.folder / "live.json", live, lambda: noise)
        freeze(live, True)
        with pytest.raises(DiskFull, match="the picture that is frozen"):
            store.save()
        again = Store(full.folder / "live.json", LiveState())
        assert again.load(0) == []
        assert again._state.values["freeze"]
        assert sorted(entry.name for entry in full.folder.iterdir()) == ["live-presets.json", "live.json"]
        full.resize(4096)
        store.save()
        assert again.load(0) == []
        assert np.array_equal(again.picture, noise)
