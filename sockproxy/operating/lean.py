"""How other packages are imported so that only what a serving process needs of them comes into memory.

Owns what waits until somebody asks for it, a sixth of a serving process: aiohttp's client with the certificates of all CAs that
the machine knows, a C++ library for lists of a few handlers, what prometheus_client exposes metrics with (a server of its own),
and what of Python's library only those need. Must not know what any of it is for. Begin at `load_lean`.

Nothing is missing: a package that was not run runs when anything is asked of it, and what stands for a name of a module does
what that does. Whoever imports one of these modules later gets the module.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec
from types import ModuleType

PACKAGES = ("aiohttp", "prometheus_client")
"""Those of which modules are wanted, but not what they import when they are imported themselves."""

Later = Mapping[str, frozenset[str]]

LATER: Later = {
    "aiohttp.web_fileresponse": frozenset({"FileResponse"}),  # folders of files; with all media types of the machine
    "argparse": frozenset({"ArgumentParser"}),  # `python -m aiohttp.web`
    "email.parser": frozenset({"HeaderParser"}),  # parameters of a request's Content-Type
    "email.policy": frozenset({"HTTP"}),  # the same
    "html": frozenset({"escape"}),  # a traceback as a page
    "idna": frozenset(),  # names of hosts in other letters than ASCII
    "tempfile": frozenset({"SpooledTemporaryFile"}),  # files of a form
    "urllib.request": frozenset({"getproxies", "proxy_bypass"}),  # the client's proxies
}
"""Module -> what aiohttp's listener has of it from the beginning: functions, classes that are only called, values that are only
asked for attributes. The rest it asks for when it needs it."""

_NO_EXTENSION = (
    "FROZENLIST_NO_EXTENSIONS"  # how that package is told to do without its own, which brings libstdc++ along
)


def load_lean(module: str, later: Later = LATER) -> None:
    """Imports a module, not weighed down by what only others need; the usual import of it comes behind. Call it before there
    are other threads: they may be reading the environment."""
    os.environ.setdefault(_NO_EXTENSION, "1")
    for package in PACKAGES:
        _defer_package(package)
    before = {*sys.modules}
    try:
        with _standing_in(later):
            __import__(module)  # and not import_module, so that `-X importtime` tells of it
    except Exception:  # noqa: BLE001  # lawful: the usual import tells what is wrong, if it is not a stand-in
        for name in {*sys.modules} - before:
            del sys.modules[name]


def _defer_package(name: str) -> None:
    """From now on the modules of a package can be imported without the package's own code, which imports the rest. That code
    runs when anything is asked of the package that is no module of it. Changes nothing where it has run already."""
    spec = find_spec(name)
    if name in sys.modules or spec is None or spec.loader is None:
        return
    load, package = spec.loader.exec_module, module_from_spec(spec)

    def make_whole(asked: str) -> object:
        if asked.startswith("__") or find_spec(f"{name}.{asked}") is not None:
            raise AttributeError(asked)
        del vars(package)["__getattr__"]
        load(package)
        return getattr(package, asked)

    # PEP 562. The version is what `aiohttp.web` asks for, and would name in the admin listener's answers.
    vars(package).update(__getattr__=make_whole, __version__="")
    sys.modules[name] = package


@contextmanager
def _standing_in(later: Later) -> Iterator[None]:
    stand_ins = {name: _StandIn(name, names) for name, names in later.items() if name not in sys.modules}
    for name, stand_in in stand_ins.items():
        sys.modules[name] = stand_in
        package, _, own_name = name.rpartition(".")
        if package in sys.modules:
            setattr(sys.modules[package], own_name, stand_in)  # for `import email.parser`; the real one takes its place
    try:
        yield
    finally:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]


class _StandIn(ModuleType):
    """Stands for a module while others are imported, and for whoever has got it then."""

    def __init__(self, name: str, later: frozenset[str]) -> None:
        super().__init__(name)
        self._later = later

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Later(self.__name__, name) if name in self._later else getattr(_real(self.__name__), name)


class _Later:
    """Stands for something of a module."""

    __slots__ = ("_module", "_name")

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __call__(self, *arguments: object, **named: object) -> object:
        return getattr(_real(self._module), self._name)(*arguments, **named)

    def __getattr__(self, name: str) -> object:
        return getattr(getattr(_real(self._module), self._name), name)


def _real(name: str) -> ModuleType:
    if isinstance(sys.modules.get(name), _StandIn):
        del sys.modules[name]
    __import__(name)
    return sys.modules[name]
