"""Operations whose answer goes on: wait, stats and events.

Owns when they send and when they end: with their subject, or when the client stops sending (the engine watches for
that). Must not know how events are kept (`events`).
"""

import asyncio

from aiohttp import web

from sockproxy.operating.demo.api.answers import encode, json_answer, stream_answer
from sockproxy.operating.demo.api.calls import Call
from sockproxy.operating.demo.objects.lifecycle import processes_of
from sockproxy.operating.demo.objects.refusals import Refused
from sockproxy.operating.demo.objects.state import Container, Json
from sockproxy.operating.demo.objects.times import SECOND_NS, parse_unix_time, rfc3339

STATS_SECONDS = 1.0
MEMORY_BYTES = 8 << 30
CANCELLED: Json = {"Error": {"Message": "context canceled"}, "StatusCode": -1}
"""What a client that has stopped sending is told of its wait."""


async def wait(call: Call) -> web.StreamResponse:
    """From API 1.30 on the head goes out at once, and the condition counts."""
    container = call.state.container(call.name)
    is_new = call.version >= (1, 30)
    waiting = _met(container, call.text("condition") if is_new else "")
    if not is_new:
        has_met = await call.until_client_ends(waiting)
        return await json_answer(call.request, _status(container) if has_met else CANCELLED)
    answer = await stream_answer(call.request, "application/json")
    await answer.write(encode(_status(container) if await call.until_client_ends(waiting) else CANCELLED))
    return answer


async def _met(container: Container, condition: str) -> bool:
    """Waits for `next-exit`, `removed`, or, with any other text, for not running."""
    ends = container.ends
    while not container.is_removed:
        has_ended = container.ends > ends if condition == "next-exit" else container.status in ("created", "exited")
        if condition != "removed" and has_ended:
            break
        await container.bell.wait()
    return True


def _status(container: Container) -> Json:
    return {"Error": None, "StatusCode": container.exit_code}


async def stats(call: Call) -> web.StreamResponse:
    """Imagined numbers, once or every second; of a container that does not run, zeros."""
    container = call.state.container(call.name)
    if not call.flag("stream", default=True):
        return await json_answer(call.request, _stats(call, container))
    answer = await stream_answer(call.request)
    while not container.is_removed:
        await answer.write(encode(_stats(call, container)))
        if await call.until_client_ends(asyncio.sleep(STATS_SECONDS, True)) is None:
            break
    return answer


def _stats(call: Call, container: Container) -> Json:
    now_ns = call.state.clock()
    document: Json = {
        "read": rfc3339(now_ns),
        "preread": rfc3339(now_ns - SECOND_NS),
        "pids_stats": {},
        "blkio_stats": {"io_service_bytes_recursive": [], "io_serviced_recursive": []},
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _cpu(0, 0),
        "precpu_stats": _cpu(0, 0),
        "memory_stats": {},
        "name": f"/{container.name}",
        "id": container.id,
    }
    if not container.is_running:
        return document
    running_ns = now_ns - container.started_ns
    written = container.journal.last_number
    return document | {
        "pids_stats": {"current": len(processes_of(container))},
        "cpu_stats": _cpu(running_ns // 500, now_ns),
        "precpu_stats": _cpu(max(0, running_ns - SECOND_NS) // 500, now_ns - SECOND_NS),
        "memory_stats": {
            "usage": (3 << 20) + written * 512,
            "max_usage": (4 << 20) + written * 512,
            "stats": {"cache": 0, "total_inactive_file": 0},
            "limit": container.host_config["Memory"] or MEMORY_BYTES,
        },
        "networks": {"eth0": {"rx_bytes": 876, "rx_packets": 10, "tx_bytes": 0, "tx_packets": 0}},
    }


def _cpu(used_ns: int, system_ns: int) -> Json:
    return {
        "cpu_usage": {"total_usage": used_ns, "usage_in_kernelmode": used_ns // 4, "usage_in_usermode": used_ns // 2},
        "system_cpu_usage": system_ns,
        "online_cpus": 2,
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    }


async def events(call: Call) -> web.StreamResponse:
    """What has happened since a time, then what happens, until another time or the client's end."""
    log, filters = call.state.events, call.filters()
    since_ns, until_ns = _time(call, "since"), _time(call, "until")
    if since_ns and until_ns and since_ns > until_ns:
        raise Refused(400, f"`since` time ({call.text('since')}) cannot be after `until` time ({call.text('until')})")
    answer = await stream_answer(call.request, "application/json")
    last = 0 if since_ns else log.last_number
    while True:
        for event in log.after(last):
            last = event.number
            is_in_time = event.time_ns >= since_ns and (not until_ns or event.time_ns <= until_ns)
            if is_in_time and event.matches(filters):
                await answer.write(encode(event.document()))
        left = (until_ns - call.state.clock()) / SECOND_NS if until_ns else None
        if (left is not None and left <= 0) or await call.until_client_ends(_next(call, last, left)) is None:
            return answer


async def _next(call: Call, last: int, seconds: float | None) -> bool:
    """Waits for an event behind `last`, but not longer than it is asked to."""
    try:
        async with asyncio.timeout(seconds):
            while call.state.events.last_number <= last:
                await call.state.events.bell.wait()
    except TimeoutError:
        return True
    return True


def _time(call: Call, key: str) -> int:
    try:
        return parse_unix_time(call.text(key) or "0")
    except ValueError as fault:
        raise Refused(500, str(fault)) from None
