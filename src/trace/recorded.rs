//! Spans with the feature `otel`.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::SystemTime;

use serde_json::{Map, Value};

use super::SpanKind;
use super::traceparent::{SpanPlace, Traceparent};
use crate::message::Payload;

/// The param of a connect and of a join that holds the client's `traceparent`.
const PARAM: &str = "traceparent";
/// The most bytes of an attribute's text.
const MAX_TEXT: usize = 256;

/// Takes ended spans. It must not wait.
pub(crate) trait SpanSink: Send + Sync {
    fn ended(&self, span: FinishedSpan);
}

/// A span that has ended.
#[derive(Clone, Debug)]
pub(crate) struct FinishedSpan {
    pub(crate) name: &'static str,
    pub(crate) kind: SpanKind,
    pub(crate) trace: u128,
    pub(crate) span: u64,
    /// `None`: a root.
    pub(crate) parent: Option<u64>,
    /// Whether the parent is a span of the client.
    pub(crate) parent_is_remote: bool,
    pub(crate) begun: SystemTime,
    pub(crate) ended: SystemTime,
    pub(crate) attributes: Vec<(&'static str, String)>,
    /// Why it has failed.
    pub(crate) error: Option<String>,
}

/// Where ended spans go, and which roots are sampled.
struct Tracer {
    sink: Box<dyn SpanSink>,
    /// The part of all roots, as a part of `u64::MAX`.
    sample: u64,
}

/// Whether there is a tracer: the one load that a connect makes while there is none.
static IS_ON: AtomicBool = AtomicBool::new(false);
static TRACER: RwLock<Option<Arc<Tracer>>> = RwLock::new(None);

thread_local! {
    /// The span that this thread works for.
    static CURRENT: Cell<Option<SpanPlace>> = const { Cell::new(None) };
}

/// From now on spans go to this sink; `None` ends all traces. `sample`: the part of connections without a
/// `traceparent` that are traced, from 0 to 1.
pub(crate) fn install(sink: Option<Box<dyn SpanSink>>, sample: f64) {
    let tracer = sink.map(|sink| {
        let sample = (sample.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
        Arc::new(Tracer { sink, sample })
    });
    IS_ON.store(tracer.is_some(), Ordering::Relaxed);
    *TRACER.write().unwrap_or_else(PoisonError::into_inner) = tracer;
}

fn tracer() -> Option<Arc<Tracer>> {
    let tracer = TRACER.read().unwrap_or_else(PoisonError::into_inner);
    tracer.clone()
}

/// Not 0, which no id may be.
fn random() -> u64 {
    // Without the system's randomness there are no traces; a repeated id harms nothing else.
    getrandom::u64().unwrap_or_default().max(1)
}

/// Where a trace goes on: a connection, a channel and a message keep it. Empty if they are not traced.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traced(Option<Box<SpanPlace>>);

impl Traced {
    /// The span that this thread works for.
    pub(crate) fn current() -> Self {
        Self(CURRENT.get().map(Box::new))
    }

    /// Begins a span here.
    pub(crate) fn begin(&self, name: &'static str, kind: SpanKind) -> Span {
        match &self.0 {
            Some(place) => Span::begin(name, kind, Some(**place), false),
            None => Span(None),
        }
    }

    /// Records a span that began earlier, and ends now.
    pub(crate) fn record(
        &self,
        name: &'static str,
        begun: SystemTime,
        describe: impl FnOnce(&mut Span),
    ) {
        let mut span = self.begin(name, SpanKind::Producer);
        if let Some(open) = &mut span.0 {
            open.begun = begun;
            describe(&mut span);
        }
    }
}

/// A span that runs until it is dropped. Empty if the trace is not sampled.
#[derive(Debug)]
pub(crate) struct Span(Option<Box<FinishedSpan>>);

impl Span {
    fn begin(
        name: &'static str,
        kind: SpanKind,
        parent: Option<SpanPlace>,
        is_remote: bool,
    ) -> Self {
        let begun = SystemTime::now();
        let trace = parent.map(|parent| parent.trace);
        Self(Some(Box::new(FinishedSpan {
            name,
            kind,
            trace: trace.unwrap_or_else(|| u128::from(random()) << 64 | u128::from(random())),
            span: random(),
            parent: parent.map(|parent| parent.span),
            parent_is_remote: is_remote,
            begun,
            ended: begun,
            attributes: Vec::new(),
            error: None,
        })))
    }

    /// Whether it is recorded.
    pub(crate) fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    fn place(&self) -> Option<SpanPlace> {
        let open = self.0.as_ref()?;
        Some(SpanPlace {
            trace: open.trace,
            span: open.span,
        })
    }

    /// Where the trace goes on.
    pub(crate) fn traced(&self) -> Traced {
        Traced(self.place().map(Box::new))
    }

    /// The header of a request to another server.
    pub(crate) fn traceparent(&self) -> Option<String> {
        self.place().map(SpanPlace::traceparent)
    }

    /// Adds an attribute.
    pub(crate) fn set(&mut self, name: &'static str, text: &(impl ToString + ?Sized)) {
        if let Some(open) = &mut self.0 {
            let mut text = text.to_string();
            text.truncate(text.floor_char_boundary(MAX_TEXT));
            open.attributes.push((name, text));
        }
    }

    /// Marks the span as failed.
    pub(crate) fn fail(&mut self, error: &(impl ToString + ?Sized)) {
        if let Some(open) = &mut self.0 {
            open.error = Some(error.to_string());
        }
    }

    /// As if it had not begun.
    pub(crate) fn forget(mut self) {
        self.0 = None;
    }

    /// The thread works for this span, until the guard is dropped.
    pub(crate) fn enter(&self) -> Option<Entered> {
        let place = self.place()?;
        Some(Entered(CURRENT.replace(Some(place))))
    }

    /// Polls the future for this span.
    pub(crate) async fn within<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let _entered = self.enter();
            future.as_mut().poll(cx)
        })
        .await
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut open) = self.0.take()
            && let Some(tracer) = tracer()
        {
            open.ended = SystemTime::now();
            tracer.sink.ended(*open);
        }
    }
}

