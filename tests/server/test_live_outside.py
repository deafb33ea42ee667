"""Frames of other programs as what is painted from: through shared memory into a real server and to its worker."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import numpy as np

from paintover.bridge.frames import FrameReader, FrameWriter
from paintover.bridge.hints import make_hint
from paintover.server.live.outside import Outside, passes_of

from ..server_process import running
from ..waiting import wait_until


def name_of_its_own() -> str:
    return f"paintover-test-{uuid.uuid4().hex[:12]}"


async def test_the_newest_frame_of_each_name_is_taken_once() -> None:
    names = name_of_its_own(), name_of_its_own()
    picture, depth = (FrameWriter(name, 1 << 16) for name in names)
    taken: list[np.ndarray] = []
    arrived = asyncio.Event()

    def take(frame: np.ndarray) -> None:
        taken.append(frame)
        arrived.set()

    async def shapes(count: int) -> list[tuple[int, ...]]:
        async with asyncio.timeout(20):
            while len(taken) < count:
                arrived.clear()
                await arrived.wait()
        return [frame.shape for frame in taken]

    outside = Outside(names, take)
    outside.start()
    try:
        picture.write(np.zeros((8, 16, 4), np.uint8), 0.0)
        assert await shapes(1) == [(8, 16, 4)]
        depth.write(np.zeros((9, 16, 1), np.uint8), 0.0)
        assert (await shapes(2))[1] == (9, 16, 1)
        picture.write(np.zeros((8, 16, 4), np.uint8), 0.0, fresh=False)  # the same pixels: nobody needs them again
        picture.write(np.zeros((7, 16, 4), np.uint8), 0.0, fresh=False)
        depth.write(np.zeros((6, 16, 1), np.uint8), 0.0)
        assert (await shapes(3))[2] == (6, 16, 1)
    finally:
        outside.close()
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
