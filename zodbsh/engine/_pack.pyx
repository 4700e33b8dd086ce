# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""What a pack keeps, natively: the functions of ``zodbsh.engine.packing``, with the same results.

The file's framing was checked before. It is believed here as far as it cannot
lead out of a buffer, and `Changed` is raised where it does not hold together.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EINTR, EIO, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, qsort, realloc
from libc.string cimport memcmp, memcpy, memset

from zodbsh.engine._bulk cimport Array, Column, Finder, big2, big8, column, read_at, reserve
from zodbsh.engine._scan cimport REF_FOREIGN, REF_WEAK, Scanner, scan_whole, scanner_close, scanner_open

import os

from zodbsh.engine import twin
from zodbsh.engine.columns import OddPrevious, Undecodable
from zodbsh.engine.packing import Changed, Copied, Later, Pointer
from zodbsh.progress import SILENT

cdef extern from "<unistd.h>" nogil:
    ssize_t pwrite(int fd, const void* buffer, size_t size, long long offset)

cdef enum:
    START = 4
    T_HEADER = 23
    D_HEADER = 42
    CHUNK = 1 << 22
    # So much is done before progress is told and a signal is heard.
    STEP = 1 << 25
    # A longer way of pointers is remembered.
    HOPS = 8

cdef enum:
    MISSING = 0xFFFFFFFF
    DELETED = 0xFFFFFFFE

cdef uint64_t POINTS_BACK = <uint64_t>1 << 63

ctypedef const unsigned long long[::1] Q
ctypedef const uint32_t[::1] I


cdef inline void put8(uint8_t* p, uint64_t number) noexcept nogil:
    cdef int i
    for i in range(8):
        p[7 - i] = <uint8_t>(number >> (8 * i))


cdef struct Transaction:
    # ``end`` is where its records end, ``next`` where the next one starts.
    int64_t position, length, header, end, next
    uint64_t tid
    bint undone


cdef struct Record:
    # The data, own or behind pointers, is at ``data_at`` (0: none) once it is resolved.
    uint64_t oid, tid, previous
    int64_t position, length, back, following, data_at, data_size
    # Used by whoever keeps it.
    int64_t number, target


