"""TLS of a listener: who gets in, what is known of them, half-close, certificates that change, and what breaks it.

The client is the ssl module's own, over a plain socket, so that each record of it is the test's to send.
"""

import asyncio
import os
import shutil
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path

import pytest

from sockproxy.forwarding.address import TlsFiles
from sockproxy.forwarding.downstream.handshakes import Handshakes
from sockproxy.forwarding.downstream.listener import Arrival
from sockproxy.forwarding.downstream.tls import ServerTls, client_facts, open_secured
from sockproxy.forwarding.downstream.tls.certificates import ClientFacts, end_of_certificate, subject_text
from sockproxy.forwarding.moving.hangups import HangupWatch
from sockproxy.forwarding.moving.stream import Stream
from sockproxy.forwarding.serving.gates import Gate
from sockproxy.judging.identity import Peer as PeerFacts
from sockproxy.judging.identity import Principal, identify
from tests.certificates import Authority, Certificate, run
from tests.streams import Peer, World, open_world, read_some, until

HEAD_END = b"\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"
PING = b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n"
ATTACH = b"POST /v1.41/containers/x/attach HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
BIG = os.urandom(1 << 20) * 6
UPGRADED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ca")


@pytest.fixture(scope="module")
def server(authority: Authority) -> Certificate:
    return authority.sign("/CN=localhost", "DNS:localhost", "IP:127.0.0.1")


@pytest.fixture(scope="module")
def client(authority: Authority) -> Certificate:
    return authority.sign("/O=Example/OU=builders/CN=ci-7", "DNS:ci-7.example.com", "URI:spiffe://example.org/ci/7")


@pytest.fixture(scope="module")
def tls(authority: Authority, server: Certificate) -> ServerTls:
    return ServerTls(TlsFiles(server.cert, server.key, authority.cert))


def client_context(authority: Authority, client: Certificate | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.cert)
    if client is not None:
        context.load_cert_chain(client.cert, client.key)
    return context


class TlsPeer:
    """The client's end."""

    def __init__(self, peer: Peer, context: ssl.SSLContext) -> None:
        self.peer = peer
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")

    async def _until_done(self, act: Callable[[], object]) -> object:
        while True:
            try:
                done = act()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await asyncio.get_running_loop().sock_recv(self.peer.sock, 1 << 16)
                if not data:
                    raise EOFError("tcp ended") from None
                self._in.write(data)
            else:
                await self._flush()
                return done

    async def _flush(self) -> None:
        if self._out.pending:
            await self.peer.send(self._out.read())

    async def shake_hands(self) -> None:
        await self._until_done(self.tls.do_handshake)

    async def send(self, data: bytes) -> None:
        self.tls.write(data)
        await self._flush()

    async def receive(self, count: int) -> bytes:
        got = b""
        while len(got) < count and (piece := await self.receive_some(count - len(got))):
            got += piece
        return got

    async def receive_some(self, count: int = 1 << 16) -> bytes:
        try:
            piece = await self._until_done(lambda: self.tls.read(count))
        except ssl.SSLZeroReturnError:
            return b""
        assert isinstance(piece, bytes)
        return piece

    async def receive_all(self) -> bytes:
        """Up to the close_notify; EOFError where the connection ended without one."""
        got = b""
        while piece := await self.receive_some():
            got += piece
        return got

    async def finish(self) -> None:
        """Sends the close_notify, and nothing of tcp."""
        with suppress(ssl.SSLWantReadError):  # the other end, which may have come already, is not waited for
            self.tls.unwrap()
        await self._flush()


@asynccontextmanager
async def open_pair(
    tls: ServerTls, context: ssl.SSLContext, seconds: float = 5.0
) -> AsyncIterator[tuple[Stream, TlsPeer, ClientFacts]]:
    """A stream with TLS, its far end, and what is known of that."""
    loop = asyncio.get_running_loop()
    hangups = HangupWatch(loop)
    near, far = socket.socketpair()
    near.setblocking(False)
    peer = TlsPeer(Peer(far), context)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        shaken = group.create_task(open_secured(loop, hangups, near, tls.context, seconds))
        await peer.shake_hands()
        stream, shown = await shaken
    try:
        async with asyncio.timeout(10):
            yield stream, peer, client_facts(shown)
    finally:
        stream.abort()
        far.close()
        hangups.close()


# --- who is there


