"""The client's host name by reverse lookup, and whether it leads back to the client."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from .addresses import is_hostname, normalise_address

if TYPE_CHECKING:
    import dns.message

# More servers than this the system's own resolvers do not ask, either.
_MOST_SERVERS = 3


class Resolver(Protocol):
    """What the option `resolver` takes."""

    def reverse(self, ip: str) -> Iterable[str]:
        """Return the host names of the address `ip`, the best first."""
        ...

    # And may have: def forward(self, name: str) -> Iterable[str], the addresses of a host name.


def client_hostname(ip: str, resolver: Resolver, report: Callable[[Exception], None]) -> str:
    """The host name of the client at `ip`; "[ip]" where there is none.

    The first name from `resolver` that is a valid host name counts, without a final dot. `report`
    is called with an exception that `resolver` raises. The client of a Unix socket, whose address
    is "", is "localhost".
    """
    if not ip:
        return "localhost"
    try:
        found = resolver.reverse(ip)
        # A single name in place of a sequence, and None for no name, are easy slips.
        for name in [found] if isinstance(found, str) else found or ():
            if isinstance(name, str):
                hostname = str.__str__(name).removesuffix(".")
                if is_hostname(hostname):
                    return hostname
    except Exception as error:  # noqa: BLE001 - what a custom resolver raises is its own
        report(error)
    return f"[{ip}]"


def is_verified(
    ip: str, hostname: str, resolver: Any, since: float, report: Callable[[Exception], None]
) -> bool:
    """Whether `hostname`, which was found for the client at `ip`, has that address in turn.

    Anybody can give their own addresses names of others, but not the others' names addresses. It
    has what is left of the time limit of a lookup that began at `since`, by the monotonic clock. A
    custom resolver without a method `forward(name)` verifies nothing.
    """
    if not ip or hostname.startswith("["):
        return False
    try:
        if isinstance(resolver, ReverseResolver):
            found = resolver.forward(hostname, ip, since)
        else:
            forward = getattr(resolver, "forward", None)
            found = () if forward is None else forward(hostname)
        wanted = normalise_address(ip)
        addresses = [found] if isinstance(found, str) else list(found or ())
        return any(isinstance(each, str) and _normalised(each) == wanted for each in addresses)
    except Exception as error:  # noqa: BLE001 - what a custom resolver raises is its own
        report(error)
        return False


def _normalised(address: str) -> str | None:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return None
    return normalise_address(address)


class ReverseResolver:
    """Looks up names in the DNS (PTR records: RFC 1035, section 3.5; RFC 3596, section 2.5).

    `lifetime` is how many seconds a lookup may take, repeated queries, other servers, TCP and the
    way back from the name to the address included. `nameservers` are the addresses of the servers
    to ask at `port`; None asks those of the system, whose configuration is read once, at the first
    lookup.
    """

    def __init__(
        self,
        lifetime: float = 1.5,
        *,
        nameservers: Sequence[str] | None = None,
        port: int = 53,
    ) -> None:
        self._lifetime = lifetime
        self._port = port
        self._nameservers = None if nameservers is None else tuple(nameservers)
        self._lock = threading.Lock()

    def reverse(self, ip: str) -> Sequence[str]:
        """The names of the address `ip`, as the DNS gives them; empty where it gives none in time.

        A loopback address is "localhost" without a query.
        """
        try:
            address = ipaddress.ip_address(normalise_address(ip))
        except ValueError:
            return []
        if address.is_loopback:
            return ["localhost"]
        deadline = time.monotonic() + self._lifetime
        response = self._ask(address.reverse_pointer + ".", "PTR", deadline)
        return [] if response is None else _records(response)

    def forward(self, name: str, ip: str, since: float) -> Sequence[str]:
        """The addresses of the host `name` that are of the family of `ip`; empty without one.

        The lookup began at `since`. "localhost" is every loopback address, without a query.
        """
        address = ipaddress.ip_address(normalise_address(ip))
        if address.is_loopback:
            return [ip] if name == "localhost" else []
        kind = "AAAA" if address.version == 6 else "A"
        response = self._ask(name + ".", kind, since + self._lifetime)
        return [] if response is None else _records(response)

    def _servers(self) -> tuple[str, ...]:
        with self._lock:
            if self._nameservers is None:
                self._nameservers = _system_nameservers()
            return self._nameservers

    def _ask(self, name: str, kind: str, deadline: float) -> dns.message.QueryMessage | None:
        """The first useful response to a query for the records of this kind that `name` has.

        The loop is our own because `dns.resolver` may sleep past its lifetime between two rounds.
        """
        import dns.exception
        import dns.message
        import dns.rcode

        servers = self._servers()[:_MOST_SERVERS]
        # A datagram may get lost: a server that is the only one is asked twice.
        attempts = servers * 2 if len(servers) == 1 else servers
        for number, server in enumerate(attempts):
            now = time.monotonic()
            share = (deadline - now) / (len(attempts) - number)
            if share <= 0:
                return None
            try:
                query = dns.message.make_query(name, kind)
                response = _exchange(query, server, self._port, now + share, deadline)
            except (dns.exception.DNSException, OSError, EOFError):
                continue
            if response.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                return response
        return None


def _exchange(
    query: dns.message.QueryMessage, server: str, port: int, deadline_udp: float, deadline: float
) -> dns.message.QueryMessage:
    """The response of `server`, by UDP or, where that is truncated, by TCP."""
    import dns.message
    import dns.query

    try:
        response = _exchange_udp(query, server, port, deadline_udp)
    except dns.message.Truncated:
        left = max(deadline - time.monotonic(), 0.0)
        response = dns.query.tcp(query, server, timeout=left, port=port)
    # A response has the operation code of its query, which makes it a QueryMessage.
    return cast("dns.message.QueryMessage", response)


def _exchange_udp(
    query: dns.message.QueryMessage, server: str, port: int, deadline: float
) -> dns.message.Message:
    """The response of `server` by UDP. Raises dns.message.Truncated or OSError.

    Unlike that of `dns.query.udp` the socket is connected, which tells at once of a server that
    does not run; and a stream of datagrams that are no response cannot outlast the deadline.
    """
    found = socket.getaddrinfo(server, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as channel:
        channel.connect(address)
        channel.send(query.to_wire())
        while (left := deadline - time.monotonic()) > 0:
            channel.settimeout(left)
            response = _response_to(query, channel.recv(65535))
            if response is not None:
                return response
    raise TimeoutError(f"no response from {server}")


def _response_to(query: dns.message.QueryMessage, wire: bytes) -> dns.message.Message | None:
    """The datagram `wire` as a response to `query`, None if it is none: it may be forged."""
    import dns.message

    try:
        response = dns.message.from_wire(wire, raise_on_truncation=True)
    except dns.message.Truncated as truncated:
        if query.is_response(cast(Any, truncated).message()):
            raise
        return None
    except Exception:  # noqa: BLE001 - it can be malformed in any way, and nothing is promised
        return None
    return response if query.is_response(response) else None


def _records(response: dns.message.QueryMessage) -> list[str]:
    import dns.exception

    try:
        # The answer may be found by way of CNAME records (RFC 2317).
        answer = response.resolve_chaining().answer
    except dns.exception.DNSException:
        return []
    return [] if answer is None else [record.to_text() for record in answer]


def _system_nameservers() -> tuple[str, ...]:
    import dns.exception
    import dns.resolver

    try:
        nameservers = dns.resolver.Resolver().nameservers
    except (dns.exception.DNSException, OSError, ValueError):
        # No configuration, or none that can be read: no names.
        return ()
    return tuple(server for server in nameservers if isinstance(server, str))
