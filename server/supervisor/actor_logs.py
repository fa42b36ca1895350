"""Merge the actors' logs, which Ray keeps in a file for each worker, into one log for people."""

from __future__ import annotations

from pathlib import Path

POLL_SECONDS = 0.5
READ_BYTES = 64 << 10  # of one file at a time: a worker that floods its log delays its own lines alone
_RAYS_OWN = (b":job_id:", b":actor_name:", b":task_name:")  # its notes to itself, amid the lines


class ActorLogs:
    """Follow the log files of the running session's workers.

    Ray's own way is a log monitor (46 MB) that sends the lines to the driver that created the actor; ours outlive it.
    """

    def __init__(self, sessions: Path) -> None:
        self._logs = sessions / "session_latest" / "logs"
        self._positions: dict[Path, int] = {}

    def read(self) -> bytes:
        """Return the whole lines that have been written since the last call."""
        try:
            folder = self._logs.resolve(strict=True)
            paths = sorted([*folder.glob("worker-*.out"), *folder.glob("worker-*.err")])
            read = {path: self._read(path, self._positions.get(path, 0)) for path in paths}
        except OSError:  # between two sessions, or a file that Ray has just moved
            return b""
        self._positions = {path: position for path, (position, _) in read.items()}
        return b"".join(lines for _, lines in read.values())

    def _read(self, path: Path, position: int) -> tuple[int, bytes]:
        size = path.stat().st_size
        if size == position:
            return position, b""
        with path.open("rb") as file:
            file.seek(position if size > position else 0)  # smaller: Ray has begun a new file
            start = file.tell()
            data = file.read(READ_BYTES)
        lines, newline, _ = data.rpartition(b"\n")
        if not newline and len(data) < READ_BYTES:
            return start, b""
        whole = lines + newline if newline else data
        kept = b"".join(line for line in whole.splitlines(keepends=True) if not line.startswith(_RAYS_OWN))
        return start + len(whole), kept
