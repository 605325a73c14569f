"""Rules: what can be required of one value, each with a text for people.

Owns the shapes of rules and how a value is shown. Must not know controls or fields. Begin at `Rule`. A value that is absent is
None to a rule, and to most rules the zero of its type is the same as absent, as it is to the engine: clients send every field.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from sockproxy.judging.requirements import wording


class Found(NamedTuple):
    """What fails in a value: where in it (`[0]`; "" is the value itself), and what it is (`is true`)."""

    where: str
    says: str


class Rule(NamedTuple):
    """What is allowed, as it follows "requires", and the first thing in a value that is not."""

    text: str
    find: Callable[[Any], Found | None]


def shown(value: Any) -> str:
    """What a value is, for people. Of objects it is only told that they are there: what stands in them may be a secret."""
    if value is None:
        return "is absent"
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(one, dict | list) for one in value)):
        return "is set"
    return f"is {wording.shown(value) if isinstance(value, str) else wording.bare(orjson.dumps(value).decode())}"


def satisfies(text: str, test: Callable[[Any], bool]) -> Rule:
    """A value for which the test holds, or the zero of its type."""
    return Rule(text, lambda value: None if not value or test(value) else Found("", shown(value)))


def one_of(*allowed: str) -> Rule:
    """One of these strings, or none."""
    return satisfies(" or ".join(f'"{each}"' for each in ("", *allowed)), frozenset(allowed).__contains__)


def each(text: str, test: Callable[[Any], bool]) -> Rule:
    """A list whose elements all hold the test."""

    def find(value: Any) -> Found | None:
        return next((Found(f"[{at}]", shown(one)) for at, one in enumerate(value or ()) if not test(one)), None)

    return Rule(text, find)


def keys(text: str, test: Callable[[str], bool]) -> Rule:
    """A map whose keys all hold the test. Its values are not shown: some are secrets."""

    def find(value: Any) -> Found | None:
        return next((Found(wording.keyed("", key), "is set") for key in value or () if not test(key)), None)

    return Rule(text, find)


def required(text: str, test: Callable[[Any], bool]) -> Rule:
    """A value that must be there, and hold the test."""
    return Rule(text, lambda value: None if value is not None and test(value) else Found("", shown(value)))


def both(text: str, *rules: Rule) -> Rule:
    """What all of these allow."""
    return Rule(text, lambda value: next((found for rule in rules if (found := rule.find(value))), None))


def any_of(rules: tuple[Rule, ...]) -> Rule:
    """What at least one of these allows; what fails is told as the first tells it."""
    if len(rules) == 1:
        return rules[0]

    def find(value: Any) -> Found | None:
        # hot: the first from behind, since it is the one whose text is made for nothing where another allows.
        found = None
        for rule in reversed(rules):
            if (found := rule.find(value)) is None:
                return None
        return found

    return Rule(", or ".join(dict.fromkeys(rule.text for rule in rules)), find)


ANYTHING = Rule("anything", lambda _: None)
FALSE = satisfies("false", lambda _: False)
ZERO = satisfies("0", lambda _: False)
EMPTY = satisfies("nothing", lambda _: False)
NOT_SET = Rule("nothing", lambda value: Found("", "is set") if value else None)
"""EMPTY of what may hold secrets, as the environment of a plugin."""
NO_KEYS = keys("nothing", lambda _: False)
UNSET = satisfies('""', lambda _: False)

ABSENT = Rule("the engine's own list: absent or null", lambda value: None if value is None else Found("", shown(value)))
"""For what is a setting even when it is empty."""


# Namespaces

NETWORK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_HOST = "host"


def is_network(name: str) -> bool:
    """Whether it is a network, and not `host`, a container's (`container:x`) or a path (`ns:/proc/1/ns/net`)."""
    return name != _HOST and is_network_or_host(name)


def is_network_or_host(name: str) -> bool:
    """The same with `host`, which a rule may name."""
    return NETWORK_NAME.fullmatch(name) is not None


# Capabilities


def capability(spelt: str) -> str:
    """A capability's name as the engine reads it: in any case, with CAP_ or without."""
    return spelt.upper().removeprefix("CAP_")


def capabilities(*allowed: str) -> Rule:
    """A list of none but these."""
    names = frozenset(allowed)
    text = "none" if not names else f"none but {', '.join(allowed)}"
    return each(text, lambda spelt: capability(spelt) in names)


DROPS_ALL = required("ALL among them", lambda dropped: any(spelt.upper() == "ALL" for spelt in dropped))


# Volumes

_VOLUME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]+"
VOLUME_NAME = re.compile(_VOLUME)
VOLUME_BIND = re.compile(rf"/[^:]*|{_VOLUME}:/[^:]*(?::[a-zA-Z,]*)?")
"""A bind string that is a volume, not a host path: `/inside`, `name:/inside`, `name:/inside:options`."""

HOST_BIND = re.compile(r"/[^:]*:/[^:]*(?::([a-zA-Z,]*))?")
_SHARED = frozenset({"shared", "rshared"})
PROPAGATIONS = ("private", "rprivate", "slave", "rslave")


def is_volume_bind(bind: str) -> bool:
    """Whether a bind string names a volume."""
    return VOLUME_BIND.fullmatch(bind) is not None


def is_any_bind(bind: str) -> bool:
    """Whether it is a volume, or a host path whose mounts stay the host's own."""
    host = HOST_BIND.fullmatch(bind)
    return is_volume_bind(bind) if host is None else _SHARED.isdisjoint((host[1] or "").split(","))


