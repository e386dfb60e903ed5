//! The form of a realm's settings: its fields as they stand there, and the settings that they make.

use serde_json::{Value, json};
use tollgate_model::environments::{FourEyes, RealmSettings, SecondFactorRule, WaiverDays};
use tollgate_model::networks::Network;
use tollgate_model::triggers::{Cors, Method};

use crate::forms::{FieldList, Problem, Refusal};

/// The fields as they stand in the form.
pub(super) struct SettingsForm {
    pub(super) days: String,
    pub(super) four_eyes: FourEyes,
    pub(super) required: bool,
    /// A network on each line.
    pub(super) allow_upstreams: String,
    /// An origin on each line; empty where a trigger alone says what pages of other origins may do.
    pub(super) origins: String,
    /// Every method, and whether it is ticked.
    pub(super) methods: Vec<(&'static str, bool)>,
    /// Names of headers, with commas.
    pub(super) allow_headers: String,
    pub(super) expose_headers: String,
    pub(super) max_age: String,
}

/// The settings that a lost update is told of, as [`told`] writes them: JSON pointers, and what the form calls them.
pub(super) const NAMES: [(&str, &str); 10] = [
    ("/policies", "Policies need a second person"),
    ("/waivers", "Waivers need a second person"),
    ("/secondFactor", "Everybody needs a second factor"),
    ("/days", "A waiver lasts at most, in days"),
    ("/networks", "Special networks that flows may call"),
    ("/cors/allowOrigins", "Origins of other pages"),
    ("/cors/allowMethods", "Methods of other pages"),
    ("/cors/allowHeaders", "Headers that other pages may send"),
    ("/cors/exposeHeaders", "Headers that other pages may read"),
    ("/cors/maxAgeSeconds", "Browsers remember for, in seconds"),
];

/// Writes settings for whoever is overtaken.
pub(super) fn told(settings: &RealmSettings) -> Value {
    json!({
        "policies": settings.four_eyes.policies,
        "waivers": settings.four_eyes.waivers,
        "secondFactor": !settings.second_factor.is_optional(),
        "days": settings.max_waiver_days,
        "networks": settings.allow_upstreams,
        "cors": settings.cors,
    })
}

// === impl SettingsForm ===

impl SettingsForm {
    /// Returns the form filled with what holds.
    pub(super) fn of(settings: &RealmSettings) -> Self {
        let networks: Vec<String> = settings.allow_upstreams.iter().map(ToString::to_string).collect();
        let cors = settings.cors.as_ref();
        let texts = |of: fn(&Cors) -> &Vec<String>, between| {
            cors.map(|cors| of(cors).join(between)).unwrap_or_default()
        };
        let has = |method: &Method| cors.is_some_and(|cors| cors.allow_methods.contains(method));
        Self {
            days: settings.max_waiver_days.get().to_string(),
            four_eyes: settings.four_eyes,
            required: !settings.second_factor.is_optional(),
            allow_upstreams: networks.join("\n"),
            origins: texts(|cors| &cors.allow_origins, "\n"),
            methods: Method::ALL.iter().map(|method| (method.as_str(), has(method))).collect(),
            allow_headers: texts(|cors| &cors.allow_headers, ", "),
            expose_headers: texts(|cors| &cors.expose_headers, ", "),
            max_age: cors.and_then(|cors| cors.max_age_seconds).map(|it| it.to_string()).unwrap_or_default(),
        }
    }

    /// Returns the form as it was sent. What was not sent along at all is as it was before.
    pub(super) fn sent(fields: &FieldList, before: &RealmSettings) -> Self {
        let kept = Self::of(before);
        let text = |name, kept: String| fields.find(name).map_or(kept, str::to_owned);
        let four_eyes = FourEyes {
            policies: fields.find("four_eyes_policies").is_some(),
            waivers: fields.find("four_eyes_waivers").is_some(),
        };
        let ticked = fields.all("method");
        // Boxes that are not ticked are not sent: the origins, which stand beside them, tell whether they were there.
        let methods = match fields.find("origins") {
            Some(_) => Method::ALL.iter().map(|it| (it.as_str(), ticked.contains(it.as_str()))).collect(),
            None => kept.methods,
        };
        Self {
            days: fields.one("days").to_owned(),
            four_eyes,
            required: fields.find("second_factor").is_some(),
            allow_upstreams: text("allow_upstreams", kept.allow_upstreams),
            origins: text("origins", kept.origins),
            methods,
            allow_headers: text("allow_headers", kept.allow_headers),
            expose_headers: text("expose_headers", kept.expose_headers),
            max_age: text("max_age", kept.max_age),
        }
    }

