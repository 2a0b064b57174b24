"""Calling a service until it answers."""
from __future__ import annotations

import time
from typing import Any

from rclpy.client import Client
from rclpy.task import Future

AGAIN_S = 5.0


class Inquiry:
    """A request that may be repeated, sent again every `AGAIN_S` until it is answered.

    A service is seen some moments before it sees who calls it. An answer that it gives within them goes nowhere, on a
    busy host even seconds later, and a caller that waits for it waits for ever.
    """

    def __init__(self, client: Client, request: Any) -> None:
        self._client, self._request = client, request
        self._future: Future | None = None
        self._again_s = 0.0

    def poll(self) -> Any:
        """The answer, once; None while there is none, or no such service. After an answer the next call asks anew."""
        if self._future is not None and self._future.done():
            future, self._future = self._future, None
            return future.result()
        if not self._client.service_is_ready():
            self._forget()
        elif self._future is None or time.monotonic() >= self._again_s:
            self._forget()
            self._future, self._again_s = self._client.call_async(self._request), time.monotonic() + AGAIN_S
        return None

    def _forget(self) -> None:
        if self._future is not None:
            self._client.remove_pending_request(self._future)
            self._future = None
