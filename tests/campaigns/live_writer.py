"""Commits without a pause to the database that the first argument names, and packs it again and again from a thread.

The second argument is how many seconds it rests between two packs. Two objects always hold the same number, in every
transaction: whoever sees them differ saw no snapshot. Ends with its standard input; prints how many transactions and
packs there were.
"""

import logging
import sys
import threading
import time

import transaction
import ZODB
import ZODB.FileStorage
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob

logging.disable(logging.CRITICAL)


def main():
    """Write until the input ends."""
    path, rest = sys.argv[1], float(sys.argv[2])
    storage = ZODB.FileStorage.FileStorage(path, blob_dir=f"{path}.blobs")
    db = ZODB.DB(storage)
    with db.transaction("the first") as connection:
        connection.root()["pair"] = PersistentMapping(left=PersistentMapping(n=0), right=PersistentMapping(n=0))
    print("ready", flush=True)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    packs = 0

    def pack():
        nonlocal packs
        while not ended.wait(rest):
            storage.pack(time.time() - 0.05, ZODB.serialize.referencesf)
            packs += 1

    packer = threading.Thread(target=pack)
    packer.start()
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    number = 0
    while not ended.is_set():
        number += 1
        root = connection.root()
        pair = root["pair"]
        pair["left"]["n"] = pair["right"]["n"] = number
        root[f"new {number % 50}"] = PersistentMapping(text="x" * (number % 3000))
        if number % 10 == 0:
            root["blob"] = Blob(b"b" * number)
        manager.get().note(f"number {number}")
        manager.commit()
        time.sleep(0.002)
    packer.join()
    connection.close()
    db.close()
    print(number, packs, flush=True)


if __name__ == "__main__":
    main()
