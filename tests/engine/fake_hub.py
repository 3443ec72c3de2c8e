"""A model hub on the loopback, with the few answers that a download needs, and faults on order.

Speaks what huggingface_hub asks: a repository's listing with file sizes, and
HEAD and GET (with ranges) of one file at one commit. It holds directories of
real files and knows nothing of the engine.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

_LISTING = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(?:/revision/(?P<revision>[^/]+))?")
_FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")
_BLOCK = 4096


class FakeHub:
    """A running server; use as a context manager.

    Attributes:
        address: what HF_ENDPOINT would be.
        requests: (method, path) of everything asked so far.
        faults: statuses to answer the next requests with, before anything else is looked at.
        gated: repositories that answer "ask for access first".
        dropped: how many of the next GETs of safetensors break off half-way.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.faults: list[int] = []
        self.gated: set[str] = set()
        self.dropped = 0
        self._repositories: dict[str, tuple[Path, str]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def put(self, repo: str, folder: Path) -> str:
        """Publish the files of `folder` as `repo`; returns the commit."""
        commit = hashlib.sha1("".join(
            path.name + hashlib.sha1(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())
        ).encode()).hexdigest()
        self._repositories[repo] = (folder, commit)
        return commit

    def __enter__(self) -> FakeHub:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Go offline: connections are refused from now on."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = urlsplit(handler.path).path
        self.requests.append((handler.command, path))
        if self.faults:
            return _refuse(handler, self.faults.pop(0), "")
        match = _LISTING.fullmatch(path) or _FILE.fullmatch(path)
        if match is None or match["repo"] not in self._repositories:
            return _refuse(handler, 404, "RepoNotFound")
        if match["repo"] in self.gated:
            return _refuse(handler, 403, "GatedRepo")
        folder, commit = self._repositories[match["repo"]]
        if match["revision"] not in (None, "main", commit):
            return _refuse(handler, 404, "RevisionNotFound")
        if "name" not in match.groupdict():
            siblings = [
                {"rfilename": file.name, "size": file.stat().st_size, "blobId": _etag(file)}
                for file in sorted(folder.iterdir())
            ]
            return _send(handler, json.dumps({"id": match["repo"], "sha": commit, "siblings": siblings}).encode(), {})
        file = folder / match["name"]
        if not file.is_file():
            return _refuse(handler, 404, "EntryNotFound")
        drop = self.dropped > 0 and handler.command == "GET" and file.suffix == ".safetensors"
        self.dropped -= drop
        headers = {"ETag": f'"{_etag(file)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        return _send(handler, file.read_bytes(), headers, drop=drop)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub._answer(self)

            do_HEAD = do_GET

            def log_message(self, *args: object) -> None:
                """Silent."""

        return Handler


def _etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


def _refuse(handler: BaseHTTPRequestHandler, status: int, code: str) -> None:
    handler.send_response(status)
    if code:
        handler.send_header("X-Error-Code", code)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def _send(handler: BaseHTTPRequestHandler, body: bytes, headers: dict[str, str], *, drop: bool = False) -> None:
    start = 0
    asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    if asked:
        start = int(asked[1])
    handler.send_response(206 if asked else 200)
    for name, value in headers.items():
        handler.send_header(name, value)
    if asked:
        handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
    handler.send_header("Content-Length", str(len(body) - start))
    handler.end_headers()
    if handler.command == "HEAD":
        return
    end = start + (len(body) - start) // 2 if drop else len(body)
    for position in range(start, end, _BLOCK):
        handler.wfile.write(body[position:min(position + _BLOCK, end)])
    if drop:
        handler.close_connection = True
        handler.wfile.flush()
