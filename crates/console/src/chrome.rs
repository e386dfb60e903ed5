//! What stands around every page: navigation, search, who is signed in.

use tollgate_app::access::Op;

use crate::assets;
use crate::forms::Refusal;
use crate::permitted::opens;
use crate::visitor::Visitor;

/// The parts of the console, in the order of the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Overview,
    Pipelines,
    Deployments,
    Policies,
    Waivers,
    ChangeRequests,
    Consumers,
    Globals,
    Accounts,
    SigningKeys,
    Issuers,
    Users,
    Groups,
    Roles,
    Tokens,
    Environments,
    RealmSettings,
    Audit,
    /// One's own account; not in the navigation.
    Account,
    Traffic,
    Calls,
    Explain,
    /// Not in the navigation.
    Search,
    /// Reached from the realm's name at the top.
    Realms,
}

/// One entry of the navigation.
pub(crate) struct Entry {
    pub(crate) label: &'static str,
    pub(crate) path: String,
    pub(crate) here: bool,
    /// How much waits there for whoever looks.
    pub(crate) waiting: usize,
}

/// A group of entries.
pub(crate) struct Group {
    pub(crate) label: &'static str,
    pub(crate) entries: Vec<Entry>,
}

/// What stands around a page.
pub(crate) struct Chrome {
    pub(crate) title: String,
    pub(crate) realm: String,
    /// The first page that whoever looks may open.
    pub(crate) home: String,
    pub(crate) user: String,
    /// What stands in the search box.
    pub(crate) q: String,
    /// What was just done.
    pub(crate) notice: Option<String>,
    /// What was refused of what was sent from this page.
    pub(crate) refused: Option<Refusal>,
    /// The page's own path, where the browser stands at that of a form.
    pub(crate) stands_at: Option<String>,
    pub(crate) groups: Vec<Group>,
    pub(crate) style: &'static str,
    pub(crate) script: &'static str,
    pub(crate) htmx: &'static str,
    pub(crate) icon: &'static str,
}

/// A section, its label and the end of its path.
type Place = (Section, &'static str, &'static str);

/// The groups of the navigation: a label, and its sections.
const NAVIGATION: [(&str, &[Place]); 7] = [
    ("", &[(Section::Overview, "Overview", "overview")]),
    ("Build", &[(Section::Pipelines, "Pipelines", "pipelines")]),
    ("Run", &[(Section::Deployments, "Deployments", "deployments")]),
    (
        "Governance",
        &[
            (Section::Policies, "Policies", "policies"),
            (Section::Waivers, "Waivers", "waivers"),
            (Section::ChangeRequests, "Change requests", "change-requests"),
        ],
    ),
    (
        "Settings",
        &[
            (Section::Consumers, "Consumers", "consumers"),
            (Section::Globals, "Globals", "globals"),
            (Section::Accounts, "Accounts", "accounts"),
            (Section::SigningKeys, "Signing keys", "signing-keys"),
            (Section::Issuers, "Issuers", "issuers"),
        ],
    ),
    (
        "Administration",
        &[
            (Section::Users, "Users", "users"),
            (Section::Groups, "Groups", "groups"),
            (Section::Roles, "Roles", "roles"),
            (Section::Tokens, "API tokens", "tokens"),
            (Section::Environments, "Environments", "environments"),
            (Section::RealmSettings, "Realm settings", "settings"),
            (Section::Audit, "Audit", "audit"),
        ],
    ),
    (
        "Monitor",
        &[
            (Section::Traffic, "Traffic", "traffic"),
            (Section::Calls, "Live log", "calls"),
            (Section::Explain, "Explain a call", "explain"),
        ],
    ),
];

/// Returns the first page of a realm that somebody may open; their own account is everybody's.
pub(crate) fn home(op: &Op) -> String {
    let sections = NAVIGATION.iter().flat_map(|(_, entries)| entries.iter());
    let end = sections.filter(|(of, ..)| opens(op, *of)).map(|(_, _, end)| *end).next();
    format!("/realms/{}/{}", op.realm, end.unwrap_or("account"))
}

// === impl Chrome ===

impl Chrome {
    /// Puts it together for a page.
    pub(crate) fn new(visitor: &Visitor, section: Section, title: impl Into<String>) -> Self {
        let realm = visitor.op.realm.to_string();
        let groups = NAVIGATION.map(|(label, entries)| Group {
            label,
            entries: entries
                .iter()
                .filter(|(of, ..)| *of == section || opens(&visitor.op, *of))
                .map(|(of, label, end)| Entry {
                    label,
                    path: format!("/realms/{realm}/{end}"),
                    here: *of == section,
                    waiting: if *of == Section::ChangeRequests { visitor.waiting } else { 0 },
                })
                .collect(),
        });
        Self {
            home: home(&visitor.op),
            title: title.into(),
            user: visitor.op.actor.name.clone(),
            q: String::new(),
            notice: None,
            refused: visitor.told_back.as_ref().map(|told| told.said.clone().into()),
            stands_at: visitor.told_back.as_ref().map(|told| told.page.clone()),
            realm,
            groups: groups.into_iter().filter(|group| !group.entries.is_empty()).collect(),
            style: &assets::STYLE.path,
            script: &assets::SCRIPT.path,
            htmx: &assets::HTMX.path,
            icon: &assets::ICON.path,
        }
    }
}
