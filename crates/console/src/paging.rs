//! Long lists that are in memory whole: searched by name, and shown a page at a time.

/// Items of a page.
const SIZE: usize = 50;

/// A page of a list, and where it lies in it.
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// How many there are on all pages.
    pub(crate) total: usize,
    /// Number of the page before, if there is one.
    pub(crate) previous: Option<usize>,
    /// Number of the page after, if there is one.
    pub(crate) next: Option<usize>,
}

// === impl Page ===

impl<T> Page<T> {
    /// Cuts a page out of a list; the first is 1. One beyond the end is empty.
    pub(crate) fn of(items: Vec<T>, number: usize) -> Self {
        let (total, number) = (items.len(), number.max(1));
        let begin = (number - 1).saturating_mul(SIZE);
        let next = (begin.saturating_add(SIZE) < total).then(|| number + 1);
        let items = items.into_iter().skip(begin).take(SIZE).collect();
        Self { items, total, previous: (number > 1).then(|| number - 1), next }
    }

    /// Converts every item.
    pub(crate) fn map<U>(self, convert: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(convert).collect(),
            total: self.total,
            previous: self.previous,
            next: self.next,
        }
    }
}

/// Tells whether a text has what was searched for, in whatever capitals.
pub(crate) fn finds(query: &str, text: &str) -> bool {
    text.to_lowercase().contains(&query.trim().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_lie_beside_each_other_and_end() {
        let page = |number| Page::of((0..120).collect::<Vec<_>>(), number);
        assert_eq!((page(1).items.len(), page(1).previous, page(1).next), (50, None, Some(2)));
        assert_eq!((page(3).items, page(3).next), ((100..120).collect(), None));
        assert!(page(4).items.is_empty() && page(usize::MAX).items.is_empty());
        assert_eq!(page(0).items, page(1).items);
    }

    #[test]
    fn capitals_make_no_difference_in_a_search() {
        assert!(finds(" Ad ", "grace-ADa") && finds("", "x") && !finds("y", "x"));
    }
}