async def test_a_client_is_known_by_its_certificate(tls: ServerTls, authority: Authority, client: Certificate) -> None:
    async with open_pair(tls, client_context(authority, client)) as (_, _, facts):
        assert facts.tls_subject == "CN=ci-7,OU=builders,O=Example"
        assert facts.tls_sans == ("DNS:ci-7.example.com", "URI:spiffe://example.org/ci/7")
        der = ssl.PEM_cert_to_DER_cert(Path(client.cert).read_text())
        assert facts.tls_fingerprint == sha256(der).hexdigest()


async def test_without_authorities_nobody_is_asked(
    authority: Authority, server: Certificate, client: Certificate
) -> None:
    open_to_all = ServerTls(TlsFiles(server.cert, server.key, None))
    for shown in (None, client):
        async with open_pair(open_to_all, client_context(authority, shown)) as (stream, peer, facts):
            assert facts == ClientFacts(None, (), None)
            await peer.send(b"x")
            assert await read_some(stream) == b"x"


SUBJECTS = [
    ((), ""),
    (((("commonName", "a"),),), "CN=a"),
    (((("countryName", "DE"),), (("organizationName", "x"),), (("commonName", "a"),)), "CN=a,O=x,C=DE"),
    (((("userId", "7"), ("commonName", "a")),), "UID=7+CN=a"),
    (((("emailAddress", "a@b"),),), "emailAddress=a@b"),
    (((("commonName", 'a,O=x+y"z;<>\\'),),), 'CN=a\\,O=x\\+y\\"z\\;\\<\\>\\\\'),
    (((("commonName", " a "),),), "CN=\\ a\\ "),
    (((("commonName", " "),),), "CN=\\ "),
    (((("commonName", "#a"),),), "CN=\\#a"),
    (((("commonName", "a\nb\0"),),), "CN=a\\0ab\\00"),
    (((("commonName", "ä"),),), "CN=ä"),
    (((("commonName", "a\u2028b"),),), "CN=a\\e2\\80\\a8b"),
]


@pytest.mark.parametrize(("subject", "text"), SUBJECTS)
def test_a_subject_is_told_as_rfc_4514_has_it(subject: tuple[tuple[tuple[str, str], ...], ...], text: str) -> None:
    assert subject_text(subject) == text


# --- who does not get in


OUTSIDE: dict[str, Callable[[Authority, Path], Certificate | None]] = {
    "no-certificate": lambda ours, folder: None,
    "of-another-authority": lambda ours, folder: Authority(folder / "other").sign("/CN=ci-7"),
    "of-a-server": lambda ours, folder: ours.sign("/CN=ci-7", usage="serverAuth"),
    "that-has-ended": lambda ours, folder: ours.sign("/CN=ci-7", days=-1),
}


@pytest.mark.parametrize("show", OUTSIDE.values(), ids=OUTSIDE)
async def test_who_does_not_get_in(
    tls: ServerTls, authority: Authority, tmp_path: Path, show: Callable[[Authority, Path], Certificate | None]
) -> None:
    shown = show(authority, tmp_path)
    with pytest.raises(ExceptionGroup):
        async with open_pair(tls, client_context(authority, shown)) as (_, peer, _):
            await peer.receive_some()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_old_versions_are_not_spoken(
    tls: ServerTls, authority: Authority, client: Certificate, version: ssl.TLSVersion
) -> None:
    context = client_context(authority, client)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = version, version
    with pytest.raises((ExceptionGroup, ssl.SSLError)):
        async with open_pair(tls, context):
            pass


@asynccontextmanager
async def open_front(
    tls: ServerTls, **limits: float
) -> AsyncIterator[tuple[World, Callable[[], Peer], list[PeerFacts]]]:
    """A proxy behind TLS: the world, what connects, and who came in."""
    came: list[PeerFacts] = []
    left: list[Principal] = []
    async with asyncio.timeout(20), open_world(**limits) as world:
        handshakes = Handshakes(world.proxy, world.connections)

        def gate_of(peer: PeerFacts) -> Gate:
            came.append(peer)
            return world.gate

        count = 0

        def connect() -> Peer:
            nonlocal count
            count += 1
            near, far = socket.socketpair()
            near.setblocking(False)
            facts = PeerFacts("front", "tcp", address="10.0.0.1:1")
            handshakes.begin(tls, gate_of, Arrival(near, facts, identify(facts), left.append))
            return world._keep(Peer(far))

        yield world, connect, came
        handshakes.cancel()
        world.connections.drain()
        await world.connections.finished(0)
        await until(lambda: len(left) == count)  # each is counted out once, however it ended


async def test_who_is_too_slow_is_sent_away(tls: ServerTls) -> None:
    async with open_front(tls, handshake_seconds=0.1) as (world, connect, came):
        assert await connect().receive_all() == b""
        assert (world.limits_hit, came) == (["handshake_seconds"], [])


