//! Small drawings: a bar of parts.

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
}
