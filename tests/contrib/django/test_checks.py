"""System checks of the setting BLOCKSMTP, in a process that has nothing else set up."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

CASES: list[tuple[Any, list[str]]] = [
    ({"RECEIVER": "json.loads", "RECIPIENT_DOMAINS": ["example.com"]}, []),
    ([], ["E001"]),
    ({"PORT": "25"}, ["E001"]),
    ({"PORT": True}, ["E001"]),
    ({"PORT": 65536}, ["E001"]),
    ({"RECIPIENT_DOMAINS": "example.com"}, ["E001"]),
    ({"RECIPIENT_DOMAINS": [1]}, ["E001"]),
    ({"ATOMIC": 1}, ["E001"]),
    ({"OPTIONS": []}, ["E001"]),
    ({"RECEIVER": 1}, ["E001"]),
    ({"RECIEVER": "json.loads"}, ["E002"]),
    ({"RECEIVER": "json.nothing", "RECIPIENT_DOMAINS": ["*"]}, ["E003"]),
    ({"RECEIVER": "json.__name__", "RECIPIENT_DOMAINS": ["*"]}, ["E003"]),
    ({"RECEIVER": "json.loads", "RECIPIENT_DOMAINS": ["*"], "OPTIONS": {"sise": 1}}, ["E004"]),
    ({"RECEIVER": "json.loads", "RECIPIENT_DOMAINS": ["*"], "OPTIONS": {"size": -1}}, ["E004"]),
    (
        {
            "RECEIVER": "json.loads",
            "RECIPIENT_DOMAINS": ["*"],
            "OPTIONS": {"on_rcpt_to": "json.nothing"},
        },
        ["E004"],
    ),
    ({"RECEIVER": "json.loads", "RECIPIENT_DOMAINS": ["*"], "ATOMIC": "other"}, ["E005"]),
    ({"RECEIVER": "json.loads"}, ["W001"]),
    ({"RECIPIENT_DOMAINS": ["*"]}, ["W002"]),
    ({"RECIPIENT_DOMAINS": ["*"], "OPTIONS": {"onData": "json.loads"}}, []),
    ({}, ["W001", "W002"]),
]

PROGRAM = """
import json, sys
import django
from django.conf import settings
from django.test.utils import override_settings
settings.configure(INSTALLED_APPS=["blocksmtp.contrib.django"])
django.setup()
from django.core.checks import run_checks
for value in json.load(sys.stdin):
    with override_settings(BLOCKSMTP=value):
        found = [each for each in run_checks() if each.id.startswith("blocksmtp.")]
        print(json.dumps([[each.id, each.msg, each.hint] for each in found]))
"""


def test_checks() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        input=json.dumps([value for value, _ in CASES]),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for (value, expected), messages in zip(CASES, found, strict=True):
        assert [each[0] for each in messages] == [f"blocksmtp.{name}" for name in expected], value
        assert all(each[1].startswith("BLOCKSMTP: ") for each in messages)
    hints = {each[2] for messages in found for each in messages}
    assert "Did you mean 'RECEIVER'?" in hints
