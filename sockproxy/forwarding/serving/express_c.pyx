# cython: language_level=3, boundscheck=True, wraparound=False
"""The express way in C: `Readiness`, which serves the usual request itself and leaves everything else to `express`.

Owns the epoll, as `readiness` does, and one way through it: a known head goes to a kept connection, its whole answer to the
client. Whatever else comes, it gives to the methods of `express` that are meant for it, with the bytes that it has read; so
all state is there, and nothing here has a meaning of its own. Must not know what may be learnt, limits, or the plain way.
It is built on request only (setup.py), and the tests drive the same dialogues through it. Begin at `Readiness.turn`.

hot: 13 us of CPU for a small GET by `express` in Python, 8 with this and the compiled recording (benchmarks).
"""

import logging

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, errno
from libc.string cimport memcmp
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport close as close_descriptor

from sockproxy.forwarding.serving.callers import Caller, Line, Outcome
from sockproxy.forwarding.serving.known import body_length
from sockproxy.wire.http1 import FramingKind

cdef extern from "sys/socket.h" nogil:
    ssize_t recv(int, void *, size_t, int)
    ssize_t send(int, const void *, size_t, int)
    int MSG_NOSIGNAL, MSG_DONTWAIT

cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        unsigned int events
        epoll_data_t data
    int epoll_create1(int)
    int epoll_ctl(int, int, int, epoll_event *)
    int epoll_wait(int, epoll_event *, int, int)
    unsigned int EPOLLIN
    int EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CLOEXEC

cdef extern from "string.h" nogil:
    void *memmem(const void *, size_t, const void *, size_t)

cdef enum:
    EVENTS_MAX = 64  # taken from the kernel at once
    READ_BYTES = 16384  # as `express` reads; level-triggered, so that nothing is lost

    # Places in the tuples of `gates` and `known`: by name they take ten times as long.
    KNOWN_REQUEST = 2
    KNOWN_ACCOUNT = 3
    ANSWER_HEAD = 0
    ANSWER_STATUS = 1
    ANSWER_FRAMING = 2
    FRAMING_KIND = 0
    FRAMING_LENGTH = 1

cdef double TURN_SECONDS = 0.001  # of a turn of the loop, at most: its other work wants its turn

cdef object NONE = FramingKind.NONE
cdef object LENGTH = FramingKind.LENGTH

log = logging.getLogger(__name__)


