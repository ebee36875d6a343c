"""A backend for Slackir's hook, with Flask: members of a room chat, and the messages are this program's own.

    SLACKIR_HOOK_SECRET=.. PORT=5000 python examples/hooks/backend.py
"""

import hashlib
import hmac
import os
import time

from flask import Flask, jsonify, request

SECRET = os.environ["SLACKIR_HOOK_SECRET"].encode()
MAX_AGE_S = 300

app = Flask(__name__)

# A real application has these in its database.
members = {"12": {7: "Ada", 8: "Bob"}}
messages = {"12": []}


def is_signed(body):
    """Whether the call comes from the server, and is not older than five minutes."""
    header = request.headers.get("Slackir-Signature", "")
    parts = dict(part.split("=", 1) for part in header.split(",") if "=" in part)
    seconds, signature = parts.get("t", ""), parts.get("v1", "")
    if not seconds.isdigit() or abs(time.time() - int(seconds)) > MAX_AGE_S:
        return False
    expected = hmac.new(SECRET, seconds.encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), signature.encode())


@app.post("/slackir")
def hook():
    if not is_signed(request.get_data()):
        return "wrong signature", 401
    call = request.get_json()
    answers = {"join": join, "event": event}
    answer = answers.get(call["type"], lambda call: {"ok": True})
    return jsonify(answer(call))


def join(call):
    room = call["segments"][0]
    name = members.get(room, {}).get(call["user"]["id"])
    if name is None:
        return {"ok": False, "error": {"reason": "not a member"}}
    return {"ok": True, "reply": {"messages": messages[room]}, "user": {"name": name}}


def event(call):
    if call["event"] != "new_message":
        return {"ok": False, "error": {"reason": "unknown event"}}
    body = call["payload"].get("body")
    if not isinstance(body, str) or not body:
        return {"ok": False, "error": {"reason": "body is missing"}}
    stored = messages[call["segments"][0]]
    message = {"id": len(stored) + 1, "name": call["user"]["name"], "body": body}
    stored.append(message)
    return {"ok": True, "reply": message, "do": [{"broadcast": "new_message", "payload": message}]}


if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "5000")))
