//! The screen of `top`: what keys do to it, and how it is drawn.

use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style as Look};
use ratatui::text::{Line as Text, Span};
use ratatui::widgets::{Row, Table, TableState};

use crate::view::top::{Order, Sheet};
use crate::view::{Cell, Style, Tone};

/// Spaces between columns.
const GAP: u16 = 2;

/// Which table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pane {
    /// Pools.
    #[default]
    Pools,
    /// Stages.
    Stages,
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// Go on.
    Stay,
    /// End.
    Leave,
}

/// One table's state.
#[derive(Debug, Default)]
struct Panel {
    order: Order,
    table: TableState,
}

/// All that keys change.
#[derive(Debug, Default)]
pub(super) struct Screen {
    pane: Pane,
    pools: Panel,
    stages: Panel,
    /// The filter is being typed.
    typing: bool,
}

/// What is shown.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    pub(super) pools: Sheet,
    pub(super) stages: Sheet,
    /// One line about the whole.
    pub(super) headline: String,
    /// Why it may be out of date.
    pub(super) problem: Option<String>,
}

impl Screen {
    fn panel(&mut self) -> &mut Panel {
        match self.pane {
            Pane::Pools => &mut self.pools,
            Pane::Stages => &mut self.stages,
        }
    }

    /// One key.
    pub(super) fn key(&mut self, key: KeyEvent, picture: &Picture) -> Flow {
        let columns = match self.pane {
            Pane::Pools => picture.pools.titles.len(),
            Pane::Stages => picture.stages.titles.len(),
        };
        if key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'd')) {
            return Flow::Leave;
        }
        if self.typing {
            let panel = self.panel();
            match key.code {
                KeyCode::Enter => self.typing = false,
                KeyCode::Esc => {
                    panel.order.filter.clear();
                    self.typing = false;
                }
                KeyCode::Backspace => drop(panel.order.filter.pop()),
                KeyCode::Char(letter) => panel.order.filter.push(letter),
                _ => {}
            }
            return Flow::Stay;
        }
        let panel = self.panel();
        match key.code {
            KeyCode::Char('q') => return Flow::Leave,
            KeyCode::Tab | KeyCode::BackTab => {
                self.pane = match self.pane {
                    Pane::Pools => Pane::Stages,
                    Pane::Stages => Pane::Pools,
                };
            }
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Esc => panel.order.filter.clear(),
            KeyCode::Char('r') => panel.order.reverse = !panel.order.reverse,
            KeyCode::Char('>') | KeyCode::Right => {
                panel.order.column = match panel.order.column {
                    None => Some(0),
                    Some(column) => (column + 1 < columns).then_some(column + 1),
                };
            }
            KeyCode::Char('<') | KeyCode::Left => {
                panel.order.column = match panel.order.column {
                    None => columns.checked_sub(1),
                    Some(column) => column.checked_sub(1),
                };
            }
            KeyCode::Down | KeyCode::Char('j') => panel.table.select_next(),
            KeyCode::Up | KeyCode::Char('k') => panel.table.select_previous(),
            KeyCode::PageDown => panel.table.scroll_down_by(10),
            KeyCode::PageUp => panel.table.scroll_up_by(10),
            KeyCode::Home => panel.table.select_first(),
            KeyCode::End => panel.table.select_last(),
            _ => {}
        }
        Flow::Stay
    }

    /// Draws all of it.
    pub(super) fn draw(&mut self, frame: &mut Frame, picture: &Picture, style: Style) {
        let few = u16::try_from(picture.pools.lines.len())
            .unwrap_or(u16::MAX)
            .saturating_add(2);
        let half = frame.area().height / 2;
        let [head, pools, stages, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(few.min(half).max(3)),
            Constraint::Min(3),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        let headline = match &picture.problem {
            None => Span::raw(picture.headline.clone()),
            Some(problem) => Span::styled(format!("not up to date: {problem}"), look(Tone::Bad, style)),
        };
        frame.render_widget(Text::from(headline), head);
        let active = self.pane;
        panel(
            frame,
            pools,
            &picture.pools,
            &mut self.pools,
            active == Pane::Pools,
            style,
        );
        panel(
            frame,
            stages,
            &picture.stages,
            &mut self.stages,
            active == Pane::Stages,
            style,
        );
        let typing = self.typing;
        let order = &self.panel().order;
        let keys = if typing {
            format!("filter: {}_   Enter keeps it, Esc takes it away", order.filter)
        } else {
            let filter = if order.filter.is_empty() {
                String::new()
            } else {
                format!("   filter: {}", order.filter)
            };
            format!("Tab other table  <> sort  r reverse  / filter  arrows move  q quit{filter}")
        };
        frame.render_widget(Text::from(Span::styled(keys, look(Tone::Quiet, style))), foot);
    }
}

fn panel(frame: &mut Frame, area: Rect, sheet: &Sheet, panel: &mut Panel, active: bool, style: Style) {
    let lines = sheet.ordered(&panel.order);
    let columns = sheet.columns(Some(usize::from(area.width)));
    let last = columns.last().copied();
    let constraints = columns.iter().map(|&column| {
        let width = u16::try_from(sheet.width(column)).unwrap_or(u16::MAX);
        if Some(column) == last {
            Constraint::Min(4)
        } else {
            Constraint::Length(width)
        }
    });
    let titles = columns.iter().map(|&column| {
        let mark = match (panel.order.column == Some(column), panel.order.reverse) {
            (false, _) => "",
            (true, false) if style.unicode => "▲",
            (true, true) if style.unicode => "▼",
            (true, false) => "^",
            (true, true) => "v",
        };
        let title = Text::from(format!(
            "{}{mark}",
            sheet.titles.get(column).copied().unwrap_or_default()
        ));
        if sheet.right.contains(&column) {
            title.right_aligned()
        } else {
            title
        }
    });
    let heading = if active {
        Look::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
    } else {
        look(Tone::Quiet, style)
    };
    let rows = lines.iter().map(|line| {
        Row::new(columns.iter().filter_map(|&column| {
            let text = painted(line.cells.get(column)?, style);
            Some(if sheet.right.contains(&column) {
                text.right_aligned()
            } else {
                text
            })
        }))
    });
    let chosen = if active {
        Look::new().add_modifier(Modifier::REVERSED)
    } else {
        Look::new()
    };
    let table = Table::new(rows, constraints)
        .header(Row::new(titles).style(heading))
        .column_spacing(GAP)
        .row_highlight_style(chosen);
    frame.render_stateful_widget(table, area, &mut panel.table);
}

fn painted(cell: &Cell, style: Style) -> Text<'static> {
    let spans = cell
        .parts()
        .map(|(tone, text)| Span::styled(text.to_owned(), look(tone, style)));
    Text::from(spans.collect::<Vec<_>>())
}

/// From the terminal's own sixteen colours.
fn look(tone: Tone, style: Style) -> Look {
    if !style.colour {
        return Look::new();
    }
    match tone {
        Tone::Plain => Look::new(),
        Tone::Good => Look::new().fg(Color::Green),
        Tone::Busy => Look::new().fg(Color::Cyan),
        Tone::Warn => Look::new().fg(Color::Yellow),
        Tone::Bad => Look::new().fg(Color::Red),
        Tone::Quiet => Look::new().fg(Color::DarkGray),
        Tone::Strong => Look::new().add_modifier(Modifier::BOLD),
    }
}
