"""phxsocket, which speaks vsn 1.0.0 and has a callback for everything."""

import queue
import threading
import unittest

import phxsocket
from phxsocket.channel import ChannelConnectError

from conformance import Conformance

DEADLINE_S = 10

INTRICATE = {"unicode": "Grüße 你好 🦀 \u0000", "nested": [1, [2, {"deep": None}]], "ratio": 0.5}


def setUpModule():
    global server
    server = unittest.enterModuleContext(Conformance())


class Phxsocket(unittest.TestCase):
    def setUp(self):
        self.topic = f"conf:{self.id()}"

    def test_joins_and_is_refused(self):
        client = self.connect()

        self.assertEqual(client.channel(self.topic).join(), {})
        with self.assertRaises(ChannelConnectError) as refused:
            client.channel("conf:deny").join()
        self.assertEqual(refused.exception.args, ({"reason": "unauthorized"},))

    def test_gets_ok_and_error_replies(self):
        channel = self.enter()

        self.assertEqual(self.ask(channel, "echo", INTRICATE), {"status": "ok", "response": INTRICATE})
        self.assertEqual(
            self.ask(channel, "reply_error", INTRICATE), {"status": "error", "response": INTRICATE}
        )

    def test_hears_another_client_until_it_leaves(self):
        ann, bob = self.enter(), self.enter()
        heard_by_ann, heard_by_bob = queue.Queue(), queue.Queue()
        ann.on("bcast", heard_by_ann.put)
        bob.on("bcast", heard_by_bob.put)

        bob.push("broadcast", {"number": 1})
        self.assertEqual(heard_by_ann.get(timeout=DEADLINE_S), {"number": 1})
        self.assertEqual(heard_by_bob.get(timeout=DEADLINE_S), {"number": 1})

        # The package asks for the reply to its leave by a name that it does not have, and so never sees it.
        closed = threading.Event()
        ann.on_close = closed.set
        ann.leave()
        self.assertTrue(closed.wait(DEADLINE_S), "no phx_close")
        unmatched = {"status": "error", "response": {"reason": "unmatched topic"}}
        self.assertEqual(self.ask(ann, "echo", {}), unmatched)
        bob.push("broadcast", {"number": 2})
        self.assertEqual(heard_by_bob.get(timeout=DEADLINE_S), {"number": 2})

        ann.join()
        bob.push("broadcast", {"number": 3})
        self.assertEqual(heard_by_ann.get(timeout=DEADLINE_S), {"number": 3})
        self.ask(ann, "echo", {})
        self.assertTrue(heard_by_ann.empty())

    def connect(self):
        client = phxsocket.Client(server.socket_url)
        client.connect()
        self.addCleanup(client.close)
        return client

    def enter(self):
        channel = self.connect().channel(self.topic)
        channel.join()
        return channel

    def ask(self, channel, event, payload):
        sent = channel.push(event, payload, reply=True)
        self.assertTrue(sent.event.wait(DEADLINE_S), f"no reply to {event}")
        return sent.message


if __name__ == "__main__":
    unittest.main()
