"""A PROXY header in pieces, merged with what follows, or cut off after each of its octets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from blocksmtp import SMTPSession
from tests.certificates import Leaf
from tests.client import serving, wait_until_idle
from tests.test_proxied import V1, v2

from .dialogue import breaking_off, tls_context
from .proxy import NONE, Fault, Proxy, Then
from .world import Application, Record

LEADING = b"EHLO client.example\r\n"

every_header = pytest.mark.parametrize("header", [V1, v2()], ids=["v1", "v2"])
every_wire = pytest.mark.parametrize("secure", [False, True], ids=["plain", "implicit"])


class Behind:
    """A server that is told of its clients by PROXY headers, and the proxy that spoils them."""

    def __init__(self, stack: ExitStack, leaf: Leaf, *, secure: bool) -> None:
        self.application = Application()
        self.addresses: list[tuple[str, int]] = []
        self._secure = secure
        options = {**self.application.options, "cert": leaf.cert, "key": leaf.key}
        self.server = stack.enter_context(
            serving(**{**options, "on_connect": self._connected}, use_proxy=True, secure=secure)
        )
        self.server.on("error", self.application.errors.append)
        self._proxy = stack.enter_context(Proxy(self.server.addresses[0]))

    def _connected(self, session: SMTPSession) -> None:
        self.addresses.append((session.remote_address, session.remote_port))
        self.application.records[session.remote_port] = Record(1)

    def say(self, header: bytes, fault: Fault, *, at_once: bool = False) -> int:
        """The header, and a dialogue; how many replies come back.

        `at_once`: what follows the header in clear is sent together with it.
        """
        replies = 0
        first = header + LEADING if at_once and not self._secure else header
        with self._proxy.connect(fault) as link, breaking_off():
            link.client.send(first)
            if self._secure:
                link.client.start_tls(tls_context())
            if first is header:
                link.client.send(LEADING)
            link.client.send("QUIT\r\n")
            for _ in range(3):
                link.client.reply()
                replies += 1
        wait_until_idle(self.server)
        return replies

    def check_clean(self) -> None:
        """One more client, who is served."""
        self.addresses.clear()
        self.application.warnings.clear()
        assert self.say(V1, NONE) == 3
        assert self.addresses == [("192.0.2.9", 1024)]
        assert self.application.warnings == []
        assert self.application.errors == []


@contextmanager
def behind(leaf: Leaf, *, secure: bool) -> Iterator[Behind]:
    with ExitStack() as stack:
        yield Behind(stack, leaf, secure=secure)


@every_wire
@every_header
def test_in_pieces(leaf: Leaf, header: bytes, secure: bool) -> None:
    with behind(leaf, secure=secure) as here:
        for octets in (1, 3, 11):
            assert here.say(header, Fault(piece=octets, delay=0.0001)) == 3
        for place in range(len(header) + 2):
            assert here.say(header, Fault(after=place, then=Then.PAUSE), at_once=True) == 3
        assert set(here.addresses) == {("192.0.2.9", 1024)}
        assert here.application.warnings == []
        here.check_clean()


@every_wire
@every_header
def test_merged_with_what_follows(leaf: Leaf, header: bytes, secure: bool) -> None:
    with behind(leaf, secure=secure) as here:
        assert here.say(header, Fault(hold=0.02)) == 3
        assert here.say(header, NONE, at_once=True) == 3
        assert here.addresses == [("192.0.2.9", 1024)] * 2
        here.check_clean()


@every_wire
@every_header
@pytest.mark.parametrize("then", [Then.END, Then.CLOSE, Then.RESET], ids=lambda then: then.value)
def test_cut_off(leaf: Leaf, header: bytes, secure: bool, then: Then) -> None:
    with behind(leaf, secure=secure) as here:
        for place in range(len(header)):
            here.application.warnings.clear()
            assert here.say(header, Fault(after=place, then=then)) == 0
            # Who says nothing checks the server's health; who breaks off may be gone unheard.
            expected = {0} if place == 0 else {0, 1} if then is Then.RESET else {1}
            assert len(here.application.warnings) in expected, f"octet {place}"
        assert here.addresses == []
        here.check_clean()


@every_header
def test_cut_off_behind_it(leaf: Leaf, header: bytes) -> None:
    with behind(leaf, secure=False) as here:
        assert here.say(header, Fault(after=len(header), then=Then.END)) == 1
        assert here.application.warnings == []
        assert here.addresses == [("192.0.2.9", 1024)]
        here.check_clean()
