"""Reverse lookup, against name servers of the test's own on loopback."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocksmtp.resolver import ReverseResolver, client_hostname, is_verified

LIFETIME = 0.2  # for lookups that are to use it up

Answer = Callable[[dns.message.Message], Sequence[bytes]]
"""What a name server does: from a query to the datagrams that it sends."""


class NameServer:
    """A name server on loopback, by UDP, and by TCP where it has an answer for it."""

    def __init__(self, answer: Answer, answer_tcp: Answer | None = None) -> None:
        self.queries: list[dns.message.Message] = []
        self.by_tcp = 0
        self._answer = answer
        self._answer_tcp = answer_tcp
        self._listener, self._channel = same_port_twice()
        self.port: int = self._channel.getsockname()[1]
        self._threads = [threading.Thread(target=self._serve_udp)]
        if answer_tcp is not None:
            self._threads.append(threading.Thread(target=self._serve_tcp))

    def __enter__(self) -> NameServer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", ("127.0.0.1", self.port))
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()
        self._channel.close()

    def _serve_udp(self) -> None:
        while True:
            wire, client = self._channel.recvfrom(65535)
            if not wire:
                return
            query = dns.message.from_wire(wire)
            self.queries.append(query)
            for datagram in self._answer(query):
                self._channel.sendto(datagram, client)

    def _serve_tcp(self) -> None:
        assert self._answer_tcp is not None
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                wire = stream.read(int.from_bytes(stream.read(2), "big"))
                self.by_tcp += 1
                for message in self._answer_tcp(dns.message.from_wire(wire)):
                    connection.sendall(len(message).to_bytes(2, "big") + message)
                # Until the client closes, by a reset where it left something unread.
                with contextlib.suppress(ConnectionResetError):
                    stream.read(1)

    def resolver(self, lifetime: float = 10.0) -> ReverseResolver:
        return ReverseResolver(lifetime, nameservers=["127.0.0.1"], port=self.port)


def same_port_twice() -> tuple[socket.socket, socket.socket]:
    """A TCP listener and a UDP socket on one port."""
    while True:
        listener = socket.create_server(("127.0.0.1", 0))
        channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            channel.bind(listener.getsockname())
        except OSError:
            listener.close()
            channel.close()
        else:
            return listener, channel


def response_to(query: dns.message.Message, *records: str, name: str | None = None) -> bytes:
    """A response with `records`, each "TYPE data"."""
    response = dns.message.make_response(query)
    for record in records:
        kind, data = record.split(" ", 1)
        owner = query.question[0].name if name is None else dns.name.from_text(name)
        response.answer.append(dns.rrset.from_text(owner, 300, "IN", kind, data))
    return response.to_wire()


def names(*found: str) -> Answer:
    return lambda query: [response_to(query, *(f"PTR {name}" for name in found))]


def silence(query: dns.message.Message) -> Sequence[bytes]:
    return []


def refusal(code: int) -> Answer:
    def answer(query: dns.message.Message) -> Sequence[bytes]:
        response = dns.message.make_response(query)
        response.set_rcode(dns.rcode.Rcode(code))
        return [response.to_wire()]

    return answer


def one_after_another(*answers: Answer) -> Answer:
    coming = iter(answers)

    def answer(query: dns.message.Message) -> Sequence[bytes]:
        return next(coming)(query)

    return answer


def truncated(query: dns.message.Message) -> Sequence[bytes]:
    response = dns.message.make_response(query)
    response.flags |= dns.flags.TC
    return [response.to_wire()]


# --- the lookup --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ip", "asked"),
    [
        ("192.0.2.7", "7.2.0.192.in-addr.arpa."),
        ("::ffff:192.0.2.7", "7.2.0.192.in-addr.arpa."),
        ("2001:db8::7", "7" + ".0" * 23 + ".8.b.d.0.1.0.0.2.ip6.arpa."),
        ("fe80::7%lo", "7" + ".0" * 28 + ".8.e.f.ip6.arpa."),
    ],
)
def test_one_query_for_the_names(ip: str, asked: str) -> None:
    with NameServer(names("mail.example.org.", "mx.example.org.")) as server:
        assert server.resolver().reverse(ip) == ["mail.example.org.", "mx.example.org."]
    assert [str(query.question[0]) for query in server.queries] == [f"{asked} IN PTR"]


def test_names_behind_a_cname() -> None:
    def delegated(query: dns.message.Message) -> Sequence[bytes]:
        response = dns.message.make_response(query)
        target = "7.0-25.2.0.192.in-addr.arpa."
        response.answer.append(
            dns.rrset.from_text(query.question[0].name, 300, "IN", "CNAME", target)
        )
        response.answer.append(dns.rrset.from_text(target, 300, "IN", "PTR", "mail.example.org."))
        return [response.to_wire()]

    with NameServer(delegated) as server:
        assert server.resolver().reverse("192.0.2.7") == ["mail.example.org."]


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_known_without_a_query(ip: str) -> None:
    with NameServer(names("elsewhere.example.org.")) as server:
        assert server.resolver().reverse(ip) == ["localhost"]
    assert server.queries == []


def test_what_is_no_address_has_no_names() -> None:
    with NameServer(names("elsewhere.example.org.")) as server:
        for ip in ("", "mail.example.org", "192.0.2.256", "/run/smtp.sock"):
            assert server.resolver().reverse(ip) == []
    assert server.queries == []


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(refusal(dns.rcode.NXDOMAIN), id="NXDOMAIN"),
        pytest.param(lambda query: [response_to(query)], id="empty"),
        pytest.param(lambda query: [response_to(query, "TXT mail")], id="another type"),
        pytest.param(
            lambda query: [response_to(query, "PTR a.example.", name="1.2.0.192.in-addr.arpa.")],
            id="another address",
        ),
        pytest.param(
            lambda query: [response_to(query, f"CNAME {query.question[0].name}")], id="CNAME loop"
        ),
    ],
)
def test_an_answer_without_names_is_final(answer: Answer) -> None:
    with NameServer(answer) as server:
        assert server.resolver().reverse("192.0.2.7") == []
    assert len(server.queries) == 1


@pytest.mark.parametrize("code", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.FORMERR])
def test_a_server_that_fails_is_asked_once_more(code: int) -> None:
    with NameServer(one_after_another(refusal(code), names("mail.example.org."))) as server:
        assert server.resolver().reverse("192.0.2.7") == ["mail.example.org."]
    with NameServer(refusal(code)) as server:
        assert server.resolver().reverse("192.0.2.7") == []
    assert len(server.queries) == 2


# --- time --------------------------------------------------------------------------------------


def test_a_silent_server_costs_the_lifetime() -> None:
    with NameServer(silence) as server:
        resolver = server.resolver(LIFETIME)
        began = time.monotonic()
        assert resolver.reverse("192.0.2.7") == []
        took = time.monotonic() - began
    assert len(server.queries) == 2  # a datagram may have been lost
    # The lower end tells that it waited; the upper one leaves room for a busy machine.
    assert LIFETIME <= took < LIFETIME + 2


def test_the_lifetime_holds_for_all_servers_together() -> None:
    with NameServer(silence) as server:
        resolver = ReverseResolver(LIFETIME, nameservers=["127.0.0.1"] * 9, port=server.port)
        began = time.monotonic()
        assert resolver.reverse("192.0.2.7") == []
        took = time.monotonic() - began
    assert len(server.queries) == 3
    assert LIFETIME <= took < LIFETIME + 2


def test_the_lifetime_holds_for_tcp() -> None:
    with NameServer(truncated, silence) as server:
        resolver = server.resolver(LIFETIME)
        began = time.monotonic()
        assert resolver.reverse("192.0.2.7") == []
        took = time.monotonic() - began
    assert server.by_tcp == 1
    assert LIFETIME <= took < LIFETIME + 2


def test_a_stream_of_forgeries_does_not_outlast_the_lifetime() -> None:
    """A datagram is always there to read, so that no single wait ever takes long."""
    flooding = threading.Event()

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.bind(("127.0.0.1", 0))

        def flood() -> None:
            _, client = channel.recvfrom(65535)
            while not flooding.is_set():
                with contextlib.suppress(OSError):  # the client is gone
                    channel.sendto(b"garbage", client)

        thread = threading.Thread(target=flood)
        thread.start()
        resolver = ReverseResolver(
            LIFETIME, nameservers=["127.0.0.1"], port=channel.getsockname()[1]
        )
        began = time.monotonic()
        try:
            assert resolver.reverse("192.0.2.7") == []
            took = time.monotonic() - began
        finally:
            flooding.set()
            thread.join()
    assert LIFETIME <= took < LIFETIME + 2


def test_a_server_that_does_not_run_costs_no_time() -> None:
    with NameServer(names("mail.example.org.")) as server:
        pass
    began = time.monotonic()
    assert server.resolver(60).reverse("192.0.2.7") == []
    assert time.monotonic() - began < 30


def test_the_next_server_is_asked() -> None:
    """After one that does not answer in its share of the time, and one that cannot be reached."""
    with NameServer(names("mail.example.org.")) as server:
        nameservers = ["no address", "127.0.0.2", "127.0.0.1"]
        resolver = ReverseResolver(10, nameservers=nameservers, port=server.port)
        assert resolver.reverse("192.0.2.7") == ["mail.example.org."]
    with NameServer(one_after_another(silence, names("mail.example.org."))) as server:
        resolver = ReverseResolver(1, nameservers=["127.0.0.1"] * 2, port=server.port)
        assert resolver.reverse("192.0.2.7") == ["mail.example.org."]


# --- TCP ---------------------------------------------------------------------------------------


def test_a_truncated_answer_is_asked_for_by_tcp() -> None:
    with NameServer(truncated, names("mail.example.org.")) as server:
        assert server.resolver().reverse("192.0.2.7") == ["mail.example.org."]
    assert len(server.queries) == 1
    assert server.by_tcp == 1


def test_garbage_by_tcp_is_no_answer() -> None:
    with NameServer(truncated, lambda query: [b"garbage"]) as server:
        assert server.resolver().reverse("192.0.2.7") == []
    assert server.by_tcp == 2


# --- answers that are none ---------------------------------------------------------------------


def another_id(query: dns.message.Message) -> bytes:
    wire = response_to(query, "PTR forged.example.")
    return bytes([wire[0] ^ 1]) + wire[1:]


def another_question(query: dns.message.Message) -> bytes:
    other = dns.message.make_query("8.2.0.192.in-addr.arpa.", "PTR", id=query.id)
    return response_to(other, "PTR forged.example.")


FORGERIES: list[Callable[[dns.message.Message], bytes]] = [
    lambda query: b"garbage",
    lambda query: b"",
    another_id,
    another_question,
    lambda query: query.to_wire(),
    lambda query: truncated(dns.message.make_query("example.org.", "PTR"))[0],
    lambda query: response_to(query, "PTR forged.example.")[:-3],
]


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forgery_is_passed_over(forgery: Callable[[dns.message.Message], bytes]) -> None:
    def answer(query: dns.message.Message) -> Sequence[bytes]:
        return [forgery(query), response_to(query, "PTR mail.example.org.")]

    with NameServer(answer) as server:
        assert server.resolver().reverse("192.0.2.7") == ["mail.example.org."]
    assert len(server.queries) == 1
    with NameServer(lambda query: [forgery(query)]) as server:
        assert server.resolver(LIFETIME).reverse("192.0.2.7") == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(2, 80), st.integers(0, 255)), min_size=1, max_size=6))
def test_no_answer_makes_a_lookup_raise(changes: list[tuple[int, int]]) -> None:
    def answer(query: dns.message.Message) -> Sequence[bytes]:
        wire = bytearray(response_to(query, "PTR mail.example.org.", "PTR mx.example.org."))
        for position, octet in changes:
            wire[position % len(wire)] = octet
        # The last one ends the lookup where the changed one is no response.
        return [bytes(wire), response_to(query)]

    with NameServer(answer, answer) as server:
        server.resolver().reverse("192.0.2.7")


# --- the configuration of the system -----------------------------------------------------------


def use_configuration(monkeypatch: pytest.MonkeyPatch, path: Path) -> list[Path]:
    """Make `path` the system's configuration; returns a list that grows each time it is read."""
    original = dns.resolver.Resolver
    reads = []

    def configured() -> dns.resolver.Resolver:
        reads.append(path)
        return original(filename=str(path))

    monkeypatch.setattr(dns.resolver, "Resolver", configured)
    return reads


