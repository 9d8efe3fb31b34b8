"""Chromium without a window, and the programs that it looks at."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

from .conftest import find_program

EXAMPLES = Path(__file__).parents[2] / "examples"
_SECONDS = 20


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[webdriver.Chrome]:
    """The browser; its profile is in `folder`."""
    options = webdriver.ChromeOptions()
    options.binary_location = find_program("chromium")
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"),
        *("--window-size=1280,800", f"--user-data-dir={folder / 'profile'}"),
    ):
        options.add_argument(argument)
    browser = webdriver.Chrome(options, Service(find_program("chromedriver")))
    try:
        browser.set_page_load_timeout(_SECONDS)
        yield browser
    finally:
        browser.quit()


def waiting(browser: webdriver.Chrome) -> WebDriverWait[webdriver.Chrome]:
    """`waiting(browser).until(condition)`.

    A condition may meet a page that is just being replaced: then it is asked again.
    """
    between_pages = (NoSuchElementException, StaleElementReferenceException)
    return WebDriverWait(browser, _SECONDS, 0.05, between_pages)


@contextlib.contextmanager
def example(
    name: str, folder: Path, *arguments: str, **environment: str
) -> Iterator[tuple[int, str, str]]:
    """An example, started as its reader starts it: its port for mail, its page, what it said."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **environment},
    ) as process:
        try:
            assert process.stdout is not None
            said = ""
            for line in process.stdout:
                said += line
                found = re.search(r"127\.0\.0\.1:(\d+), .* (http://127\.0\.0\.1:\d+/\S*)", line)
                if found:
                    yield int(found[1]), found[2], said
                    break
            else:
                raise AssertionError("it ended")
            process.send_signal(signal.SIGINT)
            assert process.wait(_SECONDS) == 0
        finally:
            process.kill()


@contextlib.contextmanager
def trap() -> Iterator[tuple[str, list[str]]]:
    """A web server that nobody should visit: its address, and what was asked of it."""
    visits: list[str] = []

    class Server(ThreadingHTTPServer):
        # Its threads end with it.
        daemon_threads = False

    class Handler(BaseHTTPRequestHandler):
        # For a connection on which a browser, as it likes to, says nothing.
        timeout = 0.5

        def setup(self) -> None:
            visits.append("a connection")
            super().setup()

        def do_GET(self) -> None:
            visits.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", visits
        server.shutdown()
        thread.join()
