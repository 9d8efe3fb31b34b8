"""Delivery status notifications (RFC 3461), and the other parameters of MAIL and RCPT.

    python examples/dsn_and_parameters.py

and in another terminal:

    python - <<END
    import smtplib
    with smtplib.SMTP("127.0.0.1", 2525) as client:
        client.sendmail("alice@example.com", "bob@example.org", "Subject: Hello",
            mail_options=["RET=HDRS", "ENVID=order-42", "BODY=8BITMIME"],
            rcpt_options=["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;bob@example.net"])
    END
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from blocksmtp import DataStream, SMTPAddress, SMTPError, SMTPServer, SMTPSession

log = logging.getLogger("mail")

LARGEST = 5_000_000


def on_mail_from(address: SMTPAddress, session: SMTPSession) -> None:
    # `args` has each parameter as text, True where it has no value; also those that are unknown.
    declared = address.args.get("SIZE")
    log.info("sender <%s>, %s bytes declared, %s", address.address, declared, address.args)
    if isinstance(declared, str) and int(declared) > LARGEST:
        raise SMTPError("That is too large for us", 552, "5.3.4")
    # The usual ones have been understood already.
    envelope = session.envelope
    log.info("  body %s, UTF-8 addresses: %s", envelope.body_type, envelope.smtp_utf8)
    log.info("  of a returned message: %s, identifier: %s", envelope.dsn.ret, envelope.dsn.envid)


def on_rcpt_to(address: SMTPAddress, session: SMTPSession) -> None:
    log.info("recipient <%s>", address.address)
    log.info("  notify on %s, originally %s", address.dsn.notify, address.dsn.orcpt)


def log_report(sender: str, recipient: str, identifier: str | None) -> None:
    log.info("to <%s>: %s has been delivered to %s", sender, identifier, recipient)


def make_server(report: Callable[[str, str, str | None], None] = log_report) -> SMTPServer:
    """`report(sender, recipient, identifier)` tells a sender of a delivery."""

    def on_data(stream: DataStream, session: SMTPSession) -> None:
        envelope = session.envelope
        stream.read()  # Deliver it here.
        for recipient in envelope.rcpt_to:
            wanted = recipient.dsn.notify or ["FAILURE", "DELAY"]  # RFC 3461, section 4.1
            # The null sender is that of reports: nobody wants one about them.
            if "SUCCESS" in wanted and envelope.mail_from and envelope.mail_from.address:
                original = recipient.dsn.orcpt or f"rfc822;{recipient.address}"
                report(envelope.mail_from.address, original, envelope.dsn.envid)

    # DSN is hidden unless it is asked for: who offers it promises to send these reports.
    return SMTPServer(
        auth_optional=True,
        hide_dsn=False,
        on_mail_from=on_mail_from,
        on_rcpt_to=on_rcpt_to,
        on_data=on_data,
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 2525
    make_server().serve_forever(port, "127.0.0.1")
