//! The form of an issuer: its fields as they stand there, and the settings that they make.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tollgate_model::issuers::{IssuerAlgorithm, IssuerSettings, TokenConsumer};
use tollgate_model::names::ConsumerName;

use crate::forms::{FieldList, Problem, Refusal};

/// The fields as they stand in the form.
#[derive(Default)]
pub(super) struct IssuerForm {
    pub(super) name: String,
    pub(super) issuer: String,
    pub(super) jwks_url: String,
    pub(super) audience: String,
    /// Every algorithm, and whether it is ticked.
    pub(super) algorithms: Vec<(&'static str, bool)>,
    /// Whether a claim names the consumer; else every token is of one.
    pub(super) by_claim: bool,
    pub(super) consumer: String,
    pub(super) claim: String,
    /// A line for each value of the claim: `value = consumer`.
    pub(super) values: String,
    pub(super) scopes_claim: String,
    pub(super) access_tokens_only: bool,
    pub(super) leeway: String,
    pub(super) refresh: String,
    pub(super) max_stale: String,
    pub(super) internal_addresses: bool,
}

/// The settings that a lost update is told of: JSON pointers, and what the form calls them.
pub(super) const NAMES: [(&str, &str); 13] = [
    ("/issuer", "Issuer"),
    ("/jwksUrl", "Where its keys are"),
    ("/audience", "Audience"),
    ("/algorithms", "Algorithms"),
    ("/consumer/name", "Consumer of every token"),
    ("/consumer/claim", "Claim that names the consumer"),
    ("/consumer/values", "Values that count"),
    ("/scopesClaim", "Claim with the scopes"),
    ("/accessTokensOnly", "Access tokens only"),
    ("/leewaySeconds", "Clocks may differ by, in seconds"),
    ("/refreshSeconds", "Keys are fetched every, in seconds"),
    ("/maxStaleSeconds", "Keys count for, in seconds"),
    ("/internalAddresses", "Internal addresses"),
];

/// What settings are tried one by one against.
fn base() -> Value {
    json!({ "issuer": "https://issuer.example", "audience": "a", "algorithms": ["ES256"], "consumer": { "claim": "azp" } })
}

// === impl IssuerForm ===

impl IssuerForm {
    /// Returns the form of a new issuer.
    pub(super) fn empty() -> Self {
        let algorithms = IssuerAlgorithm::ALL.into_iter();
        Self {
            algorithms: algorithms.map(|it| (it.as_str(), it == IssuerAlgorithm::Es256)).collect(),
            by_claim: true,
            claim: "azp".to_owned(),
            scopes_claim: "scope".to_owned(),
            access_tokens_only: true,
            leeway: "30".to_owned(),
            refresh: "600".to_owned(),
            max_stale: "86400".to_owned(),
            ..Self::default()
        }
    }

    /// Returns the form filled with what holds.
    pub(super) fn of(settings: &IssuerSettings) -> Self {
        let (by_claim, consumer, claim, values) = match &settings.consumer {
            TokenConsumer::Fixed(name) => (false, name.to_string(), String::new(), String::new()),
            TokenConsumer::Claim { claim, values } => {
                let lines: Vec<String> =
                    values.iter().map(|(value, name)| format!("{value} = {name}")).collect();
                (true, String::new(), claim.clone(), lines.join("\n"))
            }
        };
        Self {
            name: String::new(),
            issuer: settings.issuer.to_string(),
            jwks_url: settings.jwks_url.as_ref().map(ToString::to_string).unwrap_or_default(),
            audience: settings.audience.clone(),
            algorithms: IssuerAlgorithm::ALL
                .into_iter()
                .map(|it| (it.as_str(), settings.algorithms.contains(&it)))
                .collect(),
            by_claim,
            consumer,
            claim,
            values,
            scopes_claim: settings.scopes_claim.clone(),
            access_tokens_only: settings.access_tokens_only,
            leeway: settings.leeway_seconds.to_string(),
            refresh: settings.refresh_seconds.to_string(),
            max_stale: settings.max_stale_seconds.to_string(),
            internal_addresses: settings.internal_addresses,
        }
    }

