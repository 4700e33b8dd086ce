"""Sources: anything that yields records, behind one protocol."""
