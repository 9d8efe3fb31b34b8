"""A TCP proxy on loopback that does to a connection what a bad network does.

with Proxy(server.address) as proxy:
    with proxy.connect(to_server=Fault(after=10, then=Then.RESET)) as link:
        link.client.send("EHLO client.example\\r\\n")

Octets pass as they are, so that TLS passes, too. Each connection has a fault for each direction.
"""

from __future__ import annotations

import contextlib
import enum
import select
import socket
import threading
from dataclasses import dataclass

from tests.client import TIMEOUT, Address, Client, connect

# Long enough for who waits for the octets before it to take them.
_PAUSE = 0.001  # seconds

_RESET = b"\1\0\0\0\0\0\0\0"  # SO_LINGER: on, for no time


class Then(enum.Enum):
    """What happens when so many octets have passed."""

    END = "end"
    """The receiver sees the end of the stream. What else comes is thrown away; the other direction
    goes on."""
    CLOSE = "close"
    """Both ends see the end of the stream."""
    RESET = "reset"
    """Both ends see a reset."""
    STALL = "stall"
    """Nothing passes any more. The link lasts until either end closes it."""
    PAUSE = "pause"
    """The rest comes after a moment, in a segment of its own."""
    CORRUPT = "corrupt"
    """The next octet has a bit flipped. All others pass."""


@dataclass(frozen=True)
class Fault:
    """What becomes of the octets of one direction; by default nothing but their passing."""

    piece: int = 0
    """Octets of the segments into which they are split; 0: as they come."""
    delay: float = 0.0
    """Seconds to wait before each segment."""
    hold: float = 0.0
    """Merge: keep them until none has come for so many seconds."""
    after: int | None = None
    """`then` happens after so many octets."""
    then: Then = Then.END

    def __str__(self) -> str:
        where = f" {self.then.value} after octet {self.after}" if self.after is not None else ""
        return f"piece={self.piece} delay={self.delay} hold={self.hold}{where}"


NONE = Fault()


class Direction:
    """The way from one end to the other."""

    def __init__(self, source: socket.socket, target: socket.socket, fault: Fault) -> None:
        self.source = source
        self.target = target
        self.fault = fault
        self.passed = bytearray()
        """What was handed on."""
        self.segments: list[int] = []
        """In pieces of so many octets."""
        self.held = b""
        self.blocked = False
        """Nothing passes any more."""
        self.ended = False
        """Nothing comes any more."""

    @property
    def room(self) -> int | None:
        """How many octets may pass before the fault; None: any number."""
        return None if self.fault.after is None else self.fault.after - len(self.passed)

    def end(self) -> None:
        """Have the target see the end of the stream."""
        self.blocked = True
        # Who has broken the connection himself knows.
        with contextlib.suppress(OSError):
            self.target.shutdown(socket.SHUT_WR)


