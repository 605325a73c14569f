"""Words of a command line -> values, with the nearest right word where one is wrong, and with completion.

Owns what several commands take: a policy, an operation, an API version, who asks. Must not know any command. `parse_`
functions raise `click.BadParameter`, which ends with exit code 2; `complete_` functions are click's `shell_complete`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

from sockproxy.data import builtin_policy_names, load_docker_releases, load_operations
from sockproxy.errors import ConfigError
from sockproxy.judging.catalogue import ApiVersion, Catalogue
from sockproxy.judging.clients import parse_key
from sockproxy.judging.compiling import select, selector_words
from sockproxy.judging.identity import Peer, PeerKind
from sockproxy.judging.policy import UNKNOWN_SELECTOR, Policy
from sockproxy.operating import config
from sockproxy.operating.config.document import POLICY_NAME
from sockproxy.operating.config.wording import did_you_mean, quoted
from sockproxy.operating.known import load_catalogue, newest_api

DEFAULT_POLICY = "kubernetes-1.4"

OLDEST_API = ApiVersion(1, 0)

_ID_DIGITS_MAX = 10  # ids of the kernel have 32 bits


def examples(*lines: str) -> str:
    r"""The block of examples at the end of a command's help; `\b` keeps click from joining the lines."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def load_policy(name: str, catalogue: Catalogue) -> Policy:
    """The policy that a built-in name or a file refers to. A name that there is not is a wrong use; what is wrong in a
    file is a ConfigError."""
    try:
        return config.load_policy(name, catalogue)
    except ConfigError as error:
        if any(finding.file for finding in error.findings):
            raise
        raise click.UsageError(error.findings[0].message) from error


def trail_files(names: Iterable[str]) -> tuple[str, ...]:
    """The files of a trail; - is standard input."""
    return tuple("/dev/stdin" if name == "-" else name for name in names)


def parse_policy_name(text: str) -> str:
    """A name that a policy of one's own may have."""
    if not re.fullmatch(POLICY_NAME.pattern, text, re.ASCII):
        raise click.BadParameter("a name has up to 63 letters, digits, dots, dashes and underscores")
    return text


def parse_selector(text: str) -> frozenset[str]:
    """What a selector of policies means, as events tell it: operationIds, and "" for what is unknown."""
    catalogue = load_catalogue()
    selected = select(text, catalogue)
    if not selected:
        raise click.BadParameter(
            f"no operation is meant by {quoted(text)}{did_you_mean(text, selector_words(catalogue))}"
        )
    return frozenset("" if one == UNKNOWN_SELECTOR else one for one in selected)


def parse_api_version(text: str) -> ApiVersion:
    """A version of the Engine API that is known."""
    newest = newest_api()
    try:
        version = ApiVersion.parse(text)
    except ValueError as error:
        raise click.BadParameter(f"{quoted(text)} is no API version; they look like {newest}") from error
    if not OLDEST_API <= version <= newest:
        raise click.BadParameter(f"{version} is not among the known API versions, {OLDEST_API} to {newest}")
    return version


def parse_peer(words: Iterable[str]) -> Peer:
    """`uid=0`, `exe=/bin/sh`, ... -> who asks; without a word, a unix peer of which nothing is known."""
    return as_peer(parse_facts(words), "unix", "command line")


def parse_facts(words: Iterable[str]) -> dict[str, Any]:
    """What is said of who asks, by the names of a peer's facts."""
    facts: dict[str, Any] = {}
    for key, value in map(_parse_fact, _apart(words)):
        if key in ("tls_san", "spiffe_id"):  # of which a certificate may have several
            facts["tls_sans"] = (*facts.get("tls_sans", ()), value)
        elif key == "container_label":  # and a container of these
            facts["container_labels"] = (*facts.get("container_labels", ()), value)
        else:
            facts[key] = value
    return facts


def kind_of(facts: Mapping[str, Any]) -> PeerKind | None:
    """How who has these facts is connected; None if they do not tell."""
    told = facts.get("kind", "tcp" if facts.keys() & _REMOTE else "unix" if facts else None)
    return None if told is None else "tcp" if told == "tcp" else "unix"


def as_peer(facts: Mapping[str, Any], usual_kind: PeerKind, listener: str) -> Peer:
    """The peer of these facts at a listener, of the usual kind if they do not tell theirs."""
    others = {key: value for key, value in facts.items() if key != "kind"}
    return Peer(listener, kind_of(facts) or usual_kind, **others)


