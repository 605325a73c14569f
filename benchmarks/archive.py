"""`python -m benchmarks.archive`: what it takes to count a fleet's record, and to learn from it, as the record grows.

Owns the record that is made up (`write_trail`), its sizes, and the table. Each command is a process of its own, as a person
would call it: its time is the clock's, its memory the most that was ever resident. Prints a table in Markdown. The chain of
a made-up record is not true; none of these commands looks at it.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

GIB = 1 << 30
SIZES = (1, 2, 4, 8, 16, 32)
"""GiB of trails, as far as the disk goes."""

_DISK_SHARE = 0.5  # of what is free; Parquet takes a tenth of the trails beside them
_BLOCK_EVENTS = 2000
_COMMANDS = {
    "export": ("audit", "export", "--to", "{lake}", "--host-pattern", "/(host-[0-9]+)", "{trails}"),
    "summary of trails": ("audit", "summary", "--archive", "--format", "json", "{trails}"),
    "summary of Parquet": ("audit", "summary", "--format", "json", "{lake}"),
    "learn from Parquet": ("learn", "{lake}"),
}
_SHAPES = (
    ("ContainerCreate", "POST", "/v1.41/containers/create?name={name}", "container", "", 201),
    ("ContainerStart", "POST", "/v1.41/containers/{name}/start", "container", "{name}", 204),
    ("ContainerInspect", "GET", "/v1.41/containers/{name}/json", "container", "{name}", 200),
    ("ContainerList", "GET", "/v1.41/containers/json?all=1", "container", "", 200),
    ("ContainerDelete", "DELETE", "/v1.41/containers/{name}?force=1", "container", "{name}", 204),
    ("ImageInspect", "GET", "/v1.41/images/registry.example.com/team/{name}/json", "image", "{name}", 200),
)
_LINE = (
    '{{"api_version":"1.41","body":null,"bytes_in":{bytes_in},"bytes_out":{bytes_out},"duration_ms":{ms},"effect":"{effect}",'
    '"engine_ms":{ms},"hash":"{hash}","id":"{id}","listener":"unix:///run/sockproxy/docker.sock","method":"{method}",'
    '"operation":"{operation}","policy":"ci","policy_revision":"5f0cbb0a4b0a6f2e","prev":"{prev}","principal":{{"address":'
    'null,"container":"{container}","exe":"/usr/bin/docker","gid":998,"kind":"unix","pid":{pid},"tls_subject":null,"uid":'
    '{uid}}},"reason":"{reason}","resource":{{"kind":"{kind}","name":"{resource}"}},"rule":"ci/allow[0]","seq":{seq},'
    '"shadow":null,"stage":"{stage}","status":{status},"target":"{target}","time":"{time}","user_agent":"Docker-Client/'
    '20.10.24 (linux)","v":1}}\n'
)


def write_trail(path: Path, size: int, seed: int) -> None:
    """A made-up trail of about that many bytes: a month of builds, by some hundred containers."""
    chance = random.Random(seed)
    pieces = "".join(_block(chance)).split("@hash@")
    with path.open("w", encoding="utf-8") as file:
        written, turn = 0, 0
        while written < size:
            # The same events again on another day, with other ids, names and hashes: what no packer may make small is new.
            turn += 1
            hashes = chance.randbytes(32 * len(pieces)).hex()
            text = "".join(piece + hashes[64 * at : 64 * at + 64] for at, piece in enumerate(pieces[:-1]))
            text = (text + pieces[-1]).replace("@day@", f"2026-11-{turn % 30 + 1:02}")
            written += file.write(text.replace("@turn@", f"{seed:x}-{turn:x}"))


def _block(chance: random.Random) -> Iterator[str]:
    for number in range(_BLOCK_EVENTS // 2):
        operation, method, target, kind, resource, status = chance.choice(_SHAPES)
        name, denied = f"job-@turn@-{number}", chance.random() < 0.02
        told = {
            "operation": operation,
            "method": method,
            "target": target.format(name=name),
            "kind": kind,
            "resource": resource.format(name=name),
            "id": f"@turn@-{number:x}",
            "pid": chance.randrange(1 << 22),
            "effect": "deny" if denied else "allow",
            "reason": "no-rule" if denied else "allowed-by-rule",
            "container": f"{chance.randrange(200):064x}",
            "uid": chance.randrange(1000, 1010),
        }
        second = f"@day@T{chance.randrange(24):02}:{chance.randrange(60):02}:{chance.randrange(60):02}"
        for at, stage in enumerate(("decided", "completed")):
            is_over = stage == "completed"
            yield _LINE.format(
                **told,
                stage=stage,
                time=f"{second}.{chance.randrange(10**6):06}Z",
                seq=2 * number + at + 1,
                hash="@hash@",
                prev="@hash@",
                status=(403 if denied else status) if is_over else "null",
                bytes_in=0 if is_over else "null",
                bytes_out=chance.randrange(4000) if is_over else "null",
                ms=chance.randrange(1, 5000) / 1000 if is_over else "null",
            )


def run(arguments: Sequence[str]) -> tuple[float, float]:
    """Seconds that a command took, and the MiB that it had at most. Raises RuntimeError if it failed."""
    began = time.perf_counter()
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.execv(sys.executable, [sys.executable, "-m", "sockproxy", *arguments])
    _, status, usage = os.wait4(child, 0)
    if status:
        raise RuntimeError(f"sockproxy {arguments[0]} ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def measure(folder: Path, sizes: Sequence[int]) -> Iterator[str]:
    """The rows of the table, one a size."""
    yield "| trails, GiB | events | Parquet, GiB | " + " | ".join(_COMMANDS) + " |"
    yield "|" + "---|" * (3 + len(_COMMANDS))
    logs, lake = folder / "logs", folder / "lake"
    files: list[Path] = []
    for size in sizes:
        while len(files) < size:
            file = logs / f"host-{len(files)}" / "audit.jsonl"
            file.parent.mkdir(parents=True)
            print(f"writing {file.name} {len(files) + 1} of {size}", file=sys.stderr, flush=True)
            write_trail(file, GIB, len(files))
            files.append(file)
        shutil.rmtree(lake, ignore_errors=True)
        cells = []
        for name, words in _COMMANDS.items():
            print(f"{name}, {size} GiB", file=sys.stderr, flush=True)
            places = {"lake": str(lake), "trails": str(logs / "*" / "audit.jsonl")}
            seconds, mib = run([word.format(**places) for word in words])
            cells.append(f"{seconds:.1f} s, {mib:,.0f} MiB")
        packed = sum(file.stat().st_size for file in lake.rglob("*.parquet")) / GIB
        yield f"| {size} | {_events(files):,} | {packed:.2g} | " + " | ".join(cells) + " |"


def _events(files: Sequence[Path]) -> int:
    """About how many: by the length of the first lines."""
    with files[0].open("rb") as file:
        length = sum(len(next(file)) for _ in range(_BLOCK_EVENTS)) / _BLOCK_EVENTS
    return round(sum(file.stat().st_size for file in files) / length / 1e5) * 100_000


def main() -> int:
    """Measure and print; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.archive", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--largest", type=int, default=SIZES[-1], metavar="GIB", help="the largest record (32)")
    parser.add_argument("--folder", type=Path, help="where it is made up, and removed again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sockproxy-archive-", dir=options.folder) as name:
        room = shutil.disk_usage(name).free * _DISK_SHARE / GIB
        for row in measure(Path(name), [size for size in SIZES if size <= min(room, options.largest)]):
            print(row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
