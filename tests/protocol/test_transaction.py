"""What becomes of a message: every result of `on_data`, in SMTP and LMTP."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import pytest

from blocksmtp.errors import SMTPError
from blocksmtp.protocol.replies import Next, Reply
from tests.protocol.bench import Bench, Callback, FailingStream, GivenCallbacks, PlainBody

QUEUED = b"250 2.6.0 OK: message queued\r\n"
TOO_BIG = b"552 5.3.4 Error: message exceeds fixed maximum message size\r\n"
DEFECT = b"451 4.3.0 Error: internal server error, try again later\r\n"


def returning(result: Any) -> Callback:
    return lambda stream, session: result


def raising(error: BaseException) -> Callback:
    def raise_it(stream: object, session: object) -> None:
        raise error

    return raise_it


class Outcome:
    """A bench after one message, and its answers."""

    def __init__(
        self,
        on_data: Callback | None,
        body: PlainBody | None = None,
        recipients: tuple[str, ...] = ("bob@example.org",),
        **options: Any,
    ) -> None:
        self.bench = Bench(callbacks=GivenCallbacks(on_data=on_data), **options)
        self.bench.begin(*recipients)
        self.body = body or PlainBody()
        self.replies: list[Reply] = self.bench.machine.receive(self.body)

    @property
    def answers(self) -> list[bytes]:
        return [reply.encode() for reply in self.replies]

    @property
    def counted(self) -> int:
        return self.bench.session.transaction

    def check_over(self) -> None:
        """The transaction has ended, and the body was read away."""
        assert self.bench.session.envelope.mail_from is None
        assert self.bench.session.envelope.rcpt_to == []
        assert len(self.body.discarded) == 1


def lmtp(on_data: Callback | None, *recipients: str, body: PlainBody | None = None) -> Outcome:
    return Outcome(on_data, body, recipients, lmtp=True)


# --- SMTP --------------------------------------------------------------------------------------


def test_the_callback_gets_stream_and_session() -> None:
    seen = []

    def on_data(stream: Any, session: Any) -> None:
        seen.append(
            (stream.read(), session.envelope.mail_from.address, len(session.envelope.rcpt_to))
        )

    outcome = Outcome(on_data)
    assert seen == [(b"Hello\r\n", "alice@example.org", 1)]
    assert outcome.answers == [QUEUED]
    assert outcome.counted == 1
    outcome.check_over()


@pytest.mark.parametrize(
    ("result", "answer"),
    [(None, QUEUED), ("", QUEUED), ("stored as 7", b"250 2.6.0 stored as 7\r\n")],
)
def test_accepted(result: Any, answer: bytes) -> None:
    outcome = Outcome(returning(result))
    assert outcome.answers == [answer]
    assert outcome.counted == 1


def test_without_callback() -> None:
    outcome = Outcome(None)
    assert outcome.answers == [QUEUED]
    assert outcome.counted == 1
    outcome.check_over()


@pytest.mark.parametrize(
    "result", [5, True, b"text", [None], (), {}, SMTPError("returned"), object()]
)
def test_a_wrong_type_is_a_defect(result: Any) -> None:
    """An SMTPError that is returned, not raised, is one, too: it must not accept."""
    outcome = Outcome(returning(result))
    assert outcome.answers == [DEFECT]
    assert outcome.bench.defects == [("on_data", "TypeError")]
    assert outcome.counted == 0
    outcome.check_over()


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (SMTPError("no"), b"450 4.3.0 no\r\n"),
        (SMTPError("no", 554), b"554 5.7.1 no\r\n"),
        (SMTPError("no", 552, "5.2.2"), b"552 5.2.2 no\r\n"),
        (SMTPError("no", None, "5.7.1"), b"550 5.7.1 no\r\n"),
    ],
)
def test_refused(error: SMTPError, answer: bytes) -> None:
    outcome = Outcome(raising(error))
    assert outcome.answers == [answer]
    assert outcome.bench.defects == []
    assert outcome.counted == 0
    outcome.check_over()


def test_421_closes() -> None:
    assert Outcome(raising(SMTPError("bye", 421))).replies[0].then is Next.CLOSE


def test_a_defect() -> None:
    outcome = Outcome(raising(RuntimeError("secret")))
    assert outcome.answers == [DEFECT]
    assert outcome.bench.defects == [("on_data", "RuntimeError")]
    outcome.check_over()


def test_a_connection_error_of_the_applications_own_is_a_defect() -> None:
    """The database may be down; the client is still there, and has to hear of it."""
    outcome = Outcome(raising(ConnectionRefusedError("the database")))
    assert outcome.answers == [DEFECT]
    assert outcome.bench.defects == [("on_data", "ConnectionRefusedError")]


def test_replies_are_utf8_in_a_smtputf8_transaction_only() -> None:
    bench = Bench(callbacks=GivenCallbacks(on_data=returning("für Bob")))
    bench.begin("bob@example.org", parameters=" SMTPUTF8")
    assert bench.machine.receive(PlainBody())[0].encode() == "250 2.6.0 für Bob\r\n".encode()
    bench.begin("bob@example.org")
    assert bench.machine.receive(PlainBody())[0].encode() == b"250 2.6.0 f?r Bob\r\n"


@pytest.mark.parametrize(
    ("on_data", "refused"),
    [
        (returning(None), False),
        (None, False),
        (raising(SMTPError("spam")), True),
        (raising(RuntimeError()), True),
    ],
)
def test_the_rest_of_a_refused_message_is_not_waited_for_long(
    on_data: Callback | None, refused: bool
) -> None:
    assert Outcome(on_data).body.discarded == [refused]


def test_the_rest_is_waited_for_as_long_as_one_recipient_has_it() -> None:
    mixed: list[Any] = [None, SMTPError("full")]
    assert lmtp(returning(mixed), "a@example.org", "b@example.org").body.discarded == [False]
    mixed = [SMTPError("full")] * 2
    assert lmtp(returning(mixed), "a@example.org", "b@example.org").body.discarded == [True]


# --- the size ----------------------------------------------------------------------------------


def large() -> PlainBody:
    body = PlainBody()
    body.size_exceeded = True
    return body


@pytest.mark.parametrize("result", [None, "stored"])
def test_too_large(result: str | None) -> None:
    outcome = Outcome(returning(result), large())
    assert outcome.answers == [TOO_BIG]
    assert outcome.counted == 0
    outcome.check_over()


def test_too_large_without_callback() -> None:
    assert Outcome(None, large()).answers == [TOO_BIG]


def test_too_large_is_seen_only_when_the_rest_is_read_away() -> None:
    class Late(PlainBody):
        def discard(self, *, refused: bool) -> None:
            super().discard(refused=refused)
            self.size_exceeded = True

    assert Outcome(returning(None), Late()).answers == [TOO_BIG]


def test_a_refusal_goes_before_the_size() -> None:
    assert Outcome(raising(SMTPError("spam", 554)), large()).answers == [b"554 5.7.1 spam\r\n"]


def test_a_defect_does_not_have_a_message_tried_again_that_is_too_large() -> None:
    outcome = Outcome(raising(RuntimeError()), large())
    assert outcome.answers == [TOO_BIG]
    assert outcome.bench.defects == [("on_data", "RuntimeError")]


# --- failures of the stream --------------------------------------------------------------------


def failing(error: Exception) -> PlainBody:
    body = PlainBody()
    body.stream = FailingStream(body, error)
    return body


def read(stream: Any, session: object) -> None:
    stream.read()


def swallow(stream: Any, session: object) -> str:
    with contextlib.suppress(Exception):
        stream.read()
    return "all is well"


def fail_after(stream: Any, session: object) -> None:
    try:
        stream.read()
    except ConnectionError as error:
        raise RuntimeError("cannot store it") from error


@pytest.mark.parametrize("on_data", [read, swallow])
@pytest.mark.parametrize("options", [{}, {"lmtp": True}], ids=["smtp", "lmtp"])
def test_a_broken_connection_is_no_defect(on_data: Callback, options: dict[str, Any]) -> None:
    outcome = Outcome(on_data, failing(ConnectionResetError("gone")), **options)
    assert outcome.answers == []
    assert outcome.bench.defects == []
    assert outcome.counted == 0
    outcome.check_over()


def test_another_error_because_of_it_acknowledges_nothing() -> None:
    outcome = Outcome(fail_after, failing(ConnectionResetError("gone")))
    assert outcome.answers == []
    assert outcome.bench.defects == []
    assert outcome.counted == 0


@pytest.mark.parametrize("on_data", [returning("stored"), raising(SMTPError("no")), None])
def test_broken_while_the_rest_is_read_away(on_data: Callback | None) -> None:
    body = PlainBody()
    body.failure_at_end = ConnectionResetError("gone")
    outcome = Outcome(on_data, body)
    assert outcome.answers == []
    assert outcome.counted == 0
    outcome.check_over()


BARE = SMTPError("bare newline", 550, "5.6.11")


@pytest.mark.parametrize("on_data", [read, swallow])
def test_a_bare_newline_is_no_defect(on_data: Callback) -> None:
    outcome = Outcome(on_data, failing(BARE))
    assert outcome.answers == [b"550 5.6.11 bare newline\r\n"]
    assert outcome.bench.defects == []
    assert outcome.counted == 0
    outcome.check_over()


def test_a_bare_newline_goes_before_all_else() -> None:
    body = large()
    body.failure_at_end = BARE
    outcome = Outcome(returning("stored"), body)
    assert outcome.answers == [b"550 5.6.11 bare newline\r\n"]
    assert outcome.counted == 0


def test_a_bare_newline_in_lmtp_is_said_to_each() -> None:
    outcome = lmtp(read, "bob@example.org", "carol@example.org", body=failing(BARE))
    assert outcome.answers == [b"550 5.6.11 bare newline\r\n"] * 2


# --- LMTP (RFC 2033, section 4.2) --------------------------------------------------------------

BOB, CAROL, DAVE = "bob@example.org", "carol@example.org", "dave@example.org"


@pytest.mark.parametrize(
    ("on_data", "answer"),
    [
        (None, QUEUED),
        (returning(None), QUEUED),
        (returning("stored"), b"250 2.6.0 stored\r\n"),
        (raising(SMTPError("no")), b"450 4.3.0 no\r\n"),
        (raising(RuntimeError()), DEFECT),
    ],
)
def test_lmtp_the_same_for_all(on_data: Callback | None, answer: bytes) -> None:
    outcome = lmtp(on_data, BOB, CAROL, BOB)
    assert outcome.answers == [answer] * 3
    assert outcome.counted == (1 if answer.startswith(b"250") else 0)
    outcome.check_over()


MIXED = [SMTPError("no such mailbox", 550, "5.1.1"), None, "stored"]
MIXED_ANSWERS = [b"550 5.1.1 no such mailbox\r\n", QUEUED, b"250 2.6.0 stored\r\n"]


@pytest.mark.parametrize("result", [MIXED, tuple(MIXED)], ids=["list", "tuple"])
def test_lmtp_one_for_each(result: Any) -> None:
    outcome = lmtp(returning(result), BOB, CAROL, DAVE)
    assert outcome.answers == MIXED_ANSWERS
    assert outcome.counted == 1


class Directory(Mapping[str, Any]):
    """A mapping that is no dict."""

    def __getitem__(self, address: str) -> Any:
        return {BOB: MIXED[0], DAVE: "stored"}[address]

    def __iter__(self) -> Iterator[str]:
        return iter((BOB, DAVE))

    def __len__(self) -> int:
        return 2


@pytest.mark.parametrize(
    "result",
    [
        {BOB: MIXED[0], DAVE: "stored"},
        OrderedDict({DAVE: "stored", BOB: MIXED[0], "someone@else.example": "ignored"}),
        MappingProxyType({BOB: MIXED[0], CAROL: None, DAVE: "stored"}),
        Directory(),
    ],
    ids=lambda result: type(result).__name__,
)
def test_lmtp_mapping(result: Any) -> None:
    assert lmtp(returning(result), BOB, CAROL, DAVE).answers == MIXED_ANSWERS


def test_lmtp_empty_mapping_accepts_all() -> None:
    assert lmtp(returning({}), BOB, CAROL).answers == [QUEUED, QUEUED]


def test_lmtp_a_recipient_that_came_twice() -> None:
    result = {BOB: SMTPError("full", 452, "4.2.2")}
    assert lmtp(returning(result), BOB, CAROL, BOB).answers == [
        b"452 4.2.2 full\r\n",
        QUEUED,
        b"452 4.2.2 full\r\n",
    ]


def test_lmtp_refused_without_a_code() -> None:
    assert lmtp(returning([SMTPError("later")]), BOB).answers == [b"450 4.3.0 later\r\n"]


def test_lmtp_all_refused_does_not_count() -> None:
    outcome = lmtp(returning([SMTPError("no", 550), SMTPError("later")]), BOB, CAROL)
    assert outcome.counted == 0


@pytest.mark.parametrize(
    ("result", "error"),
    [
        ([], "ValueError"),
        ([None], "ValueError"),
        ([None, None, None], "ValueError"),
        ([None, 5], "TypeError"),
        ([None, b"stored"], "TypeError"),
        ([None, RuntimeError("not an SMTPError")], "TypeError"),
        ({BOB: 5}, "TypeError"),
        (5, "TypeError"),
        (b"ok", "TypeError"),
        ({None, "stored"}, "TypeError"),
        (iter([None, None]), "TypeError"),
        (SMTPError("returned"), "TypeError"),
    ],
)
def test_lmtp_wrong_results_are_defects_for_all(result: Any, error: str) -> None:
    outcome = lmtp(returning(result), BOB, CAROL)
    assert outcome.answers == [DEFECT, DEFECT]
    assert outcome.bench.defects == [("on_data", error)]
    assert outcome.counted == 0
    outcome.check_over()


def test_lmtp_too_large_for_those_that_would_have_taken_it() -> None:
    outcome = lmtp(returning(MIXED), BOB, CAROL, DAVE, body=large())
    assert outcome.answers == [MIXED_ANSWERS[0], TOO_BIG, TOO_BIG]
    assert outcome.counted == 0


def test_lmtp_recipients_cannot_be_taken_away() -> None:
    """A callback that empties the envelope's list still owes each recipient a reply."""

    def on_data(stream: object, session: Any) -> None:
        session.envelope.rcpt_to.clear()

    assert lmtp(on_data, BOB, CAROL).answers == [QUEUED, QUEUED]


