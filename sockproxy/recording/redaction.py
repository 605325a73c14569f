"""What may be told of a request and its answer: secrets become marks, all else stays as it is.

Owns how a secret is replaced. Which values are secrets is data (`sockproxy/data/secrets.json`, in words: docs/redaction.md).
Must not know what an event is, nor where it goes. Begin at `Redactor`. A mark is `hmac:` and the HMAC-SHA256 of the value
by the trail's key: equal secrets have equal marks, and nobody without the key can try out which value a mark stands for.

A name that nobody knows has its value replaced. What is done with the value of one that is known:

    plain           an object's names are looked at one by one; of text only what stands between // and @ is replaced
    names           the same of an object whose names anybody chooses, as Labels
    secret          replaced as a whole
    values          of an object each value, its names are kept
    environment     of NAME=value the value; of an object (the variable of a plugin) its Value
    options         of an object each value, but for those options that are known to be harmless
    address         what may be a password or a token in a URL: all before @, and all behind ?
    instructions    of lines of a Dockerfile all behind the first word, unless that is known to be harmless
    outputs         of a build's outputs the attributes, as options
    step            of how a build made a layer the arguments that it was given, and what ENV and ARG set
"""

import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote_plus, unquote_to_bytes

import orjson

from sockproxy.data import SecretRows
from sockproxy.judging.payload.text import Misread, parse_json
from sockproxy.judging.requirements.wording import without_userinfo

MARK = "hmac:"

HIDDEN_CHARACTERS_MIN = 4
"""A secret of fewer characters is not searched for in an answer: it stands in every other word."""

INTEGER_MAX = 1 << 53
"""What all readers of JSON take for the same number, up to its sign. A larger one is told as text."""

_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]{0,127})(?:=(.*))?", re.DOTALL)
_HARMLESS_INSTRUCTIONS = frozenset({"CMD", "ENTRYPOINT", "EXPOSE", "LABEL", "USER", "VOLUME", "WORKDIR", "STOPSIGNAL"})
_MOUNT_OPTION = "o"

# `|2 A=b C=d e /bin/sh -c make`: the engine writes the arguments of a build before the command, without quotes; BuildKit writes
# RUN before them. Where they end cannot be said in a text; as a list, each is an item.
_BUILD_ARGUMENTS = re.compile(r"(?:RUN )?\|([0-9]{1,9})")
_SETTING = re.compile(r"(?:.*#\(nop\)\s*)?(?:ONBUILD\s+)?(?:ENV|ARG)\b", re.DOTALL)

Hide = Callable[[bytes], str]
"""A secret -> its mark."""


class Redacted(NamedTuple):
    """What may be told, and the texts that were secrets in it: an answer may repeat them where nobody expects it."""

    data: Any
    hidden: frozenset[str]


def mark_by(key: bytes) -> Hide:
    """Marks of that key."""
    return lambda secret: MARK + hmac.digest(key, secret, "sha256").hex()


def hide_all(_secret: bytes) -> str:
    """For people who have the secret before them: that it is one."""
    return "redacted"