cdef class Reader:
    """A file read forward through a window, and by short looks elsewhere."""

    cdef int fd, failed
    cdef int64_t limit, base, filled, room
    cdef uint8_t* buffer
    cdef uint8_t* behind
    cdef int64_t behind_room
    cdef dict followed

    def __cinit__(self, int fd, int64_t limit):
        self.fd, self.limit, self.room, self.behind_room = fd, limit, CHUNK, 1 << 16
        self.buffer, self.behind = <uint8_t*>malloc(self.room), <uint8_t*>malloc(self.behind_room)
        self.followed = {}
        if self.buffer == NULL or self.behind == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.buffer)
        free(self.behind)

    cdef error(self):
        """Raise what stopped the reader."""
        if self.failed > 0:
            raise OSError(self.failed, os.strerror(self.failed))
        if self.failed < 0:
            raise MemoryError
        raise Changed

    cdef const uint8_t* at(self, int64_t position, int64_t size) noexcept nogil:
        """Return ``size`` bytes, no more than a window's; NULL where the file does not have them."""
        cdef int64_t offset = position - self.base
        if offset >= 0 and offset + size <= self.filled:
            return self.buffer + offset
        if position < 0 or size > self.room or position > self.limit - size:
            return NULL
        self.base, self.filled = position, 0
        offset = read_at(self.fd, self.buffer, min(self.room, self.limit - position), position)
        if offset < 0:
            self.failed = errno
            return NULL
        self.filled = offset
        return self.buffer if size <= self.filled else NULL

    cdef bint open(self, int64_t position, Transaction* found) noexcept nogil:
        """Read a transaction's header; as much of the transaction as fits is in the window then."""
        cdef const uint8_t* p = self.at(position, T_HEADER)
        if p == NULL:
            return False
        found.position, found.tid, found.length = position, big8(p), <int64_t>big8(p + 8)
        found.undone = p[16] == c"u"
        found.header = T_HEADER + big2(p + 17) + big2(p + 19) + big2(p + 21)
        if found.length < found.header or found.length > self.limit - position - 8:
            return False
        found.end = position + found.length
        found.next = found.end + 8
        return self.at(position, max(found.header, min(self.room, found.length + 8))) != NULL

    cdef bint record(self, Transaction* transaction, int64_t position, Record* found) noexcept nogil:
        cdef const uint8_t* p = self.at(position, D_HEADER + 8)
        if p == NULL:
            return False
        found.oid, found.tid, found.position, found.length = big8(p), big8(p + 8), position, <int64_t>big8(p + 34)
        found.back = <int64_t>big8(p + D_HEADER) if found.length == 0 else 0
        found.previous = big8(p + 16)
        if big8(p + 24) != <uint64_t>transaction.position or found.back < 0:
            return False
        if found.length < 0 or found.length > transaction.end - position - D_HEADER:
            return False
        found.following = position + D_HEADER + (found.length if found.length else 8)
        return found.following <= transaction.end

    cdef bint resolve(self, Record* record) noexcept nogil:
        """Find the data of a record; False where its pointer leads nowhere."""
        cdef uint8_t raw[50]
        cdef int64_t below = record.position, back = record.back, length, hops = 0
        if record.length:
            record.data_at, record.data_size = record.position + D_HEADER, record.length
            return True
        while back:
            if back <= START or back >= below:
                return False
            if hops and hops % HOPS == 0:
                with gil:
                    known = self.followed.get(back)
                    if known is not None:
                        back = known
                if not back:
                    break
            length = read_at(self.fd, raw, 50, back)
            if length < 50:
                self.failed = errno if length < 0 else 0
                return False
            length = <int64_t>big8(raw + 34)
            if big8(raw) != record.oid or big2(raw + 32) or big8(raw + 24) >= <uint64_t>back or length < 0:
                return False
            if length:
                if length > below - back - D_HEADER:
                    return False
                record.data_at, record.data_size = back + D_HEADER, length
                break
            below, back = back, <int64_t>big8(raw + D_HEADER)
            hops += 1
        else:
            record.data_at = record.data_size = 0
        if back == 0:
            record.data_at = record.data_size = 0
        if hops >= HOPS:
            with gil:
                self.followed[record.position] = back
        return True

    cdef bint is_of(self, uint64_t position, uint64_t oid) noexcept nogil:
        """Tell whether a record of an object is at a position, as far as its header tells."""
        cdef uint8_t raw[D_HEADER]
        if position < START or position > <uint64_t>self.limit or read_at(self.fd, raw, D_HEADER, position) < D_HEADER:
            return False
        return big8(raw) == oid and big8(raw + 24) < position and big2(raw + 32) == 0

    cdef const uint8_t* piece(self, Record* record, int64_t done, int64_t size) noexcept nogil:
        """Return the next bytes of a record's resolved data; what is behind a pointer does not move the window."""
        cdef void* found
        if record.length:
            return self.at(record.data_at + done, size)
        if size > self.behind_room:
            found = realloc(self.behind, size)
            if found == NULL:
                self.failed = -1
                return NULL
            self.behind, self.behind_room = <uint8_t*>found, size
        if read_at(self.fd, self.behind, size, record.data_at + done) != size:
            return NULL
        return self.behind


