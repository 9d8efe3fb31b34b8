"""A mail server for other people's tests: it catches what they send, and fails as they wish.

In pytest the fixtures `smtp_server` and `smtp_server_factory` are there once the package is
installed; `MailCatcher` is the same for unittest and for scripts.
"""

from ..in_memory.client import SMTPTestClient
from ..in_memory.replies import MessageReply, ReceivedReply
from ..message import Attachment
from .catcher import CaughtMessage, MailCatcher

__all__ = [
    "Attachment",
    "CaughtMessage",
    "MailCatcher",
    "MessageReply",
    "ReceivedReply",
    "SMTPTestClient",
]
