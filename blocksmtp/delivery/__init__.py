"""What becomes of a message: ready-made callables for the callback `on_data`, one module each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .command import ExecDelivery
    from .forwarding import ForwardDelivery
    from .maildir import MaildirDelivery
    from .mbox import MboxDelivery
    from .printing import PrintDelivery

__all__ = [
    "ExecDelivery",
    "ForwardDelivery",
    "MaildirDelivery",
    "MboxDelivery",
    "PrintDelivery",
]

_MODULES = {
    "ExecDelivery": "command",
    "ForwardDelivery": "forwarding",
    "MaildirDelivery": "maildir",
    "MboxDelivery": "mbox",
    "PrintDelivery": "printing",
}


def __getattr__(name: str) -> Any:
    # Each brings modules along that the others have no use for: smtplib and ssl, say.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
