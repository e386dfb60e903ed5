//! Lists, a page at a time.

use tollgate_model::names::RealmName;
use tollgate_model::objects::Object;
use tollgate_store::{Page, Stored};

use crate::App;
use crate::errors::Error;

/// Which page of a list.
#[derive(Debug, Clone, Default)]
pub struct ListRequest {
    /// How many at most; 100 when absent, 500 at most.
    pub limit: Option<u32>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListPage<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<String>,
}

// === impl ListRequest ===

impl ListRequest {
    pub(crate) fn size(&self) -> u32 {
        self.limit.unwrap_or(100).clamp(1, 500)
    }
}

// === impl ListPage ===

impl<T> ListPage<T> {
    /// Cuts a page out of items that are ordered by their keys.
    pub(crate) fn of(
        items: impl Iterator<Item = T>,
        request: ListRequest,
        key: impl Fn(&T) -> String,
    ) -> Self {
        let limit = request.size() as usize;
        let after = |item: &T| request.cursor.as_ref().is_none_or(|cursor| key(item) > *cursor);
        let mut items: Vec<T> = items.filter(after).take(limit + 1).collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(&key);
        Self { items, next }
    }

    /// Converts every item.
    pub fn map<U>(self, convert: impl FnMut(T) -> U) -> ListPage<U> {
        ListPage { items: self.items.into_iter().map(convert).collect(), next: self.next }
    }
}

// === impl App ===

impl App {
    /// Returns one page of the objects of a kind whose key begins with `prefix`.
    pub(crate) async fn page<T: Object>(
        &self,
        realm: &RealmName,
        prefix: String,
        request: ListRequest,
    ) -> Result<ListPage<Stored<T>>, Error> {
        let page = Page { prefix, after: request.cursor.clone(), limit: request.size() + 1 };
        let items = self.store().list::<T>(realm, &page).await?;
        Ok(ListPage::of(items.into_iter(), request, |stored| stored.value.key()))
    }
}
