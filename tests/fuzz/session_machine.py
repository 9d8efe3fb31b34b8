"""A state machine over the protocol machine: any commands in any order, against the model.

Invariants: each line gets one reply, with the code that the model knows of; the envelope is what
the accepted commands made of it; a message gets its replies once; no exception escapes, and every
defect of the application, and nothing else, is reported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from blocksmtp.errors import ClientGone, SMTPError
from blocksmtp.options import COMMANDS
from blocksmtp.protocol.replies import Next, Reply
from blocksmtp.session import SMTPEnvelope
from tests.fuzz.conversation import whole_replies
from tests.fuzz.session_application import ALICE, DEFECTS, Application
from tests.fuzz.session_lines import (
    AUTH_LINES,
    NO_COMMANDS,
    OTHERS,
    PLAIN,
    RECIPIENTS,
    RESPONSES,
    SENDERS,
    encoded,
    options,
    verdicts,
)
from tests.fuzz.session_model import Answer, Model
from tests.protocol.bench import Bench, PlainBody

# When each rule may come. Named functions: older releases of Hypothesis read the source of a lambda
# again for every step.


def _is_connected(machine: SessionMachine) -> bool:
    return not machine.model.closed


def _is_talking(machine: SessionMachine) -> bool:
    return not machine.model.closed and machine.model.exchange is None


def _is_in_exchange(machine: SessionMachine) -> bool:
    return not machine.model.closed and machine.model.exchange is not None


def _has_ended(machine: SessionMachine) -> bool:
    return machine.model.closed


connected = precondition(_is_connected)
talking = precondition(_is_talking)
in_exchange = precondition(_is_in_exchange)
ended = precondition(_has_ended)


class SessionMachine(RuleBasedStateMachine):
    """One client after the other, at a server with the same options."""

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[str, Any] = {}

    @initialize(given=options, secure=st.booleans())
    def connect(self, given: dict[str, Any], secure: bool) -> None:
        self.given = given
        self.application = Application()
        self.bench = Bench(callbacks=self.application.callbacks, secure=secure, **given)
        self.model = Model(self.bench.options, secure=secure)
        # Where XCLIENT may come, it is open yet.
        self.model.announced = "XCLIENT" not in self.model.offered()
        self.defects = 0
        self.envelope: SMTPEnvelope | None = None
        assert self.bench.machine.open().code == 220

    # --- saying something ------------------------------------------------------------------

    def _say(self, line: str, answer: Answer) -> Reply:
        """Say a line, to which the model knows the answer before any limit is reached."""
        return self._expect(self.bench.machine.feed(line.encode()), answer)

    def _expect(self, reply: Reply, answer: Answer) -> Reply:
        code = self.model.answered(answer)
        assert reply.code == code, (reply, answer)
        assert (reply.then is Next.CLOSE) is self.model.closed
        self._check_form(reply)
        return reply

    def _check_form(self, reply: Reply) -> None:
        octets = reply.encode(enhanced=not self.bench.options.hide_enhanced_status_codes)
        assert whole_replies(octets) == [octets]
        assert b"secret" not in octets

    def _asked(self, verdict: str) -> None:
        """The application is about to be asked."""
        self.defects += verdict in DEFECTS

    # --- commands --------------------------------------------------------------------------

    @talking
    @rule(recipients=st.integers(-1, 3), log_in=st.booleans())
    def begin(self, recipients: int, log_in: bool) -> None:
        """The usual way, as far as it goes: chance alone seldom gets deep into a transaction."""
        steps: list[Callable[[], None]] = [
            lambda: self.hello("LHLO" if self.model.options.lmtp else "EHLO", "c.example")
        ]
        if log_in:
            steps.append(lambda: self.auth(f"PLAIN {encoded(PLAIN)}", "accept"))
        if recipients >= 0:
            steps.append(lambda: self.mail("FROM:<a@client.example>", "accept"))
        steps += [lambda: self.rcpt("TO:<b@server.example>", "accept")] * recipients
        for step in steps:
            if _is_talking(self):
                step()

    @talking
    @rule(
        verb=st.sampled_from(["EHLO", "HELO", "LHLO"]),
        name=st.sampled_from(["c.example", "c.example", "[192.0.2.7]", "", "two words", "ü"]),
    )
    def hello(self, verb: str, name: str) -> None:
        wrong = name in ("", "two words", "ü")
        answer = self.model.refusal(verb) or Answer(501 if wrong else 250, bad=wrong)
        if answer.code == 250:
            self.model.forget_transaction()
            self.model.hello = verb
        reply = self._say(f"{verb} {name}", answer)
        if reply.code == 250 and verb != "HELO":
            offered = {line.split()[0] for line in reply.lines[1:]}
            assert offered & set(COMMANDS) == self.model.offered()

    @talking
    @rule(argument=st.sampled_from(["", "", " now"]), verdict=verdicts)
    def starttls(self, argument: str, verdict: str) -> None:
        model = self.model
        answer = model.refusal("STARTTLS")
        if answer is None and argument:
            answer = Answer(501, bad=True)
        if answer is None and model.secure:
            answer = Answer(503, bad=True)
        reply = self._say(f"STARTTLS{argument}", answer or Answer(220))
        if answer is not None:
            assert reply.then is not Next.TLS
            return
        assert reply.then is Next.TLS
        self.application.verdict = verdict
        self._asked(verdict)
        model.tls_started()
        model.closed = not self.bench.machine.tls_started(object())
        assert model.closed is (verdict != "accept")

    @talking
    @rule(line=st.sampled_from(list(AUTH_LINES)), verdict=verdicts)
    def auth(self, line: str, verdict: str) -> None:
        model = self.model
        answer = model.refusal("AUTH")
        if answer is None and (model.user is not None or model.sender is not None):
            answer = Answer(503, bad=True)
        if answer is None and not model.secure and not model.options.allow_insecure_auth:
            answer = Answer(538, bad=True)
        follows = AUTH_LINES[line]
        if answer is None and line.split(maxsplit=1)[0].upper() not in model.options.auth_methods:
            answer = Answer(501 if line.count(" ") > 1 else 504, bad=True)
        if answer is None and isinstance(follows, int):
            answer = Answer(follows, bad=True)
        self._exchange(f"AUTH {line}", answer or self._step(str(follows), verdict))

    @in_exchange
    @rule(
        kind=st.sampled_from(["right", "right", "nonsense", "no base64", "cancelled"]),
        verdict=verdicts,
    )
    def respond(self, kind: str, verdict: str) -> None:
        model = self.model
        step = model.exchange
        assert step is not None
        right, follows, nonsense = RESPONSES.get(step, (b"", "", b""))
        line = {"right": encoded(right), "nonsense": encoded(nonsense), "cancelled": "*"}
        answer = Answer(501, bad=True)
        model.exchange = None
        if step == "over":
            answer = Answer(model.outcome)
        elif kind == "right":
            answer = self._step(follows, verdict)
        self._exchange(line.get(kind, "!"), answer)

    def _step(self, follows: str, verdict: str) -> Answer:
        """The answer to a line after which comes the step `follows`."""
        model = self.model
        if not follows.startswith("judge"):
            model.exchange = follows
            return Answer(334)
        self.application.verdict = verdict
        self._asked(verdict)
        model.outcome = model.judged(verdict)
        if verdict == "refuse" and follows == "judge xoauth2":
            model.exchange = "over"
            return Answer(334)
        if model.outcome == 235:
            model.user = ALICE
        return Answer(model.outcome)

    def _exchange(self, line: str, answer: Answer) -> None:
        self._say(line, answer)
        if self.model.closed:
            self.model.exchange = None

    @talking
    @rule(argument=st.sampled_from(list(SENDERS)), verdict=verdicts)
    def mail(self, argument: str, verdict: str) -> None:
        model = self.model
        answer = model.refusal("MAIL")
        if answer is None and not argument:
            answer = SENDERS[argument]
        if answer is None and model.sender is not None:
            answer = Answer(503, bad=True)
        if answer is None:
            answer = self._sender(argument, verdict)
        self._say(f"MAIL {argument}".rstrip(), answer)
        if answer.code == 250:
            self.envelope = self.bench.session.envelope

    def _sender(self, argument: str, verdict: str) -> Answer:
        model = self.model
        answer = SENDERS[argument]
        if answer.code == 552 and model.options.size is None:
            answer = Answer(250)
        if "REQUIRETLS" in argument and model.secure:
            answer = Answer(250)
        if answer.code != 250:
            return answer
        model.forget_old_x_forward()
        model.announced = True
        self.application.verdict = verdict
        self._asked(verdict)
        if verdict != "accept":
            return Answer({"refuse": 550, "later": 450, "leave": 421}.get(verdict, 451))
        model.sender = argument[argument.index("<") + 1 : argument.index(">")]
        model.smtp_utf8 = "SMTPUTF8" in argument
        return answer

    @talking
    @rule(argument=st.sampled_from(list(RECIPIENTS)), verdict=verdicts)
    def rcpt(self, argument: str, verdict: str) -> None:
        model = self.model
        answer = model.refusal("RCPT")
        if answer is None and not argument:
            answer = RECIPIENTS[argument]
        if answer is None and model.sender is None:
            answer = Answer(503, bad=True)
        if answer is None:
            answer = self._recipient(argument, verdict)
        self._say(f"RCPT {argument}".rstrip(), answer)

    def _recipient(self, argument: str, verdict: str) -> Answer:
        model = self.model
        answer = RECIPIENTS[argument]
        if answer.code == 553 and model.smtp_utf8:
            answer = Answer(250)
        if answer.code != 250:
            return answer
        if len(model.recipients) >= model.options.max_recipients:
            return Answer(452)
        self.application.verdict = verdict
        self._asked(verdict)
        if verdict != "accept":
            return Answer({"refuse": 550, "later": 450, "leave": 421}.get(verdict, 451))
        model.recipients.append(argument[argument.index("<") + 1 : argument.index(">")])
        return answer

    @talking
    @rule(
        arrival=st.sampled_from(["whole", "whole", "too large", "broken", "bare newline"]),
        verdict=verdicts | st.just("each"),
    )
    def data(self, arrival: str, verdict: str) -> None:
        model = self.model
        answer = model.refusal("DATA")
        if answer is None and not model.recipients:
            answer = Answer(503, bad=True)
        reply = self._say("DATA", answer or Answer(354))
        assert (reply.then is Next.BODY) is (answer is None)
        if answer is None:
            self.application.verdict = verdict
            self._asked(verdict)
            self.defects += verdict == "each" and not model.options.lmtp
            self._receive(arrival)

    def _receive(self, arrival: str) -> None:
        model = self.model
        body = PlainBody()
        body.size_exceeded = arrival == "too large"
        if arrival == "broken":
            body.failure_at_end = ClientGone("the client closed the connection")
        if arrival == "bare newline":
            body.failure_at_end = SMTPError("Error: message contains bare CR or LF", 550)
        replies = self.bench.machine.receive(body)
        assert len(body.discarded) == 1
        codes = model.message_codes(arrival, self.application.verdict)
        assert [reply.code for reply in replies] == codes
        for reply in replies:
            self._check_form(reply)
        model.forget_transaction()
        model.messages += any(code < 400 for code in codes)
        model.closed = arrival == "broken" or 421 in codes

    @talking
    @rule(line=st.sampled_from(list(OTHERS)))
    def another_command(self, line: str) -> None:
        verb = line.split(maxsplit=1)[0].upper()
        answer = self.model.refusal(verb) or OTHERS[line]
        if verb == "RSET" and answer.code == 250:
            self.model.forget_transaction()
        self._say(line, answer)

    @talking
    @rule(line=st.sampled_from(list(NO_COMMANDS)))
    def no_command(self, line: str) -> None:
        self._say(line, NO_COMMANDS[line])

    @connected
    @rule(beginning=st.sampled_from([b"NOOP", b"NOOP", b"GET /index.html"]))
    def no_line(self, beginning: bytes) -> None:
        model = self.model
        answer = Answer(421) if beginning.startswith(b"GET") else Answer(500, bad=True)
        if model.exchange == "over":
            answer = Answer(model.outcome)
        model.exchange = None
        self._expect(self.bench.machine.reject("Error: line too long", beginning), answer)

    @talking
    @rule(
        attributes=st.sampled_from(
            ["NAME=a.example", *["LOGIN=alice HELO=me"] * 3, "NAME=x ADDR=no", "PROTO=FTP", ""]
        ),
        verdict=verdicts,
    )
    def xclient(self, attributes: str, verdict: str) -> None:
        model = self.model
        answer = model.refusal("XCLIENT") or self._proxied(attributes, model.options.use_xclient)
        login = "LOGIN" in attributes
        if answer is None and login:
            self.application.verdict = verdict
            self._asked(verdict)
            code = model.judged(verdict)
            answer = None if code == 235 else Answer(code)
        if answer is None:
            model.announced = True
            model.hello = None
            model.user = ALICE if login else None
            given = (word.partition("=") for word in attributes.split())
            model.x_client.update((attribute, value) for attribute, _, value in given)
        self._say(f"XCLIENT {attributes}".rstrip(), answer or Answer(220))

    @talking
    @rule(attributes=st.sampled_from(["NAME=proxied.example", "SOURCE=LOCAL", "ADDR=no", ""]))
    def xforward(self, attributes: str) -> None:
        model = self.model
        answer = model.refusal("XFORWARD") or self._proxied(attributes, model.options.use_xforward)
        if answer is None:
            model.forget_old_x_forward()
            name, _, value = attributes.partition("=")
            model.x_forward[name] = value
        self._say(f"XFORWARD {attributes}".rstrip(), answer or Answer(250))

    def _proxied(self, attributes: str, allowed: object) -> Answer | None:
        """How XCLIENT and XFORWARD are refused, None where they are not."""
        if not attributes:
            return Answer(501, bad=True)
        if not allowed:
            return Answer(550, bad=True)
        if self.model.sender is not None:
            return Answer(503, bad=True)
        if "=no" in attributes or "FTP" in attributes:
            return Answer(501, bad=True)
        return None

    @ended
    @rule(secure=st.booleans())
    def connect_again(self, secure: bool) -> None:
        self.connect(self.given, secure)

    # --- what must hold after each ---------------------------------------------------------

    @invariant()
    def the_session_is_what_the_model_says(self) -> None:
        model, session, machine = self.model, self.bench.session, self.bench.machine
        envelope = session.envelope
        sender = None if envelope.mail_from is None else envelope.mail_from.raw
        assert sender == model.sender
        assert [address.raw for address in envelope.rcpt_to] == model.recipients
        assert envelope.smtp_utf8 is model.smtp_utf8
        assert (session.opening_command, session.user) == (model.hello, model.user)
        assert session.secure is model.secure
        assert session.transaction == model.messages
        assert (session.x_client, session.x_forward) == (model.x_client, model.x_forward)
        assert (envelope is self.envelope) is (model.sender is not None)
        assert self.bench.announced == model.announced
        if not model.closed:
            limit = 4096 if model.exchange is None else 12288
            assert (machine.line_limit(b"NOOP"), machine.line_limit(b"auth x")) == (limit, 12288)
            assert (machine.authentication is not None) is (model.exchange is not None)
        assert len(self.bench.defects) == self.defects
