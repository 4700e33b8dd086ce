"""The stage: a transaction kept on disk, not yet committed."""
