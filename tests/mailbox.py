"""A mail server on loopback."""

from __future__ import annotations

import socket
from typing import Any

from aiosmtpd.controller import Controller


class Mailbox(Controller):
    """Hands each mail to a handler. It takes a free port and keeps it: any other way, a test beside may be faster."""

    def __init__(self, handler: Any) -> None:
        super().__init__(handler, hostname="127.0.0.1", ready_timeout=120)

    def _create_server(self) -> Any:
        listening = socket.create_server((self.hostname, 0))
        self.port = listening.getsockname()[1]
        return self.loop.create_server(self._factory_invoker, sock=listening)
