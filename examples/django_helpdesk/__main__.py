"""A helpdesk to try out: `python examples/django_helpdesk`.

Mail to any address at 127.0.0.1:2525 becomes a ticket, to be seen and answered in the admin on
http://127.0.0.1:8000/. Needs `pip install "blocksmtp[django]"`. Tickets are kept in the folder
`helpdesk-data`; the password for the admin is made anew with each start, and printed. Answers are
printed too, unless HELPDESK_SMARTHOST names a server, "127.0.0.1:1025", that sends them on. Ctrl-C
stops it.

For real use, mail and pages are served apart: `manage.py runsmtp`, and a WSGI server.
"""

from __future__ import annotations

import argparse
import os
import secrets
import threading
from pathlib import Path

import django
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.management import call_command
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application


class QuietHandler(WSGIRequestHandler):
    """Serves pages without a word."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def main() -> None:
    """Receive mail, and serve the admin, until stopped."""
    parser = argparse.ArgumentParser(prog="django_helpdesk", description=__doc__)
    parser.add_argument("--smtp-port", type=int, default=2525, help="for mail; 0 for a free one")
    parser.add_argument("--web-port", type=int, default=8000, help="for browsers")
    parser.add_argument("--data", type=Path, default=Path("helpdesk-data"), help="the folder")
    chosen = parser.parse_args()
    chosen.data.mkdir(exist_ok=True)
    os.environ["HELPDESK_DATA"] = str(chosen.data.resolve())
    os.environ.setdefault("HELPDESK_DEBUG", "1")
    os.environ["DJANGO_SETTINGS_MODULE"] = "helpdesk.settings"
    django.setup()
    call_command("migrate", verbosity=0)
    password = set_up_agent()

    try:
        web = ThreadedWSGIServer(("127.0.0.1", chosen.web_port), QuietHandler)
    except OSError as error:
        raise SystemExit(f"--web-port {chosen.web_port}: {error}") from None
    web.set_app(StaticFilesHandler(get_wsgi_application()))
    pages = threading.Thread(target=web.serve_forever, name="helpdesk web", daemon=True)
    pages.start()

    from blocksmtp.contrib.django import make_server

    server = make_server()

    def say_where() -> None:
        print(
            f"Send mail to 127.0.0.1:{server.port}, answer it on"
            f" http://127.0.0.1:{web.server_port}/ as agent with the password {password}",
            flush=True,
        )

    server.on("listening", say_where)
    try:
        server.serve_forever(chosen.smtp_port, "127.0.0.1")
    except OSError as error:
        raise SystemExit(f"--smtp-port {chosen.smtp_port}: {error}") from None
    finally:
        web.shutdown()
        web.server_close()
        pages.join()


def set_up_agent() -> str:
    """Let somebody in; returns the password."""
    from django.contrib.auth.models import User

    password = secrets.token_urlsafe(9)
    agent, _ = User.objects.get_or_create(username="agent")
    agent.is_staff = agent.is_superuser = True
    agent.set_password(password)
    agent.save()
    return password


if __name__ == "__main__":
    main()
