"""Calling the application: its callbacks, their context, and what their results mean.

A callback accepts by returning and refuses by raising `SMTPError`. Whatever else it raises is a
defect of the application: the client gets a fixed 451, the caller of the machine a report.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..errors import SMTPError
from . import replies
from .replies import Reply

if TYPE_CHECKING:
    from ..session import SMTPSession

Callback = Callable[..., Any]
_Result = TypeVar("_Result")


class Callbacks(Protocol):
    """Where the callbacks are looked up, at every call: they may be replaced at any time."""

    on_connect: Callback | None
    on_secure: Callback | None
    on_auth: Callback | None
    on_mail_from: Callback | None
    on_rcpt_to: Callback | None
    on_data: Callback | None
    on_close: Callback | None
    on_vrfy: Callback | None
    on_rset: Callback | None
    scram_verifier: Callback | None
    callback_context: Callable[[SMTPSession], AbstractContextManager[Any]] | None


class Defect(Exception):
    """A failure of the application; the cause is what it raised. It has been reported."""


class Application:
    """The callbacks as the protocol machine sees them, for one session."""

    def __init__(
        self,
        callbacks: Callbacks,
        session: SMTPSession,
        report: Callable[[BaseException, str], None],
    ) -> None:
        """`report(error, where)` is told of each defect, once."""
        self._callbacks = callbacks
        self._session = session
        self._report = report

    def has(self, name: str) -> bool:
        """Whether there is a callback of this name."""
        return getattr(self._callbacks, name) is not None

    def call(
        self,
        name: str,
        *arguments: Any,
        check: Callable[[Any], _Result] | None = None,
        harmless: Callable[[BaseException], bool] = lambda error: False,
    ) -> _Result | Any:
        """The result of the callback `name`, None where there is none.

        `check` turns the result into what the caller wants, and raises TypeError or ValueError for
        a result that the callback may not return. `harmless` tells which errors are none of the
        application's fault.

        Raises SMTPError for a refusal, a harmless error as it is, Defect for all else.
        """
        callback = getattr(self._callbacks, name)
        if callback is None:
            return None
        try:
            result = self._in_context(callback, arguments)
            return result if check is None else check(result)
        except _ContextFailed as failed:
            error = failed.error
        except SMTPError:
            raise
        except BaseException as raised:  # Whatever the application does must not end the server.
            if harmless(raised):
                raise
            error = raised
        self.report(error, name)
        try:
            raise Defect(name) from error
        finally:
            del error  # Its traceback leads here: a cycle.

    def ask(self, name: str, code: int, enhanced: str, *arguments: Any) -> Reply | None:
        """None where the callback `name` accepts, else the reply that refuses.

        `code` and `enhanced` go into a refusal that brings none of its own.
        """
        if getattr(self._callbacks, name) is None:
            return None
        try:
            self.call(name, *arguments, self._session, check=no_verdict)
        except SMTPError as error:
            return replies.refusal(error, code, enhanced)
        except Defect:
            return replies.DEFECT
        return None

    def report(self, error: BaseException, where: str) -> None:
        """Tell of a defect of the application."""
        self._report(error, where)

    def _in_context(self, callback: Callback, arguments: tuple[Any, ...]) -> Any:
        context = self._callbacks.callback_context
        if context is None:
            return _plain(callback(*arguments))
        raised: BaseException | None = None
        result = None
        try:
            with context(self._session):
                try:
                    result = _plain(callback(*arguments))
                except BaseException as error:
                    raised = error
                    raise
            if raised is not None:
                # The context swallowed it; a refusal stays one all the same.
                raise raised
        except BaseException as error:
            if error is not raised:
                raise _ContextFailed(error) from error
            raise
        finally:
            raised = None  # Its traceback leads here: a cycle.
        return result


class _ContextFailed(Exception):
    """`callback_context` raised something of its own: a defect, whatever it is."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


def no_verdict(result: Any) -> None:
    """Raise TypeError where a callback returns what was meant to refuse, and would not."""
    if result is False or isinstance(result, (str, bytes)):
        raise TypeError(
            f"the callback returned {type(result).__name__}; to refuse, raise SMTPError"
        )


def _plain(result: Any) -> Any:
    """`result`, unless the callback turns out to be asynchronous: nobody would ever run it."""
    if result is not None and inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError("the callback returned an awaitable; callbacks are plain functions")
    return result
