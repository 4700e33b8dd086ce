"""The verbs: each takes sources and options, returns a frozen result and never prints."""
