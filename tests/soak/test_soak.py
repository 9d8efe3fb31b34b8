"""The soak on a small scale; and that it would notice a server that loses or doubles messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.certificates import Authority

from .counts import Fate
from .processes import ServerProcess
from .soak import Soak

DIALOGUES = 1_500

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to measure by"),
]


def test_soak() -> None:
    lines: list[str] = []
    report = Soak(DIALOGUES, 7, lines.append).run()
    assert report.complaints == []
    assert report.dialogues.total() == DIALOGUES
    acknowledged = report.tally.of(Fate.ACKNOWLEDGED)
    assert acknowledged > DIALOGUES / 2
    assert acknowledged <= report.tally.seen <= acknowledged + report.tally.of(Fate.UNHEARD)
    assert lines
    assert report.as_json()["servers"].keys() == {"before", "after", "closed"}


def test_what_is_under_way_is_not_counted(tmp_path: Path) -> None:
    for certificate in "ab":
        Authority().issue("mx.example").write(tmp_path, certificate)
    with ServerProcess("tests.soak.restless", tmp_path) as server:
        counted = {server.idle()[0].descriptors for _ in range(200)}
        assert server.idle()[1]["replaced"] > 10
    assert len(counted) == 1


def test_servers_that_do_wrong_are_found_out() -> None:
    report = Soak(400, 7, lambda line: None, server="tests.soak.spoilt").run()
    for wrong in (
        "lost: acknowledged, but not seen",
        "seen more than once",
        "seen, but never sent, or not like this: damaged",
        "incomplete, but taken for whole",
        "descriptors: ",
    ):
        assert any(wrong in complaint for complaint in report.complaints), wrong
