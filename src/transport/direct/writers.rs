//! One task for each worker thread runs the [`TcpWriter`]s of all its connections.
//!
//! A frame that enters an outbox marks its writer; the task runs behind everything that was ready
//! before it, so the frames of a turn leave an outbox with one `writev`. Mostly that is one
//! frame each for many connections. Then the task takes all frames out, sends all, and drops all: a system call
//! evicts much of the core's caches, so that little other code should run between two.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use super::writer::TcpWriter;
use crate::actor::Marks;
use crate::frame::Frame;
use crate::metrics::{Hot, count as count_sent, written};
use crate::outbox::Outbox;
use crate::socket::OpenStream;
use crate::transport::stream::Stream;

thread_local! {
    /// The writers of this thread, for code outside their task.
    static WRITERS: Writers = Writers::default();
}

#[derive(Default)]
struct Writers {
    /// New ones, which the task has not taken in yet.
    arriving: RefCell<Vec<TcpWriter>>,
    /// All of them.
    count: Cell<usize>,
    marks: Arc<Marks>,
}

/// Writes the frames of `outbox` to `stream` until the connection has ended. `open` keeps the connection counted
/// until then.
pub(super) fn start(stream: Rc<Stream>, outbox: Rc<Outbox>, open: OpenStream) {
    let writer = TcpWriter::new(stream, outbox, open);
    WRITERS.with(|writers| {
        writers.arriving.borrow_mut().push(writer);
        if writers.count.replace(writers.count.get() + 1) == 0 {
            actix_rt::spawn(Task::new(Arc::clone(&writers.marks)));
        }
        writers.marks.wake(None);
    });
}

/// Connections of this thread.
pub(in crate::transport) fn count() -> usize {
    WRITERS.with(|writers| writers.count.get())
}

/// The task. It ends with the last writer, or with its runtime.
struct Task {
    marks: Arc<Marks>,
    writers: Slab<(TcpWriter, Waker)>,
    /// The writers of this turn. Empty between two turns, like the next two.
    turn: Vec<usize>,
    /// Frames that are alone in their outboxes.
    lone: Vec<(usize, Frame)>,
    /// Writers with more to do than to send one frame.
    others: Vec<usize>,
}

impl Task {
    fn new(marks: Arc<Marks>) -> Self {
        Self {
            marks,
            writers: Slab::new(),
            turn: Vec::new(),
            lone: Vec::new(),
            others: Vec::new(),
        }
    }

    /// Takes new writers in; they begin in this turn.
    fn admit(&mut self, arriving: Vec<TcpWriter>) {
        for writer in arriving {
            let entry = self.writers.vacant_entry();
            let index = entry.key();
            entry.insert((writer, self.marks.waker(index)));
            self.turn.push(index);
        }
    }

    /// Sends the frames that are alone in their outboxes, and notes the writers with more work.
    fn send_lone_frames(&mut self) {
        for index in self.turn.drain(..) {
            let Some((writer, waker)) = self.writers.get(index) else {
                continue;
            };
            match writer.take_lone(&mut Context::from_waker(waker)) {
                Some(frame) => self.lone.push((index, frame)),
                None => self.others.push(index),
            }
        }
        let (mut frames, mut bytes) = (0, 0);
        for (index, frame) in &self.lone {
            let writer = &self.writers[*index].0;
            let is_sent = writer.send_lone(frame);
            if is_sent {
                frames += 1;
                bytes += frame.len() as u64;
            }
            if !is_sent || writer.keeps_bytes() {
                self.others.push(*index);
            }
        }
        count_sent(Hot::WebSocketFramesSent, frames);
        count_sent(Hot::WebSocketBytesSent, bytes);
        self.lone.clear();
    }

