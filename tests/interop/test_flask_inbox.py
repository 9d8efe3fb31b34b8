"""examples/flask_inbox, in Chromium."""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import staleness_of

from .browser import EXAMPLES, chromium, example, trap, waiting

PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360f8cfc000000003010100c9fe92ef0000000049454e44ae426082"
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, str]]:
    folder = tmp_path_factory.mktemp("inbox")
    with example("flask_inbox", folder, "--smtp-port=0", "--web-port=0") as (port, url, _):
        yield port, url


@pytest.fixture
def inbox(program: tuple[int, str]) -> tuple[int, str]:
    """The port for mail and the page of the example, without any message."""
    _, url = program
    ask(f"{url}clear", b"", {"Origin": url.rstrip("/")}).close()
    return program


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("browser")) as running:
        yield running


def a_message(subject: str = "Hello", text: str = "Hi!\n") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = (
        "ann@example.org",
        "bob@example.com",
        subject,
    )
    message.set_content(text)
    return message


def send(port: int, message: EmailMessage | bytes, to: str = "bob@example.com") -> None:
    content = message if isinstance(message, bytes) else message.as_bytes()
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.sendmail("ann@example.org", [to], content)


def newest(url: str) -> str:
    """The page of the message that came last."""
    with ask(f"{url}list") as answer:
        (number, *_) = re.findall(r'data-id="(\d+)"', answer.read().decode())
    return f"{url}messages/{number}"


def subjects(browser: webdriver.Chrome) -> list[str]:
    script = "return [...document.querySelectorAll('nav .subject')].map(each => each.textContent)"
    found: list[str] = browser.execute_script(script)
    return found


def ask(url: str, data: bytes | None = None, headers: dict[str, str] | None = None) -> Any:
    request = urllib.request.Request(url, data, headers or {})  # noqa: S310 - our own
    return urllib.request.urlopen(request, timeout=10)  # noqa: S310


def tab(browser: webdriver.Chrome, name: str) -> str:
    """Choose a tab; what it shows."""
    browser.find_element(By.CSS_SELECTOR, f"[data-tab={name}]").click()
    return browser.find_element(By.ID, name).text


def test_what_arrives_is_there_at_once(
    inbox: tuple[int, str], browser: webdriver.Chrome, tmp_path: Path
) -> None:
    port, url = inbox
    browser.get(url)
    assert "No mail yet" in browser.page_source
    send(port, a_message("First"))
    waiting(browser).until(lambda _: subjects(browser) == ["First"])
    send(port, a_message("Second"))
    waiting(browser).until(lambda _: subjects(browser) == ["Second", "First"])


def test_a_message_with_everything(
    inbox: tuple[int, str], browser: webdriver.Chrome, tmp_path: Path
) -> None:
    port, url = inbox
    message = a_message("Grüße & <b>more</b>", "See https://example.com/welcome\n")
    message.add_alternative(
        '<h1 id="here">Welcome!</h1><p>Read <a href="https://example.com/more">more</a>.</p>'
        '<img id="picture" src="cid:pic@example" width="40" height="40">',
        subtype="html",
    )
    message.get_payload()[1].add_related(PICTURE, "image", "png", cid="<pic@example>")  # type: ignore[index,union-attr]
    message.add_attachment(b"a,b\n1,2\n", maintype="text", subtype="csv", filename='ta"ble.csv')
    send(port, message)
    page = newest(url)
    for number in range(3):
        send(port, a_message(f"Report {number}"))
    browser.get(page)
    assert browser.find_element(By.TAG_NAME, "h2").text == "Grüße & <b>more</b>"
    browser.save_screenshot(str(tmp_path / "inbox.png"))
    browser.switch_to.frame(browser.find_element(By.TAG_NAME, "iframe"))
    assert browser.find_element(By.ID, "here").text == "Welcome!"
    picture = browser.find_element(By.ID, "picture")
    assert str(picture.get_attribute("src")).startswith("data:image/png;base64,")
    assert picture.get_property("naturalWidth") == 1
    browser.switch_to.default_content()
    assert tab(browser, "text") == "See https://example.com/welcome"
    assert "bob@example.com" in tab(browser, "headers")
    assert "multipart/alternative" in tab(browser, "source")
    assert "text/csv, 8 Bytes" in tab(browser, "attachments")
    assert tab(browser, "links").split() == [
        "https://example.com/welcome",
        "https://example.com/more",
    ]
    names = browser.find_elements(By.CSS_SELECTOR, "#attachments a")
    (address,) = [
        str(each.get_attribute("href"))
        for each in names
        if each.get_attribute("textContent") == 'ta"ble.csv'
    ]
    with ask(address) as answer:
        assert answer.read() == b"a,b\n1,2\n"
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Content-Disposition"].startswith("attachment;")


