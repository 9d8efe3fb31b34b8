"""docs/django.md: its blocks are a project that works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.documents import Document

MODELS = """
from django.db import models

class Ticket(models.Model):
    sender = models.CharField(max_length=200)
    subject = models.CharField(max_length=200)
    text = models.TextField()
    open = models.BooleanField(default=True)
"""

SETTINGS = """
INSTALLED_APPS.append("helpdesk")
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""


def test_the_blocks(tmp_path: Path) -> None:
    document = Document("docs/django.md")
    blocks = [block for heading in document.sections for block in document.blocks(heading)]
    files = {block.splitlines()[0].removeprefix("# "): block for block in blocks}
    assert list(files) == ["settings.py", "helpdesk/mail.py", "helpdesk/tests.py"]
    files["settings.py"] += SETTINGS
    files["helpdesk/models.py"] = MODELS
    files["helpdesk/__init__.py"] = ""
    (tmp_path / "helpdesk").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "django", "test", "--settings=settings"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Ran 1 test" in done.stderr


def test_the_defaults() -> None:
    from blocksmtp.contrib.configuration import KEYS, Configuration

    shown: dict[str, str] = {}
    for names, defaults, _ in Document("docs/django.md").rows("The settings"):
        pairs = zip(names.split(", "), defaults.split(", "), strict=True)
        shown.update({name.strip("`"): default.strip("`") for name, default in pairs})
    assert tuple(shown) == KEYS
    usual = Configuration()
    assert shown["HOST"] == f'"{usual.host}"'
    assert shown["PORT"] == str(usual.port)
    assert shown["ATOMIC"] == str(usual.atomic)
