"""The command line: each command parses, opens, calls one op and emits its result."""
