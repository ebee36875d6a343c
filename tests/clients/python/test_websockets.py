"""websockets, which speaks permessage-deflate with windows of its own, against slackir with `--compress on`."""

import json
import os
import socket
import subprocess
import unittest

from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import connect

from conformance import ROOT

BINARY = os.environ.get("SLACKIR_BIN", ROOT / "target/debug/slackir")
DEADLINE_S = 10


def setUpModule():
    global url
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [BINARY, "serve", "--port", str(port), "--persist", "off", "--compress", "on"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    unittest.addModuleCleanup(server.stdout.close)
    unittest.addModuleCleanup(server.wait, DEADLINE_S)
    unittest.addModuleCleanup(server.terminate)
    # One line, once it listens.
    assert f":{port}" in server.stdout.readline()
    url = f"ws://127.0.0.1:{port}/socket/websocket?vsn=2.0.0"


class Websockets(unittest.TestCase):
    def test_echoes_with_each_window(self):
        for factory in (
            None,
            ClientPerMessageDeflateFactory(),
            ClientPerMessageDeflateFactory(server_max_window_bits=9, client_max_window_bits=9),
            ClientPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True),
            ClientPerMessageDeflateFactory(server_max_window_bits=15, client_max_window_bits=15),
        ):
            options = {} if factory is None else {"compression": None, "extensions": [factory]}
            with self.subTest(factory and factory.get_request_params()), connect(url, max_size=None, **options) as client:
                [deflate] = client.protocol.extensions
                self.assertTrue(deflate.remote_no_context_takeover and deflate.local_no_context_takeover)
                self.ask(client, "phx_join", {})
                for size in (0, 16, 511, 600, 4_096, 65_536, 300_000):
                    text = "".join("room é €🦀 says it\n"[n * n % 17] for n in range(size))
                    self.assertEqual(self.ask(client, "ping", {"text": text}), {"text": text})
                    # In fragments: websockets compresses each by itself.
                    message = json.dumps(["1", "9", "random:python", "ping", {"text": text}])
                    client.send(message[at : at + 1_000] for at in range(0, len(message), 1_000))
                    self.assertEqual(self.reply(client), {"text": text})

    def ask(self, client, event, payload):
        client.send(json.dumps(["1", "1", "random:python", event, payload]))
        return self.reply(client)

    def reply(self, client):
        while True:
            _, _, _, event, payload = json.loads(client.recv(DEADLINE_S))
            if event == "phx_reply":
                self.assertEqual(payload["status"], "ok")
                return payload["response"]
