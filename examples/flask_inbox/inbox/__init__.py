"""An inbox in Flask: everything that is sent to it is shown, live."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask, current_app

from blocksmtp.contrib.flask import BlockSMTP

from .storage import Storage
from .views import views

if TYPE_CHECKING:
    from blocksmtp.message import IncomingMessage

smtp = BlockSMTP()


def create_app(storage: Storage) -> Flask:
    """The application over `storage`."""
    app = Flask(__name__)
    app.extensions["inbox"] = storage
    app.config["BLOCKSMTP"] = {
        # It catches what is sent anywhere, for it is reached from this machine only.
        "RECIPIENT_DOMAINS": ["*"],
        "OPTIONS": {
            "name": "inbox.localhost",
            "size": 50_000_000,
            "disable_reverse_lookup": True,
            "allow_insecure_auth": True,
            "on_auth": accept_everybody,
            "auth_optional": True,
        },
    }
    app.register_blueprint(views)
    smtp.init_app(app)
    return app


def accept_everybody(auth, session):  # type: ignore[no-untyped-def]
    """Programs under development log in as they will later: whatever they say is right."""
    return auth.username or "somebody"


@smtp.receiver
def receive(message: IncomingMessage) -> str:
    """Keep a message; what is returned goes to the sender, once it is kept."""
    storage: Storage = current_app.extensions["inbox"]
    return f"kept as {storage.add(message)}"
