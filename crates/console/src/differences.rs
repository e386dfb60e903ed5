//! What changed between two texts, line by line.

use std::time::Duration;

use similar::{ChangeTag, TextDiff};

/// Lines around a change that are shown with it.
const AROUND: usize = 3;

/// Longest time that the shortest difference is looked for; after it a longer one does.
const LOOKING: Duration = Duration::from_millis(100);

/// A line of two texts that are compared.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DiffLine {
    /// Style: `same`, `gone`, `come`, or `skipped` for lines that are left out.
    pub(crate) class: &'static str,
    /// Stands in front of it, for whoever sees no colour.
    pub(crate) sign: &'static str,
    /// What the sign says, aloud.
    pub(crate) says: &'static str,
    /// Number of the line before.
    pub(crate) before: Option<usize>,
    /// Number of the line after.
    pub(crate) after: Option<usize>,
    pub(crate) text: String,
}

/// Compares two texts; empty when they are the same.
pub(crate) fn lines(before: &str, after: &str) -> Vec<DiffLine> {
    let diff = TextDiff::configure().timeout(LOOKING).diff_lines(before, after);
    let mut out = Vec::new();
    for (index, group) in diff.grouped_ops(AROUND).iter().enumerate() {
        if index > 0 {
            out.push(DiffLine {
                class: "skipped",
                sign: "…",
                says: "lines left out",
                before: None,
                after: None,
                text: String::new(),
            });
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let (class, sign, says) = match change.tag() {
                ChangeTag::Equal => ("same", " ", ""),
                ChangeTag::Delete => ("gone", "−", "taken out: "),
                ChangeTag::Insert => ("come", "+", "added: "),
            };
            out.push(DiffLine {
                class,
                sign,
                says,
                before: change.old_index().map(|index| index + 1),
                after: change.new_index().map(|index| index + 1),
                text: change.value().trim_end_matches('\n').to_owned(),
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_shown_with_what_is_around_it() {
        let before: String = (1..=20).map(|n| format!("{n}\n")).collect();
        let after = before.replace("5\n", "five\n").replace("18\n", "");
        let after = after.replace("1five", "15");
        let shown = lines(&before, &after);
        let line = |sign: &str| {
            shown.iter().filter(|it| it.sign == sign).map(|it| it.text.as_str()).collect::<Vec<_>>()
        };
        assert_eq!((line("−"), line("+")), (vec!["5", "18"], vec!["five"]));
        assert_eq!(line("…").len(), 1, "what lies far from both is left out: {shown:?}");
        let gone = shown.iter().find(|it| it.text == "18").expect("it");
        assert_eq!((gone.before, gone.after), (Some(18), None));
        assert!(lines(&before, &before).is_empty());
    }
}
