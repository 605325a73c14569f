"""The query as the engine reads it: the first of equal names counts, a flag is on unless it says no, some values are JSON.

Owns the reading of a canonical query (`judging.catalogue` makes it). Must not know which operation uses what. Begin at
`read_query`. Sources: the engine's api/server/httputils/form.go, api/types/filters and build routes, from 1.9 to 29.7.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote_plus

from sockproxy.errors import BadRequest, BadRequestReason
from sockproxy.judging.payload.text import Misread, parse_json
from sockproxy.judging.payload.types import Types, UnknownFields

# httputils.BoolValue: what is none of these, "off" and "n" among them, is true.
_FALSE = frozenset({"", "0", "no", "false", "none"})

# What Go's strings.TrimSpace takes away; Python's strip() takes four separators more.
_GO_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)

_STRUCTS = MappingProxyType(
    {
        "Ulimit": {"Name": ("string", "1.21", None), "Hard": ("int64", "1.21", None), "Soft": ("int64", "1.21", None)},
        "Output": {"Type": ("string", "1.40", None), "Attrs": ("map[string]string", "1.40", None)},
    }
)
_TYPES = Types(_STRUCTS, UnknownFields.DENY)


@dataclass(frozen=True, slots=True)
class Query:
    """The parameters of a query, decoded: name -> its values in their order. Names are told apart by case."""

    values: Mapping[str, tuple[str, ...]]

    def first(self, name: str) -> str:
        """The value that counts for nearly all parameters; "" if there is none, as in Go."""
        values = self.values.get(name, ("",))
        return values[0]

    def every(self, name: str) -> tuple[str, ...]:
        """All values, for the parameters of which the engine takes all: t, extrahosts, securityopt, changes, names, ..."""
        return self.values.get(name, ())

    def flag(self, name: str, default: bool = False) -> bool:
        """Whether a switch is on; `default` where it is absent, which for a few is on."""
        if name not in self.values:
            return default
        return self.first(name).strip(_GO_SPACE).lower() not in _FALSE

    def json(self, name: str) -> Any:
        """The value of a parameter of `JSON`; None if it is absent, empty or null. Raises BadRequest for one that the engine
        would refuse, or that could be read in two ways; LookupError for a parameter that is no JSON."""
        read = JSON[name]
        text = self.first(name)
        if not text:
            return None
        try:
            value = parse_json(text.encode("utf-8", "surrogateescape"))
            return None if value is None else read(value)
        except Misread as error:
            error.steps.append(name)
            raise BadRequest(400, BadRequestReason.QUERY, f"the parameter {error}") from error


_NO_PARAMETERS = Query(MappingProxyType({}))


def read_query(query: str) -> Query:
    """The parameters of a canonical query. Bytes that are not UTF-8 are kept as surrogates."""
    if not query:
        return _NO_PARAMETERS
    values: dict[str, list[str]] = {}
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        values.setdefault(_decoded(name), []).append(_decoded(value))
    return Query(MappingProxyType({name: tuple(several) for name, several in values.items()}))


def _decoded(text: str) -> str:
    return unquote_plus(text, errors="surrogateescape")


def _filters(value: Any) -> dict[str, list[str]]:
    """Filters in one form: name -> the values. The engine takes `{"k":{"v":true}}` and, of older clients, `{"k":["v"]}`."""
    if isinstance(value, dict) and any(isinstance(inner, list) for inner in value.values()):
        lists: dict[str, list[str]] = _TYPES.reader("map[string][]string")(value)
        return {name: inner or [] for name, inner in lists.items()}
    sets: dict[str, dict[str, bool] | None] = _TYPES.reader("map[string]map[string]bool")(value)
    for name, inner in sets.items():
        # Some engines' handlers look at the key alone, others at the value, too.
        for key, is_on in (inner or {}).items():
            if not is_on:
                raise Misread("is false, which engines read in two ways", key, name)
    return {name: list(inner or ()) for name, inner in sets.items()}


JSON: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "filters": _filters,
        "buildargs": _TYPES.reader("map[string]*string"),
        "labels": _TYPES.reader("map[string]string"),
        "cachefrom": _TYPES.reader("[]string"),
        "ulimits": _TYPES.reader("[]Ulimit"),
        "outputs": _TYPES.reader("[]Output"),
    }
)
"""Parameters whose value is JSON, and how it is read."""
