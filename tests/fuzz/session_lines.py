"""The lines that the state machine says, and what is answered to each where all else is well."""

from __future__ import annotations

import base64

from hypothesis import strategies as st

from tests.fuzz.session_application import DEFECTS
from tests.fuzz.session_model import Answer

verdicts = st.sampled_from(["accept"] * 5 + ["refuse", "later", "leave", *DEFECTS])

_MOSTLY = st.sampled_from([True, True, True, False])
_SELDOM = st.sampled_from([False, False, False, True])

options = st.fixed_dictionaries(
    {},
    optional={
        "lmtp": st.booleans(),
        "auth_optional": _MOSTLY,
        "allow_insecure_auth": _MOSTLY,
        "needs_upgrade": _SELDOM,
        "use_xclient": _MOSTLY,
        "use_xforward": _MOSTLY,
        "hide_enhanced_status_codes": st.booleans(),
        "size": st.sampled_from([None, 100]),
        "max_bad_commands": st.sampled_from([None, None, 2, 10]),
        "max_auth_failures": st.sampled_from([None, 1, 3]),
        "max_allowed_unauthenticated_commands": st.sampled_from([None, None, 3, 10]),
        "max_recipients": st.sampled_from([1, 2, 1000]),
        "disabled_commands": st.lists(
            st.sampled_from(["AUTH", "RSET", "VRFY", "STARTTLS", "XCLIENT"]), max_size=2
        ),
    },
)


def encoded(octets: bytes) -> str:
    """`octets` in base64."""
    return base64.b64encode(octets).decode()


PLAIN = b"\0alice\0secret"


# Each line of AUTH: what is answered at once, or the step that follows.
AUTH_LINES: dict[str, int | str] = {
    "PLAIN": "plain",
    f"PLAIN {encoded(PLAIN)}": "judge",
    "PLAIN =": 501,
    "PLAIN !": 501,
    "PLAIN a b": 501,
    "plain": "plain",
    "LOGIN": "login name",
    f"LOGIN {encoded(b'alice')}": "login password",
    "CRAM-MD5": "cram-md5",
    "CRAM-MD5 YQ==": 501,
    "XOAUTH2": "xoauth2",
    "NTLM": 504,
}

# Of each step: the right response with what follows, and one that decodes to nonsense.
RESPONSES: dict[str, tuple[bytes, str, bytes]] = {
    "plain": (PLAIN, "judge", b"alice"),
    "login name": (b"alice", "login password", b"a\nb"),
    "login password": (b"secret", "judge", b"\xff"),
    "cram-md5": (b"alice " + b"0" * 32, "judge", b"alice"),
    "xoauth2": (b"user=alice\x01auth=Bearer token\x01\x01", "judge xoauth2", b"alice"),
}

# Of MAIL and RCPT: what is answered where all else is well.
SENDERS: dict[str, Answer] = {
    "FROM:<a@client.example>": Answer(250),
    "FROM:<>": Answer(250),
    "from: <a@client.example> SIZE=10 BODY=8BITMIME X-MORE=1": Answer(250),
    "FROM:<ü@client.example> SMTPUTF8": Answer(250),
    "FROM:<a@client.example> SIZE=101": Answer(552),
    "FROM:<a@client.example> REQUIRETLS": Answer(530, bad=True),
    "FROM:<ü@client.example>": Answer(553, bad=True),
    "FROM:<a@client.example> BY=1;R": Answer(555, bad=True),
    "FROM:<a@client.example> SIZE=x": Answer(501, bad=True),
    "TO:<a@client.example>": Answer(501, bad=True),
    "FROM:a@client.example": Answer(501, bad=True),
    "": Answer(501, bad=True),
}
RECIPIENTS: dict[str, Answer] = {
    "TO:<b@server.example>": Answer(250),
    "TO:<postmaster> NOTIFY=NEVER": Answer(250),
    "TO:<ü@server.example>": Answer(553, bad=True),
    "TO:<b@server.example> SIZE=1": Answer(501, bad=True),
    "TO:<>": Answer(501, bad=True),
    "TO:<b@server.example": Answer(501, bad=True),
    "": Answer(501, bad=True),
}

OTHERS: dict[str, Answer] = {
    "NOOP": Answer(250),
    "noop with an argument": Answer(250),
    "HELP": Answer(214),
    "VRFY b": Answer(252),
    "RSET": Answer(250),
    "RSET now": Answer(501, bad=True),
    "DATA now": Answer(501, bad=True),
    "QUIT now": Answer(501, bad=True),
    "QUIT": Answer(221),
}
NO_COMMANDS: dict[str, Answer] = {
    "": Answer(500, bad=True),
    "WHAT": Answer(500, bad=True),
    " NOOP": Answer(500, bad=True),
    "QU\u0131T": Answer(500, bad=True),
    "GET / HTTP/1.1": Answer(421),
}
