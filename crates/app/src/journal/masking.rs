//! What of a stored object somebody who reads the journal may see.
//!
//! Of kinds that hold something secret only the fields named here are shown, so that a field that is added is hidden
//! until somebody decides otherwise. A kind that is added does not compile until somebody has decided about it.

use serde_json::Value;
use tollgate_model::objects::Kind;

/// What stands in the place of what is not shown.
pub const MASK: &str = "(masked)";

/// What may be seen of a kind.
enum Shown {
    Everything,
    /// These fields, and that there are others.
    Only(&'static [&'static str]),
}

fn shown(kind: Kind) -> Shown {
    match kind {
        // The names of the fields are no secret, the values are.
        Kind::Account => Shown::Only(&["name", "environment", "updatedAt"]),
        Kind::ApiKey => Shown::Only(&[
            "id",
            "consumer",
            "environment",
            "name",
            "hint",
            "createdAt",
            "expiresAt",
            "revokedAt",
            "replacedBy",
            "rotatedAt",
            "retireUnusedSeconds",
            "imported",
        ]),
        Kind::BasicAuth => {
            Shown::Only(&["id", "consumer", "environment", "username", "createdAt", "revokedAt"])
        }
        Kind::SigningKey => {
            Shown::Only(&["kid", "environment", "algorithm", "publicJwk", "state", "createdAt"])
        }
        Kind::EvidenceKey => Shown::Only(&["kid", "publicJwk", "createdAt", "retiredAt"]),
        Kind::User => Shown::Only(&["id", "name", "createdAt", "disabledAt", "passwordIsTemporary"]),
        Kind::UserToken => Shown::Only(&[
            "id",
            "user",
            "name",
            "createdAt",
            "expiresAt",
            "session",
            "isApiToken",
            "scopes",
            "madeBy",
        ]),
        Kind::SecondFactor => Shown::Only(&["user", "createdAt", "confirmedAt"]),
        Kind::Attestation
        | Kind::Certificate
        | Kind::ChangeRequest
        | Kind::Consumer
        | Kind::Deployment
        | Kind::Environment
        | Kind::Global
        | Kind::Group
        | Kind::Issuer
        | Kind::JournalLoss
        | Kind::Pipeline
        | Kind::PipelineVersion
        | Kind::Policies
        | Kind::PolicyVersion
        | Kind::Project
        | Kind::Realm
        | Kind::Role
        | Kind::RouteClaim
        | Kind::ShadowPolicies
        | Kind::TokenRevocation
        | Kind::Waiver => Shown::Everything,
    }
}

/// Tells whether something of a kind may not be seen.
pub fn is_masked(kind: Kind) -> bool {
    matches!(shown(kind), Shown::Only(_))
}

/// Tells whether what a pointer (RFC 6901) leads to in an object of a kind may be seen.
pub(super) fn may_be_seen(kind: Kind, pointer: &str) -> bool {
    let field = pointer.strip_prefix('/').and_then(|rest| rest.split('/').next());
    match (shown(kind), field) {
        (Shown::Everything, _) => true,
        (Shown::Only(fields), Some(field)) => fields.contains(&field),
        // The object as a whole.
        (Shown::Only(_), None) => false,
    }
}

/// Returns an object with everything masked that may not be seen; the names of fields stay.
pub fn masked(kind: Kind, body: &str) -> Value {
    match serde_json::from_str(body) {
        Ok(Value::Object(fields)) => {
            let mask = |(name, value): (String, Value)| {
                let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
                let value = if may_be_seen(kind, &pointer) { value } else { masked_leaves(value) };
                (name, value)
            };
            Value::Object(fields.into_iter().map(mask).collect())
        }
        // No object of ours looks like this.
        _ => Value::String(MASK.to_owned()),
    }
}

/// Masks every value in a value; the names of fields stay.
fn masked_leaves(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, value)| (name, masked_leaves(value))).collect())
        }
        _ => Value::String(MASK.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_nobody_decided_about_is_hidden() {
        let body = r#"{"id":"u","name":"ada","passwordHash":"$argon2id$x","recoveryCodes":["1","2"],"new/field":{"a":1}}"#;
        let seen = masked(Kind::User, body).to_string();
        let expected = r#"{"id":"u","name":"ada","passwordHash":"(masked)","recoveryCodes":"(masked)","new/field":{"a":"(masked)"}}"#;
        assert_eq!(seen, expected);
        assert_eq!(masked(Kind::Account, "not JSON"), MASK);
    }
}
