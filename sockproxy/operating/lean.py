"""How aiohttp is imported so that only what the admin listener needs of it comes into memory.

Owns what waits until it is asked for, a tenth of a serving process: aiohttp's client with the certificates of all CAs that
the machine knows (3.6 MiB, and 45 ms at start), and a C++ library for lists of a few handlers (1.0 MiB). Must not know
what the listener does. Begin at `defer_client`.
"""

import os
import sys
from importlib.util import find_spec, module_from_spec

_PACKAGE = "aiohttp"
_NO_EXTENSION = (
    "FROZENLIST_NO_EXTENSIONS"  # how that package is told to do without its own, which brings libstdc++ along
)


def defer_client() -> None:
    """From now on `aiohttp.web` can be imported without the code of `aiohttp` itself, which imports the client. That code
    runs when anything is asked of the package that is no module of it. Changes nothing where it has run already. Call it
    before there are other threads: they may be reading the environment."""
    spec = find_spec(_PACKAGE)
    if _PACKAGE in sys.modules or spec is None or spec.loader is None:
        return
    os.environ.setdefault(_NO_EXTENSION, "1")
    load, package = spec.loader.exec_module, module_from_spec(spec)

    def make_whole(name: str) -> object:
        if name.startswith("__") or find_spec(f"{_PACKAGE}.{name}") is not None:
            raise AttributeError(name)
        del vars(package)["__getattr__"]
        load(package)
        return getattr(package, name)

    # PEP 562. The version is what `aiohttp.web` asks for, and would name in the admin listener's answers.
    vars(package).update(__getattr__=make_whole, __version__="")
    sys.modules[_PACKAGE] = package
