//! Accounts: names and names of fields; values go in and never come out.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_app::Password;
use tollgate_app::access::Permission;
use tollgate_app::accounts::{AccountFields, AccountView as Account};
use tollgate_model::names::{EnvironmentName, ValueName};

use crate::Api;
use crate::answers::{Answer, Created, ListView, Tagged};
use crate::dependents::DependentsView;
use crate::extract::{Body, Caller, IfMatch, In};
use crate::operations::{Access, Operation};
use crate::past::Then;
use crate::problem::Problem;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct AccountView {
    name: String,
    /// Names of the fields.
    fields: Vec<String>,
    updated_at: String,
}

/// All fields of an account; those that it had before are gone.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SetBody {
    /// Secrets that flows read as they are.
    #[serde(default)]
    fields: BTreeMap<String, String>,
    /// Passwords of which only the Argon2id hash is kept, for `verifyPassword`.
    #[serde(default)]
    hashed_fields: BTreeMap<String, String>,
}

/// One that is not there yet.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateBody {
    /// Its name.
    #[schemars(with = "String")]
    name: ValueName,
    /// Secrets that flows read as they are.
    #[serde(default)]
    fields: BTreeMap<String, String>,
    /// Passwords of which only the Argon2id hash is kept, for `verifyPassword`.
    #[serde(default)]
    hashed_fields: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct InEnvironment {
    environment: EnvironmentName,
}

#[derive(Deserialize)]
struct Place {
    environment: EnvironmentName,
    name: ValueName,
}

pub(crate) fn operations() -> Vec<Operation> {
    let (read, update) = (Access::Needs(Permission::AccountRead), Access::Needs(Permission::AccountUpdate));
    vec![
        Operation::get(
            "/realms/{realm}/environments/{environment}/accounts",
            read,
            "Lists the accounts and the names of their fields",
            list,
        )
        .of_the_past()
        .answers::<ListView<AccountView>>(),
        Operation::post(
            "/realms/{realm}/environments/{environment}/accounts",
            update,
            "Makes an account where there is none of its name",
            create,
        )
        .takes::<CreateBody>()
        .answers::<AccountView>()
        .creates(),
        Operation::get(
            "/realms/{realm}/environments/{environment}/accounts/{name}",
            read,
            "Returns an account: the names of its fields, never values",
            get,
        )
        .of_the_past()
        .tagged()
        .answers::<AccountView>(),
        Operation::put(
            "/realms/{realm}/environments/{environment}/accounts/{name}",
            update,
            "Sets an account with all its fields",
            set,
        )
        .tagged()
        .conditional()
        .takes::<SetBody>()
        .answers::<AccountView>(),
        Operation::delete(
            "/realms/{realm}/environments/{environment}/accounts/{name}",
            update,
            "Deletes an account",
            delete,
        )
        .conditional(),
        Operation::get(
            "/realms/{realm}/environments/{environment}/accounts/{name}/dependents",
            read,
            "Tells which deployments read an account",
            dependents,
        )
        .answers::<DependentsView>(),
    ]
}

async fn list(
    Then(api): Then,
    Caller(op): Caller,
    In(path): In<InEnvironment>,
) -> Answer<Json<ListView<AccountView>>> {
    let accounts = api.app.accounts().list(&op, &path.environment).await?;
    Ok(ListView::whole(accounts, |account| AccountView::from(&account)))
}

async fn get(Then(api): Then, Caller(op): Caller, In(path): In<Place>) -> Answer<Tagged<AccountView>> {
    let accounts = api.app.accounts().list(&op, &path.environment).await?;
    let found = accounts.into_iter().find(|account| account.name == path.name).ok_or_else(|| {
        let detail = format!("there is no account `{}` in {}", path.name, path.environment);
        Problem::new(StatusCode::NOT_FOUND, "not-found", detail)
            .hint("`tollgate account list` shows those that exist")
    })?;
    Ok(Tagged(AccountView::from(&found), found.revision))
}

async fn create(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<InEnvironment>,
    Body(body): Body<CreateBody>,
) -> Answer<Created<AccountView>> {
    let fields = AccountFields { plain: secrets(&body.fields)?, hashed: secrets(&body.hashed_fields)? };
    let made = api.app.accounts().create(&op, &path.environment, body.name, fields).await?;
    Ok(Created(AccountView::from(&made)))
}

async fn set(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<Place>,
    Body(body): Body<SetBody>,
) -> Answer<Tagged<AccountView>> {
    let fields = AccountFields { plain: secrets(&body.fields)?, hashed: secrets(&body.hashed_fields)? };
    let account = api.app.accounts().set(&op, &path.environment, path.name, fields, if_match).await?;
    Ok(Tagged(AccountView::from(&account), account.revision))
}

async fn dependents(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<Place>,
) -> Answer<Json<DependentsView>> {
    Ok(Json(api.app.accounts().dependents(&op, &path.environment, &path.name).await?.into()))
}

async fn delete(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<Place>,
) -> Answer<StatusCode> {
    api.app.accounts().delete(&op, &path.environment, &path.name, if_match).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn secrets(fields: &BTreeMap<String, String>) -> Answer<BTreeMap<String, Password>> {
    fields
        .iter()
        .map(|(name, secret)| match Password::parse(secret) {
            Ok(secret) => Ok((name.clone(), secret)),
            Err(_) => Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid",
                format!("the value of field `{name}` is not 1 to 1024 bytes long"),
            )),
        })
        .collect()
}

impl From<&Account> for AccountView {
    fn from(account: &Account) -> Self {
        Self {
            name: account.name.to_string(),
            fields: account.fields.clone(),
            updated_at: account.updated_at.to_string(),
        }
    }
}