cdef class Writer:
    """Writes forward, in large pieces; -1 for the descriptor only counts."""

    cdef int fd, failed
    cdef int64_t position, filled
    cdef uint8_t* buffer

    def __cinit__(self, int fd, int64_t position):
        self.fd, self.position = fd, position
        self.buffer = <uint8_t*>malloc(CHUNK)
        if self.buffer == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.buffer)

    cdef bint put(self, const uint8_t* data, int64_t size) noexcept nogil:
        cdef int64_t part
        self.position += size
        while size and self.fd >= 0:
            part = min(size, CHUNK - self.filled)
            memcpy(self.buffer + self.filled, data, part)
            self.filled += part
            data, size = data + part, size - part
            if self.filled == CHUNK and not self.flush(size):
                return False
        return True

    cdef bint flush(self, int64_t coming=0) noexcept nogil:
        """Write what waits; ``coming`` bytes are counted in the position and not yet in the buffer."""
        cdef int64_t done = 0
        cdef ssize_t wrote
        while done < self.filled:
            wrote = pwrite(self.fd, self.buffer + done, self.filled - done, self.position - coming - self.filled + done)
            if wrote < 0:
                if errno == EINTR:
                    continue
                self.failed = errno
                return False
            done += wrote
        self.filled = 0
        return True

    cdef bint put8(self, uint64_t number) noexcept nogil:
        cdef uint8_t raw[8]
        put8(raw, number)
        return self.put(raw, 8)

    cdef bint header(
        self, Record* record, uint64_t previous, int64_t transaction, int64_t length
    ) noexcept nogil:
        cdef uint8_t raw[D_HEADER]
        put8(raw, record.oid)
        put8(raw + 8, record.tid)
        put8(raw + 16, previous)
        put8(raw + 24, transaction)
        raw[32] = raw[33] = 0
        put8(raw + 34, length)
        return self.put(raw, D_HEADER)

    cdef bint data(self, Reader reader, Record* record) noexcept nogil:
        """Write a record's resolved data."""
        cdef int64_t done = 0, size
        cdef const uint8_t* p
        while done < record.data_size:
            size = min(record.data_size - done, CHUNK >> 1)
            p = reader.piece(record, done, size)
            if p == NULL or not self.put(p, size):
                return False
            done += size
        return True

    cdef error(self, Reader reader):
        """Raise what stopped the writer, or else the reader."""
        if self.failed:
            raise OSError(self.failed, os.strerror(self.failed))
        reader.error()


cdef class Selection:
    """Which revisions of the time up to the pack stay."""

    cdef Finder finder
    cdef Q where, targets
    cdef const uint8_t[::1] marks
    cdef int64_t next

    def __cinit__(self, columns, marks, targets):
        self.finder = finder_of(columns)
        self.where, self.marks, self.targets = columns.where, marks, targets
        if len(marks) < len(columns) or len(columns.where) < len(columns) or len(self.finder.oids) < len(columns):
            raise ValueError("columns that do not fit together")

    cdef int look(self, Record* record) noexcept nogil:
        """Tell why a record stays (1: it is current, 2: it is a target, 3: both), 0 where it goes.

        Records have to come in the order of their positions. Sets the record's number and its place among the targets.
        """
        cdef int why = 0
        record.number, record.target = self.finder.number(record.oid), -1
        if record.number >= 0 and self.marks[record.number]:
            why = (self.where[record.number] & ~POINTS_BACK) == <uint64_t>record.position
        while self.next < self.targets.shape[0] and <int64_t>self.targets[self.next] < record.position:
            self.next += 1
        if self.next < self.targets.shape[0] and <int64_t>self.targets[self.next] == record.position:
            record.target = self.next
            why |= 2
        return why


cdef object numbers(int64_t size):
    """Return a column of zeros and its memory."""
    cdef Array made
    memset(&made, 0, sizeof(Array))
    made.width = 8
    if not reserve(&made, max(size, 1)):
        raise MemoryError
    memset(made.at, 0, 8 * size)
    made.count = size
    return column(&made)


cdef uint64_t* memory(object numbers_):
    return <uint64_t*>(<Column?>numbers_.obj).at


cdef Finder finder_of(columns):
    """Return what finds an oid's number in columns of the native engine."""
    return <Finder?>columns.look_up.__self__