def test_the_systems_servers_are_read_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 127.0.0.1\n")
    reads = use_configuration(monkeypatch, path)
    with NameServer(names("mail.example.org.")) as server:
        resolver = ReverseResolver(10, port=server.port)
        assert reads == []
        found: list[Sequence[str]] = []
        start = threading.Barrier(8)

        def look_up() -> None:
            start.wait()
            found.append(resolver.reverse("192.0.2.7"))

        threads = [threading.Thread(target=look_up) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [["mail.example.org."]] * 8
    assert reads == [path]


@pytest.mark.parametrize(
    "text",
    [None, b"", b"# nothing\n", b"nameserver mail.example.org\n", b"nameserver \xff\n"],
)
def test_without_a_configuration_there_are_no_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: bytes | None
) -> None:
    path = tmp_path / "resolv.conf"
    if text is not None:
        path.write_bytes(text)
    reads = use_configuration(monkeypatch, path)
    resolver = ReverseResolver()
    assert resolver.reverse("192.0.2.7") == []
    assert resolver.reverse("192.0.2.8") == []
    assert reads == [path]


# --- the client's host name --------------------------------------------------------------------


class Custom:
    """A resolver as an application may write one."""

    def __init__(self, found: Any) -> None:
        self.found = found
        self.asked: list[str] = []

    def reverse(self, ip: str) -> Any:
        self.asked.append(ip)
        if isinstance(self.found, BaseException):
            raise self.found
        return self.found


