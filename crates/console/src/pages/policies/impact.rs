//! What a change of the policies would do, before it is saved.

use askama::Template;
use tollgate_app::policies::PolicyImpact;
use tollgate_app::{ConformanceItem, Effect, EnvironmentMeaning, Impact};
use tollgate_model::names::EnvironmentName;

use super::super::overview::reasons;

/// The impact alone, for htmx.
#[derive(Template)]
#[template(path = "pages/policies/impact.html")]
pub(super) struct ImpactFragment {
    pub(super) impact: Option<ImpactView>,
}

/// What a change would do.
pub(super) struct ImpactView {
    pub(super) environments: Vec<EnvironmentImpact>,
}

pub(super) struct EnvironmentImpact {
    pub(super) name: String,
    pub(super) effect: &'static str,
    pub(super) falls_out: Vec<Changed>,
    pub(super) comes_in: Vec<Changed>,
    pub(super) unchanged: usize,
    pub(super) enforced_from: Option<String>,
}

pub(super) struct Changed {
    pub(super) pipeline: String,
    pub(super) version: String,
    pub(super) reasons: String,
}

// === impl ImpactView ===

impl ImpactView {
    pub(super) fn new(impact: &PolicyImpact) -> Self {
        let effect_in = |name: &EnvironmentName| {
            let meaning = impact.meaning.environments.iter().find(|it| it.environment == *name);
            meaning.map_or("", |meaning| effect(meaning.changed > 0 || !meaning.settings.is_empty(), meaning))
        };
        Self {
            environments: impact
                .environments
                .iter()
                .map(|it| EnvironmentImpact::new(it, effect_in(&it.environment)))
                .collect(),
        }
    }
}

fn effect(changes: bool, meaning: &EnvironmentMeaning) -> &'static str {
    match meaning.effect {
        Effect::Tightens => "tightens",
        Effect::Weakens => "weakens",
        Effect::Both => "tightens and weakens",
        Effect::None if changes => "neither weakens nor tightens",
        Effect::None => "nothing changes",
    }
}

impl EnvironmentImpact {
    fn new(impact: &Impact, effect: &'static str) -> Self {
        let changed = |items: &[ConformanceItem]| {
            let changed = items.iter().map(|item| Changed {
                pipeline: item.pipeline.to_string(),
                version: item.version.to_string(),
                reasons: reasons(item.violations.iter().map(|it| it.message.as_str())),
            });
            changed.collect()
        };
        Self {
            name: impact.environment.to_string(),
            effect,
            falls_out: changed(&impact.falls_out),
            comes_in: changed(&impact.comes_in),
            unchanged: impact.unchanged,
            enforced_from: impact
                .enforced_from
                .filter(|_| impact.not_conformant > 0)
                .map(|at| at.strftime("%Y-%m-%d %H:%M UTC").to_string()),
        }
    }
}