def survey(int fd, int64_t start, int64_t end, columns, *, progress=SILENT):
    """Look at what follows the pack time (see ``packing.survey``)."""
    cdef Reader reader = Reader(fd, end)
    cdef Finder finder = finder_of(columns)
    cdef I classes = columns.classes
    cdef Q where = columns.where
    cdef Scanner scanner
    cdef Transaction transaction
    cdef Record record
    cdef int64_t position = start, at, told = start
    cdef const uint8_t* p
    cdef int64_t number
    pointers, undecodable, odd = [], [], []
    referred_, stored_ = bytearray(len(columns)), bytearray(len(columns))
    cdef uint8_t[::1] referred = referred_, stored = stored_
    if not scanner_open(&scanner):
        raise MemoryError
    try:
        while position < end:
            if not reader.open(position, &transaction):
                reader.error()
            at = transaction.end if transaction.undone else position + transaction.header
            while at < transaction.end:
                if not reader.record(&transaction, at, &record):
                    reader.error()
                at = record.following
                number = finder.number(record.oid)
                if number >= 0:
                    stored[number] = 1
                # The usual case needs no look: the object's record at the pack time.
                if record.previous and not (number >= 0 and (where[number] & ~POINTS_BACK) == record.previous):
                    if not reader.is_of(record.previous, record.oid):
                        odd.append(OddPrevious(record.oid, record.tid, record.position, record.previous))
                if not record.length:
                    if START < record.back < start:
                        pointers.append(Pointer(record.oid, record.tid, record.position, record.back))
                    continue
                p = reader.at(record.position + D_HEADER, record.length) if record.length <= reader.room else NULL
                if p != NULL and scan_whole(&scanner, p, record.length):
                    with nogil:
                        mark(finder, classes, &scanner, referred)
                    continue
                data = twin.read_whole(fd, record.position + D_HEADER, record.length)
                scanned = twin.scan_record(data)
                if scanned.trouble is not None:
                    undecodable.append(Undecodable(record.oid, record.tid, record.position, *scanned.trouble))
                for ref in scanned.references:
                    if not (ref.weak or ref.foreign):
                        number = finder.number(ref.oid)
                        if number >= 0 and classes[number] < DELETED:
                            referred[number] = 1
            position = transaction.next
            if position - told > STEP:
                told = position
                progress.advance(position)
                PyErr_CheckSignals()
    finally:
        scanner_close(&scanner)
    return Later(pointers, referred_, stored_, undecodable, odd)


cdef void mark(Finder finder, I classes, Scanner* scanner, uint8_t[::1] marks) noexcept nogil:
    cdef int64_t i, number
    for i in range(scanner.ref_count):
        if scanner.refs[i].flags & (REF_WEAK | REF_FOREIGN):
            continue
        number = finder.number(scanner.refs[i].oid)
        if number >= 0 and classes[number] < DELETED:
            marks[number] = 1


def copy_packed(int fd, int64_t end, columns, marks, targets, int out, *, progress=SILENT):
    """Write what stays of the time up to the pack (see ``packing.copy_packed``)."""
    cdef Reader reader = Reader(fd, end)
    cdef Writer writer = Writer(out, START)
    cdef Selection selection = Selection(columns, marks, targets)
    last_, moved_ = numbers(len(columns)), numbers(len(targets))
    cdef uint64_t* last = memory(last_)
    cdef uint64_t* moved = memory(moved_)
    cdef Transaction transaction
    cdef Array kept
    cdef int64_t position = START, told = START, transactions = 0, records = 0
    cdef bint sound
    memset(&kept, 0, sizeof(Array))
    kept.width = sizeof(Record)
    try:
        while position < end:
            with nogil:
                while position < end and position - told < STEP:
                    sound = reader.open(position, &transaction) and collect(reader, selection, &transaction, &kept)
                    if sound and kept.count:
                        sound = write_kept(reader, writer, &transaction, &kept, last, moved)
                        transactions += 1
                        records += kept.count
                    if not sound:
                        break
                    position = transaction.next
            if not sound:
                writer.error(reader)
            told = position
            progress.advance(position)
            PyErr_CheckSignals()
        if not writer.flush():
            writer.error(reader)
    finally:
        free(kept.at)
    return Copied(writer.position, transactions, records, last_, moved_)


cdef bint collect(Reader reader, Selection selection, Transaction* transaction, Array* kept) noexcept nogil:
    """Note which of a transaction's records stay."""
    cdef int64_t at = transaction.position + transaction.header
    cdef Record* record
    kept.count = 0
    if transaction.undone:
        return True
    while at < transaction.end:
        if not reserve(kept, 1):
            reader.failed = -1
            return False
        record = &(<Record*>kept.at)[kept.count]
        if not reader.record(transaction, at, record):
            return False
        at = record.following
        if selection.look(record):
            if not reader.resolve(record):
                return False
            kept.count += 1
    return True


