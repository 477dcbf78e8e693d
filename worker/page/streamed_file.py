"""A file that is sent in parts, each of which a thread makes once the one before has been sent."""

from collections.abc import Iterator
from functools import partial
from itertools import chain

from anyio import CapacityLimiter, to_thread
from starlette.responses import Response
from starlette.types import Receive, Scope, Send


class StreamedFile(Response):
    """Sends the parts of a file to be saved.

    Its first part is made at once, so that what is refused is refused by an answer of its own. An
    error of a later one cuts the answer off, which the client sees.
    """

    def __init__(
        self, parts: Iterator[bytes], file_name: str, media_type: str, threads: CapacityLimiter
    ) -> None:
        self._parts = chain([next(parts)], parts)
        self._threads = threads
        disposition = f'attachment; filename="{file_name}"'
        super().__init__(media_type=media_type, headers={"Content-Disposition": disposition})
        del self.headers["content-length"]

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        part = b"begin"
        while part:
            make = partial(next, self._parts, b"")
            part = await to_thread.run_sync(make, limiter=self._threads, abandon_on_cancel=True)
            await send({"type": "http.response.body", "body": part, "more_body": bool(part)})