def unexpected(error: Exception) -> None:
    raise AssertionError("reported") from error


def hostname_from(found: Any) -> str:
    resolver = Custom(found)
    hostname = client_hostname("192.0.2.7", resolver, unexpected)
    assert resolver.asked == ["192.0.2.7"]
    return hostname


LONGEST = ".".join(["a" * 63] * 3 + ["b" * 61])

VALID = [
    "mail.example.org",
    "localhost",
    "MAIL.Example.ORG",
    "192-0-2-7.dsl.example.net",
    "7.2.0.192.in-addr.arpa",
    "_smtp._tcp.example.org",
    "host_7.example.org",
    "xn--bcher-kva.example",
    "a.b",
    "1.2.3.4.example",
    LONGEST,
]

INVALID = [
    "",
    ".",
    "..",
    "example..org",
    ".example.org",
    "mail.example.org..",
    "-mail.example.org",
    "mail-.example.org",
    "-",
    "mail example.org",
    "mail.example.org ",
    "mail.example.org\n",
    "mail\r\nX: y.example.org",
    "mail\0.example.org",
    "mail\x1b[31m.example.org",
    "mail\\010.example.org",
    "mail\\.example.org",
    "mail/example.org",
    "[192.0.2.7]",
    "1.2.3.4",
    "1.2.3.4.",
    "127.1",
    "2130706433",
    "2001:db8::1",
    "b\u00fccher.example",
    "mail.example\u3002org",
    "mail.example.\u0661",
    "a" * 64 + ".example.org",
    LONGEST + "b",
    "a." * 2000 + "org",
]


