"""Undoing transactions, taking a file back to a moment, and putting back what was taken off."""