def complete_policy(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Names of built-in policies, then files."""
    names = [CompletionItem(name) for name in builtin_policy_names() if name.startswith(begun)]
    return names or [CompletionItem(begun, type="file")]


def complete_selector(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """OperationIds, with what they stand for, and groups of them."""
    rows = load_operations()
    helps = {name: f"{row['method']} {row['path']}" for name, row in rows.items()}
    words = selector_words(load_catalogue())
    return [CompletionItem(word, help=helps.get(word)) for word in words if word.startswith(begun)]


def complete_api_version(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """API versions of Docker releases, newest first."""
    versions = dict.fromkeys(release["api_version"] for release in load_docker_releases())
    return [CompletionItem(text) for text in versions if text.startswith(begun)]


def complete_method(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The methods that an operation has."""
    methods = sorted({str(row["method"]) for row in load_operations().values()})
    return [CompletionItem(method) for method in methods if method.startswith(begun.upper())]


def complete_target(method: str, begun: str) -> list[CompletionItem]:
    """The paths of operations that have this method."""
    rows = [(i, row["method"], str(row["path"])) for i, row in load_operations().items()]
    return [CompletionItem(path, help=i) for i, has, path in rows if has == method and path.startswith(begun)]


class ManyWords(click.Command):
    """A command with an option that takes several words at once: `--as uid=0 gid=0` is `--as uid=0 --as gid=0`.

    `belongs` says of a word behind a value of the option `many` whether it is one more value.
    """

    def __init__(self, *args: Any, many: str, belongs: Callable[[str], bool], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.many = many
        self.belongs = belongs

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spread(args, self.many, self.belongs))


def spread(args: list[str], option: str, belongs: Callable[[str], bool]) -> list[str]:
    """The arguments with `option` repeated before each further value of it."""
    found: list[str] = []
    behind: str | None = None  # the word before; None if it is neither the option nor a value of it
    for word in args:
        is_value = behind == option
        is_further = behind is not None and not is_value and word != option and belongs(word)
        found += [option, word] if is_further else [word]
        behind = word if word == option or is_value or is_further else None
    return found


def _parse_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _ID_DIGITS_MAX):
        raise ValueError(f"{quoted(text)} is not a number")
    return int(text)


def _parse_kind(text: str) -> str:
    if text not in ("unix", "tcp"):
        raise ValueError(f"{quoted(text)} is neither unix nor tcp")
    return text


def _apart(words: Iterable[str]) -> Iterator[str]:
    """The words, and those that stand behind a comma in one: `uid=1000,tls_subject=CN=ci-7,O=Example` are two."""
    for word in words:
        yield from _NEXT_FACT.split(word)


def _parse_fact(word: str) -> tuple[str, Any]:
    key, equals, value = word.partition("=")
    if not equals:
        raise click.BadParameter(f"{quoted(word)} is not of the form KEY=VALUE", param_hint="--as")
    if key not in FACTS:
        end = did_you_mean(key, FACTS) or f"; known are {', '.join(FACTS)}"
        raise click.BadParameter(f"no key {quoted(key)}{end}", param_hint="--as")
    try:
        return key, FACTS[key](value)
    except ValueError as error:
        raise click.BadParameter(f"{key}: {error}", param_hint="--as") from error


def _parse_address(text: str) -> str:
    """An address with its port, which nobody needs to know."""
    return text if ":" in text else f"{text}:0"


def _parse_fingerprint(text: str) -> str:
    return str(parse_key("tls_fingerprint", text))


def _parse_san(text: str) -> str:
    return str(parse_key("tls_san", text))


def _parse_spiffe_id(text: str) -> str:
    return f"URI:{parse_key('spiffe_id', text)}"


def _parse_label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ValueError(f"{quoted(text)} is not of the form NAME=VALUE")
    return name, value


_REMOTE = frozenset({"address", "tls_subject", "tls_sans", "tls_fingerprint"})

FACTS: dict[str, Callable[[str], Any]] = {
    "kind": _parse_kind,
    "uid": _parse_number,
    "gid": _parse_number,
    "pid": _parse_number,
    "exe": str,
    "container": str,
    "container_name": str,
    "container_label": _parse_label,
    "tls_subject": str,
    "tls_san": _parse_san,
    "spiffe_id": _parse_spiffe_id,
    "tls_fingerprint": _parse_fingerprint,
    "address": _parse_address,
}
"""What `--as` can say of who asks, and how its value is read; the words are those of the audit event and of a match."""

_NEXT_FACT = re.compile(f",(?=(?:{'|'.join(FACTS)})=)")
"""A certificate's subject has commas, too; no part of it is called like a key, since the names of its parts are in capitals."""
