"""The helpdesk's own tests: `python manage.py test`."""

import re
from unittest import mock

from django.contrib.auth.models import User
from django.core import mail
from django.test import TestCase, override_settings
from django.urls import reverse

from blocksmtp.contrib.django import make_server
from tickets.models import Attachment, Message, Ticket

MESSAGE = """\
From: Ann <ann@example.org>
To: help@example.com
Subject: The printer
Message-ID: <1@example.org>
{}
{}
"""


def send(header="", text="It is on fire.", sender="ann@example.org"):
    with make_server().test_client() as client:
        content = MESSAGE.format(header + "\n" if header else "", text)
        return client.send_message(content, sender, "help@example.com")


def follow_up(references, sender="ann@example.org"):
    content = f"From: {sender}\nMessage-ID: <2@example.org>\nReferences: {references}\n\nMore.\n"
    with make_server().test_client() as client:
        return client.send_message(content, sender, "help@example.com")


@override_settings(DEBUG=False)
class MailTest(TestCase):
    def test_a_ticket(self):
        self.assertEqual(send().code, 250)
        ticket = Ticket.objects.get()
        self.assertEqual(str(ticket), f"#{ticket.pk} The printer")
        self.assertEqual(ticket.requester, "ann@example.org")
        self.assertEqual(ticket.messages.get().text.strip(), "It is on fire.")

    def test_threaded_by_message_id(self):
        send()
        self.assertEqual(follow_up("<0@example.org> <1@example.org>").code, 250)
        self.assertEqual(Ticket.objects.get().messages.count(), 2)

    def test_nobody_else_writes_into_it(self):
        send()
        follow_up("<1@example.org>", "eve@example.org")
        self.assertEqual(Ticket.objects.count(), 2)

    def test_what_comes_twice_is_kept_once(self):
        send()
        self.assertIn("already", send().lines[0])
        self.assertEqual(Message.objects.count(), 1)

    def test_notifications_are_refused(self):
        self.assertEqual(send(sender="").code, 550)
        self.assertEqual(send("Auto-Submitted: auto-replied").code, 550)

    def test_attachments(self):
        header = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b"
        text = (
            "--b\n\nHi\n--b\nContent-Type: text/html\n"
            "Content-Disposition: attachment; filename=../x.html\n\n<script>\n--b--\n"
        )
        self.assertEqual(send(header, text).code, 250)
        attachment = Attachment.objects.get()
        self.client.force_login(User.objects.create_superuser("agent"))
        answer = self.client.get(reverse("admin:ticket_attachment", args=[attachment.pk]))
        self.assertEqual(answer.content.strip(), b"<script>")
        self.assertEqual(answer["Content-Type"], "application/octet-stream")
        self.assertTrue(answer["Content-Disposition"].startswith("attachment;"))
        self.client.logout()
        answer = self.client.get(reverse("admin:ticket_attachment", args=[attachment.pk]))
        self.assertEqual(answer.status_code, 302)

    def test_whole_or_not_at_all(self):
        header = "Content-Type: image/png"
        with mock.patch.object(Attachment.objects, "create", side_effect=ZeroDivisionError):
            self.assertEqual(send(header).code, 451)
        self.assertEqual(Ticket.objects.count(), 0)

    def test_what_no_database_takes(self):
        self.assertEqual(send("X: y", "nul \0, surrogate \\udc80").code, 250)

    def test_header_that_cannot_be_parsed(self):
        for number, hostile in enumerate(
            (
                "Message-ID: <",
                "In-Reply-To: =?utf-7?Q?<a+2AA-@x>?=",
                "From: =?utf-8?q?a=0Ab=40c?=",
                "Subject: =?utf-7?Q?+2AA-?=",
                "Subject: =?utf-8?q?a=00b?=",
                "Content-Disposition: attachment; filename*=utf-8''a%00%0Ab",
                f"Subject: {'a' * 300}\nContent-Type: {'a' * 300}/b; name={'a' * 300}",
                f"Message-ID: <{'ä' * 900}@x>",
            ),
            1,
        ):
            with self.subTest(hostile), make_server().test_client() as client:
                reply = client.send_message(f"{hostile}\n\nHi\n", "a@b.c", "help@example.com")
                self.assertEqual((reply.code, client.errors), (250, []))
                self.assertEqual(Ticket.objects.count(), number)

    def test_what_cannot_be_read_does_not_come_again(self):
        with mock.patch("blocksmtp.message.IncomingMessage.attachments", property(lambda _: 1 / 0)):
            self.assertEqual(send().code, 554)
        self.assertEqual(Ticket.objects.count(), 0)

    def test_long_fields(self):
        self.assertEqual(send("Reply-To: " + '"' * 200_000).code, 250)

    def test_too_many_parts(self):
        header = "Content-Type: multipart/mixed; boundary=b"
        self.assertEqual(send(header, "--b\n\n" * 99).code, 250)
        reply = send(header, "--b\n\n" * 20_000)
        self.assertEqual((reply.code, reply.lines), (554, ["5.6.0 Error: more than 100 parts"]))

    def test_html(self):
        for html, text in (
            ("<style>p{}</style><p>a &amp; b</p><script>alert(1)</script>", "a & b"),
            ("<title>t</title><p>a\nb</p>\n\n<p>c<br>d</p>", "a b\n\nc\nd"),
            ("<!--[if mso]><b>a</b><![endif]-->1 < 2 <SCRIPT\n>b</SCRIPT >&lt;3<!-- c", "1 < 2 <3"),
            ("a&#0;&#xd800;&#" + "9" * 5000 + ";", "a\ufffd\ufffd\ufffd"),
        ):
            with self.subTest(html):
                Ticket.objects.all().delete()
                self.assertEqual(send("Content-Type: text/html", html).code, 250)
                self.assertEqual(Message.objects.get().text, text)

    def test_html_in_one_pass(self):
        for piece in ("<", "<!--", "<script>", "<a href='", "&#1", "</"):
            with self.subTest(piece):
                Ticket.objects.all().delete()
                self.assertEqual(send("Content-Type: text/html", piece * 100_000).code, 250)

    def test_other_domains(self):
        with make_server().test_client() as client:
            reply = client.send_message(MESSAGE, "ann@example.org", "help@elsewhere.example")
        self.assertEqual(reply.code, 550)