    /// Returns the form as it was sent.
    pub(super) fn sent(fields: &FieldList) -> Self {
        let field = |name| fields.one(name).trim().to_owned();
        let ticked = fields.all("algorithm");
        Self {
            name: field("name"),
            issuer: field("issuer"),
            jwks_url: field("jwks_url"),
            audience: field("audience"),
            algorithms: IssuerAlgorithm::ALL
                .into_iter()
                .map(|it| (it.as_str(), ticked.contains(it.as_str())))
                .collect(),
            by_claim: fields.one("whose") == "claim",
            consumer: field("consumer"),
            claim: field("claim"),
            values: fields.one("values").to_owned(),
            scopes_claim: field("scopes_claim"),
            access_tokens_only: fields.find("access_tokens_only").is_some(),
            leeway: field("leeway"),
            refresh: field("refresh"),
            max_stale: field("max_stale"),
            internal_addresses: fields.find("internal_addresses").is_some(),
        }
    }

    /// Returns the settings of the form; what is wrong is put at its field.
    pub(super) fn settings(&self) -> Result<IssuerSettings, Problem> {
        let seconds = |field: &'static str, text: &str| {
            let number = text.parse::<u64>();
            number.map(Value::from).map_err(|_| Problem::of(field, "write a number of seconds"))
        };
        let algorithms: Vec<&str> = self.algorithms.iter().filter(|it| it.1).map(|it| it.0).collect();
        let mut fields = vec![
            ("issuer", "issuer", json!(self.issuer)),
            ("audience", "audience", json!(self.audience)),
            ("algorithm", "algorithms", json!(algorithms)),
            (if self.by_claim { "claim" } else { "consumer" }, "consumer", self.whose()?),
            ("scopes_claim", "scopesClaim", json!(self.scopes_claim)),
            ("access_tokens_only", "accessTokensOnly", json!(self.access_tokens_only)),
            ("leeway", "leewaySeconds", seconds("leeway", &self.leeway)?),
            ("refresh", "refreshSeconds", seconds("refresh", &self.refresh)?),
            ("max_stale", "maxStaleSeconds", seconds("max_stale", &self.max_stale)?),
            ("internal_addresses", "internalAddresses", json!(self.internal_addresses)),
        ];
        if !self.jwks_url.is_empty() {
            fields.push(("jwks_url", "jwksUrl", json!(self.jwks_url)));
        }
        let mut settings = base();
        for (field, name, value) in fields {
            // Each is tried alone, so that what is wrong is known to be wrong with it.
            let mut alone = base();
            for target in [&mut alone, &mut settings] {
                if let Some(target) = target.as_object_mut() {
                    target.insert(name.to_owned(), value.clone());
                }
            }
            serde_json::from_value::<IssuerSettings>(alone).map_err(|error| Problem::of(field, error))?;
        }
        let settings: IssuerSettings =
            serde_json::from_value(settings).map_err(|error| Problem::of("", error))?;
        match settings.contradiction() {
            None => Ok(settings),
            Some(wrong) if wrong.starts_with("maxStaleSeconds") => {
                let hint = "Let them count at least as long as it is between two fetches".to_owned();
                let message = "Keys would count for nothing between two fetches";
                Err(Problem::new("max_stale", Refusal::saying(message, Some(hint))))
            }
            Some(wrong) => {
                let field = if settings.issuer.is_plain() { "issuer" } else { "jwks_url" };
                Err(Problem::of(field, wrong))
            }
        }
    }

