//! Users of the server: made, listed, disabled, deleted; and what each may do.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_app::Password;
use tollgate_app::access::{Extent, Permission, Reach};
use tollgate_app::lists::ListRequest;
use tollgate_app::users::{HeldRight, NewUser, UserView as User, UserWithPassword};
use tollgate_model::names::{GroupName, UserName};

use crate::Api;
use crate::answers::{Answer, Created, ListView, Tagged};
use crate::extract::{Ask, Body, Caller, IfMatch, In};
use crate::operations::{Access, Operation};
use crate::problem::Problem;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct UserView {
    id: String,
    name: String,
    created_at: String,
    /// `active` or `disabled`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_at: Option<String>,
    /// Whether they are to choose another password.
    password_is_temporary: bool,
    /// By realm, the groups that they are in: of the realms whose groups you may read.
    groups: BTreeMap<String, Vec<String>>,
}

/// A user whose password was set.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct UserWithPasswordView {
    #[serde(flatten)]
    user: UserView,
    /// The password, when it was made up: only in this answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewUserBody {
    /// What they sign in with.
    name: UserName,
    /// Made up and shown once when absent. Whoever chose it: they are to choose another.
    password: Option<String>,
    /// Groups of realm `default` to put them into.
    #[serde(default)]
    groups: BTreeSet<GroupName>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ResetBody {
    /// Made up and shown once when absent.
    password: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct EndedView {
    /// How many tokens were deleted.
    ended: usize,
}

/// What a user may do in a realm.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct UserRightsView {
    user: String,
    /// Whether they can do none of it now.
    disabled: bool,
    /// The groups that they are in.
    groups: Vec<String>,
    /// Each permission that they hold, with where, and through what.
    items: Vec<HeldView>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct HeldView {
    #[serde(flatten)]
    right: RightView,
    /// The group that grants it.
    group: String,
    /// The role that has it.
    role: String,
}

/// A permission, and where it is held.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RightView {
    permission: Permission,
    /// Only in these environments; in all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    environments: Option<Vec<String>>,
    /// Only for these projects; for all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    projects: Option<Vec<String>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only those whose name contains this.
    search: Option<String>,
    /// How many at most: 1 to 500.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

#[derive(Deserialize)]
struct UserPath {
    name: UserName,
}

pub(crate) fn operations() -> Vec<Operation> {
    let needs = Access::Needs;
    vec![
        Operation::get("/users", needs(Permission::UserRead), "Lists the users of the server", list)
            .asks::<ListQuery>()
            .answers::<ListView<UserView>>(),
        Operation::post(
            "/users",
            needs(Permission::UserCreate),
            "Makes a user, with a password that is shown this once unless you bring one",
            create,
        )
        .takes::<NewUserBody>()
        .answers::<UserWithPasswordView>()
        .creates(),
        Operation::get("/users/{name}", needs(Permission::UserRead), "Returns a user", get)
            .tagged()
            .answers::<UserView>(),
        Operation::delete(
            "/users/{name}",
            needs(Permission::UserDelete),
            "Deletes a user with their tokens, and takes them out of all groups",
            delete,
        )
        .conditional(),
        Operation::post(
            "/users/{name}/disable",
            needs(Permission::UserUpdate),
            "Keeps a user from signing in and from all that their tokens could do",
            disable,
        )
        .tagged()
        .conditional()
        .answers::<UserView>(),
        Operation::post(
            "/users/{name}/enable",
            needs(Permission::UserUpdate),
            "Lets a user sign in again",
            enable,
        )
        .tagged()
        .conditional()
        .answers::<UserView>(),
        Operation::post(
            "/users/{name}/reset-password",
            needs(Permission::UserUpdate),
            "Gives another user a temporary password, and deletes their tokens",
            reset_password,
        )
        .takes::<ResetBody>()
        .answers::<UserWithPasswordView>(),
        Operation::post(
            "/users/{name}/end-sessions",
            needs(Permission::UserUpdate),
            "Deletes a user's tokens, sign-ins and API tokens alike",
            end_sessions,
        )
        .answers::<EndedView>(),
        Operation::get(
            "/realms/{realm}/users/{name}/rights",
            needs(Permission::GroupRead),
            "Tells what a user may do in a realm, and through which groups",
            rights,
        )
        .answers::<UserRightsView>(),
    ]
}

async fn list(
    State(api): State<Api>,
    Caller(op): Caller,
    Ask(query): Ask<ListQuery>,
) -> Answer<Json<ListView<UserView>>> {
    let ListQuery { search, limit, cursor } = query;
    let text = search.unwrap_or_default();
    let page = api.app.users().search(&op, text.trim(), ListRequest { limit, cursor }).await?;
    Ok(ListView::page(page, UserView::from))
}

async fn create(
    State(api): State<Api>,
    Caller(op): Caller,
    Body(body): Body<NewUserBody>,
) -> Answer<Created<UserWithPasswordView>> {
    let input = NewUser { name: body.name, password: password(body.password)?, groups: body.groups };
    Ok(Created(api.app.users().create(&op, input).await?.into()))
}

async fn get(State(api): State<Api>, Caller(op): Caller, In(path): In<UserPath>) -> Answer<Tagged<UserView>> {
    let user = api.app.users().get(&op, &path.name).await?;
    Ok(Tagged(user.value.into(), user.revision))
}

async fn delete(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<UserPath>,
) -> Answer<StatusCode> {
    api.app.users().delete(&op, &path.name, if_match).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn disable(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<UserPath>,
) -> Answer<Tagged<UserView>> {
    let user = api.app.users().disable(&op, &path.name, if_match).await?;
    Ok(Tagged(user.value.into(), user.revision))
}

async fn enable(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<UserPath>,
) -> Answer<Tagged<UserView>> {
    let user = api.app.users().enable(&op, &path.name, if_match).await?;
    Ok(Tagged(user.value.into(), user.revision))
}

async fn reset_password(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<UserPath>,
    Body(body): Body<ResetBody>,
) -> Answer<Json<UserWithPasswordView>> {
    let password = password(body.password)?;
    Ok(Json(api.app.users().reset_password(&op, &path.name, password).await?.into()))
}

async fn end_sessions(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<UserPath>,
) -> Answer<Json<EndedView>> {
    Ok(Json(EndedView { ended: api.app.users().end_sessions(&op, &path.name).await? }))
}

async fn rights(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<UserPath>,
) -> Answer<Json<UserRightsView>> {
    let rights = api.app.users().rights(&op, &path.name).await?;
    Ok(Json(UserRightsView {
        user: rights.user.to_string(),
        disabled: rights.is_disabled,
        groups: rights.groups.iter().map(ToString::to_string).collect(),
        items: rights.held.iter().map(HeldView::from).collect(),
    }))
}

fn password(text: Option<String>) -> Answer<Option<Password>> {
    let password = text.map(|text| Password::parse(&text)).transpose();
    password.map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", error.to_string()))
}

// === impl RightView ===

impl RightView {
    pub(crate) fn new(permission: Permission, reach: &Reach) -> Self {
        Self { permission, environments: names(&reach.environments), projects: names(&reach.projects) }
    }
}

fn names<N: ToString + Ord + Clone>(extent: &Extent<N>) -> Option<Vec<String>> {
    if extent.is_all() { None } else { Some(extent.names().map(ToString::to_string).collect()) }
}

impl From<&HeldRight> for HeldView {
    fn from(held: &HeldRight) -> Self {
        Self {
            right: RightView::new(held.permission, &held.reach),
            group: held.group.to_string(),
            role: held.role.to_string(),
        }
    }
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        let groups = user
            .groups
            .iter()
            .map(|(realm, groups)| (realm.to_string(), groups.iter().map(ToString::to_string).collect()));
        Self {
            id: user.id.to_string(),
            name: user.name.to_string(),
            created_at: user.created_at.to_string(),
            state: if user.disabled_at.is_some() { "disabled" } else { "active" },
            disabled_at: user.disabled_at.map(|at| at.to_string()),
            password_is_temporary: user.password_is_temporary,
            groups: groups.collect(),
        }
    }
}

impl From<UserWithPassword> for UserWithPasswordView {
    fn from(made: UserWithPassword) -> Self {
        let password = made.password.map(|password| password.expose_secret().to_owned());
        Self { user: made.user.into(), password }
    }
}
