"""Where secrets may stand in requests, as functions of the secret; for the tests that look for them elsewhere.

`SHAPES`: operationId -> bodies with the secret at one place each; `QUERIES`: queries. Both are written down here once more and
by hand, so that what is missing in the table of names is missed.
"""

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from hypothesis import strategies as st

GENERATED = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=8, max_size=24).map(
    lambda text: f"{text[:4]}S3cr3t{text[4:]}"
)
"""Secrets of any characters, long enough not to stand anywhere by chance."""


def in_any_form(secret: str) -> list[str]:
    """A secret as it may stand in a text: as it is, in JSON, in a URL, in base64. No blanks at its ends, which formats drop."""
    raw = secret.encode()
    escaped = (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
    encoded = (quote(secret), quote_plus(secret), quote(secret, safe=""), base64.b64encode(raw).decode())
    return list(dict.fromkeys((secret, *escaped, *encoded, base64.urlsafe_b64encode(raw).decode())))


def base64_of(secret: str) -> str:
    return base64.b64encode(secret.encode()).decode()


def _create(secret: str) -> Iterable[Any]:
    yield {"Image": "busybox", "Env": [f"TOKEN={secret}", "PLAIN=x"]}
    yield {"Image": "busybox", "HostConfig": {"LogConfig": {"Type": "splunk", "Config": {"splunk-token": secret}}}}
    options = {"type": "cifs", "device": "//h/s", "o": f"addr=h,username=u,password={secret}"}
    for driver in ({"Options": options}, {"Name": "other", "Options": {"key": secret}}):
        mount = {"Type": "volume", "Source": "v", "Target": "/v", "VolumeOptions": {"DriverConfig": driver}}
        yield {"Image": "busybox", "HostConfig": {"Mounts": [mount]}}
    yield {"Image": "busybox", "HostConfig": {"DeviceRequests": [{"Driver": "d", "Options": {"key": secret}}]}}
    yield {"Image": "busybox", "HostConfig": {"StorageOpt": {"key": secret}}}
    yield {"Image": "busybox", "OnBuild": [f"ENV TOKEN={secret}"]}
    yield {"Image": "busybox", "NetworkingConfig": {"EndpointsConfig": {"n": {"DriverOpts": {"key": secret}}}}}
    yield {"Image": "busybox", "SomethingNew": {"deep": [secret]}}
    yield {"Image": "busybox", "HostConfig": {"SomethingNew": secret}}


def _auth(secret: str) -> Iterable[Any]:
    for name in ("auth", "password", "identitytoken", "registrytoken"):
        yield {"username": "u", "serveraddress": "registry.example.com", name: secret}


def _service(secret: str) -> Iterable[Any]:
    yield {"Name": "s", "TaskTemplate": {"ContainerSpec": {"Image": "busybox", "Env": [f"TOKEN={secret}"]}}}
    yield {"Name": "s", "TaskTemplate": {"LogDriver": {"Name": "gelf", "Options": {"key": secret}}}}
    yield {"Name": "s", "TaskTemplate": {"PluginSpec": {"env": [f"TOKEN={secret}"]}}}
    yield {"Name": "s", "Networks": [{"Target": "n", "DriverOpts": {"key": secret}}]}


def _spec(secret: str) -> Iterable[Any]:
    yield {"CAConfig": {"SigningCAKey": secret}}
    yield {"CAConfig": {"ExternalCAs": [{"URL": f"https://u:{quote(secret, safe='')}@h/", "Options": {"key": secret}}]}}
    yield {"TaskDefaults": {"LogDriver": {"Name": "gelf", "Options": {"key": secret}}}}


def _data(secret: str) -> Iterable[Any]:
    yield {"Name": "n", "Data": base64_of(secret)}
    yield {"Name": "n", "Templating": {"Name": "d", "Options": {"key": secret}}}


SHAPES: Mapping[str, Callable[[str], Iterable[Any]]] = {
    "ContainerCreate": _create,
    "ContainerExec": lambda secret: [{"Cmd": ["true"], "Env": [f"TOKEN={secret}"]}],
    "ImageCommit": lambda secret: [{"Cmd": ["true"], "Env": [f"TOKEN={secret}"]}],
    "ImagePush": _auth,
    "SystemAuth": _auth,
    "VolumeCreate": lambda secret: [
        {"Name": "v", "DriverOpts": {"type": "cifs", "device": "//h/s", "o": f"password={secret}"}},
        {"Name": "v", "Driver": "other", "DriverOpts": {"key": secret}},
    ],
    "NetworkCreate": lambda secret: [
        {"Name": "n", "Options": {"key": secret}},
        {"Name": "n", "IPAM": {"Options": {"key": secret}}},
    ],
    "PluginSet": lambda secret: [[f"TOKEN={secret}"]],
    "SwarmInit": lambda secret: [{"ListenAddr": "h", "Spec": spec} for spec in _spec(secret)],
    "SwarmUpdate": _spec,
    "SwarmJoin": lambda secret: [{"RemoteAddrs": ["h"], "JoinToken": secret}],
    "SwarmUnlock": lambda secret: [{"UnlockKey": secret}],
    "ServiceCreate": _service,
    "ServiceUpdate": _service,
    "SecretCreate": _data,
    "SecretUpdate": _data,
    "ConfigCreate": _data,
    "ConfigUpdate": _data,
}
OPERATIONS = tuple(SHAPES)

QUERIES: list[Callable[[str], str]] = [
    lambda secret: f"buildargs={quote_plus(json.dumps({'TOKEN': secret}))}",
    lambda secret: f"buildargs={quote_plus(json.dumps({'TOKEN': secret}, ensure_ascii=False))}",
    lambda secret: f"buildargs={quote_plus(secret)}",
    lambda secret: "remote=" + quote_plus(f"https://u:{quote(secret, safe='')}@h/r.git"),
    lambda secret: "remote=" + quote_plus(f"https://h/r.tar?token={quote(secret, safe='')}"),
    lambda secret: "fromSrc=" + quote_plus(f"https://{quote(secret, safe='')}@h/r.tar"),
    lambda secret: f"changes={quote_plus(f'ENV TOKEN={secret}')}",
    lambda secret: f"outputs={quote_plus(json.dumps([{'Type': 'x', 'Attrs': {'key': secret}}]))}",
    lambda secret: f"something-new={quote_plus(secret)}",
]
"""Queries, those of a build among them."""
