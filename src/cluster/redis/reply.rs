//! Asks the server, and reads what it replies.

use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use bytes::Bytes;

use crate::cluster::bus::{Answer, Position, ProcessId};
use crate::log::{Epoch, MessageId, Seq};

/// Sends one command and waits for its reply.
pub(super) async fn ask(
    connection: &MultiplexedConnection,
    command: Cmd,
) -> Result<Value, RedisError> {
    let mut connection = connection.clone();
    connection
        .send_packed_command(&command)
        .await?
        .extract_error()
}

/// Waits for `reply` at most `limit`.
pub(super) async fn within<T>(
    limit: Duration,
    reply: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, RedisError> {
    match tokio::time::timeout(limit, reply).await {
        Ok(result) => result,
        Err(_) => Err(RedisError::from((
            ErrorKind::Io,
            "the server did not answer in time",
        ))),
    }
}

/// Whether the server does not know the script.
pub(super) fn is_no_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Whether the server has no memory left.
pub(super) fn is_out_of_memory(error: &RedisError) -> bool {
    error.code() == Some("OOM")
}

/// Whether only a new connection can help: this one is broken, or its server has become a replica, loads
/// its data or has changed the rights of the user.
pub(super) fn is_fatal(error: &RedisError) -> bool {
    const CODES: [&str; 6] = [
        "READONLY",
        "LOADING",
        "MASTERDOWN",
        "NOAUTH",
        "NOPERM",
        "NOREPLICAS",
    ];
    match error.code() {
        Some(code) => CODES.contains(&code),
        None => true,
    }
}

/// The text of a string.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.clone()),
        Value::Okay => Some("OK".to_owned()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The bytes of a string.
pub(super) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

/// Whether a `SET .. NX` took effect, or a script returned 1.
pub(super) fn is_done(value: &Value) -> bool {
    matches!(value, Value::Okay | Value::Int(1))
}

/// The answer in the reply of `publish` or `take`. `None`: the reply is none of theirs.
pub(super) fn answer(reply: &Value) -> Option<Answer> {
    let Value::Array(parts) = reply else {
        return None;
    };
    let parts: Vec<String> = parts.iter().map_while(text).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["norun"] => Some(Answer::NoRun),
        ["full"] => Some(Answer::Full),
        ["first", epoch, seq] => message_id(epoch, seq).map(Answer::First),
        [epoch, seq] => message_id(epoch, seq).map(Answer::Taken),
        _ => None,
    }
}

/// The position in the reply of `read`; `Some(None)` without a run. `None`: the reply is none of its.
pub(super) fn position(reply: Value, process: &ProcessId) -> Option<Option<Position>> {
    let Value::Array(parts) = reply else {
        return None;
    };
    if parts.is_empty() {
        return Some(None);
    }
    let [epoch, head, journal] = <[Value; 3]>::try_from(parts).ok()?;
    let MessageId { epoch, seq } = message_id(&text(&epoch)?, &text(&head)?)?;
    Some(Some(Position {
        epoch,
        head: seq,
        process: process.clone(),
        journal: rows(journal)?,
    }))
}

/// The seqs of a list, ascending. `None`: the reply is no list.
pub(super) fn seqs(reply: &Value) -> Option<Vec<Seq>> {
    let Value::Array(fields) = reply else {
        return None;
    };
    // A field that is no seq is a stranger's.
    let seqs = fields.iter().filter_map(|field| number(&text(field)?));
    let mut seqs: Vec<_> = seqs.collect();
    seqs.sort_unstable();
    Some(seqs)
}

/// The rows of a journal in ascending order.
fn rows(journal: Value) -> Option<Vec<(Seq, Bytes)>> {
    let pairs: Vec<(Value, Value)> = match journal {
        Value::Map(pairs) => pairs,
        // Scripts get the replies of RESP2.
        Value::Array(values) => {
            let mut values = values.into_iter();
            std::iter::from_fn(|| Some((values.next()?, values.next()?))).collect()
        }
        _ => return None,
    };
    let row = |(seq, message)| Some((number(&text(&seq)?)?, Bytes::from(bytes(message)?)));
    // A field that is no seq is a stranger's.
    let mut rows: Vec<_> = pairs.into_iter().filter_map(row).collect();
    rows.sort_unstable_by_key(|(seq, _)| *seq);
    Some(rows)
}

/// The id that consists of an epoch in hex and a seq.
fn message_id(epoch: &str, seq: &str) -> Option<MessageId> {
    let epoch = i64::from_str_radix(epoch, 16)
        .ok()
        .filter(|epoch| *epoch >= 0)?;
    Some(MessageId::new(Epoch::new(epoch), number(seq)?))
}

/// The seq that `digits` is.
fn number(digits: &str) -> Option<Seq> {
    let number: i64 = digits.parse().ok()?;
    (number >= 0).then(|| Seq::new(number))
}
