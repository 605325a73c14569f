"""What a value of the configuration may be, as data.

Owns the few shapes that there are, and how a dataclass says which of them its keys have. Must not know which keys there
are (`document`), how a value is checked (`validation`) nor how an editor is told (`schema`). Begin at `Shape`.
"""

from collections.abc import Mapping
from dataclasses import MISSING, field, fields
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from sockproxy.operating.config.familiar import Familiar


class Text(NamedTuple):
    """Text. `pattern` is for the whole of it; `form` says what is expected, `number` what is wrong with a number, which is
    taken as it is written where that is "". Empty text is wrong unless it is said to be right. `is_json`: keys with values are
    the JSON text that says the same."""

    form: str = "expected text"
    pattern: str = ""
    length_max: int | None = None
    number: str = "a number where text belongs"
    is_empty_right: bool = False
    is_json: bool = False


class NameOrNumber(NamedTuple):
    """Text or a whole number: what people and the kernel call a user or a group."""

    form: str = "expected a name or a number"


class Choice(NamedTuple):
    """One of these words. `familiar`: others that people bring along, and which of these is meant by them."""

    words: tuple[str, ...]
    familiar: Familiar = MappingProxyType({})


class Flag(NamedTuple):
    """true or false."""


class Number(NamedTuple):
    """A number from 0 on."""

    is_whole: bool


class Constant(NamedTuple):
    """This whole number and no other."""

    value: int


class ListOf(NamedTuple):
    """A list. `when_empty` says what is wrong with one that is empty; "" allows it. `form` says what is expected."""

    item: "Shape"
    when_empty: str = ""
    form: str = "expected a list"


class Named(NamedTuple):
    """Values under names that people choose. `pattern` is for the whole of a name; `form` says what a name has."""

    item: "Shape"
    pattern: str
    form: str
    example: str = ""


class Keys(NamedTuple):
    """Keys with values, which make a `model`: a dataclass whose fields are the keys. `familiar`: words that are none of them,
    and what says the same."""

    model: type
    title: str
    familiar: Familiar = MappingProxyType({})


class Either(NamedTuple):
    """A single value, or keys that say more."""

    single: "Single"
    keys: Keys


Single: TypeAlias = Text | NameOrNumber | Choice | Flag | Number | Constant
Shape: TypeAlias = Single | ListOf | Named | Keys | Either


class Key(NamedTuple):
    """A key of a model. A default of None says that the value may be null; MISSING, that the key has to be there."""

    shape: Shape
    description: str
    default: Any
    attribute: str
    """What the model calls it: the key itself, but for words of Python's."""
    when_null: str
    """What is wrong with null; "" takes it as if the key were not there, where the default is None."""

    @property
    def is_required(self) -> bool:
        """Whether there is no going on without it."""
        return self.default is MISSING


def key(shape: Shape, description: str, default: Any = MISSING, *, name: str = "", when_null: str = "") -> Any:
    """The field of a dataclass for this key. `default` is a value, or what makes one that can be changed; `name` is the key
    where it cannot be the field's name."""
    metadata = {"shape": shape, "description": description, "name": name, "when_null": when_null}
    return (
        field(default_factory=default, metadata=metadata)
        if callable(default)
        else field(default=default, metadata=metadata)
    )


def asked(shape: Shape, description: str) -> Any:
    """The same of a key that asks for something if it is there: one whose value was forgotten would let everything pass."""
    return key(shape, description, None, when_null="is empty: it would require nothing; leave the key out to mean that")


@cache
def keys_of(model: type) -> Mapping[str, Key]:
    """The keys of a model, in their order. Numbers that are declared as such and nothing more are numbers from 0 on."""
    return MappingProxyType(
        {
            one.metadata.get("name") or one.name: Key(
                one.metadata.get("shape", Number(is_whole=one.type is int)),
                one.metadata.get("description", ""),
                one.default if one.default_factory is MISSING else one.default_factory(),
                one.name,
                one.metadata.get("when_null", ""),
            )
            for one in fields(model)
        }
    )
