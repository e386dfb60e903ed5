//! Names: what people call realms, environments, projects, pipelines and the rest.
//!
//! Every name is a slug, so that it can stand in a URL, a file name and a command line without quoting:
//! lower-case ASCII letters, digits and `-`, starting and ending with a letter or digit, 1 to 63 characters
//! (the rule of an RFC 1123 label). Some names may hold capitals and `_` too, where people bring them from
//! other systems.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseNameError {
    /// Nothing was given.
    #[error("{what} is empty: write 1 to {max} characters")]
    Empty {
        /// Which kind of name.
        what: &'static str,
        /// Longest name allowed, in characters.
        max: usize,
    },
    /// More characters than allowed.
    #[error("{what} `{input}` is longer than {max} characters")]
    TooLong {
        /// Which kind of name.
        what: &'static str,
        /// What was given, cut.
        input: String,
        /// Longest name allowed, in characters.
        max: usize,
    },
    /// A character outside the rule.
    #[error("{what} `{input}` is not a slug: {rule}, for example `{suggestion}`")]
    NotASlug {
        /// Which kind of name.
        what: &'static str,
        /// What was given, cut.
        input: String,
        /// The rule in words.
        rule: &'static str,
        /// A name near to it that is allowed.
        suggestion: String,
    },
}

const SLUG_RULE: &str = "use lower-case letters, digits and `-`, starting and ending with a letter or digit";
const LABEL_RULE: &str = "use letters, digits, `-`, `_` and `.`, starting and ending with a letter or digit";
const MAX_NAME: usize = 63;

fn cut(input: &str) -> String {
    input.chars().take(80).collect()
}

fn suggest(input: &str, lower: bool, fallback: &str) -> String {
    let mut out = String::new();
    for c in input.chars().take(MAX_NAME) {
        let c = if lower { c.to_ascii_lowercase() } else { c };
        if c.is_ascii_alphanumeric() {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    let out = out.trim_end_matches('-');
    if out.is_empty() { fallback.to_owned() } else { out.to_owned() }
}

fn parse_name(
    input: &str,
    what: &'static str,
    rule: &'static str,
    lower: bool,
    inner: fn(u8) -> bool,
) -> Result<Box<str>, ParseNameError> {
    if input.is_empty() {
        return Err(ParseNameError::Empty { what, max: MAX_NAME });
    }
    if input.len() > MAX_NAME {
        return Err(ParseNameError::TooLong { what, input: cut(input), max: MAX_NAME });
    }
    let bytes = input.as_bytes();
    let edge = |b: Option<&u8>| {
        b.is_some_and(|b| {
            if lower { b.is_ascii_lowercase() || b.is_ascii_digit() } else { b.is_ascii_alphanumeric() }
        })
    };
    if !edge(bytes.first()) || !edge(bytes.last()) || !bytes.iter().all(|b| inner(*b)) {
        let suggestion = suggest(input, lower, "my-name");
        return Err(ParseNameError::NotASlug { what, input: cut(input), rule, suggestion });
    }
    Ok(input.into())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:expr, $lower:literal, $inner:expr, $pattern:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Box<str>);

        impl $name {
            /// Parses a name.
            ///
            /// # Errors
            ///
            /// [`ParseNameError`] when the input breaks the rule of this kind of name.
            pub fn parse(input: &str) -> Result<Self, ParseNameError> {
                parse_name(input, $what, $rule, $lower, $inner).map(Self)
            }

            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseNameError;

            fn from_str(input: &str) -> Result<Self, Self::Err> {
                Self::parse(input)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "maxLength": 63, "pattern": $pattern })
            }
        }
    };
}

macro_rules! slug {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        name!($(#[$doc])* $name, $what, SLUG_RULE, true, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-',
            "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$");
    };
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        name!($(#[$doc])* $name, $what, LABEL_RULE, false, |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'),
            "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$");
    };
}

slug!(
    /// The organisation: the tenant boundary.
    RealmName,
    "realm name"
);
slug!(
    /// Where pipelines run, for example `test` or `prod`.
    EnvironmentName,
    "environment name"
);
slug!(
    /// A named group of pipelines.
    ProjectName,
    "project name"
);
slug!(
    /// The name of a pipeline; it stands in its URL.
    PipelineName,
    "pipeline name"
);
slug!(
    /// A named caller in one environment.
    ConsumerName,
    "consumer name"
);
slug!(
    /// What pipelines call the issuer of tokens from outside.
    IssuerName,
    "issuer name"
);
slug!(
    /// The name of a custom rule.
    RuleName,
    "rule name"
);
slug!(
    /// The name of a role: a set of permissions.
    RoleName,
    "role name"
);
slug!(
    /// The name of a group of users.
    GroupName,
    "group name"
);
name!(
    /// The name of a field that is never shown, in capitals and small letters as it is written.
    FieldName,
    "field name",
    "use letters, digits and `-`, starting and ending with a letter or digit",
    false,
    |b| b.is_ascii_alphanumeric() || b == b'-',
    "^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$"
);
label!(
    /// The name of an API key, for its owner to tell keys apart.
    CredentialName,
    "credential name"
);
label!(
    /// The name of a value or secret that flows read: `globals["portal-user"]`, `accounts.portal`.
    ValueName,
    "value name"
);
label!(
    /// Somebody who signs in to the management API or the console.
    UserName,
    "user name"
);

// === impl RealmName ===

impl Default for RealmName {
    fn default() -> Self {
        Self("default".into())
    }
}

// === impl RoleName ===

impl RoleName {
    /// The role that has every permission.
    pub fn administrator() -> Self {
        Self("administrator".into())
    }
}

// === impl GroupName ===

impl GroupName {
    /// The group that every realm begins with.
    pub fn administrators() -> Self {
        Self("administrators".into())
    }
}

// === impl IssuerName ===

impl IssuerName {
    /// Stands, where a trigger lists issuers, for the login flows of its environment.
    pub fn own() -> Self {
        Self("tollgate".into())
    }
}

// === impl EnvironmentName ===

impl EnvironmentName {
    /// The environment `test`, which every realm has.
    pub fn test() -> Self {
        Self("test".into())
    }

    /// The environment `prod`, which every realm has.
    pub fn prod() -> Self {
        Self("prod".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_lower_case_letters_digits_and_inner_hyphens() {
        for good in ["a", "product-list", "v2", "0", "a--b"] {
            assert_eq!(PipelineName::parse(good).map(|n| n.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "A", "-a", "a-", "a_b", "a b", "ä", "a/b", ".", &"x".repeat(64)] {
            assert!(PipelineName::parse(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_refused_name_comes_with_one_that_would_be_taken() {
        let error = PipelineName::parse("Product List!").expect_err("not a slug");
        assert_eq!(
            error.to_string(),
            "pipeline name `Product List!` is not a slug: use lower-case letters, digits and `-`, starting and \
             ending with a letter or digit, for example `product-list`"
        );
    }
}
