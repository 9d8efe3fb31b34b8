"""The buffered writer of a connection: replies are gathered, and sent together."""

from __future__ import annotations

from .transport import Transport

# More than the replies to a good client's group, and no more than a thousand bad ones may pile up.
_FULL = 16_384


class Writer:
    """Writes to a transport through a buffer.

    `idle_seconds` bound the time in which the client takes none of a write, `total_seconds` that
    for all of it.
    """

    def __init__(self, transport: Transport, idle_seconds: float, total_seconds: float) -> None:
        self._transport = transport
        self._idle_seconds = idle_seconds
        self._total_seconds = total_seconds
        self._buffer = bytearray()

    @property
    def full(self) -> bool:
        """Whether so much is due that it should not get more."""
        return len(self._buffer) >= _FULL

    def write(self, octets: bytes) -> None:
        """Have `octets` sent with the next flush."""
        self._buffer += octets

    def flush(self) -> None:
        """Send what is due. Raises ClientTooSlow and ClientGone."""
        self._flush(self._idle_seconds, self._total_seconds)

    def flush_within(self, seconds: float) -> None:
        """As `flush`, for what may take only so long."""
        self._flush(seconds, seconds)

    def _flush(self, idle_seconds: float, total_seconds: float) -> None:
        if self._buffer:
            octets = bytes(self._buffer)
            self._buffer.clear()
            self._transport.send(octets, idle_seconds, total_seconds)