cdef bint write_kept(
    Reader reader, Writer writer, Transaction* transaction, Array* kept, uint64_t* last, uint64_t* moved
) noexcept nogil:
    cdef uint8_t head[T_HEADER]
    cdef int64_t start = writer.position, length = transaction.header, i
    cdef const uint8_t* p = reader.at(transaction.position, transaction.header)
    cdef Record* record
    if p == NULL:
        return False
    for i in range(kept.count):
        record = &(<Record*>kept.at)[i]
        length += D_HEADER + (record.data_size if record.data_at else 8)
    memcpy(head, p, T_HEADER)
    put8(head + 8, length)
    head[16] = c"p"
    if not (writer.put(head, T_HEADER) and writer.put(p + T_HEADER, transaction.header - T_HEADER)):
        return False
    for i in range(kept.count):
        record = &(<Record*>kept.at)[i]
        if record.number >= 0:
            last[record.number] = writer.position
        if record.target >= 0:
            moved[record.target] = writer.position
        if not writer.header(record, 0, start, record.data_size):
            return False
        # A deletion is a pointer to nothing; everything else has data of its own from now on.
        if not (writer.data(reader, record) if record.data_at else writer.put8(0)):
            return False
    return writer.put8(length)


cdef struct Newest:
    int64_t number
    uint64_t position


def copy_later(
    int fd, int64_t start, int64_t end, copied, columns, later, targets, int out, *, progress=SILENT
):
    """Write what follows the pack time (see ``packing.copy_later``)."""
    cdef Reader reader = Reader(fd, end)
    cdef Writer writer = Writer(out, copied.end)
    cdef Finder before = finder_of(columns), finder = finder_of(later)
    cdef Q packed = copied.last, places = targets, moved = copied.moved
    last_ = numbers(len(later))
    cdef uint64_t* last = memory(last_)
    cdef int64_t position = start, told = start, shift = start - writer.position, at, back, i
    cdef uint64_t previous
    cdef const uint8_t* p
    cdef Transaction transaction
    cdef Record record
    cdef Newest* newest
    cdef Array written
    cdef bint sound = True
    if len(packed) < len(before.oids) or len(moved) < len(places):
        raise ValueError("columns that do not fit together")
    memset(&written, 0, sizeof(Array))
    written.width = sizeof(Newest)
    try:
        while position < end:
            with nogil:
                while sound and position < end and position - told < STEP:
                    sound = reader.open(position, &transaction)
                    p = reader.at(position, transaction.header) if sound else NULL
                    if p == NULL or not writer.put(p, transaction.header):
                        sound = False
                        break
                    at = position + transaction.header
                    if transaction.undone:
                        sound = copy_range(reader, writer, at, transaction.end)
                        at = transaction.end
                    written.count = 0
                    while sound and at < transaction.end:
                        sound = reader.record(&transaction, at, &record) and reserve(&written, 1)
                        if not sound:
                            break
                        at = record.following
                        record.number = finder.number(record.oid)
                        if record.number < 0:
                            sound = False
                            break
                        previous = last[record.number]
                        if previous == 0:
                            i = before.number(record.oid)
                            previous = packed[i] if i >= 0 else 0
                        back = record.back
                        if back >= start:
                            back -= shift
                        elif back:
                            i = place_of(places, back)
                            if i < 0:
                                sound = False
                                break
                            back = moved[i]
                        newest = &(<Newest*>written.at)[written.count]
                        newest.number, newest.position = record.number, writer.position
                        written.count += 1
                        record.data_at, record.data_size = record.position + D_HEADER, record.length
                        sound = writer.header(&record, previous, position - shift, record.length) and (
                            writer.data(reader, &record) if record.length else writer.put8(back)
                        )
                    # An object's record in the same transaction is not the one before it.
                    for i in range(written.count):
                        newest = &(<Newest*>written.at)[i]
                        last[newest.number] = newest.position
                    sound = sound and writer.put8(transaction.length)
                    if sound:
                        position = transaction.next
            if not sound:
                writer.error(reader)
            told = position
            progress.advance(position)
            PyErr_CheckSignals()
        if not writer.flush():
            writer.error(reader)
    finally:
        free(written.at)
    return writer.position


