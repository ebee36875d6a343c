<?php
// A backend for Slackir's hook, with nothing but PHP: members of a room chat, and the messages are this program's own.
//
//   SLACKIR_HOOK_SECRET=.. php -S 127.0.0.1:5000 examples/hooks/backend.php

const MAX_AGE_S = 300;

// A real application has these in its database. PHP forgets variables between requests, so this one has a file.
const MEMBERS = ['12' => [7 => 'Ada', 8 => 'Bob']];

/** Whether the call comes from the server, and is not older than five minutes. */
function is_signed(string $header, string $body): bool
{
    if (!preg_match('/^t=(\d+),v1=([0-9a-f]{64})$/', $header, $parts)) {
        return false;
    }
    [, $seconds, $signature] = $parts;
    $expected = hash_hmac('sha256', "$seconds.$body", getenv('SLACKIR_HOOK_SECRET'));
    return abs(time() - (int) $seconds) <= MAX_AGE_S && hash_equals($expected, $signature);
}

/** Calls `change` with the messages of a room, and keeps what it leaves. */
function with_messages(string $room, callable $change): mixed
{
    $file = fopen((getenv('MESSAGES_DIR') ?: sys_get_temp_dir()) . "/messages-$room.json", 'c+');
    flock($file, LOCK_EX);
    $messages = json_decode(stream_get_contents($file) ?: '[]', true);
    $result = $change($messages);
    ftruncate($file, 0);
    rewind($file);
    fwrite($file, json_encode($messages));
    fclose($file);
    return $result;
}

function join_room(array $call): array
{
    $room = $call['segments'][0];
    $name = MEMBERS[$room][$call['user']['id']] ?? null;
    if ($name === null) {
        return ['ok' => false, 'error' => ['reason' => 'not a member']];
    }
    $messages = with_messages($room, fn (array $messages) => $messages);
    return ['ok' => true, 'reply' => ['messages' => $messages], 'user' => ['name' => $name]];
}

function event(array $call): array
{
    if ($call['event'] !== 'new_message') {
        return ['ok' => false, 'error' => ['reason' => 'unknown event']];
    }
    $body = $call['payload']['body'] ?? null;
    if (!is_string($body) || $body === '') {
        return ['ok' => false, 'error' => ['reason' => 'body is missing']];
    }
    $message = with_messages($call['segments'][0], function (array &$messages) use ($call, $body) {
        $message = ['id' => count($messages) + 1, 'name' => $call['user']['name'], 'body' => $body];
        $messages[] = $message;
        return $message;
    });
    return ['ok' => true, 'reply' => $message, 'do' => [['broadcast' => 'new_message', 'payload' => $message]]];
}

$body = file_get_contents('php://input');
if (!is_signed($_SERVER['HTTP_SLACKIR_SIGNATURE'] ?? '', $body)) {
    http_response_code(401);
    exit('wrong signature');
}
$call = json_decode($body, true);
$answer = json_encode(match ($call['type']) {
    'join' => join_room($call),
    'event' => event($call),
    default => ['ok' => true],
});
header('content-type: application/json');
// PHP's own server sends none, and the end of the connection does not end an answer.
header('content-length: ' . strlen($answer));
echo $answer;