/// Restores the span that the thread worked for before.
#[derive(Debug)]
pub(crate) struct Entered(Option<SpanPlace>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Begins the span of a connect. The client's params say its parent, else the header, else chance decides.
pub(crate) fn begin_connect<'a>(
    params: &Map<String, Value>,
    header: impl FnOnce() -> Option<&'a str>,
) -> Span {
    const NAME: &str = "connect";
    if !IS_ON.load(Ordering::Relaxed) {
        return Span(None);
    }
    let param = params.get(PARAM).and_then(Value::as_str);
    let parent = param.and_then(Traceparent::parse);
    match parent.or_else(|| header().and_then(Traceparent::parse)) {
        Some(parent) => of_client(NAME, parent),
        None => {
            let sample = tracer().map_or(0, |tracer| tracer.sample);
            if random() > sample {
                return Span(None);
            }
            Span::begin(NAME, SpanKind::Server, None, false)
        }
    }
}

/// Begins the span of a join: in the trace that its params name, else in that of the connection.
pub(crate) fn begin_join(connection: &Traced, params: &Payload) -> Span {
    const NAME: &str = "join";
    if !IS_ON.load(Ordering::Relaxed) {
        return Span(None);
    }
    match parent_of_join(params) {
        Some(parent) => of_client(NAME, parent),
        None => connection.begin(NAME, SpanKind::Server),
    }
}

fn parent_of_join(params: &Payload) -> Option<Traceparent> {
    #[derive(serde::Deserialize)]
    struct Params<'a> {
        #[serde(borrow)]
        traceparent: &'a str,
    }
    let Payload::Json(json) = params else {
        return None;
    };
    // Most joins have none, and need not be parsed for it.
    memchr::memmem::find(json.get().as_bytes(), PARAM.as_bytes())?;
    let params: Params<'_> = serde_json::from_str(json.get()).ok()?;
    Traceparent::parse(params.traceparent)
}

