//! Everybody's API tokens, for whoever answers for a realm: which programs can act in whose name, for how long, and which of
//! them nobody uses.
//!
//! Tokens live where users live, in realm `default`, and act in every realm in which their user may do something. So a realm
//! shows the tokens of those who are in a group of it, and realm `default` those of everybody. What is shown is what their
//! owners see: nothing of a token's secret, which nobody keeps.
//!
//! To revoke one stops a program, wherever it works. That is power over its owner, and is refused to whoever may not do, in
//! some realm, all that the owner may: who administers one realm takes the owner out of its groups, and the token with them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tollgate_model::ids::{UserId, UserTokenId};
use tollgate_model::names::{RealmName, UserName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::{Object as _, keys};
use tollgate_model::users::{User, UserToken};

use super::tokens::{TokenView, exceeded};
use super::{Authenticated, Users, demand_power_by, scopes};
use crate::access::{Op, Permission};
use crate::errors::Error;
use crate::lists::{ListPage, ListRequest};

/// How many stored tokens are read at once.
const READ_AT_ONCE: u32 = 500;

/// An API token with whose it is.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnedToken {
    /// Whose it is.
    pub owner: UserName,
    /// Since when nothing of theirs is taken, this token included.
    pub owner_disabled_at: Option<Timestamp>,
    /// The token.
    pub view: TokenView,
}

// === impl Users ===

impl Users {
    /// Returns the API tokens of everybody in the realm, oldest first: a page, or those of one user.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`](crate::errors::ErrorKind::Forbidden),
    /// [`ErrorKind::Unavailable`](crate::errors::ErrorKind::Unavailable). A user who is not in the realm has no tokens there.
    pub async fn tokens_of_everybody(
        &self,
        op: &Op,
        owner: Option<&UserName>,
        request: ListRequest,
    ) -> Result<ListPage<OwnedToken>, Error> {
        op.demand(Permission::UserTokenRead)?;
        let mut owners = self.owners(op).await?;
        owners.retain(|_, user| owner.is_none_or(|name| user.name == *name));
        let limit = request.size() as usize;
        let (mut found, mut cursor) = (Vec::new(), request.cursor.clone());
        while !owners.is_empty() {
            let read = ListRequest { limit: Some(READ_AT_ONCE), cursor };
            let page = self.0.page::<UserToken>(&RealmName::default(), String::new(), read).await?;
            let tokens = page.items.into_iter().map(|stored| stored.value);
            found.extend(tokens.filter(|it| !it.is_session() && owners.contains_key(&it.user)));
            cursor = page.next;
            if cursor.is_none() || found.len() > limit {
                break;
            }
        }
        let page = ListPage::of(found.into_iter(), request, UserToken::key);
        let used = self.last_uses(page.items.iter().map(|token| token.id)).await?;
        let owned = |token: UserToken| {
            let owner = owners.get(&token.user)?;
            Some(OwnedToken {
                owner: owner.name.clone(),
                owner_disabled_at: owner.disabled_at,
                view: TokenView { last_used_at: used.get(&token.id).copied(), token },
            })
        };
        Ok(ListPage { items: page.items.into_iter().filter_map(owned).collect(), next: page.next })
    }

    /// Revokes the API token of somebody in the realm, with those that it made.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`](crate::errors::ErrorKind::NotFound), also for a session and for a
    /// token of somebody who is not in the realm;
    /// [`ErrorKind::Forbidden`](crate::errors::ErrorKind::Forbidden) with code `rights-exceeded`
    /// when its owner may do what the actor may not, and with `scope-exceeded` when the actor's own
    /// token may do less than the one to be revoked.
    pub async fn revoke_token_of(&self, op: &Op, me: &Authenticated, id: UserTokenId) -> Result<(), Error> {
        op.demand(Permission::UserTokenRevoke)?;
        let stored = self.0.store().get::<UserToken>(&RealmName::default(), &keys::user_token(id)).await?;
        let token = stored.map(|stored| stored.value).filter(|token| !token.is_session());
        let owners = self.owners(op).await?;
        let found = token.and_then(|token| Some((owners.get(&token.user)?, token)));
        let (owner, token) = found.ok_or_else(|| {
            Error::not_found(format!("nobody in realm `{}` has an API token `{id}`", op.realm))
                .hint("see those that exist")
                .next(NextStep::ListTokensOfEverybody)
        })?;
        if !scopes::within(me.token.scopes.as_deref(), token.scopes.as_deref()) {
            return Err(exceeded("this API token may do less than the one to be revoked"));
        }
        demand_power_by(&self.0.directories().await?, op, owner)?;
        self.revoke(op, &token, "user-token.revoke").await
    }

    /// Returns those whose tokens the realm shows.
    async fn owners(&self, op: &Op) -> Result<BTreeMap<UserId, User>, Error> {
        let people = self.0.people().await?;
        let is_home = op.realm == RealmName::default();
        let directory = self.0.directory(&op.realm).await?;
        let is_here = |user: &&User| is_home || !directory.groups_of(user.id).is_empty();
        Ok(people.all().filter(is_here).map(|user| (user.id, user.clone())).collect())
    }
}
