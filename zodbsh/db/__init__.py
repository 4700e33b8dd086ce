"""Live objects through ZODB: what a DATABASE argument names, and sessions on it."""
