"""The guestbook's own tests, with Django's TestCase: everything is rolled back."""

from django.contrib.auth.models import User
from django.db import connection
from django.test import TestCase, TransactionTestCase, override_settings

from blocksmtp import SMTPError, SMTPServer
from blocksmtp.contrib.django import authenticate, make_server, message_received
from guestbook.models import Blocked, Entry

MESSAGE = "Subject: {}\n\nWhat a lovely place!\n"


def send(client, subject="Hello", sender="ann@example.org", to="book@guestbook.example"):
    return client.send_message(MESSAGE.format(subject), sender, to)


class ReceptionTest(TestCase):
    def test_a_message_becomes_an_entry(self):
        with make_server().test_client() as client:
            reply = send(client)
        entry = Entry.objects.get()
        self.assertEqual(str(reply), f"250 2.6.0 entry {entry.pk}")
        self.assertEqual(entry.sender, "ann@example.org")
        self.assertEqual(entry.text, "What a lovely place!\n")

    def test_the_callback_sees_the_rows_of_the_test(self):
        Blocked.objects.create(address="eve@example.org")
        with make_server().test_client() as client:
            self.assertEqual(send(client, sender="eve@example.org").code, 550)
            self.assertEqual(send(client).code, 250)
        self.assertEqual(Entry.objects.count(), 1)

    def test_what_is_not_accepted_is_rolled_back(self):
        with make_server().test_client() as client:
            self.assertEqual(send(client, "refuse").code, 552)
            self.assertEqual(send(client, "fail").code, 451)
            self.assertEqual(Entry.objects.count(), 0)
            self.assertIsInstance(client.errors[0], ZeroDivisionError)
            self.assertEqual(send(client).code, 250)
        self.assertEqual(Entry.objects.count(), 1)

    def test_a_savepoint_a_message_and_nothing_else(self):
        with self.assertNumQueries(4), make_server().test_client() as client:
            send(client)

    def test_each_message_in_the_zone_and_language_of_the_settings(self):
        with make_server().test_client() as client:
            send(client)
            send(client)
        self.assertEqual(
            set(Entry.objects.values_list("zone", "language")), {("Europe/Vienna", "de")}
        )

    def test_recipient_domains(self):
        with make_server().test_client() as client:
            for to, code in (
                ("x@guestbook.example", 250),
                ("x@EXAMPLE.net", 250),
                ("x@sub.example.net", 250),
                ("x@sub.guestbook.example", 550),
                ("x@badexample.net", 550),
                ("x@elsewhere.example", 550),
            ):
                with self.subTest(to):
                    self.assertEqual(send(client, to=to).code, code)
            client.command("MAIL FROM:<ann@example.org>")
            self.assertEqual(client.command("RCPT TO:<Postmaster>").code, 250)

    @override_settings(BLOCKSMTP={"RECEIVER": "guestbook.receivers.receive"})
    def test_without_domains(self):
        with make_server().test_client() as client:
            self.assertEqual(send(client).code, 550)
        with self.settings(DEBUG=True), make_server().test_client() as client:
            self.assertEqual(send(client).code, 250)

    @override_settings(BLOCKSMTP={"RECIPIENT_DOMAINS": ["*"]})
    def test_by_signal(self):
        seen = []

        def keep(sender, message, **kwargs):
            seen.append((sender, message.subject))

        with make_server().test_client() as client:
            self.assertEqual(str(send(client))[:9], "451 4.3.5")
            message_received.connect(keep)
            self.addCleanup(message_received.disconnect, keep)
            self.assertEqual(send(client).code, 250)
        self.assertEqual(seen, [(SMTPServer, "Hello")])

    def test_users_of_django(self):
        User.objects.create_user("ann", password="sesame")
        User.objects.create_user("old", password="sesame", is_active=False)
        server = make_server(on_auth=authenticate, auth_optional=False)
        with server.test_client(secure=True) as client:
            self.assertEqual(send(client).code, 530)
            self.assertEqual(client.login("ann", "wrong").code, 535)
            self.assertEqual(client.login("old", "sesame").code, 535)
            self.assertEqual(client.login("ann", "sesame", "LOGIN").code, 235)
            self.assertEqual(client.session.user, User.objects.get(username="ann"))
            self.assertEqual(send(client).code, 250)

    def test_callbacks_of_one_s_own(self):
        closed = []
        server = make_server(
            on_rcpt_to=lambda address, session: None,
            on_data=lambda stream, session: stream.read()[:0].decode() or "mine",
            on_close=lambda session: closed.append(Entry.objects.count()),
        )
        with server.test_client() as client:
            self.assertEqual(str(send(client)), "250 2.6.0 mine")
            self.assertEqual(send(client, to="x@elsewhere.example").code, 550)
        self.assertEqual(closed, [0])


