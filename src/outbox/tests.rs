use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use super::*;
use crate::frame::Opcode;

fn frame(len: usize) -> Frame {
    Frame::new(Opcode::Text, &vec![b'x'; len])
}

fn poll(outbox: &Outbox) -> Poll<Option<usize>> {
    let mut cx = Context::from_waker(Waker::noop());
    outbox
        .poll_frame(&mut cx)
        .map(|f| f.map(|f| f.payload().len()))
}

fn limits(bytes: usize, frames: usize) -> Outbox {
    Outbox::new(OutboxLimits { bytes, frames })
}

#[test]
fn frames_leave_in_the_order_they_came_and_closing_lets_them_out() {
    let outbox = limits(1_000, 10);
    outbox.push(frame(1));
    outbox.push(frame(2));
    outbox.close(CloseReason::Draining);
    outbox.push(frame(3));
    assert_eq!(poll(&outbox), Poll::Ready(Some(1)));
    assert_eq!(poll(&outbox), Poll::Ready(Some(2)));
    assert_eq!(poll(&outbox), Poll::Ready(None));
}

#[test]
fn where_all_outboxes_hold_too_much_one_that_is_not_small_ends() {
    let others = |before, after| SLACK.with(|slack| slack.count(&TOTAL, before, after));
    let crowd = 2 * TOTAL_BYTES.unsigned_abs();
    others(0, crowd);
    let (small, large) = (limits(1_000_000, 10), limits(1_000_000, 10));
    (0..2).for_each(|_| small.push(frame(CROWDED_BYTES / 3)));
    (0..2).for_each(|_| large.push(frame(CROWDED_BYTES)));
    others(crowd, 0);
    assert_eq!(small.closed(), None);
    assert_eq!(large.closed(), Some(CloseReason::SlowConsumer));
    large.push(frame(1));
    assert_eq!(poll(&large), Poll::Ready(None));
}

#[test]
fn a_stream_takes_many_frames_at_once_and_any_part_of_them() {
    let outbox = limits(100_000, 1_000);
    let sent: Vec<u8> = (0..100).collect();
    for byte in &sent {
        outbox.push(Frame::new(Opcode::Text, &[*byte; 3]));
    }
    let mut cx = Context::from_waker(Waker::noop());
    let mut stream = Vec::new();
    let mut calls = 0;
    while outbox.poll_queued(&mut cx) == Poll::Ready(true) {
        calls += 1;
        let took = outbox.write_to(|slices| {
            let offered: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            let taken = offered.len().min(97);
            stream.extend_from_slice(&offered[..taken]);
            Ok::<_, std::io::Error>(taken)
        });
        took.expect("it takes some");
    }
    let frames = sent.iter().flat_map(|byte| [0x81, 3, *byte, *byte, *byte]);
    assert_eq!(stream, frames.collect::<Vec<u8>>());
    assert_eq!(calls, 500usize.div_ceil(97));
    assert_eq!(outbox.bytes.get(), 0);
}

#[test]
fn a_lone_frame_is_taken_whole_and_what_the_stream_leaves_of_it_goes_back() {
    let outbox = limits(1_000, 10);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(outbox.take_lone(&mut cx).is_none(), "nothing is queued");
    outbox.push(frame(5));
    outbox.push(frame(6));
    assert!(outbox.take_lone(&mut cx).is_none(), "there are two");
    assert_eq!(poll(&outbox), Poll::Ready(Some(5)));
    let lone = outbox.take_lone(&mut cx).expect("there is one");
    assert_eq!((outbox.bytes.get(), poll(&outbox)), (0, Poll::Pending));
    outbox.put_back(lone, 3);
    assert_eq!(outbox.sent(), frame(5).len() as u64, "not yet all of it");
    assert!(outbox.take_lone(&mut cx).is_none(), "it is not whole");
    let rest = |slices: &[IoSlice<'_>]| Ok::<_, std::io::Error>(slices[0].len());
    outbox.write_to(rest).expect("it takes all");
    assert_eq!((outbox.bytes.get(), outbox.written.get()), (0, 0));
    let both = frame(5).len() + frame(6).len();
    assert_eq!(outbox.sent(), both as u64);
    outbox.push(frame(7));
    outbox.close(CloseReason::Draining);
    assert!(outbox.take_lone(&mut cx).is_none(), "the end is to be said");
}

#[test]
fn a_frame_over_the_limit_enters_an_empty_outbox() {
    let outbox = limits(10, 10);
    outbox.push(frame(100));
    assert_eq!(outbox.closed(), None);
    assert_eq!(poll(&outbox), Poll::Ready(Some(100)));
    assert_eq!(poll(&outbox), Poll::Pending);
}

#[test]
fn a_frame_is_compressed_for_a_client_that_takes_that_and_counts_with_its_bytes_on_the_wire() {
    let plain = limits(1_000_000, 10);
    let compressed = limits(1_000_000, 10).with_window(Some(Window::MAX));
    for len in [500, 5_000] {
        plain.push(frame(len));
        compressed.push(frame(len));
    }
    assert_eq!(plain.bytes(), 504 + 5_004);
    assert!((504..650).contains(&compressed.bytes()));
    assert_eq!(poll(&compressed), Poll::Ready(Some(500)));
}

#[test]
fn a_slow_consumer_loses_its_queue_and_its_connection() {
    for outbox in [limits(10, 100), limits(10_000, 2)] {
        let mut cx = Context::from_waker(Waker::noop());
        // Over the bound, within the grace period.
        (0..8).for_each(|_| outbox.push(frame(3)));
        assert!(outbox.poll_interrupted(&mut cx).is_pending());
        assert!(outbox.poll_room(&mut cx).is_pending());
        // Over eight times the bound.
        (0..16).for_each(|_| outbox.push(frame(3)));
        assert_eq!(outbox.closed(), Some(CloseReason::SlowConsumer));
        let stopped = outbox.poll_interrupted(&mut cx);
        assert_eq!(stopped, Poll::Ready(Interrupt::SlowConsumer));
        assert_eq!(poll(&outbox), Poll::Ready(None));
    }
}

#[test]
fn an_outbox_that_stays_over_its_bound_ends_after_the_grace() {
    let outbox = limits(10, 100);
    outbox.push(frame(8));
    outbox.push(frame(8));
    assert_eq!(outbox.closed(), None);
    outbox.over.set(Instant::now().checked_sub(GRACE * 2));
    outbox.push(frame(1));
    assert_eq!(outbox.closed(), Some(CloseReason::SlowConsumer));
}

#[test]
fn an_outbox_that_was_read_may_be_over_its_bound_again() {
    let outbox = limits(10, 100);
    outbox.push(frame(8));
    outbox.push(frame(8));
    outbox.over.set(Instant::now().checked_sub(GRACE * 2));
    assert_eq!(poll(&outbox), Poll::Ready(Some(8)));
    assert_eq!(poll(&outbox), Poll::Ready(Some(8)));
    outbox.push(frame(8));
    outbox.push(frame(8));
    assert_eq!(outbox.closed(), None, "it was below its bound in between");
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn the_reader_is_woken_when_there_is_room_again_in_bytes_or_in_frames() {
    for outbox in [limits(40, 100), limits(10_000, 4)] {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        (0..3).for_each(|_| outbox.push(frame(10)));
        let mut cx = Context::from_waker(&waker);
        assert!(outbox.poll_room(&mut cx).is_pending());
        while !outbox.has_room() {
            assert!(!woken.0.load(Ordering::Relaxed));
            assert_eq!(poll(&outbox), Poll::Ready(Some(10)));
        }
        assert!(woken.0.load(Ordering::Relaxed));
    }
}