def mount(*types: str) -> Rule:
    """A mount of one of these types; the source of a volume is a volume's name."""

    def find(value: Any) -> Found | None:
        type_ = value.get("Type")
        if type_ not in types:
            return Found(".Type", shown(type_))
        source = value.get("Source")
        if type_ == "volume" and source and VOLUME_NAME.fullmatch(source) is None:
            return Found(".Source", shown(source))
        return None

    return Rule(f"a mount of type {', '.join(types)}", find)


_LOCAL = ("", "local")
_OPTIONS_OF_A_BIND = frozenset({"type", "o", "device"})
_FLAGS_OF_A_BIND = frozenset({"bind", "rbind", "ro", "rw", "nosuid", "nodev", "noexec", "private", "rprivate", "slave"})
# None of them names a path, or makes another mount of it, as `bind` would.
_WORDS_OF_A_TMPFS = frozenset({"size", "mode", "uid", "gid", "nr_inodes", "ro", "rw", "nosuid", "nodev", "noexec"})


def driver(name: str, options: str) -> tuple[Rule, Rule, Rule]:
    """Rules of an object that has a volume driver and its options in these fields: the local driver without options but for
    a tmpfs; local with options that bind a host path; any other driver."""

    def plain(value: Any) -> Found | None:
        if value.get(name, "") not in _LOCAL:
            return Found(f".{name}", shown(value[name]))
        if not value.get(options) or _is_tmpfs(value[options]):
            return None
        return Found(f".{options}", f"sets {wording.bare(', '.join(value[options]))}")

    def binding(value: Any) -> Found | None:
        is_bind = value.get(name, "") in _LOCAL and _is_bind(value.get(options) or {})
        return None if is_bind or plain(value) is None else Found(f".{options}", "bind no host path")

    def foreign(value: Any) -> Found | None:
        return None if value.get(name, "") not in _LOCAL else plain(value)

    return (
        Rule("the driver local, without options or for a tmpfs", plain),
        Rule("the driver local with options that bind an absolute path", binding),
        Rule("a driver other than local, with any options", foreign),
    )


def _is_tmpfs(options: Mapping[str, str]) -> bool:
    words = (word.partition("=")[0] for word in options.get("o", "").split(",") if word)
    return (
        options.keys() <= _OPTIONS_OF_A_BIND
        and (options.get("type"), options.get("device")) == ("tmpfs", "tmpfs")
        and _WORDS_OF_A_TMPFS.issuperset(words)
    )


def _is_bind(options: Mapping[str, str]) -> bool:
    flags = frozenset(options.get("o", "").split(","))
    return (
        options.keys() <= _OPTIONS_OF_A_BIND
        and options.get("type", "none") in ("none", "bind")
        and not flags.isdisjoint({"bind", "rbind"})
        and flags <= _FLAGS_OF_A_BIND
        and options.get("device", "").startswith("/")
    )


# Security options

NO_NEW_PRIVILEGES = "no-new-privileges"
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def security_options(*exact: str) -> Rule:
    """A list of these strings, and of any form of no-new-privileges that the engine takes. `=` and `:` are the same."""
    allowed = frozenset(exact) | {spelt.replace("=", ":", 1) for spelt in exact}
    text = f"none but no-new-privileges and {', '.join(exact)}"
    return each(text, lambda spelt: spelt in allowed or _no_new_privileges(spelt) is not None)


def _no_new_privileges(spelt: str) -> bool | None:
    """What the option says; None if it is another, or none that the engine takes."""
    if spelt == NO_NEW_PRIVILEGES:
        return True
    if not spelt.startswith((f"{NO_NEW_PRIVILEGES}=", f"{NO_NEW_PRIVILEGES}:")):
        return None
    value = spelt[len(NO_NEW_PRIVILEGES) + 1 :]
    return True if value in _TRUE else False if value in _FALSE else None


def _ends_without_new_privileges(options: Iterable[str]) -> bool:
    said = [each for each in map(_no_new_privileges, options) if each is not None]
    return bool(said) and said[-1]


STAYS_UNPRIVILEGED = required("no-new-privileges, and no later one that undoes it", _ends_without_new_privileges)


# Others

LOG_DRIVERS = ("json-file", "local", "none")
_LOG_OPTIONS = frozenset(
    {"max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag", "mode", "max-buffer-size"}
)


def log_config(name: str, options: str) -> tuple[Rule, Rule]:
    """Rules of an object that has a log driver and its options in these fields: a driver that writes to the engine's own
    files; any other that is named."""

    def plain(value: Any) -> Found | None:
        if value.get(name) and value[name] not in LOG_DRIVERS:
            return Found(f".{name}", shown(value[name]))
        # Of the engine's default driver, too, which may be another: an option could send its log anywhere.
        return next(
            (
                Found(wording.keyed(f".{options}", key), "is set")
                for key in value.get(options) or ()
                if key not in _LOG_OPTIONS
            ),
            None,
        )

    def foreign(value: Any) -> Found | None:
        return None if value.get(name) and value[name] not in LOG_DRIVERS else plain(value)

    drivers = ", ".join(LOG_DRIVERS)
    return (
        Rule(
            f"the engine's default driver, {drivers}, with options about size, tag, labels and buffering alone", plain
        ),
        Rule("another driver that is named, with any options", foreign),
    )


_USER = re.compile(r"([1-9][0-9]{0,9})(?::.*)?")
_USER_MAX = 2**31 - 1
"""The greatest that engines take; some have read a greater one as 0."""


def is_not_root(user: str) -> bool:
    """Whether a user is a number that is not 0. A name could be anybody's: the image says whose."""
    number = _USER.fullmatch(user)
    return number is not None and int(number[1]) <= _USER_MAX


_DEVICE = re.compile(r"/dev(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+")


def is_device_limit(limit: Mapping[str, Any]) -> bool:
    """Whether a limit is one of a device by its usual path."""
    return _DEVICE.fullmatch(limit.get("Path", "")) is not None
