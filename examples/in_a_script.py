"""A server inside a script: it runs beside the script, on a free port, for as long as it is needed.

    python examples/in_a_script.py

starts one, has a program send its nightly report to it, and looks at what came.
"""

from __future__ import annotations

import email
import email.message
import email.policy
import queue
import smtplib

from blocksmtp import DataStream, SMTPServer, SMTPSession

Inbox = queue.Queue[email.message.EmailMessage]


def send_report(host: str, port: int) -> None:
    """Stands for a program that sends mail; usually one that the script starts."""
    report = email.message.EmailMessage()
    report["Subject"] = "Nightly report"
    report["From"] = "cron@example.com"
    report["To"] = "admin@example.com"
    report.set_content("12 orders, 0 failures\n")
    with smtplib.SMTP(host, port) as client:
        client.send_message(report)


def make_server(inbox: Inbox) -> SMTPServer:
    """Puts every message into `inbox`, a queue from the clients' threads to the script's."""

    def on_data(stream: DataStream, session: SMTPSession) -> None:
        inbox.put(email.message_from_bytes(stream.read(), policy=email.policy.SMTP))

    # Nobody but the script can reach it: it needs no TLS, and no certificate to be made for it.
    return SMTPServer(auth_optional=True, disabled_commands=["STARTTLS"], on_data=on_data)


def main() -> None:
    inbox: Inbox = queue.Queue()
    # When the block ends the server has closed, and all of its threads have ended.
    with make_server(inbox) as server:
        server.listen(0, "127.0.0.1")
        assert server.port is not None
        send_report("127.0.0.1", server.port)
        report = inbox.get(timeout=10)
    print(f"{report['From']} says: {report.get_content().strip()}")


if __name__ == "__main__":
    main()
