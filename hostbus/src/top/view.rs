//! How the table of nodes looks: live in a terminal, or once as plain text.

use std::cmp::Ordering;
use std::fmt::Write;

use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::{Alignment, Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Row, Table, TableState};

use super::nodes::Summary;

type Compare = fn(&Summary, &Summary) -> Ordering;

/// The columns: title, width, and how two rows compare, the worst first.
const COLUMNS: [(&str, u16, Compare); 9] = [
    ("NODE", 24, |a, b| a.node.cmp(&b.node)),
    ("STATUS", 8, |a, b| b.status.cmp(&a.status).reverse()),
    ("AGE", 6, |a, b| b.age_ms.cmp(&a.age_ms)),
    ("CPU %", 6, |a, b| worst(a.cpu_percent, b.cpu_percent)),
    ("MEM %", 6, |a, b| worst(a.memory_percent, b.memory_percent)),
    ("DISK %", 20, |a, b| worst(a.disk_percent, b.disk_percent)),
    ("NET IN/OUT", 17, |a, b| {
        b.rx_bytes_per_second.cmp(&a.rx_bytes_per_second)
    }),
    ("GPU %", 6, |a, b| worst(a.gpu_percent, b.gpu_percent)),
    ("LOAD", 6, |a, b| worst(a.load1, b.load1)),
];

fn worst(a: Option<f64>, b: Option<f64>) -> Ordering {
    b.partial_cmp(&a).unwrap_or(Ordering::Equal)
}

/// A sample is late when it is older than this many intervals.
const LATE_INTERVALS: u64 = 3;

/// What the user chose: the order of the rows, and the one that is marked.
#[derive(Default)]
pub(crate) struct View {
    column: usize,
    reversed: bool,
    state: TableState,
}

impl View {
    pub(crate) fn press(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char('s') => self.column = (self.column + 1) % COLUMNS.len(),
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Down => self.state.select_next(),
            KeyCode::Up => self.state.select_previous(),
            KeyCode::Home => self.state.select_first(),
            KeyCode::End => self.state.select_last(),
            _ => {}
        }
    }

    pub(crate) fn draw(&mut self, frame: &mut Frame<'_>, connected: bool, mut rows: Vec<Summary>) {
        self.sort(&mut rows);
        let [head, body, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Min(3),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        let online = rows
            .iter()
            .filter(|row| row.status == Some("online"))
            .count();
        let bus = if connected {
            Span::raw("connected")
        } else {
            Span::styled("bus away, trying again", Style::new().fg(Color::Red))
        };
        let title = Line::from(vec![
            Span::styled("hostbus", Style::new().add_modifier(Modifier::BOLD)),
            Span::raw(format!("  {online} of {} nodes online  ", rows.len())),
            bus,
        ]);
        frame.render_widget(title, head);
        let titles = COLUMNS.iter().enumerate().map(|(index, (title, ..))| {
            let mark = match (index == self.column, self.reversed) {
                (true, false) => "▾",
                (true, true) => "▴",
                _ => "",
            };
            Cell::from(format!("{title}{mark}"))
        });
        let table = Table::new(
            rows.iter().map(|row| Row::new(cells(row))),
            COLUMNS.map(|(_, width, _)| Constraint::Length(width)),
        )
        .header(Row::new(titles).style(Style::new().add_modifier(Modifier::REVERSED)))
        .row_highlight_style(Style::new().add_modifier(Modifier::BOLD))
        .column_spacing(1);
        frame.render_stateful_widget(table, body, &mut self.state);
        let keys = Line::from("q quit  s sort by the next column  r reverse  ↑↓ move")
            .style(Style::new().fg(Color::DarkGray))
            .alignment(Alignment::Left);
        frame.render_widget(keys, foot);
    }

    fn sort(&self, rows: &mut [Summary]) {
        let (_, _, compare) = COLUMNS[self.column];
        rows.sort_by(|a, b| {
            let order = compare(a, b);
            if self.reversed {
                order.reverse()
            } else {
                order
            }
        });
    }
}

/// The texts of a row, in the order of [`COLUMNS`].
fn texts(row: &Summary) -> [String; COLUMNS.len()] {
    let number = |value: Option<f64>, decimals: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
    };
    let disk = match (&row.disk_name, row.disk_percent) {
        (Some(name), Some(percent)) => format!("{percent:.1} {name}"),
        _ => "-".to_owned(),
    };
    let bytes = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), short_bytes);
    [
        row.node.clone(),
        row.status.unwrap_or("-").to_owned(),
        row.age_ms.map_or_else(|| "-".to_owned(), short_age),
        number(row.cpu_percent, 1),
        number(row.memory_percent, 1),
        disk,
        format!(
            "{} / {}",
            bytes(row.rx_bytes_per_second),
            bytes(row.tx_bytes_per_second)
        ),
        number(row.gpu_percent, 0),
        number(row.load1, 2),
    ]
}

