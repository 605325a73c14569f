"""Operations on networks and volumes.

Owns what may be created and removed. No packet moves and nothing is stored: a volume is a name with labels.
"""

import re
from collections.abc import Callable

from aiohttp import web

from sockproxy.operating.demo.api.answers import empty_answer, json_answer
from sockproxy.operating.demo.api.calls import GOT_EOF, Call
from sockproxy.operating.demo.api.containers import check_filters, has_label, is_prunable
from sockproxy.operating.demo.objects import creation, describe, lifecycle, refusals
from sockproxy.operating.demo.objects.refusals import Refused
from sockproxy.operating.demo.objects.state import PREDEFINED_NETWORKS, Container, Network, State, Volume, new_id

_NETWORK_FILTERS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})
_VOLUME_FILTERS = frozenset({"dangling", "driver", "label", "name"})
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)


async def list_networks(call: Call) -> web.StreamResponse:
    filters = call.filters()
    check_filters(filters, _NETWORK_FILTERS)
    found = [
        describe.network_document(call.state, each) for each in call.state.networks.values() if _fits(each, filters)
    ]
    return await json_answer(call.request, [{**document, "Containers": {}} for document in found])


def _fits(network: Network, filters: dict[str, frozenset[str]]) -> bool:
    tests: dict[str, Callable[[str], bool]] = {
        "driver": lambda value: value == network.driver,
        "id": network.id.startswith,
        "name": lambda value: value.strip("^$") in network.name,
        "label": lambda value: has_label(network.labels, value),
        "scope": lambda value: value == "local",
        "type": lambda value: (value == "builtin") == (network.name in PREDEFINED_NETWORKS),
    }
    return all(any(map(tests[key], values)) for key, values in filters.items() if key in tests)


async def inspect_network(call: Call) -> web.StreamResponse:
    return await json_answer(call.request, describe.network_document(call.state, call.state.network(call.name)))


async def create_network(call: Call) -> web.StreamResponse:
    state, body = call.state, await call.body()
    name, driver = creation.text_of(body, "Name"), creation.text_of(body, "Driver") or "bridge"
    if name in PREDEFINED_NETWORKS:
        raise Refused(403, f"operation is not permitted on predefined {name} network ")
    if driver in ("host", "null"):
        raise Refused(403, f'only one instance of "{driver}" network is allowed')
    if not name.strip():
        raise Refused(500, f"invalid name: {name}")
    if any(network.name == name for network in state.networks.values()):
        raise Refused(409, f"network with name {name} already exists")
    if len(state.networks) >= state.bounds.named_max:
        raise refusals.too_many("networks")
    network = Network(
        id=new_id(),
        name=name,
        driver=driver,
        created_ns=state.clock(),
        subnet=_free_subnet(state),
        labels=creation.texts_of(body, "Labels") or {},
        options=creation.texts_of(body, "Options") or {},
        is_internal=creation.flag_of(body, "Internal"),
    )
    state.networks[network.id] = network
    state.events.add("network", "create", network.id, {"name": name, "type": driver})
    return await json_answer(call.request, {"Id": network.id, "Warning": ""}, 201)


def _free_subnet(state: State) -> str:
    taken = {network.subnet for network in state.networks.values()}
    candidates = [f"172.{number}.0.0/16" for number in range(18, 32)] + [f"10.{number}.0.0/16" for number in range(256)]
    return next(subnet for subnet in candidates if subnet not in taken)


async def delete_network(call: Call) -> web.StreamResponse:
    network = call.state.network(call.name)
    if network.name in PREDEFINED_NETWORKS:
        raise Refused(403, f"{network.name} is a pre-defined network and cannot be removed")
    if [each for each in call.state.containers_in(network) if each.is_running]:
        raise Refused(403, f"error while removing network: network {network.name} id {network.id} has active endpoints")
    _drop_network(call.state, network)
    return empty_answer()


def _drop_network(state: State, network: Network) -> None:
    for container in state.containers_in(network):
        del container.endpoints[network.name]
    del state.networks[network.id]
    state.events.add("network", "destroy", network.id, {"name": network.name, "type": network.driver})


