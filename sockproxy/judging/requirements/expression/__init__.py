"""`expression`: a condition in CEL, the language of Kubernetes' admission policies.

`program` makes a check of it, `cost` bounds what that may take, `tree` reads what the library has parsed. All of it is imported
when the first expression is made, and the library with it: who has none pays nothing. Begin at `make_expression`.
"""

from collections.abc import Collection

from sockproxy.judging.requirements.facts import Check, Kind


def make_expression(text: str, _others: Collection[str] = ()) -> Check:
    """That it is true of a request."""
    from sockproxy.judging.requirements.expression.program import compile_expression

    return compile_expression(text).ask


def mentions_body(text: str) -> bool:
    """Whether it says something of the body."""
    from sockproxy.judging.requirements.expression.program import compile_expression

    return "body" in compile_expression(text).mentioned


def fields_of_body(text: str) -> list[tuple[str, ...]]:
    """The paths of names that it asks the body for."""
    from sockproxy.judging.requirements.expression.program import compile_expression
    from sockproxy.judging.requirements.expression.tree import paths

    return list(paths(compile_expression(text).mentioned.get("body", {})))


KIND = Kind(None, make_expression, mentions_body, fields_of_body)
