//! What an API token may be used for: at most what its scopes say, and never more than its user may do.

use std::collections::BTreeSet;

use tollgate_model::users::TokenScope;

use crate::access::{Extent, Permission, Reach, Rights};
use crate::errors::{Error, ErrorKind};

/// Most scopes of a token.
const MAX_SCOPES: usize = 100;

/// Returns what scopes allow at most. A permission that no longer exists allows nothing.
pub(super) fn rights(scopes: &[TokenScope]) -> Rights {
    let mut rights = Rights::none();
    for scope in scopes {
        if let (Ok(permission), Some(reach)) = (Permission::parse(&scope.permission), reach(scope)) {
            rights.add(permission, reach);
        }
    }
    rights
}

/// Refuses scopes that mean nothing.
pub(super) fn check(scopes: &[TokenScope]) -> Result<(), Error> {
    if scopes.is_empty() || scopes.len() > MAX_SCOPES {
        return Err(Error::invalid(format!("a token has 1 to {MAX_SCOPES} scopes"))
            .hint("leave `scopes` out for a token that may do whatever you may do"));
    }
    for scope in scopes {
        let permission = Permission::parse(&scope.permission).map_err(|error| {
            Error::new(ErrorKind::Invalid, "scope-unknown", error.to_string()).hint(known(&scope.permission))
        })?;
        let Some(reach) = reach(scope) else {
            let message =
                format!("the scope `{permission}` is limited to no environment or no project at all");
            return Err(Error::invalid(message).hint("name some, or leave the limit out"));
        };
        if !permission.counts_within(&reach) {
            let message =
                format!("the scope `{permission}` would allow nothing: it does not count within such limits");
            return Err(Error::invalid(message)
                .hint("leave out the limit to environments, or that to projects, or both"));
        }
    }
    Ok(())
}

/// Tells whether a token with the scopes `inner` may do no more than one with the scopes `outer`.
pub(super) fn within(outer: Option<&[TokenScope]>, inner: Option<&[TokenScope]>) -> bool {
    match (outer, inner) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(outer), Some(inner)) => rights(outer).covers(&rights(inner)),
    }
}

/// Returns how far a scope reaches; `None` for an empty limit, which is no limit and reaches nowhere.
fn reach(scope: &TokenScope) -> Option<Reach> {
    fn extent<N: Ord + Clone>(names: Option<&BTreeSet<N>>) -> Option<Extent<N>> {
        names.map_or(Some(Extent::All), |names| Extent::only(names.iter().cloned()))
    }
    Some(Reach {
        environments: extent(scope.environments.as_ref())?,
        projects: extent(scope.projects.as_ref())?,
    })
}

/// Says which permissions there are about the same, else all.
fn known(name: &str) -> String {
    let resource = name.split(':').next().unwrap_or_default();
    let names = |kin: bool| -> Vec<&str> {
        let all = Permission::ALL.iter().filter(|permission| !kin || permission.resource() == resource);
        all.map(|permission| permission.as_str()).collect()
    };
    let kin = names(true);
    format!("use one of {}", if kin.is_empty() { names(false) } else { kin }.join(", "))
}
