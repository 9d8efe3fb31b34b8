"""What the parameters of MAIL and RCPT are taken to mean, and which are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocksmtp.protocol.grammar import GrammarError, parse_path
from blocksmtp.protocol.parameters import (
    MailParameters,
    RcptParameters,
    mail_parameters,
    rcpt_parameters,
)
from blocksmtp.session import DSNEnvelope, DSNRcpt


def mail(text: str) -> MailParameters:
    return mail_parameters(parse_path(f"FROM:<a@b> {text}", "FROM").parameters)


def rcpt(text: str) -> RcptParameters:
    return rcpt_parameters(parse_path(f"TO:<a@b> {text}", "TO").parameters)


def refusal(command: Callable[[str], object], text: str) -> tuple[int, str]:
    with pytest.raises(GrammarError) as caught:
        command(text)
    return caught.value.code, caught.value.enhanced


BAD_PARAMETER = (501, "5.5.4")
NOT_OFFERED = (555, "5.5.4")


def test_no_parameters() -> None:
    assert mail("") == MailParameters(
        args={},
        size=None,
        body_type="7bit",
        smtp_utf8=False,
        require_tls=False,
        dsn=DSNEnvelope(),
    )
    assert rcpt("") == RcptParameters(args={}, dsn=DSNRcpt())


def test_all_parameters_of_mail() -> None:
    text = (
        "SIZE=0123 BODY=8bitMIME SMTPUTF8 REQUIRETLS RET=hdrs ENVID=QQ+2B314 "
        "AUTH=e+3Dmc2@example.com X-OTHER=a+20b X-FLAG"
    )
    assert mail(text) == MailParameters(
        args={
            "SIZE": "0123",
            "BODY": "8BITMIME",
            "SMTPUTF8": True,
            "REQUIRETLS": True,
            "RET": "HDRS",
            "ENVID": "QQ+314",
            "AUTH": "e=mc2@example.com",
            "X-OTHER": "a b",
            "X-FLAG": True,
        },
        size=123,
        body_type="8bitmime",
        smtp_utf8=True,
        require_tls=True,
        dsn=DSNEnvelope(ret="HDRS", envid="QQ+314"),
    )


def test_all_parameters_of_rcpt() -> None:
    text = "NOTIFY=success,DELAY,Failure ORCPT=rfc822;Bob+2Bx@example.org X-OTHER=+C3+A9 X-FLAG"
    assert rcpt(text) == RcptParameters(
        args={
            "NOTIFY": "SUCCESS,DELAY,FAILURE",
            "ORCPT": "rfc822;Bob+x@example.org",
            "X-OTHER": "é",
            "X-FLAG": True,
        },
        dsn=DSNRcpt(notify=["SUCCESS", "DELAY", "FAILURE"], orcpt="rfc822;Bob+x@example.org"),
    )


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("SIZE=0", "size", 0),
        (f"SIZE={'9' * 20}", "size", 10**20 - 1),
        ("BODY=7bit", "body_type", "7bit"),
        ("BODY=7BIT", "body_type", "7bit"),
        ("body=8BITMIME", "body_type", "8bitmime"),
        ("RET=full", "dsn", DSNEnvelope(ret="FULL")),
        ("RET=HDRS", "dsn", DSNEnvelope(ret="HDRS")),
        ("ENVID=a+20b", "dsn", DSNEnvelope(envid="a b")),
        (f"ENVID={'a' * 100}", "dsn", DSNEnvelope(envid="a" * 100)),
        ("AUTH=<>", "args", {"AUTH": "<>"}),
        ("AUTH=+C3+A9@b", "args", {"AUTH": "é@b"}),
        ("X=+", "args", {"X": "+"}),
        ("X=+4x+2b", "args", {"X": "+4x+2b"}),
        ("X=é+E9", "args", {"X": "éé"}),
    ],
)
def test_values_of_mail(text: str, field: str, value: object) -> None:
    assert getattr(mail(text), field) == value


@pytest.mark.parametrize(
    "text",
    [
        "SIZE",
        "SIZE=1x",
        "SIZE=-1",
        "SIZE=+31",
        "SIZE=1.5",
        "SIZE=\u0661",
        f"SIZE={'1' * 21}",
        "BODY",
        "BODY=9BIT",
        "BODY=8b\u0131tmime",  # its capital is an ASCII I
        "SMTPUTF8=1",
        "REQUIRETLS=YES",
        "RET",
        "RET=NONE",
        "RET=hdr\u017f",  # its capital is an ASCII S
        "ENVID",
        "ENVID=a+",
        "ENVID=a+2b",
        "ENVID=é",
        "ENVID=+C3+A9",
        "ENVID=+E9",
        "ENVID=a+0Ab",
        "ENVID=+7F",
        f"ENVID={'a' * 101}",
        f"ENVID={'+41' * 34}",
        "AUTH",
        "AUTH=a+",
        "AUTH=é@b",
        "AUTH=+00",
        "X=+0D+0A",
        "X=+E2+80+A8",
        "NOTIFY=NEVER",
        "NOTIFY",
        "ORCPT=rfc822;a@b",
    ],
)
def test_refused_with_mail(text: str) -> None:
    assert refusal(mail, text) == BAD_PARAMETER


@pytest.mark.parametrize(
    ("text", "notify"),
    [
        ("NOTIFY=NEVER", ["NEVER"]),
        ("NOTIFY=never", ["NEVER"]),
        ("NOTIFY=SUCCESS", ["SUCCESS"]),
        ("NOTIFY=delay,success", ["DELAY", "SUCCESS"]),
    ],
)
def test_notify(text: str, notify: list[str]) -> None:
    assert rcpt(text).dsn.notify == notify
    assert rcpt(text).args == {"NOTIFY": ",".join(notify)}


@pytest.mark.parametrize(
    ("value", "orcpt"),
    [
        ("rfc822;bob@example.org", "rfc822;bob@example.org"),
        ("RFC822;bob@example.org", "RFC822;bob@example.org"),
        ("x400;a;b", "x400;a;b"),
        ("rfc822;+C3+A9@b", "rfc822;é@b"),
        ("rfc822;", "rfc822;"),
        (f"rfc822;{'a' * 493}", f"rfc822;{'a' * 493}"),
        # RFC 6533, section 3.
        ("utf-8;é@b", "utf-8;é@b"),
        ("UTF-8;\\x{E9}@b", "UTF-8;é@b"),
        ("utf-8;\\x{65E5}\\x{672c}@b", "utf-8;日本@b"),
        ("utf-8;\\x{1F600}@b", "utf-8;\U0001f600@b"),
        ("utf-8;\\x{10FFFF}@b", "utf-8;\U0010ffff@b"),
        ("utf-8;a\\x{2B}b+3D@\\x{5C}", "utf-8;a+b=@\\"),
        ("utf-8;\\x{5C}x{41}@b", "utf-8;\\x{41}@b"),
        ('utf-8;"a\\"b"@c', 'utf-8;"a\\"b"@c'),
        ("utf-8;+C3+A9é@b", "utf-8;éé@b"),
        # Only for that type is it more than text.
        ("rfc822;\\x{E9}@b", "rfc822;\\x{E9}@b"),
    ],
)
def test_orcpt(value: str, orcpt: str) -> None:
    parsed = rcpt(f"ORCPT={value}")
    assert parsed.dsn.orcpt == orcpt
    assert parsed.args == {"ORCPT": orcpt}


@pytest.mark.parametrize(
    "text",
    [
        "NOTIFY",
        "NOTIFY=NEVER,SUCCESS",
        "NOTIFY=NEVER,NEVER",
        "NOTIFY=SUCCESS,SUCCESS",
        "NOTIFY=success,SUCCESS",
        "NOTIFY=SUCCESS,",
        "NOTIFY=,",
        "NOTIFY=ALWAYS",
        "NOTIFY=\u017fuccess",
        "NOTIFY=SUCCE+53S",
        "ORCPT",
        "ORCPT=bob@example.org",
        "ORCPT=;bob@example.org",
        "ORCPT=rfc@822;bob",
        "ORCPT=é;bob",
        "ORCPT=rfc822;bob+",
        "ORCPT=rfc822;é@b",
        "ORCPT=rfc822;a+0Db",
        f"ORCPT=rfc822;{'a' * 494}",
        f"ORCPT=utf-8;{'é' * 248}",
        "ORCPT=utf-8;a+",
        "ORCPT=utf-8;+é41",
        "ORCPT=utf-8;+0A",
        "ORCPT=utf-8;\\x{0A}",
        "ORCPT=utf-8;\\x{85}",
        "ORCPT=utf-8;\\x{2028}",
        "ORCPT=utf-8;\\x{D800}",
        "ORCPT=utf-8;\\x{DFFF}",
        "ORCPT=utf-8;\\x{110000}",
        "ORCPT=utf-8;\\x{}",
        "ORCPT=utf-8;\\x{4}",
        "ORCPT=utf-8;\\x{GG}",
        "ORCPT=utf-8;\\x{E9",
        "ORCPT=utf-8;\\x{",
        "X=+1B",
        *("SIZE=1", "BODY=8BITMIME", "SMTPUTF8", "REQUIRETLS", "RET=FULL", "ENVID=a", "AUTH=<>"),
        *("SIZE", "BODY=BINARYMIME"),
    ],
)
def test_refused_with_rcpt(text: str) -> None:
    assert refusal(rcpt, text) == BAD_PARAMETER


@pytest.mark.parametrize(
    "text",
    [
        "BY=120;R",
        "by=120;R",
        "HOLDFOR=60",
        "HOLDUNTIL=2030-01-01T00:00:00Z",
        "MT-PRIORITY=3",
        "MT-PRIORITY",
        "BY=+00",
    ],
)
def test_known_but_not_offered(text: str) -> None:
    assert refusal(mail, text) == NOT_OFFERED
    assert refusal(rcpt, text) == NOT_OFFERED


@pytest.mark.parametrize(
    ("extension", "keyword", "value"),
    [
        ("DELIVERBY", "BY", "120;R"),
        ("FUTURERELEASE", "HOLDFOR", "60"),
        ("FUTURERELEASE", "HOLDUNTIL", "2030-01-01T00:00:00Z"),
        ("MT-PRIORITY", "MT-PRIORITY", "3"),
    ],
)
def test_what_the_application_offers_is_kept(extension: str, keyword: str, value: str) -> None:
    parameters = [(keyword, value)]
    assert mail_parameters(parameters, extra={extension: ""}).args == {keyword: value}
    with pytest.raises(GrammarError):
        mail_parameters(parameters, extra={"X-OTHER": ""})


@pytest.mark.parametrize("text", ["BY=120;R", "MT-PRIORITY=3"])
def test_promises_of_mail_are_none_of_rcpt(text: str) -> None:
    assert refusal(mail, text) == NOT_OFFERED
    assert refusal(rcpt, text) == NOT_OFFERED


@pytest.mark.parametrize("value", ["BINARYMIME", "binarymime"])
def test_binarymime(value: str) -> None:
    parameters = [("BODY", value)]
    assert mail_parameters(parameters).body_type == "binarymime"
    with pytest.raises(GrammarError) as caught:
        mail_parameters(parameters, binarymime=False)
    assert caught.value.code == 555


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (mail, "SIZE=secret"),
        (mail, "BODY=secret"),
        (mail, "SMTPUTF8=secret"),
        (mail, "RET=secret"),
        (mail, "ENVID=secret+"),
        (mail, "AUTH=secret+"),
        (mail, "SECRET=secret+00"),
        (mail, "ORCPT=secret"),
        (mail, "BY=secret"),
        (rcpt, "NOTIFY=secret"),
        (rcpt, "ORCPT=secret"),
        (rcpt, "ORCPT=utf-8;secret\\x{secret}"),
    ],
)
def test_a_message_never_shows_what_the_client_sent(
    command: Callable[[str], object], text: str
) -> None:
    with pytest.raises(GrammarError) as caught:
        command(text)
    assert "secret" not in caught.value.message.lower()


# --- properties --------------------------------------------------------------------------------

KEYWORDS = (
    *("SIZE", "BODY", "SMTPUTF8", "REQUIRETLS", "RET", "ENVID", "AUTH", "NOTIFY", "ORCPT"),
    *("BY", "HOLDFOR", "HOLDUNTIL", "MT-PRIORITY", "X-OTHER", "XYZ"),
)
VALUES = st.one_of(
    st.none(),
    st.text(min_size=1),
    st.text(st.characters(categories=["Cs"]), min_size=1),
    st.text("+0123456789ABCDEFabcdefx\\{}é;,", min_size=1),
    st.from_regex(r"(utf-8|rfc822);(\\x\{[0-9A-F]{1,7}\}|\+[0-9A-F]{2}|é|a){0,9}", fullmatch=True),
    st.sampled_from(["10", "8bitmime", "full", "never", "success,delay", "utf-8;a", "<>", "a+2B"]),
)


@pytest.mark.parametrize("interpret", [mail_parameters, rcpt_parameters])
@given(values=st.dictionaries(st.sampled_from(KEYWORDS), VALUES, max_size=3))
def test_whatever_is_sent_is_understood_or_refused(
    interpret: Callable[..., Any], values: dict[str, str | None]
) -> None:
    try:
        parsed = interpret(list(values.items()))
    except GrammarError:
        return
    assert list(parsed.args) == list(values)
    for keyword, value in parsed.args.items():
        assert (value is True) == (values[keyword] is None)
        assert value is True or not set(value) & {*map(chr, range(32)), "\x7f", "\x85", "\u2028"}
