//! [`Poll`]: waits for sockets, with a timer that is finer than the milliseconds of `epoll_wait`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// Events of one wait.
const EVENTS: usize = 512;
/// The data of the timer's events; those of sockets are places of clients.
const TIMER: u64 = u64::MAX;

/// A socket can be read or written.
#[derive(Clone, Copy)]
pub(super) struct Ready {
    pub(super) client: usize,
    pub(super) write: bool,
    /// Also if the connection has ended.
    pub(super) read: bool,
}

pub(super) struct Poll {
    epoll: OwnedFd,
    timer: OwnedFd,
    events: Vec<Event>,
}

impl Poll {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        // Edges, so that the timer need not be read.
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), flags)?;
        Ok(Self {
            epoll,
            timer,
            events: Vec::with_capacity(EVENTS),
        })
    }

    /// Waits for a socket from now on, until it is closed. `write`: also until it can be written.
    pub(super) fn add(&self, socket: impl AsFd, client: usize, write: bool) -> io::Result<()> {
        let data = EventData::new_u64(client as u64);
        Ok(epoll::add(&self.epoll, socket, data, interest(write))?)
    }

    /// Changes whether the socket is waited for until it can be written.
    pub(super) fn change(&self, socket: impl AsFd, client: usize, write: bool) -> io::Result<()> {
        let data = EventData::new_u64(client as u64);
        Ok(epoll::modify(&self.epoll, socket, data, interest(write))?)
    }

    /// Waits until a socket is ready, or at most for so long, and replaces the content of `ready`.
    pub(super) fn wait(&mut self, longest: Duration, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        let no_wait = Timespec::default();
        let timeout = if longest.is_zero() {
            Some(&no_wait)
        } else {
            let it_value = Timespec::try_from(longest).unwrap_or_default();
            let once = Itimerspec {
                it_interval: Timespec::default(),
                it_value,
            };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
            None
        };
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let events = self.events.drain(..);
        ready.extend(events.filter_map(|event| {
            let (data, flags) = (event.data, event.flags);
            let client = data.u64();
            (client != TIMER).then(|| Ready {
                client: client as usize,
                write: flags.contains(EventFlags::OUT),
                read: flags.intersects(EventFlags::IN | EventFlags::ERR | EventFlags::HUP),
            })
        }));
        Ok(())
    }
}

fn interest(write: bool) -> EventFlags {
    if write {
        EventFlags::IN | EventFlags::OUT
    } else {
        EventFlags::IN
    }
}
