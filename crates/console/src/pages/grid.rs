//! Permissions as a grid: a row for each resource, a column for each of the common verbs, and one for all others.

use tollgate_app::access::{Permission, Scope};

/// The verbs that have a column of their own, in its order.
const VERBS: [&str; 4] = ["read", "create", "update", "delete"];

/// All permissions.
pub(super) struct Grid {
    pub(super) rows: Vec<Row>,
    /// Whether some cannot be ticked.
    pub(super) has_locked: bool,
}

/// The permissions of one resource.
pub(super) struct Row {
    pub(super) resource: &'static str,
    /// Where they must be held to count.
    pub(super) held: &'static str,
    /// One cell for each of the verbs, then the others together.
    pub(super) cells: Vec<Vec<Cell>>,
}

/// One permission.
pub(super) struct Cell {
    pub(super) name: &'static str,
    pub(super) verb: &'static str,
    pub(super) description: &'static str,
    pub(super) ticked: bool,
    /// Whether whoever looks may not give it.
    pub(super) locked: bool,
    /// Whether the verb is that of its column.
    pub(super) is_usual: bool,
}

// === impl Grid ===

impl Grid {
    /// The names of the columns.
    pub(super) const COLUMNS: [&str; 5] = ["Read", "Create", "Update", "Delete", "Other"];

    /// Draws every permission: whether it is ticked, and whether it can be.
    pub(super) fn new(ticked: impl Fn(Permission) -> bool, may_tick: impl Fn(Permission) -> bool) -> Self {
        let mut rows: Vec<Row> = Vec::new();
        let mut has_locked = false;
        for permission in Permission::ALL.iter().copied() {
            let verb = permission.as_str().split_once(':').map_or("", |(_, verb)| verb);
            let column = VERBS.iter().position(|it| *it == verb);
            let locked = !may_tick(permission);
            has_locked |= locked;
            let cell = Cell {
                name: permission.as_str(),
                verb,
                description: permission.description(),
                ticked: ticked(permission),
                locked,
                is_usual: column.is_some(),
            };
            let resource = permission.resource();
            if rows.last().is_none_or(|row| row.resource != resource) {
                let cells = Self::COLUMNS.map(|_| Vec::new()).into();
                rows.push(Row { resource, held: held(permission.scope()), cells });
            }
            let cells = rows.last_mut().and_then(|row| row.cells.get_mut(column.unwrap_or(VERBS.len())));
            if let Some(cells) = cells {
                cells.push(cell);
            }
        }
        Self { rows, has_locked }
    }
}

/// Says where a permission must be held to count.
fn held(scope: Scope) -> &'static str {
    match scope {
        Scope::Server => "whole server",
        Scope::Realm => "whole realm",
        Scope::Shared => "anywhere",
        Scope::Environment => "by environment",
        Scope::Project => "by project",
        Scope::Both => "by environment and project",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_permission_has_one_place_in_the_grid() {
        let grid = Grid::new(|_| false, |permission| permission != Permission::UserDelete);
        let cells: Vec<&Cell> = grid.rows.iter().flat_map(|row| row.cells.iter().flatten()).collect();
        assert_eq!(cells.len(), Permission::ALL.len());
        let locked: Vec<_> = cells.iter().filter(|cell| cell.locked).map(|cell| cell.name).collect();
        assert_eq!(locked, ["user:delete"]);
        assert!(grid.has_locked);
        let other = cells.iter().filter(|cell| !cell.is_usual).map(|cell| cell.name).collect::<Vec<_>>();
        assert!(other.contains(&"change-request:approve") && !other.contains(&"user:delete"), "{other:?}");
    }
}
