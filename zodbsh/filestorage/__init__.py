"""The Data.fs format: layout, reading, framing checks, the saved index. Imports no ZODB."""
