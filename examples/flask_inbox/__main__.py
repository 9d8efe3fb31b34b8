"""An inbox for what programs send while they are developed: `python examples/flask_inbox`.

Mail goes to 127.0.0.1:2525 and is looked at in a browser, on http://127.0.0.1:8025/. Needs
`pip install "blocksmtp[flask]" nh3`. Whoever reaches the ports reads the mail, so only programs of
this machine do. Ctrl-C stops it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from inbox import create_app, smtp
from inbox.storage import Storage
from inbox.web import serving


def main() -> None:
    """Receive mail, and show it, until stopped."""
    parser = argparse.ArgumentParser(prog="flask_inbox", description=__doc__)
    parser.add_argument("--smtp-port", type=int, default=2525, help="for mail; 0 for a free one")
    parser.add_argument("--web-port", type=int, default=8025, help="for browsers")
    parser.add_argument("--database", type=Path, help="where to keep messages; else in a new file")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(chosen.database or Path(folder) / "inbox.sqlite3")
        app = create_app(storage)
        with serving(app, "127.0.0.1", chosen.web_port) as url:
            server = smtp.make_server(app)

            def say_where() -> None:
                print(f"Send mail to 127.0.0.1:{server.port}, read it on {url}", flush=True)

            server.on("listening", say_where)
            try:
                server.serve_forever(chosen.smtp_port, "127.0.0.1")
            except OSError as error:
                sys.exit(f"flask_inbox: port {chosen.smtp_port}: {error.strerror}")
            finally:
                # Pages that wait for news have theirs.
                storage.close()


if __name__ == "__main__":
    main()