def assert_found(browser: webdriver.Chrome, expected: list[str]) -> None:
    waiting(browser).until(lambda _: subjects(browser) == expected)


def test_search(inbox: tuple[int, str], browser: webdriver.Chrome) -> None:
    port, url = inbox
    send(port, a_message("Invoice 100%", "for apples"))
    send(port, a_message("Invoice", "for pears"), to="eve@example.com")
    send(port, b"Subject: \xc3\x9cBER\r\n\r\na\x00behind\r\n")
    browser.get(url)
    for words, found in (
        ("invoice", ["Invoice", "Invoice 100%"]),
        ("pears", ["Invoice"]),
        ("eve@ invoice", ["Invoice"]),
        ("100%", ["Invoice 100%"]),
        ("über", ["ÜBER"]),
        ("BEHIND", ["ÜBER"]),
        ("nothing", []),
    ):
        field = browser.find_element(By.NAME, "q")
        field.clear()
        field.send_keys(words)
        field.submit()
        waiting(browser).until(staleness_of(field))
        assert_found(browser, found)


def test_delete_all(inbox: tuple[int, str], browser: webdriver.Chrome) -> None:
    port, url = inbox
    send(port, a_message())
    browser.get(url)
    browser.find_element(By.CSS_SELECTOR, "header button").click()
    waiting(browser).until(lambda _: "No mail yet" in browser.page_source)


def test_hostile_mail_does_nothing(inbox: tuple[int, str], browser: webdriver.Chrome) -> None:
    port, url = inbox
    with trap() as (elsewhere, visits):
        attack = f"""<!doctype html><title>x</title>
<script>top.document.title = 'taken'; fetch('{elsewhere}/script')</script>
<script src="{elsewhere}/script.js"></script><link rel=stylesheet href="{elsewhere}/style.css">
<link rel=preload as=image href="{elsewhere}/preload"><link rel=dns-prefetch href="{elsewhere}">
<link rel=preconnect href="{elsewhere}"><link rel=prefetch href="{elsewhere}/prefetch">
<style>@import '{elsewhere}/import.css'; body {{ background: url({elsewhere}/background) }}
@font-face {{ font-family: x; src: url({elsewhere}/font) }} body {{ font-family: x }}</style>
<meta http-equiv=refresh content="0;url={elsewhere}/refresh"><base href="{elsewhere}/">
<img src="{elsewhere}/image" onerror="fetch('{elsewhere}/onerror')">
<img srcset="{elsewhere}/set 1x">
<iframe src="{elsewhere}/frame"></iframe><object data="{elsewhere}/object"></object>
<video src="{elsewhere}/video" autoplay></video><audio src="{elsewhere}/audio" autoplay></audio>
<embed src="{elsewhere}/embed"><svg onload="fetch('{elsewhere}/svg')"></svg>
<svg><image href="{elsewhere}/svg"/></svg>
<form id=f action="{elsewhere}/form"><button autofocus onfocus="this.click()">x</button></form>
<a id=link href="{elsewhere}/link" target=_top>link</a><p id=end>end</p>"""
        message = a_message(
            "</span><script>document.title='taken'</script>", "</pre><script>1</script>"
        )
        message["X-Evil"] = f"<img src={elsewhere}/header>"
        message.add_alternative(attack, subtype="html")
        message.add_attachment(
            attack.encode(), maintype="text", subtype="html", filename="../../<script>.html"
        )
        send(port, message)
        page = newest(url)
        browser.get(page)
        for name in ("text", "headers", "source", "attachments", "links", "html"):
            tab(browser, name)
        title = browser.title
        browser.switch_to.frame(browser.find_element(By.CSS_SELECTOR, "#html iframe"))
        assert browser.find_element(By.ID, "end").text == "end"
        browser.switch_to.default_content()
        assert browser.current_url == page
        assert title.startswith("</span><script>")
        assert browser.title == title
        # Also where the message is opened outside of its frame.
        browser.get(f"{page}/html")
        assert browser.find_element(By.ID, "end").text == "end"
        assert visits == []


def test_a_link_opens_in_a_window_of_its_own(
    inbox: tuple[int, str], browser: webdriver.Chrome
) -> None:
    port, url = inbox
    with trap() as (elsewhere, visits):
        message = a_message()
        message.add_alternative(f'<a id="link" href="{elsewhere}/link">link</a>', subtype="html")
        send(port, message)
        browser.get(newest(url))
        page = browser.current_window_handle
        browser.switch_to.frame(browser.find_element(By.CSS_SELECTOR, "#html iframe"))
        browser.find_element(By.ID, "link").click()
        waiting(browser).until(lambda _: "/link" in visits)
        (opened,) = set(browser.window_handles) - {page}
        browser.switch_to.window(opened)
        assert browser.execute_script("return [window.opener, document.referrer]") == [None, ""]
        browser.close()
        browser.switch_to.window(page)
        browser.get("about:blank")


