"""How many clients at once: in all, and from one address."""

from __future__ import annotations

import threading

from .addresses import client_network


class ClientLimits:
    """Counts the clients that are connected. None stands for no limit."""

    def __init__(self, in_all: int | None, per_address: int | None) -> None:
        self._places = None if in_all is None else threading.BoundedSemaphore(in_all)
        self._per_address = per_address
        self._lock = threading.Lock()
        self._by_address: dict[str, int] = {}

    def enter(self) -> bool:
        """Take a place, without waiting; False where none is left."""
        return self._places is None or self._places.acquire(blocking=False)

    def leave(self) -> None:
        """Give the place back."""
        if self._places is not None:
            self._places.release()

    def enter_address(self, address: str) -> bool:
        """Take one of the places of `address`; False where none is left.

        The addresses of an IPv6 /64 share their places.
        """
        if self._per_address is None:
            return True
        client = client_network(address)
        with self._lock:
            count = self._by_address.get(client, 0)
            if count >= self._per_address:
                return False
            self._by_address[client] = count + 1
            return True

    def leave_address(self, address: str) -> None:
        """Give the place back."""
        if self._per_address is None:
            return
        client = client_network(address)
        with self._lock:
            count = self._by_address[client] - 1
            if count:
                self._by_address[client] = count
            else:
                del self._by_address[client]
