"""What the Nango client must know about the throttling of the API behind Nango."""

from collections.abc import Mapping
from typing import Protocol

from worker.nango.response import ApiResponse


class ThrottlePolicy(Protocol):
    """How the API behind Nango throttles: its services, its headers, the pauses it asks for."""

    @property
    def request_headers(self) -> Mapping[str, str]:
        """The headers that keep the API from throttling us more than it must."""

    def find_service(self, path: str) -> str:
        """Return the service that throttles a path; its pauses hold no other service back."""

    def parse_pause(self, response: ApiResponse, now: float) -> float:
        """Return the seconds for which a response asks us to pause its service; 0 for none."""