class Link:
    """One connection through the proxy: `client` is the client's end of it.

    At the end of its context the client is closed, and the server has to close, too.
    """

    def __init__(
        self, client: Client, near: socket.socket, far: socket.socket, faults: tuple[Fault, Fault]
    ) -> None:
        """`near` leads to the client, `far` to the server."""
        self.client = client
        self.port: int = far.getsockname()[1]
        """The port of what the server takes for its client."""
        self.to_server = Direction(near, far, faults[0])
        self.to_client = Direction(far, near, faults[1])
        self._directions = (self.to_server, self.to_client)
        self._sockets = (near, far)
        self._over = threading.Event()
        for sock in (client.sock, *self._sockets):
            sock.settimeout(TIMEOUT)
            # Each segment when it is due, not when others have been acknowledged.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._thread = threading.Thread(target=self._run, name=f"proxy for port {self.port}")
        self._thread.start()

    # --- the proxy's thread ----------------------------------------------------------------

    def _run(self) -> None:
        try:
            for direction in self._directions:
                self._pass(direction, b"")
            self._relay()
        except OSError:
            # One end broke the connection: so does the other.
            self._reset()
        finally:
            for sock in self._sockets:
                sock.close()

    def _relay(self) -> None:
        poll = select.poll()
        by_descriptor = {each.source.fileno(): each for each in self._directions}
        for descriptor in by_descriptor:
            poll.register(descriptor, select.POLLIN)
        while not all(direction.ended for direction in self._directions):
            holding = [direction for direction in self._directions if direction.held]
            seconds = max((each.fault.hold for each in holding), default=TIMEOUT * 2)
            ready = poll.poll(seconds * 1000)
            for descriptor, _ in ready:
                direction = by_descriptor[descriptor]
                self._take(direction)
                if direction.ended:
                    poll.unregister(descriptor)
            if not ready:
                for direction in holding:
                    self._release(direction)

    def _take(self, direction: Direction) -> None:
        """Take what has come. Raises OSError where the source has broken the connection."""
        octets = direction.source.recv(65_536)
        if not octets:
            self._release(direction)
            direction.ended = True
            if not direction.blocked:
                direction.end()
            elif direction.fault.then is Then.STALL:
                self._close()
        elif not direction.blocked:
            if direction.fault.hold:
                direction.held += octets
            else:
                self._pass(direction, octets)

    def _release(self, direction: Direction) -> None:
        octets, direction.held = direction.held, b""
        if octets and not direction.blocked:
            self._pass(direction, octets)

    def _pass(self, direction: Direction, octets: bytes) -> None:
        """Hand on what may pass; do what is due after it."""
        room = direction.room
        if direction.fault.then is Then.CORRUPT:
            if room is not None and 0 <= room < len(octets):
                octets = octets[:room] + bytes([octets[room] ^ 1]) + octets[room + 1 :]
            self._send(direction, octets)
            return
        if room is not None and room < 0:
            room = None  # The pause is over.
        self._send(direction, octets[:room])
        if direction.room == 0 and not direction.blocked:
            self._strike(direction, b"" if room is None else octets[room:])

    def _send(self, direction: Direction, octets: bytes) -> None:
        size = direction.fault.piece or max(1, len(octets))
        for start in range(0, len(octets), size):
            piece = octets[start : start + size]
            if direction.fault.delay:
                self._over.wait(direction.fault.delay)
            # First: who has an answer to it finds it noted.
            direction.passed += piece
            direction.segments.append(len(piece))
            try:
                direction.target.sendall(piece)
            except OSError:
                direction.blocked = True  # Gone; what it said before may still be on its way.
                return

    def _strike(self, direction: Direction, rest: bytes) -> None:
        if direction.fault.then is Then.PAUSE:
            self._over.wait(_PAUSE)
            self._send(direction, rest)
        elif direction.fault.then is Then.END:
            direction.end()
        elif direction.fault.then is Then.CLOSE:
            self._close()
        elif direction.fault.then is Then.STALL:
            direction.blocked = True
        else:
            raise ConnectionResetError("as it was planned")

    def _close(self) -> None:
        for direction in self._directions:
            direction.end()

    def _reset(self) -> None:
        for sock in self._sockets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    # --- the test's thread -----------------------------------------------------------------

    def close(self) -> None:
        """Close the client; raises AssertionError where the server does not close as well."""
        self.client.close()
        self._thread.join(TIMEOUT)
        late = self._thread.is_alive()
        self._over.set()
        if late:
            for sock in self._sockets:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        assert not late, "the server goes on after its client has gone"

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class Proxy:
    """Listens on a free port of 127.0.0.1, in front of a server."""

    def __init__(self, target: Address) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        # What is accepted is the client that has just connected.
        self._one_by_one = threading.Lock()

    def connect(self, to_server: Fault = NONE, to_client: Fault = NONE) -> Link:
        """A client's connection through the proxy, with a fault for each direction."""
        with self._one_by_one:
            client = connect(self._listener.getsockname())
            near, _ = self._listener.accept()
        far = connect(self._target).sock
        return Link(client, near, far, (to_server, to_client))

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_error: object) -> None:
        self._listener.close()
