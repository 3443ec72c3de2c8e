"""Figures as files: what they hold, that no other host is asked, and what is said where there is no browser."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from xml.etree import ElementTree

import numpy as np
import plotly.graph_objects as go
import pytest

from pages.figures.images import FORMATS, images
from tests.find_browser import find_installed


def figure(title: str) -> go.Figure:
    return go.Figure(go.Bar(x=np.arange(3), y=np.array([0.2, 0.3, 0.5])),
                     {"title": {"text": title}, "width": 300, "height": 200})


@pytest.fixture
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """A port of this machine, and what anyone has said to it."""
    heard: list[bytes] = []

    def listen() -> None:
        while True:
            try:
                caller, _ = server.accept()
            except OSError:  # closed: the test is over
                return
            with caller:
                caller.settimeout(5)
                heard.append(caller.recv(1_000))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield server.getsockname()[1], heard
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.fixture
def browser_that_finds_only(tmp_path, monkeypatch, listener):
    """Lets every name that the browser looks up lead to the listener."""
    port, heard = listener
    everywhere = f"MAP * 127.0.0.1:{port}, EXCLUDE 127.0.0.1"
    wrapper = tmp_path / "browser"
    wrapper.write_text(f'#!/bin/sh\nexec "{find_installed()}" "--host-resolver-rules={everywhere}" "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("BROWSER_PATH", str(wrapper))
    return heard


def test_every_figure_is_drawn_in_every_format_and_no_other_host_is_asked(browser_that_finds_only):
    drawn = images([figure("苹果"), figure("apple")])
    assert [set(files) for files in drawn] == [set(FORMATS)] * 2
    for files, title in zip(drawn, ("苹果", "apple"), strict=True):
        assert files["png"].startswith(b"\x89PNG\r\n\x1a\n")
        width, height = (int.from_bytes(files["png"][at:at + 4], "big") for at in (16, 20))  # of the header chunk
        assert (width, height) == (300 * FORMATS["png"], 200 * FORMATS["png"])
        picture = ElementTree.fromstring(files["svg"])
        assert picture.get("width") == "300" and title in "".join(picture.itertext())
    assert browser_that_finds_only == []


@pytest.mark.parametrize("path", ["/no/such/browser", "/bin/false"])
def test_a_browser_that_does_not_start_is_an_error(monkeypatch, path):
    monkeypatch.setenv("BROWSER_PATH", path)
    with pytest.raises((RuntimeError, OSError)):
        images([figure("apple")])
