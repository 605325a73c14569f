# cython: language_level=3, boundscheck=True, wraparound=False, cdivision=True
"""`prepared.lines` in C: the same bytes, put together in one buffer.

Owns nothing: what a line says is in `event`, how it is cut in `prepared`, and a property test holds both forms side by
side. It is built on request only (setup.py). Begin at `lines`.

hot: 1.2 us for both lines, most of it the hashes, where `prepared.lines` takes 4 (python -m timeit).
"""

import _hashlib
import os
from hashlib import sha256

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.math cimport rint
from libc.string cimport memcpy

from sockproxy.recording.event import _rfc3339_second, milliseconds, rfc3339
from sockproxy.recording.prepared import Place, _principal

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object, Py_ssize_t *) except NULL

cdef extern from "dlfcn.h":
    void *dlopen(const char *, int)
    void *dlsym(void *, const char *)
    int RTLD_LAZY

cdef enum:
    CONTEXT_BYTES = 1024  # SHA256_CTX has 112
    DIGEST_BYTES = 32
    HASH_BYTES = 64  # in hexadecimal
    SEAL_BYTES = 74  # "hash":"...",
    HASH_AT = 8  # in there

cdef const char *HEX = b"0123456789abcdef"
cdef double MICROSECONDS_MAX = 1e15  # 31 years: a thousandth of it has so few digits that a float is as they are


# Python's own OpenSSL, called directly: hashlib makes an object for each hash, which costs as much as the hash.
ctypedef int (*Init)(void *)
ctypedef int (*Update)(void *, const void *, size_t)
ctypedef int (*Final)(unsigned char *, void *)
cdef Init sha256_init = NULL
cdef Update sha256_update = NULL
cdef Final sha256_final = NULL


cdef int find_sha256() except -1:
    """Finds it in the library that hashlib uses; where it is not, hashlib does it."""
    global sha256_init, sha256_update, sha256_final
    path = getattr(_hashlib, "__file__", None)
    if path is None:
        return 0  # built into the interpreter
    cdef void *library = dlopen(os.fsencode(path), RTLD_LAZY)
    if library is NULL:
        return 0
    sha256_update = <Update>dlsym(library, b"SHA256_Update")
    sha256_final = <Final>dlsym(library, b"SHA256_Final")
    if sha256_update is not NULL and sha256_final is not NULL:
        sha256_init = <Init>dlsym(library, b"SHA256_Init")
    return 0


cdef int hash_of_three(
    unsigned char *digest,
    const char *first,
    size_t first_size,
    const char *second,
    size_t second_size,
    const char *third,
    size_t third_size,
) except -1:
    """SHA-256 of three pieces, one behind the other."""
    cdef unsigned char context[CONTEXT_BYTES]
    cdef bytes own
    if sha256_init is not NULL:
        sha256_init(context)
        sha256_update(context, first, first_size)
        sha256_update(context, second, second_size)
        sha256_update(context, third, third_size)
        sha256_final(digest, context)
        return 0
    own = sha256(first[:first_size] + second[:second_size] + third[:third_size]).digest()
    memcpy(digest, PyBytes_AS_STRING(own), DIGEST_BYTES)
    return 0


find_sha256()


