"""Trails as tables: any number of files, local or in an object store, larger than memory, asked in SQL.

Owns the columns of an event, and which kinds of files it reads: trails (`.jsonl`, packed or not), what `audit export`
has written (Parquet), directories and patterns of both, and the URLs of object stores. Must not know what is asked. It
checks no chain: `recording.trail` does. Begin at `Archive`. DuckDB does the reading; it is imported only here.
"""

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from sockproxy.judging.judge import IGNORED_BODY_BYTES
from sockproxy.recording.checkpoint import STAGE as CHECKPOINT
from sockproxy.recording.event import EVENT_VERSION, Event
from sockproxy.recording.sinks import LINE_BYTES_MAX
from sockproxy.recording.summary import Alike

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY = "2GiB"
"""What a question may take of memory; what it needs beyond that goes to temporary files."""

ROWS_AT_ONCE = 1000
"""Rows that are fetched in one go: enough to make the going cheap, few enough to be no matter of memory."""

PRINCIPAL = {
    "kind": "VARCHAR",
    "uid": "BIGINT",
    "gid": "BIGINT",
    "pid": "BIGINT",
    "exe": "VARCHAR",
    "container": "VARCHAR",
    "tls_subject": "VARCHAR",
    "address": "VARCHAR",
}
COLUMNS = {
    "v": "INTEGER",
    "id": "VARCHAR",
    "seq": "BIGINT",
    "time": "VARCHAR",
    "stage": "VARCHAR",
    "listener": "VARCHAR",
    "principal": "STRUCT({})".format(", ".join(f'"{name}" {kind}' for name, kind in PRINCIPAL.items())),
    "operation": "VARCHAR",
    "method": "VARCHAR",
    "target": "VARCHAR",
    "api_version": "VARCHAR",
    "resource": "STRUCT(kind VARCHAR, name VARCHAR)",
    "effect": "VARCHAR",
    "reason": "VARCHAR",
    "rule": "VARCHAR",
    "policy": "VARCHAR",
    "policy_revision": "VARCHAR",
    "shadow": "VARCHAR",
    "status": "INTEGER",
    "bytes_in": "BIGINT",
    "bytes_out": "BIGINT",
    "duration_ms": "DOUBLE",
    "engine_ms": "DOUBLE",
    "user_agent": "VARCHAR",
    "body": "JSON",
    "prev": "VARCHAR",
    "hash": "VARCHAR",
    # These are there where there is something to tell.
    "response_body": "JSON",
    "traceparent": "VARCHAR",
    "recording": "STRUCT(file VARCHAR, sha256 VARCHAR, bytes BIGINT, is_cut BOOLEAN)",
}
"""The fields of an event, in SQL's types. `time` becomes a TIMESTAMPTZ."""

_VIEWS = """
CREATE TEMP VIEW events AS SELECT * EXCLUDE (time_text) FROM told;
CREATE TEMP VIEW requests AS SELECT * FROM events WHERE stage = 'completed';
CREATE TEMP VIEW unfinished AS SELECT * FROM events AS decided
    WHERE stage = 'decided' AND NOT EXISTS (SELECT 1 FROM requests WHERE requests.id = decided.id);
"""

# Alike are events that differ only in their time, their bytes, and in what of a target names one thing or another. Of what
# the catalogue did not know, the target is all that there is.
_ALIKE = """
SELECT count(*) AS times, min(time_text), max(time_text), coalesce(sum(bytes_in), 0), coalesce(sum(bytes_out), 0),
    any_value(target), max(bytes_in), {columns}
FROM (SELECT *, principal.kind AS kind, principal.uid AS uid, principal.exe AS exe,
             principal.container AS container, principal.tls_subject AS tls_subject,
             regexp_replace(principal.address, ':[0-9]*$', ':') AS address FROM told)
GROUP BY {columns}, bytes_in > {ignored_bytes}, CASE WHEN operation = '' THEN target END
"""
_EXPORT = """
COPY (SELECT * EXCLUDE (file) REPLACE ({host} AS host),
             strftime(time AT TIME ZONE 'UTC', '%Y-%m-%d') AS day FROM events)
TO {directory} (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (day, host), WRITE_PARTITION_COLUMNS, APPEND,
                FILENAME_PATTERN 'audit-{{uuid}}')
"""
_TRAILS = """
SELECT * REPLACE (time::TIMESTAMPTZ AS time), time AS time_text, NULL::VARCHAR AS host
FROM read_json({files}, format = 'newline_delimited', columns = {{{columns}}}, filename = 'file',
               maximum_object_size = {bytes_max})
WHERE {checked}
"""
_TABLES = """
SELECT {columns}, file, host, strftime(time AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ') AS time_text
FROM read_parquet({files}, filename = 'file', hive_types_autocast = false)
"""
_ALIKE_COLUMNS = (
    *("stage", "listener", "operation", "method", "api_version", "effect", "reason", "rule", "policy", "shadow"),
    *("status", "kind", "uid", "exe", "container", "tls_subject", "address"),
)


# What is JSON, but no event, would be a row of nothing. Checkpoints are no events.
_CHECKED = (
    f"CASE WHEN v = {EVENT_VERSION} THEN stage IS DISTINCT FROM '{CHECKPOINT}' "
    f"ELSE error('not an audit event of version {EVENT_VERSION}: ' || file) END"
)


class Answer(NamedTuple):
    """Rows under their columns; to be read once."""

    columns: tuple[str, ...]
    rows: Iterator[tuple[Any, ...]]


