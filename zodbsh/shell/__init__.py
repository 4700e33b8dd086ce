"""The live shell: evaluation, completion, display, dot commands, the prompt."""
