"""HELO, EHLO, LHLO and STARTTLS: who the client is, and what the server offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .authentication import offered_methods
from .grammar import parse_helo_name
from .replies import Next, Reply, bad
from .xclient import XCLIENT_ATTRIBUTES, XFORWARD_ATTRIBUTES

if TYPE_CHECKING:
    from ..options import Options
    from .machine import Machine


def hello(machine: Machine, argument: str) -> Reply:
    """HELO, EHLO and LHLO (RFC 5321, section 4.1.1.1; RFC 2033, section 4.1).

    In the middle of a transaction they end it, as RSET does.
    """
    name = parse_helo_name(argument)
    session = machine.session
    machine.new_envelope()
    session.host_name_appears_as = name
    session.opening_command = machine.verb
    response = machine.options.helo_response
    for filling in (session.server_name, session.client_hostname):
        response = response.replace("%s", filling, 1)
    extensions = () if machine.verb == "HELO" else extensions_offered(machine)
    return Reply(250, (response, *extensions))


def extensions_offered(machine: Machine) -> tuple[str, ...]:
    """The lines that EHLO and LHLO answer with, after the first.

    STARTTLS stands first, since some clients overlook what is last; SIZE is always there to close
    the list.
    """
    options = machine.options
    offers = machine.offers
    secure = machine.session.secure
    methods = ""
    if offers("AUTH") and (secure or options.allow_insecure_auth):
        methods = " ".join(offered_methods(machine))
    limit = "" if options.hide_size or options.size is None else f" {options.size}"
    chunking = not options.hide_chunking and offers("BDAT")
    lines = (
        ("STARTTLS", not secure and not options.hide_starttls and offers("STARTTLS")),
        ("PIPELINING", not options.hide_pipelining),
        ("8BITMIME", not options.hide_8bitmime),
        ("CHUNKING", chunking),
        ("BINARYMIME", chunking),
        # RFC 6531, section 3.1: SMTPUTF8 needs 8BITMIME.
        ("SMTPUTF8", not options.hide_smtputf8 and not options.hide_8bitmime),
        ("ENHANCEDSTATUSCODES", not options.hide_enhanced_status_codes),
        ("DSN", not options.hide_dsn),
        # RFC 8689, section 2: offered in TLS only.
        ("REQUIRETLS", secure and not options.hide_requiretls),
        (f"AUTH {methods}", bool(methods)),
        ("XCLIENT " + " ".join(XCLIENT_ATTRIBUTES), offers("XCLIENT")),
        ("XFORWARD " + " ".join(XFORWARD_ATTRIBUTES), offers("XFORWARD")),
        (f"LIMITS {_limits(options)}", not options.hide_limits and bool(_limits(options))),
        *(
            (f"{keyword} {text}".rstrip(), True)
            for keyword, text in options.extra_extensions.items()
        ),
        (f"SIZE{limit}", True),
    )
    return tuple(line for line, offered in lines if offered)


def _limits(options: Options) -> str:
    """The parameters of LIMITS (RFC 9422, section 4); no value may have more than six digits."""
    limits = (("MAILMAX", options.max_messages), ("RCPTMAX", options.max_recipients))
    return " ".join(
        f"{name}={value}" for name, value in limits if value is not None and value < 1_000_000
    )


def starttls(machine: Machine, _argument: str) -> Reply:
    """STARTTLS (RFC 3207, section 4)."""
    if machine.session.secure:
        return bad(503, "Error: TLS already active")
    return Reply(220, ("Ready to start TLS",), "2.0.0", Next.TLS)
