//! `get -w`: the tree again whenever something changes.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::io::{IsTerminal as _, Write as _};
use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use kube::Api;
use kube::runtime::reflector::Store;
use kube::runtime::watcher;
use ratatui::crossterm::{cursor, execute, terminal};
use serde::de::DeserializeOwned;

use super::Question;
use crate::cli::cluster::Cluster;
use crate::cli::print;
use crate::cli::watch::{Event, held, is_filled, said, stored};
use crate::view::Style;
use crate::view::tree::{Seen, tree};

/// Changes within so long are drawn together.
const TOGETHER: Duration = Duration::from_millis(200);
/// How often ages move.
const TICK: Duration = Duration::from_secs(1);

/// Objects of one kind: as they were asked for at first, then kept up to date.
struct Kept<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    first: Vec<K>,
    store: Store<K>,
}

impl<K> Kept<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// With the events that keep it up to date.
    fn of(first: Vec<K>, api: Api<K>, config: watcher::Config) -> (Self, impl Stream<Item = Event> + Unpin) {
        let (store, events) = stored(api, config);
        (Self { first, store }, events)
    }

    /// What there is now. What may not be listed stays as it was asked for: left out.
    async fn now(&self) -> Vec<K> {
        if is_filled(&self.store).await {
            held(&self.store)
        } else {
            self.first.clone()
        }
    }
}

/// Until interrupted, or until the end.
pub(super) async fn watch(
    cluster: &Cluster,
    question: &Question,
    first: Seen,
    style: Style,
    wide: bool,
    end: Option<Duration>,
) -> Result<(), print::Error> {
    let named = question.name.as_ref().map(|name| format!("metadata.name={name}"));
    let config = watcher::Config {
        field_selector: named,
        ..watcher::Config::default()
    };
    let (pipelines, changes) = Kept::of(first.pipelines, question.api(cluster), config);
    let labelled = watcher::Config::default().labels(&question.selector());
    let (pods, moves) = Kept::of(first.pods, question.api(cluster), labelled);
    let all = Api::all(cluster.client.clone());
    let (pools, prices) = Kept::of(first.pools, all, watcher::Config::default());
    let mut events = stream::select_all([
        changes.map(|event| ("pipelines", event)).boxed(),
        moves.map(|event| ("pods", event)).boxed(),
        // Only what the pools are is missing without them.
        prices.map(|event| ("pools", event.or(Ok(())))).boxed(),
    ]);
    let mut screen = Screen::open()?;
    let mut problems = BTreeMap::new();
    let mut tick = tokio::time::interval(TICK);
    let mut over = pin!(async {
        match end {
            Some(end) => tokio::time::sleep(end).await,
            None => std::future::pending().await,
        }
    });
    loop {
        let mut tell = |(of, event): (&'static str, Event)| match event {
            Ok(()) => drop(problems.remove(of)),
            Err(error) => drop(problems.insert(of, said(&error))),
        };
        tokio::select! {
            event = events.next() => {
                let Some(event) = event else { return Ok(()) };
                tell(event);
                // What else comes is part of the same picture.
                let more = async { while let Some(event) = events.next().await { tell(event) } };
                let _ = tokio::time::timeout(TOGETHER, more).await;
            },
            _ = tick.tick(), if screen.terminal => {}
            () = &mut over => return screen.close(),
            interrupted = tokio::signal::ctrl_c() => {
                screen.close()?;
                return interrupted.map_err(print::Error::Runtime);
            }
        }
        let seen = Seen {
            pipelines: pipelines.now().await,
            pods: pods.now().await,
            pools: pools.now().await,
        };
        let mut text = if seen.pipelines.is_empty() {
            question.nothing() + "\n"
        } else {
            tree(&seen, print::now()).text(style, wide)
        };
        for (of, problem) in &problems {
            let _ = write!(text, "\n{of} are not up to date: {problem}; trying again\n");
        }
        if !screen.show(&text)? {
            return Ok(());
        }
    }
}

/// The terminal while it is ours, or a pipe.
struct Screen {
    terminal: bool,
    last: String,
}

impl Screen {
    fn open() -> Result<Self, print::Error> {
        let terminal = std::io::stdout().is_terminal();
        if terminal {
            execute!(std::io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)?;
        }
        Ok(Self {
            terminal,
            last: String::new(),
        })
    }

    /// Draws a picture; in a pipe only one that differs, without the ages that always do. False where nobody reads any more.
    fn show(&mut self, text: &str) -> Result<bool, print::Error> {
        if !self.terminal {
            if self.last == text {
                return Ok(true);
            }
            let gap = if self.last.is_empty() { "" } else { "\n" };
            text.clone_into(&mut self.last);
            let mut out = std::io::stdout().lock();
            return match write!(out, "{gap}{text}").and_then(|()| out.flush()) {
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
                done => done.map(|()| true).map_err(print::Error::Write),
            };
        }
        text.clone_into(&mut self.last);
        let rows = terminal::size().map_or(24, |(_, rows)| usize::from(rows));
        let lines: Vec<&str> = text.lines().collect();
        let fits = if lines.len() <= rows {
            rows
        } else {
            rows.saturating_sub(1)
        };
        let mut frame = String::from("\x1b[H");
        for (at, line) in lines.iter().take(fits).enumerate() {
            frame += if at == 0 { "" } else { "\r\n" };
            frame += line;
            frame += "\x1b[K";
        }
        if lines.len() > rows {
            let left = lines.len() - fits;
            let _ = write!(
                frame,
                "\r\n{left} more lines: name one pipeline, or make the terminal taller\x1b[K"
            );
        }
        frame += "\x1b[J";
        print::write(&frame)?;
        Ok(true)
    }

    /// Gives the terminal back, with the last picture on it.
    fn close(&mut self) -> Result<(), print::Error> {
        if self.terminal {
            self.terminal = false;
            execute!(std::io::stdout(), cursor::Show, terminal::LeaveAlternateScreen)?;
            print::write(&self.last)?;
        }
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // After an error: its line must be seen.
        let _ = self.close();
    }
}
