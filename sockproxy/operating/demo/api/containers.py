"""Operations on containers that are answered at once; those that stream or hijack are in `streams`, `attach`.

Owns how a call becomes an act of `lifecycle` and what it is answered. Must not know how connections work.
"""

import asyncio
import signal
from collections.abc import Callable, Mapping

from aiohttp import web

from sockproxy.operating.demo.api.answers import empty_answer, json_answer
from sockproxy.operating.demo.api.calls import Call
from sockproxy.operating.demo.objects import creation, describe, lifecycle
from sockproxy.operating.demo.objects.refusals import Refused
from sockproxy.operating.demo.objects.state import Container, State, volume_names
from sockproxy.operating.demo.objects.times import parse_unix_time
from sockproxy.operating.demo.programs.process import parse_signal

_FILTERS = frozenset(
    {"ancestor", "before", "exited", "expose", "health", "id", "isolation", "is-task", "label", "name", "network",
     "publish", "since", "status", "volume"}
)  # fmt: skip
_STATUSES = frozenset({"created", "running", "paused", "restarting", "removing", "exited", "dead"})
_BSD_FORMS = ("aux", "ax", "auxww", "au")


async def list_containers(call: Call) -> web.StreamResponse:
    state, filters = call.state, call.filters()
    check_filters(filters, _FILTERS)
    for status in filters.get("status", frozenset()) - _STATUSES:
        raise Refused(400, f"Invalid filter 'status={status}'")
    shows_all = call.flag("all") or "status" in filters or "exited" in filters
    newest_first = list(reversed(state.containers.values()))
    found = [each for each in newest_first if (shows_all or each.is_running) and _matches(state, each, filters)]
    limit = call.number("limit", status=500) if call.text("limit") else 0
    chosen = [each for each in newest_first if _matches(state, each, filters)][:limit] if limit > 0 else found
    documents = [describe.container_summary(state, each, with_size=call.flag("size")) for each in chosen]
    return await json_answer(call.request, documents)


def check_filters(filters: Mapping[str, frozenset[str]], known: frozenset[str]) -> None:
    """Raises Refused for a key that the operation does not have."""
    for key in sorted(filters.keys() - known):
        raise Refused(400, f"Invalid filter '{key}'")


def _matches(state: State, container: Container, filters: Mapping[str, frozenset[str]]) -> bool:
    tests: dict[str, Callable[[str], bool]] = {
        "id": container.id.startswith,
        "name": lambda value: value.lstrip("/^").rstrip("$") in container.name,
        "status": lambda value: value == container.status,
        "exited": lambda value: container.status == "exited" and value == str(container.exit_code),
        "label": lambda value: has_label(container.config["Labels"], value),
        "ancestor": lambda value: value in (*_names_of_image(state, container), container.image_name),
        "network": lambda value: value in container.endpoints,
        "volume": lambda value: value in volume_names(container),
        "before": lambda value: container.created_ns < state.container(value).created_ns,
        "since": lambda value: container.created_ns > state.container(value).created_ns,
    }
    all_of = dict.fromkeys(("label",), all)
    return all(all_of.get(key, any)(map(tests[key], values)) for key, values in filters.items() if key in tests)


def _names_of_image(state: State, container: Container) -> set[str]:
    references = [reference for reference, id in state.tags.items() if id == container.image.id]
    short = {reference.repository for reference in references if reference.tag == "latest"}
    return {*map(str, references), *short, container.image.id, container.image.id[7:], container.image.id[7:19]}


def has_label(labels: Mapping[str, str] | None, wanted: str) -> bool:
    """Whether a label filter, `name` or `name=value`, fits."""
    name, has_value, value = wanted.partition("=")
    return labels is not None and name in labels and (not has_value or labels[name] == value)


async def create(call: Call) -> web.StreamResponse:
    container = lifecycle.create(call.state, await call.body(), call.text("name"))
    return await json_answer(call.request, {"Id": container.id, "Warnings": []}, 201)


async def inspect(call: Call) -> web.StreamResponse:
    container = call.state.container(call.name)
    return await json_answer(
        call.request, describe.container_document(call.state, container, with_size=call.flag("size"))
    )


async def start(call: Call) -> web.StreamResponse:
    container = call.state.container(call.name)
    if call.version >= (1, 24) and (call.request.content_length or 0) > 7:
        raise Refused(
            400, "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
        )
    if container.status == "paused":
        raise Refused(409, "cannot start a paused container, try unpause instead")
    if container.is_running:
        return empty_answer(304)
    container.restarts = 0
    container.cancel_restart()
    lifecycle.start(call.state, container)
    return empty_answer()


async def stop(call: Call) -> web.StreamResponse:
    """Stops even if the client goes away meanwhile, as the engine does."""
    container = call.state.container(call.name)
    if not container.is_running and container.status != "restarting":
        return empty_answer(304)
    await asyncio.shield(call.state.spawn(lifecycle.stop(call.state, container, _seconds(call))))
    return empty_answer()


async def restart(call: Call) -> web.StreamResponse:
    container = call.state.container(call.name)
    await asyncio.shield(call.state.spawn(_restart(call.state, container, _seconds(call))))
    return empty_answer()