class Redactor:
    """Replaces secrets by marks. `rows`: what is secret."""

    def __init__(self, rows: SecretRows, hide: Hide) -> None:
        self.hide = hide
        self._operations = rows.operations
        self._parameters = {**dict.fromkeys(rows.known_parameters, "plain"), **rows.parameters}
        self._rows = rows
        names = "|".join(map(re.escape, rows.known_parameters))
        self._is_harmless = re.compile(rf"[^?]*(?:\?(?:(?:{names})=(?:[^&@%]|%(?!40))*(?:&|\Z))*)?").fullmatch
        self._fields: Mapping[str, str] = {}  # made when they are asked for: most trails tell of no bodies

    def target(self, target: str) -> str:
        """A canonical target."""
        # hot: nearly all have no query, or one of known names and without an "@", of which nothing would be replaced.
        if self._is_harmless(target):
            return target
        path, _, query = target.partition("?")
        return f"{path}?{'&'.join([self._pair(pair) for pair in query.split('&')])}"

    def body(self, operation_id: str, data: Any) -> Redacted:
        """The body of a request, in the names of the API's documents."""
        walk = _Walk(self._known_fields(), self._rows, self.hide)
        told = walk.do(self._operations.get(operation_id, "plain"), data, "")
        return Redacted(told, frozenset(walk.hidden))

    def answer(self, data: Any, hidden: frozenset[str]) -> Any:
        """The body of an answer to a request in which `hidden` was secret."""
        repeated = [secret for secret in hidden if len(secret) >= HIDDEN_CHARACTERS_MIN]
        return _Walk(self._known_fields(), self._rows, self.hide, repeated).do("plain", data, "")

    def _known_fields(self) -> Mapping[str, str]:
        if not self._fields:
            self._fields = {**dict.fromkeys(self._rows.known, "plain"), **self._rows.fields}
        return self._fields

    def _pair(self, pair: str) -> str:
        raw_name, equals, raw_value = pair.partition("=")
        treatment = self._parameters.get(raw_name, "secret")
        if treatment == "plain" and "%40" not in raw_value and "@" not in raw_value:
            return pair
        value = unquote_to_bytes(raw_value.replace("+", " "))
        if not value:
            return pair
        walk = _Walk(self._known_fields(), self._rows, self.hide)
        return f"{raw_name}{equals}{quote_plus(_of_parameter(walk, treatment, value), safe=':')}"


def _of_parameter(walk: "_Walk", treatment: str, value: bytes) -> bytes:
    """The value of a parameter. One that is to be JSON and is not is a secret as a whole."""
    if treatment in ("values", "outputs"):
        try:
            return orjson.dumps(walk.do(treatment, parse_json(value), ""))
        except Misread:
            treatment = "secret"  # lawful: what cannot be read, or not in one way only, is not told
    text = value.decode("utf-8", "surrogateescape")
    return str(walk.do(treatment, text, "")).encode("utf-8", "surrogateescape")


