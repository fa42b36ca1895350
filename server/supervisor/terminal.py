"""Take over the terminal while the server runs, so that it alone handles Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def own_terminal() -> Iterator[None]:
    """Become the terminal's foreground job, as a command typed by hand is; without a terminal, do nothing.

    Under `make run`, Ctrl-C would otherwise end make as well, which then reports a failure of a clean stop.
    """
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
    except OSError:
        yield
        return
    before = None
    try:
        foreground = os.tcgetpgrp(terminal)
        if foreground == os.getpgrp() != os.getpid():  # in the foreground, but in another process's job
            before = foreground
            # A process that is not in the foreground any more is stopped when it asks to be, unless it ignores this.
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            # Suspending us would leave the shell waiting for make, which is not suspended.
            signal.signal(signal.SIGTSTP, signal.SIG_IGN)
            os.setpgid(0, 0)
            os.tcsetpgrp(terminal, os.getpid())
        yield
    finally:
        if before is not None:
            with contextlib.suppress(OSError):
                os.tcsetpgrp(terminal, before)
        os.close(terminal)
