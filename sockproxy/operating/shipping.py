"""What ships audit lines over a network: syslog by tcp or TLS, OpenTelemetry by HTTP.

Owns connections to collectors, when to try again, and what is told of it. Must not know what a message looks like
(`recording.sinks`). Begin at `Shipper.run`. aiohttp's client is imported only where a collector asks for HTTP.

A line stays in its outbox until it is delivered. Syslog has no answer: delivered is what the collector's kernel has
acknowledged, so a collector that is killed loses what it had not read. OTLP is delivered when the collector says so.
"""

import asyncio
import fcntl
import logging
import ssl
import struct
import termios
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from sockproxy.recording.chain import CountEvents
from sockproxy.recording.sinks import otlp, syslog
from sockproxy.recording.sinks.outbox import Outbox

if TYPE_CHECKING:
    from aiohttp import ClientSession

log = logging.getLogger("sockproxy")

BATCH_LINES = 500
BATCH_BYTES = 1 << 20
"""What is shipped at once: the default batch of OpenTelemetry's own exporters is 512 records."""

DELIVERY_SECONDS = 10.0
"""For one batch, the default of OpenTelemetry's exporters; then it is tried again."""

RETRY_SECONDS = (0.2, 5.0)
"""The first pause behind a failure, doubled up to the second."""

_ACKNOWLEDGED_SECONDS = 0.02  # how often the kernel is asked


class Delivery(Protocol):
    """The way to a collector. `deliver` returns how many lines the collector has thrown away for good; it raises OSError if the
    same lines are worth another try."""

    async def deliver(self, lines: Sequence[bytes]) -> int: ...

    async def close(self) -> None:
        """Connects anew next time."""


class Shipper:
    """Empties an outbox as long as it runs."""

    def __init__(self, name: str, bytes_max: int, delivery: Delivery, count_events: CountEvents) -> None:
        self._due = asyncio.Event()
        self.outbox = Outbox(name, bytes_max, self._due.set)
        self._delivery = delivery
        self._count_events = count_events
        self._is_failing = False
        self._is_ending = False

    async def run(self) -> None:
        """Ships until it is cancelled, or ends and nothing waits any more."""
        pause, longest = RETRY_SECONDS
        try:
            while True:
                self._due.clear()
                if await self._empty():
                    if self._is_ending:
                        return
                    pause = RETRY_SECONDS[0]
                    await self._due.wait()
                else:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, longest)
        finally:
            await self._delivery.close()

    async def finish(self, shipping: "asyncio.Task[None]", seconds: float) -> None:
        """Ships what is left, for so long at most; the rest is lost, and counted."""
        # What is under way is not cut off at once: its lines would be sent a second time.
        self._is_ending = True
        self._due.set()
        await asyncio.wait([shipping], timeout=seconds)
        shipping.cancel()
        await asyncio.wait([shipping])
        if len(self.outbox):
            self._count_events(self.outbox.name, "lost", len(self.outbox))

    async def _empty(self) -> bool:
        """Ships all that waits. Whether that could be done."""
        while lines := self.outbox.first(BATCH_LINES, BATCH_BYTES):
            try:
                async with asyncio.timeout(DELIVERY_SECONDS):
                    thrown_away = await self._delivery.deliver(lines)
            except (OSError, TimeoutError) as error:
                self._tell(str(error) or type(error).__name__)
                await self._delivery.close()
                return False
            self._tell(f"the collector has thrown away {thrown_away} lines" if thrown_away else "")
            self.outbox.forget(len(lines))
            if thrown_away:
                self._count_events(self.outbox.name, "lost", thrown_away)
            self._count_events(self.outbox.name, "shipped", len(lines) - thrown_away)
        return True

    def _tell(self, failure: str) -> None:
        """Counts a failure, and logs when it begins and ends."""
        if failure:
            self._count_events(self.outbox.name, "failed", 1)
        if failure and not self._is_failing:
            log.error("audit-not-shipped", extra={"sink": self.outbox.name, "reason": failure})
        elif self._is_failing and not failure:
            log.info("audit-shipped", extra={"sink": self.outbox.name})
        self._is_failing = bool(failure)


class SyslogStream:
    """Syslog by tcp or TLS, each message with its length."""

    def __init__(self, host: str, port: int, tls: Callable[[], ssl.SSLContext] | None) -> None:
        self._host, self._port, self._tls = host, port, tls
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def deliver(self, lines: Sequence[bytes]) -> int:
        """Returns when the collector's kernel has all of it."""
        if self._writer is None:
            context = None if self._tls is None else self._tls()
            name = self._host if context is not None else None
            self._reader, self._writer = await asyncio.open_connection(
                self._host, self._port, ssl=context, server_hostname=name
            )
        self._check_open()
        self._writer.write(b"".join(syslog.frame(syslog.message(line)) for line in lines))
        await self._writer.drain()
        while self._waiting_bytes():
            await asyncio.sleep(_ACKNOWLEDGED_SECONDS)
            self._check_open()
        return 0

    def _check_open(self) -> None:
        if self._reader is None or self._reader.at_eof() or self._writer is None or self._writer.is_closing():
            raise ConnectionResetError("the collector has closed the connection")

    def _waiting_bytes(self) -> int:
        """What is not acknowledged yet."""
        if self._writer is None:
            return 0
        transport = self._writer.transport
        descriptor = transport.get_extra_info("socket").fileno()
        # tcp(7): "SIOCOUTQ: Returns the amount of unsent data in the socket send queue", which on Linux counts what is sent
        # and not acknowledged, too; it has the number of TIOCOUTQ.
        (queued,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, b"\0" * 4))
        return transport.get_write_buffer_size() + int(queued)

    async def close(self) -> None:
        """Connects anew next time."""
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            writer.transport.abort()


class OtlpHttp:
    """OpenTelemetry's logs or spans by HTTP, as JSON."""

    # OTLP specification, "Failures": these are worth another try, all others are not.
    RETRIED = (429, 502, 503, 504)

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        tls: Callable[[], ssl.SSLContext] | None,
        form: Callable[[Sequence[bytes]], bytes] = otlp.request,
    ) -> None:
        """`form`: what the lines are made into."""
        self._url, self._headers, self._tls, self._form = url, dict(headers), tls, form
        self._session: ClientSession | None = None

    async def deliver(self, lines: Sequence[bytes]) -> int:
        """Returns when the collector has answered."""
        # Imported here: aiohttp's client is a megabyte or two that only this needs.
        from aiohttp import ClientError, ClientSession, TCPConnector

        if self._session is None:
            connector = TCPConnector(ssl=True if self._tls is None else self._tls())
            self._session = ClientSession(connector=connector, headers=self._headers)
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(self._url, data=self._form(lines), headers=headers) as answer:
                body = await answer.read()
        except ClientError as error:
            raise ConnectionError(str(error)) from error
        if answer.status in self.RETRIED:
            raise ConnectionError(f"the collector answers {answer.status}")
        return min(otlp.rejected(body), len(lines)) if 200 <= answer.status < 300 else len(lines)

    async def close(self) -> None:
        """Connects anew next time."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