    /// Returns the settings of the form; what is wrong is put at its field.
    pub(super) fn settings(&self) -> Result<RealmSettings, Problem> {
        let days: Option<WaiverDays> =
            self.days.trim().parse::<u64>().ok().and_then(|days| serde_json::from_value(json!(days)).ok());
        let Some(max_waiver_days) = days else {
            let hint = Some("Write 1 to 365 days".to_owned());
            let refusal = Refusal::saying("A waiver cannot last that long", hint);
            return Err(Problem::new("days", refusal));
        };
        let second_factor = match self.required {
            true => SecondFactorRule::Required,
            false => SecondFactorRule::Optional,
        };
        let networks = words(&self.allow_upstreams).map(Network::parse).collect::<Result<Vec<_>, _>>();
        Ok(RealmSettings {
            max_waiver_days,
            four_eyes: self.four_eyes,
            second_factor,
            allow_upstreams: networks.map_err(|error| Problem::of("allow_upstreams", error))?,
            cors: self.cors()?,
        })
    }

    fn cors(&self) -> Result<Option<Cors>, Problem> {
        let methods: Vec<&str> = self.methods.iter().filter(|it| it.1).map(|it| it.0).collect();
        let origins: Vec<&str> = words(&self.origins).collect();
        let rest = [&self.allow_headers, &self.expose_headers, &self.max_age];
        if origins.is_empty() {
            if methods.is_empty() && rest.iter().all(|text| text.trim().is_empty()) {
                return Ok(None);
            }
            return Err(Problem::of("origins", "name the origins that the rest is for, or empty all of it"));
        }
        let mut fields = vec![
            ("origins", "allowOrigins", json!(origins)),
            ("method", "allowMethods", json!(methods)),
            ("allow_headers", "allowHeaders", json!(words(&self.allow_headers).collect::<Vec<_>>())),
            ("expose_headers", "exposeHeaders", json!(words(&self.expose_headers).collect::<Vec<_>>())),
        ];
        let age = self.max_age.trim();
        if !age.is_empty() {
            let seconds = age.parse::<u32>();
            let seconds =
                seconds.map_err(|_| Problem::of("max_age", "write a number of seconds, or nothing"))?;
            fields.push(("max_age", "maxAgeSeconds", json!(seconds)));
        }
        let mut cors = json!({ "allowOrigins": ["*"] });
        for (field, name, value) in fields {
            if let Some(fields) = cors.as_object_mut() {
                fields.insert(name.to_owned(), value);
            }
            // What went in before was right.
            serde_json::from_value::<Cors>(cors.clone()).map_err(|error| Problem::of(field, error))?;
        }
        serde_json::from_value(cors).map(Some).map_err(|error| Problem::of("origins", error))
    }
}

/// Splits what stands on lines, between commas or between spaces.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ', '\n', '\r', '\t']).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_reads_back_as_it_was_filled() {
        for settings in [
            json!({ "maxWaiverDays": 14, "allowUpstreams": ["127.0.0.1/32", "fe80::/10"] }),
            json!({ "maxWaiverDays": 30, "fourEyes": { "policies": true, "waivers": false }, "secondFactor": "required",
                "cors": { "allowOrigins": ["https://shop.example", "*"], "allowMethods": ["GET", "POST"],
                    "allowHeaders": ["apikey", "authorization"], "exposeHeaders": ["etag"], "maxAgeSeconds": 600 } }),
        ] {
            let settings: RealmSettings = serde_json::from_value(settings).expect("settings");
            let read = SettingsForm::of(&settings).settings();
            assert_eq!(read.ok(), Some(settings));
        }
    }

    #[test]
    fn what_is_wrong_is_told_at_its_field() {
        let wrong_at = |change: fn(&mut SettingsForm), field: &str| {
            let mut form = SettingsForm::of(&RealmSettings::default());
            change(&mut form);
            form.settings().err().is_some_and(|problem| problem.is_at(field))
        };
        assert!(wrong_at(|form| form.days = "366".to_owned(), "days"));
        assert!(wrong_at(|form| form.allow_upstreams = "10.0.0.0/40".to_owned(), "allow_upstreams"));
        assert!(wrong_at(|form| form.origins = "shop.example".to_owned(), "origins"));
        assert!(wrong_at(|form| form.max_age = "600".to_owned(), "origins"));
        assert!(wrong_at(
            |form| {
                form.origins = "https://shop.example".to_owned();
                form.allow_headers = "api key:".to_owned();
            },
            "allow_headers"
        ));
        assert!(wrong_at(
            |form| {
                form.origins = "https://shop.example".to_owned();
                form.max_age = "for ever".to_owned();
            },
            "max_age"
        ));
    }
}
