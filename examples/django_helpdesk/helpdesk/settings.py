"""Settings of the helpdesk. What differs between machines comes from the environment."""

import os
import secrets
from pathlib import Path

import django

DATA = Path(os.environ.get("HELPDESK_DATA", Path(__file__).parent.parent))
DEBUG = os.environ.get("HELPDESK_DEBUG") == "1"
SECRET_KEY = os.environ.get("HELPDESK_SECRET_KEY") or secrets.token_hex(32)
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "blocksmtp.contrib.django",
    "tickets",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "helpdesk.urls"
STATIC_URL = "static/"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA / "helpdesk.sqlite3",
        # Several threads write: each waits for its turn from the start of its transaction.
        "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"

# Where answers go: printed, unless there is a server that sends them on.
_SMARTHOST = os.environ.get("HELPDESK_SMARTHOST", "")
_BACKEND = f"django.core.mail.backends.{'smtp' if _SMARTHOST else 'console'}.EmailBackend"
_HOST, _, _PORT = _SMARTHOST.rpartition(":")
if django.VERSION >= (6, 1):
    _OPTIONS = {"host": _HOST, "port": int(_PORT)} if _SMARTHOST else {}
    MAILERS = {"default": {"BACKEND": _BACKEND, "OPTIONS": _OPTIONS}}
else:
    EMAIL_BACKEND = _BACKEND
    if _SMARTHOST:
        EMAIL_HOST, EMAIL_PORT = _HOST, int(_PORT)

HELPDESK_ADDRESS = "help@example.com"

BLOCKSMTP = {
    "RECEIVER": "tickets.mail.receive",
    "RECIPIENT_DOMAINS": ["*"] if DEBUG else ["example.com"],
    "OPTIONS": {
        "name": "help.example.com",
        "size": 10_000_000,
        "max_clients": 50,
        "disable_reverse_lookup": True,
    },
}
