"""What a client sends: commands and messages as octets."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from email.generator import BytesGenerator
from email.message import Message
from email.policy import EmailPolicy
from email.utils import getaddresses
from io import BytesIO
from typing import BinaryIO

Content = bytes | str | BinaryIO | Iterable[bytes] | Message
"""A message: its octets, whole, as a file or in pieces; its text; or one of the email package."""

_PIECE = 65_536
# Control characters, what ends a path, and surrogates, which cannot be sent.
_NOT_IN_AN_ADDRESS = re.compile("[\x00-\x1f\x7f<>\ud800-\udfff]")


@dataclass
class Outgoing:
    """A message with its envelope."""

    sender: str
    recipients: list[str]
    content: Content
    needs_smtputf8: bool
    """Whether an address is not ASCII (RFC 6531)."""

    @classmethod
    def of(
        cls, message: Content, from_addr: str | None, to_addrs: str | Sequence[str] | None
    ) -> Outgoing:
        """The envelope for `message`, from its header where an address is None.

        In a header the Resent- fields count where there are some (RFC 5322, section 3.6.6), Sender
        before From, and Bcc is left out of what is sent. Raises ValueError where an address is
        missing, or cannot be in an envelope.
        """
        sender, recipients = from_addr, [to_addrs] if isinstance(to_addrs, str) else to_addrs
        content = message
        if isinstance(message, Message):
            resent = "Resent-" if "Resent-Date" in message else ""
            if sender is None:
                senders = _addresses(message, f"{resent}Sender") or _addresses(
                    message, f"{resent}From"
                )
                sender = senders[0] if senders else None
            if recipients is None:
                recipients = _addresses(message, f"{resent}To", f"{resent}Cc", f"{resent}Bcc")
        if sender is None:
            raise ValueError("no sender: give from_addr, or the message a From")
        if not recipients:
            raise ValueError("no recipient: give to_addrs, or the message a To")
        addresses = [sender, *recipients]
        for address in addresses:
            if _NOT_IN_AN_ADDRESS.search(address):
                raise ValueError(f"{address!r} is no address for an envelope")
        needs_smtputf8 = not "".join(addresses).isascii()
        if isinstance(message, Message):
            content = flattened(message, utf8=needs_smtputf8)
        return cls(sender, list(recipients), content, needs_smtputf8)


def _addresses(message: Message, *names: str) -> list[str]:
    """The addresses in these fields, in their order. Raises ValueError for what cannot be read."""
    try:
        fields = [str(field) for name in names for field in message.get_all(name, [])]
        return [address for _, address in getaddresses(fields) if address]
    except Exception as error:
        # The email package raises many things for what it cannot parse.
        raise ValueError(f"no addresses can be read in {', '.join(names)}") from error


def flattened(message: Message, *, utf8: bool = False) -> bytes:
    """The octets of a message, without Bcc; its header in UTF-8 where that is allowed."""
    octets = BytesIO()
    policy = message.policy.clone(linesep="\r\n")
    if utf8 and isinstance(policy, EmailPolicy):
        policy = policy.clone(utf8=True)
    shown = copy.copy(message)
    del shown["Bcc"], shown["Resent-Bcc"]
    BytesGenerator(octets, policy=policy).flatten(shown)
    return octets.getvalue()


def command_line(command: str) -> bytes:
    """A command with its line end. Raises ValueError for more than one line."""
    if "\r" in command or "\n" in command:
        raise ValueError("a command is one line, without its line end; bytes go out as they are")
    return command.encode() + b"\r\n"


def pieces_of(content: Content) -> Iterator[bytes]:
    """The octets of a message, in pieces, each when it is asked for.

    A text goes in UTF-8, with the line ends that it needs. Raises TypeError for what is none.
    """
    if isinstance(content, (bytes, bytearray, memoryview)):
        yield bytes(content)
    elif isinstance(content, str):
        yield content.replace("\r\n", "\n").replace("\n", "\r\n").encode()
    elif isinstance(content, Message):
        yield flattened(content)
    elif isinstance(content, Iterable) and not hasattr(content, "read"):
        yield from content
    else:
        while piece := content.read(_PIECE):
            yield piece


def stuffed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """`pieces` with dots stuffed, and the end mark (RFC 5321, section 4.5.2)."""
    before = b"\r\n"
    for piece in pieces:
        text = before + piece
        yield text.replace(b"\r\n.", b"\r\n..")[len(before) :]
        before = text[-2:]
    yield b".\r\n" if before == b"\r\n" else b"\r\n.\r\n"
