"""Check the settings against this machine before anything starts: `NAME: what` is wrong, a line each."""

from __future__ import annotations

import subprocess
import tempfile

import orjson

from config.settings import Settings
from server.supervisor.instance import Instance
from server.supervisor.plan import GATEWAY_COMMAND, importable
from server.supervisor.ports import in_use, wanted_ports
from server.supervisor.process import inherited_environment

_CHECK_SECONDS = 60.0
_WITHOUT_NAMES = ("together", "spread")  # of ACTOR_PLACEMENT


def data_directory(settings: Settings) -> list[str]:
    """Check that DATA_DIR, or the directory that it will be created in, is a directory that we can write."""
    folder = settings.data_dir
    try:
        existing = next(each for each in (folder, *folder.absolute().parents) if each.exists() or each.is_symlink())
        if existing.is_symlink() and not existing.exists():
            return [f"DATA_DIR: {str(folder)!r} cannot be made: {existing} is a link that leads nowhere"]
        if not existing.is_dir():
            where = "it" if existing == folder else str(existing)
            return [f"DATA_DIR: {str(folder)!r} is no directory: {where} is a file"]
        with tempfile.TemporaryFile(dir=existing):
            pass
        folder.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead to each other
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        return [f"DATA_DIR: {str(folder)!r} cannot be written: {reason}"]
    return []


def ports(settings: Settings) -> list[str]:
    """Check PORT, RAY_DASHBOARD_PORT and HOST: whether another process listens there, or none can.

    Nothing is reported while processes of this directory's own instance run: they may hold the ports, and either they
    are a reason of their own not to start, or they are ended first.
    """
    problems = [problem for name, host, port in wanted_ports(settings) if (problem := in_use(name, host, port))]
    if not problems:
        return []
    try:
        instance = Instance(settings.data_dir)
        is_ours = instance.owner_pid is not None or bool(instance.processes())
    except (OSError, RuntimeError):
        is_ours = False
    return [] if is_ours else problems


def names(settings: Settings) -> list[str]:
    """Check RATE_LIMITS and ACTOR_PLACEMENT for routes and kinds of actors that do not exist.

    The tables of both know all the code and with it Ray, which a supervisor must not import: another process looks. It
    is given these settings alone, since it could not load all of them while something else is wrong.
    """
    if not settings.rate_limits and settings.actor_placement in _WITHOUT_NAMES:
        return []
    try:
        done = subprocess.run(
            [*GATEWAY_COMMAND, "names"],
            env={"PATH": inherited_environment().get("PATH", ""), **importable()},
            input=orjson.dumps(
                [settings.environment, settings.rate_limits, settings.actor_placement, settings.lens_shards]
            ),
            capture_output=True,
            timeout=_CHECK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return []  # a gateway will report it
    return done.stdout.decode().splitlines()


def log_key_file(settings: Settings) -> list[str]:
    """Check that LOG_KEY_FILE, if it is set, is a file that we can read."""
    path = settings.log_key_file
    try:
        if path is not None:
            path.read_bytes()
    except OSError as error:
        return [f"LOG_KEY_FILE: {str(path)!r} cannot be read: {(error.strerror or str(error)).lower()}"]
    return []


SERVING = (data_directory, log_key_file, ports, names)
