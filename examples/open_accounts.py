"""Fill an empty database: two accounts in a BTree."""

import account
from BTrees.OOBTree import OOBTree

root.accounts = OOBTree()  # noqa: F821 - `zodbsh run` gives a script its root
for number, owner in enumerate(("Ada", "Grace"), start=1):
    opened = account.Account(owner)
    opened.deposit(10 * number)
    root.accounts[f"account-{number}"] = opened  # noqa: F821
