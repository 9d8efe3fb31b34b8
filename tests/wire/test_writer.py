"""The buffered writer: what is gathered, when it is sent, and how long that may take."""

from __future__ import annotations

from typing import cast

from blocksmtp.wire.transport import Transport
from blocksmtp.wire.writer import Writer


class Noting:
    """A transport that notes what it is to send."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, float, float]] = []

    def send(self, octets: bytes, seconds: float, total_seconds: float) -> None:
        self.sent.append((octets, seconds, total_seconds))


def writer(transport: Noting) -> Writer:
    return Writer(cast(Transport, transport), 60.0, 300.0)


def test_what_is_due_goes_in_one_piece() -> None:
    transport = Noting()
    ours = writer(transport)
    ours.write(b"250 one\r\n")
    ours.write(b"250 two\r\n")
    assert transport.sent == []
    ours.flush()
    ours.flush()
    assert transport.sent == [(b"250 one\r\n250 two\r\n", 60.0, 300.0)]


def test_the_last_reply_has_little_time() -> None:
    transport = Noting()
    ours = writer(transport)
    ours.write(b"250 ok\r\n")
    ours.write_last(b"421 bye\r\n", 1.0)
    ours.flush()
    assert transport.sent == [(b"250 ok\r\n421 bye\r\n", 1.0, 1.0)]


def test_16_kib_do_not_wait_for_more() -> None:
    transport = Noting()
    ours = writer(transport)
    ours.write(b"x" * 16_383)
    assert transport.sent == []
    ours.write(b"x")
    assert transport.sent == [(b"x" * 16_384, 60.0, 300.0)]
    ours.write(b"250 ok\r\n")
    assert len(transport.sent) == 1
