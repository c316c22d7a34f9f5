"""What holds for all tests."""

from __future__ import annotations

import signal

# A shell starts what it puts in the background with Ctrl-C ignored, and every process started from there
# inherits that. The tests press it, wherever they were started.
signal.signal(signal.SIGINT, signal.default_int_handler)
