//! `tiercel top`: pools and stages, live.

mod screen;
#[cfg(test)]
mod tests;

use std::io::IsTerminal as _;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use kube::Api;
use kube::api::ListParams;
use kube::runtime::watcher;
use ratatui::crossterm::event::{self, Event as Input, KeyEvent, KeyEventKind};
use tokio::sync::mpsc;

use super::cluster::{self, Cluster, NotShown, Scope};
use super::get::listed;
use super::operator::Installed;
use super::print::{self, Format, Look};
use super::watch::{held, is_filled, said, stored};
use crate::api::decimal::{Decimal, money};
use crate::api::{ComputePool, TieredPipeline};
use crate::view::top::{Order, Overview, overview_of, pools, stages};
use crate::view::tree::{Seen, tree};
use crate::view::{State, Style};
use screen::{Flow, Picture, Screen};

/// Changes within so long are drawn together.
const TOGETHER: Duration = Duration::from_millis(200);
/// How long a look for keys waits; also how long the reader of keys outlives the screen.
const KEYS: Duration = Duration::from_millis(250);

/// Arguments of `tiercel top`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    scope: Scope,
    /// Print the tables once, as in a pipe.
    #[arg(long)]
    once: bool,
    /// `text`, `json` or `yaml`; the latter two are printed once.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    output: Format,
    #[command(flatten)]
    look: Look,
    #[command(flatten)]
    installed: Installed,
}

/// Runs the command.
///
/// # Errors
/// When the cluster does not show pools or pipelines.
pub fn run(arguments: &Arguments) -> Result<(), NotShown> {
    print::wait(top(arguments))
}

async fn top(arguments: &Arguments) -> Result<(), NotShown> {
    let cluster = arguments.scope.target.connect().await?;
    let namespace = arguments.scope.within(&cluster);
    let api: Api<TieredPipeline> = match &namespace {
        Some(namespace) => Api::namespaced(cluster.client.clone(), namespace),
        None => Api::all(cluster.client.clone()),
    };
    // Also before the screen is taken: what is wrong is said and ends the command here.
    let (pipelines, pools) = seen(&cluster, &api).await?;
    arguments.installed.warn(&cluster).await;
    if let Some(document) = arguments.output.document(&overview(&pipelines, &pools))? {
        return Ok(print::write(&document)?);
    }
    let style = arguments.look.style();
    if arguments.once || !std::io::stdout().is_terminal() {
        let picture = picture(pipelines, &pools, style);
        return Ok(print::write(&plain(&picture, style))?);
    }
    Ok(live(&cluster, api, style).await?)
}

async fn seen(
    cluster: &Cluster,
    api: &Api<TieredPipeline>,
) -> Result<(Vec<TieredPipeline>, Vec<ComputePool>), cluster::Error> {
    let pipelines = listed(api, ListParams::default());
    let pipelines = cluster
        .ask("a pipeline", "list tieredpipelines there", pipelines)
        .await?;
    let pools: Api<ComputePool> = Api::all(cluster.client.clone());
    let pools = cluster.ask("a pool", "list computepools", listed(&pools, ListParams::default()));
    Ok((pipelines, pools.await?))
}

/// What the tables are made of, for programs.
fn overview(pipelines: &[TieredPipeline], pools: &[ComputePool]) -> Overview {
    let seen = Seen {
        pipelines: pipelines.to_vec(),
        ..Seen::default()
    };
    overview_of(tree(&seen, print::now()), pools)
}

fn picture(pipelines: Vec<TieredPipeline>, all: &[ComputePool], style: Style) -> Picture {
    let seen = Seen {
        pipelines,
        ..Seen::default()
    };
    let tree = tree(&seen, print::now());
    let ready = tree
        .pipelines
        .iter()
        .filter(|pipeline| pipeline.state == State::Ready)
        .count();
    let replicas: i32 = tree.pipelines.iter().map(|pipeline| pipeline.replicas).sum();
    let micros = |text: &String| Decimal(text.clone()).micros().ok();
    let costs = tree
        .pipelines
        .iter()
        .filter_map(|pipeline| pipeline.cost_per_hour.as_ref());
    let cost: u64 = costs.filter_map(micros).sum();
    let dot = style.dot();
    Picture {
        headline: format!(
            "{ready} of {} pipelines Ready{dot}{replicas} replicas{dot}{}/h{dot}{} pools",
            tree.pipelines.len(),
            money(cost),
            all.len()
        ),
        pools: pools(all, style),
        stages: stages(&tree, style),
        problem: None,
    }
}

fn plain(picture: &Picture, style: Style) -> String {
    let order = Order::default();
    let mut lines = vec![picture.headline.clone(), String::new()];
    lines.extend(picture.pools.lines(&order, style));
    lines.push(String::new());
    lines.extend(picture.stages.lines(&order, style));
    lines.join("\n") + "\n"
}

/// Until somebody leaves.
async fn live(cluster: &Cluster, api: Api<TieredPipeline>, style: Style) -> Result<(), print::Error> {
    let (pipelines, changes) = stored(api, watcher::Config::default());
    let (pools, others) = stored(
        Api::<ComputePool>::all(cluster.client.clone()),
        watcher::Config::default(),
    );
    let mut events = stream::select(changes, others);
    let mut keys = keys();
    let mut terminal = ratatui::try_init().map_err(print::Error::Write)?;
    // Whatever happens: the terminal goes back.
    let _restored = Restored;
    let mut screen = Screen::default();
    let mut shown = picture(Vec::new(), &[], style);
    "reading the cluster".clone_into(&mut shown.headline);
    loop {
        terminal
            .draw(|frame| screen.draw(frame, &shown, style))
            .map_err(print::Error::Write)?;
        tokio::select! {
            event = events.next() => {
                let problem = match event {
                    Some(Ok(())) => {
                        let more = async { while let Some(Ok(())) = events.next().await {} };
                        let _ = tokio::time::timeout(TOGETHER, more).await;
                        None
                    }
                    Some(Err(error)) => Some(said(&error)),
                    None => return Ok(()),
                };
                if is_filled(&pipelines).await && is_filled(&pools).await {
                    shown = picture(held(&pipelines), &held(&pools), style);
                }
                shown.problem = problem;
            }
            key = keys.recv() => match key {
                Some(Input::Key(key)) if pressed(&key) => {
                    if screen.key(key, &shown) == Flow::Leave {
                        return Ok(());
                    }
                }
                Some(_) => {}
                None => return Ok(()),
            },
        }
    }
}

fn pressed(key: &KeyEvent) -> bool {
    key.kind != KeyEventKind::Release
}

/// Keys and changes of the terminal's size, from a thread of their own: looking for them blocks.
fn keys() -> mpsc::UnboundedReceiver<Input> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        while !sender.is_closed() {
            let input = match event::poll(KEYS) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let Ok(input) = input else { return };
            if sender.send(input).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Gives the terminal back when it goes.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
