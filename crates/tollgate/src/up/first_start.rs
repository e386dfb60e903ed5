//! The first start: realm, environments, policies, signing keys, an admin.

use anyhow::Context as _;
use tollgate_app::{App, Password};

use super::data_dir::DataDir;
use crate::profile::write_secret;

/// Makes what a new store lacks; returns what to tell the person who started it.
pub(crate) async fn prepare(app: &App, data: &DataDir) -> anyhow::Result<String> {
    let op = app.system_op()?;
    app.realms().initialise(&op).await.context("cannot make the realm `default`")?;
    #[expect(clippy::disallowed_methods, reason = "this is the binary")]
    let password = match std::env::var("TOLLGATE_ADMIN_PASSWORD") {
        Ok(text) => Some(Password::parse(&text).context("TOLLGATE_ADMIN_PASSWORD is no password")?),
        Err(_) => None,
    };
    let Some(admin) = app.users().create_first_admin(&op, password).await.context("cannot make the admin")?
    else {
        return Ok(String::new());
    };
    let path = data.admin_token_path();
    write_secret(&path, format!("{}\n", admin.token.plain.expose_secret()).as_bytes())?;
    let password = match &admin.password {
        Some(password) => format!("password {} (shown this once)", password.expose_secret()),
        None => "with the password from TOLLGATE_ADMIN_PASSWORD".to_owned(),
    };
    Ok(format!("  user           {}, {password}\n  API token      in {}\n", admin.user.name, path.display()))
}