@pytest.mark.parametrize("name", VALID)
def test_a_host_name_counts(name: str) -> None:
    assert hostname_from([name]) == name
    assert hostname_from([name + "."]) == name


@pytest.mark.parametrize("name", INVALID)
def test_what_is_no_host_name_does_not(name: str) -> None:
    assert hostname_from([name]) == "[192.0.2.7]"
    assert hostname_from([name, "mail.example.org.", "mx.example.org."]) == "mail.example.org"


class Named(str):
    """A subclass of str with ideas of its own, such as DNS libraries have."""

    def __str__(self) -> str:
        return "not\r\nwhat it seems"

    def removesuffix(self, suffix: str, /) -> str:
        return "not\r\nwhat it seems"


@pytest.mark.parametrize(
    ("found", "hostname"),
    [
        ([], "[192.0.2.7]"),
        ((), "[192.0.2.7]"),
        (None, "[192.0.2.7]"),
        ("", "[192.0.2.7]"),
        (("mail.example.org",), "mail.example.org"),
        (iter(["mail.example.org"]), "mail.example.org"),
        ({"mail.example.org": 1}, "mail.example.org"),
        ("mail.example.org", "mail.example.org"),
        (Named("mail.example.org."), "mail.example.org"),
        ([Named("mail.example.org.")], "mail.example.org"),
        ([None, 7, b"mx.example.org", ["mx.example.org"], "mail.example.org"], "mail.example.org"),
        (b"mail.example.org", "[192.0.2.7]"),
        # Only what is needed is taken.
        (itertools.repeat("mail.example.org"), "mail.example.org"),
    ],
)
def test_whatever_holds_names_will_do(found: Any, hostname: str) -> None:
    got = hostname_from(found)
    assert got == hostname
    assert type(got) is str


