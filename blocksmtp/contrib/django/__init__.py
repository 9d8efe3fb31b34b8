"""A Django application that receives mail: put "blocksmtp.contrib.django" into INSTALLED_APPS.

The setting BLOCKSMTP, a dictionary, says what is received and by whom; `manage.py runsmtp` starts
the server, and `make_server` makes it for a program or a test.
"""

from .callbacks import authenticate, callback_context
from .server import make_server
from .signals import message_received

__all__ = ["authenticate", "callback_context", "make_server", "message_received"]
