"""The command line: serve (default), migrate, doctor, demo, check-records, repair-records, verify, witness."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence

if sys.version_info < (3, 11):  # noqa: UP036 - it is about the interpreter that a person happens to have
    sys.exit(f"TradeStream needs Python 3.11 or newer; this is {sys.version.split()[0]}")

from server.supervisor.stdio import prepare_streams, printing

_NO_DATABASE = "DATABASE_URL is not set, and the embedded PostgreSQL does not run"


# The commands that take an option, or further arguments.
_OPTIONS = {
    "--url": ("demo", "verify"),
    "--once": ("demo",),
    "--small": ("demo",),
    "--key": ("verify", "witness"),
    "--cache": ("verify", "witness"),
    "--port": ("witness",),
    "--name": ("witness",),
    "arguments": ("verify", "witness"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and run the command line; returns the exit status."""
    os.umask(0o077)  # files of ours and our children are readable by the server's user alone
    prepare_streams()
    return printing(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="TradeStream: a real-time trading-signal server.",
        epilog="Settings come from the environment or a .env file; config/example.env lists them.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands: dict[str, Callable[[], int]] = {
        "serve": _serve,
        "migrate": _migrate,
        "doctor": _doctor,
        "demo": lambda: _demo(options),
        "check-records": _check_records,
        "repair-records": _repair_records,
        "verify": lambda: _verify(parser, options),
        "witness": lambda: _witness(parser, options),
    }
    parser.add_argument(
        "command",
        nargs="?",
        choices=commands,
        default="serve",
        help="serve (default): start everything; migrate: bring the database up to date; doctor: look for faults; "
        "demo: fill a running development server with a community, and keep it moving; "
        "check-records, repair-records: compare providers' track records with their signals, and put them right; "
        "verify log, verify provider ID: check a server's public log, and recompute a record from it; "
        "witness URL …: cosign the logs of other servers",
    )
    parser.add_argument("arguments", nargs="*", help="of verify and witness")
    demo = parser.add_argument_group("demo")
    demo.add_argument("--url", help="the server, also of verify, where it is not at HOST and PORT")
    demo.add_argument("--once", action="store_true", help="end when the server is filled")
    demo.add_argument("--small", action="store_true", help="a community of 16 instead of 60")
    log = parser.add_argument_group("verify and witness")
    log.add_argument("--key", help="the log's public key, where it was published elsewhere")
    log.add_argument("--cache", help="the folder in which they keep what they have seen")
    log.add_argument("--port", type=int, help="where the witness listens, on 127.0.0.1")
    log.add_argument("--name", help="under which the witness signs, as in witness.example")
    options = parser.parse_args(arguments)
    if options.version:
        print(_version())
        return 0
    if misplaced := [name for name, commands_ in _OPTIONS.items() if _is_misplaced(options, name, commands_)]:
        parser.error(f"{', '.join(misplaced)}: not of {options.command}")
    try:
        return commands[options.command]()
    except KeyboardInterrupt:  # before anything was started: later ones are handled
        return 130
    except ModuleNotFoundError as error:
        hint = "`make run` installs it into .venv; then use .venv/bin/python"
        print(f"{error}: not installed for {sys.executable}; {hint}", file=sys.stderr)
        return 1


def _serve() -> int:
    from config.settings import ConfigurationError, Settings
    from server.supervisor.instance import AlreadyRunning
    from server.supervisor.preflight import SERVING
    from server.supervisor.service import ServiceError
    from server.supervisor.supervisor import serve
    from server.supervisor.unit import StartFailed

    try:
        asyncio.run(serve(Settings.load(checks=SERVING)))
    except ConfigurationError as error:
        return _refuse("the configuration cannot be used", error.problems)
    except (AlreadyRunning, ServiceError, StartFailed) as error:
        return _refuse("cannot start", str(error).splitlines())
    return 0


