"""The outages. Each has a server, an alert, a line of the log, and how it begins."""

import base64
import ctypes
import json
import os
import subprocess
import time
from pathlib import Path

from parts import ROOT, Backend, Client, Gate, NotHere, Server

LOBBY = "random:lobby"


class Outage:
    alert = event = ""

    def __init__(self, folder):
        self.folder = folder
        self.clients = []
        self.server = self.start()

    def start(self):
        return Server(self.folder)

    def begin(self):
        """The outage."""

    def go_on(self):
        """What clients do meanwhile."""

    def advice(self):
        """What the line of the log says to do."""
        return next((advice for event, advice in self.server.events() if event == self.event and advice), None)

    def is_shown(self):
        """Whether the dashboard's list of trouble has it."""
        try:
            entries = self.server.ask_dashboard("trouble")["entries"]
        except TimeoutError:
            # This connection has met a worker that does not run.
            return False
        return any(entry["event"] == self.event and entry["advice"] for entry in entries)

    def member(self, topic=LOBBY):
        client = Client(self.server.port)
        self.clients.append(client)
        client.join(topic)
        return client

    def end(self):
        self.server.end()
        for client in self.clients:
            client.close()


class DatabaseStopped(Outage):
    alert, event = "SlackirDatabaseAway", "store.writer.failing"
    flags = ()

    def start(self):
        self.gate = Gate(f"outage_{type(self).__name__.lower()}")
        return Server(self.folder, "--database-url", self.gate.url, *self.flags)

    def begin(self):
        self.writer = self.member()
        self.gate.shut()
        self.go_on()

    def go_on(self):
        self.writer.push(LOBBY, "shout", {"message": "x" * 10_000})


class SpoolFull(DatabaseStopped):
    alert, event = "SlackirStorageRefuses", "store.writer.refusing"
    flags = ("--spool-bytes", "65536", "--writer-bytes", "65536")


class DiskFull(Outage):
    alert, event = "SlackirDatabaseAway", "store.writer.failing"

    def start(self):
        self.disk = self.folder / "disk"
        self.disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", self.disk]
        if subprocess.run(mount, stderr=subprocess.DEVNULL, check=False).returncode != 0:
            raise NotHere("only root can mount a small disk, and not in every container")
        try:
            return Server(self.folder, "--database-url", f"sqlite://{self.disk}/slackir.db")
        except BaseException:
            self.unmount()
            raise

    def begin(self):
        self.writer = self.member()
        try:
            with open(self.disk / "rest", "wb", buffering=0) as rest:
                while True:
                    rest.write(bytes(4096))
        except OSError:
            pass
        self.go_on()

    def go_on(self):
        self.writer.push(LOBBY, "shout", {"message": "x" * 10_000})

    def end(self):
        super().end()
        self.unmount()

    def unmount(self):
        subprocess.run(["umount", self.disk], check=True)


class HookDead(Outage):
    alert, event = "SlackirBackendFails", "hook.failing"
    config = """
[hook]
url = "http://127.0.0.1:9/slackir"
secret_env = "HOOK_SECRET"

[[rooms]]
topics = "random:*"
join.hook = true
"""

    def start(self):
        return Server(self.folder, config=self.config, env={"HOOK_SECRET": "s" * 64})

    def begin(self):
        self.guest = self.member()

    def go_on(self):
        self.guest.join(LOBBY)


class KeysGone(Outage):
    alert, event = "SlackirKeysNotFetched", "jwks.fetch.failed"
    config = """
[identity.jwt]
algorithms = ["RS256"]
jwks_url = "http://127.0.0.1:9/keys"
issuer = "https://issuer.example"
audience = "chat"
"""

    def start(self):
        return Server(self.folder, config=self.config)

    def go_on(self):
        part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
        claims = {"iss": "https://issuer.example", "aud": "chat", "sub": "7", "exp": int(time.time()) + 600}
        token = f"{part({'alg': 'RS256', 'kid': 'new'})}.{part(claims)}.{'A' * 342}"
        Client(self.server.port, f"/socket/websocket?vsn=2.0.0&token={token}").close()