async def connect(call: Call) -> web.StreamResponse:
    network, container = await _both(call)
    if network.name in container.endpoints:
        raise Refused(403, f"endpoint with name {container.name} already exists in network {network.name}")
    lifecycle.connect(call.state, network, container)
    _tell(call.state, network, "connect", container)
    return empty_answer(200)


async def disconnect(call: Call) -> web.StreamResponse:
    network, container = await _both(call)
    if network.name not in container.endpoints:
        raise Refused(403, f"container {container.id} is not connected to network {network.name}")
    del container.endpoints[network.name]
    _tell(call.state, network, "disconnect", container)
    return empty_answer(200)


async def _both(call: Call) -> tuple[Network, Container]:
    body = await call.body()
    network = call.state.network(call.name)
    return network, call.state.container(creation.text_of(body, "Container"))


def _tell(state: State, network: Network, action: str, container: Container) -> None:
    attributes = {"container": container.id, "name": network.name, "type": network.driver}
    state.events.add("network", action, network.id, attributes)


async def prune_networks(call: Call) -> web.StreamResponse:
    state, filters = call.state, call.filters()
    check_filters(filters, frozenset({"until", "label", "label!"}))
    own = [network for network in state.networks.values() if network.name not in PREDEFINED_NETWORKS]
    chosen = [
        network
        for network in own
        if not state.containers_in(network) and is_prunable(filters, network.labels, network.created_ns)
    ]
    for network in chosen:
        _drop_network(state, network)
    return await json_answer(call.request, {"NetworksDeleted": [network.name for network in chosen] or None})


async def list_volumes(call: Call) -> web.StreamResponse:
    state, filters = call.state, call.filters()
    check_filters(filters, _VOLUME_FILTERS)
    tests: dict[str, Callable[[Volume, str], bool]] = {
        "name": lambda volume, value: value in volume.name,
        "driver": lambda volume, value: value == volume.driver,
        "label": lambda volume, value: has_label(volume.labels, value),
        "dangling": lambda volume, value: (value in ("true", "1")) != bool(state.containers_with(volume)),
    }
    found = [
        describe.volume_document(volume)
        for volume in state.volumes.values()
        if all(any(tests[key](volume, value) for value in values) for key, values in filters.items())
    ]
    return await json_answer(call.request, {"Volumes": found, "Warnings": None})


async def inspect_volume(call: Call) -> web.StreamResponse:
    return await json_answer(call.request, describe.volume_document(call.state.volume(call.name)))


async def create_volume(call: Call) -> web.StreamResponse:
    """A name that is there already is answered with what is there, as the engine does."""
    state, body = call.state, await call.body(GOT_EOF)
    name = creation.text_of(body, "Name") or new_id()
    if not _VOLUME_NAME.fullmatch(name):
        raise Refused(
            400,
            f'create {name}: "{name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" '
            "are allowed. If you intended to pass a host directory, use absolute path",
        )
    if name not in state.volumes:
        if len(state.volumes) >= state.bounds.named_max:
            raise refusals.too_many("volumes")
        driver = creation.text_of(body, "Driver") or "local"
        labels, options = creation.texts_of(body, "Labels"), creation.texts_of(body, "DriverOpts")
        state.volumes[name] = Volume(name, state.clock(), driver, labels, options)
        state.events.add("volume", "create", name, {"driver": driver})
    return await json_answer(call.request, describe.volume_document(state.volumes[name]), 201)


async def delete_volume(call: Call) -> web.StreamResponse:
    volume = call.state.volume(call.name)
    users = call.state.containers_with(volume)
    if users:
        shown = ", ".join(user.id for user in users)
        raise Refused(409, f"remove {volume.name}: volume is in use - [{shown}]")
    del call.state.volumes[volume.name]
    call.state.events.add("volume", "destroy", volume.name, {"driver": volume.driver})
    return empty_answer()


async def prune_volumes(call: Call) -> web.StreamResponse:
    state, filters = call.state, call.filters()
    check_filters(filters, frozenset({"label", "label!"}))
    unused = [volume for volume in state.volumes.values() if not state.containers_with(volume)]
    chosen = [volume.name for volume in unused if is_prunable(filters, volume.labels, volume.created_ns)]
    for name in chosen:
        del state.volumes[name]
    return await json_answer(call.request, {"VolumesDeleted": chosen, "SpaceReclaimed": 0})
