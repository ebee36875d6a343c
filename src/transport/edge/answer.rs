//! Writes the head and the body of an HTTP/1.1 response as fast as the client reads, and gives up on a
//! client that is too slow.

use std::fmt::Write as _;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Instant, SystemTime};

use actix_http::body::{BodySize, MessageBody};
use actix_http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, TRANSFER_ENCODING, UPGRADE};
use actix_http::{Response, ResponseHead, StatusCode};
use bytes::{BufMut, Bytes, BytesMut};
use httpdate::HttpDate;
use tokio::time::timeout;

use super::pace::Pace;
use crate::transport::stream::Stream;

/// Bytes of a body to collect before writing them.
const WRITE_SIZE: usize = 32 * 1024;

/// The form of the answer that the request calls for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// HTTP/1.0: no chunks, and keep-alive must be announced.
    pub(super) is_old: bool,
    /// HEAD: no body.
    pub(super) head_only: bool,
    /// Whether the connection stays open after the answer.
    pub(super) keep_alive: bool,
}

/// How the client finds the end of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// There is no body.
    Bodyless,
    Length(u64),
    Chunks,
    /// The body ends with the connection.
    Connection,
}

/// Sends a whole answer. Returns whether the connection can serve another request.
///
/// # Errors
/// If the client is gone or too slow, or if the body fails.
pub(super) async fn send<B: MessageBody>(
    stream: &Stream,
    response: Response<B>,
    form: Form,
    pace: Pace,
) -> io::Result<bool> {
    let (response, body) = response.into_parts();
    let head = response.head();
    let ending = ending(head, body.size(), form);
    let keep_alive = form.keep_alive && ending != Ending::Connection && !closes(head);
    let mut out = Out {
        stream,
        pace,
        bytes: BytesMut::with_capacity(512),
    };
    write_head(&mut out.bytes, head, ending, Form { keep_alive, ..form });
    if ending != Ending::Bodyless && !form.head_only {
        out.send_body(body, ending).await?;
    }
    out.flush().await?;
    Ok(keep_alive)
}

/// Whether the handler asked to close the connection.
fn closes(head: &ResponseHead) -> bool {
    head.connection_type() == actix_http::ConnectionType::Close
}

fn ending(head: &ResponseHead, size: BodySize, form: Form) -> Ending {
    let status = head.status;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Ending::Connection;
    }
    if status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    {
        return Ending::Bodyless;
    }
    match size {
        BodySize::None => Ending::Length(0),
        BodySize::Sized(len) => Ending::Length(len),
        BodySize::Stream => match declared_length(head) {
            Some(len) => Ending::Length(len),
            None if form.is_old || !head.chunked() => Ending::Connection,
            None => Ending::Chunks,
        },
    }
}

