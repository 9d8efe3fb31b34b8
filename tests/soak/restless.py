"""As server.py, but replaces the certificates nearly without pause: what that takes for a moment
is nothing that is left.
"""

from __future__ import annotations

from . import server

server._REPLACED_EVERY = 0.0005

if __name__ == "__main__":
    server.main()
