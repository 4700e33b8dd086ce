"""What our decoder costs, beside what ZODB does with the same records.

    python benchmarks/bench_decode.py [--records 20000] [--file Data.fs]

Without --file the records are generated: persistent objects with a dict of
scalars, a list of references and some text. For context only, no claim: ours
is plain Python that runs nothing; ZODB's referencesf and noload are C.
"""

import argparse
import io
import sys
from collections.abc import Callable

import zodbpickle.fastpickle
from common import show, side_by_side
from persistent.mapping import PersistentMapping
from ZODB.FileStorage import FileIterator
from ZODB.serialize import ObjectWriter, referencesf
from ZODB.utils import p64

from zodbsh.record.decode import decode_record, record_class, references


def generated(count: int) -> list[bytes]:
    """Return records of mappings, each with scalars, text and five references."""
    records = []
    for number in range(count):
        mapping = PersistentMapping(number=number, title=f"document {number}", ratio=number / 7)
        mapping["text"] = "a line of text, as documents have them\n" * (number % 8)
        mapping["parts"] = others = [PersistentMapping() for _ in range(5)]
        for place, other in enumerate(others):
            other._p_oid = p64(number * 5 + place + 1)
        records.append(ObjectWriter().serialize(mapping))
    return records


def loaded(data: bytes) -> None:
    """Load a record's class and state as a connection does, references left as they are."""
    unpickler = zodbpickle.fastpickle.Unpickler(io.BytesIO(data))
    unpickler.persistent_load = lambda reference: reference
    unpickler.load()
    unpickler.load()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--file")
    options = parser.parse_args()
    if options.file:
        # Classes that are not installed would stop ZODB's load: only its referencesf runs on a file.
        records = [record.data for transaction in FileIterator(options.file) for record in transaction if record.data]
    else:
        records = generated(options.records)
    print(f"{len(records):,} records, {sum(map(len, records)):,} bytes")

    def over(work: Callable[[bytes], object]) -> Callable[[], None]:
        def run() -> None:
            for data in records:
                work(data)

        return run

    ours = {"references": over(references), "decode_record": over(decode_record), "record_class": over(record_class)}
    theirs = {"ZODB referencesf": over(referencesf)}
    if not options.file:
        theirs["zodbpickle load (runs classes)"] = over(loaded)
    medians = side_by_side(3, ours | theirs)
    for name in ours:
        show(name, {f"zodbsh {name}": medians[name]} | {peer: medians[peer] for peer in theirs})
    return 0


if __name__ == "__main__":
    sys.exit(main())
