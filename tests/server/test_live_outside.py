"""Frames of other programs as what is painted from: through shared memory into a real server and to its worker."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import numpy as np
import psutil

from paintover.bridge.frames import FrameReader, FrameWriter
from paintover.bridge.hints import make_hint
from paintover.bridge.scene import Passes
from paintover.server.live.outside import Outside, passes_of

from ..server_process import running
from ..waiting import wait_until


def name_of_its_own() -> str:
    return f"paintover-test-{uuid.uuid4().hex[:12]}"


async def test_the_newest_frame_of_each_name_is_taken_once() -> None:
    names = name_of_its_own(), name_of_its_own()
    picture, depth = (FrameWriter(name, 1 << 16) for name in names)
    taken: list[np.ndarray | Passes] = []
    arrived = asyncio.Event()

    def take(frame: np.ndarray | Passes) -> None:
        taken.append(frame)
        arrived.set()

    async def shapes(count: int) -> list[tuple[int, ...]]:
        async with asyncio.timeout(20):
            while len(taken) < count:
                arrived.clear()
                await arrived.wait()
        return [frame.depth.shape if isinstance(frame, Passes) else frame.shape for frame in taken]

    reading = Outside(names, take)
    reading.start()
    try:
        picture.write(np.zeros((8, 16, 4), np.uint8), 0.0)
        assert await shapes(1) == [(8, 16, 3)]
        depth.write(np.zeros((9, 16, 1), np.uint8), 0.0)
        assert (await shapes(2))[1] == (9, 16)
        picture.write(np.zeros((8, 16, 4), np.uint8), 0.0, fresh=False)  # the same pixels: nobody needs them again
        picture.write(np.zeros((7, 16, 4), np.uint8), 0.0, fresh=False)
        depth.write(np.zeros((6, 16, 1), np.uint8), 0.0)
        assert (await shapes(3))[2] == (6, 16)
    finally:
        reading.close()
        picture.close()
        depth.close()


def test_a_depth_map_steers_as_it_looks() -> None:
    """Near is white: the ControlNet's hint grows with the map's values, and black is nothing."""
    grey = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (32, 1))[..., None]
    passes = passes_of(grey)
    passes.check_values()
    hint = make_hint(passes, "depth")[16, :, 0]
    assert hint[0] == 0
    assert (np.diff(hint) >= -1e-6).all()
    assert hint[-1] > 0.95
    assert hint[32] < 0.75


def test_huge_frames_of_another_program_fill_no_memory(tmp_path: Path) -> None:
    name = name_of_its_own()
    writer = FrameWriter(name, 9000 * 6000)
    with running(tmp_path, "fake", "--source", name) as server:
        reader, front = FrameReader(f"paintover-{server.port}"), psutil.Process(server.process.pid)
        server.said("Worker .* takes the jobs")
        before = front.memory_info().rss
        for number in (1, 2):
            writer.write(np.full((6000, 9000, 1), 99, np.uint8), 0.0)

            def painted(number: int = number) -> bool:
                seen = reader.read()
                return seen is not None and seen.image.reshape(-1)[:4].tobytes() == number.to_bytes(4, "little")

            wait_until(painted, 120)
        assert front.memory_info().rss - before < 150 << 20
    writer.close()


def test_a_frame_from_outside_wakes_the_stage_and_is_painted_from(tmp_path: Path) -> None:
    name = name_of_its_own()
    writer = FrameWriter(name, 1 << 20)
    with running(tmp_path, "fake", "--source", name, "--http-port", "0", "--osc-port", "0") as server:
        reader = FrameReader(f"paintover-{server.port}")
        wait_until(lambda: reader.read() is not None)
        frame = reader.read()
        assert frame is not None
        assert not frame.image.any(), "nothing is painted before somebody asks for it"
        writer.write(np.full((64, 64, 3), 99, np.uint8), 0.0)

        def painted_from() -> int:
            """The null stream shows the number of the control frame in its first bytes."""
            seen = reader.read()
            return int.from_bytes(seen.image.reshape(-1)[:4].tobytes(), "little") if seen is not None else 0

        wait_until(lambda: painted_from() == 1, 120)
        writer.write(np.full((64, 64, 1), 99, np.uint8), 0.0)
        wait_until(lambda: painted_from() == 2, 60)
    writer.close()
    assert reader.read() is None, "gone with the server"
