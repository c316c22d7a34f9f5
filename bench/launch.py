"""Run one command and write what it took. Started by :mod:`bench.measure` as a program of its own.

Linux counts the peak memory of the process that starts a command into the command's own peak, up to
the moment of ``exec``. So this starter stays tiny: it imports nothing big and is not the harness.

Usage: launch.py RESULT_JSON LOG_FILE WORKING_FOLDER COMMAND [ARGUMENT...]
"""

from __future__ import annotations

import json
import os
import sys
import time


def main(result: str, log: str, folder: str, command: list[str]) -> None:
    """Run ``command`` and write wall and CPU seconds, peak resident bytes and its exit code as JSON."""
    os.chdir(folder)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    actions = [
        (os.POSIX_SPAWN_DUP2, nothing, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, output, 2),
    ]
    started = time.monotonic()
    process = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
    # The usage includes that of every descendant that was waited for.
    _, status, usage = os.wait4(process, 0)
    wall_s = time.monotonic() - started
    unit = 1 if sys.platform == "darwin" else 1024
    with open(result, "w", encoding="utf-8") as file:  # noqa: PTH123 - pathlib would make this process bigger
        json.dump(
            {
                "wall_s": wall_s,
                "user_s": usage.ru_utime,
                "sys_s": usage.ru_stime,
                "peak_bytes": usage.ru_maxrss * unit,
                "exit_code": os.waitstatus_to_exitcode(status),
            },
            file,
        )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
