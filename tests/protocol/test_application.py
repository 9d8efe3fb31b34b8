"""Calling the application: acceptance, refusals, defects, contexts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from blocksmtp.errors import SMTPError
from blocksmtp.protocol.application import Defect
from blocksmtp.protocol.replies import DEFECT
from blocksmtp.session import SMTPSession
from tests.protocol.bench import Bench, Callback, GivenCallbacks


def raising(error: BaseException) -> Callback:
    def raise_it(*_arguments: object) -> None:
        raise error

    return raise_it


def bench_of(callback: Callback, context: Any = None) -> Bench:
    return Bench(callbacks=GivenCallbacks(on_rcpt_to=callback, callback_context=context))


def test_a_callback_gets_its_arguments() -> None:
    calls = []
    bench = bench_of(lambda *arguments: calls.append(arguments))
    assert bench.application.ask("on_rcpt_to", 550, "5.1.1", "address") is None
    assert calls == [("address", bench.session)]


def test_the_result_comes_back() -> None:
    assert bench_of(lambda: 7).application.call("on_rcpt_to") == 7
    assert bench_of(lambda: 7).application.call("on_rcpt_to", check=str) == "7"


def test_without_callback() -> None:
    bench = Bench()
    assert not bench.application.has("on_rcpt_to")
    assert bench.application.call("on_rcpt_to", check=raising(TypeError("not called"))) is None
    assert bench.application.ask("on_rcpt_to", 550, "5.1.1") is None


def test_callbacks_may_be_replaced_at_any_time() -> None:
    bench = Bench()
    bench.callbacks.on_rcpt_to = raising(SMTPError("no"))
    assert bench.application.has("on_rcpt_to")
    assert bench.application.ask("on_rcpt_to", 550, "5.1.1") is not None
    bench.callbacks.on_rcpt_to = None
    assert bench.application.ask("on_rcpt_to", 550, "5.1.1") is None


def test_a_refusal_is_no_defect() -> None:
    bench = bench_of(raising(SMTPError("Not here")))
    answer = bench.application.ask("on_rcpt_to", 550, "5.1.1")
    assert answer is not None
    assert answer.encode() == b"550 5.1.1 Not here\r\n"
    assert bench.defects == []


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("secret"),
        ConnectionRefusedError("the database is down"),
        StopIteration(),
        GeneratorExit(),
        SystemExit(1),
        AssertionError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_defect_is_reported_once_and_hidden(error: BaseException) -> None:
    bench = bench_of(raising(error))
    assert bench.application.ask("on_rcpt_to", 550, "5.1.1") is DEFECT
    assert bench.defects == [("on_rcpt_to", type(error).__name__)]


def test_the_cause_of_a_defect() -> None:
    error = RuntimeError("secret")
    with pytest.raises(Defect) as caught:
        bench_of(raising(error)).application.call("on_rcpt_to")
    assert caught.value.__cause__ is error
    assert "secret" not in str(caught.value)


def test_a_keyboard_interrupt_is_a_defect_as_well() -> None:
    bench = bench_of(raising(KeyboardInterrupt()))
    assert bench.application.ask("on_rcpt_to", 550, "5.1.1") == DEFECT
    assert bench.defects == [("on_rcpt_to", "KeyboardInterrupt")]


@pytest.mark.parametrize("result", [False, "550 No", b""])
def test_what_was_meant_to_refuse_is_a_defect(result: object) -> None:
    bench = bench_of(lambda *_: result)
    assert bench.application.ask("on_rcpt_to", 550, "5.1.1") == DEFECT
    assert bench.defects == [("on_rcpt_to", "TypeError")]


@pytest.mark.parametrize("result", [None, True, 0, []])
def test_another_result_is_as_good_as_none(result: object) -> None:
    assert bench_of(lambda *_: result).application.ask("on_rcpt_to", 550, "5.1.1") is None


def test_a_result_that_is_refused_is_a_defect() -> None:
    bench = bench_of(lambda: 7)
    with pytest.raises(Defect):
        bench.application.call("on_rcpt_to", check=raising(TypeError("not 7")))
    assert bench.defects == [("on_rcpt_to", "TypeError")]


def test_a_harmless_error_stays_as_it_is() -> None:
    error = OSError("the client is gone")
    bench = bench_of(raising(error))
    with pytest.raises(OSError, match="the client is gone"):
        bench.application.call("on_rcpt_to", harmless=lambda raised: raised is error)
    assert bench.defects == []
    with pytest.raises(Defect):
        bench.application.call("on_rcpt_to", harmless=lambda raised: raised is not error)
    assert bench.defects == [("on_rcpt_to", "OSError")]


# --- awaitables: nobody would ever run them ----------------------------------------------------


async def coroutine(*_arguments: object) -> None: ...


class Awaitable:
    def __await__(self) -> Iterator[None]:
        yield


@pytest.mark.parametrize("callback", [coroutine, Awaitable], ids=["coroutine", "other"])
def test_an_awaitable_is_a_defect(callback: Callback) -> None:
    """And leaves no warning of a coroutine that was never awaited."""
    bench = bench_of(callback)
    with pytest.raises(Defect) as caught:
        bench.application.call("on_rcpt_to")
    assert isinstance(caught.value.__cause__, TypeError)
    assert bench.defects == [("on_rcpt_to", "TypeError")]


# --- contexts ----------------------------------------------------------------------------------


class Context:
    """A callback_context that notes what happens; it can swallow, and fail at either end."""

    def __init__(
        self,
        *,
        swallow: bool = False,
        enter: BaseException | None = None,
        leave: BaseException | None = None,
    ) -> None:
        self.log: list[str] = []
        self._swallow = swallow
        self._enter = enter
        self._leave = leave

    @contextlib.contextmanager
    def __call__(self, session: SMTPSession) -> Iterator[None]:
        self.log.append(f"enter {session.id}")
        if self._enter is not None:
            raise self._enter
        try:
            yield
        except BaseException as error:
            self.log.append(f"saw {type(error).__name__}")
            if not self._swallow:
                raise
        finally:
            self.log.append("leave")
            if self._leave is not None:
                raise self._leave


def test_a_context_is_around_the_callback() -> None:
    context = Context()

    def callback() -> int:
        context.log.append("callback")
        return 7

    bench = bench_of(callback, context)
    assert bench.application.call("on_rcpt_to") == 7
    assert context.log == ["enter bench", "callback", "leave"]


def test_no_context_without_callback() -> None:
    context = Context()
    Bench(callbacks=GivenCallbacks(callback_context=context)).application.call("on_rcpt_to")
    assert context.log == []


def test_a_context_sees_what_is_raised() -> None:
    context = Context()
    answer = bench_of(raising(SMTPError("no")), context).application.ask("on_rcpt_to", 550, "5.1.1")
    assert answer is not None
    assert answer.code == 550
    assert context.log == ["enter bench", "saw SMTPError", "leave"]


def test_a_context_cannot_swallow_a_refusal() -> None:
    context = Context(swallow=True)
    bench = bench_of(raising(SMTPError("no")), context)
    answer = bench.application.ask("on_rcpt_to", 550, "5.1.1")
    assert answer is not None
    assert answer.code == 550
    assert bench.defects == []


def test_a_context_cannot_swallow_a_defect() -> None:
    context = Context(swallow=True)
    bench = bench_of(raising(RuntimeError()), context)
    assert bench.application.ask("on_rcpt_to", 550, "5.1.1") is DEFECT
    assert bench.defects == [("on_rcpt_to", "RuntimeError")]


def test_a_context_cannot_swallow_a_harmless_error() -> None:
    error = ConnectionError("the client is gone")
    bench = bench_of(raising(error), Context(swallow=True))
    with pytest.raises(ConnectionError, match="gone"):
        bench.application.call("on_rcpt_to", harmless=lambda raised: raised is error)
    assert bench.defects == []


@pytest.mark.parametrize(
    "context",
    [
        Context(enter=RuntimeError()),
        Context(leave=RuntimeError()),
        raising(RuntimeError()),
    ],
    ids=["enter", "leave", "call"],
)
def test_a_failing_context_is_a_defect(context: Any) -> None:
    bench = bench_of(lambda *_: None, context)
    assert bench.application.ask("on_rcpt_to", 550, "5.1.1") is DEFECT
    assert bench.defects == [("on_rcpt_to", "RuntimeError")]


def test_a_context_that_fails_after_a_refusal_is_a_defect() -> None:
    bench = bench_of(raising(SMTPError("no")), Context(leave=RuntimeError()))
    assert bench.application.ask("on_rcpt_to", 550, "5.1.1") is DEFECT
    assert bench.defects == [("on_rcpt_to", "RuntimeError")]


def test_an_awaitable_in_a_context() -> None:
    context = Context()
    bench = bench_of(coroutine, context)
    assert bench.application.ask("on_rcpt_to", 550, "5.1.1") is DEFECT
    assert bench.defects == [("on_rcpt_to", "TypeError")]
    assert context.log[-1] == "leave"


def test_what_is_no_context_is_a_defect() -> None:
    bench = bench_of(lambda *_: None, lambda session: None)
    assert bench.application.ask("on_rcpt_to", 550, "5.1.1") is DEFECT
    assert bench.defects[0][0] == "on_rcpt_to"
    assert len(bench.defects) == 1
