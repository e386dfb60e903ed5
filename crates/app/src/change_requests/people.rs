//! Who is a second person.
//!
//! People are told apart by the ids of their users, never by name, token or source. But one person can hold two accounts:
//! whoever makes a user knows how to sign in as that user, and so does whoever gives one another password. So accounts
//! hang together when one wrote the other, and with all that hang together with either; of two that do, neither is the
//! other's second person.
//!
//! Only what was written since the realm's settings were last set counts: whoever turns four eyes on takes the accounts
//! as they are, and from then on setting them takes two. That is the way out for an organisation in which one person makes
//! all users: let two confirm the settings when new people have taken their accounts over.
//!
//! A worked sequence: `ann` turns four eyes on. Later she makes `pete` and `paul`. Paul can't approve what Pete or Ann asked
//! for, nor they what Paul did; Bob, who was there before, can approve for all of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use tollgate_model::change_requests::{ChangeRequest, Person};
use tollgate_model::environments::Realm;
use tollgate_model::ids::UserId;
use tollgate_model::names::RealmName;
use tollgate_model::objects::{Kind, keys};
use tollgate_model::users::User;
use tollgate_store::{JournalEntry, JournalFilter, Stored};

use super::ChangeRequests;
use crate::access::Op;
use crate::errors::{Error, ErrorKind};

/// Entries of the journal read at once.
const PAGE: u32 = 500;

/// Accounts that hang together, grown entry by entry of the journal.
#[derive(Debug, Default)]
struct Accounts {
    /// Who has which name at the moment.
    names: BTreeMap<String, UserId>,
    groups: Vec<BTreeSet<UserId>>,
}

/// What an entry of the journal tells of a user, whatever else there is by now or was then.
#[derive(Deserialize)]
struct Written {
    id: UserId,
}

// === impl ChangeRequests ===

impl ChangeRequests {
    /// Returns the user who asked, if there is one still who can sign in.
    pub(super) async fn author(&self, request: &ChangeRequest) -> Result<Stored<User>, Error> {
        let Person { user, name } = &request.author;
        let users = self.0.all::<User>(&RealmName::default(), "").await?;
        let is_author =
            |stored: &Stored<User>| stored.value.id == *user && stored.value.disabled_at.is_none();
        users.into_iter().find(is_author).ok_or_else(|| {
            let message = format!(
                "change request {} can't be approved: user `{name}`, who asked, is gone or disabled",
                request.id
            );
            Error::conflict("author-gone", message)
                .hint("reject it; whoever still wants the change asks for it anew")
        })
    }

    /// Returns the entry of the journal at which accounts were last taken as they were: when the realm's settings were set.
    /// For a realm that was made while realm `default` wanted four eyes, when those of `default` were: else whoever makes
    /// an account could make a realm next.
    async fn taken_as_they_were(&self, realm: &RealmName) -> Result<u64, Error> {
        let here = self.settings_set(realm).await?;
        let name = RealmName::default();
        let default = self.0.store().get::<Realm>(&name, &keys::realm(&name)).await?;
        match default.filter(|default| !default.value.settings.four_eyes.is_off()) {
            Some(_) => Ok(here.min(self.settings_set(&name).await?)),
            None => Ok(here),
        }
    }

    /// Returns the entry that set a realm's settings last; others write the realm as it was, to take turns.
    async fn settings_set(&self, realm: &RealmName) -> Result<u64, Error> {
        let mut filter = JournalFilter {
            kind: Some(Kind::Realm),
            key: Some(keys::realm(realm)),
            limit: PAGE,
            newest_first: true,
            ..JournalFilter::default()
        };
        loop {
            let entries = self.0.store().journal(realm, &filter).await?;
            if let Some(set) = entries.iter().find(|entry| entry.action.starts_with("realm.")) {
                return Ok(set.seq);
            }
            match entries.last().filter(|_| entries.len() == PAGE as usize) {
                Some(last) => filter.before = Some(last.seq),
                // Nobody ever set them: all that was ever written counts.
                None => return Ok(0),
            }
        }
    }

    /// Refuses an approver whose account hangs together with the author's.
    pub(super) async fn refuse_dependent(&self, op: &Op, request: &ChangeRequest) -> Result<(), Error> {
        let approver = person(op)?;
        let since = self.taken_as_they_were(&op.realm).await?;
        let mut accounts = Accounts::default();
        let mut filter = JournalFilter {
            kind: Some(Kind::User),
            limit: PAGE,
            newest_first: false,
            ..JournalFilter::default()
        };
        loop {
            let entries = self.0.store().journal(&RealmName::default(), &filter).await?;
            for entry in &entries {
                accounts.follow(entry, entry.seq > since)?;
            }
            match entries.last().filter(|_| entries.len() == PAGE as usize) {
                Some(last) => filter.after = Some(last.seq),
                None => break,
            }
        }
        if !accounts.hang_together(approver.user, request.author.user) {
            return Ok(());
        }
        let message = format!(
            "change request {} can't be approved by `{}`: one person has had a hand in this account and in that of `{}` \
             since the realm's settings were set",
            request.id, approver.name, request.author.name
        );
        Err(Error::new(ErrorKind::Forbidden, "not-independent", message).hint(
            "let somebody approve it whose account is their own since before; docs/four-eyes.md tells more",
        ))
    }
}

// === impl Accounts ===

impl Accounts {
    /// Learns from an entry who has which name, and, when it counts, who wrote whose account.
    fn follow(&mut self, entry: &JournalEntry, counts: bool) -> Result<(), Error> {
        let actor = self.names.get(&entry.actor).copied();
        let written = entry.mutations.iter().filter(|mutation| mutation.kind == Kind::User);
        // A user who is renamed is deleted and written in one entry: the new name counts.
        for mutation in written.clone().filter(|mutation| mutation.body.is_none()) {
            self.names.remove(&mutation.key);
        }
        for mutation in written {
            let Some(body) = &mutation.body else { continue };
            let Written { id } = serde_json::from_str(body).map_err(Error::internal)?;
            self.names.insert(mutation.key.clone(), id);
            if let (Some(actor), true) = (actor, counts) {
                self.join(actor, id);
            }
        }
        Ok(())
    }

    fn join(&mut self, one: UserId, other: UserId) {
        let mut joined = BTreeSet::from([one, other]);
        self.groups.retain(|group| {
            let touches = group.contains(&one) || group.contains(&other);
            if touches {
                joined.extend(group);
            }
            !touches
        });
        self.groups.push(joined);
    }

    fn hang_together(&self, one: UserId, other: UserId) -> bool {
        one == other || self.groups.iter().any(|group| group.contains(&one) && group.contains(&other))
    }
}

/// Returns who acts; the system is nobody.
pub(super) fn person(op: &Op) -> Result<Person, Error> {
    let user = op.actor.user.ok_or_else(|| {
        let message = "where four eyes are wanted, only users ask and decide";
        Error::new(ErrorKind::Forbidden, "forbidden", message).hint("sign in as a user")
    })?;
    Ok(Person { user, name: op.actor.name.clone() })
}
