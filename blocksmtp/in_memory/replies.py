"""Replies as a client gets them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ReceivedReply:
    """A reply as the client gets it."""

    code: int
    lines: list[str]
    """The text of each line, with the enhanced status code in front where there is one."""

    @property
    def enhanced_code(self) -> str | None:
        """The enhanced status code (RFC 3463) of the last line, "2.1.0" say; None without one."""
        first, _, _ = self.lines[-1].partition(" ")
        return first if first[:1] in "245" and first.count(".") == 2 else None

    @property
    def accepted(self) -> bool:
        """Whether it says yes, or to go on."""
        return self.code < 400

    def __str__(self) -> str:
        last = len(self.lines) - 1
        return "\n".join(
            f"{self.code}{' ' if number == last else '-'}{line}"
            for number, line in enumerate(self.lines)
        )


@dataclass
class MessageReply(ReceivedReply):
    """The reply that decided about a message: to it, or to the command that refused it."""

    recipients: dict[str, ReceivedReply] = field(default_factory=dict)
    """What was said of each recipient: the reply to RCPT, and in LMTP that to the message."""


def replies_in(octets: bytes) -> list[ReceivedReply]:
    """The replies that `octets` are, as they stand on the wire (RFC 5321, section 4.2.1)."""
    replies = []
    lines: list[str] = []
    for line in octets.decode("utf-8").split("\r\n")[:-1]:
        lines.append(line[4:])
        if line[3:4] != "-":
            replies.append(ReceivedReply(int(line[:3]), lines))
            lines = []
    return replies
