"""The application's configuration."""

from django.apps import AppConfig


class TicketsConfig(AppConfig):
    """The application "tickets"."""

    name = "tickets"
