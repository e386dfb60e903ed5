//! What whoever looks may do, so that pages show nothing that would be refused. Use cases refuse by themselves; what is
//! shown here protects nothing.

use tollgate_app::access::{Op, Permission, Place, Scope};
use tollgate_model::names::RealmName;

use crate::chrome::Section;

/// Tells whether somebody may do a thing in the whole realm; what concerns the whole server is done in realm `default`.
pub(crate) fn may(op: &Op, permission: Permission) -> bool {
    let here = permission.scope() != Scope::Server || op.realm == RealmName::default();
    here && op.may(permission, Place::REALM)
}

/// Tells whether a section has something to show. One that nobody decided about is shown, and says itself what is missing.
pub(crate) fn opens(op: &Op, section: Section) -> bool {
    let anywhere = |permission| op.rights().allows_anywhere(permission);
    match section {
        Section::Pipelines => anywhere(Permission::PipelineRead),
        Section::Deployments => anywhere(Permission::DeploymentRead),
        Section::Overview | Section::Policies => anywhere(Permission::PolicyRead),
        Section::Waivers => anywhere(Permission::WaiverRead),
        Section::ChangeRequests => may(op, Permission::ChangeRequestRead),
        Section::Consumers => anywhere(Permission::ConsumerRead),
        Section::Globals => anywhere(Permission::GlobalRead),
        Section::Accounts => anywhere(Permission::AccountRead),
        Section::SigningKeys => anywhere(Permission::SigningKeyRead),
        Section::Issuers => anywhere(Permission::IssuerRead),
        Section::Users => may(op, Permission::UserRead),
        Section::Groups => may(op, Permission::GroupRead),
        Section::Roles => may(op, Permission::RoleRead),
        Section::Tokens => may(op, Permission::UserTokenRead),
        Section::Environments => anywhere(Permission::EnvironmentRead),
        Section::RealmSettings => anywhere(Permission::RealmRead),
        Section::Audit => may(op, Permission::AuditRead),
        Section::Traffic => anywhere(Permission::UsageRead),
        Section::Calls | Section::Explain => anywhere(Permission::CallExplain),
        _ => true,
    }
}
