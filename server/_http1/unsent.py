"""Measure the written bytes that a client has not received yet, the kernel's part included."""

from __future__ import annotations

import array
import asyncio
import fcntl
import termios


def unsent_bytes(transport: asyncio.Transport) -> int:
    """Count the bytes in the transport and the kernel, which holds megabytes: only its figure shows a slow reader."""
    return transport.get_write_buffer_size() + _kernel_bytes(transport)


def _kernel_bytes(transport: asyncio.Transport) -> int:
    # Linux counts what the other side has not acknowledged. A system that cannot say counts for nothing.
    count = array.array("i", [0])
    try:
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, count)
    except (AttributeError, OSError, ValueError):
        return 0
    return count[0]
