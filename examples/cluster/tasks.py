"""What is done with each message, by Celery's workers, wherever they run.

BROKER=redis://127.0.0.1:6379/0 celery --workdir examples/cluster --app tasks worker
"""

from __future__ import annotations

import base64
import os
import tempfile
from pathlib import Path

from celery import Celery

app = Celery("cluster", broker=os.environ.get("BROKER", "redis://127.0.0.1:6379/0"))
app.conf.update(
    task_ignore_result=True,
    # A task is done when it has returned, not when it has been fetched: should a worker die, it is
    # done again by another. So it must not matter that it is.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    # A connection for each thread of a node that may want one.
    broker_pool_limit=100,
    # Seconds. A client must not wait long for the news that the broker is away.
    broker_connection_timeout=2,
    broker_transport_options={"socket_timeout": 10, "socket_connect_timeout": 2},
)

STORE = Path(os.environ.get("STORE", "."))


@app.task(name="process_message")  # type: ignore[untyped-decorator]
def process_message(name: str, sender: str, recipients: list[str], content: str) -> None:
    """Store the message as a file: here stands what your application does with it.

    Its name is that of the message, and it is there whole or not at all: twice is as good as once.
    """
    descriptor, temporary = tempfile.mkstemp(dir=STORE, prefix=".new-")
    with open(descriptor, "wb") as file:
        file.write(f"Return-Path: <{sender}>\r\n".encode())
        file.write(base64.b64decode(content))
        file.flush()
        os.fsync(descriptor)
    os.replace(temporary, STORE / f"{name}.eml")