class KeysOld(KeysGone):
    """The keys were there once, and cannot be fetched any more."""

    alert = "SlackirKeysOld"

    def start(self):
        keys = (ROOT / "tests/fixtures/jwt/jwks.json").read_bytes()
        self.issuer = Backend(200, keys)
        return Server(self.folder, config=self.config.replace("http://127.0.0.1:9", self.issuer.url))

    def begin(self):
        # Its token has the server fetch the keys.
        self.go_on()
        self.issuer.end()


class CertificateExpired(Outage):
    """Prometheus and the dashboard are at the operators' address, which speaks plain HTTP."""

    alert, event = "SlackirCertificateEnds", "serve.certificate.ending"

    def start(self):
        files = {name: str(self.folder / f"{name}.pem") for name in ("cert", "key")}
        subprocess.run(
            ["faketime", "2026-01-01", "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
            + ["-nodes", "-days", "1", "-subj", "/CN=localhost", "-keyout", files["key"], "-out", files["cert"]],
            check=True,
            capture_output=True,
        )
        flags = ("--tls-cert", files["cert"], "--tls-key", files["key"], "--admin-listen", "127.0.0.1:0")
        return Server(self.folder, *flags)


class DescriptorsShort(Outage):
    alert, event = "SlackirFilesShort", "admission.files.none"

    def start(self):
        return Server(self.folder, before=("prlimit", "--nofile=512:512"))

    def go_on(self):
        for _ in range(50 if len(self.clients) < 600 else 0):
            self.clients.append(Client(self.server.port))


class ClockBack(Outage):
    alert, event = "SlackirClockJumped", "serve.clock.back"

    def start(self):
        self.clock = self.folder / "clock"
        self.clock.write_text("+0\n")
        settings = {
            "LD_PRELOAD": str(next(Path("/usr/lib").glob("**/faketime/libfaketimeMT.so.1"))),
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        return Server(self.folder, env=settings)

    def begin(self):
        self.clock.write_text("-3600\n")


class WorkerBlocked(Outage):
    """One thread of the server is stopped, as a callback that blocks would stop it."""

    alert, event = "SlackirWorkerStuck", "serve.worker.blocked"
    SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
    ANY_THREAD = 0x40000000
    thread = None

    def start(self):
        return Server(self.folder, "--workers", "2")

    def trace(self, request):
        """ptrace of the thread."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.ptrace(request, self.thread, None, None) != 0:
            raise OSError(ctypes.get_errno(), "ptrace")

    def begin(self):
        thread = self.thread = self.worker()
        try:
            self.trace(self.SEIZE)
        except PermissionError as error:
            self.thread = None
            raise NotHere(f"thread {thread} cannot be stopped: {error}") from error
        self.trace(self.INTERRUPT)
        os.waitpid(self.thread, self.ANY_THREAD)

    def end(self):
        # A process that is traced does not end otherwise.
        if self.thread:
            self.trace(self.DETACH)
        super().end()

    def worker(self):
        tasks = Path(f"/proc/{self.server.process.pid}/task")
        names = {int(task.name): (task / "comm").read_text().strip() for task in tasks.iterdir()}
        return max(thread for thread, name in names.items() if name.startswith("actix-rt"))


class Flood(Outage):
    """Its line is at info: a client may not fill the log with warnings. The dashboard counts what it refused."""

    alert, event = "SlackirFlood", "admission.address.often"

    def start(self):
        return Server(self.folder, "--connects-per-second", "5", "--connects-burst", "5")

    def go_on(self):
        for _ in range(10):
            # As a proxy on this machine names it: loopback itself has no limit.
            Client(self.server.port, **{"X-Forwarded-For": "203.0.113.9"}).close()

    def is_shown(self):
        return self.server.ask_dashboard("trouble")["refused"].get("rate", 0) > 0


OUTAGES = {
    "database_stopped": DatabaseStopped,
    "disk_full": DiskFull,
    "certificate_expired": CertificateExpired,
    "hook_dead": HookDead,
    "keys_gone": KeysGone,
    "keys_old": KeysOld,
    "descriptors_short": DescriptorsShort,
    "clock_back": ClockBack,
    "worker_blocked": WorkerBlocked,
    "flood": Flood,
    "spool_full": SpoolFull,
}