/// The `Content-Length` that a handler set for a body that it streams.
fn declared_length(head: &ResponseHead) -> Option<u64> {
    if head.chunked() {
        return None;
    }
    let length = head.headers().get(CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

fn write_head(out: &mut BytesMut, head: &ResponseHead, ending: Ending, form: Form) {
    let status = head.status;
    // Writing to a `BytesMut` cannot fail.
    let _ = write!(out, "HTTP/1.1 {} {}\r\n", status.as_u16(), head.reason());
    match ending {
        Ending::Length(len) => {
            let _ = write!(out, "content-length: {len}\r\n");
        }
        Ending::Chunks => out.put_slice(b"transfer-encoding: chunked\r\n"),
        Ending::Bodyless | Ending::Connection => {}
    }
    let headers = head.headers();
    match (form.keep_alive, headers.contains_key(UPGRADE)) {
        _ if status == StatusCode::SWITCHING_PROTOCOLS => {
            out.put_slice(b"connection: upgrade\r\n");
        }
        (false, true) => out.put_slice(b"connection: close, upgrade\r\n"),
        (true, true) => out.put_slice(b"connection: upgrade\r\n"),
        (false, false) => out.put_slice(b"connection: close\r\n"),
        (true, false) if form.is_old => out.put_slice(b"connection: keep-alive\r\n"),
        (true, false) => {}
    }
    // A 304 gives the length of the body that it does not send.
    let keeps_length = status == StatusCode::NOT_MODIFIED;
    for (name, value) in headers {
        if name == CONNECTION
            || name == TRANSFER_ENCODING
            || name == CONTENT_LENGTH && !keeps_length
        {
            continue;
        }
        out.put_slice(name.as_str().as_bytes());
        out.put_slice(b": ");
        out.put_slice(value.as_bytes());
        out.put_slice(b"\r\n");
    }
    write_date(out, headers);
    out.put_slice(b"\r\n");
}

fn write_date(out: &mut BytesMut, headers: &HeaderMap) {
    if !headers.contains_key(DATE) {
        let _ = write!(out, "date: {}\r\n", HttpDate::from(SystemTime::now()));
    }
}

/// An answer that is being written.
struct Out<'a> {
    stream: &'a Stream,
    pace: Pace,
    bytes: BytesMut,
}

impl Out<'_> {
    async fn send_body(&mut self, body: impl MessageBody, ending: Ending) -> io::Result<()> {
        let mut body = pin!(body);
        let mut left = match ending {
            Ending::Length(len) => Some(len),
            _ => None,
        };
        while left != Some(0) {
            let Some(chunk) = self.next_chunk(body.as_mut()).await? else {
                break;
            };
            if let Some(left) = &mut left {
                // The client would read a longer body as the next answer.
                let len = chunk.len() as u64;
                *left = left.checked_sub(len).ok_or(io::ErrorKind::InvalidData)?;
            }
            self.push(chunk, ending == Ending::Chunks).await?;
        }
        match left {
            Some(1..) => Err(io::ErrorKind::UnexpectedEof.into()),
            _ if ending == Ending::Chunks => {
                self.bytes.put_slice(b"0\r\n\r\n");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Waits for the next chunk of a body. Sends the collected bytes first if it is not ready.
    async fn next_chunk<B: MessageBody>(
        &mut self,
        mut body: Pin<&mut B>,
    ) -> io::Result<Option<Bytes>> {
        let ready = poll_fn(|cx| Poll::Ready(body.as_mut().poll_next(cx))).await;
        let chunk = match ready {
            Poll::Ready(chunk) => chunk,
            Poll::Pending => {
                self.flush().await?;
                poll_fn(|cx| body.as_mut().poll_next(cx)).await
            }
        };
        chunk
            .transpose()
            .map_err(|error| io::Error::other(error.into().to_string()))
    }

    async fn push(&mut self, chunk: Bytes, is_chunked: bool) -> io::Result<()> {
        if chunk.is_empty() {
            return Ok(());
        }
        if is_chunked {
            let _ = write!(self.bytes, "{:X}\r\n", chunk.len());
        }
        if self.bytes.len() + chunk.len() < WRITE_SIZE {
            self.bytes.put_slice(&chunk);
        } else {
            self.flush().await?;
            self.write(&chunk).await?;
        }
        if is_chunked {
            self.bytes.put_slice(b"\r\n");
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        let bytes = self.bytes.split();
        self.write(&bytes).await
    }

    async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.stream.try_write(bytes) {
                Ok(len) => {
                    self.pace.note(std::time::Duration::ZERO, len);
                    bytes = &bytes[len..];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let since = Instant::now();
                    timeout(self.pace.next_wait(), self.stream.writable()).await??;
                    self.pace.note(since.elapsed(), 0);
                }
                Err(error) => return Err(error),
            }
        }
        if self.stream.keeps_bytes() {
            let since = Instant::now();
            timeout(self.pace.next_wait(), self.stream.flush()).await??;
            self.pace.note(since.elapsed(), 0);
        }
        Ok(())
    }
}
