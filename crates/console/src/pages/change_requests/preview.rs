//! What a request would do: values before and after, and the deployments that it concerns.

use serde_json::Value;
use tollgate_app::change_requests::Preview;
use tollgate_app::policies::PolicyImpact;
use tollgate_app::{ConformanceItem, Effect, PolicyDiff};
use tollgate_model::environments::{RealmSettings, SecondFactorRule};

use super::super::overview::reasons;

/// What a request would do today.
pub(super) struct PreviewView {
    /// What whoever approves names.
    pub(super) base: u64,
    pub(super) diff: Option<DiffView>,
    pub(super) settings: Vec<Line>,
    pub(super) impact: Option<Vec<EnvironmentView>>,
}

/// Policies before and after.
pub(super) struct DiffView {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) lines: Vec<Line>,
    /// Environments that come and go.
    pub(super) environments: Vec<String>,
}

/// One value before and after; empty where there is none.
pub(super) struct Line {
    pub(super) of: String,
    pub(super) place: String,
    pub(super) before: String,
    pub(super) after: String,
}

/// What it does to what runs in one environment.
pub(super) struct EnvironmentView {
    pub(super) name: String,
    pub(super) effect: &'static str,
    pub(super) falls_out: Vec<String>,
    pub(super) comes_in: Vec<String>,
    pub(super) unchanged: usize,
}

impl From<&Preview> for PreviewView {
    fn from(preview: &Preview) -> Self {
        Self {
            base: preview.base,
            diff: preview.diff.as_ref().map(DiffView::from),
            settings: preview
                .settings
                .as_ref()
                .map(|(before, after)| settings(before, after))
                .unwrap_or_default(),
            impact: preview.impact.as_ref().map(environments),
        }
    }
}

impl From<&PolicyDiff> for DiffView {
    fn from(diff: &PolicyDiff) -> Self {
        let mut lines = Vec::new();
        for change in &diff.policies {
            let of = change.policy.to_string();
            for value in &change.environments {
                let place = value.name.to_string();
                lines.push(Line {
                    of: of.clone(),
                    place,
                    before: text(&value.before),
                    after: text(&value.after),
                });
            }
            for value in &change.settings {
                let place = value.name.to_owned();
                lines.push(Line {
                    of: of.clone(),
                    place,
                    before: text(&value.before),
                    after: text(&value.after),
                });
            }
        }
        let added = diff.environments_added.iter().map(|name| format!("{name} comes"));
        let removed = diff.environments_removed.iter().map(|name| format!("{name} goes"));
        Self {
            from: diff.from.to_string(),
            to: diff.to.to_string(),
            lines,
            environments: added.chain(removed).collect(),
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Returns the settings that are not the same.
fn settings(before: &RealmSettings, after: &RealmSettings) -> Vec<Line> {
    let on = |on: bool| if on { "on" } else { "off" }.to_owned();
    let rule = |rule: SecondFactorRule| match rule {
        SecondFactorRule::Optional => "optional".to_owned(),
        SecondFactorRule::Required => "required of everybody".to_owned(),
    };
    let days = |settings: &RealmSettings| format!("{} days", settings.max_waiver_days.get());
    let networks = |settings: &RealmSettings| {
        let networks: Vec<_> = settings.allow_upstreams.iter().map(ToString::to_string).collect();
        if networks.is_empty() { "none".to_owned() } else { networks.join(", ") }
    };
    let cors = |settings: &RealmSettings| {
        let cors = settings.cors.as_ref().and_then(|cors| serde_json::to_string(cors).ok());
        cors.unwrap_or_else(|| "nothing".to_owned())
    };
    let lines = [
        ("Four eyes for policies", on(before.four_eyes.policies), on(after.four_eyes.policies)),
        ("Four eyes for waivers", on(before.four_eyes.waivers), on(after.four_eyes.waivers)),
        ("Longest waiver", days(before), days(after)),
        ("Second factor", rule(before.second_factor), rule(after.second_factor)),
        ("Special networks that flows may call", networks(before), networks(after)),
        ("Pages of other origins", cors(before), cors(after)),
    ];
    let line = |(of, before, after): (&str, String, String)| Line {
        of: of.to_owned(),
        place: String::new(),
        before,
        after,
    };
    lines.into_iter().filter(|(_, before, after)| before != after).map(line).collect()
}

fn environments(impact: &PolicyImpact) -> Vec<EnvironmentView> {
    let told = |item: &ConformanceItem| {
        let why = reasons(item.violations.iter().map(|it| it.message.as_str()));
        if why.is_empty() {
            format!("{} {}", item.pipeline, item.version)
        } else {
            format!("{} {}: {why}", item.pipeline, item.version)
        }
    };
    let view = |it: &tollgate_app::Impact| {
        let meaning =
            impact.meaning.environments.iter().find(|meaning| meaning.environment == it.environment);
        EnvironmentView {
            name: it.environment.to_string(),
            effect: match meaning.map(|meaning| meaning.effect) {
                Some(Effect::Tightens) => "tightens",
                Some(Effect::Weakens) => "weakens",
                Some(Effect::Both) => "tightens and weakens",
                Some(Effect::None) | None => "stays as strict",
            },
            falls_out: it.falls_out.iter().map(told).collect(),
            comes_in: it.comes_in.iter().map(|item| format!("{} {}", item.pipeline, item.version)).collect(),
            unchanged: it.unchanged,
        }
    };
    impact.environments.iter().map(view).collect()
}