class AnswerTest(TestCase):
    def setUp(self):
        send()
        self.ticket = Ticket.objects.get()
        self.client.force_login(User.objects.create_superuser("agent"))
        self.page = reverse("admin:tickets_ticket_change", args=[self.ticket.pk])

    def save(self, text):
        return self.client.post(self.page, {"status": "open", "answer": text}, follow=True)

    def test_an_answer(self):
        self.save("Call the fire brigade.")
        (sent,) = mail.outbox
        self.assertEqual(sent.to, ["ann@example.org"])
        self.assertEqual(sent.extra_headers["In-Reply-To"], "<1@example.org>")
        self.ticket.refresh_from_db()
        self.assertEqual(self.ticket.status, "answered")
        follow_up(sent.extra_headers["Message-ID"])
        self.ticket.refresh_from_db()
        self.assertEqual((self.ticket.status, self.ticket.messages.count()), ("open", 3))

    def test_without_one(self):
        self.save("")
        self.assertEqual(mail.outbox, [])

    def test_it_cannot_be_sent(self):
        # The second is what Django makes of the address "a@[".
        for error in (OSError("no route"), AttributeError("no route")):
            with mock.patch("tickets.mail.EmailMessage.send", side_effect=error):
                page = self.save("Call the fire brigade.")
            self.assertContains(page, "The answer was not sent: no route")
            self.assertContains(page, "Call the fire brigade.")
        self.assertEqual(self.ticket.messages.count(), 1)

    def test_it_cannot_be_addressed(self):
        Ticket.objects.update(requester="a@" + "ä" * 100 + ".de")
        page = self.save("Call the fire brigade.")
        self.assertContains(page, "The answer was not sent: ")
        self.assertContains(page, "Call the fire brigade.")
        self.assertEqual((mail.outbox, self.ticket.messages.count()), ([], 1))

    def test_what_looks_like_an_encoded_word(self):
        with make_server().test_client() as client:
            content = "Subject: =?utf-8?q?=3D=3Futf-7=3FQ=3F+2AA-=3F=3D?=\n\n"
            client.send_message(content, "bob@example.org", "help@example.com")
        ticket = Ticket.objects.get(requester="bob@example.org")
        self.page = reverse("admin:tickets_ticket_change", args=[ticket.pk])
        self.save("Call the fire brigade.")
        self.assertIn("Re: ", mail.outbox[0].message()["Subject"])

    def test_the_page_is_text(self):
        self.ticket.messages.create(
            sender="<b>", message_id="<3@x>", text="<script>alert(1)</script>"
        )
        page = self.client.get(self.page).content.decode()
        self.assertIn("&lt;script&gt;alert(1)&lt;/script&gt;", page)
        self.assertIsNone(re.search("<script>alert", page))
