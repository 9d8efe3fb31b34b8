"""examples/django_helpdesk, in Chromium; what it sends is caught by the fixture."""

from __future__ import annotations

import re
import smtplib
from email.message import EmailMessage
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from blocksmtp.testing import MailCatcher

from .browser import chromium, example, waiting


def a_message(**header: str) -> EmailMessage:
    message = EmailMessage()
    fields = {
        "From": "Ann <ann@example.org>",
        "To": "help@example.com",
        "Subject": "The printer <b>burns</b>",
        "Message-ID": "<1@example.org>",
    }
    for name, value in {**fields, **{key.replace("_", "-"): header[key] for key in header}}.items():
        message[name] = value
    message.set_content("It is on fire.\n\n<script>document.title = 'taken'</script>\n")
    message.add_attachment("smoke\n", filename="photo.txt")
    return message


def send(port: int, message: EmailMessage) -> None:
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.send_message(message)


def log_in(browser: webdriver.Chrome, url: str, said: str) -> None:
    found = re.search(r"as (\S+) with the password (\S+)", said)
    assert found is not None
    browser.get(url)
    browser.find_element(By.NAME, "username").send_keys(found[1])
    browser.find_element(By.NAME, "password").send_keys(found[2])
    browser.find_element(By.CSS_SELECTOR, "[type=submit]").click()
    waiting(browser).until(lambda each: "Log out" in each.page_source)


def messages_on(browser: webdriver.Chrome) -> list[str]:
    return [each.text for each in browser.find_elements(By.CSS_SELECTOR, ".ticket-message p")]


@pytest.mark.timeout(120)
def test_from_mail_to_answer_and_back(smtp_server: MailCatcher, tmp_path: Path) -> None:
    smarthost = f"{smtp_server.host}:{smtp_server.port}"
    ports = ("--smtp-port=0", "--web-port=0")
    with (
        example("django_helpdesk", tmp_path, *ports, HELPDESK_SMARTHOST=smarthost) as started,
        chromium(tmp_path) as browser,
    ):
        port, url, said = started
        send(port, a_message())
        log_in(browser, url, said)
        browser.get(f"{url}tickets/ticket/")
        row = browser.find_element(By.CSS_SELECTOR, "#result_list tbody tr")
        assert "The printer <b>burns</b> ann@example.org open" in " ".join(row.text.split())
        browser.save_screenshot(str(tmp_path / "tickets.png"))
        row.find_element(By.CSS_SELECTOR, ".field-title a").click()
        (text,) = waiting(browser).until(messages_on)
        assert text == "It is on fire.\n\n<script>document.title = 'taken'</script>"
        assert browser.title != "taken"
        assert browser.find_element(By.LINK_TEXT, "photo.txt")

        browser.find_element(By.NAME, "answer").send_keys("Call the fire brigade.")
        browser.find_element(By.NAME, "_continue").click()
        waiting(browser).until(lambda each: len(messages_on(each)) == 2)
        (answer,) = smtp_server.wait_for(to="ann@example.org")
        assert answer.subject == "Re: The printer <b>burns</b>"
        assert (answer.text or "").strip() == "Call the fire brigade."
        assert answer.email["In-Reply-To"] == "<1@example.org>"

        again = a_message(Message_ID="<2@example.org>", In_Reply_To=answer.email["Message-ID"])
        send(port, again)
        browser.refresh()
        assert len(messages_on(browser)) == 3
        browser.save_screenshot(str(tmp_path / "ticket.png"))
        status = browser.find_element(By.CSS_SELECTOR, "[name=status] option:checked")
        assert status.text == "open"
        browser.get(f"{url}tickets/ticket/?q=brigade")
        assert len(browser.find_elements(By.CSS_SELECTOR, "#result_list tbody tr")) == 1