    /// Runs the writers with more work. Returns the number of ended ones.
    fn run_others(&mut self) -> usize {
        let mut ended = 0;
        for index in self.others.drain(..) {
            let Some((writer, waker)) = self.writers.get_mut(index) else {
                continue;
            };
            let cx = &mut Context::from_waker(waker);
            if Pin::new(writer).poll(cx).is_ready() {
                self.writers.remove(index);
                ended += 1;
            }
        }
        ended
    }
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let task = &mut *self;
        task.marks.take(&mut task.turn);
        WRITERS.with(|writers| {
            task.admit(writers.arriving.take());
            task.send_lone_frames();
            let count = writers.count.get() - task.run_others();
            writers.count.set(count);
            written();
            if count == 0 {
                return Poll::Ready(());
            }
            if !task.marks.park(cx) {
                // Its turn comes behind the thread's other tasks.
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // Another runtime of this thread begins anew. A thread that ends has no writers left.
        let _ = WRITERS.try_with(|writers| {
            writers.count.set(0);
            writers.arriving.take();
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::time::Duration;

    use actix_rt::net::TcpStream;

    use super::*;
    use crate::admission::Admission;
    use crate::frame::Opcode;
    use crate::outbox::{CloseReason, OutboxLimits};
    use crate::socket::Sockets;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A connection's outbox, and its client.
    fn connect(sockets: &Sockets) -> (Rc<Outbox>, std::net::TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let client = std::net::TcpStream::connect(address).expect("it listens");
        client.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let (stream, _) = listener.accept().expect("a client");
        stream.set_nonblocking(true).expect("a socket");
        let stream = TcpStream::from_std(stream).expect("a runtime");
        let limits = OutboxLimits {
            bytes: 100_000_000,
            frames: 100,
        };
        let outbox = Rc::new(Outbox::new(limits));
        start(
            Rc::new(Stream::plain(stream)),
            Rc::clone(&outbox),
            sockets.open_stream(None),
        );
        (outbox, client)
    }

    /// Whether these bytes come next.
    async fn receives(client: &std::net::TcpStream, expected: Vec<u8>) -> bool {
        let mut client = client.try_clone().expect("a socket");
        let read = actix_rt::task::spawn_blocking(move || {
            let mut bytes = vec![0; expected.len()];
            client.read_exact(&mut bytes).expect("they come");
            bytes == expected
        });
        read.await.expect("no panic")
    }

    /// Waits until the other writers have ended.
    async fn only_are_left(writers: usize) {
        let ended = async {
            while count() > writers {
                actix_rt::task::yield_now().await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, ended).await;
        assert!(in_time.is_ok(), "{} writers are left", count());
    }

    #[actix_rt::test]
    async fn each_connection_gets_its_own_frames_in_order_however_large() {
        let sockets = Sockets::new(Admission::default());
        let connections: Vec<_> = (0..3).map(|_| connect(&sockets)).collect();
        for len in [1, 5_000_000, 2] {
            let frames: Vec<_> = (0..3u8)
                .map(|n| Frame::new(Opcode::Text, &vec![n; len]))
                .collect();
            for ((outbox, _), frame) in connections.iter().zip(&frames) {
                outbox.push(frame.clone());
            }
            // More than the kernel takes at once goes when the client has read.
            for ((_, client), frame) in connections.iter().zip(&frames) {
                assert!(receives(client, frame.wire().to_vec()).await);
            }
        }
        assert_eq!(count(), 3);
    }

    #[actix_rt::test]
    async fn a_writer_in_the_place_of_one_that_has_ended_has_its_own_stream() {
        let sockets = Sockets::new(Admission::default());
        let (kept, kept_client) = connect(&sockets);
        for n in 0..3 {
            let (outbox, client) = connect(&sockets);
            let frame = Frame::new(Opcode::Text, &[n; 10]);
            outbox.push(frame.clone());
            assert!(receives(&client, frame.wire().to_vec()).await);
            outbox.close(CloseReason::Draining);
            assert!(receives(&client, vec![0x88, 2, 0x03, 0xF4]).await);
            drop(client);
            only_are_left(1).await;
            kept.push(frame.clone());
            assert!(receives(&kept_client, frame.wire().to_vec()).await);
        }
    }

    #[test]
    fn a_runtime_that_ends_takes_its_writers_along() {
        for _ in 0..2 {
            actix_rt::System::new().block_on(async {
                let (outbox, client) = connect(&Sockets::new(Admission::default()));
                let frame = Frame::new(Opcode::Text, b"to somebody");
                outbox.push(frame.clone());
                assert!(receives(&client, frame.wire().to_vec()).await);
                assert_eq!(count(), 1);
            });
            assert_eq!(count(), 0);
        }
    }

    #[actix_rt::test]
    async fn the_task_ends_with_the_last_writer_and_another_begins_with_the_next() {
        let sockets = Sockets::new(Admission::default());
        for _ in 0..2 {
            let (outbox, client) = connect(&sockets);
            drop(client);
            outbox.push(Frame::new(Opcode::Text, b"to nobody"));
            outbox.close(CloseReason::Goodbye);
            only_are_left(0).await;
        }
    }
}
