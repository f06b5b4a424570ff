//! A small chart of one field, drawn with characters.

use std::fmt::Write;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::symbols::Marker;
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Widget};

const WIDTH: u16 = 78;
const HEIGHT: u16 = 11;

/// Draws `points`, each a time and a value, with `left` and `right` written at the ends of the time
/// axis. Empty without points.
pub(crate) fn draw(points: &[(f64, f64)], left: &str, right: &str) -> String {
    let Some((lowest, highest)) = bounds(points.iter().map(|(_, value)| *value)) else {
        return String::new();
    };
    let (earliest, latest) = bounds(points.iter().map(|(time, _)| *time)).unwrap_or((0.0, 1.0));
    let label = |value: f64| format!("{:>10}", short(value));
    let chart = Chart::new(vec![
        Dataset::default()
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .data(points),
    ])
    .x_axis(
        Axis::default()
            .bounds([earliest, latest])
            .labels([left, right]),
    )
    .y_axis(Axis::default().bounds([lowest, highest]).labels([
        label(lowest),
        label((lowest + highest) / 2.0),
        label(highest),
    ]));
    let area = Rect::new(0, 0, WIDTH, HEIGHT);
    let mut buffer = Buffer::empty(area);
    chart.render(area, &mut buffer);
    let mut text = String::new();
    for y in 0..HEIGHT {
        let line: String = (0..WIDTH).map(|x| buffer[(x, y)].symbol()).collect();
        // Writing to a String can't fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// The lowest and highest value, apart even when all are the same.
fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (lowest, highest) = values.fold(None, |bounds: Option<(f64, f64)>, value| {
        let (lowest, highest) = bounds.unwrap_or((value, value));
        Some((lowest.min(value), highest.max(value)))
    })?;
    if lowest == highest {
        Some((lowest - 0.5, highest + 0.5))
    } else {
        Some((lowest, highest))
    }
}

/// A number in at most ten characters.
pub(crate) fn short(value: f64) -> String {
    let size = value.abs();
    for (limit, unit) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")] {
        if size >= limit {
            let scaled = value / if unit == "k" { 1e3 } else { limit };
            return format!("{scaled:.1}{unit}");
        }
    }
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chart_names_its_ends_and_rises_with_the_values() {
        let points: Vec<_> = (0..100).map(|i| (f64::from(i), f64::from(i))).collect();
        let text = draw(&points, "09:00", "10:00");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), usize::from(HEIGHT));
        assert!(lines[0].contains("99"), "{text}");
        assert!(text.contains("09:00") && text.contains("10:00"), "{text}");
        let first_dot = |line: &str| {
            line.chars()
                .position(|c| ('\u{2801}'..='\u{28ff}').contains(&c))
        };
        assert!(
            first_dot(lines[0]) > first_dot(lines[HEIGHT as usize - 4]),
            "{text}"
        );
    }

    #[test]
    fn a_flat_line_and_nothing_at_all_can_be_drawn() {
        assert!(draw(&[(1.0, 5.0), (2.0, 5.0)], "a", "b").contains('5'));
        assert!(draw(&[(1.0, 5.0)], "a", "b").contains('5'));
        assert_eq!(draw(&[], "a", "b"), "");
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (12.5, "12.5"),
            (12_345.0, "12.3k"),
            (2.5e9, "2.5G"),
        ] {
            assert_eq!(short(value), text);
        }
    }
}
