"""One record: bytes to inert values, without running anybody's code."""
