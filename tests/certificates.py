"""Certificates for tests, made by the openssl command: an authority, and what it signs. Begin at `Authority`."""

import subprocess
from pathlib import Path

CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Certificate:
    """A certificate and its key, as files."""

    def __init__(self, cert: Path, key: Path) -> None:
        self.cert = str(cert)
        self.key = str(key)


class Authority(Certificate):
    """An authority of its own, in `folder`, which need not be there."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        super().__init__(folder / f"{name}.pem", folder / f"{name}-key.pem")
        run("req", "-x509", *CURVE, "-subj", f"/CN={name}", "-days", "2", "-keyout", self.key, "-out", self.cert)

    def sign(self, subject: str, *sans: str, days: int = 2, usage: str = "clientAuth,serverAuth") -> Certificate:
        """A certificate for a subject (`/CN=a/O=b`, the first part first) with these alternative names (`DNS:a`)."""
        number = len(list(self._folder.iterdir()))
        made = Certificate(self._folder / f"{number}.pem", self._folder / f"{number}-key.pem")
        request, extensions = self._folder / f"{number}.csr", self._folder / f"{number}.ext"
        lines = [f"extendedKeyUsage={usage}", *([f"subjectAltName={','.join(sans)}"] if sans else [])]
        extensions.write_text("\n".join(lines) + "\n")
        run("req", "-new", *CURVE, "-utf8", "-subj", subject, "-keyout", made.key, "-out", str(request))
        by = ("-CA", self.cert, "-CAkey", self.key, "-CAcreateserial", "-days", str(days), "-extfile", str(extensions))
        run("x509", "-req", "-in", str(request), *by, "-out", made.cert)
        return made


def run(*arguments: str) -> None:
    told = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