class Archive:
    """Trails, as the views `events`, `requests` (those that were completed) and `unfinished` (decided, and no more)."""

    def __init__(self, sources: Sequence[str], *, memory: str = MEMORY, threads: int | None = None) -> None:
        """Raises OSError, with a text for people, where there is no DuckDB, or nothing to read."""
        self._scratch = tempfile.TemporaryDirectory(prefix="sockproxy-query-")
        self._database = _connect(memory, threads, self._scratch.name)
        for scheme in {match[1] for source in sources if (match := _SCHEME.match(source))}:
            self._reach(scheme)
        self._run(f"CREATE TEMP VIEW told AS {_union(sources)}")
        self._run(_VIEWS)

    def close(self) -> None:
        """Frees memory and temporary files."""
        self._database.close()
        self._scratch.cleanup()

    def ask(self, sql: str) -> Answer:
        """The answer to a question. Raises OSError with what DuckDB says of it."""
        cursor = self._run(sql)
        columns = tuple(column[0] for column in cursor.description or ())
        return Answer(columns, self._rows(cursor))

    def alike(self, *, in_all: bool = False) -> Iterator[Alike]:
        """All events, those that are alike in what is counted as one. `in_all`: alike also in their targets and bodies."""
        columns = (*_ALIKE_COLUMNS, "target", "body") if in_all else _ALIKE_COLUMNS
        for times, first, last, bytes_in, bytes_out, target, bytes_max, *values in self.ask(
            _ALIKE.format(columns=", ".join(columns), ignored_bytes=IGNORED_BODY_BYTES)
        ).rows:
            named = {"body": None, "target": target} | dict(zip(columns, values, strict=True))
            if named["body"] is not None:
                named["body"] = orjson.loads(named["body"])
            principal = {name: named.pop(name, None) for name in PRINCIPAL}
            event: Event = named | {"principal": principal, "bytes_in": bytes_max, "time": first}
            yield Alike(event, times, first, last, int(bytes_in), int(bytes_out))

    def export(self, directory: str, host: str, host_pattern: str = "") -> int:
        """Writes Parquet files below a directory or the URL of one, `day=…/host=…/`, and returns how many events. `host`:
        whose they are, unless a pattern finds it in the name of their file. Raises OSError."""
        if match := _SCHEME.match(directory):
            self._reach(match[1])
        named = f"nullif(regexp_extract(file, {_quoted(host_pattern)}, 1), '')" if host_pattern else "NULL"
        written = self._run(
            _EXPORT.format(host=f"coalesce(host, {named}, {_quoted(host)})", directory=_quoted(directory))
        ).fetchone()
        return int(written[0]) if written else 0

    def _reach(self, scheme: str) -> None:
        """Lets DuckDB read and write an object store by fsspec's file system for it."""
        try:
            from fsspec import filesystem  # type: ignore[import-untyped,import-not-found,unused-ignore]

            self._database.register_filesystem(filesystem(scheme))
        except (ImportError, ValueError) as error:
            # Lawful: it is said what is missing.
            raise OSError(f"{scheme}:// cannot be reached: {error}") from error

    def _run(self, sql: str) -> "DuckDBPyConnection":
        import duckdb

        try:
            return self._database.execute(sql)
        except duckdb.Error as error:
            raise OSError(str(error)) from error  # lawful: told as it is, with file and line where it has them

    def _rows(self, cursor: "DuckDBPyConnection") -> Iterator[tuple[Any, ...]]:
        import duckdb

        try:
            while rows := cursor.fetchmany(ROWS_AT_ONCE):
                yield from rows
        except duckdb.Error as error:
            raise OSError(str(error)) from error  # lawful: as above


_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.ASCII)


def needs_archive(source: str) -> bool:
    """Whether only an archive can read this: a directory, a pattern, a URL, or Parquet."""
    if _SCHEME.match(source) or source.endswith(".parquet"):
        return True
    return os.path.isdir(source) or (not os.path.exists(source) and any(sign in source for sign in "*?["))


def _is_directory(source: str) -> bool:
    # Of an object store it is not asked, since there are no directories: what has no ending is none of its objects.
    return "." not in source.rpartition("/")[2] if _SCHEME.match(source) else os.path.isdir(source)


def _connect(memory: str, threads: int | None, scratch: str) -> "DuckDBPyConnection":
    try:
        import duckdb
    except ImportError as error:
        # Lawful: an extra, and it is said how to get it.
        raise OSError("this needs DuckDB: pip install 'sockproxy[query]'") from error
    config: dict[str, Any] = {
        "memory_limit": memory,
        "temp_directory": scratch,
        "preserve_insertion_order": False,
        "autoinstall_known_extensions": False,
        "TimeZone": "UTC",
    }
    if threads is not None:
        config["threads"] = threads
    try:
        return duckdb.connect(":memory:", config=config)
    except duckdb.Error as error:
        raise OSError(str(error)) from error  # lawful: a size of memory that is none


def _union(sources: Sequence[str]) -> str:
    """All events of all sources, however these are written."""
    files = [os.path.join(source, "**", "*.parquet") if _is_directory(source) else source for source in sources]
    tables = [file for file in files if file.endswith(".parquet")]
    trails = [file for file in files if not file.endswith(".parquet")]
    parts = []
    if trails:
        columns = ", ".join(f"'{name}': '{kind}'" for name, kind in COLUMNS.items())
        named = {"files": _list(trails), "bytes_max": LINE_BYTES_MAX, "checked": _CHECKED}
        parts.append(_TRAILS.format(columns=columns, **named))
    if tables:
        parts.append(_TABLES.format(columns=", ".join(f'"{name}"' for name in COLUMNS), files=_list(tables)))
    return " UNION ALL BY NAME ".join(parts)


def _list(names: Sequence[str]) -> str:
    return "[" + ", ".join(map(_quoted, names)) + "]"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