async def _restart(state: State, container: Container, seconds: int | None) -> None:
    was_removed_by_itself, container.host_config["AutoRemove"] = container.host_config["AutoRemove"], False
    try:
        await lifecycle.stop(state, container, seconds)
    finally:
        container.host_config["AutoRemove"] = was_removed_by_itself
    lifecycle.start(state, container)
    lifecycle.tell(state, container, "restart")


def _seconds(call: Call) -> int | None:
    return call.number("t", status=500) if call.text("t") else None


async def kill(call: Call) -> web.StreamResponse:
    text = call.text("signal") or "KILL"
    try:
        number = parse_signal(text)
    except ValueError:
        raise _no_signal(call.name, text) from None
    try:
        container = call.state.container(call.name)
        container.running_process()
    except Refused as refused:
        raise Refused(refused.status, f"Cannot kill container: {call.name}: {refused.message}") from None
    process = container.process
    process.thaw()
    lifecycle.send(call.state, container, number)
    if number == signal.SIGKILL:
        container.is_stopped_by_hand = True
        await asyncio.shield(call.state.spawn(process.wait()))
    return empty_answer()


def _no_signal(name: str, text: str) -> Refused:
    if text.isascii() and text.isdigit():
        return Refused(500, f"Cannot kill container: {name}: The linux daemon does not support signal {text}")
    return Refused(400, f"Invalid signal: {text}")


async def pause(call: Call) -> web.StreamResponse:
    lifecycle.pause(call.state, call.state.container(call.name))
    return empty_answer()


async def unpause(call: Call) -> web.StreamResponse:
    lifecycle.unpause(call.state, call.state.container(call.name))
    return empty_answer()


async def rename(call: Call) -> web.StreamResponse:
    lifecycle.rename(call.state, call.state.container(call.name), call.text("name"))
    return empty_answer()


async def resize(call: Call) -> web.StreamResponse:
    rows, columns = call.number("h"), call.number("w")
    container = call.state.container(call.name)
    container.running_process().resize(rows, columns)
    lifecycle.tell(call.state, container, "resize", height=str(rows), width=str(columns))
    return empty_answer(200)


async def update(call: Call) -> web.StreamResponse:
    """Takes the limits and the restart policy; what else a body holds is ignored, as by the engine."""
    container, body = call.state.container(call.name), await call.body()
    names = ("Memory", "MemorySwap", "MemoryReservation", "CpuShares", "NanoCpus", "CpuQuota", "CpuPeriod", "PidsLimit")
    container.host_config |= {name: int(body[name]) for name in names if isinstance(body.get(name), int) and body[name]}
    if body.get("RestartPolicy"):
        container.host_config["RestartPolicy"] = creation.restart_policy_of(body)
    lifecycle.tell(call.state, container, "update")
    return await json_answer(call.request, {"Warnings": None})


async def top(call: Call) -> web.StreamResponse:
    container = call.state.container(call.name)
    container.running_process()
    is_bsd = call.text("ps_args").lstrip("-") in _BSD_FORMS
    lifecycle.tell(call.state, container, "top")
    return await json_answer(call.request, describe.top_document(container, call.state.clock(), is_bsd=is_bsd))


async def changes(call: Call) -> web.StreamResponse:
    found = call.state.container(call.name).files.changes()
    return await json_answer(call.request, [{"Path": path, "Kind": kind} for path, kind in found] or None)


async def delete(call: Call) -> web.StreamResponse:
    state = call.state
    container = state.container(call.name)
    volumes = [state.volumes[name] for name in volume_names(container) if name in state.volumes]
    await asyncio.shield(state.spawn(lifecycle.remove(state, container, is_forced=call.flag("force"))))
    for volume in volumes if call.flag("v") else ():
        if not state.containers_with(volume) and len(volume.name) == 64:
            state.volumes.pop(volume.name, None)  # only those that nobody gave a name
    return empty_answer()


async def prune(call: Call) -> web.StreamResponse:
    filters = call.filters()
    check_filters(filters, frozenset({"until", "label", "label!"}))
    ended = [each for each in call.state.containers.values() if each.status in ("created", "exited")]
    chosen = [each for each in ended if is_prunable(filters, each.config["Labels"], each.created_ns)]
    reclaimed = sum(each.files.written_bytes for each in chosen)
    for container in chosen:
        lifecycle.discard(call.state, container)
    call.state.events.add("container", "prune", "", {"reclaimed": str(reclaimed)})
    found = [each.id for each in chosen] or None
    return await json_answer(call.request, {"ContainersDeleted": found, "SpaceReclaimed": reclaimed})


def is_prunable(filters: Mapping[str, frozenset[str]], labels: Mapping[str, str] | None, created_ns: int) -> bool:
    """Whether the filters that all prunes have in common let a thing go."""
    try:
        is_old = all(created_ns < parse_unix_time(value) for value in filters.get("until", ()))
    except ValueError as fault:
        raise Refused(400, str(fault)) from None
    is_wanted = all(has_label(labels, value) for value in filters.get("label", ()))
    return is_old and is_wanted and not any(has_label(labels, value) for value in filters.get("label!", ()))