cdef class Page:
    """Bytes that are being put together, and the hash of the line before."""

    cdef char *start
    cdef size_t size
    cdef size_t room
    cdef char prev[HASH_BYTES]
    cdef long second  # of the latest time, and its text
    cdef bytes second_text

    def __cinit__(self):
        self.start = NULL
        self.size = self.room = 0
        self.second = -1

    def __dealloc__(self):
        PyMem_Free(self.start)

    cdef int make_room(self, size_t more) except -1:
        cdef size_t room = 2 * self.room + more
        cdef char *start = <char *>PyMem_Realloc(self.start, room)
        if start is NULL:
            raise MemoryError
        self.start, self.room = start, room
        return 0

    cdef inline int put(self, const char *piece, size_t size) except -1:
        if self.room - self.size < size:
            self.make_room(size)
        memcpy(self.start + self.size, piece, size)
        self.size += size
        return 0

    cdef inline int text(self, object piece) except -1:
        cdef Py_ssize_t size
        cdef const char *start = PyUnicode_AsUTF8AndSize(piece, &size)
        return self.put(start, size)

    cdef int number(self, unsigned long number) except -1:
        cdef char digits[20]
        cdef int at = 20
        while True:
            at -= 1
            digits[at] = c"0" + number % 10
            number //= 10
            if number == 0:
                return self.put(digits + at, 20 - at)

    cdef int key(self, str prefix, unsigned long number) except -1:
        """As `exchange.exchange_id`, in quotes."""
        cdef char digits[16]
        cdef int at = 16
        self.put(b'"', 1)
        self.text(prefix)
        self.put(b"-", 1)
        while True:
            at -= 1
            digits[at] = HEX[number & 15]
            number >>= 4
            if number == 0:
                self.put(digits + at, 16 - at)
                return self.put(b'"', 1)

    cdef int time(self, double seconds) except -1:
        """As `event.rfc3339`, in quotes."""
        cdef double microseconds = seconds * 1e6
        cdef char digits[9]
        cdef int at, rest
        if not 0 <= microseconds < 1e17:
            self.put(b'"', 1)
            self.text(rfc3339(seconds))
            return self.put(b'"', 1)
        cdef long whole = <long>microseconds
        rest = whole % 1000000
        if whole // 1000000 != self.second:
            self.second_text = b'"' + _rfc3339_second(whole // 1000000).encode()
            self.second = whole // 1000000
        self.put(PyBytes_AS_STRING(self.second_text), PyBytes_GET_SIZE(self.second_text))
        digits[0], digits[7], digits[8] = c".", c"Z", c'"'
        for at in range(6, 0, -1):
            digits[at] = c"0" + rest % 10
            rest //= 10
        return self.put(digits, 9)

    cdef int milliseconds(self, double seconds) except -1:
        """As `event.milliseconds`, written as JSON."""
        cdef double microseconds = rint(seconds * 1e6)
        cdef char digits[4]
        if not 0 <= microseconds < MICROSECONDS_MAX:
            return self.text(str(milliseconds(seconds)))
        cdef unsigned long whole = <unsigned long>microseconds
        cdef int rest = whole % 1000
        self.number(whole // 1000)
        if rest == 0:
            return 0
        digits[0], digits[1], digits[2], digits[3] = c".", c"0" + rest // 100, c"0" + rest // 10 % 10, c"0" + rest % 10
        return self.put(digits, 4 if rest % 10 else 3 if rest % 100 else 2)

    cdef int prev_hash(self) except -1:
        self.put(b'"', 1)
        self.put(self.prev, HASH_BYTES)
        return self.put(b'"', 1)

    cdef size_t leave_out_hash(self) except? 0:
        """Keeps its place free; where that is."""
        cdef size_t place = self.size
        if self.room - self.size < SEAL_BYTES:
            self.make_room(SEAL_BYTES)
        self.size += SEAL_BYTES
        return place

    cdef int seal(self, size_t start, size_t place) except -1:
        """Ends the line that begins at `start`: its hash, which is that of `prev` and all but `place`."""
        cdef size_t behind = place + SEAL_BYTES
        cdef unsigned char digest[DIGEST_BYTES]
        cdef int at
        cdef const char *front = self.start + start
        cdef const char *back = self.start + behind
        hash_of_three(digest, self.prev, HASH_BYTES, front, place - start, back, self.size - behind)
        for at in range(DIGEST_BYTES):
            self.prev[2 * at] = HEX[digest[at] >> 4]
            self.prev[2 * at + 1] = HEX[digest[at] & 15]
        memcpy(self.start + place, b'"hash":"', HASH_AT)
        memcpy(self.start + place + HASH_AT, self.prev, HASH_BYTES)
        memcpy(self.start + place + HASH_AT + HASH_BYTES, b'",', 2)
        return self.put(b"\n", 1)


cdef Page page = Page()  # kept, since memory that the process has already costs nothing


def lines(batch, str id_prefix, double epoch, place):
    """As `prepared.lines`."""
    cdef bytes before = place.prev.encode()
    cdef unsigned long seq = place.seq
    if PyBytes_GET_SIZE(before) != HASH_BYTES:
        raise ValueError("not a hash")
    memcpy(page.prev, PyBytes_AS_STRING(before), HASH_BYTES)
    page.size = 0
    latest, who = None, ""
    cdef tuple served
    for served in batch:
        principal = served[2]
        if principal is not latest:
            latest, who = principal, _principal(principal)
        decided(served, id_prefix, epoch, who, seq + 1)
        completed(served, id_prefix, epoch, who, seq + 2)
        seq += 2
    return PyBytes_FromStringAndSize(page.start, page.size), Place(seq, page.prev[:HASH_BYTES].decode())


cdef int decided(tuple served, str id_prefix, double epoch, str who, unsigned long seq) except -1:
    prepared = served[0][0]
    p0, p1, p2, p3, p4, p5 = prepared[1]
    cdef size_t start = page.size
    page.text(prepared[0])
    cdef size_t place = page.leave_out_hash()
    page.text(p0)
    page.key(id_prefix, served[1])
    page.text(p1)
    page.prev_hash()
    page.text(p2)
    page.text(who)
    page.text(p3)
    page.number(seq)
    page.text(p4)
    page.time(epoch + <double>served[3])
    page.text(p5)
    return page.seal(start, place)


cdef int completed(tuple served, str id_prefix, double epoch, str who, unsigned long seq) except -1:
    prepared = served[0][0]
    f0, f1, f2, f3 = prepared[2]
    b0, b1, b2, b3, b4, b5, b6 = prepared[3]
    cdef size_t start = page.size
    page.text(f0)
    page.number(served[8])
    page.text(f1)
    page.milliseconds(<double>served[6] - <double>served[3])
    page.text(f2)
    page.milliseconds(<double>served[5] - <double>served[4])
    page.text(f3)
    cdef size_t place = page.leave_out_hash()
    page.text(b0)
    page.key(id_prefix, served[1])
    page.text(b1)
    page.prev_hash()
    page.text(b2)
    page.text(who)
    page.text(b3)
    page.number(seq)
    page.text(b4)
    page.number(served[7])
    page.text(b5)
    page.time(epoch + <double>served[6])
    page.text(b6)
    return page.seal(start, place)
