"""The API versions that a policy admits, and what is said of one that it does not.

Owns how they are compared. Must not know rules. Begin at `ApiVersions`.
"""

from typing import NamedTuple

from sockproxy.judging.catalogue import ApiVersion, Operation


class ApiVersions(NamedTuple):
    """The API versions that a policy admits, both ends included; None: no bound. `unversioned`: and paths without one."""

    oldest: ApiVersion | None
    newest: ApiVersion | None
    unversioned: bool

    def admit(self, version: ApiVersion | None) -> bool:
        """Whether a request of that version (None: unversioned) may be asked at all."""
        if version is None:
            return self.unversioned
        oldest, newest, _ = self
        return (oldest is None or oldest <= version) and (newest is None or version <= newest)

    def __str__(self) -> str:
        oldest, newest, unversioned = self
        bounds = f"from {oldest}" * (oldest is not None) + " " * (None not in (oldest, newest))
        bounds += f"up to {newest}" * (newest is not None)
        return f"{bounds or 'any'}{' or unversioned' if unversioned else ''}"


ANY_API_VERSION = ApiVersions(None, None, True)


def version_detail(admitted: ApiVersions, version: ApiVersion | None) -> str:
    """Why a version is not admitted."""
    oldest, newest, _ = admitted
    if version is None:
        return "the request names no API version, which this policy asks for"
    if oldest is not None and version < oldest:
        return f"API {version} is older than {oldest}, the oldest that this policy allows"
    return f"API {version} is newer than {newest}, the newest that this policy allows"


def history_detail(operation: Operation, version: ApiVersion | None) -> str:
    """Why a version has no such operation."""
    if version is not None and version < operation.first_api:
        return f"not in API {version}, only since {operation.first_api}"
    return f"not in API {version}, only until {operation.last_api}"
