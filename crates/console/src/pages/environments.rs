//! The environments of a realm: as tabs of a page, and on pages of their own.

mod manage;

pub(super) use manage::routes;

use tollgate_app::access::Op;
use tollgate_model::names::EnvironmentName;

use crate::Console;
use crate::answers::Answer;
use crate::paths::named;

/// One of the tabs.
pub(super) struct Tab {
    pub(super) name: String,
    pub(super) here: bool,
}

/// Returns the names of the environments.
pub(super) async fn environments(console: &Console, op: &Op) -> Answer<Vec<EnvironmentName>> {
    let all = console.app.environments().list(op).await?;
    Ok(all.into_iter().map(|it| it.environment.name).collect())
}

/// Returns the environment that was asked for, the first when none was, and the tabs of all.
pub(super) async fn chosen(
    console: &Console,
    op: &Op,
    asked: Option<&str>,
) -> Answer<(EnvironmentName, Vec<Tab>)> {
    let names = environments(console, op).await?;
    let first = names.first().map(ToString::to_string).unwrap_or_default();
    let chosen: EnvironmentName = named(asked.unwrap_or(&first))?;
    let tabs = names.iter().map(|name| Tab { name: name.to_string(), here: *name == chosen }).collect();
    Ok((chosen, tabs))
}