cdef bint copy_range(Reader reader, Writer writer, int64_t at, int64_t end) noexcept nogil:
    cdef const uint8_t* p
    cdef int64_t size
    while at < end:
        size = min(end - at, CHUNK >> 1)
        p = reader.at(at, size)
        if p == NULL or not writer.put(p, size):
            return False
        at += size
    return True


cdef int64_t place_of(Q numbers_, int64_t wanted) noexcept nogil:
    """Return the place of a number in an ascending column, -1 where it is not there."""
    cdef int64_t low = 0, high = numbers_.shape[0], middle
    while low < high:
        middle = (low + high) // 2
        if <int64_t>numbers_[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low if low < numbers_.shape[0] and <int64_t>numbers_[low] == wanted else -1


cdef enum Wrong:
    NOTHING
    UNREADABLE
    TRANSACTION_MISSING
    TRANSACTION_MISPLACED
    HEADER
    NOT_ORIGINAL
    NOWHERE
    RECORDS_LOST


def compare(
    int fd, int64_t border, int64_t end, columns, marks, targets, int copy, int64_t copy_end, *, progress=SILENT
):
    """Return what is wrong with a copy (see ``packing.compare``)."""
    cdef Reader old = Reader(fd, end), new = Reader(copy, copy_end)
    cdef Selection selection = Selection(columns, marks, targets)
    cdef Transaction made, source
    cdef Record record, original
    cdef int64_t position = START, place = START, told = START, at, place_at
    cdef int64_t currents = len(marks) - marks.count(0), pointed = len(targets)
    cdef int why
    cdef Wrong wrong = NOTHING
    while place < copy_end:
        with nogil:
            while place < copy_end and place - told < STEP and wrong == NOTHING:
                if not new.open(place, &made):
                    wrong = UNREADABLE
                    break
                while True:
                    if position >= end:
                        wrong = TRANSACTION_MISPLACED
                        break
                    if not old.open(position, &source):
                        wrong = UNREADABLE
                        break
                    position = source.next
                    if source.tid == made.tid:
                        break
                    if source.position >= border:
                        wrong = TRANSACTION_MISSING
                        break
                if wrong != NOTHING:
                    break
                if not same_head(old, &source, new, &made, source.position < border):
                    wrong = HEADER
                    break
                at, place_at = source.position + source.header, made.position + made.header
                if made.undone:
                    # Its records count for nothing.
                    at, place_at = source.end, made.end
                while place_at < made.end and wrong == NOTHING:
                    if not (new.record(&made, place_at, &record) and new.resolve(&record)):
                        wrong = UNREADABLE
                        break
                    place_at = record.following
                    while True:
                        if at >= source.end:
                            wrong = NOWHERE
                            break
                        if not old.record(&source, at, &original):
                            wrong = UNREADABLE
                            break
                        at = original.following
                        if original.oid == record.oid:
                            if not old.resolve(&original):
                                wrong = UNREADABLE
                                break
                            if same_data(old, &original, new, &record):
                                if source.position >= border:
                                    break
                                # Two records of an object in one transaction may have the same data: the last counts.
                                why = selection.look(&original)
                                currents -= why & 1
                                pointed -= why >> 1
                                if why:
                                    break
                        if source.position >= border:
                            wrong = NOT_ORIGINAL
                            break
                if wrong == NOTHING and source.position >= border and (at < source.end or made.length != source.length):
                    wrong = RECORDS_LOST
                place = made.next
        if wrong != NOTHING:
            break
        told = place
        progress.advance(place)
        PyErr_CheckSignals()
    if wrong == NOTHING:
        while position < end:
            if not old.open(position, &source):
                wrong = UNREADABLE
                break
            position = source.next
            if source.position >= border:
                wrong = TRANSACTION_MISSING
                break
    if old.failed:
        old.error()
    if new.failed or wrong == UNREADABLE:
        new.error()
    if wrong == NOTHING:
        return f"{currents + pointed} revisions are missing" if currents or pointed else None
    return told_as(wrong, made.tid, source.tid, &record)


cdef told_as(Wrong wrong, uint64_t made, uint64_t source, Record* record):
    if wrong == TRANSACTION_MISSING:
        return f"transaction {source:016x} is missing"
    if wrong == TRANSACTION_MISPLACED:
        return f"transaction {made:016x} is in the wrong place"
    if wrong == HEADER:
        return f"transaction {made:016x} has another header"
    if wrong == RECORDS_LOST:
        return f"transaction {made:016x} has lost records"
    where = f"offset {record.position}: the record of 0x{record.oid:02x}"
    if wrong == NOT_ORIGINAL:
        return f"{where} is not the original"
    return f"{where} is nowhere in what stays of the original"


cdef bint same_head(Reader old, Transaction* source, Reader new, Transaction* made, bint packed) noexcept nogil:
    cdef const uint8_t* p = old.at(source.position, source.header)
    cdef const uint8_t* q = new.at(made.position, made.header)
    if p == NULL or q == NULL or source.header != made.header or memcmp(p + 17, q + 17, made.header - 17):
        return False
    return q[16] == (c"p" if packed else p[16])


cdef bint same_data(Reader old, Record* original, Reader new, Record* record) noexcept nogil:
    cdef int64_t done = 0, size
    cdef const uint8_t* p
    cdef const uint8_t* q
    if original.data_size != record.data_size:
        return False
    while done < record.data_size:
        size = min(record.data_size - done, CHUNK >> 1)
        p, q = old.piece(original, done, size), new.piece(record, done, size)
        if p == NULL or q == NULL or memcmp(p, q, size):
            return False
        done += size
    return True


cdef struct Place:
    uint64_t oid, position


cdef int by_oid(const void* one, const void* other) noexcept nogil:
    cdef uint64_t a = (<const Place*>one).oid, b = (<const Place*>other).oid
    return (a > b) - (a < b)


cdef class Places:
    """Objects and positions by ascending oid, given out a bucket at a time."""

    cdef Place* places
    cdef int64_t count, next

    def __cinit__(self, columns):
        cdef Q oids = columns.oids, where = columns.where
        cdef I classes = columns.classes
        cdef int64_t size = min(len(oids), len(where), len(classes)), i
        self.places = <Place*>malloc(max(size, 1) * sizeof(Place))
        if self.places == NULL:
            raise MemoryError
        with nogil:
            for i in range(size):
                if classes[i] != MISSING:
                    self.places[self.count].oid, self.places[self.count].position = oids[i], where[i] & ~POINTS_BACK
                    self.count += 1
            qsort(self.places, self.count, sizeof(Place), by_oid)

    def __dealloc__(self):
        free(self.places)

    def __iter__(self):
        return self

    def __next__(self):
        cdef int64_t first = self.next, i
        cdef uint8_t raw[8]
        cdef uint8_t* low
        cdef uint8_t* at
        if first >= self.count:
            raise StopIteration
        while self.next < self.count and self.places[self.next].oid >> 16 == self.places[first].oid >> 16:
            self.next += 1
        suffixes = PyBytes_FromStringAndSize(NULL, 2 * (self.next - first))
        positions = PyBytes_FromStringAndSize(NULL, 6 * (self.next - first))
        low, at = <uint8_t*>suffixes, <uint8_t*>positions
        for i in range(first, self.next):
            put8(raw, self.places[i].oid)
            low[0], low[1] = raw[6], raw[7]
            put8(raw, self.places[i].position)
            memcpy(at, raw + 2, 6)
            low, at = low + 2, at + 6
        put8(raw, self.places[first].oid)
        return PyBytes_FromStringAndSize(<char*>raw, 6), suffixes, positions


def index_parts(columns):
    """Yield the newest records' positions as a saved index has them (see ``packing.index_parts``)."""
    return Places(columns)
