//! `get -w`: the tree again whenever something changes.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher;
use ratatui::crossterm::{cursor, execute, terminal};

use super::Question;
use crate::api::{ComputePool, TieredPipeline};
use crate::cli::cluster::Cluster;
use crate::cli::print;
use crate::cli::watch::{held, is_filled, said, stored};
use crate::view::Style;
use crate::view::tree::{Seen, tree};

/// Changes within so long are drawn together.
const TOGETHER: Duration = Duration::from_millis(200);
/// How often ages move.
const TICK: Duration = Duration::from_secs(1);

/// Until interrupted.
pub(super) async fn watch(
    cluster: &Cluster,
    question: &Question,
    pools: Vec<ComputePool>,
    style: Style,
    wide: bool,
) -> Result<(), print::Error> {
    let named = question.name.as_ref().map(|name| format!("metadata.name={name}"));
    let config = watcher::Config {
        field_selector: named,
        ..watcher::Config::default()
    };
    let (pipelines, changes) = stored(question.api::<TieredPipeline>(cluster), config);
    let pods = watcher::Config::default().labels(&question.selector());
    let (pods, moves) = stored(question.api::<Pod>(cluster), pods);
    let mut events = stream::select(changes, moves);
    let mut screen = Screen::open()?;
    let mut problem = None;
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(())) => {
                    problem = None;
                    // What else comes is part of the same picture.
                    let more = async { while let Some(Ok(())) = events.next().await {} };
                    let _ = tokio::time::timeout(TOGETHER, more).await;
                }
                Some(Err(error)) => problem = Some(said(&error)),
                None => return Ok(()),
            },
            _ = tick.tick(), if screen.terminal => {}
            interrupted = tokio::signal::ctrl_c() => {
                screen.close()?;
                return interrupted.map_err(print::Error::Runtime);
            }
        }
        // Half a picture would show pipelines without their pods.
        if !is_filled(&pipelines).await || !is_filled(&pods).await {
            continue;
        }
        let seen = Seen {
            pipelines: held(&pipelines),
            pods: held(&pods),
            pools: pools.clone(),
        };
        let mut text = if seen.pipelines.is_empty() {
            question.nothing() + "\n"
        } else {
            tree(&seen, print::now()).text(style, wide)
        };
        if let Some(problem) = &problem {
            text = format!("{text}\nnot up to date: {problem}; trying again\n");
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