@given(st.lists(st.text(max_size=20), max_size=4))
def test_a_hostname_is_harmless(found: list[str]) -> None:
    hostname = hostname_from(found)
    assert hostname.isascii()
    assert hostname.isprintable()
    assert " " not in hostname


def failing() -> Iterator[str]:
    yield "1.2.3.4"
    raise LookupError("in the middle")


@pytest.mark.parametrize(
    ("found", "error"),
    [(OSError("no network"), OSError), (failing(), LookupError), (42, TypeError)],
)
def test_an_exception_is_reported_once(found: Any, error: type[Exception]) -> None:
    reported: list[Exception] = []
    assert client_hostname("2001:db8::7", Custom(found), reported.append) == "[2001:db8::7]"
    assert [type(item) for item in reported] == [error]


def test_what_ends_the_program_is_no_report() -> None:
    with pytest.raises(KeyboardInterrupt):
        client_hostname("192.0.2.7", Custom(KeyboardInterrupt()), unexpected)


def test_a_custom_resolver_is_asked_for_loopback_too() -> None:
    resolver = Custom(["me.example.org"])
    assert client_hostname("127.0.0.1", resolver, unexpected) == "me.example.org"
    assert resolver.asked == ["127.0.0.1"]


def test_the_client_of_a_unix_socket_is_local() -> None:
    resolver = Custom(["me.example.org"])
    assert client_hostname("", resolver, unexpected) == "localhost"
    assert resolver.asked == []


@pytest.mark.parametrize(
    ("found", "hostname"),
    [
        (["mail.example.org."], "mail.example.org"),
        (["."], "[192.0.2.7]"),
        (["1.2.3.4."], "[192.0.2.7]"),
        (["mail\\013\\010.example.org."], "[192.0.2.7]"),
        (["mail\\.example.org."], "[192.0.2.7]"),
        (["b\\195\\188cher.example."], "[192.0.2.7]"),
        ([".".join(["\\001" * 63] * 3) + "."], "[192.0.2.7]"),
        (["mail\\032x.example.org.", "mail.example.org."], "mail.example.org"),
    ],
)
def test_hostile_names_in_the_dns(found: Iterable[str], hostname: str) -> None:
    with NameServer(names(*found)) as server:
        assert client_hostname("192.0.2.7", server.resolver(), unexpected) == hostname


def test_the_default_takes_its_time_limit_from_the_contract() -> None:
    began = time.monotonic()
    with NameServer(silence) as server:
        resolver = ReverseResolver(nameservers=["127.0.0.1"], port=server.port)
        assert client_hostname("192.0.2.7", resolver, unexpected) == "[192.0.2.7]"
    assert 1.5 <= time.monotonic() - began < 4


# --- whether the name leads back ---------------------------------------------------------------


def forwards(**addresses: Sequence[str]) -> Answer:
    """A name server whose hosts have these addresses, by their first label."""

    def answer(query: dns.message.Message) -> Sequence[bytes]:
        question = query.question[0]
        label = str(question.name).split(".")[0]
        kind = dns.rdatatype.to_text(question.rdtype)
        return [response_to(query, *(f"{kind} {each}" for each in addresses.get(label, ())))]

    return answer