/// A span below one of the client's, if that is sampled.
fn of_client(name: &'static str, parent: Traceparent) -> Span {
    if !parent.is_sampled {
        return Span(None);
    }
    Span::begin(name, SpanKind::Server, Some(parent.place), true)
}

/// Begins the span of a broadcast, if the thread works for one.
pub(crate) fn begin_broadcast(topic: &str, event: &str) -> Span {
    let Some(place) = CURRENT.get() else {
        return Span(None);
    };
    let mut span = Span::begin("broadcast", SpanKind::Producer, Some(place), false);
    span.set("slackir.topic", topic);
    span.set("slackir.event", event);
    span
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use serde_json::json;

    use super::*;

    const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;

    struct ToTest(Sender<FinishedSpan>);

    impl SpanSink for ToTest {
        fn ended(&self, span: FinishedSpan) {
            // Spans of other tests come after the end of this one.
            let _ = self.0.send(span);
        }
    }

    fn params(text: &str) -> Map<String, Value> {
        Map::from_iter([(PARAM.to_owned(), text.into())])
    }

    /// One test, because the tracer is the process's.
    #[actix_rt::test]
    async fn a_trace_goes_from_the_client_to_the_last_span() {
        let none = || None;
        assert!(!begin_connect(&params(SAMPLED), none).is_recorded());
        let (sent, spans) = channel();
        install(Some(Box::new(ToTest(sent))), 0.0);
        let spans = move || spans.try_recv().ok();

        let connect = begin_connect(&params(SAMPLED), || Some(UNSAMPLED));
        let connection = connect.traced();
        drop(connect);
        let connect = spans().expect("it has ended");
        assert_eq!((connect.name, connect.trace), ("connect", TRACE));
        assert_eq!(connect.parent, Some(0xb7ad_6b71_6920_3331));
        assert!(connect.parent_is_remote);

        let join = begin_join(&connection, &Payload::from(json!({"a": 1})));
        let header = join.traceparent().expect("it is recorded");
        assert!(
            header.starts_with("00-0af7651916cd43dd8448eb211c80319c-"),
            "{header}"
        );
        join.within(async {
            let mut broadcast = begin_broadcast("room:1", "shout");
            broadcast.fail("refused");
            let _entered = broadcast.enter();
            let begun = SystemTime::UNIX_EPOCH;
            Traced::current().record("persist", begun, |span| span.set("n", &7));
        })
        .await;
        assert!(
            !begin_broadcast("room:1", "shout").is_recorded(),
            "behind it"
        );
        drop(join);
        let [persist, broadcast, join] = [(), (), ()].map(|()| spans().expect("ended"));
        assert_eq!(persist.begun, SystemTime::UNIX_EPOCH);
        assert_eq!(persist.attributes, [("n", "7".to_owned())]);
        assert_eq!(persist.parent, Some(broadcast.span));
        assert_eq!(broadcast.error.as_deref(), Some("refused"));
        assert_eq!(broadcast.parent, Some(join.span));
        assert_eq!(join.parent, Some(connect.span));
        assert!(
            [persist, broadcast, join]
                .iter()
                .all(|span| span.trace == TRACE)
        );

        // Unsampled, invalid, and none: with a ratio of 0 nothing is traced, with 1 all but the first.
        let cases = [params(UNSAMPLED), params("nonsense"), Map::new()];
        let recorded = || {
            let spans = cases.iter().map(|params| begin_connect(params, none));
            let recorded: Vec<_> = spans.map(|span| span.is_recorded()).collect();
            recorded
        };
        assert_eq!(recorded(), [false, false, false]);
        let of_its_own = Payload::from(json!({"traceparent": SAMPLED}));
        assert!(begin_join(&Traced::default(), &of_its_own).is_recorded());
        let (sent, _kept) = channel();
        install(Some(Box::new(ToTest(sent))), 1.0);
        assert_eq!(recorded(), [false, true, true]);
        install(None, 1.0);
        assert_eq!(recorded(), [false, false, false]);
    }
}
