"""Sessions that are recorded: what goes through a tunnel is kept before it goes on.

Owns that nothing goes on unrecorded which has to be recorded. Must not know in which form, or where (`recording.terminals`),
nor what moves the bytes. Begin at `RecordedSession`.
"""

from collections.abc import Callable

from sockproxy.errors import RecordingRefused
from sockproxy.exchange import Exchange
from sockproxy.forwarding.moving.cuts import ConnectionCut, KeptCut
from sockproxy.forwarding.serving.shared import Proxy, Recorder, Recording
from sockproxy.judging.policy import Record


class RecordedSession:
    """One that goes on."""

    __slots__ = ("_exchange", "_proxy", "_recorder", "_recording")

    def __init__(self, proxy: Proxy, exchange: Exchange, record: Record) -> None:
        """`record`: what of it is recorded. Raises RecordingRefused where that cannot be."""
        if proxy.recorder is None:
            raise RecordingRefused("there is no directory for it")
        try:
            self._recording: Recording = proxy.recorder.begin(exchange, record)
        except OSError as error:
            raise RecordingRefused(error.strerror or "its file cannot be made") from error
        self._recorder: Recorder = proxy.recorder
        self._proxy = proxy
        self._exchange = exchange

    def output_cut(self, cut_off: Callable[[], None]) -> ConnectionCut:
        """For what the engine sends. `cut_off`: called where that has to be recorded and cannot be any more."""
        return self._kept(self._recording.output, cut_off)

    def input_cut(self, cut_off: Callable[[], None]) -> ConnectionCut:
        """The same for what the client sends."""
        return self._kept(self._recording.input, cut_off) if self._recording.has_input else ConnectionCut()

    def end(self) -> None:
        """It is over; to be called once."""
        self._recorder.end(self._exchange, self._recording)

    def _kept(self, keep: Callable[[bytes], None], cut_off: Callable[[], None]) -> KeptCut:
        recording, ends_session = self._recording, self._recorder.ends_session

        def end_session() -> None:
            self._exchange.detail = "the session could not be recorded any more"
            cut_off()

        def keep_or_end(data: bytes) -> bool:
            keep(data)
            if recording.is_cut and ends_session:
                self._proxy.loop.call_soon(end_session)  # not from within a relay's own callback
                return False
            return True

        return KeptCut(keep_or_end)