async def test_so_many_handshakes_and_no_more(tls: ServerTls, authority: Authority, client: Certificate) -> None:
    async with open_front(tls, handshakes_max=2) as (world, connect, came):
        inside = [TlsPeer(connect(), client_context(authority, client)) for _ in range(2)]
        assert await connect().receive_all() == b""
        assert world.limits_hit == ["handshakes_max"]
        for peer in inside:
            await peer.shake_hands()
        await until(lambda: len(came) == 2)
        await TlsPeer(connect(), client_context(authority, client)).shake_hands()


async def test_who_speaks_no_tls_is_told(tls: ServerTls) -> None:
    async with open_front(tls) as (_, connect, came):
        peer = connect()
        await peer.send(PING)
        assert (await peer.receive_all()).startswith(b"HTTP/1.0 400 Bad Request\r\n")
        assert came == []


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01", b"\x00" * 100], ids=["nothing", "begun", "no-tls"])
async def test_who_goes_away_is_forgotten(tls: ServerTls, said: bytes) -> None:
    async with open_front(tls) as (_, connect, came):
        peer = connect()
        await peer.send(said)
        peer.finish()
        await peer.receive_all()
        assert came == []


# --- requests


Connected = tuple[World, TlsPeer]
Attached = tuple[World, TlsPeer, Peer]


@pytest.fixture
async def connected(tls: ServerTls, authority: Authority, client: Certificate) -> AsyncIterator[Connected]:
    """A proxy, and a client that has shaken hands with it."""
    async with open_front(tls) as (world, connect, _):
        peer = TlsPeer(connect(), client_context(authority, client))
        await peer.shake_hands()
        yield world, peer


async def attach(world: World, peer: TlsPeer) -> Peer:
    """Asks for a tunnel; the engine's end, where that has come."""
    await peer.send(ATTACH)
    engine = await world.accept()
    await engine.receive_until(HEAD_END)
    return engine


@pytest.fixture
async def attached(connected: Connected) -> Attached:
    """The same behind the head of a tunnel, and its engine's end."""
    world, peer = connected
    engine = await attach(world, peer)
    await engine.send(UPGRADED)
    assert await peer.receive(len(UPGRADED)) == UPGRADED
    return world, peer, engine


async def test_requests_are_served_one_after_the_other(connected: Connected) -> None:
    world, peer = connected
    await peer.send(PING)
    engine = await world.accept()
    for _ in range(4):  # never by the express way
        await engine.receive_until(HEAD_END)
        await engine.send(OK)
        assert await peer.receive(len(OK)) == OK
        await peer.send(PING)
    assert (len(world.exchanges), world.served) == (4, [])
    assert world.exchanges[0].principal.tls_subject == "CN=ci-7,OU=builders,O=Example"
    assert world.exchanges[0].principal.address == "10.0.0.1:1"


async def test_the_end_of_the_input_is_passed_on_and_the_output_goes_on(attached: Attached) -> None:
    """`docker exec -i`: a close_notify ends one direction only."""
    _, peer, engine = attached
    await peer.send(b"input")
    await peer.finish()
    assert await engine.receive_all() == b"input"
    for piece in (b"late ", b"output"):
        await engine.send(piece)
        assert await peer.receive(len(piece)) == piece
    engine.close()
    assert await peer.receive_all() == b""


async def test_the_end_of_the_output_is_passed_on_and_the_input_goes_on(connected: Connected) -> None:
    world, peer = connected
    engine = await attach(world, peer)
    await engine.send(UPGRADED + b"output")
    engine.finish()
    assert await peer.receive_all() == UPGRADED + b"output"
    for piece in (b"late ", b"input"):
        await peer.send(piece)
        assert await engine.receive(len(piece)) == piece
    await peer.finish()
    assert await engine.receive_all() == b""


async def test_the_output_ends_while_nobody_takes_the_input(attached: Attached) -> None:
    _, peer, engine = attached
    sending = asyncio.create_task(peer.send(BIG))
    await asyncio.wait([sending], timeout=0.1)
    assert not sending.done()
    engine.finish()
    assert await peer.receive_all() == b""
    assert await engine.receive(len(BIG)) == BIG
    await sending
    await peer.finish()
    assert await engine.receive_all() == b""


async def test_a_connection_that_is_cut_off_is_no_end(attached: Attached) -> None:
    """Whoever stands in between can end tcp, but not TLS: what came must not look like all of it."""
    world, peer, engine = attached
    await peer.send(b"rm -r /tmp")
    assert await engine.receive(10) == b"rm -r /tmp"
    peer.peer.finish()
    await until(lambda: world.exchanges)
    assert world.exchanges[0].stage.name == "FAILED"


