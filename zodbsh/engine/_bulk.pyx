# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The bulk pass, natively: a Data.fs in chunks, several threads, flat columns.

A worker takes the next stretch of the file under a lock: it reads it and checks
its framing, which is quick (`_cut`). It decodes the stretch's records beside
the other workers, without the GIL (`_decode`), waits for its turn, and puts
what it found into the columns (`_merge`). So transactions come in order, and no
more than one stretch a worker is ever in memory. Records that the scanner
doubts are decoded in Python, in their turn.
"""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_WRITABLE
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport EINTR, EIO, errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

from zodbsh.engine._scan cimport (
    REF_FOREIGN, REF_WEAK, ScanRef, Scanner, scan_class, scan_whole, scanner_close, scanner_open,
)

import os
import threading

from zodbsh.engine import twin
from zodbsh.engine.columns import Columns, Dangled, OddPrevious, Options, Reached, ToolRow, Totals, TransactionRow, Undecodable
from zodbsh.ids import MAX_ID
from zodbsh.progress import SILENT
from zodbsh.record.classpart import class_part

cdef extern from "<unistd.h>" nogil:
    ssize_t pread(int fd, void* buffer, size_t size, long long offset)

cdef extern from * nogil:
    """
    #ifdef __GLIBC__
    #include <malloc.h>
    /* Large arrays come from the system and go back to it. By itself glibc stops doing so once one was freed. */
    #define large_arrays_apart() mallopt(M_MMAP_THRESHOLD, 4 << 20)
    #else
    #define large_arrays_apart() 0
    #endif
    """
    int large_arrays_apart()
    void __builtin_prefetch(const void*)

large_arrays_apart()

cdef enum:
    MAGIC = 4
    T_HEADER = 23
    D_HEADER = 42
    # A record larger than this is left to Python: its data is not kept in a stretch.
    BIG = 1 << 25
    WINDOW = 1 << 18
    MAX_CLASS_TEXT = 1 << 12
    KEPT_DANGLED = 1000000

cdef enum Found:
    HAS_DATA = 0
    POINTS = 1
    DELETES = 2

cdef enum:
    DOUBT = 0xFFFFFFFD
    NONE = 0xFFFFFFFF
    MISSING = 0xFFFFFFFF
    DELETED = 0xFFFFFFFE
    WEAK = 0x80000000

cdef uint64_t POINTS_BACK = <uint64_t>1 << 63

CHUNK = 4 << 20


cdef int64_t read_at(int fd, uint8_t* buffer, int64_t size, int64_t position) noexcept nogil:
    """Read as much as there is; returns the bytes read, -1 with ``errno`` set."""
    cdef int64_t done = 0
    cdef ssize_t got
    while done < size:
        got = pread(fd, buffer + done, min(size - done, 1 << 30), position + done)
        if got < 0:
            if errno == EINTR:
                continue
            return -1
        if got == 0:
            break
        done += got
    return done


cdef int reserve(Array* array, int64_t more) noexcept nogil:
    cdef int64_t room
    cdef void* found
    if array.count + more <= array.room:
        return 1
    # Large arrays are moved by the kernel, not copied; what is not used yet takes no memory.
    room = array.room + array.room // 4 + more + 1024
    found = realloc(array.at, room * array.width)
    if found == NULL:
        return 0
    array.at, array.room = <uint8_t*>found, room
    return 1


cdef class Column:
    """Numbers in memory of the engine's own; a buffer."""

    def __dealloc__(self):
        free(self.at)

    def __getbuffer__(self, Py_buffer* view, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("a column cannot be changed")
        self.shape[0], self.strides[0] = self.count, self.width
        view.buf, view.obj, view.len = self.at, self, self.count * self.width
        view.itemsize, view.readonly, view.ndim = self.width, 1, 1
        view.format = self.format if flags & PyBUF_FORMAT else NULL
        view.shape, view.strides, view.suboffsets, view.internal = self.shape, self.strides, NULL, NULL

    def __releasebuffer__(self, Py_buffer* view):
        pass


cdef object column(Array* array):
    """Return an array as a memoryview; the array is empty afterwards."""
    cdef Column made = Column()
    cdef void* found
    if array.count < array.room:
        found = realloc(array.at, max(array.count, 1) * array.width)
        if found != NULL:
            array.at = <uint8_t*>found
    made.at, made.count, made.width = array.at, array.count, array.width
    made.format = b"Q" if array.width == 8 else b"I"
    array.at, array.count, array.room = NULL, 0, 0
    return memoryview(made)


# From oids to dense numbers: sixteen oids in sequence share a line of the table, so neighbours are found together, and
# where a line is taken each of them goes on to other lines. The multiplier is drawn for each pass.


cdef inline uint64_t line_of(uint64_t multiplier, uint64_t oid) noexcept nogil:
    return (oid >> 4) * multiplier >> 28


cdef int64_t probe(
    const uint32_t* table, uint64_t lines, uint64_t multiplier, const uint64_t* oids, uint64_t oid
) noexcept nogil:
    """Return the number of ``oid``, or -1 - (the free place where it belongs); there is always a free place."""
    cdef uint64_t line = line_of(multiplier, oid), place, step = 0
    cdef uint64_t slot = (oid ^ line) & 15
    cdef uint32_t number
    line >>= 4
    place = (line & (lines - 1)) << 4 | slot
    while True:
        number = table[place]
        if number == NONE:
            return -1 - <int64_t>place
        if oids[number] == oid:
            return number
        step += 1
        if step < 32:
            line += step
            place = (line & (lines - 1)) << 4 | slot
        else:
            place = (place + 1) & (lines * 16 - 1)


# A stretch of the file.


cdef struct Record:
    uint64_t oid
    int64_t position
    int64_t at        # where the data is in the buffer; for a pointer, in the file; -1: not in the buffer
    int64_t size
    uint32_t kind     # Found
    uint32_t class_   # the worker's number, or DOUBT
    int64_t first_ref
    int64_t ref_count
    int64_t previous


cdef struct Stretch:
    # One transaction, or its part in a stretch.
    uint64_t tid
    int64_t position
    int64_t length
    int64_t first
    int64_t count
    int64_t user_size
    int64_t user_at
    int ends
    int begins
    int packed


cdef struct ClassName:
    uint32_t hash
    uint32_t size
    int64_t at


cdef class Worker:
    """What one thread needs: a buffer, tables of what is in it, a scanner, names of classes."""

    cdef Scanner scanner
    cdef uint8_t* buffer
    cdef int64_t room, base, filled
    cdef Array records, transactions, refs, texts, names, map_
    cdef uint32_t* name_table
    cdef int64_t name_room
    cdef uint8_t* behind
    cdef int64_t behind_room

    def __cinit__(self, int64_t chunk):
        self.room = chunk
        self.buffer = <uint8_t*>malloc(chunk)
        self.records.width, self.transactions.width = sizeof(Record), sizeof(Stretch)
        self.refs.width, self.texts.width, self.names.width, self.map_.width = sizeof(ScanRef), 1, sizeof(ClassName), 4
        self.name_room = 1024
        self.name_table = <uint32_t*>calloc(self.name_room, sizeof(uint32_t))
        if not (self.buffer and self.name_table and scanner_open(&self.scanner)):
            raise MemoryError

    def __dealloc__(self):
        scanner_close(&self.scanner)
        free(self.buffer)
        free(self.behind)
        free(self.records.at)
        free(self.transactions.at)
        free(self.refs.at)
        free(self.texts.at)
        free(self.names.at)
        free(self.map_.at)
        free(self.name_table)

    cdef uint32_t class_number(self, const uint8_t* data) noexcept nogil:
        """Return this worker's number for the class that the scanner found."""
        cdef Scanner* s = &self.scanner
        cdef uint32_t size = s.module_size + 1 + s.name_size, hash, slot, number
        cdef uint64_t mixed = size, word
        cdef uint8_t* text
        cdef ClassName* name
        cdef ClassName* names
        cdef uint32_t* table
        cdef int64_t room, i
        if size > MAX_CLASS_TEXT or size < 8 or not reserve(&self.texts, size):
            return DOUBT
        text = self.texts.at + self.texts.count
        memcpy(text, data + s.module_at, s.module_size)
        text[s.module_size] = c"."
        memcpy(text + s.module_size + 1, data + s.name_at, s.name_size)
        for i in range(0, size - 7, 8):
            memcpy(&word, text + i, 8)
            mixed = (mixed ^ word) * 0x9E3779B97F4A7C15ULL
            mixed ^= mixed >> 29
        memcpy(&word, text + size - 8, 8)
        mixed = (mixed ^ word) * 0x9E3779B97F4A7C15ULL
        hash = <uint32_t>(mixed >> 32)
        names = <ClassName*>self.names.at
        slot = hash & <uint32_t>(self.name_room - 1)
        while self.name_table[slot]:
            number = self.name_table[slot] - 1
            name = &names[number]
            if name.hash == hash and name.size == size and memcmp(self.texts.at + name.at, text, size) == 0:
                return number
            slot = (slot + 1) & <uint32_t>(self.name_room - 1)
        if not reserve(&self.names, 1):
            return DOUBT
        number = <uint32_t>self.names.count
        name = &(<ClassName*>self.names.at)[number]
        name.hash, name.size, name.at = hash, size, self.texts.count
        self.names.count += 1
        self.texts.count += size
        self.name_table[slot] = number + 1
        if 2 * self.names.count > self.name_room:
            room = 4 * self.name_room
            table = <uint32_t*>calloc(room, sizeof(uint32_t))
            if table != NULL:
                for i in range(self.names.count):
                    slot = (<ClassName*>self.names.at)[i].hash & <uint32_t>(room - 1)
                    while table[slot]:
                        slot = (slot + 1) & <uint32_t>(room - 1)
                    table[slot] = <uint32_t>i + 1
                free(self.name_table)
                self.name_table, self.name_room = table, room
            elif self.names.count + 1 >= self.name_room:
                return DOUBT
        return number

    cdef int decode(self, int fd, bint references) noexcept nogil:
        """Scan the records of the stretch; 0 where there is no memory."""
        cdef Record* record
        cdef const uint8_t* data
        cdef int64_t i
        self.refs.count = 0
        for i in range(self.records.count):
            record = &(<Record*>self.records.at)[i]
            record.class_ = DOUBT
            if record.kind == DELETES or record.size >= BIG or record.at < 0:
                continue
            data = self.buffer + record.at if record.kind == HAS_DATA else self.read_behind(fd, record.at, record.size)
            if data != NULL and not self.scan(record, data, references):
                return 0
        return 1

    cdef int scan(self, Record* record, const uint8_t* data, bint references) noexcept nogil:
        """Scan a record; 0 where there is no memory for its references."""
        cdef int64_t middle
        record.class_, record.first_ref, record.ref_count = DOUBT, self.refs.count, 0
        if references:
            if not scan_whole(&self.scanner, data, record.size):
                return 1
        elif not scan_class(&self.scanner, data, record.size, &middle):
            return 1
        record.class_ = self.class_number(data)
        if record.class_ != DOUBT and references:
            record.ref_count = self.scanner.ref_count
            if not reserve(&self.refs, record.ref_count):
                return 0
            memcpy(
                self.refs.at + self.refs.count * sizeof(ScanRef),
                self.scanner.refs, record.ref_count * sizeof(ScanRef),
            )
            self.refs.count += record.ref_count
        return 1

    cdef const uint8_t* read_behind(self, int fd, int64_t position, int64_t size) noexcept nogil:
        cdef void* found
        if size > self.behind_room:
            found = realloc(self.behind, size)
            if found == NULL:
                return NULL
            self.behind, self.behind_room = <uint8_t*>found, size
        return self.behind if read_at(fd, self.behind, size, position) == size else NULL


cdef class Pass:
    """A pass (implements ``columns.Pass``)."""

    # The columns.
    cdef Array oids, where, sizes, classes, starts, counts, targets, first_classes
    cdef uint32_t* table
    cdef uint64_t lines, multiplier
    cdef int64_t live
    # By class number.
    cdef object options, class_numbers
    cdef list class_names
    cdef Array class_records, class_bytes, tool
    cdef list tool_order
    cdef bint references, history, tool_rows, previous
    cdef uint64_t since
    # Totals.
    cdef int64_t transaction_count, record_count, data_bytes, reference_count
    cdef object first_tid, last_tid
    cdef list undecodable, dangled, odd_previous
    cdef int64_t dangled_more
    cdef Array waiting
    # The file that is read, and how far.
    cdef int fd
    cdef int64_t position, limit, chunk
    cdef uint64_t until, cut_tid
    cdef bint ended, finished
    cdef int failed_errno
    # A transaction that is larger than a chunk, checked and on its way.
    cdef int64_t open_start, open_next, open_end
    cdef uint64_t open_tid
    cdef bint open_packed
    # Whether all transactions so far were packed, and whether the one at hand is.
    cdef bint packed, now_packed
    # Back-pointers that lead far, and the record that each ends at.
    cdef dict followed
    cdef int64_t sequence, merged
    cdef object cut_lock, turn, failure, progress, on_transactions, part
    cdef Worker adding
    cdef bint orderly

    def __cinit__(self, options=Options()):
        self.options = options
        self.references, self.history, self.tool_rows = options.references, options.history, options.tool_rows
        self.since = options.since
        self.oids.width = self.where.width = self.sizes.width = self.starts.width = 8
        self.classes.width = self.counts.width = self.targets.width = self.first_classes.width = 4
        self.class_records.width = self.class_bytes.width = 8
        self.tool.width = 40
        self.waiting.width = 16
        self.class_numbers, self.class_names, self.tool_order = {}, [], []
        self.undecodable, self.dangled, self.odd_previous, self.followed = [], [], [], {}
        self.previous = options.previous
        self.packed = True
        self.lines = 256
        self.multiplier = int.from_bytes(os.urandom(8), "big") | 1
        self.table = <uint32_t*>malloc(self.lines * 16 * 4)
        if self.table == NULL:
            raise MemoryError
        memset(self.table, 0xFF, self.lines * 16 * 4)

    def __dealloc__(self):
        free(self.oids.at)
        free(self.where.at)
        free(self.sizes.at)
        free(self.classes.at)
        free(self.starts.at)
        free(self.counts.at)
        free(self.targets.at)
        free(self.first_classes.at)
        free(self.class_records.at)
        free(self.class_bytes.at)
        free(self.tool.at)
        free(self.waiting.at)
        free(self.table)

    cdef inline int64_t lookup(self, uint64_t oid) noexcept nogil:
        """Return an oid's number, -1 - (its free place) where it is unknown."""
        return probe(self.table, self.lines, self.multiplier, <uint64_t*>self.oids.at, oid)

    cdef inline void prefetch_line(self, uint64_t oid) noexcept nogil:
        cdef uint64_t line = line_of(self.multiplier, oid)
        __builtin_prefetch(&self.table[((line >> 4) & (self.lines - 1)) << 4 | ((oid ^ line) & 15)])

    cdef inline void prefetch_oid(self, uint64_t oid) noexcept nogil:
        cdef uint64_t line = line_of(self.multiplier, oid)
        cdef uint32_t number = self.table[((line >> 4) & (self.lines - 1)) << 4 | ((oid ^ line) & 15)]
        if number != NONE:
            __builtin_prefetch(&(<uint64_t*>self.oids.at)[number])

    cdef int64_t number_of(self, uint64_t oid) noexcept nogil:
        """Return an oid's number, a new one if need be; -1 where there is no memory."""
        cdef int64_t found = self.lookup(oid)
        cdef int64_t count = self.oids.count
        if found >= 0:
            return found
        if count >= 0x7FFFFFFF:
            return -1
        if count * 100 >= <int64_t>self.lines * 16 * 72:
            if not self.rehash():
                return -1
            found = self.lookup(oid)
        if not (
            reserve(&self.oids, 1) and reserve(&self.where, 1) and reserve(&self.sizes, 1)
            and reserve(&self.classes, 1) and reserve(&self.starts, 1) and reserve(&self.counts, 1)
            and (not self.tool_rows or reserve(&self.first_classes, 1))
        ):
            return -1
        (<uint64_t*>self.oids.at)[count] = oid
        (<uint64_t*>self.where.at)[count] = 0
        (<uint64_t*>self.sizes.at)[count] = 0
        (<uint64_t*>self.starts.at)[count] = 0
        (<uint32_t*>self.classes.at)[count] = MISSING
        (<uint32_t*>self.counts.at)[count] = 0
        self.oids.count += 1
        self.where.count += 1
        self.sizes.count += 1
        self.classes.count += 1
        self.starts.count += 1
        self.counts.count += 1
        if self.tool_rows:
            (<uint32_t*>self.first_classes.at)[count] = NONE
            self.first_classes.count += 1
        self.table[-1 - found] = <uint32_t>count
        return count

    cdef int rehash(self) noexcept nogil:
        cdef uint64_t lines = self.lines * 2
        cdef uint32_t* table
        cdef uint64_t* oids = <uint64_t*>self.oids.at
        cdef int64_t i
        # The old table goes first: the oids tell everything.
        free(self.table)
        self.table = NULL
        table = <uint32_t*>malloc(lines * 16 * 4)
        if table == NULL:
            return 0
        memset(table, 0xFF, lines * 16 * 4)
        self.table, self.lines = table, lines
        for i in range(self.oids.count):
            table[-1 - probe(table, lines, self.multiplier, oids, oids[i])] = <uint32_t>i
        return 1

    # Cutting: reading and framing.

    cdef int cut(self, Worker worker) noexcept nogil:
        """Fill a worker with the next stretch; 0 where nothing more comes."""
        cdef int64_t at, next_at, end, first, header, length
        cdef uint64_t tid
        cdef const uint8_t* p
        worker.records.count = worker.transactions.count = 0
        worker.base, worker.filled = 0, 0
        if self.ended:
            return 0
        if self.open_end:
            return self.cut_open(worker)
        if self.position >= self.limit:
            self.ended = self.finished = True
            return 0
        if not self.fill(worker, self.position, min(self.chunk, self.limit - self.position)):
            return 0
        at = 0
        while True:
            if self.position >= self.limit:
                self.ended, self.finished = True, self.position == self.limit
                break
            if worker.filled - at < T_HEADER:
                # A header never spans two stretches: the next begins with it.
                if worker.transactions.count == 0:
                    self.ended = True
                break
            p = worker.buffer + at
            tid, length = big8(p), <int64_t>big8(p + 8)
            header = T_HEADER + big2(p + 17) + big2(p + 19) + big2(p + 21)
            if (p[16] != c" " and p[16] != c"p" and p[16] != c"u") or tid <= self.cut_tid:
                self.ended = True
                break
            # A hostile length may be near 2**64, which is negative here.
            if length < header or length > self.limit or self.position + length + 8 > self.limit:
                self.ended = True
                break
            if tid > self.until:
                self.ended = self.finished = True
                break
            if at + length + 8 > worker.filled:
                if worker.transactions.count:
                    break
                return self.open_transaction(worker, tid, header, length, p[16])
            first = worker.records.count
            end = at + length
            if p[16] == c"u":
                next_at = end
            else:
                next_at = self.take_records(worker, at + header, end, tid, self.position, end + 8)
            if next_at != end or big8(worker.buffer + end) != <uint64_t>length:
                worker.records.count = first
                self.ended = True
                break
            if not self.note(worker, tid, self.position, length + 8, first, at + T_HEADER, 1, 1, p[16] == c"p"):
                self.ended = True
                self.failed_errno = -1
                break
            self.cut_tid = tid
            self.position += length + 8
            at = end + 8
        return worker.transactions.count > 0

    cdef int note(
        self, Worker worker, uint64_t tid, int64_t position, int64_t length, int64_t first, int64_t user_at,
        int begins, int ends, int packed,
    ) noexcept nogil:
        cdef Stretch* stretch
        if not reserve(&worker.transactions, 1):
            return 0
        stretch = &(<Stretch*>worker.transactions.at)[worker.transactions.count]
        stretch.tid, stretch.position, stretch.length = tid, position, length
        stretch.first, stretch.count = first, worker.records.count - first
        stretch.user_at = user_at
        stretch.user_size = big2(worker.buffer + user_at - T_HEADER + 17) if begins else 0
        stretch.begins, stretch.ends, stretch.packed = begins, ends, packed
        worker.transactions.count += 1
        return 1

    cdef int fill(self, Worker worker, int64_t position, int64_t size) noexcept nogil:
        """Read a part of the file into a worker's buffer; ends the pass where the file or the memory does."""
        cdef void* found
        if size > worker.room:
            found = realloc(worker.buffer, size)
            if found == NULL:
                self.ended, self.failed_errno = True, -1
                return 0
            worker.buffer, worker.room = <uint8_t*>found, size
        worker.base = position
        worker.filled = read_at(self.fd, worker.buffer, size, position)
        if worker.filled < 0:
            worker.filled = 0
            self.ended, self.failed_errno = True, errno
            return 0
        return 1

    cdef int64_t take_records(
        self, Worker worker, int64_t at, int64_t end, uint64_t tid, int64_t start, int64_t room
    ) noexcept nogil:
        """Take the records from ``at`` on, in the buffer; returns where it stopped: at ``end``, before ``room``, or -1.

        ``end`` is where the transaction's records end, which may be beyond the buffer; ``room`` where the buffer does.
        """
        cdef const uint8_t* p
        cdef int64_t length, following, position
        cdef Record* record
        while at < end:
            if end - at < D_HEADER + 1:
                return -1
            if room - at < D_HEADER + 8:
                # A back-pointer has 8 bytes more, and so has the transaction after its last record.
                return at
            p = worker.buffer + at
            position = worker.base + at
            length = <int64_t>big8(p + 34)
            if length < 0 or length > end - at:
                return -1
            following = at + D_HEADER + (length if length else 8)
            if big8(p + 8) != tid or big8(p + 24) != <uint64_t>start or big2(p + 32) or following > end:
                return -1
            if big8(p + 16) >= <uint64_t>position:
                return -1
            if following > room and length < BIG:
                return at
            if not reserve(&worker.records, 1):
                self.failed_errno = -1
                return -1
            record = &(<Record*>worker.records.at)[worker.records.count]
            record.oid, record.position, record.size = big8(p), position, length
            record.previous = <int64_t>big8(p + 16)
            record.kind, record.at = HAS_DATA, at + D_HEADER
            if following > room:
                record.at = -1
            if length == 0 and not self.follow(record, big8(p + D_HEADER)):
                return -1
            worker.records.count += 1
            at = following
        return at

    cdef int follow(self, Record* record, uint64_t back) noexcept nogil:
        """Follow a back-pointer; 0 where it leads where no pointer may."""
        cdef uint8_t raw[50]
        cdef int64_t below = record.position, hops = 0
        cdef uint64_t length
        while back:
            if back <= MAGIC or back >= <uint64_t>below:
                return 0
            if hops and hops % 4 == 0:
                with gil:
                    known = self.followed.get(back)
                    if known is not None:
                        back = known
                if not back:
                    break
            if read_at(self.fd, raw, 50, back) < 50:
                return 0
            if big8(raw) != record.oid or big2(raw + 32) or big8(raw + 24) >= back:
                return 0
            length = big8(raw + 34)
            if length:
                if length > <uint64_t>below or back + D_HEADER + length > <uint64_t>below:
                    return 0
                record.kind, record.at, record.size = POINTS, <int64_t>back + D_HEADER, <int64_t>length
                break
            below, back = <int64_t>back, big8(raw + D_HEADER)
            hops += 1
        else:
            record.kind, record.at, record.size = DELETES, 0, 0
        if hops >= 3:
            with gil:
                self.followed[record.position] = back
        return 1

    cdef int open_transaction(
        self, Worker worker, uint64_t tid, int64_t header, int64_t length, uint8_t status
    ) noexcept nogil:
        """Check a transaction that is larger than a chunk, before any part of it is taken."""
        cdef int64_t start = self.position, end = start + length, at
        cdef uint8_t raw[8]
        if read_at(self.fd, raw, 8, end) != 8 or big8(raw) != <uint64_t>length:
            self.ended = True
            return 0
        at = start + header
        if status == c"u":
            at = end
        while at < end:
            # In windows; only the headers are looked at.
            worker.records.count = 0
            if not self.fill(worker, at, min(WINDOW, end + 8 - at)):
                return 0
            at = self.take_headers(worker, at, end, tid, start)
            if at < 0:
                self.ended = True
                return 0
        self.open_start, self.open_end, self.open_tid = start, end, tid
        self.open_next = end if status == c"u" else start + header
        self.open_packed = status == c"p"
        # The first part has no records: it tells of the transaction.
        worker.records.count = 0
        if not self.fill(worker, start, header):
            return 0
        return self.note(worker, tid, start, length + 8, 0, T_HEADER, 1, 0, self.open_packed)

    cdef int64_t take_headers(self, Worker worker, int64_t position, int64_t end, uint64_t tid, int64_t start) noexcept nogil:
        """Check the headers in a window; returns the position of the first one beyond it, -1 where one is not sound."""
        cdef const uint8_t* p
        cdef int64_t length, following, at
        cdef Record record
        while position < end:
            if end - position < D_HEADER + 1:
                return -1
            at = position - worker.base
            if at + D_HEADER + 8 > worker.filled:
                # The window reaches 8 bytes beyond the records, so there is more to read.
                return position if at > 0 else -1
            p = worker.buffer + at
            length = <int64_t>big8(p + 34)
            if length < 0 or length > end - position:
                return -1
            following = position + D_HEADER + (length if length else 8)
            if big8(p + 8) != tid or big8(p + 24) != <uint64_t>start or big2(p + 32) or following > end:
                return -1
            if big8(p + 16) >= <uint64_t>position:
                return -1
            record.oid, record.position = big8(p), position
            if length == 0 and not self.follow(&record, big8(p + D_HEADER)):
                return -1
            position = following
        return position

    cdef int cut_open(self, Worker worker) noexcept nogil:
        """Take the next part of a large transaction."""
        cdef int64_t start = self.open_next, end = self.open_end, at = 0, size
        if not self.fill(worker, start, min(self.chunk, end + 8 - start)):
            return 0
        if start < end:
            at = self.take_records(worker, 0, end - start, self.open_tid, self.open_start, worker.filled)
            if at == 0 and worker.filled >= D_HEADER:
                # A single record larger than the chunk: make room for it. It was checked to be within the transaction.
                size = D_HEADER + <int64_t>big8(worker.buffer + 34) + 8
                if not self.fill(worker, start, min(max(size, D_HEADER + 8), end + 8 - start)):
                    return 0
                at = self.take_records(worker, 0, end - start, self.open_tid, self.open_start, worker.filled)
            if at <= 0:
                # It is not what it was when it was checked.
                self.ended, self.failed_errno = True, EIO
                return 0
        self.open_next = start + at
        if not self.note(worker, self.open_tid, self.open_start, 0, 0, -1, 0, self.open_next >= end, self.open_packed):
            self.ended, self.failed_errno = True, -1
            return 0
        if self.open_next >= end:
            self.cut_tid, self.position, self.open_end = self.open_tid, end + 8, 0
        return 1

    # Merging: from a stretch into the columns.

    cdef int merge(self, Worker worker) except -1:
        cdef Stretch* stretch
        cdef Record* record
        cdef int64_t i, j, bytes_before
        cdef list rows = []
        cdef list python
        self.settle_names(worker)
        for i in range(worker.transactions.count):
            stretch = &(<Stretch*>worker.transactions.at)[i]
            if stretch.tid < self.since:
                continue
            bytes_before = self.data_bytes
            if stretch.begins:
                self.begin(stretch.tid, stretch.packed)
            j = stretch.first
            while j < stretch.first + stretch.count:
                with nogil:
                    j = self.take_plain(worker, j, stretch.first + stretch.count, stretch.tid)
                if j < 0:
                    raise MemoryError
                if j < stretch.first + stretch.count:
                    record = &(<Record*>worker.records.at)[j]
                    self.take_doubt(
                        stretch.tid, record.oid, record.position, self.data_of(worker, record), record.kind == POINTS,
                        record.previous,
                    )
                    j += 1
            if stretch.ends:
                self.finish_transaction(stretch.tid)
            if self.on_transactions is not None:
                user = b""
                if stretch.begins:
                    user = PyBytes_FromStringAndSize(<char*>worker.buffer + stretch.user_at, stretch.user_size)
                row = TransactionRow(
                    stretch.tid, stretch.position, stretch.length, stretch.count, self.data_bytes - bytes_before, user
                )
                if stretch.begins and stretch.ends:
                    rows.append(row)
                else:
                    rows.extend(self.join(row, stretch.begins, stretch.ends))
        if rows:
            self.on_transactions(rows)
        return 0

    cdef list join(self, row, bint begins, bint ends):
        """Put the parts of a large transaction together."""
        if begins:
            self.part = row
        else:
            self.part = self.part._replace(
                records=self.part.records + row.records, data_bytes=self.part.data_bytes + row.data_bytes
            )
        return [self.part] if ends else []

    cdef settle_names(self, Worker worker):
        """Give the worker's new classes their numbers."""
        cdef ClassName* name
        if not reserve(&worker.map_, worker.names.count - worker.map_.count):
            raise MemoryError
        while worker.map_.count < worker.names.count:
            name = &(<ClassName*>worker.names.at)[worker.map_.count]
            text = PyBytes_FromStringAndSize(<char*>worker.texts.at + name.at, name.size).decode()
            (<uint32_t*>worker.map_.at)[worker.map_.count] = self.class_of(text)
            worker.map_.count += 1

    cdef uint32_t class_of(self, text) except? 0xFFFFFFF0:
        number = self.class_numbers.get(text)
        if number is None:
            number = self.class_numbers[text] = len(self.class_names)
            self.class_names.append(text)
            if not (reserve(&self.class_records, 1) and reserve(&self.class_bytes, 1) and reserve(&self.tool, 1)):
                raise MemoryError
            (<uint64_t*>self.class_records.at)[number] = 0
            (<uint64_t*>self.class_bytes.at)[number] = 0
            memset(self.tool.at + 40 * <int64_t>number, 0, 40)
            self.class_records.count += 1
            self.class_bytes.count += 1
            self.tool.count += 1
        return number

    cdef bytes data_of(self, Worker worker, Record* record):
        """Return a record's data, None for a deletion. Raises OSError."""
        if record.kind == DELETES:
            return None
        if record.kind == HAS_DATA and record.at >= 0:
            return PyBytes_FromStringAndSize(<char*>worker.buffer + record.at, record.size)
        place = record.at if record.kind == POINTS else record.position + D_HEADER
        return twin.read_whole(self.fd, place, record.size)

    cdef begin(self, uint64_t tid, bint packed):
        if self.packed and not packed:
            self.check_packed()
        self.transaction_count += 1
        if self.first_tid is None:
            self.first_tid = tid
        self.last_tid = tid
        self.now_packed = packed
        self.waiting.count = 0

    cdef int64_t take_plain(self, Worker worker, int64_t i, int64_t end, uint64_t tid) noexcept nogil:
        """Take records until one is in doubt; returns its place, ``end``, or -1 where there is no memory."""
        cdef Record* record
        cdef ScanRef* refs
        cdef int64_t number, target, j
        cdef uint32_t class_
        cdef uint32_t* targets
        cdef const ScanRef* ahead
        cdef const ScanRef* last = <ScanRef*>worker.refs.at + worker.refs.count
        while i < end:
            record = &(<Record*>worker.records.at)[i]
            if record.kind != DELETES and record.class_ == DOUBT:
                return i
            number = self.take_object(record.oid, record.position, record.kind, record.previous, tid)
            if number < 0:
                return -1
            self.record_count += 1
            i += 1
            if record.kind == DELETES:
                continue
            class_ = (<uint32_t*>worker.map_.at)[record.class_]
            self.take_class(number, class_, record.size, record.kind == HAS_DATA)
            if not self.references:
                continue
            if not reserve(&self.targets, record.ref_count):
                return -1
            refs = <ScanRef*>worker.refs.at + record.first_ref
            for j in range(record.ref_count):
                # What a look-up needs is on its way long before it is needed.
                ahead = refs + j + 24
                if ahead < last:
                    self.prefetch_line(ahead.oid)
                    self.prefetch_oid(refs[j + 12].oid)
                if refs[j].flags & REF_FOREIGN:
                    continue
                target = self.number_of(refs[j].oid)
                if target < 0:
                    return -1
                targets = <uint32_t*>self.targets.at
                targets[self.targets.count] = <uint32_t>target
                if refs[j].flags & REF_WEAK:
                    targets[self.targets.count] |= WEAK
                elif record.kind == HAS_DATA:
                    self.reference_count += 1
                self.targets.count += 1
            if not self.close_object(number, record.position):
                return -1
        return i

    cdef int64_t take_object(
        self, uint64_t oid, int64_t where, uint32_t kind, int64_t previous, uint64_t tid
    ) noexcept nogil:
        """Begin an object's new record; returns its number, -1 where there is no memory."""
        cdef int64_t number = self.number_of(oid)
        if number < 0:
            return -1
        if self.previous and (previous or not self.now_packed):
            if <uint64_t>previous != ((<uint64_t*>self.where.at)[number] & ~POINTS_BACK):
                with gil:
                    self.odd_previous.append(OddPrevious(oid, tid, where, previous))
        self.live -= (<uint32_t*>self.counts.at)[number]
        (<uint32_t*>self.counts.at)[number] = 0
        (<uint64_t*>self.starts.at)[number] = self.targets.count
        (<uint64_t*>self.where.at)[number] = <uint64_t>where | (POINTS_BACK if kind != HAS_DATA else 0)
        if kind == DELETES:
            (<uint32_t*>self.classes.at)[number] = DELETED
        return number

    cdef void take_class(self, int64_t number, uint32_t class_, int64_t size, bint own) noexcept nogil:
        cdef uint32_t first
        cdef uint64_t* row
        cdef uint64_t before = (<uint64_t*>self.sizes.at)[number]
        (<uint64_t*>self.class_records.at)[class_] += 1
        if own:
            (<uint64_t*>self.class_bytes.at)[class_] += size
            self.data_bytes += size
        if self.tool_rows:
            first = (<uint32_t*>self.first_classes.at)[number]
            if first == NONE:
                first = (<uint32_t*>self.first_classes.at)[number] = class_
            row = <uint64_t*>(self.tool.at + 40 * <int64_t>first)
            if row[0] == 0:
                with gil:
                    self.tool_order.append(first)
            row[0] += 1
            row[1] += size
            if before == 0:
                row[2] += 1
            else:
                row[3] += 1
                row[4] += before
        (<uint64_t*>self.sizes.at)[number] = size
        (<uint32_t*>self.classes.at)[number] = class_

    cdef int close_object(self, int64_t number, int64_t where) noexcept nogil:
        """End an object's new record, whose references are in."""
        cdef int64_t count = self.targets.count - <int64_t>(<uint64_t*>self.starts.at)[number]
        cdef int64_t* pair
        (<uint32_t*>self.counts.at)[number] = <uint32_t>count
        self.live += count
        if self.history and count and not self.packed:
            if not reserve(&self.waiting, 1):
                return 0
            pair = <int64_t*>(self.waiting.at + 16 * self.waiting.count)
            pair[0], pair[1] = number, where
            self.waiting.count += 1
        return 1

    cdef take_doubt(
        self, uint64_t tid, uint64_t oid, uint64_t where, data, bint points_back, int64_t previous
    ):
        """Take a record that Python decodes (or that deletes its object)."""
        cdef uint32_t kind = DELETES if data is None else POINTS if points_back else HAS_DATA
        cdef int64_t number = self.take_object(oid, where, kind, previous, tid)
        cdef int64_t target
        if number < 0:
            raise MemoryError
        self.record_count += 1
        if data is None:
            return
        if self.references:
            scanned = twin.scan_record(data)
            text = scanned.class_
        else:
            scanned, text = None, class_part(data)[0]
        self.take_class(number, self.class_of(text), len(data), not points_back)
        if scanned is None:
            return
        if scanned.trouble is not None and not points_back:
            self.undecodable.append(Undecodable(oid, tid, where, *scanned.trouble))
        if not reserve(&self.targets, len(scanned.references)):
            raise MemoryError
        for ref in scanned.references:
            if ref.foreign:
                continue
            target = self.number_of(ref.oid)
            if target < 0:
                raise MemoryError
            (<uint32_t*>self.targets.at)[self.targets.count] = <uint32_t>target | (WEAK if ref.weak else 0)
            self.targets.count += 1
            self.reference_count += not ref.weak and not points_back
        if not self.close_object(number, where):
            raise MemoryError

    cdef finish_transaction(self, uint64_t tid):
        """Check what the transaction's references met, and make room."""
        if self.history and not self.packed:
            self.check_waiting(tid)
        if self.targets.count > self.live + self.live // 2 + (1 << 20):
            self.compact()

    cdef check_packed(self):
        """Check the references of what a pack has left, all at once: which revision was there when, it has forgotten."""
        cdef int64_t number
        cdef int64_t* pair
        self.packed = False
        if not self.history or not self.transaction_count:
            return
        self.waiting.count = 0
        for number in range(self.oids.count):
            if (<uint32_t*>self.classes.at)[number] < DELETED and self.has_dangling(number):
                if not reserve(&self.waiting, 1):
                    raise MemoryError
                pair = <int64_t*>(self.waiting.at + 16 * self.waiting.count)
                pair[0], pair[1] = number, <int64_t>((<uint64_t*>self.where.at)[number] & ~POINTS_BACK)
                self.waiting.count += 1
        self.check_waiting(self.last_tid)

    cdef check_waiting(self, uint64_t tid):
        cdef int64_t i = 0, j
        cdef int64_t* pair
        cdef uint32_t target
        cdef uint64_t start
        while i < self.waiting.count:
            with nogil:
                i = self.first_dangling(i)
            if i >= self.waiting.count:
                break
            pair = <int64_t*>(self.waiting.at + 16 * i)
            start = (<uint64_t*>self.starts.at)[pair[0]]
            for j in range((<uint32_t*>self.counts.at)[pair[0]]):
                target = (<uint32_t*>self.targets.at)[start + j]
                if target < WEAK and (<uint32_t*>self.classes.at)[target] >= DELETED:
                    if len(self.dangled) < KEPT_DANGLED:
                        oid, found = (<uint64_t*>self.oids.at)[pair[0]], (<uint64_t*>self.oids.at)[target]
                        self.dangled.append(Dangled(oid, tid, <uint64_t>pair[1], found))
                    else:
                        self.dangled_more += 1
            i += 1
        self.waiting.count = 0

    cdef bint has_dangling(self, int64_t number) noexcept nogil:
        cdef uint64_t start = (<uint64_t*>self.starts.at)[number], j
        cdef uint32_t target
        for j in range(start, start + (<uint32_t*>self.counts.at)[number]):
            target = (<uint32_t*>self.targets.at)[j]
            if target < WEAK and (<uint32_t*>self.classes.at)[target] >= DELETED:
                return True
        return False

    cdef int64_t first_dangling(self, int64_t i) noexcept nogil:
        while i < self.waiting.count and not self.has_dangling((<int64_t*>(self.waiting.at + 16 * i))[0]):
            i += 1
        return i

    cdef compact(self):
        """Drop the references of superseded records."""
        cdef Array kept
        cdef int64_t number
        cdef uint64_t start
        cdef uint32_t count
        memset(&kept, 0, sizeof(Array))
        kept.width = 4
        if not reserve(&kept, self.live):
            raise MemoryError
        with nogil:
            for number in range(self.oids.count):
                count = (<uint32_t*>self.counts.at)[number]
                start = (<uint64_t*>self.starts.at)[number]
                memcpy(kept.at + 4 * kept.count, self.targets.at + 4 * start, 4 * <int64_t>count)
                (<uint64_t*>self.starts.at)[number] = kept.count
                kept.count += count
        free(self.targets.at)
        self.targets = kept

    # From Python.

    def read(
        self, int fd, start, limit, *, last_tid=0, until=MAX_ID, progress=SILENT, on_transactions=None, chunk=None
    ):
        """Take the sound transactions of a Data.fs from ``start`` on. Raises OSError."""
        self.orderly = False
        self.fd, self.position, self.limit = fd, start, limit
        self.chunk = max(chunk or CHUNK, 256)
        self.until, self.cut_tid = until, last_tid
        self.ended = self.finished = False
        self.failed_errno = 0
        self.open_end = 0
        self.sequence = self.merged = 0
        self.failure = None
        self.progress, self.on_transactions = progress, on_transactions
        self.cut_lock, self.turn = threading.Lock(), threading.Condition()
        wanted = self.options.threads or min(os.cpu_count() or 1, 4)
        threads = [
            threading.Thread(target=self._work, args=(False,), daemon=True)
            for _ in range(min(wanted, 1 + (limit - start) // (4 * self.chunk)) - 1)
        ]
        try:
            for thread in threads:
                thread.start()
            self._work(True)
        finally:
            # Whatever ended this thread ends the others, after at most one stretch.
            self.ended = True
            with self.turn:
                if self.failure is None and not self.orderly:
                    self.failure = KeyboardInterrupt()
                self.turn.notify_all()
            for thread in threads:
                thread.join()
        if self.failure is not None:
            raise self.failure
        if self.failed_errno:
            if self.failed_errno == -1:
                raise MemoryError
            raise OSError(self.failed_errno, os.strerror(self.failed_errno))
        return Reached(self.position, self.cut_tid, self.finished)

    def _work(self, main):
        cdef Worker worker
        cdef int more, sound
        cdef int64_t mine
        try:
            worker = Worker(self.chunk)
            while True:
                with self.cut_lock:
                    with nogil:
                        more = self.cut(worker)
                    if not more:
                        break
                    mine = self.sequence
                    self.sequence += 1
                    reached = self.position
                with nogil:
                    sound = worker.decode(self.fd, self.references)
                if not sound:
                    raise MemoryError
                with self.turn:
                    while self.merged != mine:
                        if self.failure is not None:
                            return
                        self.turn.wait()
                self.merge(worker)
                with self.turn:
                    self.merged += 1
                    self.turn.notify_all()
                if main:
                    self.progress.advance(reached)
            if main:
                self.orderly = True
        except BaseException as error:
            with self.turn:
                if self.failure is None:
                    self.failure = error
                self.ended = True
                self.turn.notify_all()

    def add(self, tid, entries, *, packed=False):
        """Take one transaction from elsewhere."""
        self.begin(tid, packed)
        for entry in entries:
            self.take_entry(tid, entry.oid, entry.where, entry.data, entry.points_back, entry.previous)
        self.finish_transaction(tid)

    cdef take_entry(
        self, uint64_t tid, uint64_t oid, uint64_t where, bytes data, bint points_back, int64_t previous
    ):
        """Take a record through the scanner, where it has no doubt."""
        cdef Record* record
        if self.adding is None:
            self.adding = Worker(256)
            if not reserve(&self.adding.records, 1):
                raise MemoryError
        record = <Record*>self.adding.records.at
        if data is None or len(data) >= BIG:
            self.take_doubt(tid, oid, where, data, points_back, previous)
            return
        record.oid, record.position, record.size, record.previous = oid, where, len(data), previous
        record.kind = POINTS if points_back else HAS_DATA
        self.adding.refs.count = 0
        if not self.adding.scan(record, data, self.references):
            raise MemoryError
        if record.class_ == DOUBT:
            self.take_doubt(tid, oid, where, data, points_back, previous)
            return
        self.settle_names(self.adding)
        if self.take_plain(self.adding, 0, 1, tid) < 0:
            raise MemoryError

    def finish(self):
        """Return the columns; the pass is over."""
        cdef uint64_t* row
        if self.packed:
            self.check_packed()
        tool_rows = []
        for number in self.tool_order:
            row = <uint64_t*>(self.tool.at + 40 * <int64_t>number)
            tool_rows.append(ToolRow(self.class_names[number], row[0], row[1], row[2], row[3], row[4]))
        cdef Finder finder = Finder()
        finder.table, finder.lines, finder.multiplier = self.table, self.lines, self.multiplier
        self.table = NULL
        finder.oids = column(&self.oids)
        finder.column = finder.oids.obj
        finder.where, finder.classes = column(&self.where), column(&self.classes)
        return Columns(
            oids=finder.oids, where=finder.where, sizes=column(&self.sizes), classes=finder.classes,
            starts=column(&self.starts), counts=column(&self.counts), targets=column(&self.targets),
            find=finder.find, class_names=self.class_names,
            class_records=column(&self.class_records).tolist(), class_bytes=column(&self.class_bytes).tolist(),
            tool_rows=tool_rows,
            totals=Totals(
                self.transaction_count, self.record_count, self.data_bytes, self.reference_count,
                self.first_tid, self.last_tid,
            ),
            undecodable=self.undecodable, dangled=self.dangled, dangled_more=self.dangled_more,
            odd_previous=self.odd_previous, placed=finder.placed,
        )


cdef class Finder:
    """From an oid to its dense number."""

    def __dealloc__(self):
        free(self.table)

    cdef int64_t number(self, uint64_t oid) noexcept nogil:
        """Return an object's number, negative for an unknown oid."""
        return probe(self.table, self.lines, self.multiplier, <uint64_t*>self.column.at, oid)

    def find(self, uint64_t oid):
        """Return an object's number, ``NONE`` for an unknown oid."""
        cdef int64_t found = self.number(oid)
        return 0xFFFFFFFF if found < 0 else found

    def placed(self, bytes prefix, bytes suffixes, bytes positions):
        """Tell whether newest records are where they are said to be (see `columns.Columns.placed`)."""
        cdef const uint64_t[::1] where = self.where
        cdef const uint32_t[::1] classes = self.classes
        cdef const uint8_t* low = suffixes
        cdef const uint8_t* at = positions
        cdef uint64_t high = int.from_bytes(prefix, "big") << 16, position
        cdef int64_t i, count = len(suffixes) // 2, found
        if len(positions) < 6 * count:
            return False
        for i in range(count):
            found = self.number(high | big2(low + 2 * i))
            position = <uint64_t>big2(at + 6 * i) << 32 | <uint64_t>big2(at + 6 * i + 2) << 16 | big2(at + 6 * i + 4)
            if found < 0 or classes[found] == MISSING or (where[found] & ~POINTS_BACK) != position:
                return False
        return True