fn cells(row: &Summary) -> Vec<Cell<'static>> {
    let level = |percent: Option<f64>| match percent {
        Some(percent) if percent >= 90.0 => Style::new().fg(Color::Red),
        Some(percent) if percent >= 75.0 => Style::new().fg(Color::Yellow),
        _ => Style::new(),
    };
    let late = row.age_ms > row.interval_ms.map(|ms| u64::from(ms) * LATE_INTERVALS);
    let styles = [
        Style::new(),
        match row.status {
            Some("online") => Style::new().fg(Color::Green),
            Some(_) => Style::new().fg(Color::Red),
            None => Style::new(),
        },
        if late && row.interval_ms.is_some() {
            Style::new().fg(Color::Yellow)
        } else {
            Style::new()
        },
        level(row.cpu_percent),
        level(row.memory_percent),
        level(row.disk_percent),
        Style::new(),
        level(row.gpu_percent),
        Style::new(),
    ];
    texts(row)
        .into_iter()
        .zip(styles)
        .map(|(text, style)| Cell::from(text).style(style))
        .collect()
}

/// The table as plain text.
pub(crate) fn plain(rows: &[Summary]) -> String {
    let mut text = String::new();
    let mut line = |cells: [&str; COLUMNS.len()]| {
        let mut row = String::new();
        for (cell, (_, width, _)) in cells.iter().zip(COLUMNS) {
            // Writing to a String can't fail.
            let _ = write!(row, "{cell:<width$} ", width = usize::from(width));
        }
        text.push_str(row.trim_end());
        text.push('\n');
    };
    line(COLUMNS.map(|(title, ..)| title));
    for row in rows {
        let texts = texts(row);
        line(std::array::from_fn(|index| texts[index].as_str()));
    }
    text
}

fn short_age(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..=119 => format!("{seconds}s"),
        seconds @ 120..=7199 => format!("{}m", seconds / 60),
        seconds @ 7200..=172_799 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// Bytes with a decimal prefix, as network rates are given.
pub(crate) fn short_bytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        if value < 999.5 {
            let decimals = usize::from(unit != "B" && value < 99.95);
            return format!("{value:.decimals$}{unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.1}PB")
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn row(node: &str, cpu: Option<f64>) -> Summary {
        Summary {
            node: node.to_owned(),
            status: Some("online"),
            age_ms: Some(4_200),
            interval_ms: Some(10_000),
            cpu_percent: cpu,
            memory_percent: Some(41.26),
            disk_percent: Some(93.0),
            disk_name: Some("/data".to_owned()),
            rx_bytes_per_second: Some(1_234_567),
            tx_bytes_per_second: Some(87),
            gpu_percent: None,
            load1: Some(0.5),
        }
    }

    fn drawn(view: &mut View, rows: Vec<Summary>) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(120, 6)).unwrap();
        terminal.draw(|frame| view.draw(frame, true, rows)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| {
            (0..120)
                .map(|x| buffer[(x, y)].symbol())
                .collect::<String>()
        };
        (0..6).map(|y| line(y).trim_end().to_owned()).collect()
    }

    #[test]
    fn the_table_shows_every_node_with_its_numbers() {
        let lines = drawn(
            &mut View::default(),
            vec![row("home.a", Some(12.34)), row("home.b", None)],
        );
        assert!(lines[0].contains("2 of 2 nodes online"), "{lines:?}");
        assert!(lines[1].starts_with("NODE"), "{lines:?}");
        for text in [
            "home.a",
            "online",
            "4s",
            "12.3",
            "41.3",
            "93.0 /data",
            "1.2MB / 87B",
            "0.50",
        ] {
            assert!(lines[2].contains(text), "{text}: {lines:?}");
        }
        assert!(lines[3].contains("home.b"), "{lines:?}");
    }

    #[test]
    fn s_sorts_by_the_next_column_and_r_reverses() {
        let mut view = View::default();
        let rows = || vec![row("home.a", Some(1.0)), row("home.b", Some(99.0))];
        let first = |view: &mut View| drawn(view, rows())[2].split(' ').next().unwrap().to_owned();
        assert_eq!(first(&mut view), "home.a");
        for _ in 0..3 {
            view.press(KeyCode::Char('s'));
        }
        assert_eq!(first(&mut view), "home.b");
        view.press(KeyCode::Char('r'));
        assert_eq!(first(&mut view), "home.a");
    }

    #[test]
    fn plain_text_has_a_line_a_node() {
        let text = plain(&[row("home.a", None)]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].starts_with("NODE") && lines[1].contains("93.0 /data"),
            "{text}"
        );
    }

    #[test]
    fn bytes_and_ages_are_short() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.0kB"),
            (99_960, "100kB"),
            (999_600, "1.0MB"),
        ] {
            assert_eq!(short_bytes(bytes), text);
        }
        for (ms, text) in [
            (900, "0s"),
            (119_999, "119s"),
            (120_000, "2m"),
            (90_000_000, "25h"),
        ] {
            assert_eq!(short_age(ms), text);
        }
    }
}