async def test_bytes_that_are_no_tls_end_it(connected: Connected) -> None:
    world, peer = connected
    engine = await attach(world, peer)
    await peer.peer.send(b"x" * 100)
    assert await engine.receive_all() == b""


async def test_large_bodies_come_through_whole_and_a_slow_side_holds_the_other_back(connected: Connected) -> None:
    world, peer = connected
    await peer.send(b"POST /v1.41/images/load HTTP/1.1\r\nHost: d\r\nContent-Length: %d\r\n\r\n" % len(BIG))
    engine = await world.accept()
    await engine.receive_until(HEAD_END)
    sending = asyncio.create_task(peer.send(BIG))
    assert await engine.receive(len(BIG)) == BIG
    await sending
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BIG)
    sending = asyncio.create_task(engine.send(head + BIG))
    await asyncio.wait([sending], timeout=0.1)
    assert not sending.done()  # nobody reads: neither here, nor without end in the proxy
    assert await peer.receive(len(head) + len(BIG)) == head + BIG
    await sending


# --- certificates that change


def replace_by(target: Certificate, new: Certificate) -> None:
    for old_file, new_file in ((target.cert, new.cert), (target.key, new.key)):
        shutil.copy(new_file, f"{old_file}.new")
        os.replace(f"{old_file}.new", old_file)


async def test_new_certificates_are_taken_and_bad_ones_are_not(authority: Authority, client: Certificate) -> None:
    own, next_one = (
        authority.sign("/CN=localhost", "DNS:localhost"),
        authority.sign("/CN=localhost", "DNS:localhost", days=9),
    )
    tls = ServerTls(TlsFiles(own.cert, own.key, authority.cert))
    first = tls.not_after
    assert not tls.refresh()
    good = Path(own.key).read_bytes()
    Path(own.key).write_bytes(Path(client.key).read_bytes())
    for _ in range(2):  # as long as it is so
        with pytest.raises(OSError, match="key values mismatch"):
            tls.refresh()
    async with open_pair(tls, client_context(authority, client)) as (stream, peer, _):  # with the old ones
        Path(own.key).write_bytes(good)
        assert tls.refresh()
        assert tls.not_after == first
        replace_by(own, next_one)
        assert tls.refresh()
        assert tls.not_after - first == pytest.approx(7 * 86400, abs=60)
        await peer.send(b"x")  # who is connected stays
        assert await read_some(stream) == b"x"
    Path(own.cert).unlink()
    with pytest.raises(OSError, match="No such file"):
        tls.refresh()


@pytest.mark.parametrize("days", [1, 10_000, 20_000])  # from 2050 on, it is written otherwise
def test_when_a_certificate_ends(authority: Authority, days: int) -> None:
    pem = Path(authority.sign("/CN=a", days=days).cert).read_text()
    assert end_of_certificate(pem) == pytest.approx(time.time() + days * 86400, abs=60)


@pytest.mark.parametrize("pem", ["", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_has_no_end(pem: str) -> None:
    with pytest.raises(ValueError, match="no certificate"):
        end_of_certificate(pem)


WRONG = {
    "no-file": (lambda made, other: ("/nowhere", made.key, None), "cannot use the certificate /nowhere .*No such file"),
    "other-key": (lambda made, other: (made.cert, other.key, None), "cannot use the certificate .*mismatch"),
    "no-pem": (lambda made, other: (__file__, made.key, None), "cannot use the certificate"),
    "no-authorities": (lambda made, other: (made.cert, made.key, made.key), "cannot use the authorities"),
    "authorities-not-there": (lambda made, other: (made.cert, made.key, "/nowhere"), "authorities /nowhere: No such"),
}


@pytest.mark.parametrize(("files", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_used_is_told(
    files: Callable[[Certificate, Certificate], tuple[str, str, str | None]],
    message: str,
    server: Certificate,
    client: Certificate,
) -> None:
    with pytest.raises(OSError, match=message):
        ServerTls(TlsFiles(*files(server, client)))


def test_an_encrypted_key_is_not_asked_for(server: Certificate, tmp_path: Path) -> None:
    run("ec", "-in", server.key, "-aes128", "-passout", "pass:secret", "-out", f"{tmp_path}/key.pem")
    with pytest.raises(OSError, match="the key is encrypted"):
        ServerTls(TlsFiles(server.cert, f"{tmp_path}/key.pem", None))
