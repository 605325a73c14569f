"""What is on the demo engine when it starts: three images, three networks, and containers that run.

Owns the scenery. Begin at `furnish`.
"""

from typing import Any

from sockproxy.operating.demo.objects import images, lifecycle
from sockproxy.operating.demo.objects.state import PREDEFINED_NETWORKS, Network, State, Volume, new_id

IMAGES = ("busybox:latest", "nginx:alpine", "redis:7-alpine")
CONTAINERS: dict[str, dict[str, Any]] = {
    "web": {
        "Image": "nginx:alpine",
        "Labels": {"com.example.tier": "front"},
        "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}},
    },
    "db": {
        "Image": "redis:7-alpine",
        "Labels": {"com.example.tier": "back"},
        "HostConfig": {"Binds": ["db-data:/data"], "RestartPolicy": {"Name": "unless-stopped"}},
    },
    "console": {"Image": "busybox:latest", "Cmd": ["sh"], "Tty": True, "OpenStdin": True},
}


def furnish(state: State) -> None:
    """Puts everything in its place, and starts the containers. Needs a running loop."""
    for name, driver in PREDEFINED_NETWORKS.items():
        id, subnet = new_id(), "172.17.0.0/16" if driver == "bridge" else ""
        state.networks[id] = Network(id, name, driver, state.clock(), subnet)
    for name in IMAGES:
        reference = images.parse_reference(name)
        if image := images.imagine(reference):
            state.add_image(reference, image)
    state.volumes["db-data"] = Volume("db-data", state.clock())
    for name, body in CONTAINERS.items():
        lifecycle.start(state, lifecycle.create(state, body, name))
