"""The root file system of the test image: this machine's static busybox with a name for each of its programs."""

import io
import subprocess
import tarfile
from functools import cache
from pathlib import Path

IMAGE = "busybox:test"


@cache
def busybox_rootfs() -> bytes:
    """A tar, the same bytes each time."""
    busybox = Path("/bin/busybox").read_bytes()
    programs = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp"):
            tar.addfile(entry(name, tarfile.DIRTYPE, mode=0o1777 if name == "tmp" else 0o755))
        tar.addfile(entry("bin/busybox", size=len(busybox), mode=0o755), io.BytesIO(busybox))
        for program in sorted(set(programs) - {"busybox"}):
            tar.addfile(entry(f"bin/{program}", tarfile.SYMTYPE, linkname="busybox"))
        for name, text in (("passwd", "root:x:0:0:root:/root:/bin/sh\n"), ("group", "root:x:0:\n")):
            tar.addfile(entry(f"etc/{name}", size=len(text)), io.BytesIO(text.encode()))
    return out.getvalue()


def entry(
    name: str, type: bytes = tarfile.REGTYPE, *, size: int = 0, mode: int = 0o644, linkname: str = ""
) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.size, made.mode, made.linkname = type, size, mode, linkname
    return made


def tar_of(**files: str | bytes) -> bytes:
    """A tar with these files at its top."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            raw = content.encode() if isinstance(content, str) else content
            tar.addfile(entry(name, size=len(raw)), io.BytesIO(raw))
    return out.getvalue()


def files_in(tar: bytes) -> dict[str, bytes]:
    """The regular files of a tar by name."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        return {
            member.name: extracted.read()
            for member in opened
            if member.isreg() and (extracted := opened.extractfile(member)) is not None
        }
