"""Which container a peer is, as the engine knows it: by its control group, or by the address that it comes from.

Owns what the engine is asked for that, and that it ends: in time, in bytes and in number. Must not know what is permitted to
whom (`judging.clients`). Begin at `Containers.introduce`. Nothing is kept: an address is another container's as soon as its
own has ended, so each connection is asked about anew. Who the engine says nothing of is not introduced, and meets nothing.
"""

import asyncio
import logging
import re
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import orjson

from sockproxy.errors import BadRequest, EngineError, EngineErrorReason, PeerGone
from sockproxy.forwarding.limits import Limits
from sockproxy.forwarding.moving.stream import Stream
from sockproxy.forwarding.turns import Turns
from sockproxy.forwarding.upstream.asking import ask
from sockproxy.forwarding.upstream.engine import Engine
from sockproxy.judging.identity import Peer, host_of, identify

log = logging.getLogger(__name__)

ASKED_AT_ONCE_MAX, ASKED_OF_ONE_MAX = 8, 2
"""Peers that the engine is asked about at a time, in all and of one address or user; others wait. It takes a millisecond and
some more for many containers."""
ANSWER_BYTES_MAX = 8 << 20
"""A list takes 1 to 2 KiB a container: some thousands of them."""
LABELS_CHARACTERS_MAX = 64 << 10
"""Of a container's labels, names and values: each of its connections remembers them. Compose makes some 2 KiB."""
STARTED_LATE_SECONDS = 0.5
"""A container is asking when its engine has not yet noted that it runs. One that was started later than this cannot have been
there when the connection came: the address was somebody else's."""

PAUSES_SECONDS = (0.0, 0.02, 0.06, 0.15, 0.27)
"""Before each time that it is asked about a peer of which it knows nothing: together as long as it may be late."""

_ID = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?Z")
_LIST = "/containers/json"

Ip = IPv4Address | IPv6Address


class Containers:
    """The engine's, for peers that are some of them."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self._engine = engine
        self._limits = limits
        self._turns = Turns(ASKED_AT_ONCE_MAX, ASKED_OF_ONE_MAX)

    async def introduce(self, peer: Peer, came_at: float) -> Peer:
        """The same peer, introduced, with its container's id, name and labels if it is in one; as it was, if that cannot be
        known. `came_at`: when it connected, seconds since the epoch. Never raises but for a cancellation."""
        address = _ip(host_of(peer.address or ""))
        if (address if peer.kind == "tcp" else peer.container) is None:
            return peer._replace(is_introduced=True)
        try:
            async with asyncio.timeout(self._limits.connect_seconds or None):
                for seconds in PAUSES_SECONDS:
                    await asyncio.sleep(seconds)
                    found = await self._find(peer, address, came_at)
                    if found is not None:
                        return _with(peer, found)
            return peer._replace(is_introduced=True)  # it is in no container
        except TimeoutError:
            reason = "the engine does not answer in time"
        except EngineError as error:
            reason = error.detail
        except (BadRequest, PeerGone, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            reason = "the engine's answer cannot be read"
        except (LookupError, TypeError, ValueError, AttributeError):
            reason = "the engine's answer is not what was asked for"
        # Lawful, all of them: who it is stays unknown, and no match that asks for it holds.
        log.warning("container-unknown", extra={"listener": peer.listener, "reason": reason})
        return peer

    async def _find(self, peer: Peer, address: Ip | None, came_at: float) -> Any:
        """What the engine says of the container that a peer is in; None if it knows none that runs. Raises ValueError where
        it could be another."""
        async with self._turns.take(identify(peer).key):
            stream = await self._engine.connect()
            try:
                if address is None:
                    return await self._inspect(stream, str(peer.container))
                having = [one["Id"] for one in await self._get(stream, _LIST) if address in _addresses(one)]
                if not having:
                    return None
                if len(having) > 1:
                    raise ValueError("several have that address, in networks that do not see one another")
                found = await self._inspect(stream, having[0])
            finally:
                self._engine.release(stream, is_reusable=False)
        if found is None or address not in _addresses(found):
            raise ValueError("the container of that address has left it")
        if _seconds(found["State"]["StartedAt"]) > came_at + STARTED_LATE_SECONDS:
            raise ValueError("the address was somebody else's")
        return found

    async def _inspect(self, stream: Stream, id: str) -> Any:
        if not _ID.fullmatch(id):
            raise ValueError("no id")
        found = await self._get(stream, f"/containers/{id}/json")
        if found is None:
            return None
        if found["Id"] != id:
            raise ValueError("another container")
        return found if found["State"]["Running"] is True else None

    async def _get(self, stream: Stream, target: str) -> Any:
        """What the engine says; None if there is no such thing."""
        held = bytearray()
        status, is_kept = await ask(stream, target, self._limits, ANSWER_BYTES_MAX, held)
        if status not in (200, 404) or not is_kept:
            raise EngineError(502, EngineErrorReason.MALFORMED, f"the engine answers {status}")
        return orjson.loads(held) if status == 200 else None


def _with(peer: Peer, found: Any) -> Peer:
    labels = tuple(sorted((str(name), str(value)) for name, value in (found["Config"]["Labels"] or {}).items()))
    if sum(len(name) + len(value) for name, value in labels) > LABELS_CHARACTERS_MAX:
        raise ValueError("its labels are too long")
    return peer._replace(
        is_introduced=True,
        container=found["Id"],
        container_name=str(found["Name"]).removeprefix("/"),
        container_labels=_shared(labels),
    )


@lru_cache(maxsize=256)
def _shared(labels: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The same for all connections of a container, which may be thousands."""
    return labels


def _addresses(container: Any) -> set[Ip]:
    """Those of a container in its networks, of a list or an inspection; none of one that shares those of the host or of
    another container."""
    return {ip for ip in map(_ip, _written(container["NetworkSettings"]["Networks"] or {})) if ip is not None}


def _written(networks: Any) -> Iterator[str]:
    for network in networks.values():
        yield from (network["IPAddress"], network["GlobalIPv6Address"])


def _ip(text: str) -> Ip | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None  # lawful: no address is nobody's
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _seconds(time: str) -> float:
    """An engine's time, which is in UTC with up to nine decimals."""
    found = _TIME.fullmatch(time)
    if found is None:
        raise ValueError("no time")
    return datetime.fromisoformat(f"{found[1]}+00:00").timestamp() + float(f"0{found[2] or '.0'}")
