"""Settings of a small project: a guestbook that takes its entries by mail."""

import os
from pathlib import Path

SECRET_KEY = "for tests only"
DEBUG = bool(os.environ.get("GUESTBOOK_DEBUG"))
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "blocksmtp.contrib.django",
    "guestbook",
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "Europe/Vienna"
LANGUAGE_CODE = "de"

if "GUESTBOOK_POSTGRESQL" in os.environ:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "guestbook",
            "USER": "guestbook",
            "HOST": os.environ["GUESTBOOK_POSTGRESQL"],
            "CONN_MAX_AGE": 60,
            "CONN_HEALTH_CHECKS": True,
        }
    }
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ.get(
                "GUESTBOOK_DATABASE", Path(__file__).parent / "guestbook.sqlite3"
            ),
            "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE"},
        }
    }

BLOCKSMTP = {
    "RECEIVER": "guestbook.receivers.receive",
    "RECIPIENT_DOMAINS": ["guestbook.example", ".example.net"],
    "OPTIONS": {
        "name": "mx.guestbook.example",
        "disable_reverse_lookup": True,
        "on_mail_from": "guestbook.receivers.check_sender",
    },
}
