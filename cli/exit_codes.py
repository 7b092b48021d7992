"""Exit codes of the command line."""

STOPPED = 1
INTERRUPTED = 130
