"""The optional outputs at their import seam: libraries that are missing, and stand-ins of those that cannot be here."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import threading
import time
import types
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paintover.bridge.errors import SinkMissing
from paintover.bridge.frames import FrameReader, FrameWriter, place
from paintover.server.live.sinks import OutputFrame, make
from paintover.server.live.sinks.shared import SharedSink
from paintover.server.live.sinks.threaded import ThreadedSink

from ..server_process import running
from ..waiting import wait_until

HERE = {"ndi": "cyndilib", "spout": "SpoutGL", "syphon": "syphon", "camera": "pyvirtualcam"}


def frame(value: int, width: int = 64, height: int = 32) -> OutputFrame:
    return OutputFrame(1, 0.0, np.full((height, width, 3), value, np.uint8))


@pytest.mark.parametrize(("name", "library"), HERE.items())
def test_a_missing_library_is_said_with_the_next_step(name: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # what Python does where it is not installed
    with pytest.raises(SinkMissing) as caught:
        make(name, frames="unused", fps=30)
    assert library.lower().split("lib")[0] in str(caught.value).lower()
    assert caught.value.hint


def test_an_unknown_name_names_the_known_ones() -> None:
    with pytest.raises(SinkMissing, match="shared, depth, ndi, spout, syphon, camera"):
        make("hdmi", frames="unused", fps=30)


def test_depth_and_alpha_go_beside_the_picture() -> None:
    name = f"paintover-test-{uuid.uuid4().hex[:12]}"
    sink, reader = make("depth", frames=name, fps=30), FrameReader(f"{name}-depth")
    other = FrameWriter(f"{name}-depth", 4)
    with pytest.raises(SinkMissing, match="another program"):
        make("depth", frames=name, fps=30)
    other.close()
    depth = np.full((16, 32), np.inf, np.float32)
    depth[4:8], depth[8:] = 10.0, 2.0
    sink.start()
    try:
        sink.send(frame(1))
        sink.send(dataclasses.replace(frame(2), depth=depth))
        sink.send(dataclasses.replace(frame(2), depth=depth, fresh=False))
        wait_until(lambda: reader.read() is not None)
        beside = reader.read()
        assert beside is not None
        assert beside.image.shape == (32, 64, 4), "as large as the picture"
        assert np.array_equal(beside.image[..., 3], np.repeat([0, 255], [8, 24])[:, None] * np.ones((1, 64)))
        empty, far, near = (int(beside.image[row, 5, 0]) for row in (0, 10, 25))
        assert empty == 0
        assert 0 < far < near == 255
        sink.send(dataclasses.replace(frame(3), depth=depth, fresh=False))
        sink.send(dataclasses.replace(frame(3, 96, 48), depth=depth, fresh=False))
        wait_until(lambda: (now := reader.read()) is not None and now.image.shape == (48, 96, 4))
    finally:
        sink.close()
    assert reader.read() is None


def module(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    for key, value in content.items():
        setattr(made, key, value)
    monkeypatch.setitem(sys.modules, name, made)
    return made


class Recorder:
    """Stands in for a library's object: keeps its calls, and on which thread they came."""

    def __init__(self, **answers: Any) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.threads: set[int] = set()
        self._answers = answers

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            copies = tuple(a.copy() if isinstance(a, np.ndarray) else a for a in arguments)
            self.calls.append((name, (*copies, *more.values())))
            self.threads.add(threading.get_ident())
            return self._answers.get(name)

        return call

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [arguments for called, arguments in list(self.calls) if called == name]


def test_spout_gets_rgba_on_one_thread_and_is_opened_anew_for_another_size(monkeypatch: pytest.MonkeyPatch) -> None:
    sender = Recorder(sendImage=True)
    module(monkeypatch, "SpoutGL", SpoutSender=lambda: sender)
    sink = make("spout", frames="unused", fps=30)
    sink.start()
    sink.send(frame(7))
    wait_until(lambda: len(sender.of("sendImage")) == 1)
    sink.send(frame(8, width=128))
    wait_until(lambda: len(sender.of("sendImage")) == 2)
    sink.close()
    pixels, width, height = sender.of("sendImage")[0][:3]
    assert (width, height) == (64, 32)
    assert pixels.shape == (32, 64, 4)
    assert tuple(pixels[0, 0]) == (7, 7, 7, 255)
    assert sender.of("sendImage")[1][1] == 128
    assert len(sender.of("createOpenGL")) == len(sender.of("releaseSender")) == 2
    assert len(sender.threads) == 1
    assert threading.get_ident() not in sender.threads


def test_syphon_publishes_a_texture(monkeypatch: pytest.MonkeyPatch) -> None:
    server, copied = Recorder(), []
    server.device = "the device"
    module(monkeypatch, "syphon", SyphonMetalServer=lambda title: server)
    module(monkeypatch, "syphon.utils")
    module(monkeypatch, "syphon.utils.raw", create_mtl_texture=lambda device, width, height: (device, width, height))
    module(monkeypatch, "syphon.utils.numpy", copy_image_to_mtl_texture=lambda image, _: copied.append(image.copy()))
    loop = Recorder()
    module(
        monkeypatch, "Foundation", NSDate=types.SimpleNamespace(date=lambda: 0),
        NSRunLoop=types.SimpleNamespace(currentRunLoop=lambda: loop),
    )  # fmt: skip
    sink = make("syphon", frames="unused", fps=30)
    sink.start()
    sink.send(frame(9))
    wait_until(lambda: len(server.of("publish_frame_texture")) == 1)
    sink.close()
    assert server.of("publish_frame_texture")[0][0] == ("the device", 64, 32)
    assert tuple(copied[0][0, 0]) == (9, 9, 9, 255)
    assert server.of("stop")


