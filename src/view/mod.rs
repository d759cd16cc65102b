//! Pure: from objects of the cluster to what people see of them. Models that serialize, and the same as text.

pub mod asked;
pub mod cost;
pub mod facts;
pub mod graph;
pub mod hour;
pub mod page;
pub mod status;
pub mod top;
pub mod tree;

mod status_text;
mod table;
mod tree_text;

#[cfg(test)]
mod tests;

use serde::Serialize;

pub use table::{Cell, Layout, Row, wrapped};

/// What the reader's terminal can show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Colours, as ANSI sequences.
    pub colour: bool,
    /// Signs beyond ASCII.
    pub unicode: bool,
    /// Columns; `None` in a pipe, where nothing is cut.
    pub width: Option<usize>,
}

/// How a text stands out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// On its way.
    Busy,
    /// Worth a look.
    Warn,
    /// Broken.
    Bad,
    /// Less important.
    Quiet,
    /// More important.
    Strong,
}

impl Tone {
    /// Parameters of the ANSI sequence. From the terminal's own sixteen colours, so that dark and light themes both read.
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Busy => Some("36"),
            Self::Warn => Some("33"),
            Self::Bad => Some("31"),
            Self::Quiet => Some("90"),
            Self::Strong => Some("1"),
        }
    }
}

impl Style {
    /// The text in a tone.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        match tone.code().filter(|_| self.colour && !text.is_empty()) {
            None => text.to_owned(),
            Some(code) => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }

    /// Sign and word of a state.
    pub fn state(self, state: State) -> Cell {
        Cell::toned(state.tone(), format!("{} {}", self.sign(state), state.word()))
    }

    /// Sign of a state: one column wide.
    pub const fn sign(self, state: State) -> &'static str {
        let (sign, ascii) = state.signs();
        if self.unicode { sign } else { ascii }
    }

    /// What stands between parts of a line.
    pub const fn dot(self) -> &'static str {
        if self.unicode { " · " } else { " - " }
    }
}

/// How a node of the tree is, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum State {
    /// Does what it is for.
    Ready,
    /// Nothing runs there, and nothing has to.
    Idle,
    /// No replica until there is work.
    Asleep,
    /// Nothing is decided: somebody paused it.
    Paused,
    /// On its way out.
    Leaving,
    /// On its way.
    Starting,
    /// Nothing is known yet.
    Unknown,
    /// Not where it may run, or no room there.
    Waiting,
    /// It serves, but not as it should.
    Degraded,
    /// It does not run, and will not by itself.
    Failing,
}

impl State {
    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Idle => "Idle",
            Self::Asleep => "Asleep",
            Self::Paused => "Paused",
            Self::Leaving => "Leaving",
            Self::Starting => "Starting",
            Self::Unknown => "Unknown",
            Self::Waiting => "Waiting",
            Self::Degraded => "Degraded",
            Self::Failing => "Failing",
        }
    }

    const fn signs(self) -> (&'static str, &'static str) {
        match self {
            Self::Ready => ("✔", "+"),
            Self::Idle | Self::Asleep => ("○", "o"),
            Self::Paused => ("‖", "="),
            Self::Leaving => ("◌", "-"),
            Self::Starting => ("◐", "~"),
            Self::Unknown => ("?", "?"),
            Self::Waiting => ("◷", "."),
            Self::Degraded => ("⚠", "!"),
            Self::Failing => ("✖", "x"),
        }
    }

    /// Its tone.
    pub const fn tone(self) -> Tone {
        match self {
            Self::Ready => Tone::Good,
            Self::Idle | Self::Asleep | Self::Leaving => Tone::Quiet,
            Self::Starting | Self::Unknown => Tone::Busy,
            Self::Waiting | Self::Degraded | Self::Paused => Tone::Warn,
            Self::Failing => Tone::Bad,
        }
    }
}

/// An age as kubectl writes it: the two largest units while they say something.
pub fn age(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        ..120 => format!("{seconds}s"),
        120..600 => match seconds % 60 {
            0 => format!("{minutes}m"),
            rest => format!("{minutes}m{rest}s"),
        },
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => match minutes % 60 {
            0 => format!("{hours}h"),
            rest => format!("{hours}h{rest}m"),
        },
        28_800..172_800 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

/// Seconds from a time of the API to `now`.
pub fn seconds_since(time: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Time, now: jiff::Timestamp) -> i64 {
    now.as_second() - time.0.as_second()
}
