//! [`LazyMailbox`]: a mailbox that is made when somebody asks for its address.

use std::cell::{Cell, OnceCell};

use actix::dev::Mailbox;
use actix::{Actor, AsyncContext, WeakAddr};

/// The mailbox of an actor. actix's takes three blocks and over 150 bytes, which an actor that nobody writes to does not
/// need.
pub(crate) struct LazyMailbox<A: Actor<Context: AsyncContext<A>>> {
    address: OnceCell<WeakAddr<A>>,
    /// Until the actor takes it.
    unread: Cell<Option<Mailbox<A>>>,
}

impl<A: Actor<Context: AsyncContext<A>>> Default for LazyMailbox<A> {
    fn default() -> Self {
        Self {
            address: OnceCell::new(),
            unread: Cell::default(),
        }
    }
}

impl<A: Actor<Context: AsyncContext<A>>> LazyMailbox<A> {
    /// The address. The first call makes the mailbox.
    pub(crate) fn address(&self) -> &WeakAddr<A> {
        self.address.get_or_init(|| {
            let mailbox = Mailbox::default();
            let address = mailbox.address().downgrade();
            self.unread.set(Some(mailbox));
            address
        })
    }

    /// The mailbox, once. From then on its reader keeps it.
    pub(crate) fn take(&self) -> Option<Mailbox<A>> {
        self.unread.take()
    }

    /// Gives its reader a mailbox that was made elsewhere.
    pub(super) fn put(&self, mailbox: Mailbox<A>) {
        self.unread.set(Some(mailbox));
    }

    /// Whether it was made, and its reader has not taken it.
    pub(super) fn is_unread(&self) -> bool {
        let mailbox = self.unread.take();
        let is_unread = mailbox.is_some();
        self.unread.set(mailbox);
        is_unread
    }
}
