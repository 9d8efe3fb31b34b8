"""Targets: each is about something that is measured, and none is met that was not."""

from __future__ import annotations

import pytest

from benchmarks.comparison import shown, target_times_better, times_better
from benchmarks.contenders import BY_NAME
from benchmarks.scale import FULL
from benchmarks.targets import BEST_PEER, TARGETS, Bound, Target, judge
from benchmarks.workloads import all_workloads

from .made_up import measured, results

WORKLOADS = {workload.name: workload for workload in all_workloads(FULL)}


def target(workload: str, peer: str | None, bound: Bound = Bound.AT_LEAST) -> Target:
    (found,) = [
        each
        for each in TARGETS
        if (each.workload, each.peer, each.bound) == (workload, peer, bound)
        and each.ours == "blocksmtp"
    ]
    return found


def test_every_target_is_about_what_is_measured() -> None:
    assert len(TARGETS) == 24
    for each in TARGETS:
        assert each.workload in WORKLOADS
        assert each.ours in BY_NAME
        assert each.peer in (None, BEST_PEER) or each.peer in BY_NAME
        smaller = WORKLOADS[each.workload].smaller_is_better
        assert (each.bound is Bound.AT_MOST) == smaller
    assert {each.workload for each in TARGETS} == set(WORKLOADS)


@pytest.mark.parametrize(("ours", "met"), [(2.0, True), (1.99, False)])
def test_at_least(ours: float, met: bool) -> None:
    found = judge(
        target("messages-1", "aiosmtpd"),
        results(messages_1={"blocksmtp": measured(ours), "aiosmtpd": measured(1.0)}),
    )
    assert (found.value, found.met, found.peer) == (ours, met, "aiosmtpd")


@pytest.mark.parametrize(("ours", "met"), [(0.5, True), (0.51, False)])
def test_at_most(ours: float, met: bool) -> None:
    found = judge(
        target("latency", "aiosmtpd", Bound.AT_MOST),
        results(latency={"blocksmtp": measured(ours), "aiosmtpd": measured(1.0)}),
    )
    assert (found.value, found.met) == (ours, met)


@pytest.mark.parametrize(("ours", "met"), [(6.0, True), (6.1, False)])
def test_in_units_without_a_peer(ours: float, met: bool) -> None:
    found = judge(
        target("large-message", None, Bound.AT_MOST),
        results(large_message={"blocksmtp": measured(ours), "aiosmtpd": measured(500.0)}),
    )
    assert (found.value, found.met, found.peer) == (ours, met, None)


def test_the_best_peer_is_a_product() -> None:
    """Neither an anchor, which does less than a product has to, nor blocksmtp itself."""
    figures = {
        "blocksmtp": measured(90.0),
        "aiosmtpd": measured(50.0),
        "smtp-server-bun": measured(100.0),
        "bun-bare": measured(900.0),
    }
    found = judge(target("tls-full", BEST_PEER), results(tls_full=figures))
    assert (found.value, found.met, found.peer) == (0.9, True, "smtp-server-bun")


def test_what_was_not_measured_is_not_met() -> None:
    ours = results(recipients_50={"blocksmtp": measured(1000.0)})
    found = judge(target("recipients-50", "bun-smtp"), ours)
    assert (found.value, found.met) == (None, None)
    assert found.reason == "bun-smtp is left out"
    found = judge(target("messages-1", "aiosmtpd"), ours)
    assert (found.met, found.reason) == (None, "blocksmtp: not in this run")
    found = judge(target("tls-full", BEST_PEER), results(tls_full={"blocksmtp": measured(1.0)}))
    assert (found.met, found.reason) == (None, "no other product was measured")


def test_better_means_the_same_where_less_is_better() -> None:
    latency, rate = WORKLOADS["latency"], WORKLOADS["messages-1"]
    ours = results(
        latency={"blocksmtp": measured(0.5), "aiosmtpd": measured(1.0)},
        messages_1={"blocksmtp": measured(2.0), "aiosmtpd": measured(1.0)},
    )
    assert times_better(ours, latency, "aiosmtpd") == 2.0
    assert times_better(ours, rate, "aiosmtpd") == 2.0
    assert times_better(ours, rate, "smtp-sink") is None
    assert target_times_better(target("latency", "aiosmtpd", Bound.AT_MOST)) == 2.0
    assert target_times_better(target("messages-1", "aiosmtpd")) == 2.0


@pytest.mark.parametrize(
    ("number", "text"), [(0.254, "0.25"), (9.5, "9.50"), (12.34, "12.3"), (12345.6, "12,346")]
)
def test_a_number_has_the_digits_that_say_something(number: float, text: str) -> None:
    assert shown(number) == text
