"""An application that fails does no harm to the clients that come after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blocksmtp import DataStream, SMTPSession

from .serving import AWKWARD, Run, Serve

# The callback that fails, and the exit statuses of curl and swaks then.
CALLBACKS = {
    "on_connect": (8, 21),
    "on_mail_from": (55, 23),
    "on_rcpt_to": (55, 24),
    "on_data": (8, 26),
}
SECRET = "the password of the database"


@pytest.mark.parametrize("name", CALLBACKS)
def test_the_client_is_told_to_come_back_and_the_next_is_served(
    serve: Serve, run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    failing = True

    def on_data(stream: DataStream, session: SMTPSession) -> None:
        if failing and name == "on_data":
            raise KeyError(SECRET)
        served.mailbox.on_data(stream, session)

    def other(*arguments: Any) -> None:
        if failing:
            raise KeyError(SECRET)

    callbacks = {"on_data": on_data} if name == "on_data" else {"on_data": on_data, name: other}
    served = serve(**callbacks)
    message = tmp_path / "message"
    message.write_bytes(AWKWARD)
    curl = (
        *("curl", "--disable", "--silent", "--show-error", "--verbose"),
        *("--mail-from", "a@example.com", "--mail-rcpt", "b@example.net"),
        *("--url", f"smtp://{served.address}", "--upload-file", str(message)),
    )
    swaks = (
        *("swaks", "--server", served.address),
        *("--from", "a@example.com", "--to", "b@example.net"),
    )
    refused = (run(*curl, status=None), run(*swaks, status=None))

    code = "421 4.3.0" if name == "on_connect" else "451 4.3.0"
    for outcome in refused:
        assert f"{code} Error: internal server error, try again later" in outcome
        assert SECRET not in outcome
        assert "KeyError" not in outcome
    assert tuple(outcome.status for outcome in refused) == CALLBACKS[name]
    assert served.mailbox.messages == []
    logged = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.exc_info is not None for record in logged] == [True, True]
    assert [type(error) for error in served.errors] == [KeyError, KeyError]
    served.errors.clear()

    failing = False
    run(*curl)
    run(*swaks)
    assert len(served.mailbox.messages) == 2
    assert served.mailbox.messages[0].content == AWKWARD
