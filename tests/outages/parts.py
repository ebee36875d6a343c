"""What an outage is made of: a server and what it asks, a client, a database that goes away, a Prometheus, an operator's
dashboard."""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SLACKIR = os.environ.get("SLACKIR_BIN", str(ROOT / "target/debug/slackir"))
HOST = "127.0.0.1"
PATIENCE_S = 60


class NotHere(Exception):
    """This machine does not allow an outage."""


def eventually(look, what, patience=PATIENCE_S):
    """Waits until `look` returns something, and returns that."""
    end = time.monotonic() + patience
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > end:
            raise AssertionError(f"not within {patience} s: {what}")
        time.sleep(0.1)


def get(url, **headers):
    """The body of an answer, whatever its status; None if there is no answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()
    except OSError:
        return None


class Client:
    """A client that speaks version 2.0.0 of the protocol."""

    def __init__(self, port, path="/socket/websocket?vsn=2.0.0", **headers):
        self.stream = socket.create_connection((HOST, port), timeout=8)
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {HOST}:{port}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self.stream.sendall("\r\n".join([*lines, "", ""]).encode())
        self.reader = self.stream.makefile("rb")
        self.status = int((self.reader.readline() or b"HTTP/1.1 0").split()[1])
        while self.reader.readline().strip():
            pass
        self.refs = 0

    def push(self, topic, event, payload):
        """Sends a message without waiting, and returns its ref."""
        self.refs += 1
        body = json.dumps(["1", str(self.refs), topic, event, payload]).encode()
        size = len(body)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
        # The mask of four zeros changes nothing.
        self.stream.sendall(b"\x81" + length + bytes(4) + body)
        return str(self.refs)

    def messages(self):
        """Messages until the connection ends."""
        while head := self.reader.read(2):
            size = head[1] & 0x7F
            if size > 125:
                size = int.from_bytes(self.reader.read(2 if size == 126 else 8), "big")
            body = self.reader.read(size)
            if head[0] & 0xF == 1:
                yield json.loads(body)

    def ask(self, topic, event, payload):
        """The reply to a message: a status and a response."""
        ref = self.push(topic, event, payload)
        replies = (m[4] for m in self.messages() if m[1] == ref and m[3] == "phx_reply")
        reply = next(replies, {"status": "closed", "response": {}})
        return reply["status"], reply["response"]

    def join(self, topic, params=None):
        return self.ask(topic, "phx_join", params or {})

    def close(self):
        self.reader.close()
        self.stream.close()


class Backend:
    """Something that listens where the settings of a server say, and always gives the same answer."""

    def __init__(self, status, body=b""):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.rfile.read(int(self.headers.get("content-length", 0)))
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self.listener = ThreadingHTTPServer((HOST, 0), Handler)
        self.url = f"http://{HOST}:{self.listener.server_port}"
        threading.Thread(target=self.listener.serve_forever, daemon=True).start()

    def end(self):
        self.listener.shutdown()
        self.listener.server_close()


class Server:
    """The binary, with a dashboard and log lines in JSON."""

    def __init__(self, folder, *flags, config="", env=None, before=()):
        self.folder = Path(folder)
        self.config = self.folder / "slackir.toml"
        self.config.write_text(config)
        self.database = f"sqlite://{self.folder}/slackir.db"
        command = [*before, SLACKIR, "--config", self.config, "--port", "0", "--log-format", "json"]
        if "--database-url" not in flags:
            command += ["--database-url", self.database]
        self.log = self.folder / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*command, *flags],
                cwd=folder,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        # Its address, then the link to its dashboard.
        lines = [self.process.stdout.readline() for _ in range(2)]
        if not all(lines):
            raise AssertionError(f"the server did not start: {self.log.read_text()}")
        url, self.link = (json.loads(line)["url"] for line in lines)
        self.port, self.operators = (urllib.parse.urlsplit(at).port for at in (url, self.link))
        self.cookie = None

    def events(self):
        """The warnings and errors of the log, and what they say to do. The lines of a flood are at info."""
        for line in self.log.read_text().splitlines():
            event, _, advice = json.loads(line)["fields"].get("message", "").partition(": ")
            yield event, advice

    def ask_dashboard(self, event):
        if self.cookie is None:
            opener = urllib.request.build_opener(NoRedirect)
            try:
                answer = opener.open(self.link, timeout=10)
            except urllib.error.HTTPError as error:
                answer = error
            self.cookie = answer.headers["Set-Cookie"].split(";")[0]
        origin = f"http://{HOST}:{self.operators}"
        operator = Client(self.operators, "/dashboard/socket/websocket?vsn=2.0.0", Cookie=self.cookie, Origin=origin)
        try:
            assert operator.join("admin:dashboard")[0] == "ok", "the dashboard's socket"
            status, answer = operator.ask("admin:dashboard", event, {})
            assert status == "ok", f"{event}: {answer}"
            return answer
        finally:
            operator.close()

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


class Gate:
    """A way to the PostgreSQL of the tests that can be shut, as if the database were stopped."""

    def __init__(self, database):
        url = urllib.parse.urlsplit(os.environ["SLACKIR_TEST_POSTGRES"])
        self.behind = (url.hostname, url.port)
        subprocess.run(["psql", url.geturl(), "-qc", f"CREATE DATABASE {database}"], check=True)
        self.listener = socket.create_server((HOST, 0))
        self.streams = []
        self.lock = threading.Lock()
        port = self.listener.getsockname()[1]
        self.url = url._replace(netloc=f"{url.username}@{HOST}:{port}", path=f"/{database}").geturl()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.behind)
            except OSError:
                return
            with self.lock:
                self.streams += [client, server]
            for ends in ((client, server), (server, client)):
                threading.Thread(target=copy, args=ends, daemon=True).start()

    def shut(self):
        # A thread that waits in accept keeps a listener open that is only closed.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            for stream in self.streams:
                stop(stream)


def stop(stream):
    try:
        stream.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    stream.close()


def copy(source, target):
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
    except OSError:
        pass
    for stream in (source, target):
        try:
            stream.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class Prometheus:
    """A real Prometheus with docs/alerts.yml. Its times are short: seconds in place of minutes."""

    def __init__(self, folder, servers):
        rules = (ROOT / "docs/alerts.yml").read_text()
        rules = re.sub(r"for: \d+[sm]", "for: 1s", rules)
        rules = re.sub(r"\[\d+[mh]\]", "[20s]", rules)
        # Keys are fetched twice a minute at most, and the failures of an hour count.
        rules = rules.replace('result!="ok"}[20s])) > 3', 'result!="ok"}[20s])) > 0')
        rules = rules.replace("> 3600", "> 3")
        (folder / "alerts.yml").write_text(rules)
        targets = [f"{HOST}:{server.operators}" for server in servers]
        jobs = [{"job_name": "slackir", "static_configs": [{"targets": targets}]}]
        settings = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["alerts.yml"],
            "scrape_configs": jobs,
        }
        # JSON is YAML.
        (folder / "prometheus.yml").write_text(json.dumps(settings))
        with socket.create_server((HOST, 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://{HOST}:{port}"
        self.log = open(folder / "prometheus.log", "wb")
        self.process = subprocess.Popen(
            [
                shutil.which("prometheus") or "prometheus",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address={HOST}:{port}",
            ],
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        # Until then it answers 503, with a text.
        eventually(lambda: "is Ready" in (get(f"{self.url}/-/ready") or ""), "Prometheus is ready")
        eventually(lambda: self.scraped() >= len(servers), "Prometheus has asked every server")

    def scraped(self):
        query = urllib.parse.urlencode({"query": 'count(up{job="slackir"} == 1)'})
        found = json.loads(get(f"{self.url}/api/v1/query?{query}"))["data"]["result"]
        return int(found[0]["value"][1]) if found else 0

    def fires(self, instance):
        """The names of the alerts that fire for a server."""
        alerts = json.loads(get(f"{self.url}/api/v1/alerts"))["data"]["alerts"]
        return {
            alert["labels"]["alertname"]
            for alert in alerts
            if alert["state"] == "firing" and alert["labels"]["instance"] == instance
        }

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()
