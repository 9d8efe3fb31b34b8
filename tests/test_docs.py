"""docs/ and SECURITY.md say what is so: names, defaults, links, and blocks that run."""

from __future__ import annotations

import re
import smtplib
from pathlib import Path

import pytest

from blocksmtp.options import Options, TLSOptions
from tests.certificates import Authority
from tests.documents import ROOT, Document, run

DOCUMENTS = ["SECURITY.md", *(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md"))]
every_document = pytest.mark.parametrize("path", DOCUMENTS)

LIMITS = "The limits and their defaults"
INTERNET = "On the open Internet"


@pytest.fixture(scope="module")
def security() -> Document:
    return Document("docs/security.md")


@every_document
def test_links_lead_somewhere(path: str) -> None:
    Document(path).assert_links_lead_somewhere()


@every_document
def test_tests_that_are_named_exist(path: str) -> None:
    for name in re.findall(r"`(tests/[^`]*)`", Document(path).text):
        assert (ROOT / name).exists(), name


def test_every_advisory_is_documented(security: Document) -> None:
    """A file of tests/advisories stands in the table of promises, with the numbers in it."""
    promised = security.sections["What is promised"]
    for path in (ROOT / "tests" / "advisories").glob("test_*.py"):
        assert f"`tests/advisories/{path.name}`" in promised, path.name
    named = set(re.findall(r"CVE-\d+-\d+", promised))
    tested = {
        number
        for path in (ROOT / "tests" / "advisories").glob("*.py")
        for number in re.findall(r"CVE-\d+-\d+", path.read_text("utf-8"))
    }
    assert named <= tested, "numbers that no test stands for"


def test_defaults_are_those_of_the_options(security: Document) -> None:
    shown: dict[str, str] = {}
    for _, bounded_by, default in security.rows(LIMITS):
        names = re.findall(r"`(\w+)`", bounded_by)
        if len(names) == 1:
            shown[names[0]] = default.strip("*")
    options = Options()
    for name in ("transaction_timeout", "close_timeout", "max_clients", "size", "max_recipients"):
        assert name in shown
    for name, text in shown.items():
        if name == "resolver":
            continue
        value = getattr(options, name)
        number = re.match(r"\d+", text)
        if value is None:
            assert text.startswith("no limit"), name
        else:
            assert number is not None, name
            assert int(number[0]) == value, name


def test_every_option_that_is_named_exists(security: Document) -> None:
    known = set(Options.__dataclass_fields__) | set(TLSOptions.__dataclass_fields__)
    for name, _ in re.findall(r"`(\w+)(=[^`]*)?`", security.sections[LIMITS]):
        assert name in known, name


def test_the_server_for_the_internet(security: Document, tmp_path: Path) -> None:
    (source,) = security.blocks(INTERNET)
    leaf = Authority().issue("mx.example.com")
    pem = tmp_path / "mx.pem"
    pem.write_bytes(leaf.cert + leaf.key)
    places = {"/etc/ssl/mx.example.com.pem": str(pem), "greeting_delay=1.0": "greeting_delay=0.0"}
    with run(source, places)["server"] as server:
        server.listen(0, "127.0.0.1")
        with smtplib.SMTP("127.0.0.1", server.port) as client:
            client.sendmail("me@example.org", ["Info@example.com"], "Subject: S\r\n\r\nHello!")
            client.mail("me@example.org")
            codes = [client.rcpt(f"user{number}@example.com")[0] for number in range(6)]
            assert codes == [550] * 5 + [421]