class _Walk:
    """Goes through one body. `hidden`: the texts that it has replaced; `repeated`: those that are replaced wherever they
    stand."""

    def __init__(self, fields: Mapping[str, str], rows: SecretRows, hide: Hide, repeated: Sequence[str] = ()) -> None:
        self._fields = fields
        self._rows = rows
        self._hide = hide
        self._repeated = repeated
        self.hidden: set[str] = set()
        self._treatments: Mapping[str, Callable[[Any, str], Any]] = {
            "plain": self._plain,
            "names": self._names,
            "secret": self._secret,
            "values": self._values,
            "environment": self._environment,
            "options": self._options,
            "address": self._address,
            "instructions": self._instructions,
            "outputs": self._outputs,
            "step": self._step,
        }

    def do(self, treatment: str, value: Any, name: str) -> Any:
        """A value as it may be told. `name`: the field that it stands in."""
        if value is None or value is True or value is False or value in ("", [], {}):
            return value
        return self._treatments[treatment](value, name)

    def _plain(self, value: Any, name: str) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            return [self.do("plain", one, name) for one in value]
        if isinstance(value, dict):
            return {inner: self.do(self._treatment(name, inner), one, inner) for inner, one in value.items()}
        return _number(value)

    def _treatment(self, outer: str, name: str) -> str:
        fields = self._fields
        return fields.get(f"{outer}.{name}") or fields.get(name) or "secret"

    def _names(self, value: Any, name: str) -> Any:
        if isinstance(value, dict):
            return {inner: self.do("plain", one, name) for inner, one in value.items()}
        return self._plain(value, name)

    def _text(self, text: str) -> str:
        if self._repeated and any(secret in text for secret in self._repeated):
            return self._mark(text)
        return without_userinfo(text, self._mark)

    def _secret(self, value: Any, _name: str) -> str:
        if isinstance(value, str):
            return self._mark(value)
        self.hidden.update(_texts(value))
        return self._hide(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))

    def _mark(self, text: str) -> str:
        self.hidden.add(text)
        return self._hide(text.encode("utf-8", "surrogateescape"))

    def _values(self, value: Any, name: str) -> Any:
        if not isinstance(value, dict):
            return self._secret(value, name)
        return {inner: self.do("secret", one, inner) for inner, one in value.items()}

    def _environment(self, value: Any, name: str) -> Any:
        if isinstance(value, list):
            return [self.do("environment", one, name) for one in value]
        if isinstance(value, dict):
            return {
                inner: self.do("secret" if inner == "Value" else self._treatment(name, inner), one, inner)
                for inner, one in value.items()
            }
        variable = _VARIABLE.fullmatch(value) if isinstance(value, str) else None
        if variable is None:
            return self._secret(value, name)
        return f"{variable[1]}={self._mark(variable[2])}" if variable[2] else value

    def _options(self, value: Any, name: str) -> Any:
        if not isinstance(value, dict):
            return self._secret(value, name)
        return {inner: self._option(inner, one) for inner, one in value.items()}

    def _option(self, option: str, value: Any) -> Any:
        if option == _MOUNT_OPTION and isinstance(value, str):
            return ",".join(map(self._mount_word, value.split(",")))
        return self.do("plain" if self._is_harmless(option) else "secret", value, option)

    def _is_harmless(self, option: str) -> bool:
        options = self._rows.options
        return option in options or any(one.endswith("*") and option.startswith(one[:-1]) for one in options)

    def _mount_word(self, word: str) -> str:
        name, equals, value = word.partition("=")
        if not word or name in self._rows.mount_words:
            return word
        return f"{name}={self._mark(value)}" if equals and _VARIABLE.fullmatch(name) and value else self._mark(word)

    def _address(self, value: Any, name: str) -> Any:
        if not isinstance(value, str):
            return self._secret(value, name)
        head, at, host = value.rpartition("@")
        scheme, slashes, userinfo = head.partition("://")
        if at:
            head = f"{scheme}://{self._mark(userinfo)}" if slashes and userinfo else self._mark(head)
        host, question, query = host.partition("?")
        return f"{head}{at}{host}{question}{self._mark(query) if query else ''}"

    def _instructions(self, value: Any, name: str) -> Any:
        if isinstance(value, list):
            return [self.do("instructions", one, name) for one in value]
        if not isinstance(value, str):
            return self._secret(value, name)
        # Only the first line is looked at: what stands in another one may be another instruction.
        word, blank, rest = value.partition(" ")
        if "\n" not in value and word.upper() in _HARMLESS_INSTRUCTIONS:
            return self._text(value)
        return f"{word}{blank}{self._mark(rest)}" if blank and rest and word.isalpha() else self._mark(value)

    def _step(self, value: Any, name: str) -> Any:
        if isinstance(value, str):
            found = _BUILD_ARGUMENTS.match(value) or _SETTING.match(value)
            if found is None or found[0] == value:
                return self._plain(value, name)
            return f"{found[0]}{self._mark(value[found.end() :])}"
        if not isinstance(value, list):
            return self._plain(value, name)
        found = _BUILD_ARGUMENTS.fullmatch(value[0]) if isinstance(value[0], str) else None
        if found is None:
            return [self.do("step", one, name) for one in value]
        end = 1 + int(found[1])
        return [value[0], *(self.do("environment", one, name) for one in value[1:end]), *self._plain(value[end:], name)]

    def _outputs(self, value: Any, name: str) -> Any:
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            return self._secret(value, name)
        return [{inner: self._output(inner, one) for inner, one in output.items()} for output in value]

    def _output(self, name: str, value: Any) -> Any:
        return self.do({"Type": "plain", "Attrs": "options"}.get(name, "secret"), value, name)


def _texts(value: Any) -> list[str]:
    """All texts in a value."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in inner for text in _texts(one)]


def _number(value: Any) -> Any:
    """A number in the one form in which all writers of JSON write it: an event is hashed as text."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= INTEGER_MAX:
        return int(value)
    is_alike = abs(value) <= INTEGER_MAX if isinstance(value, int) else "e" not in repr(value)
    return value if is_alike else repr(value)
