"""The tutorial's application: bank accounts."""

from persistent import Persistent


class Account(Persistent):
    """An account: a balance, and the movements that made it."""

    def __init__(self, owner=""):
        self.owner = owner
        self.balance = 0
        self.movements = ()

    def deposit(self, amount):
        """Add an amount; a negative one is a withdrawal."""
        if self.balance + amount < 0:
            raise ValueError(f"there is only {self.balance}")
        self.balance += amount
        self.movements += (amount,)