def verified(ip: str, hostname: str, resolver: Any, *, elapsed: float = 0.0) -> bool:
    return is_verified(ip, hostname, resolver, time.monotonic() - elapsed, unexpected)


@pytest.mark.parametrize(
    ("ip", "addresses", "expected"),
    [
        ("192.0.2.7", ["192.0.2.7"], True),
        ("192.0.2.7", ["192.0.2.8", "192.0.2.7"], True),
        ("::ffff:192.0.2.7", ["192.0.2.7"], True),
        ("192.0.2.7", ["192.0.2.8"], False),
        ("192.0.2.7", [], False),
        ("2001:db8::7", ["2001:0db8:0:0::7"], True),
        ("2001:db8::7", ["2001:db8::8"], False),
    ],
)
def test_a_name_that_leads_back(ip: str, addresses: list[str], expected: bool) -> None:
    with NameServer(forwards(mail=addresses)) as server:
        assert verified(ip, "mail.example.org", server.resolver()) is expected
    kind = "A" if "." in ip else "AAAA"
    asked = [str(query.question[0]) for query in server.queries]
    assert asked == [f"mail.example.org. IN {kind}"]


def test_a_name_that_leads_back_by_a_cname() -> None:
    def delegated(query: dns.message.Message) -> Sequence[bytes]:
        response = dns.message.make_response(query)
        owner = query.question[0].name
        response.answer.append(dns.rrset.from_text(owner, 300, "IN", "CNAME", "host.example."))
        response.answer.append(dns.rrset.from_text("host.example.", 300, "IN", "A", "192.0.2.7"))
        return [response.to_wire()]

    with NameServer(delegated) as server:
        assert verified("192.0.2.7", "mail.example.org", server.resolver())


@pytest.mark.parametrize(
    ("ip", "hostname", "expected"),
    [
        ("127.0.0.1", "localhost", True),
        ("::1", "localhost", True),
        ("127.0.0.1", "mail.example.org", False),
        ("192.0.2.7", "[192.0.2.7]", False),
        ("", "localhost", False),
    ],
)
def test_what_needs_no_query(ip: str, hostname: str, expected: bool) -> None:
    with NameServer(forwards(mail=["127.0.0.1"])) as server:
        assert verified(ip, hostname, server.resolver()) is expected
    assert server.queries == []


def test_both_ways_share_the_lifetime() -> None:
    with NameServer(silence) as server:
        began = time.monotonic()
        assert not verified("192.0.2.7", "mail.example.org", server.resolver(10.0), elapsed=9.8)
        assert time.monotonic() - began < 5
        assert not verified("192.0.2.7", "mail.example.org", server.resolver(), elapsed=60.0)
    assert len(server.queries) <= 2


def test_a_name_too_long_for_the_dns_leads_nowhere() -> None:
    with NameServer(forwards()) as server:
        assert not verified("192.0.2.7", "a" * 64 + ".example", server.resolver())
    assert server.queries == []


class CustomBothWays(Custom):
    def forward(self, name: str) -> Any:
        self.asked.append(name)
        if isinstance(self.found, BaseException):
            raise self.found
        return self.found


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["192.0.2.7"], True),
        (("192.0.2.8", "::ffff:192.0.2.7"), True),
        ("192.0.2.7", True),
        ([], False),
        (None, False),
        ([None, 5, "no address"], False),
        (["192.0.2.8"], False),
    ],
)
def test_a_custom_resolver_may_look_forward(found: Any, expected: bool) -> None:
    resolver = CustomBothWays(found)
    assert verified("192.0.2.7", "mail.example.org", resolver) is expected
    assert resolver.asked == ["mail.example.org"]


def test_a_custom_resolver_that_cannot_verifies_nothing() -> None:
    assert not verified("192.0.2.7", "mail.example.org", Custom(["192.0.2.7"]))


def test_a_custom_resolver_that_fails_verifies_nothing() -> None:
    reported: list[Exception] = []
    resolver = CustomBothWays(OSError("no answer"))
    assert not is_verified("192.0.2.7", "mail.example.org", resolver, 0.0, reported.append)
    assert [str(error) for error in reported] == ["no answer"]
