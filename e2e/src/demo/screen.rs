//! Where the live view goes: a terminal that is redrawn, or a log of lines.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use super::view::{self, Frame, Paint};

/// Shortest time between two pictures.
const REDRAW: Duration = Duration::from_millis(200);
/// Time between two lines about the whole, in a log.
const SUMMARY: Duration = Duration::from_secs(5);

/// The terminal or the log. Dropping it gives the terminal back as it was.
#[derive(Debug)]
pub struct Screen {
    live: bool,
    /// The alternate screen is on.
    taken: bool,
    start: Instant,
    last: Option<Instant>,
    size: (usize, usize),
}

impl Screen {
    /// Standard output, as a terminal if it is one.
    pub fn new() -> Self {
        Self {
            live: std::io::stdout().is_terminal(),
            taken: false,
            start: Instant::now(),
            last: None,
            size: (40, 110),
        }
    }

    /// Whether pictures are drawn.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// A line with the time since the start. While pictures are drawn they tell it instead.
    pub fn say(&self, text: &str) {
        if !self.taken {
            println!("[{:>5.1} s] {text}", self.start.elapsed().as_secs_f64());
        }
    }

    /// Shows a moment: a picture at most five times a second, or a line every five seconds.
    pub fn show(&mut self, frame: &Frame) {
        let pause = if self.live { REDRAW } else { SUMMARY };
        if self.last.is_some_and(|last| last.elapsed() < pause) {
            return;
        }
        self.last = Some(Instant::now());
        if self.live {
            self.draw(frame);
        } else {
            self.say(&view::line(frame));
        }
    }

    fn draw(&mut self, frame: &Frame) {
        let mut text = String::new();
        if !self.taken {
            self.taken = true;
            self.size = size().unwrap_or(self.size);
            // Alternate screen, no cursor, no wrapping.
            text.push_str("\x1b[?1049h\x1b[?25l\x1b[?7l");
        }
        text.push_str("\x1b[H");
        let paint = Paint {
            on: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        let lines = view::lines(frame, self.size.1, paint);
        let shown = lines.len().min(self.size.0);
        for (number, line) in lines.iter().take(shown).enumerate() {
            text.push_str(line);
            text.push_str("\x1b[K");
            if number + 1 < shown {
                text.push_str("\r\n");
            }
        }
        text.push_str("\x1b[J");
        let mut out = std::io::stdout().lock();
        // A terminal that went away is no reason to end the run.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// Ends the pictures: what is said from now on stays in the terminal.
    pub fn leave(&mut self) {
        if std::mem::take(&mut self.taken) {
            self.live = false;
            let mut out = std::io::stdout().lock();
            let _ = out
                .write_all(b"\x1b[?7h\x1b[?25h\x1b[?1049l")
                .and_then(|()| out.flush());
        }
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Rows and columns of the terminal on standard input.
fn size() -> Option<(usize, usize)> {
    let output = std::process::Command::new("stty")
        .arg("size")
        .stdin(std::process::Stdio::inherit())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (rows, columns) = text.trim().split_once(' ')?;
    let (rows, columns) = (rows.parse().ok()?, columns.parse().ok()?);
    (rows > 0 && columns > 0).then_some((rows, columns))
}
