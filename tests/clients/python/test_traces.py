"""rotel, an OpenTelemetry collector, gets the spans of a conversation from slackir (feature `otel`)."""

import importlib.util
import json
import os
import re
import socket
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from websockets.sync.client import connect

from conformance import ROOT

BINARY = os.environ.get("SLACKIR_BIN", ROOT / "target/debug/slackir")
DEADLINE_S = 10
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
# Each is below the one before it, the first below the client's.
SPANS = ["connect", "join", "handle_in", "broadcast", "persist"]
# As rotel prints a span.
PRINTED = re.compile(r"Trace ID +: (\w*)\s+Parent ID +: (\w*)\s+ID +: (\w*)\s+Name +: (\w*)")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def wait_for(condition, what):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} within {DEADLINE_S} s")
        time.sleep(0.05)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@unittest.skipUnless(importlib.util.find_spec("rotel"), "rotel has no package for this system")
class Traces(unittest.TestCase):
    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory())
        self.collector_log = Path(self.folder) / "collector.log"
        port = self.start_collector()
        self.url = self.start_server(port)

    def start_collector(self):
        package = Path(importlib.util.find_spec("rotel").origin).parent
        http, grpc = free_port(), free_port()
        command = [
            package / "rotel-agent", "start", "--exporter", "blackhole",
            "--debug-log", "traces", "--debug-log-verbosity", "detailed",
            "--otlp-http-endpoint", f"127.0.0.1:{http}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}",
            "--pid-file", Path(self.folder) / "collector.pid",
        ]  # fmt: skip
        log = self.enterContext(self.collector_log.open("w"))
        self.end_with_test(subprocess.Popen(command, stdout=log, stderr=log))
        wait_for(lambda: listens(http), "the collector listens")
        return http

    def start_server(self, collector):
        port = free_port()
        command = [
            BINARY, "serve", "--port", str(port), "--database-url", f"sqlite://{self.folder}/chat.db",
            "--otel-endpoint", f"http://127.0.0.1:{collector}",
        ]  # fmt: skip
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.addCleanup(server.stdout.close)
        self.end_with_test(server)
        # One line, once it listens.
        self.assertIn(f":{port}", server.stdout.readline())
        return f"ws://127.0.0.1:{port}/socket/websocket?vsn=2.0.0"

    def end_with_test(self, process):
        self.addCleanup(process.wait, DEADLINE_S)
        self.addCleanup(process.terminate)

    def test_a_collector_gets_each_span_below_its_parent(self):
        parent = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        with connect(self.url, additional_headers=parent) as client:
            for event, answer in (("phx_join", "phx_reply"), ("shout", "shout")):
                client.send(json.dumps(["1", "1", "random:python", event, {"body": "traced"}]))
                while json.loads(client.recv(DEADLINE_S))[3] != answer:
                    pass
        wait_for(lambda: len(self.spans()) == len(SPANS), f"the collector gets {SPANS}")
        above = PARENT
        for name in SPANS:
            trace, parent, span = self.spans()[name]
            self.assertEqual((trace, parent), (TRACE, above), name)
            above = span

    def spans(self):
        """Trace, parent and id of each span that the collector has printed."""
        printed = PRINTED.findall(self.collector_log.read_text())
        return {name: (trace, parent, span) for trace, parent, span, name in printed}


if __name__ == "__main__":
    unittest.main()
