"""Both text formats: what is written is what prometheus_client's own writer would write, and its parser reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import generate_latest as generate_plain
from prometheus_client.core import Exemplar, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from sockproxy.recording.metrics.exposition import CONTENT_TYPE, PLAIN_CONTENT_TYPE, openmetrics, plain

HOSTILE = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ['"', "\\", "\n", '\\"\n', "} 1", "é", "# EOF"]
)
NUMBERS = st.floats() | st.integers(0, 1 << 53).map(float) | st.sampled_from([5e-05, 1e22, float("inf"), float("nan")])
TYPES = [  # type, the sample's name, whether it may have an exemplar
    ("gauge", "a_seconds", False),
    ("counter", "a_seconds_total", True),
    ("histogram", "a_seconds_bucket", True),
    ("info", "a_seconds_info", False),
    ("unknown", "a_seconds", False),
]


class Told:
    """A registry that tells these."""

    def __init__(self, *metrics: Metric) -> None:
        self._metrics = metrics

    def collect(self) -> tuple[Metric, ...]:
        return self._metrics


@pytest.mark.parametrize(("kind", "name", "has_exemplar"), TYPES, ids=[row[0] for row in TYPES])
@given(HOSTILE, HOSTILE, NUMBERS, NUMBERS)
def test_it_says_what_the_library_says(
    kind: str, name: str, has_exemplar: bool, text: str, help: str, number: float, other: float
) -> None:
    metric = Metric("a_seconds", help, kind, "" if kind == "info" else "seconds")
    exemplar = Exemplar({"request_id": text}, other, 1735689600.25) if has_exemplar else None
    metric.add_sample(name, {"sink": text, "result": help}, number, exemplar=exemplar)
    metric.add_sample(name, {}, number)
    assert values_of(openmetrics([metric])) == values_of(generate_latest(Told(metric)))
    assert values_of(plain([metric])) == values_of(generate_plain(Told(metric)))


def values_of(text: bytes) -> list[object]:
    """Line by line, with the numbers as such: they may be spelled in several ways."""
    return [[number_or_text(word) for word in line.split(" ")] for line in text.decode().split("\n")]


def number_or_text(word: str) -> str:
    try:
        return repr(float(word))
    except ValueError:
        return word


def test_the_librarys_parser_reads_it() -> None:
    metric = Metric("a_seconds", "A.", "counter", "seconds")
    metric.add_sample("a_seconds_total", {"sink": 'x"\\\n'}, 3, exemplar=Exemplar({"request_id": "a-1"}, 1.0, 2.0))
    (read,) = text_string_to_metric_families(openmetrics([metric]).decode())
    (sample,) = read.samples
    assert (read.name, read.type, read.unit, read.documentation) == ("a_seconds", "counter", "seconds", "A.")
    assert (sample.labels, sample.value, sample.exemplar.labels) == ({"sink": 'x"\\\n'}, 3.0, {"request_id": "a-1"})


def test_nothing_is_an_end_only() -> None:
    assert openmetrics(CollectorRegistry().collect()) == b"# EOF\n"
    assert plain(CollectorRegistry().collect()) == b""


def test_the_content_type_is_that_of_the_format() -> None:
    assert (CONTENT_TYPE, PLAIN_CONTENT_TYPE) == (CONTENT_TYPE_LATEST, CONTENT_TYPE_PLAIN_0_0_4)