def keep(*args):
    """Without a look at the message."""
    return Entry.objects.create(sender="", text="", zone="", language="")


class OnlyWhatIsAcceptedIsCommittedTest(TestCase):
    def assert_kept(self, count):
        self.assertEqual(Entry.objects.count(), count)

    def server_with(self, receiver=None, **options):
        settings = {"RECIPIENT_DOMAINS": ["*"], "RECEIVER": receiver, "OPTIONS": options}
        with self.settings(BLOCKSMTP=settings):
            return make_server()

    def test_results_that_are_none(self):
        for server in (
            self.server_with(keep),
            self.server_with(on_data=keep),
            self.server_with(on_data=keep, lmtp=True),
        ):
            with server.test_client() as client:
                self.assertEqual(send(client).code, 451)
                self.assertIsInstance(client.errors[0], TypeError)
        self.assert_kept(0)

    def test_messages_that_are_too_large(self):
        for server in (
            self.server_with(lambda message: keep() and None, size=10),
            self.server_with(on_data=lambda *args: keep() and None, size=10),
        ):
            with server.test_client() as client:
                client.command("EHLO client.example")
                client.command("MAIL FROM:<>")
                client.command("RCPT TO:<book@guestbook.example>")
                self.assertEqual(client.data(b"x" * 100).code, 552)
        self.assert_kept(0)

    def test_messages_that_break_off(self):
        def pieces():
            yield b"beginning"
            raise OSError

        for server in (
            self.server_with(lambda message: keep() and None),
            self.server_with(on_data=lambda *args: keep() and None),
        ):
            with server.test_client() as client, self.assertRaises(OSError):
                client.send_message(pieces(), "", "book@guestbook.example")
        self.assert_kept(0)

    def test_of_lmtp_what_one_recipient_takes(self):
        full = SMTPError("Full", 452)
        for results, kept in ((["", full], 1), ([full, full], 1), ({"b@x.example": full}, 2)):
            server = self.server_with(on_data=lambda *args, r=results: keep() and r, lmtp=True)
            with server.test_client() as client:
                client.send_message("Hi\n", "", ["a@x.example", "b@x.example"])
            self.assert_kept(kept)

    def test_a_slow_client_keeps_no_transaction_open(self):
        before = len(connection.savepoint_ids)
        seen = []

        def pieces():
            for _ in range(3):
                seen.append(len(connection.savepoint_ids) - before)
                yield b"A line.\r\n"

        def receive(message):
            seen.append(len(connection.savepoint_ids) - before)
            self.assertEqual(message.stream.read(), b"A line.\r\n" * 3)

        with self.server_with(receive).test_client() as client:
            reply = client.send_message(pieces(), "", "book@guestbook.example")
        self.assertEqual(reply.code, 250)
        self.assertEqual(seen, [0, 0, 0, 1])


class OnTheWireTest(TransactionTestCase):
    def test_committed_once_it_is_acknowledged(self):
        import smtplib

        with make_server().listen(0, "127.0.0.1") as server:
            with smtplib.SMTP("127.0.0.1", server.port) as client:
                client.sendmail("ann@example.org", ["book@guestbook.example"], MESSAGE.format("a"))
                self.assertEqual(Entry.objects.count(), 1)
                with self.assertRaises(smtplib.SMTPDataError):
                    client.sendmail(
                        "ann@example.org", ["book@guestbook.example"], MESSAGE.format("fail")
                    )
        self.assertEqual(Entry.objects.count(), 1)
