"""The application's configuration, where Django looks for it."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks


class BlockSMTPConfig(AppConfig):
    """The application "blocksmtp"."""

    name = "blocksmtp.contrib.django"
    label = "blocksmtp"
    verbose_name = "Mail reception"

    def ready(self) -> None:
        """See AppConfig."""
        from .checks import check_settings

        checks.register(check_settings)
