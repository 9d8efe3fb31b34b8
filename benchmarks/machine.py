"""What machine this is, and which of its cores are used."""

from __future__ import annotations

import contextlib
import os
import platform
import ssl
from collections.abc import Iterator
from pathlib import Path

CORES = 2
"""On how many cores load and server are together."""


def describe() -> dict[str, str]:
    """Names and values for people to read."""
    # Without what whoever built the kernel calls it.
    release = platform.release().partition("-")[0]
    return {
        "processor": _value("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": f"{os.cpu_count()}, of which {len(cores())} are used",
        "memory": f"{int((_value('/proc/meminfo', 'MemTotal') or '0').split()[0]) / 2**20:.0f} GiB",
        "system": f"{platform.system()} {release}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "OpenSSL of the load": ssl.OPENSSL_VERSION,
    }


def _value(path: str, name: str) -> str | None:
    for line in Path(path).read_text().splitlines():
        key, colon, value = line.partition(":")
        if colon and key.strip() == name:
            return value.strip()
    return None


def cores() -> list[int]:
    """The cores that may be used: the first ones of those that this process may run on."""
    return sorted(os.sched_getaffinity(0))[:CORES]


@contextlib.contextmanager
def pinned(to: list[int]) -> Iterator[None]:
    """Run this thread, and the processes it starts meanwhile, on these cores alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, to)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
