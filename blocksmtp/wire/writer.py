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
        self._due = b""

    def write(self, octets: bytes) -> None:
        """Have `octets` sent with the next flush, or now where much is due. Raises as `flush`."""
        self._due += octets
        if len(self._due) >= _FULL:
            self.flush()

    def flush(self) -> None:
        """Send what is due. Raises ClientTooSlow and ClientGone."""
        if self._due:
            octets, self._due = self._due, b""
            self._transport.send(octets, self._idle_seconds, self._total_seconds)

    def write_last(self, octets: bytes, seconds: float) -> None:
        """Send what is due and `octets`, which may take only so long. Raises as `flush`."""
        octets, self._due = self._due + octets, b""
        self._transport.send(octets, seconds, seconds)
