"""The client of docs/CLIENTS.md, against slackir."""

import os
import re
import socket
import subprocess
import sys
import unittest

from conformance import ROOT

BINARY = os.environ.get("SLACKIR_BIN", ROOT / "target/debug/slackir")
DEADLINE_S = 10


class ClientsPage(unittest.TestCase):
    def test_says_something_and_hears_it(self):
        page = (ROOT / "docs/CLIENTS.md").read_text()
        [client] = re.findall(r"```python\n(.*?)```", page, re.S)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        command = [BINARY, "serve", "--port", str(port), "--persist", "off"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.addCleanup(server.stdout.close)
        self.addCleanup(server.wait, DEADLINE_S)
        self.addCleanup(server.terminate)
        # One line, once it listens.
        self.assertIn(f":{port}", server.stdout.readline())
        self.assertIn("127.0.0.1:4000", client)
        client = client.replace("127.0.0.1:4000", f"127.0.0.1:{port}")
        run = subprocess.run([sys.executable, "-c", client], capture_output=True, text=True, timeout=DEADLINE_S)
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        heard = run.stdout.splitlines()
        self.assertIn("phx_reply {'status': 'ok', 'response': {}}", heard)
        self.assertEqual(heard[-1], "shout {'name': 'ada', 'message': 'hi'}")
