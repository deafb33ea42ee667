"""Announces the OSC and OSCQuery ports in the local network (Zeroconf, or Bonjour), where the user allows it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from typing import Any

from paintover.bridge.errors import ServerStartFailed

NAME = "Paintover"


class Announcement:
    """`start`, and `close` at the end. Needs the extra “zeroconf”."""

    def __init__(self, osc_port: int, http_port: int, interfaces: Iterable[str] | None = None) -> None:
        """Ports that are 0 are not announced. `interfaces`: addresses of those to announce on; all by default."""
        try:
            from zeroconf.asyncio import AsyncZeroconf
        except ImportError as reason:
            raise ServerStartFailed(
                "--zeroconf needs a package that is not installed.", hint="Run: pip install 'paintover[zeroconf]'"
            ) from reason
        self._make: Any = AsyncZeroconf
        self._ports = {"_osc._udp": osc_port, "_oscjson._tcp": http_port}
        self._interfaces = list(interfaces) if interfaces else None
        self._zeroconf: Any = None

    async def start(self) -> None:
        """Announce the ports. Raises ServerStartFailed where there is no network to announce them in."""
        from zeroconf import Error

        try:
            await self._announce()
        except (OSError, RuntimeError, Error) as reason:
            with contextlib.suppress(OSError, RuntimeError, Error):
                await self.close()
            raise ServerStartFailed(
                f"OSC and OSCQuery could not be announced in the local network: {reason}.",
                hint="Check that the machine is in a network, or start the server without --zeroconf.",
            ) from reason

    async def _announce(self) -> None:
        from zeroconf import InterfaceChoice, IPVersion, ServiceInfo

        self._zeroconf = self._make(interfaces=self._interfaces or InterfaceChoice.All, ip_version=IPVersion.V4Only)
        host = socket.gethostname().split(".")[0]
        addresses = self._interfaces or _own_addresses()
        for kind, port in self._ports.items():
            if port:
                info = ServiceInfo(
                    f"{kind}.local.",
                    f"{NAME} {host} {port}.{kind}.local.",
                    port=port,
                    server=f"{host}.local.",
                    addresses=[socket.inet_aton(address) for address in addresses],
                )
                await (await self._zeroconf.async_register_service(info, allow_name_change=True))

    async def close(self) -> None:
        if self._zeroconf:
            await self._zeroconf.async_close()
            self._zeroconf = None


def _own_addresses() -> list[str]:
    import psutil

    return [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    ] or ["127.0.0.1"]
