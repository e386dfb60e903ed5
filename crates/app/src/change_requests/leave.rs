//! The leave to write what four eyes protect: carried, so that a use case that forgot to ask for it cannot write.

use tollgate_model::change_requests::ChangeRequest;
use tollgate_model::environments::{FourEyes, Realm};
use tollgate_model::objects::Kind;
use tollgate_store::Stored;

use crate::App;
use crate::access::Op;
use crate::errors::{Error, ErrorKind};

/// What four eyes can protect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The policies and their versions.
    Policies,
    /// Waivers that are made.
    Waivers,
    /// The realm's settings, those about four eyes among them.
    Settings,
}

/// Proof that something protected may be written: the realm wants no second person for it, or there was one.
///
/// Made here alone; [`Draft::put`] refuses to write without one.
///
/// [`Draft::put`]: crate::changes::Draft::put
#[derive(Debug, Clone)]
pub(crate) struct Leave {
    subjects: &'static [Subject],
    /// The realm's revision when its settings were looked at; `None` when the realm is being made.
    realm_revision: Option<u64>,
    approval: Option<Approval>,
}

/// Who asked for a change and who approved it.
#[derive(Debug, Clone)]
struct Approval {
    author: String,
    approver: String,
}

// === impl Subject ===

impl Subject {
    /// Returns what an object that is written falls under.
    pub(crate) fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Policies | Kind::PolicyVersion => Some(Self::Policies),
            Kind::Waiver => Some(Self::Waivers),
            Kind::Realm => Some(Self::Settings),
            _ => None,
        }
    }

    /// Tells whether a realm wants a second person for it.
    pub(crate) fn needs_two(self, four_eyes: FourEyes) -> bool {
        match self {
            Self::Policies => four_eyes.policies,
            Self::Waivers => four_eyes.waivers,
            // Else one person would turn it off first.
            Self::Settings => !four_eyes.is_off(),
        }
    }

    /// Returns the words for it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Policies => "a change of the policies",
            Self::Waivers => "a waiver",
            Self::Settings => "a change of the realm's settings",
        }
    }
}

// === impl Leave ===

impl Leave {
    /// Returns the leave to make a realm: nobody decided anything about it yet.
    pub(crate) fn of_new_realm() -> Self {
        let subjects = &[Subject::Policies, Subject::Settings];
        Self { subjects, realm_revision: None, approval: None }
    }

    /// Returns the leave that a decision gives; `approver` decides, or looks at what their decision would do.
    pub(super) fn approved(realm: &Stored<Realm>, request: &ChangeRequest, approver: &str) -> Self {
        let author = request.author.name.clone();
        let approval = Approval { author, approver: approver.to_owned() };
        let subjects = &[Subject::Policies, Subject::Waivers, Subject::Settings];
        Self { subjects, realm_revision: Some(realm.revision), approval: Some(approval) }
    }

    /// Returns the leave to find out what a change would be that is only asked for.
    pub(super) fn to_ask(realm: &Stored<Realm>) -> Self {
        let subjects = &[Subject::Policies, Subject::Waivers, Subject::Settings];
        Self { subjects, realm_revision: Some(realm.revision), approval: None }
    }

    /// Returns what it lets write.
    pub(crate) fn subjects(&self) -> &'static [Subject] {
        self.subjects
    }

    /// Returns the revision that the realm must still have when the change is committed.
    pub(crate) fn realm_revision(&self) -> Option<u64> {
        self.realm_revision
    }

    /// Returns whose change it is: the author's, whoever approves it.
    pub(crate) fn author(&self, op: &Op) -> String {
        self.approval.as_ref().map_or_else(|| op.actor.name.clone(), |approval| approval.author.clone())
    }

    /// Returns who approved it.
    pub(crate) fn approver(&self) -> Option<String> {
        self.approval.as_ref().map(|approval| approval.approver.clone())
    }
}

// === impl App ===

impl App {
    /// Returns the leave of one person to write something protected.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] with code `four-eyes` when the realm wants a second person.
    pub(crate) async fn leave(&self, op: &Op, subject: Subject) -> Result<Leave, Error> {
        let realm = self.realm(op).await?;
        if subject.needs_two(realm.value.settings.four_eyes) {
            return Err(needs_two(op, subject));
        }
        let subjects = match subject {
            Subject::Policies => &[Subject::Policies],
            Subject::Waivers => &[Subject::Waivers],
            Subject::Settings => &[Subject::Settings],
        };
        Ok(Leave { subjects, realm_revision: Some(realm.revision), approval: None })
    }
}

fn needs_two(op: &Op, subject: Subject) -> Error {
    let message = format!("{} in realm `{}` needs a second person", subject.as_str(), op.realm);
    Error::new(ErrorKind::Conflict, "four-eyes", message)
        .hint("repeat it: it becomes a change request, which somebody else approves")
}
