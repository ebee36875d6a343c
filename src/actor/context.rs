//! [`Context`]: an actix context for actors of which a process has a hundred thousand.
//!
//! [`actix::Context`] keeps room for seven futures in each actor. Here an actor has room for one, its stream of work, and
//! more go to the heap. It lives until it is stopped, even if nobody has its address.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use actix::dev::{Envelope, Mailbox, ToEnvelope};
use actix::{
    Actor, ActorContext, ActorFuture, ActorState, Addr, AsyncContext, Handler, Message, Running,
    SpawnHandle,
};
use smallvec::SmallVec;
use tokio::sync::oneshot::Sender;

use super::{LazyMailbox, scheduler};

/// The context. Its default is that of an actor which has not started.
pub(crate) struct Context<A: Actor<Context = Self>> {
    mailbox: LazyMailbox<A>,
    items: SmallVec<[Item<A>; 1]>,
    /// The handle that was given last.
    last: SpawnHandle,
    /// Futures that hold up everything else.
    blocking: u32,
    state: ActorState,
}

/// A future that was spawned.
struct Item<A: Actor> {
    handle: SpawnHandle,
    blocks: bool,
    cancelled: bool,
    /// `None` while it is polled, and once it is cancelled.
    future: Option<Pin<Box<dyn ActorFuture<A, Output = ()>>>>,
}

impl<A: Actor<Context = Self>> Default for Context<A> {
    fn default() -> Self {
        Self {
            mailbox: LazyMailbox::default(),
            items: SmallVec::new(),
            last: SpawnHandle::default(),
            blocking: 0,
            state: ActorState::Started,
        }
    }
}

impl<A: Actor<Context = Self>> Context<A> {
    /// Makes an actor and runs it on this thread. Needs an actix runtime.
    pub(crate) fn start(make: impl FnOnce(&mut Self) -> A) {
        let mut context = Self::default();
        let actor = make(&mut context);
        context.run(actor);
    }

    /// Runs the actor on this thread. Needs an actix runtime.
    pub(crate) fn run(self, actor: A) {
        scheduler::spawn(Box::pin(Life {
            actor,
            context: self,
            mailbox: None,
        }));
    }

    /// From now on the actor reads this mailbox, which was made for it elsewhere, in place of its own.
    pub(crate) fn read(&mut self, mailbox: Mailbox<A>) {
        self.mailbox.put(mailbox);
    }

    /// Polls what was spawned. Returns whether a future has ended that held up the others.
    fn poll_items(&mut self, actor: &mut A, cx: &mut TaskContext<'_>) -> bool {
        let mut at = 0;
        while at < self.items.len() && !self.state.stopping() {
            let item = &mut self.items[at];
            if self.blocking > 0 && !item.blocks {
                at += 1;
                continue;
            }
            let blocks = item.blocks;
            let Some(mut future) = item.future.take() else {
                self.items.remove(at);
                continue;
            };
            let is_done = future.as_mut().poll(actor, self, cx).is_ready();
            // What it has spawned stands behind it.
            let item = &mut self.items[at];
            if !is_done && !item.cancelled {
                item.future = Some(future);
                at += 1;
                continue;
            }
            self.items.remove(at);
            if blocks && is_done {
                self.blocking -= 1;
                return true;
            }
        }
        false
    }

    fn push(&mut self, blocks: bool, future: Pin<Box<dyn ActorFuture<A, Output = ()>>>) {
        self.last = self.last.next();
        self.items.push(Item {
            handle: self.last,
            blocks,
            cancelled: false,
            future: Some(future),
        });
    }
}

impl<A: Actor<Context = Self>> ActorContext for Context<A> {
    fn stop(&mut self) {
        if !self.state.stopping() {
            self.state = ActorState::Stopping;
        }
    }

    fn terminate(&mut self) {
        self.state = ActorState::Stopped;
    }

    fn state(&self) -> ActorState {
        self.state
    }
}

impl<A: Actor<Context = Self>> AsyncContext<A> for Context<A> {
    fn address(&self) -> Addr<A> {
        let address = self.mailbox.address().upgrade();
        address.expect("the mailbox lives as long as the context")
    }

    fn spawn<F: ActorFuture<A, Output = ()> + 'static>(&mut self, future: F) -> SpawnHandle {
        self.push(false, Box::pin(future));
        self.last
    }

    fn wait<F: ActorFuture<A, Output = ()> + 'static>(&mut self, future: F) {
        self.blocking += 1;
        self.push(true, Box::pin(future));
    }

    fn waiting(&self) -> bool {
        self.blocking > 0 || self.state.stopping()
    }

    fn cancel_future(&mut self, handle: SpawnHandle) -> bool {
        let mut items = self.items.iter_mut();
        let Some(item) = items.find(|item| item.handle == handle && !item.cancelled) else {
            return false;
        };
        item.cancelled = true;
        item.future = None;
        true
    }
}

impl<A, M> ToEnvelope<A, M> for Context<A>
where
    A: Actor<Context = Self> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn pack(message: M, answer: Option<Sender<M::Result>>) -> Envelope<A> {
        Envelope::new(message, answer)
    }
}

