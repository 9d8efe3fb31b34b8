"""The dialogue: lines from a transport to the protocol machine, and its replies back.

Replies are gathered, and sent just before the next read that may have to wait: a pipelined group
(RFC 2920) gets its answers in as few packets as it takes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .errors import MessageAborted
from .logs import SessionLogger, shown_command
from .protocol.replies import Chunk, Next, Reply
from .text import printable
from .wire.body import DotStuffedBody, MessageBody, Pace
from .wire.chunked_body import ChunkedBody
from .wire.reader import LineTooLong, Patience, Reader
from .wire.writer import Writer

if TYPE_CHECKING:
    from .options import Options
    from .protocol.machine import Machine
    from .session import SMTPEnvelope
    from .wire.transport import Transport

# For the last reply to a client that may have stopped reading long ago.
_GOODBYE_SECONDS = 1.0


class MessageWatch:
    """Is told what becomes of messages; here it does not want to know."""

    @property
    def wanted(self) -> bool:
        """Whether it wants to."""
        return False

    def tell(self, envelope: SMTPEnvelope, codes: tuple[int, ...], *, written: bool) -> None:
        """A message has these replies, which have been `written`, or could not be."""


class Dialogue:
    """The conversation with one client, over one transport after the other."""

    def __init__(
        self,
        transport: Transport,
        options: Options,
        logger: SessionLogger,
        watch: MessageWatch | None = None,
    ) -> None:
        self._options = options
        self._watch = watch or MessageWatch()
        self._enhanced = not options.hide_enhanced_status_codes
        self._logger = logger
        # Asked before the log's lines are made, each of which costs more than the reply itself.
        self._logs = logger.logger.isEnabledFor
        self._shows = self._logs(logging.DEBUG)
        """Whether the dialogue is logged; looked up with each line of the client's."""
        self._patience = Patience(options.transaction_timeout)
        self._unanswered: Reply | None = None
        """What is to be done next in place of a command."""
        self.switch(transport)

    def switch(self, transport: Transport) -> None:
        """Go on over `transport`, with a reader of its own: nothing read before survives."""
        self.transport = transport
        idle_seconds, command_seconds = self._options.socket_timeout, self._options.command_timeout
        self._writer = Writer(transport, idle_seconds, command_seconds)
        # Not a method of ours: that would be a cycle, which outlasts the connection.
        before_wait = self._writer.flush
        self._reader = Reader(transport, before_wait, idle_seconds, command_seconds, self._patience)

    def write(self, reply: Reply) -> None:
        """Have `reply` sent with the next flush, or now where much is due."""
        octets = reply.encode(enhanced=self._enhanced)
        if self._shows:
            self._logger.debug("S: %s", f"{reply.code} ***" if reply.secret else printable(octets))
        self._writer.write(octets)

    def flush(self) -> None:
        """Send the replies that are due."""
        self._writer.flush()

    def say_goodbye(self, reply: Reply) -> None:
        """Send the last reply, if it can still be sent."""
        octets = reply.encode(enhanced=self._enhanced)
        self._logger.debug("S: %s", printable(octets))
        try:
            self._writer.write_last(octets, _GOODBYE_SECONDS)
        except ConnectionError as error:
            self._logger.debug("last reply not sent: %s", printable(str(error)))

    def converse(self, machine: Machine, upgrade: Callable[[], bool]) -> None:
        """Read commands and answer them, until an answer is the last.

        `upgrade()` switches to TLS, and tells whether the dialogue goes on. The last replies may be
        left to flush. Raises the ConnectionError that ends the dialogue early.
        """
        going_on = True
        while going_on:
            reply = self._next_reply(machine, machine.feed)
            if reply.then is Next.COMMAND:
                self.write(reply)
            else:
                going_on = self.carry_out(reply, machine, upgrade)

    def next_reply(self, machine: Machine) -> Reply:
        """The reply to the next command or SASL response; it is for `carry_out`. Raises as
        `converse`."""
        return self._next_reply(machine, machine.feed)

    def carry_out(self, reply: Reply, machine: Machine, upgrade: Callable[[], bool]) -> bool:
        """Write `reply`, and do what comes after; whether the dialogue goes on. See `converse`."""
        if reply.then is Next.BODY:
            if reply.chunk is None:
                self.invite(reply)
            return self.receive_message(machine, reply)
        if reply.then is Next.TLS:
            if self._reader.empty:
                self.write(reply)
                self.flush()
                return upgrade()
            # Said in clear, it would be heard as if said in TLS (CVE-2011-0411).
            self._logger.warning("octets follow STARTTLS in clear: connection closed")
            return False
        if reply.then is Next.DISCARD:
            self._read_away(reply)
        self.write(reply)
        return reply.then is not Next.CLOSE

    @property
    def has_input(self) -> bool:
        """Whether something was received that has not been answered."""
        return not self._reader.empty or self._unanswered is not None

    def _next_reply(
        self, machine: Machine, feed: Callable[[bytes], Reply], *, interruptible: bool = True
    ) -> Reply:
        """The reply to the next command or SASL response, which `feed` is given."""
        if self._unanswered is not None:
            reply, self._unanswered = self._unanswered, None
            return machine.resume() if reply.then is Next.ABORT else reply
        try:
            line = self._reader.readline(machine.line_limit, interruptible=interruptible)
        except LineTooLong as error:
            return machine.reject("Error: line too long", error.beginning)
        self._shows = self._logs(logging.DEBUG)
        if self._shows:
            secret = machine.authentication is not None
            self._logger.debug("C: %s", "***" if secret else shown_command(line))
        if line.endswith(b"\r\n"):
            return feed(line[:-2])
        if self._options.bare_newline == "reject":
            return machine.reject("Error: a line must end in CRLF", line)
        return feed(line[:-1])

    def invite(self, reply: Reply) -> None:
        """Let the client begin with the message that comes after `reply`."""
        self.write(reply)
        # The callback may do something else before it reads.
        self.flush()

    def receive_message(self, machine: Machine, reply: Reply) -> bool:
        """Receive the message that `reply` lets come, and answer; whether the dialogue goes on."""
        body = self._body(machine, reply)
        envelope = machine.session.envelope
        replies = machine.receive(body)
        if self._logs(logging.INFO):
            self._logger.info(
                "message of %d octets: %s",
                body.stream.byte_length,
                body.failure or ", ".join(str(reply.code) for reply in replies),
            )
        lost = body.failure if isinstance(body.failure, ConnectionError) else None
        if self._watch.wanted:
            self._answer_watched(envelope, replies)
        else:
            self._answer(replies)
        if lost is not None and not isinstance(lost, MessageAborted):
            raise lost
        return not any(reply.then is Next.CLOSE for reply in replies)

    def _answer(self, replies: Sequence[Reply]) -> None:
        for reply in replies:
            if reply.code < 400:
                self._patience.renew()
            self.write(reply)

    def _answer_watched(self, envelope: SMTPEnvelope, replies: Sequence[Reply]) -> None:
        """Answer at once, so that there is something to tell."""
        written = False
        try:
            self._answer(replies)
            if replies:
                self.flush()
                written = True
        finally:
            codes = tuple(reply.code for reply in replies)
            self._watch.tell(envelope, codes, written=written)

    def _body(self, machine: Machine, reply: Reply) -> MessageBody:
        options = self._options
        if reply.chunk is not None:
            chunks = _Chunks(self, machine, reply)
            return ChunkedBody(
                self._pace(), reply.chunk, chunks.acknowledge, chunks.next, options.size
            )
        return DotStuffedBody(self._pace(), self._reader, options.bare_newline, options.size)

    def _pace(self) -> Pace:
        options = self._options
        return Pace(
            self._reader, options.socket_timeout, options.data_min_rate, options.command_timeout
        )

    def _read_away(self, reply: Reply) -> None:
        """Read the octets that come before `reply` is due. Raises ConnectionError."""
        left = 0 if reply.chunk is None else reply.chunk.size
        pace = self._pace()
        pace.hurry()
        while left:
            left -= len(pace.read_some(left))

    # --- between the chunks of a message ---------------------------------------------------

    def acknowledge_chunk(self, reply: Reply) -> None:
        """A chunk has come. Raises ConnectionError."""
        if reply.chunk is not None and reply.chunk.size:
            # Who brings one after the other makes progress, however long the message.
            self._patience.renew()
        self.write(reply)
        if self._reader.empty:
            # The callback may take its time before it reads on.
            self.flush()

    def next_chunk(self, machine: Machine) -> Reply:
        """The reply that is due once the next chunk has come.

        Commands that may stand between chunks are answered. Raises MessageAborted where another
        comes, which is then for `converse`, and ConnectionError.
        """
        while True:
            # The message is in progress: a server that closes lets it finish.
            reply = self._next_reply(machine, machine.between_chunks, interruptible=False)
            if reply.then is Next.BODY:
                return reply
            if reply.then is not Next.COMMAND:
                self._unanswered = reply
                raise MessageAborted("the client gave the message up")
            self.write(reply)


class _Chunks:
    """The chunks of one message, as its body sees them."""

    def __init__(self, dialogue: Dialogue, machine: Machine, first: Reply) -> None:
        """`first` is the reply that is due once the first chunk has come."""
        self._dialogue = dialogue
        self._machine = machine
        self._reply = first

    def acknowledge(self) -> None:
        """Answer for the latest chunk."""
        self._dialogue.acknowledge_chunk(self._reply)

    def next(self) -> Chunk:
        """Wait for another."""
        self._reply = self._dialogue.next_chunk(self._machine)
        return self._reply.chunk or Chunk(0, last=False)
