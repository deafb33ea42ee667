"""A package index on loopback with tiny stand-ins for PyTorch and the server, so that a real venv and a real pip make a
whole environment within seconds. It can hold an answer back, to stop a set-up at a known moment."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from paintover.bridge import VERSION

TORCH = """
__version__ = "2.13.0"
class cuda:
    is_available = staticmethod(lambda: False)
class backends:
    class mps:
        is_available = staticmethod(lambda: False)
class ones:
    def __init__(self, *_, device): pass
    def __add__(self, _): return self
    def cpu(self): return self
"""


def wheel(name: str, version: str, files: dict[str, str], requires: str = "", entry: str = "") -> bytes:
    """A wheel as pip takes it."""
    info = f"{name}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + (f"Requires-Dist: {requires}\n" if requires else ""),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if entry:
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{entry}\n"
    lines = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(text.encode())}")
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,\n"])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return packed.getvalue()


def package(folder: Path, *, words: str = "hello", torch: str = "2.13.0") -> Path:
    """What the extension's zip carries: the server's wheel (a stand-in that says `words`) and the constraints."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "paintover/server/__init__.py": "",
        "paintover/server/cli.py": f"def main(): print({words!r})\n",
        "paintover/server/worker.py": "",
        "paintover/server/pipelines/__init__.py": "",
        "paintover/server/pipelines/engine.py": "",
    }
    made = wheel("paintover", VERSION, files, "small", "paintover = paintover.server.cli:main")
    (folder / f"paintover-{VERSION}-py3-none-any.whl").write_bytes(made)
    (folder / "constraints.txt").write_text(f"# exact versions\nsmall==1.0\ntorch=={torch}\n")
    return folder


class TinyRegistry:
    """`requests` lists what was asked for. A name in `held` is not answered until it is taken out."""

    def __init__(self) -> None:
        self.wheels = {
            "torch": {"2.13.0": wheel("torch", "2.13.0", {"torch.py": TORCH})},
            "small": {"1.0": wheel("small", "1.0", {"small.py": ""})},
        }
        self.requests: list[str] = []
        self.held: dict[str, threading.Event] = {}
        self.asked = threading.Event()
        """Set when something is asked for that is held back."""
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/simple"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """GET /simple/NAME/ lists a package's wheels; GET /files/NAME/VERSION/FILE is one."""
        self.requests.append(handler.path)
        kind, name, *rest = handler.path.strip("/").split("/")
        if kind == "files" and name in self.held:
            self.asked.set()
            self.held[name].wait(600)
        if name not in self.wheels:
            handler.send_error(404)
            return
        if kind == "simple":
            links = "".join(
                f'<a href="/files/{name}/{version}/{name}-{version}-py3-none-any.whl">x</a>'
                for version in self.wheels[name]
            )
            body, content = f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), "text/html"
        else:
            body, content = self.wheels[name][rest[0]], "application/octet-stream"
        handler.send_response(200)
        handler.send_header("Content-Type", content)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def hold(self, name: str) -> None:
        self.asked.clear()
        self.held[name] = threading.Event()

    def release(self, name: str) -> None:
        self.held.pop(name).set()

    def close(self) -> None:
        for name in list(self.held):
            self.release(name)
        self._server.shutdown()
        self._server.server_close()
