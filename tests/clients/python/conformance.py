"""The conformance example on a port of its own."""

import os
import socket
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BINARY = os.environ.get("CONFORMANCE_BIN", ROOT / "target/debug/examples/conformance")

STOP_DEADLINE_S = 5


class Conformance:
    def __enter__(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        command = [BINARY, "--port", str(port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        # One line, once it listens.
        if f":{port}" not in self._process.stdout.readline():
            self._end()
            raise RuntimeError(f"{BINARY} did not start")
        self.socket_url = f"ws://127.0.0.1:{port}/socket/websocket"
        return self

    def __exit__(self, *_):
        self._end()

    def _end(self):
        self._process.terminate()
        try:
            self._process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