/// The life of an actor, from its start to its end.
struct Life<A: Actor<Context = Context<A>>> {
    actor: A,
    context: Context<A>,
    mailbox: Option<Mailbox<A>>,
}

// Nothing in it is pinned: its futures have boxes of their own.
impl<A: Actor<Context = Context<A>>> Unpin for Life<A> {}

impl<A: Actor<Context = Context<A>>> Future for Life<A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let Self {
            actor,
            context,
            mailbox,
        } = self.get_mut();
        if context.state == ActorState::Started {
            context.state = ActorState::Running;
            actor.started(context);
        }
        loop {
            if let Some(made) = context.mailbox.take() {
                *mailbox = Some(made);
            }
            if let Some(mailbox) = mailbox {
                mailbox.poll(actor, context, cx);
            }
            if context.poll_items(actor, cx) {
                continue;
            }
            if context.state == ActorState::Stopping {
                if actor.stopping(context) == Running::Continue {
                    context.state = ActorState::Running;
                    continue;
                }
                context.state = ActorState::Stopped;
            }
            if context.state == ActorState::Stopped {
                actor.stopped(context);
                return Poll::Ready(());
            }
            // One that was made meanwhile wakes nobody before it is polled.
            if !context.mailbox.is_unread() {
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    use actix::fut::wrap_future;
    use actix::{ActorFutureExt, Message, StreamHandler};
    use futures_util::stream;
    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    /// What happened to an actor, in order.
    type Log = Rc<RefCell<Vec<String>>>;

    struct Diary(Log);

    impl Diary {
        fn note(&self, what: &str) {
            self.0.borrow_mut().push(what.to_owned());
        }
    }

    impl Actor for Diary {
        type Context = Context<Self>;

        fn started(&mut self, _: &mut Self::Context) {
            self.note("started");
        }

        fn stopping(&mut self, _: &mut Self::Context) -> Running {
            self.note("stopping");
            Running::Stop
        }

        fn stopped(&mut self, _: &mut Self::Context) {
            self.note("stopped");
        }
    }

    impl Drop for Diary {
        fn drop(&mut self) {
            self.note("dropped");
        }
    }

    #[derive(Message)]
    #[rtype(result = "usize")]
    struct Note(&'static str);

    impl Handler<Note> for Diary {
        type Result = usize;

        fn handle(&mut self, Note(what): Note, ctx: &mut Self::Context) -> usize {
            match what {
                "stop" => ctx.stop(),
                "panic" => panic!("as asked"),
                "spin" => {
                    let spin = async {
                        loop {
                            tokio::task::consume_budget().await;
                        }
                    };
                    ctx.spawn(wrap_future(spin));
                }
                "wait" => ctx.wait(
                    wrap_future(actix_rt::task::yield_now())
                        .map(|(), diary: &mut Self, _| diary.note("waited")),
                ),
                _ => self.note(what),
            }
            self.0.borrow().len()
        }
    }

    impl StreamHandler<&'static str> for Diary {
        fn handle(&mut self, what: &'static str, _: &mut Self::Context) {
            self.note(what);
        }

        fn finished(&mut self, _: &mut Self::Context) {
            self.note("finished");
        }
    }

    fn start(also: impl FnOnce(&mut Context<Diary>)) -> (Addr<Diary>, Log) {
        let (log, mut address) = (Log::default(), None);
        Context::start(|ctx| {
            address = Some(ctx.address());
            also(ctx);
            Diary(Rc::clone(&log))
        });
        (address.expect("made above"), log)
    }

    /// Waits until the actor is dropped, and returns what happened.
    async fn end_of(log: &Log) -> Vec<String> {
        let dropped = async {
            while log.borrow().last().is_none_or(|last| last != "dropped") {
                actix_rt::task::yield_now().await;
            }
        };
        let in_time = timeout(Duration::from_secs(10), dropped).await;
        assert!(in_time.is_ok(), "it goes on: {:?}", log.borrow());
        log.take()
    }

    #[actix_rt::test]
    async fn an_actor_lives_until_it_is_stopped_and_answers_meanwhile() {
        let (address, log) = start(|_| {});
        assert_eq!(address.send(Note("one")).await, Ok(2));
        let weak = address.downgrade();
        drop(address);
        actix_rt::task::yield_now().await;
        let address = weak.upgrade().expect("it lives");
        address.do_send(Note("two"));
        address.do_send(Note("stop"));
        address.do_send(Note("too late"));
        let expected = ["started", "one", "two", "stopping", "stopped", "dropped"];
        assert_eq!(end_of(&log).await, expected);
        assert!(!address.connected());
    }

    #[actix_rt::test]
    async fn its_streams_and_its_messages_are_handled_and_its_end_drops_what_runs() {
        let (held, end) = oneshot::channel::<()>();
        let (address, log) = start(|ctx| {
            <Diary as StreamHandler<_>>::add_stream(stream::iter(["a", "b"]), ctx);
            let held = async move {
                let _held = held;
                std::future::pending::<()>().await;
            };
            ctx.spawn(wrap_future(held));
        });
        assert_eq!(address.send(Note("one")).await, Ok(2));
        address.do_send(Note("stop"));
        let expected = [
            "started", "one", "a", "b", "finished", "stopping", "stopped", "dropped",
        ];
        assert_eq!(end_of(&log).await, expected);
        assert!(end.await.is_err(), "the future is dropped with its actor");
    }

    #[actix_rt::test]
    async fn what_is_waited_for_holds_up_the_rest() {
        let (address, log) = start(|_| {});
        address.do_send(Note("wait"));
        address.do_send(Note("after"));
        address.do_send(Note("stop"));
        let expected = [
            "started", "waited", "after", "stopping", "stopped", "dropped",
        ];
        assert_eq!(end_of(&log).await, expected);
    }

    #[actix_rt::test]
    async fn a_cancelled_future_never_runs_again() {
        let (address, log) = start(|ctx| {
            let note = |what: &'static str| {
                wrap_future(actix_rt::task::yield_now())
                    .map(move |(), diary: &mut Diary, _: &mut Context<Diary>| diary.note(what))
            };
            let cancelled = ctx.spawn(note("cancelled"));
            ctx.spawn(note("kept"));
            assert!(ctx.cancel_future(cancelled));
            assert!(!ctx.cancel_future(cancelled), "it is cancelled already");
        });
        while log.borrow().len() < 2 {
            actix_rt::task::yield_now().await;
        }
        address.do_send(Note("stop"));
        let expected = ["started", "kept", "stopping", "stopped", "dropped"];
        assert_eq!(end_of(&log).await, expected);
    }

    #[actix_rt::test]
    async fn an_actor_that_panics_takes_no_other_along() {
        let (other, log) = start(|_| {});
        let (address, ended) = start(|_| {});
        assert!(address.send(Note("panic")).await.is_err());
        assert_eq!(end_of(&ended).await, ["started", "dropped"]);
        assert_eq!(other.send(Note("one")).await, Ok(2));
        assert_eq!(*log.borrow(), ["started", "one"]);
    }

    /// Channels run the code of applications, which may read from something that always has more.
    #[actix_rt::test]
    async fn an_actor_that_always_has_more_to_do_holds_up_no_other() {
        let ((other, _), (address, log)) = (start(|_| {}), start(|_| {}));
        address.do_send(Note("spin"));
        for answered in 2..100 {
            assert_eq!(other.send(Note("one")).await, Ok(answered));
        }
        address.do_send(Note("stop"));
        assert_eq!(
            end_of(&log).await,
            ["started", "stopping", "stopped", "dropped"]
        );
    }

    #[test]
    fn actors_that_panic_when_a_runtime_drops_them_take_no_other_along() {
        struct Bomb;

        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("as asked");
            }
        }

        let logs: Vec<_> = actix_rt::System::new().block_on(async {
            let start_one = |_| {
                let held = async {
                    let _bomb = Bomb;
                    std::future::pending::<()>().await;
                };
                start(|ctx| {
                    ctx.spawn(wrap_future(held));
                })
            };
            let actors: Vec<_> = (0..3).map(start_one).collect();
            for (address, _) in &actors {
                assert_eq!(address.send(Note("one")).await, Ok(2));
            }
            actors.into_iter().map(|(_, log)| log).collect()
        });
        for log in logs {
            assert_eq!(log.take(), ["started", "one", "dropped"]);
        }
    }

    #[actix_rt::test]
    async fn a_mailbox_that_is_made_late_wakes_its_actor() {
        let address = Rc::new(RefCell::new(None));
        let told = Rc::clone(&address);
        let tell = wrap_future(actix_rt::task::yield_now()).map(
            move |(), _: &mut Diary, ctx: &mut Context<Diary>| {
                *told.borrow_mut() = Some(ctx.address());
            },
        );
        Context::start(|ctx| {
            ctx.spawn(tell);
            Diary(Log::default())
        });
        while address.borrow().is_none() {
            actix_rt::task::yield_now().await;
        }
        let address = address.take().expect("seen above");
        let answer = timeout(Duration::from_secs(10), address.send(Note("one"))).await;
        assert_eq!(answer, Ok(Ok(2)));
    }

    #[test]
    fn a_runtime_that_ends_takes_its_actors_along() {
        for _ in 0..2 {
            let log = actix_rt::System::new().block_on(async {
                let (address, log) = start(|_| {});
                assert_eq!(address.send(Note("one")).await, Ok(2));
                log
            });
            assert_eq!(log.take(), ["started", "one", "dropped"]);
        }
    }

    #[actix_rt::test]
    async fn many_actors_take_turns_and_all_of_them_run() {
        let actors: Vec<_> = (0..1_000).map(|_| start(|_| {})).collect();
        for (address, _) in &actors {
            address.do_send(Note("one"));
            address.do_send(Note("stop"));
        }
        for (_, log) in &actors {
            let expected = ["started", "one", "stopping", "stopped", "dropped"];
            assert_eq!(end_of(log).await, expected);
        }
    }
}
