"""A message on its way in, where there is no room for it."""

from __future__ import annotations

import io

import pytest

from blocksmtp.delivery import PrintDelivery

from .senders import deliver, no_file_beyond

ROOM = 1_500_000


# The last octets are in the buffer until the message is complete, or until its file is closed.
@pytest.mark.parametrize("missing", [1, 100, 5000, 50_000, 1_000_000])
def test_a_temporary_file_that_cannot_hold_the_message(missing: int) -> None:
    stream = io.StringIO()
    with no_file_beyond(ROOM):
        reply = deliver(PrintDelivery(stream), b"x" * (ROOM + missing - 2) + b"\r\n")
    assert str(reply) == "452 4.3.1 Error: no room for the message"
    assert stream.getvalue() == ""


def test_a_temporary_file_that_is_just_large_enough() -> None:
    with no_file_beyond(ROOM):
        reply = deliver(PrintDelivery(io.StringIO()), b"x" * (ROOM - 2) + b"\r\n")
    assert reply.code == 250
