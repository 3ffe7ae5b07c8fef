//! tracing: spans follow a task from poll to poll.

use std::sync::{Arc, Mutex};

use annulus::{JoinSet, block_on, yield_now};
use tracing::Instrument;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// Writes down in which span each event was.
struct Names(Arc<Mutex<Vec<Option<String>>>>);

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Names {
    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let name = context.event_span(event).map(|span| span.name().to_owned());
        self.0.lock().expect("no panic under the lock").push(name);
    }
}

#[test]
fn an_event_is_in_the_span_of_its_task() {
    let found = Arc::new(Mutex::new(Vec::new()));
    let subscriber = tracing_subscriber::registry().with(Names(Arc::clone(&found)));
    tracing::subscriber::with_default(subscriber, || {
        block_on(async {
            let task = async || {
                for _ in 0..10 {
                    tracing::info!("turn");
                    yield_now().await;
                }
            };
            let tasks: JoinSet<()> = [
                task().instrument(tracing::info_span!("first")),
                task().instrument(tracing::info_span!("second")),
            ]
            .into_iter()
            .collect();
            tasks.join_all().await;
            tracing::info!("outside");
        });
    });
    let found = found.lock().expect("no panic");
    let count = |name: Option<&str>| found.iter().filter(|found| found.as_deref() == name).count();
    assert_eq!((count(Some("first")), count(Some("second")), count(None)), (10, 10, 1));
}