cdef inline double monotonic() noexcept nogil:
    """As time.monotonic."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <double>now.tv_sec + <double>now.tv_nsec * 1e-9


cdef enum Kind:
    OTHER  # who is only called
    CALLER
    LINE


cdef class Way:
    """What is needed of an `Express` for every request, without asking it."""

    cdef object express
    cdef list idle
    cdef dict known_answers
    cdef object numbers
    cdef object served

    def __init__(self, express):
        self.express = express
        self.idle, self.known_answers = express.idle, express.known_answers
        self.numbers, self.served = express.numbers, express.served


cdef class End:
    """A socket that is watched, and whose it is."""

    cdef int fd
    cdef Kind kind
    cdef object ready
    cdef object who  # the Caller or the Line
    cdef Way way
    cdef object principal  # the caller's
    cdef bint has_served  # as the caller was told already


cdef class Readiness:
    """As `readiness.Readiness`."""

    cdef int epoll
    cdef epoll_event events[EVENTS_MAX]
    cdef char buffer[READ_BYTES]
    cdef object loop
    cdef list ends  # by descriptor
    cdef dict ends_of  # by Caller and Line
    cdef dict ways  # by Express: one, mostly
    cdef readonly Py_ssize_t served_count  # requests that needed nothing of `express`

    def __cinit__(self):
        self.epoll = -1

    def __init__(self, loop):
        self.loop = loop
        self.ends = []
        self.ends_of = {}
        self.ways = {}
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            raise OSError(errno, "epoll_create1")
        loop.add_reader(self.epoll, self.turn)

    def __dealloc__(self):
        if self.epoll >= 0:
            close_descriptor(self.epoll)

    def watch(self, sock, ready):
        """Whoever is watched with `ready` of a Caller or a Line is served here."""
        cdef End end = End()
        cdef epoll_event event
        cdef int fd = sock.fileno()
        if fd < 0:
            raise ValueError("a closed socket")
        end.fd, end.ready, end.kind = fd, ready, OTHER
        who = getattr(ready, "__self__", None)
        if type(who) is Caller or type(who) is Line:
            end.who, end.way = who, self.way_of(who.express)
            end.kind = CALLER if type(who) is Caller else LINE
            if end.kind == CALLER:
                end.principal, end.has_served = who.principal, who.has_served
        event.events = EPOLLIN
        event.data.fd = fd
        if epoll_ctl(self.epoll, EPOLL_CTL_ADD, fd, &event) < 0:
            raise OSError(errno, "epoll_ctl")
        while len(self.ends) <= fd:
            self.ends.append(None)
        self.ends[fd] = end
        if end.who is not None:
            self.ends_of[end.who] = end

    cdef Way way_of(self, express):
        way = self.ways.get(express)
        if way is None:
            way = self.ways[express] = Way(express)
        return way

    def forget(self, sock):
        if self.remove(sock.fileno()):
            epoll_ctl(self.epoll, EPOLL_CTL_DEL, sock.fileno(), NULL)

    def close(self, sock):
        self.remove(sock.fileno())
        sock.close()  # the kernel takes it out of the epoll

    def end(self):
        if self.epoll >= 0:
            self.loop.remove_reader(self.epoll)
            close_descriptor(self.epoll)
            self.epoll = -1
        self.ends.clear()
        self.ends_of.clear()
        self.ways.clear()

    cdef bint remove(self, int fd) except -1:
        """Whether it was watched."""
        cdef End end = self.ends[fd] if 0 <= fd < len(self.ends) else None
        if end is None:
            return False
        self.ends[fd] = None
        if end.who is not None:
            self.ends_of.pop(end.who, None)
        return True

    # --- what comes

    def turn(self):
        """hot: serves those that have become ready, for a turn of the loop."""
        cdef int count, index, fd
        cdef bint has_called = False  # then whoever it was decides how often it wants to be called in a turn: once
        cdef double until = monotonic() + TURN_SECONDS
        while True:
            count = epoll_wait(self.epoll, self.events, EVENTS_MAX, 0)
            for index in range(count):
                fd = self.events[index].data.fd
                if fd < len(self.ends) and self.ends[fd] is not None:  # else an earlier one of this turn has ended it
                    has_called |= self.serve(self.ends[fd])
            if count <= 0 or has_called or monotonic() >= until:
                return

    cdef int serve(self, End end) except -1:
        """1 if it was somebody else's to serve, else 0."""
        if end.kind == OTHER:
            end.ready()
            return 1
        cdef ssize_t size = recv(end.fd, self.buffer, READ_BYTES, MSG_DONTWAIT)
        if size < 0 and errno == EAGAIN:
            return 0
        if end.kind == CALLER:
            return self.asked(end, max(size, 0))
        if size < 0:
            end.way.express.line_failed(end.who)
            return 0
        return self.answered(end, size)

    # --- there

    cdef int asked(self, End end, ssize_t size) except -1:
        """hot: what a client sent (0: its end, or a reset); the head of one usual request, nearly always."""
        caller = end.who
        cdef bytes data = PyBytes_FromStringAndSize(self.buffer, size)
        if size == 0 or caller.line is not None:
            end.way.express.interrupted(caller, data)
            return 0
        heads = caller.heads  # asked for each time: a reload gives a caller others
        cdef list idle = end.way.idle
        cdef End line = None
        # Where it is no plain dict, a look costs a token: that is for `take` alone.
        known = (<dict>heads).get(data) if type(heads) is dict and len(idle) > 0 else None
        if known is not None:
            line = self.ends_of.get(idle[len(idle) - 1])
        if line is None:
            caller.take(data)
            return 0
        idle.pop()
        caller.received_at = monotonic()
        return self.forward(caller, line, known, data)

    cdef int forward(self, caller, End line, known, bytes data) except -1:
        """As the end of `Caller.take`."""
        cdef bytes request = known[KNOWN_REQUEST]
        caller.known = known
        caller.head = data
        caller.line = line.who
        line.who.caller = caller
        cdef ssize_t size = PyBytes_GET_SIZE(request)
        if send(line.fd, PyBytes_AS_STRING(request), size, MSG_DONTWAIT | MSG_NOSIGNAL) == size:
            caller.forwarded_at = monotonic()
        else:
            line.way.express.line_failed(line.who)
        return 0

    # --- and back

    cdef int answered(self, End end, ssize_t size) except -1:
        """hot: what the engine sent; one whole answer, nearly always."""
        cdef double answered_at = monotonic()
        cdef Way way = end.way
        line = end.who
        caller = line.caller
        if caller is None:
            way.express.drop(line)
            return 0
        cdef End client = self.ends_of.get(caller)
        cdef ssize_t start = head_size(self.buffer, size)
        cdef ssize_t length = -1
        answer = None
        known = caller.known
        if client is not None and start > 0 and known is not None and not line.held:
            answer = way.known_answers.get(PyBytes_FromStringAndSize(self.buffer, start))
            length = self.length_of_body(answer, start, size)
        if length < 0:
            way.express.answered(line, caller, PyBytes_FromStringAndSize(self.buffer, size))
            return 0
        line.caller = caller.line = None
        way.idle.append(line)
        unsent = self.reply(client.fd, answer[ANSWER_HEAD], start, size)
        completed_at = monotonic()
        caller.idle_since = completed_at
        if not client.has_served:
            client.has_served = caller.has_served = True
        served = (
            known[KNOWN_ACCOUNT],
            next(way.numbers),
            client.principal,
            caller.received_at,
            caller.forwarded_at,
            answered_at,
            completed_at,
            answer[ANSWER_STATUS],
            length,
        )
        self.served_count += 1
        way.served(served)
        if unsent is not None:
            caller.unsent = unsent
            way.express.leave(caller, Outcome.REST, b"")
        return 0

    cdef ssize_t length_of_body(self, answer, ssize_t start, ssize_t size) except -3:
        """As `known.body_length`; negative also if the answer is not known."""
        if answer is None:
            return -1
        framing = answer[ANSWER_FRAMING]
        kind = framing[FRAMING_KIND]
        if kind is LENGTH:
            return size - start if framing[FRAMING_LENGTH] == size - start else -1
        if kind is NONE:
            return 0 if size == start else -1
        return body_length(framing, PyBytes_FromStringAndSize(self.buffer, size), start)

    cdef object reply(self, int fd, bytes head, ssize_t start, ssize_t size):
        """Sends the answer: `head`, which mostly is what came, and the body behind `start`. What was not sent, or None."""
        cdef bytes data
        cdef ssize_t sent
        if PyBytes_GET_SIZE(head) == start and memcmp(PyBytes_AS_STRING(head), self.buffer, start) == 0:
            sent = send(fd, self.buffer, size, MSG_DONTWAIT | MSG_NOSIGNAL)
            if sent == size:
                return None
            data = PyBytes_FromStringAndSize(self.buffer, size)
        else:
            data = head + PyBytes_FromStringAndSize(self.buffer + start, size - start)
            sent = send(fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent == PyBytes_GET_SIZE(data) or (sent < 0 and errno != EAGAIN):
            return None  # a client that is gone: the next read tells
        return data[max(sent, 0) :]


cdef ssize_t head_size(const char *start, ssize_t size) noexcept:
    """Where the head ends, 0 if it does not yet."""
    cdef const char *blank = <const char *>memmem(start, size, b"\r\n\r\n", 4)
    return 0 if blank is NULL else blank - start + 4
