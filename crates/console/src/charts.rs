//! Small drawings: a bar of parts, columns over time, lines over time.
//!
//! They are SVG made here, stretched to the width of the page; words stand beside them as text, so that they are not
//! stretched. Each comes with a table of the same numbers for whoever does not see it.

/// One part of a bar.
pub(crate) struct Part {
    /// Its class: `good`, `waived` or `bad`.
    pub(crate) class: &'static str,
    /// Where it begins, in thousandths of the bar.
    pub(crate) x: usize,
    /// How wide it is, in thousandths.
    pub(crate) width: usize,
}

/// Puts parts side by side so that they fill a bar of a thousand; parts of nothing are left out.
pub(crate) fn bar(parts: [(&'static str, usize); 3]) -> Vec<Part> {
    let total: usize = parts.iter().map(|(_, count)| count).sum();
    let mut bar = Vec::new();
    let mut before = 0;
    for (class, count) in parts.into_iter().filter(|(_, count)| *count > 0) {
        let x = before * 1_000 / total;
        before += count;
        bar.push(Part { class, x, width: before * 1_000 / total - x });
    }
    bar
}

/// How wide and how high a chart is, in its own units.
const WIDTH: u64 = 1_000;
const HEIGHT: u64 = 100;

/// Columns over time, each of parts that stand on each other.
pub(crate) struct Columns {
    pub(crate) columns: Vec<Column>,
    /// What the highest place of the chart stands for.
    pub(crate) top: u64,
}

/// One column.
pub(crate) struct Column {
    /// Where it begins, and how wide it is.
    pub(crate) x: u64,
    pub(crate) width: u64,
    pub(crate) parts: Vec<ColumnPart>,
    /// What it stands for, in words.
    pub(crate) title: String,
}

/// A part of a column.
pub(crate) struct ColumnPart {
    /// Its class: `good`, `waived` or `bad`.
    pub(crate) class: &'static str,
    pub(crate) y: u64,
    pub(crate) height: u64,
}

/// Lines over time.
pub(crate) struct Lines {
    pub(crate) lines: Vec<Line>,
    /// What the highest place of the chart stands for.
    pub(crate) top: u64,
}

/// One line, in pieces: it has a gap where nothing is known.
pub(crate) struct Line {
    /// Its class.
    pub(crate) class: &'static str,
    /// The corners of each piece, for `points`.
    pub(crate) pieces: Vec<String>,
}

/// Puts columns side by side, as high as their numbers; from each the lowest part first.
pub(crate) fn columns<const N: usize>(
    steps: impl ExactSizeIterator<Item = ([(&'static str, u64); N], String)>,
) -> Columns {
    let count = steps.len().max(1) as u64;
    let steps: Vec<_> = steps.collect();
    let highest = steps.iter().map(|(parts, _)| parts.iter().map(|(_, calls)| calls).sum()).max();
    let top = round_up(highest.unwrap_or(0));
    let columns = steps.into_iter().zip(0_u64..).map(|((parts, title), at)| {
        let (x, end) = (at * WIDTH / count, (at + 1) * WIDTH / count);
        let mut below = 0;
        let parts = parts.into_iter().filter(|(_, calls)| *calls > 0).map(|(class, calls)| {
            let low = below * HEIGHT / top;
            below += calls;
            // What is there is seen, however little it is.
            let height = (below * HEIGHT / top - low).max(1);
            ColumnPart { class, y: HEIGHT.saturating_sub(low + height), height }
        });
        // A gap between columns, where there is room for one.
        let width = (end - x).saturating_sub(if end - x > 4 { 2 } else { 0 }).max(1);
        Column { x, width, parts: parts.collect(), title }
    });
    Columns { columns: columns.collect(), top }
}

/// Draws a line for each number of the steps, from the first step to the last.
pub(crate) fn lines<const N: usize>(classes: [&'static str; N], steps: &[[Option<u64>; N]]) -> Lines {
    let highest = steps.iter().flatten().flatten().copied().max();
    let top = round_up(highest.unwrap_or(0));
    let last = steps.len().saturating_sub(1).max(1) as u64;
    let lines = classes.into_iter().enumerate().map(|(of, class)| {
        let mut pieces: Vec<Vec<(u64, u64)>> = vec![Vec::new()];
        for (values, at) in steps.iter().zip(0_u64..) {
            let value = values.get(of).copied().flatten();
            match (value, pieces.last_mut()) {
                (Some(value), Some(piece)) => piece.push((at * WIDTH / last, HEIGHT - value * HEIGHT / top)),
                (None, Some(piece)) if !piece.is_empty() => pieces.push(Vec::new()),
                _ => {}
            }
        }
        let pieces = pieces.into_iter().filter(|piece| !piece.is_empty()).map(|mut piece| {
            // A line of one corner is not drawn: it gets a little width.
            if let [(x, y)] = piece[..] {
                piece = vec![(x.saturating_sub(8), y), ((x + 8).min(WIDTH), y)];
            }
            piece.iter().map(|(x, y)| format!("{x},{y}")).collect::<Vec<_>>().join(" ")
        });
        Line { class, pieces: pieces.collect() }
    });
    Lines { lines: lines.collect(), top }
}

/// Rounds up to 1, 2 or 5 times a power of ten: what a scale ends with.
fn round_up(value: u64) -> u64 {
    let mut power = 1_u64;
    loop {
        for step in [1, 2, 5] {
            let bound = power.saturating_mul(step);
            if bound >= value {
                return bound.max(1);
            }
        }
        power = power.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_bar_fill_it_without_gaps() {
        let parts = bar([("good", 1), ("waived", 0), ("bad", 2)]);
        assert_eq!(parts.len(), 2);
        assert_eq!((parts[0].x, parts[0].width), (0, 333));
        assert_eq!((parts[1].x, parts[1].x + parts[1].width), (333, 1_000));
        assert!(bar([("good", 0), ("waived", 0), ("bad", 0)]).is_empty());
    }

    #[test]
    fn a_scale_ends_with_a_round_number() {
        assert_eq!([0, 1, 3, 7, 10, 11, 21, 51, 999].map(round_up), [1, 1, 5, 10, 10, 20, 50, 100, 1_000]);
        assert_eq!(round_up(u64::MAX), u64::MAX);
    }

    #[test]
    fn columns_fill_the_width_and_stay_within_the_height() {
        let steps = [[("good", 100), ("bad", 0)], [("good", 1), ("bad", 99)], [("good", 0), ("bad", 0)]];
        let chart = columns(steps.into_iter().map(|parts| (parts, String::new())));
        assert_eq!((chart.top, chart.columns.len()), (100, 3));
        let ends = chart.columns.last().map(|column| column.x + column.width);
        assert!(ends.is_some_and(|end| (990..=1_000).contains(&end)), "{ends:?}");
        for part in chart.columns.iter().flat_map(|column| &column.parts) {
            assert!(part.height >= 1 && part.y + part.height <= 100);
        }
        assert_eq!(chart.columns.iter().map(|column| column.parts.len()).collect::<Vec<_>>(), [1, 2, 0]);
    }

    #[test]
    fn a_line_has_a_gap_where_nothing_is_known() {
        let steps = [[Some(10)], [Some(5)], [None], [Some(0)], [None]];
        let chart = lines(["p50"], &steps);
        assert_eq!(chart.top, 10);
        assert_eq!(chart.lines[0].pieces, ["0,0 250,50", "742,100 758,100"]);
    }
}
