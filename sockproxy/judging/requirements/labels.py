"""`labels`: what a new object has to carry.

Owns where labels stand. Must not know what they are for. Begin at `LABELS`. A service's labels are its own; those of its
containers stand in its template and are not asked for. A volume that is there keeps the labels that it has.
"""

from collections.abc import Callable, Collection, Mapping

from sockproxy.judging.requirements.facts import Check, Facts, Kind, Unmet
from sockproxy.judging.requirements.places import CREATE, SERVICES, no_containers
from sockproxy.judging.requirements.query import alternatives
from sockproxy.judging.requirements.wording import is_value, keyed, shown


def _of_body(facts: Facts) -> Mapping[str, str]:
    labels: Mapping[str, str] = facts.body.get("Labels", {})
    return labels


def _of_build(facts: Facts) -> Mapping[str, str]:
    return facts.query.json("labels") or {}


LABELS: Mapping[str, tuple[str, Callable[[Facts], Mapping[str, str]]]] = {
    **dict.fromkeys((CREATE, "VolumeCreate", "NetworkCreate", *SERVICES), ("Labels", _of_body)),
    **dict.fromkeys(("SecretCreate", "SecretUpdate", "ConfigCreate", "ConfigUpdate"), ("Labels", _of_body)),
    "ImageBuild": ("query.labels", _of_build),
}
"""The field, and the labels in it."""


def make_labels(required: Mapping[str, str], _others: Collection[str] = ()) -> Check:
    """That each label is there, with a value that fits."""
    fitting = {name: alternatives(pattern) for name, pattern in required.items()}

    def check(facts: Facts) -> Unmet | None:
        if (unmet := no_containers(facts)) is not None:
            return unmet
        field, labels_of = LABELS[facts.operation_id]
        labels = labels_of(facts)
        for name, globs in fitting.items():
            if name not in labels:
                return Unmet(keyed(field, name), f"is not there; labels requires {shown(required[name])}")
            if not globs.fit(labels[name]):
                return Unmet(keyed(field, name), f"{is_value(labels[name])}; labels requires {shown(required[name])}")
        return None

    return check


KIND = Kind(frozenset(LABELS), make_labels)