def _migrate() -> int:
    from config.settings import ConfigurationError
    from db._migrate import MigrationError, migrate

    try:
        url = _database_url()
        if url is None:
            return _refuse("nothing to migrate", [_NO_DATABASE])
        applied = asyncio.run(migrate(url))
    except ConfigurationError as error:
        return _refuse("the configuration cannot be used", error.problems)
    except MigrationError as error:
        return _refuse("the database was not migrated", str(error).splitlines())
    for name in applied:
        print(f"applied {name}")
    print(f"Database migrated: {len(applied)} new" if applied else "Database up to date")
    return 0


def _check_records(*, mend: bool = False) -> int:
    from config.settings import ConfigurationError, Settings
    from schemas.errors import AppError
    from server._records import examine_records

    try:
        url = _database_url()
        if url is None:
            return _refuse("nothing to check", [_NO_DATABASE])
        return 1 if asyncio.run(examine_records(url, print, Settings.load().costs_bps, mend=mend)) else 0
    except ConfigurationError as error:
        return _refuse("the configuration cannot be used", error.problems)
    except AppError as error:
        return _refuse("not all records were checked", [error.message])


def _repair_records() -> int:
    return _check_records(mend=True)


def _database_url() -> str | None:
    """Return the database's URL; None if the embedded one does not run. Raises ConfigurationError."""
    from config.settings import Settings
    from server.supervisor.embedded_postgres import EmbeddedPostgres
    from server.supervisor.instance import Instance

    settings = Settings.load()
    if settings.database_url is not None:
        return settings.database_url
    instance = Instance(settings.data_dir)
    return None if instance.owner_pid is None else EmbeddedPostgres(instance).url


def _doctor() -> int:
    from server.supervisor.doctor import examine

    return examine(print)


def _demo(options: argparse.Namespace) -> int:
    from config.settings import ConfigurationError, Settings
    from server.demo.command import Options, run
    from server.supervisor.preflight import data_directory

    try:
        return run(Settings.load(checks=[data_directory]), Options(options.url, options.once, options.small))
    except ConfigurationError as error:
        return _refuse("the configuration cannot be used", error.problems)


def _verify(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    from pathlib import Path
    from uuid import UUID

    from config.settings import ConfigurationError, Settings
    from server.supervisor.gateway_service import address_of
    from server.supervisor.instance import Instance
    from server.verify.command import VerifyOptions, run

    match options.arguments:
        case ["log"]:
            provider_id = None
        case ["provider", text]:
            try:
                provider_id = UUID(text)
            except ValueError:
                parser.error(f"{text!r} is no provider's id")
        case _:
            parser.error("verify log, or verify provider ID")
    url = options.url
    if url is None:
        try:
            settings = Settings.load()
        except ConfigurationError as error:
            return _refuse("the configuration cannot be used", error.problems)
        url = Instance(settings.data_dir).url or address_of(settings)
    return run(VerifyOptions(url, provider_id, Path(options.cache) if options.cache else None, options.key))


def _witness(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    from pathlib import Path

    from server.witness import WitnessOptions, run

    if not options.arguments:
        parser.error("witness URL …: the addresses of the servers")
    if options.key and len(options.arguments) > 1:
        parser.error("--key is the key of one log")
    folder = Path(options.cache) if options.cache else None
    port = 8700 if options.port is None else options.port
    return run(WitnessOptions(options.arguments, options.name, port=port, folder=folder, key=options.key))


def _is_misplaced(options: argparse.Namespace, name: str, commands: Sequence[str]) -> bool:
    return bool(getattr(options, name.lstrip("-"))) and options.command not in commands


def _refuse(what: str, reasons: Sequence[str]) -> int:
    from config.masking import redact

    print(f"{what}:", *(f"  {redact(line)}" for line in reasons), sep="\n", file=sys.stderr)
    return 1


def _version() -> str:
    from importlib import metadata

    try:
        version = metadata.version("tradestream")
    except metadata.PackageNotFoundError:
        version = "(not installed)"
    return f"TradeStream {version}, Python {sys.version.split()[0]}"


if __name__ == "__main__":
    sys.exit(main())
