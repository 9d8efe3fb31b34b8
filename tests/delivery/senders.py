"""How the tests of the deliveries hand messages in: in memory, by SMTP or LMTP."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator, Sequence
from typing import Any

from blocksmtp import SMTPServer
from blocksmtp.in_memory.client import SMTPTestClient
from blocksmtp.in_memory.replies import MessageReply

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


def server_with(delivery: Any, **options: Any) -> SMTPServer:
    """A server that need not listen."""
    callbacks = {
        name: getattr(delivery, name)
        for name in ("on_rcpt_to", "on_close")
        if hasattr(delivery, name)
    }
    return SMTPServer(
        name="mx.example", auth_optional=True, on_data=delivery, **callbacks, **options
    )


def ready(
    server: SMTPServer,
    sender: str = "a@client.example",
    *recipients: str,
    parameters: str = "",
) -> SMTPTestClient:
    """A client whose envelope is accepted; `parameters` are those of MAIL."""
    client = server.test_client(client_hostname="client.example")
    assert client.command("LHLO me" if server.options.lmtp else "EHLO me").code == 250
    assert client.command(f"MAIL FROM:<{sender}> {parameters}".strip()).code == 250
    for recipient in recipients or ("b@server.example",):
        assert client.command(f"RCPT TO:<{recipient}>").code == 250
    return client


def deliver(
    delivery: Any,
    content: bytes | Sequence[bytes] = MESSAGE,
    *,
    sender: str = "a@client.example",
    to: Sequence[str] = (),
    parameters: str = "",
    **options: Any,
) -> MessageReply:
    """Hand one message in, and see the reply."""
    with ready(server_with(delivery, **options), sender, *to, parameters=parameters) as client:
        return client.data(content)


@contextlib.contextmanager
def no_file_beyond(octets: int) -> Iterator[None]:
    """What is written to a file beyond this fails, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
