"""phoenix-channels-python-client, which speaks both versions and listens more than it speaks."""

import asyncio
import unittest

from phoenix_channels_python_client import PhoenixChannelsProtocolVersion, PHXChannelsClient
from phoenix_channels_python_client.exceptions import PHXTopicError
from phoenix_channels_python_client.phx_messages import PHXEvent
from phoenix_channels_python_client.utils import make_message

from conformance import Conformance

DEADLINE_S = 10

INTRICATE = {"unicode": "Grüße 你好 🦀 \u0000", "nested": [1, [2, {"deep": None}]], "ratio": 0.5}


def setUpModule():
    global server
    server = unittest.enterModuleContext(Conformance())


class Member:
    """One client in one topic, and what it heard."""

    def __init__(self, client, topic):
        self._client = client
        self._topic = topic
        self._heard = asyncio.Queue()
        self._refs = 0

    async def join(self):
        await self._client.subscribe_to_topic(self._topic, self._heard.put)

    async def leave(self):
        await self._client.unsubscribe_from_topic(self._topic)

    async def push(self, event, payload):
        """The package has no push; what it joins and leaves with can send anything."""
        subscription = self._client.get_current_subscriptions()[self._topic]
        self._refs += 1
        ref = f"push-{self._refs}"
        message = make_message(event, self._topic, ref, payload, subscription.join_ref)
        await self._client.get_protocol_handler().send_message(self._client.connection, message)
        return ref

    async def hears(self):
        message = await asyncio.wait_for(self._heard.get(), DEADLINE_S)
        return message.event, message.ref, message.payload


class Scenarios:
    async def asyncSetUp(self):
        self.topic = f"conf:{self.id()}"

    async def test_joins_and_is_refused(self):
        client = await self.connect()

        await client.subscribe_to_topic(self.topic)
        self.assertTrue(client.is_topic_joined(self.topic))
        with self.assertRaisesRegex(PHXTopicError, "unauthorized"):
            await client.subscribe_to_topic("conf:deny")

    async def test_gets_ok_and_error_replies(self):
        ann = await self.enter()

        ref = await ann.push("echo", INTRICATE)
        reply = {"status": "ok", "response": INTRICATE}
        self.assertEqual(await ann.hears(), (PHXEvent.reply, ref, reply))
        ref = await ann.push("reply_error", INTRICATE)
        reply = {"status": "error", "response": INTRICATE}
        self.assertEqual(await ann.hears(), (PHXEvent.reply, ref, reply))

    async def test_hears_another_client_until_it_leaves(self):
        ann, bob = await self.enter(), await self.enter()

        await bob.push(self.broadcast, {"number": 1})
        self.assertEqual(await ann.hears(), self.heard(1))
        self.assertEqual(await bob.hears(), self.heard(1))

        await ann.leave()
        await bob.push(self.broadcast, {"number": 2})
        self.assertEqual(await bob.hears(), self.heard(2))

        await ann.join()
        await bob.push(self.broadcast, {"number": 3})
        self.assertEqual(await ann.hears(), self.heard(3))
        ref = await ann.push("echo", {})
        self.assertEqual(await ann.hears(), (PHXEvent.reply, ref, {"status": "ok", "response": {}}))

    async def connect(self):
        client = PHXChannelsClient(server.socket_url, "none", protocol_version=self.version)
        return await self.enterAsyncContext(client)

    async def enter(self):
        member = Member(await self.connect(), self.topic)
        await member.join()
        return member


class V1(Scenarios, unittest.IsolatedAsyncioTestCase):
    version = PhoenixChannelsProtocolVersion.V1
    broadcast = "broadcast"

    def heard(self, number):
        return "bcast", None, {"number": number}


class V2(Scenarios, unittest.IsolatedAsyncioTestCase):
    """
    In this version the package takes a message without a join_ref for one of an earlier join, and drops it:
    from Phoenix too it hears of broadcasts only what a channel intercepts and pushes.
    """

    version = PhoenixChannelsProtocolVersion.V2
    broadcast = "broadcast_intercepted"

    def heard(self, number):
        return "intercepted", None, {"number": number, "for": None}


if __name__ == "__main__":
    unittest.main()