def test_a_virtual_camera_is_tried_before_the_show(monkeypatch: pytest.MonkeyPatch) -> None:
    cameras: list[Recorder] = []

    def camera(width: int, height: int, fps: float) -> Recorder:
        cameras.append(Recorder())
        return cameras[-1]

    module(monkeypatch, "pyvirtualcam", Camera=camera)
    sink = make("camera", frames="unused", fps=30)
    assert cameras[0].of("close"), "the one for trying is closed again"
    sink.start()
    sink.send(frame(5))
    wait_until(lambda: len(cameras) == 2 and len(cameras[1].of("send")) == 1)
    sink.close()
    assert cameras[1].of("send")[0][0].shape == (32, 64, 3)

    def none(width: int, height: int, fps: float) -> Recorder:
        raise RuntimeError("No v4l2 loopback device found")

    module(monkeypatch, "pyvirtualcam", Camera=none)
    with pytest.raises(SinkMissing, match="modprobe v4l2loopback"):
        make("camera", frames="unused", fps=30)


@pytest.mark.skipif(not importlib.util.find_spec("cyndilib"), reason="cyndilib is not installed")
def test_ndi_takes_frames_of_changing_size() -> None:
    sink = make("ndi", frames="unused", fps=59.94)
    assert isinstance(sink, ThreadedSink)
    sink.start()
    try:
        for count, width in enumerate((64, 128, 64), 1):
            sink.send(frame(5, width=width))
            wait_until(lambda count=count: sink.shown == count)  # type: ignore[misc]
    finally:
        sink.close()


class Stubborn:
    """A driver that holds everything up until it is let go, or fails."""

    name = "stubborn"

    def __init__(self) -> None:
        self.go = threading.Event()
        self.shown: list[int] = []
        self.fail = 0
        self.opened = self.closed = 0

    def check(self) -> None: ...

    def open(self, width: int, height: int) -> None:
        self.opened += 1

    def show(self, image: np.ndarray) -> None:
        assert self.go.wait(20)
        if self.fail:
            self.fail -= 1
            raise OSError("unplugged")
        self.shown.append(int(image[0, 0, 0]))

    def close(self) -> None:
        self.closed += 1


def test_a_library_that_holds_up_gets_the_newest_frame_and_holds_nobody_up() -> None:
    driver = Stubborn()
    sink = ThreadedSink(driver)
    sink.start()
    sink.send(frame(1))
    wait_until(lambda: driver.opened == 1)
    for value in range(2, 50):
        sink.send(frame(value))  # would never return if it waited for the driver
    driver.go.set()
    wait_until(lambda: len(driver.shown) == 2)
    assert driver.shown == [1, 49]
    sink.close()
    assert driver.closed == 1


def test_a_library_that_fails_is_opened_again(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr("paintover.server.live.sinks.threaded.RETRY", 0.01)
    driver = Stubborn()
    driver.go.set()
    driver.fail = 3
    sink = ThreadedSink(driver)
    sink.start()
    for _ in range(1000):
        sink.send(frame(1))
        if driver.shown:
            break
        time.sleep(0.005)
    sink.close()
    assert driver.shown
    assert driver.opened == driver.closed == 4
    assert sum("stubborn failed" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_shared_memory_that_was_short_for_a_moment_is_used_again() -> None:
    """A larger picture for which there is no memory costs its own frames, and no others."""
    import resource

    name = f"paintover-test-{uuid.uuid4().hex[:12]}"
    sink, reader = SharedSink(name), FrameReader(name)
    small, large = (np.full((side, side, 3), 7, np.uint8) for side in (64, 1024))
    sink.start()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, limits[1]))
        with pytest.raises(OSError, match=r"large|space|memory"):
            sink.send(OutputFrame(1, 1.0, large))
        sink.send(OutputFrame(2, 2.0, small))
        found = reader.read()
        assert found is not None
        assert found.image.shape == (64, 64, 3)
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        sink.send(OutputFrame(3, 3.0, large))
        reader.close()
        assert reader.read().image.shape == (1024, 1024, 3)  # type: ignore[union-attr]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        sink.close()
    sink.send(OutputFrame(4, 4.0, small))
    assert FrameReader(name).read() is None, "nothing is made anew behind the end"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a name is no link")
def test_names_that_killed_servers_have_left_go_with_the_next_one(tmp_path: Path) -> None:
    folder = place("paintover").parent
    with running(tmp_path) as killed:
        left = folder / f"paintover-{killed.port}"
        assert left.is_symlink()
        killed.process.kill()
        killed.process.wait(20)
    part = folder / f"paintover-{killed.port}.{killed.process.pid}"  # it was about to give a name
    part.symlink_to(f"/proc/{killed.process.pid}/fd/9")
    others = [folder / f"paintover-{killed.port}-{number}" for number in range(2)]
    others[0].symlink_to("/nowhere")
    others[1].write_text("not a link")
    try:
        with running(tmp_path / "first") as first, running(tmp_path / "second") as second:
            assert not left.is_symlink()
            assert not part.is_symlink()
            assert others[0].is_symlink()
            assert others[1].exists()
            names = [folder / f"paintover-{server.port}" for server in (first, second)]
            assert all(name.exists() for name in names), "that of one that runs stays"
        assert not any(name.is_symlink() for name in names), "at an orderly end, its own goes with it"
    finally:
        for path in (left, part, *others):
            path.unlink(missing_ok=True)
