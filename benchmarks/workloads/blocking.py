"""Many clients at once whose messages the application takes its time with."""

from __future__ import annotations

import threading
import time

from ..contenders import Feature
from ..errors import MeasurementError
from ..load.client import Session, connect
from ..load.usage import Sample, usage
from ..processes import Server, Settings
from ..scale import Scale
from .workload import Workload

_MESSAGES = 3
_BODY = b"Subject: hello\r\n\r\nHello!\r\n.\r\n"
_SLEEP = 0.2


class BlockingCallback(Workload):
    """A callback that makes a blocking call of 200 ms."""

    name = "blocking-callback"
    needs = Feature.CALLBACK
    settings = Settings(sleep=_SLEEP)
    # What is left of a round would be in the way of the next.
    fresh = True
    unit = "messages/s"
    most_rounds = 3

    def __init__(self, scale: Scale) -> None:
        self.title = f"{scale.blocked_clients} clients, a callback that blocks 200 ms"
        self.explanation = (
            f"Each client delivers {_MESSAGES} messages on a session that is open already; what "
            f"is not done after {scale.patience:g} s is left, and the rate is that up to the last "
            "message that was. On Node and Bun, and for `aiosmtpd, blocked`, the call blocks the "
            "event loop; aiosmtpd awaits `asyncio.to_thread(time.sleep, 0.2)`, whose pool has a "
            "few threads more than the machine has cores."
        )
        self._scale = scale

    def prepare(self, server: Server) -> int:
        return self._scale.blocked_clients

    def measure(self, server: Server, amount: int) -> Sample:
        sessions = [Session(connect(server.port)) for _ in range(amount)]
        try:
            for session in sessions:
                session.greet()
            return self._deliver(sessions, server)
        finally:
            for session in sessions:
                session.sock.close()

    def _deliver(self, sessions: list[Session], server: Server) -> Sample:
        finished: list[float] = []
        failures: list[Exception] = []
        ending = threading.Event()

        def client(session: Session) -> None:
            try:
                for _ in range(_MESSAGES):
                    session.deliver(_BODY)
                    finished.append(time.monotonic())
            except (OSError, MeasurementError) as error:
                if not ending.is_set():
                    failures.append(error)

        threads = [threading.Thread(target=client, args=(session,)) for session in sessions]
        before = usage(server)
        deadline = before.wall + self._scale.patience
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        used = usage(server).since(before)
        in_time = sorted(finished)
        ending.set()
        for session, thread in zip(sessions, threads, strict=True):
            if thread.is_alive():
                session.sock.shutdown(2)
            thread.join()
        if failures or not in_time:
            raise MeasurementError(str(failures[0]) if failures else "no message was accepted")
        seconds = in_time[-1] - before.wall
        return Sample(len(in_time) / seconds, used.load / used.wall, used.server / used.wall)
