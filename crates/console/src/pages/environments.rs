//! The environments of a realm: as a switch of a page, and on pages of their own.

mod manage;

pub(super) use manage::routes;

use http::StatusCode;
use tollgate_app::access::Op;
use tollgate_model::names::EnvironmentName;

use crate::Console;
use crate::answers::Answer;
use crate::errors::Failure;
use crate::paths::named;
use crate::visitor::Visitor;

/// Returns the names of the environments.
pub(super) async fn environments(console: &Console, op: &Op) -> Answer<Vec<EnvironmentName>> {
    let all = console.app.environments().list(op).await?;
    Ok(all.into_iter().map(|it| it.environment.name).collect())
}

/// A switch between environments, which keeps what else a page was asked for. Its template is
/// `parts/environment_switch.html`, which takes it as `switch`.
pub(super) struct Switch {
    pub(super) tabs: Vec<SwitchTab>,
}

/// One environment of a switch.
pub(super) struct SwitchTab {
    pub(super) name: String,
    pub(super) href: String,
    pub(super) here: bool,
}

/// Returns the environment that was asked for, else the one that the visitor looked at last, else the first; and a switch to
/// the others. `rest` is the rest of the query, and begins with `&` if there is one.
pub(super) async fn kept(
    console: &Console,
    visitor: &Visitor,
    asked: Option<&str>,
    rest: &str,
) -> Answer<(EnvironmentName, Switch)> {
    let names = environments(console, &visitor.op).await?;
    let remembered = visitor.environment.clone().filter(|name| names.contains(name));
    let chosen = match (asked.filter(|asked| !asked.is_empty()), remembered, names.first()) {
        (Some(asked), ..) => named(asked)?,
        (None, Some(remembered), _) => remembered,
        (None, None, Some(first)) => first.clone(),
        (None, None, None) => {
            return Err(Failure::plain(StatusCode::NOT_FOUND, "This realm has no environment"));
        }
    };
    let tabs = names.iter().map(|name| SwitchTab {
        href: format!("?environment={name}{rest}"),
        here: *name == chosen,
        name: name.to_string(),
    });
    Ok((chosen.clone(), Switch { tabs: tabs.collect() }))
}