# --- the commands, where a dialogue cannot look ------------------------------------------------


def test_the_envelope_is_new_for_each_transaction() -> None:
    bench = Bench()
    bench.begin("bob@example.org", parameters=" BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=x")
    first = bench.session.envelope
    bench.machine.receive(PlainBody())
    bench.begin("bob@example.org")
    second = bench.session.envelope
    assert second is not first
    assert (first.body_type, first.smtp_utf8, first.dsn.ret, first.dsn.envid) == (
        *("8bitmime", True, "FULL", "x"),
    )
    assert (second.body_type, second.smtp_utf8, second.dsn.ret, second.dsn.envid) == (
        *("7bit", False, None, None),
    )
    assert [address.address for address in first.rcpt_to] == ["bob@example.org"]


def test_raw_and_dsn_of_a_recipient() -> None:
    bench = Bench()
    bench.begin('"bob"@example.org')
    recipient = bench.session.envelope.rcpt_to[0]
    assert (recipient.address, recipient.raw) == ("bob@example.org", '"bob"@example.org')
    assert (recipient.dsn.notify, recipient.dsn.orcpt) == (None, None)


def test_a_failed_sender_after_a_defect_is_forgotten() -> None:
    bench = Bench(callbacks=GivenCallbacks(on_mail_from=raising(RuntimeError())))
    assert bench.codes("EHLO client", "MAIL FROM:<alice@example.org> SMTPUTF8") == [250, 451]
    assert bench.session.envelope.mail_from is None
    assert bench.session.envelope.smtp_utf8 is False
    assert bench.defects == [("on_mail_from", "RuntimeError")]
