"""OSC programs that this project did not write: liblo's oscsend and oscdump, and Pure Data."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from paintover.bridge.live import LIVE

from .osc_peer import endpoint

needs_liblo = pytest.mark.skipif(not shutil.which("oscsend"), reason="liblo-tools are not installed")
needs_pd = pytest.mark.skipif(not shutil.which("pd"), reason="Pure Data (puredata-core) is not installed")


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Program:
    """A process whose output is read line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def says(self, pattern: str) -> str:
        """Wait for a line in which the pattern is found; what was said before counts, too."""
        for line in self.lines:
            if re.search(pattern, line):
                return line
        assert self.process.stdout
        async with asyncio.timeout(30):
            while True:
                raw = await self.process.stdout.readline()
                assert raw, f"it ended without {pattern!r}: {self.lines}"
                self.lines.append(raw.decode().strip())
                if re.search(pattern, self.lines[-1]):
                    return self.lines[-1]


@contextlib.asynccontextmanager
async def program(*command: str) -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, limit=1 << 20
    )
    try:
        yield Program(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def oscsend(port: int, address: str, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec("oscsend", "127.0.0.1", str(port), address, *arguments)
    async with asyncio.timeout(30):
        assert await process.wait() == 0


@contextlib.asynccontextmanager
async def dumping(port: int) -> AsyncIterator[Program]:
    """oscdump once it hears."""
    async with program("oscdump", "-L", str(port)) as dump:
        for _ in range(100):
            await oscsend(port, "/ready")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    await dump.says("/ready")
                    break
        yield dump


@needs_liblo
async def test_oscsend_sets_and_oscdump_hears() -> None:
    reply = free_port()
    async with endpoint(reply_port=reply) as (osc, live, peer), dumping(reply) as dump:
        await oscsend(osc.port, "/paintover/strength", "f", "0.25")
        await oscsend(osc.port, "/paintover/steps", "d", "7")
        await oscsend(osc.port, "/paintover/guidance", "h", "4")
        await oscsend(osc.port, "/paintover/prompt", "s", "old red brick, mossy")
        await oscsend(osc.port, "/paintover/control/edge/enable", "T")
        await oscsend(osc.port, "/paintover/output/size", "ii", "640", "384")
        await oscsend(osc.port, "/paintover/preset/store", "i", "3")
        await dump.says(r'/paintover/ack si "preset/store" 3')
        values = {"strength": 0.25, "steps": 7, "guidance": 4.0, "prompt": "old red brick, mossy", "output_width": 640}
        assert {name: live.values[name] for name in values} == values
        assert live.values["control_edge"] is True
        assert live.presets[3]["prompt"] == "old red brick, mossy"
        await oscsend(osc.port, "/paintover/strength", "s", "much")
        await dump.says(r'/paintover/error sis "/paintover/strength" 2 ".*text|number')
        await oscsend(osc.port, "/paintover/strength")
        await dump.says(r"/paintover/strength f 0.25")
        await oscsend(osc.port, "/paintover/prompt", "s", "?")
        await dump.says(r'/paintover/prompt s "old red brick, mossy"')
        await dump.says(r"/paintover/status/alive f \d")
        await dump.says(r"/paintover/status/fps f 0")
        await oscsend(osc.port, "/paintover/sync")
        for row in LIVE:
            await dump.says(rf"/paintover/{re.escape(row.address)} [fis] ")
        await oscsend(osc.port, "/paintover/ping", "i", "77")
        await dump.says(r"/paintover/pong i 77")
        other = peer()
        await other.join()
        other.send("/paintover/guidance", 7.5)
        await dump.says(r"/paintover/guidance f 7.5")


@needs_liblo
async def test_a_prompt_of_60_000_bytes_arrives_whole_both_ways(tmp_path: Path) -> None:
    reply, prompt = free_port(), "".join(f"{number:05} ä " for number in range(6700))
    prompt = prompt.encode()[:59_999].decode("utf-8", "ignore")
    prompt += "x" * (60_000 - len(prompt.encode()))
    async with endpoint(reply_port=0) as (osc, live, _), dumping(reply) as dump:
        await oscsend(osc.port, "/paintover/osc/reply", "i", str(reply))
        await dump.says("/paintover/ack")
        await oscsend(osc.port, "/paintover/prompt", "s", prompt)
        await oscsend(osc.port, "/paintover/prompt")
        line = await dump.says("/paintover/prompt s")
        assert live.values["prompt"] == prompt
        assert line.partition(' s "')[2].rstrip('"') == prompt


PATCH = """#N canvas 0 0 450 300 12;
#X obj 10 10 netreceive -u -b HERE;
#X obj 10 40 oscparse;
#X obj 10 70 list trim;
#X obj 10 100 print heard;
#X obj 200 10 loadbang;
#X obj 200 40 t b b b b b;
#X msg 300 70 connect 127.0.0.1 THERE;
#X msg 200 70 HERE;
#X obj 200 100 oscformat paintover osc reply;
#X msg 400 70 0.25;
#X obj 400 100 oscformat paintover strength;
#X msg 500 70 1;
#X obj 500 100 oscformat paintover freeze;
#X msg 600 70 7;
#X obj 600 100 oscformat paintover preset store;
#X obj 200 130 list prepend send;
#X obj 200 160 list trim;
#X obj 200 190 netsend -u -b;
#X connect 0 0 1 0;
#X connect 1 0 2 0;
#X connect 2 0 3 0;
#X connect 4 0 5 0;
#X connect 5 4 6 0;
#X connect 5 3 7 0;
#X connect 5 2 9 0;
#X connect 5 1 11 0;
#X connect 5 0 13 0;
#X connect 6 0 17 0;
#X connect 7 0 8 0;
#X connect 8 0 15 0;
#X connect 9 0 10 0;
#X connect 10 0 15 0;
#X connect 11 0 12 0;
#X connect 12 0 15 0;
#X connect 13 0 14 0;
#X connect 14 0 15 0;
#X connect 15 0 16 0;
#X connect 16 0 17 0;
"""


@needs_pd
async def test_pure_data_sets_and_hears(tmp_path: Path) -> None:
    here, patch = free_port(), tmp_path / "patch.pd"
    async with endpoint() as (osc, live, peer):
        patch.write_text(PATCH.replace("THERE", str(osc.port)).replace("HERE", str(here)))
        async with program("pd", "-nogui", "-noaudio", "-nomidi", "-stderr", "-open", str(patch)) as pd:
            await pd.says(r"heard: paintover ack preset/store 7")  # it sends floats for everything
            assert live.values["strength"] == 0.25
            assert live.values["freeze"] is True
            assert live.presets[7]["strength"] == 0.25
            other = peer()
            await other.join()
            other.send("/paintover/guidance", 7.5)
            other.send("/paintover/prompt", "old red brick")
            await pd.says(r"heard: paintover guidance 7.5")
            await pd.says(r"heard: paintover prompt old\\ red\\ brick")
            await pd.says(r"heard: paintover status alive \d")
            assert not any("paintover strength" in line for line in pd.lines), "what it has set itself"