    /// Returns whose tokens are.
    fn whose(&self) -> Result<Value, Problem> {
        if !self.by_claim {
            let name = ConsumerName::parse(&self.consumer).map_err(|error| Problem::of("consumer", error))?;
            return Ok(json!({ "name": name }));
        }
        let mut values = BTreeMap::new();
        for line in self.values.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let wrong = |message: String| {
                let hint = Some("Write a line for each value: client-7 = shop".to_owned());
                Problem::new("values", Refusal::saying(message, hint))
            };
            // A consumer's name has no `=`; a value may.
            let Some((value, name)) = line.rsplit_once('=') else {
                return Err(wrong(format!(
                    "`{}` names no consumer",
                    line.chars().take(80).collect::<String>()
                )));
            };
            let name = ConsumerName::parse(name.trim()).map_err(|error| wrong(error.to_string()))?;
            if values.insert(value.trim().to_owned(), name).is_some() {
                return Err(wrong(format!("`{}` stands twice", value.trim())));
            }
        }
        let mut whose = json!({ "claim": self.claim });
        if let (false, Some(fields)) = (values.is_empty(), whose.as_object_mut()) {
            fields.insert("values".to_owned(), json!(values));
        }
        Ok(whose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form() -> IssuerForm {
        IssuerForm {
            issuer: "https://login.example".to_owned(),
            audience: "orders".to_owned(),
            ..IssuerForm::empty()
        }
    }

    fn wrong_at(change: impl FnOnce(&mut IssuerForm)) -> Vec<&'static str> {
        let mut form = form();
        change(&mut form);
        let problem = form.settings().err().unwrap_or_default();
        let fields = [
            "issuer",
            "jwks_url",
            "audience",
            "algorithm",
            "claim",
            "consumer",
            "values",
            "scopes_claim",
            "leeway",
            "refresh",
            "max_stale",
        ];
        fields.into_iter().filter(|field| problem.is_at(field)).collect()
    }

    #[test]
    fn a_form_reads_back_as_it_was_filled() {
        for consumer in [
            json!({ "name": "shop" }),
            json!({ "claim": "azp" }),
            json!({ "claim": "azp", "values": { "a = b": "shop", "client-7": "bank" } }),
        ] {
            let settings = json!({ "issuer": "https://login.example", "jwksUrl": "http://127.0.0.1/keys",
                "audience": "orders", "algorithms": ["RS256", "EdDSA", "ES512", "PS384"], "consumer": consumer,
                "scopesClaim": "scp", "accessTokensOnly": false, "leewaySeconds": 0, "refreshSeconds": 10,
                "maxStaleSeconds": 604_800, "internalAddresses": true });
            let settings: IssuerSettings = serde_json::from_value(settings).expect("settings");
            assert_eq!(IssuerForm::of(&settings).settings().ok(), Some(settings));
        }
    }

    #[test]
    fn what_is_wrong_is_told_at_its_field() {
        assert_eq!(wrong_at(|_| {}), [""; 0]);
        assert_eq!(wrong_at(|form| form.issuer = "login.example".to_owned()), ["issuer"]);
        assert_eq!(wrong_at(|form| form.issuer = "http://login.example".to_owned()), ["issuer"]);
        assert_eq!(wrong_at(|form| form.jwks_url = "file:///etc/passwd".to_owned()), ["jwks_url"]);
        assert_eq!(wrong_at(|form| form.jwks_url = "http://login.example/keys".to_owned()), ["jwks_url"]);
        assert_eq!(wrong_at(|form| form.audience.clear()), ["audience"]);
        assert_eq!(wrong_at(|form| form.algorithms.clear()), ["algorithm"]);
        assert_eq!(wrong_at(|form| form.claim.clear()), ["claim"]);
        assert_eq!(wrong_at(|form| form.by_claim = false), ["consumer"]);
        assert_eq!(wrong_at(|form| form.values = "client-7".to_owned()), ["values"]);
        assert_eq!(wrong_at(|form| form.values = "a = shop\na = bank".to_owned()), ["values"]);
        assert_eq!(wrong_at(|form| form.scopes_claim.clear()), ["scopes_claim"]);
        assert_eq!(wrong_at(|form| form.leeway = "301".to_owned()), ["leeway"]);
        assert_eq!(wrong_at(|form| form.refresh = "soon".to_owned()), ["refresh"]);
        assert_eq!(wrong_at(|form| form.max_stale = "599".to_owned()), ["max_stale"]);
    }
}
