"""The bulk pass over a database, and the figures it yields."""
