//! Picking pipelines among many: what is picked stays in sight, the rest is found by project and name.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use axum::extract::State;
use tollgate_app::access::Op;
use tollgate_app::lists::ListRequest;
use tollgate_model::names::ProjectName;

use crate::Console;
use crate::answers::{Answer, page};
use crate::forms::FieldList;
use crate::visitor::Visitor;

/// Most pipelines that are offered at once.
const OFFERED: u32 = 60;

/// Most picked ones that are shown; further ones stay picked.
const PICKED: usize = 500;

/// The picker: a part of a form. Its fields are `pipeline` (picked) and `offered` (all that could be).
#[derive(Template)]
#[template(path = "parts/pick_pipelines.html")]
pub(super) struct Picker {
    pub(super) realm: String,
    /// What is picked, by name.
    pub(super) picked: Vec<String>,
    /// How many more are picked than are shown.
    pub(super) more_picked: usize,
    /// What else there is, by project.
    pub(super) groups: Vec<(String, Vec<String>)>,
    /// Whether there is more than is shown.
    pub(super) more: bool,
    pub(super) projects: Vec<(String, bool)>,
    pub(super) q: String,
}

/// Answers with the picker alone, for htmx.
pub(super) async fn find(State(console): State<Console>, visitor: Visitor, fields: FieldList) -> Answer {
    page(&Picker::of_form(&console, &visitor.op, &fields).await?)
}

// === impl Picker ===

impl Picker {
    /// Makes the picker that a form was sent with.
    pub(super) async fn of_form(console: &Console, op: &Op, fields: &FieldList) -> Answer<Self> {
        let (project, q) = (fields.one("pick_project"), fields.one("pick_q"));
        Self::new(console, op, &fields.all("pipeline"), project, q).await
    }

    pub(super) async fn new(
        console: &Console,
        op: &Op,
        picked: &BTreeSet<String>,
        project: &str,
        q: &str,
    ) -> Answer<Self> {
        let q = q.trim().to_lowercase();
        let wanted = ProjectName::parse(project).ok();
        let request = ListRequest { limit: Some(OFFERED), cursor: None };
        let found = console.app.pipelines().search(op, wanted.as_ref(), &q, request).await?;
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for head in found.items {
            if !picked.contains(head.name.as_str()) {
                groups.entry(head.project.to_string()).or_default().push(head.name.to_string());
            }
        }
        let projects = console.app.environments().projects(op).await?;
        Ok(Self {
            realm: op.realm.to_string(),
            picked: picked.iter().take(PICKED).cloned().collect(),
            more_picked: picked.len().saturating_sub(PICKED),
            groups: groups.into_iter().collect(),
            more: found.next.is_some(),
            projects: projects
                .into_iter()
                .map(|it| (it.name.to_string(), wanted.as_ref() == Some(&it.name)))
                .collect(),
            q,
        })
    }
}
