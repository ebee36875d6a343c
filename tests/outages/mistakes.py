"""Wrong configurations with which a server starts. Each shows as an outage does; one with which no server starts has its
line and its exit code in tests/integration/configuration.rs."""

import base64
import hashlib
import hmac
import json
import time

from outages import LOBBY, DescriptorsShort, KeysGone, Outage
from parts import Backend, Client, Gate, Server

ROOM = '\n[[rooms]]\ntopics = "random:*"\n'


class Mistake(Outage):
    # What the line of the log must name.
    names = ""

    def advice(self):
        lines = self.server.events()
        return next((advice for event, advice in lines if event == self.event and self.names in advice), None)


class WrongHost(Mistake):
    """Clients come from the page of another name than public_host."""

    alert, event, names = "SlackirOriginsRefused", "transport.origin.refused", "public_host"

    def start(self):
        return Server(self.folder, "--public-host", "chat.example.com")

    def go_on(self):
        Client(self.server.port, Origin="https://www.example.com").close()

    def is_shown(self):
        return self.server.ask_dashboard("trouble")["refused"].get("origin", 0) > 0


class WrongTokens(Mistake):
    """Its lines are at info, as all about clients; the dashboard counts what was refused."""

    alert, event = "SlackirTokensRefused", "tokens.invalid"

    def token(self):
        raise NotImplementedError

    def go_on(self):
        Client(self.server.port, f"/socket/websocket?vsn=2.0.0&token={self.token()}").close()

    def is_shown(self):
        return self.server.ask_dashboard("trouble")["refused"].get("token", 0) > 0


class OtherSecretKeyBase(WrongTokens):
    """The application has another SECRET_KEY_BASE than the server."""

    names = "SECRET_KEY_BASE"
    config = f"[identity]\nphoenix_token = {{}}\n{ROOM}"
    # A Phoenix.Token that another secret has signed.
    TOKEN = "SFMyNTY.g2gDYQFuBgAAAAAAAAFiAAFRgA.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

    def start(self):
        return Server(self.folder, config=self.config, env={"SECRET_KEY_BASE": "s" * 64})

    def token(self):
        return self.TOKEN


class OtherJwtSecret(WrongTokens):
    """The backend signs its tokens with another secret than CHAT_SECRET."""

    names = "keys of jwt"
    config = f'[identity]\njwt = {{ algorithms = ["HS256"], secret_env = "CHAT_SECRET" }}\n{ROOM}'

    def start(self):
        return Server(self.folder, config=self.config, env={"CHAT_SECRET": "s" * 64})

    def token(self):
        part = lambda data: base64.urlsafe_b64encode(data).decode().rstrip("=")
        claims = {"sub": "7", "exp": int(time.time()) + 600}
        signed = ".".join(part(json.dumps(it).encode()) for it in ({"alg": "HS256"}, claims))
        return f"{signed}.{part(hmac.digest(b'o' * 64, signed.encode(), hashlib.sha256))}"


class WrongKeysUrl(KeysGone, Mistake):
    """Something else answers at jwks_url."""

    names = "URL"

    def start(self):
        self.backend = Backend(404)
        return Server(self.folder, config=self.config.replace("http://127.0.0.1:9", self.backend.url))

    def end(self):
        super().end()
        self.backend.end()


class ProxyNotTrusted(Mistake):
    """A proxy connects for all clients, and trusted_proxies does not name it."""

    alert, event, names = "SlackirProxyNotTrusted", "admission.proxy.untrusted", "trusted_proxies"

    def start(self):
        return Server(self.folder, "--trusted-proxies", "none")

    def go_on(self):
        for client in range(10):
            Client(self.server.port, **{"X-Forwarded-For": f"203.0.113.{client}"}).close()


class WrongHook(Mistake):
    alert, event = "SlackirBackendFails", "hook.failing"
    status = 0

    def start(self):
        self.backend = Backend(self.status)
        config = f'[hook]\nurl = "{self.backend.url}/slackir"\nsecret_env = "HOOK_SECRET"\n{ROOM}join.hook = true\n'
        return Server(self.folder, config=config, env={"HOOK_SECRET": "s" * 64})

    def begin(self):
        self.guest = self.member()

    def go_on(self):
        self.guest.join(LOBBY)

    def end(self):
        super().end()
        self.backend.end()


class WrongHookSecret(WrongHook):
    """The backend knows another secret, and does not accept the signature."""

    names, status = "secret", 401


class WrongHookUrl(WrongHook):
    """The backend has nothing at the path."""

    names, status = "url", 404


class MoreConnectionsThanFiles(Mistake):
    """max_connections is above the limit of open files."""

    alert, event, names = "SlackirFilesFew", "serve.files.few", "max_connections"
    start = DescriptorsShort.start


class TopicWithoutRoom(Mistake):
    """Clients join a topic that no room has. The line is at info, as all about clients; the dashboard counts replies."""

    alert, event, names = "SlackirErrorReplies", "socket.topic.unmatched", "room"

    def start(self):
        return Server(self.folder, config=ROOM)

    def begin(self):
        self.guest = self.member()

    def go_on(self):
        for _ in range(10):
            self.guest.join("room:lobby")

    def is_shown(self):
        return self.server.ask_dashboard("trouble")["error_replies"].get("unmatched topic", 0) > 0


class TwoServers(Mistake):
    """Two servers have one database, and no Redis or NATS between them."""

    alert, event, names = "SlackirOtherServer", "store.servers.shared", "redis_url"

    def start(self):
        gate = Gate("mistake_two_servers")
        (self.folder / "other").mkdir()
        self.other = Server(self.folder / "other", "--database-url", gate.url)
        return Server(self.folder, "--database-url", gate.url)

    def end(self):
        super().end()
        self.other.end()


MISTAKES = {
    "wrong_host": WrongHost,
    "other_secret_key_base": OtherSecretKeyBase,
    "other_jwt_secret": OtherJwtSecret,
    "wrong_keys_url": WrongKeysUrl,
    "proxy_not_trusted": ProxyNotTrusted,
    "wrong_hook_secret": WrongHookSecret,
    "wrong_hook_url": WrongHookUrl,
    "more_connections_than_files": MoreConnectionsThanFiles,
    "topic_without_room": TopicWithoutRoom,
    "two_servers": TwoServers,
}
