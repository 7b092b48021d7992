"""Exit codes of the command line."""

STOPPED = 1
INTERRUPTED = 130
PIPE_CLOSED = 141
"""As a shell reports a process that a closed pipe has ended."""
