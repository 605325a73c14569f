"""What an expression costs at most, before it is asked: in nanoseconds, by the size of the values that it mentions.

Owns the functions that an expression may call, and what each costs. Must not know requests or the library. Begin at `cost_of`.
The library cannot be interrupted, so nothing is begun that could take long: the event loop waits for it. A size is counted
twice, as elements of lists and maps and as bytes of JSON, both of which only grow from the inside out:

    n, b       elements and bytes of all values of the request that the expression mentions, which are counted when it is asked
    n1, b1     those of the element that a macro is at; summed up over all, they are those of the list that it goes over

A macro within a macro so costs the product of both lists, and `list.all(x, x.matches(...))` no more than all of its text. What
the library appends to a list it copies first, which makes `map` and `filter` quadratic; that comes out of the same rules.
Prices are twice to twenty times what was measured, since nothing corrects them: of 26 expressions made to be dear, with values
as large as the limit takes, none took more than 10 ms. That the values are handed over to the library is priced once.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from sockproxy.judging.requirements.expression.tree import Call, Field, Fold, Literal, Made, Name, Node

COST_MAX = 20_000_000
"""Nanoseconds that one expression may take for one request: as long as the largest body takes to be read (`payload.text`)."""

ORDINARY = {"n": 30.0, "b": 500.0}
"""What an expression mentions of an ordinary create: a few lists of a few elements. What costs too much of it is refused when
the file is read."""

REGEX_SIZE_MAX = 20_000
"""Steps of a regex, roughly. RE2 takes none that would go back, but reads each byte as often as it has steps at worst."""

_NODE, _ELEMENT, _BYTE, _CONVERTED_BYTE = 20.0, 40.0, 2.0, 10.0
_REGEX, _REGEX_STEP, _REGEX_STEP_BYTE = 15_000.0, 500.0, 5.0  # a pattern is compiled anew at each call
_NUMBER_BYTES = 32.0
_HANDED_OVER = 200.0  # of an element, however often it is asked; one of a map takes 175 at most

_MACROS_MAX = 4  # within each other; of ordinary lists more cost too much anyway, and weighing them doubles with each
_TOO_MUCH = "costs too much: macros stand within macros or go over lists that it makes larger, or a pattern is large"

Polynomial: TypeAlias = Mapping[tuple[str, ...], float]
"""Symbols whose product it is, sorted -> how often."""


class Size(NamedTuple):
    """How large a value can be."""

    elements: Polynomial
    bytes: Polynomial


class Scope(NamedTuple):
    """Where a node stands: the variables of the macros around it, and how many these are."""

    sizes: Mapping[str, Size]
    level: int


_NOTHING: Polynomial = MappingProxyType({})
_EMPTY = Size(_NOTHING, _NOTHING)
_REQUEST = Size({("n",): 1.0}, {("b",): 1.0})


def cost_of(root: Node) -> Polynomial:
    """The cost. Raises ValueError, with a text for people, for what may not be called or costs too much of anything."""
    asked, _ = _weigh(root, Scope({}, 0))
    cost = _add(asked, {("n",): _HANDED_OVER})
    if evaluate(cost, ORDINARY) > COST_MAX:
        raise ValueError(_TOO_MUCH)
    return cost


def evaluate(cost: Polynomial, values: Mapping[str, float]) -> float:
    """The polynomial where its symbols have these values."""
    return sum(often * prod(map(values.__getitem__, symbols)) for symbols, often in cost.items())


def _number(value: float) -> Polynomial:
    return {(): value}


def _add(*several: Polynomial) -> Polynomial:
    total: dict[tuple[str, ...], float] = {}
    for one in several:
        for symbols, often in one.items():
            total[symbols] = total.get(symbols, 0.0) + often
    return total


def _times(one: Polynomial, other: Polynomial | float) -> Polynomial:
    if not isinstance(other, Mapping):
        return {symbols: often * other for symbols, often in one.items()}
    products = ({tuple(sorted(a + b)): x * y} for a, x in one.items() for b, y in other.items())
    return _add(*products)


def _sum(sizes: Sequence[Size]) -> Size:
    return Size(_add(*(size.elements for size in sizes)), _add(*(size.bytes for size in sizes)))


_Weight: TypeAlias = tuple[Polynomial, Size]


def _weigh(node: Node, scope: Scope) -> _Weight:
    """What it costs to ask a node once, and how large the answer can be."""
    match node:
        case Literal(text=text):
            return _number(_NODE), Size(_NOTHING, _number(_NUMBER_BYTES if text is None else 4.0 * len(text)))
        case Name(name=name):
            return _number(_NODE), scope.sizes.get(name, _REQUEST)
        case Field(of=of, is_test=is_test):
            cost, size = _weigh(of, scope)
            return _add(cost, _number(2 * _NODE)), _EMPTY if is_test else size
        case Made(parts=parts):
            costs, sizes = _weigh_all(parts, scope)
            own = _number(_NODE + _ELEMENT * len(parts))
            return _add(costs, own), _sum([*sizes, Size(_number(len(parts)), _NOTHING)])
        case Call(function=function, parts=parts):
            costs, sizes = _weigh_all(parts, scope)
            if function not in FUNCTIONS:
                raise ValueError(f"calls {function}, which expressions cannot")
            own, size = FUNCTIONS[function](parts, sizes)
            return _add(costs, own, _number(_NODE)), size
        case Fold():
            return _weigh_fold(node, scope)


def _weigh_all(parts: Sequence[Node], scope: Scope) -> tuple[Polynomial, list[Size]]:
    weights = [_weigh(part, scope) for part in parts]
    return _add(*(cost for cost, _ in weights)), [size for _, size in weights]


def _weigh_fold(fold: Fold, scope: Scope) -> _Weight:
    over_cost, over = _weigh(fold.over, scope)
    start_cost, start = _weigh(fold.start, scope)
    level = scope.level + 1
    if level > _MACROS_MAX:
        raise ValueError(_TOO_MUCH)
    n, b = f"n{level}", f"b{level}"

    def within(so_far: Size) -> Scope:
        return Scope({**scope.sizes, fold.element: Size({(n,): 1.0}, {(b,): 1.0}), fold.so_far: so_far}, level)

    def all_of(one: Polynomial) -> Polynomial:
        """What sums up where `one` is for one element."""
        sums = []
        for symbols, often in one.items():
            rest: Polynomial = {tuple(symbol for symbol in symbols if symbol not in (n, b)): often}
            own = [over.elements if symbol == n else over.bytes for symbol in symbols if symbol in (n, b)]
            for factor in own or [over.elements]:
                rest = _times(rest, factor)
            sums.append(rest)
        return _add(*sums)

    # What comes out grows by what a step adds to nothing, once for each element.
    _, grown = _weigh(fold.step, within(_EMPTY))
    made = _sum([start, Size(all_of(grown.elements), all_of(grown.bytes))])
    condition_cost, _ = _weigh(fold.condition, within(made))
    step_cost, _ = _weigh(fold.step, within(made))
    result_cost, result = _weigh(fold.result, Scope({**scope.sizes, fold.so_far: made}, scope.level))
    turns = all_of(_add(condition_cost, step_cost, _number(_NODE)))
    return _add(over_cost, start_cost, turns, result_cost, _number(2 * _NODE)), result


# Functions: their parts and the sizes of these -> what the call itself costs, and how large the answer can be.

_Price: TypeAlias = Callable[[Sequence[Node], Sequence[Size]], _Weight]


def _small(_parts: Sequence[Node], _sizes: Sequence[Size]) -> _Weight:
    return _NOTHING, Size(_NOTHING, _number(_NUMBER_BYTES))


def _chosen(_parts: Sequence[Node], sizes: Sequence[Size]) -> _Weight:
    return _NOTHING, _sum(sizes[1:])


def _read_through(sizes: Sequence[Size]) -> Polynomial:
    whole = _sum(sizes)
    return _add(_times(whole.elements, _ELEMENT), _times(whole.bytes, _BYTE))


def _compared(_parts: Sequence[Node], sizes: Sequence[Size]) -> _Weight:
    return _read_through(sizes), Size(_NOTHING, _number(_NUMBER_BYTES))


def _joined(_parts: Sequence[Node], sizes: Sequence[Size]) -> _Weight:
    whole = _sum(sizes)
    return _read_through(sizes), Size(whole.elements, _add(whole.bytes, _number(_NUMBER_BYTES)))


def _at(_parts: Sequence[Node], sizes: Sequence[Size]) -> _Weight:
    return _read_through(sizes[1:]), sizes[0]


def _converted(_parts: Sequence[Node], sizes: Sequence[Size]) -> _Weight:
    text = _add(_sum(sizes).bytes, _number(_NUMBER_BYTES))
    return _times(text, _CONVERTED_BYTE), Size(_NOTHING, text)


def _contains(_parts: Sequence[Node], sizes: Sequence[Size]) -> _Weight:
    text, sought = sizes
    # Tried at each byte, and compared up to where they differ, fifty bytes a nanosecond.
    return _times(text.bytes, _add(_number(10.0), _times(sought.bytes, 0.02))), _EMPTY


def _matches(parts: Sequence[Node], sizes: Sequence[Size]) -> _Weight:
    pattern = parts[1]
    if not isinstance(pattern, Literal) or pattern.text is None:
        raise ValueError("matches a pattern that is not written in it: whoever chooses that chooses what it costs")
    steps = regex_size(pattern.text)
    if steps > REGEX_SIZE_MAX:
        raise ValueError("matches a pattern that is too large, or repeats too much")
    return _add(_times(sizes[0].bytes, _REGEX_STEP_BYTE * steps), _number(_REGEX + _REGEX_STEP * steps)), _EMPTY


_REPEAT = re.compile(r"\{[0-9]*,?[0-9]*\}")
_FOLDED = re.compile(r"\(\?[a-zA-Z]*i")
_CLASS_OF_UNICODE = re.compile(r"\\[pP]")


def regex_size(pattern: str) -> int:
    """The steps of a regex, at most: as if each repeat stood within all others, and each character were the largest there."""
    steps = 1 + len(pattern)
    for repeat in _REPEAT.findall(pattern):
        steps *= max([1, *(int(number) for number in re.findall("[0-9]+", repeat))])
    return steps * (4 if _FOLDED.search(pattern) else 1) * (600 if _CLASS_OF_UNICODE.search(pattern) else 1)


FUNCTIONS: Mapping[str, _Price] = MappingProxyType(
    {
        **dict.fromkeys(("_&&_", "_||_", "!_", "@not_strictly_false", "-_", "_-_", "_*_", "_/_", "_%_"), _small),
        **dict.fromkeys(("_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "@in"), _compared),
        **dict.fromkeys(("size", "startsWith", "endsWith"), _compared),
        **dict.fromkeys(("bool", "bytes", "double", "int", "string", "uint"), _converted),
        **dict.fromkeys(("type", "dyn"), _joined),
        "_?_:_": _chosen,
        "_+_": _joined,
        "_[_]": _at,
        "contains": _contains,
        "matches": _matches,
    }
)
"""What may be called. Not times: there is no clock here, and time zones are files. `dyn` gives what it is given."""
