//! Globals and accounts of one environment, as flows read them.

use std::fmt;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// Shortest account value that is searched for and masked in texts: shorter ones stand everywhere by chance.
const SHORTEST_MASKED: usize = 4;

/// An account: its name, and its fields with their secrets.
pub type AccountFields = (String, Vec<(String, Zeroizing<String>)>);

/// What flows of one environment read besides their call.
#[derive(Default)]
pub struct Values {
    pub(crate) globals: Value,
    /// Account values are secrets; they are only reachable through expressions.
    pub(crate) accounts: Value,
    secrets: Vec<Zeroizing<String>>,
}

// === impl Values ===

impl Values {
    /// Puts the values of an environment together: globals by name, accounts by name and field.
    pub fn new(globals: Map<String, Value>, accounts: Vec<AccountFields>) -> Self {
        let mut secrets = Vec::new();
        let mut all = Map::new();
        for (name, fields) in accounts {
            let mut account = Map::new();
            for (field, secret) in fields {
                account.insert(field, Value::String(secret.as_str().to_owned()));
                if secret.len() >= SHORTEST_MASKED {
                    // Inside a value that is written as JSON the secret stands with its quotes escaped.
                    let json = Zeroizing::new(Value::String(secret.as_str().to_owned()).to_string());
                    let escaped = json.get(1..json.len() - 1).unwrap_or_default();
                    if escaped != secret.as_str() {
                        secrets.push(Zeroizing::new(escaped.to_owned()));
                    }
                    secrets.push(secret);
                }
            }
            all.insert(name, Value::Object(account));
        }
        // The longest first, so that no part of a secret stays behind when a shorter one stands inside it.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self { globals: Value::Object(globals), accounts: Value::Object(all), secrets }
    }

    /// Tells whether a text is an account value, a short one included.
    pub(crate) fn is_secret(&self, text: &str) -> bool {
        let accounts = self.accounts.as_object().into_iter().flatten();
        let fields = accounts.filter_map(|(_, fields)| fields.as_object()).flatten();
        !text.is_empty() && fields.into_iter().any(|(_, value)| value.as_str() == Some(text))
    }

    /// Replaces every account value in a text by `***`, also where it is written as JSON.
    pub fn mask(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| {
            if text.contains(secret.as_str()) { text.replace(secret.as_str(), "***") } else { text }
        })
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Values(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_values_are_masked_and_never_shown() {
        let fields = vec![
            ("token".to_owned(), Zeroizing::new("s3cret-value".to_owned())),
            ("pem".to_owned(), Zeroizing::new("-----BEGIN\n\"key\"\n-----END".to_owned())),
            ("long".to_owned(), Zeroizing::new("s3cret-value-and-more".to_owned())),
        ];
        let values = Values::new(Map::new(), vec![("portal".to_owned(), fields)]);
        assert_eq!(values.mask("a s3cret-value b s3cret-value-and-more"), "a *** b ***");
        let all = values.accounts.to_string();
        assert_eq!(values.mask(&all), r#"{"portal":{"token":"***","pem":"***","long":"***"}}"#);
        assert!(!format!("{values:?}").contains("s3cret"));
    }
}
