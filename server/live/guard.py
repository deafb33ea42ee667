"""Who may use the HTTP port: no web page of elsewhere, and from other machines only those who show the token.

A page that a browser has open somewhere else could otherwise drive the stage: the browser runs on this machine. Such
requests carry a foreign Origin or, by a name that was made to point here (DNS rebinding), a foreign Host.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import SplitResult, urlsplit

from aiohttp import web

COOKIE = "paintover"
MONTH = 30 * 24 * 3600
PATIENCE = 10.0
"""Seconds that a token may take to come in."""
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
"""What proxies say of the one for whom they ask."""

ASK = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Paintover</title>
<style>body{{background:#0c0d0f;color:#e9e7e2;font:18px system-ui,sans-serif;display:grid;place-content:center;
min-height:90vh;margin:1rem}}input,button{{font:inherit;background:#1a1c20;color:inherit;border:1px solid #3a3d44;
border-radius:8px;padding:.7rem;margin:.3rem 0;width:100%;box-sizing:border-box}}p{{color:#9a9890;max-width:22rem}}
</style><h1>Paintover</h1><p>{said}</p>
<form method="post" action="/token"><input name="token" type="password" autocomplete="current-password" autofocus
aria-label="Token"><button>Open</button></form></html>"""


class Guard:
    """`check` is middleware for every request."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._cookie = hmac.new(_bytes(token), b"paintover monitor page", hashlib.sha256).hexdigest()
        own = socket.gethostname().lower()
        self._names = {"localhost", own, own.split(".")[0], f"{own.split('.')[0]}.local"}

    @web.middleware
    async def check(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if reason := self._foreign(request):
            return _refusal(request, 403, f"{reason}\n")
        if request.path == "/token" and request.method == "POST":
            return await self._let_in(request)
        if not (is_of_here(request) or self._known(request)):
            said = "This server is on another machine: enter its token (“paintover doctor” prints it there)."
            if "text/html" in request.headers.get("Accept", ""):
                return _refusal(request, 401, ASK.format(said=said), "text/html")
            return _refusal(request, 401, "The token is missing: ?token=… or the header Authorization: Bearer …\n")
        response = await handler(request)
        if not response.prepared:
            response.headers.setdefault("Cache-Control", "no-store")
            response.headers["X-Frame-Options"] = "DENY"
            response.headers["X-Content-Type-Options"] = "nosniff"
            response.headers["Referrer-Policy"] = "no-referrer"
            response.headers["Content-Security-Policy"] = (
                "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; form-action 'self'"
            )
        return response

    def _foreign(self, request: web.Request) -> str:
        """Why the request comes from a web page of elsewhere, or an empty text."""
        host = request.headers.get("Host", "")
        name = _split(f"//{host}").hostname or ""
        # A number cannot be made to point here; a name can, by whoever owns it.
        if name not in self._names and not _is_address(name):
            return "This server answers to its address and to its machine's name only."
        origin = request.headers.get("Origin")
        if origin is not None and _split(origin).netloc.lower() != host.lower():
            return "Other web pages may not use this server."
        site = request.headers.get("Sec-Fetch-Site", "none")
        if site not in ("same-origin", "none") and request.headers.get("Sec-Fetch-Mode") != "navigate":
            return "Other web pages may not use this server."
        return ""

    def _known(self, request: web.Request) -> bool:
        shown = request.query.get("token") or request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        cookie = request.cookies.get(COOKIE, "")
        return _equal(shown, self._token) or _equal(cookie, self._cookie)

    async def _let_in(self, request: web.Request) -> web.StreamResponse:
        try:
            form = await asyncio.wait_for(request.post(), PATIENCE)
        except TimeoutError:
            return _refusal(request, 408, "It took too long.\n")
        if not _equal(str(form.get("token", "")).strip(), self._token):
            said = "That is not this server's token."
            return _refusal(request, 401, ASK.format(said=said), "text/html")
        answer = web.HTTPSeeOther("/")
        answer.set_cookie(COOKIE, self._cookie, max_age=MONTH, httponly=True, samesite="Strict")
        raise answer


def _refusal(request: web.Request, status: int, text: str, kind: str = "text/plain") -> web.Response:
    """An answer to who may not come in. Its connection ends: it is not one that others should wait for."""
    response = web.Response(status=status, text=text, content_type=kind)
    response.force_close()
    return response


def is_of_here(request: web.Request) -> bool:
    """Whether a program of this machine asks, for itself: not a proxy for somebody elsewhere."""
    return is_loopback(request.remote) and not any(name in request.headers for name in FORWARDED)


def is_loopback(remote: str | None) -> bool:
    try:
        address = ipaddress.ip_address((remote or "").split("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # brackets without an address
        return SplitResult("", "", "", "", "")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.split("%")[0])
    except ValueError:
        return False
    return True


def _equal(shown: str, right: str) -> bool:
    return hmac.compare_digest(_bytes(shown), _bytes(right))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
