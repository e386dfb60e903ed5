//! The way in for whoever runs the machine, when nobody is left who could approve.

use tollgate_model::environments::{FourEyes, Realm, RealmSettings};
use tollgate_model::names::RealmName;
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::keys;
use tollgate_store::{Change, Expect, Mutation, Store, Stored};

use crate::access::Op;
use crate::errors::Error;
use crate::policies::check_reason;

/// Ends four eyes in a realm, in the name of whoever has the store itself in hand: no permission is asked for, since they
/// could write the database. For the command line on the server's machine; no API reaches it.
///
/// The journal shows it as `realm.end-four-eyes` from `cli`. Requests that wait stay as they are.
///
/// # Errors
///
/// [`ErrorKind::NotFound`](crate::errors::ErrorKind::NotFound) when there is no such realm;
/// [`ErrorKind::Invalid`](crate::errors::ErrorKind::Invalid) without a reason;
/// [`ErrorKind::Conflict`](crate::errors::ErrorKind::Conflict) when they are off already.
pub async fn end_four_eyes(store: &Store, op: &Op, reason: &str) -> Result<FourEyes, Error> {
    if reason.trim().is_empty() {
        return Err(Error::invalid("this needs a reason").hint("say why, for whoever reads the journal"));
    }
    check_reason(reason)?;
    let key = keys::realm(&op.realm);
    let Some(Stored { value: realm, revision }) = store.get::<Realm>(&op.realm, &key).await? else {
        return Err(no_realm(&op.realm));
    };
    let before = realm.settings.four_eyes;
    if before.is_off() {
        return Err(Error::conflict("four-eyes-off", format!("realm `{}` wants no second person", op.realm))
            .hint("see its settings")
            .next(NextStep::SeeRealmSettings));
    }
    let settings = RealmSettings { four_eyes: FourEyes::default(), ..realm.settings };
    let realm = Realm { settings, ..realm };
    let change = Change {
        realm: op.realm.clone(),
        actor: op.actor.name.clone(),
        source: op.source.clone(),
        action: "realm.end-four-eyes".to_owned(),
        request_id: op.request_id.to_string(),
        reason: reason.trim().to_owned(),
        at: op.now,
        guards: Vec::new(),
        mutations: vec![Mutation::put(&realm, Expect::Revision(revision)).map_err(Error::internal)?],
    };
    store.commit(change).await?;
    Ok(before)
}

/// Says that there is no such realm.
fn no_realm(realm: &RealmName) -> Error {
    Error::not_found(format!("there is no realm `{realm}`")).hint("see the realms").next(NextStep::ListRealms)
}