def test_huge_parts(inbox: tuple[int, str], browser: webdriver.Chrome) -> None:
    port, url = inbox
    message = a_message("x" * 5000, "y" * 70 + "\n" + "z z z z\n" * 500_000)
    message.add_alternative("<p>" * 300_000, subtype="html")
    deep = b"".join(
        b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (depth, depth)
        for depth in range(40)
    )
    many = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 2000
    for content in (deep + b"\r\nend\r\n", b"X-Many: y\r\n" * 2000 + many, message):
        send(port, content)
        browser.get(newest(url))
        assert len(browser.find_elements(By.TAG_NAME, "article")) == 1
        assert len(browser.page_source) < 2_000_000
    assert "only its beginning is shown" in browser.page_source


@pytest.mark.parametrize(
    ("path", "headers", "data", "status"),
    [
        ("", {"Host": "evil.example"}, None, 403),
        ("clear", {"Origin": "http://evil.example"}, b"", 403),
        ("clear", {}, b"", 403),
        ("messages/99", {}, None, 404),
        ("messages/99/html", {}, None, 404),
        ("messages/99999999999999999999999", {}, None, 404),
        ("{newest}/attachments/7", {}, None, 404),
    ],
)
def test_requests_that_are_refused(
    inbox: tuple[int, str], path: str, headers: dict[str, str], data: bytes | None, status: int
) -> None:
    port, url = inbox
    send(port, a_message())
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(url + path.replace("{newest}", newest(url).removeprefix(url)), data, headers)
    assert refused.value.code == status
    refused.value.close()


def pages(url: str) -> dict[str, str]:
    """All that is shown of the message that came last, and of its first attachment the header."""
    page = newest(url)
    shown = {}
    for name in ("", "/html", "/source"):
        with ask(page + name) as answer:
            shown[name] = answer.read().decode("utf-8", "replace")
    with contextlib.suppress(urllib.error.HTTPError), ask(f"{page}/attachments/0") as answer:
        shown["/attachments/0"] = answer.headers["Content-Disposition"]
    return shown


def attached(disposition: bytes) -> bytes:
    return (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\n"
        b"Content-Type: application/x-data\r\nContent-Disposition: %b\r\n\r\nx\r\n--b--\r\n"
    ) % disposition


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        (b"Subject: caf\xe9\r\n\r\n", "", "<h2>caf\ufffd</h2>"),
        (b"Subject: \xc3\x9cBER\r\n\r\n", "", "<h2>ÜBER</h2>"),
        (b"X-Eight: \xc3\x9c \xff\r\n\r\n", "", "<td>Ü \ufffd</td>"),
        (b"Subject: =?utf-7?Q?+2AA-?=\r\n\r\n", "", "<h2>=?utf-7?Q?+2AA-?=</h2>"),
        (b"Content-Type: text/plain; charset=utf-7\r\n\r\n+2AA-", "", "<pre>\ufffd"),
        (b"Content-Type: text/html; charset=utf-7\r\n\r\n+2AA-", "/html", "<body>\ufffd"),
        (attached(b"attachment; filename*=utf-7''a+2AA-b"), "/attachments/0", "a%EF%BF%BDb"),
        (attached(b"attachment; filename*"), "/attachments/0", "part-1"),
        (attached(b"attachment; filename*=utf-8''a%0D%0Ab"), "/attachments/0", "a__b"),
    ],
)
def test_what_cannot_be_encoded_is_shown(
    inbox: tuple[int, str], content: bytes, name: str, expected: str
) -> None:
    port, url = inbox
    send(port, content)
    assert expected in pages(url)[name]


@pytest.mark.parametrize(
    "content",
    [
        b'Content-Type: text/html\r\n\r\n<a href="http://x/' + b"a" * 5_000_000 + b'">x</a>',
        b"X-" + b"a" * 3_000_000 + b": x\r\n\r\n",
        attached(b"attachment; filename=" + b"a" * 1000),
        b"Content-Type: x/" + b"a" * 1000 + b"\r\n\r\n",
        b"Content-Type: text/html\r\n\r\n" + b"<div>" * 300_000,
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 1_000_000,
    ],
    ids=["link", "name", "filename", "type", "elements", "parts"],
)
def test_what_is_long_is_shortened(inbox: tuple[int, str], content: bytes) -> None:
    """Without that it takes longer than the ten seconds of `ask`, or a browser to show it."""
    port, url = inbox
    send(port, content)
    shown = pages(url)
    assert "only its beginning is shown" in shown[""]
    assert max(map(len, (shown[""], shown["/html"]))) < 1_000_000
    # smtplib ends the last line.
    assert len(shown["/source"].rstrip()) == len(content.rstrip())


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, EXAMPLES / "flask_inbox", f"--smtp-port={port}", "--web-port=0"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == f"flask_inbox: port {port}: Address already in use\n"
