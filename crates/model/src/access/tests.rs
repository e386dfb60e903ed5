//! Roles, groups and rights against an oracle that knows nothing of how they are kept.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::ids::UserId;
use crate::names::{EnvironmentName, GroupName, ProjectName, RoleName};

const ENVIRONMENTS: [&str; 3] = ["prod", "staging", "test"];
const PROJECTS: [&str; 3] = ["bank", "crm", "store"];
const OWN_ROLES: [&str; 3] = ["helper", "other", "owner"];

/// A realm as generated: names and texts only.
#[derive(Debug, Clone)]
struct Case {
    own_roles: BTreeMap<&'static str, BTreeSet<usize>>,
    groups: Vec<CaseGroup>,
}

/// A limit as somebody might write it: nothing said, or names.
type Limit = Option<BTreeSet<&'static str>>;

#[derive(Debug, Clone)]
struct CaseGroup {
    has_the_user: bool,
    grants: Vec<(&'static str, Limit, Limit)>,
}

fn case() -> impl Strategy<Value = Case> {
    let permissions = prop::collection::btree_set(0..Permission::ALL.len(), 1..8);
    let own_roles = prop::collection::btree_map(prop::sample::select(&OWN_ROLES[..]), permissions, 0..4);
    let system = Role::system().iter().map(|role| role.name.as_str()).filter(|name| *name != "administrator");
    // One that is not there, too: it grants nothing.
    let names: Vec<&'static str> = system.chain(OWN_ROLES).chain(["gone"]).collect();
    let limit = |names: &'static [&'static str]| {
        prop::option::of(prop::collection::btree_set(prop::sample::select(names), 1..3))
    };
    let grant = (prop::sample::select(names), limit(&ENVIRONMENTS), limit(&PROJECTS));
    let group = (any::<bool>(), prop::collection::vec(grant, 0..4))
        .prop_map(|(has_the_user, grants)| CaseGroup { has_the_user, grants });
    (own_roles, prop::collection::vec(group, 0..4)).prop_map(|(own_roles, groups)| Case { own_roles, groups })
}

fn extent<N: Ord + Clone>(limit: &Limit, name: fn(&str) -> N) -> Extent<N> {
    match limit {
        None => Extent::All,
        Some(names) => Extent::only(names.iter().map(|text| name(text))).expect("names"),
    }
}

fn environment(text: &str) -> EnvironmentName {
    EnvironmentName::parse(text).expect("a name")
}

fn project(text: &str) -> ProjectName {
    ProjectName::parse(text).expect("a name")
}

fn user(number: u8) -> UserId {
    UserId::new(Timestamp::UNIX_EPOCH, [number; 10])
}

impl Case {
    fn roles(&self) -> Roles {
        Roles::new(self.own_roles.iter().map(|(name, permissions)| Role {
            name: RoleName::parse(name).expect("a name"),
            description: String::new(),
            permissions: permissions.iter().map(|index| Permission::ALL[*index]).collect(),
        }))
    }

    fn groups(&self) -> Vec<Group> {
        let group = |(number, group): (usize, &CaseGroup)| Group {
            name: GroupName::parse(&format!("g{number}")).expect("a name"),
            description: String::new(),
            members: if group.has_the_user { [user(1), user(2)].into() } else { [user(2)].into() },
            grants: group
                .grants
                .iter()
                .map(|(role, environments, projects)| Grant {
                    role: RoleName::parse(role).expect("a name"),
                    environments: extent(environments, environment),
                    projects: extent(projects, project),
                })
                .collect(),
        };
        self.groups.iter().enumerate().map(group).collect()
    }

    /// What the rules say in words: somebody may do a thing in a place when a group that they are in grants a role that
    /// has the permission, and the grant names the place, or is not limited. A place that means everything needs a
    /// grant without limits.
    fn may(&self, permission: Permission, environment: Option<&str>, project: Option<&str>) -> bool {
        let within = |limit: &Limit, asked: Option<&str>| match (limit, asked) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(names), Some(asked)) => names.contains(asked),
        };
        let has = |role: &str| {
            if let Some(role) = Role::system().iter().find(|it| it.name.as_str() == role) {
                return role.permissions.contains(&permission);
            }
            self.own_roles.get(role).is_some_and(|permissions| {
                permissions.iter().any(|index| Permission::ALL[*index] == permission)
            })
        };
        self.groups.iter().filter(|group| group.has_the_user).any(|group| {
            group.grants.iter().any(|(role, environments, projects)| {
                has(role) && within(environments, environment) && within(projects, project)
            })
        })
    }
}

proptest! {
    #[test]
    fn a_user_may_do_exactly_what_their_groups_grant_wherever_it_is(case in case()) {
        let (roles, groups) = (case.roles(), case.groups());
        let rights = Group::rights_of(user(1), &groups, &roles);
        for permission in Permission::ALL.iter().copied() {
            for e in [None, Some("prod"), Some("staging"), Some("test"), Some("elsewhere")] {
                for p in [None, Some("bank"), Some("crm"), Some("store"), Some("another")] {
                    let (named, owned) = (e.map(environment), p.map(project));
                    let place = Place { environment: named.as_ref(), project: owned.as_ref() };
                    prop_assert_eq!(rights.allows(permission, place), case.may(permission, e, p),
                        "{} {}", permission, place);
                }
            }
        }
        prop_assert!(Group::rights_of(user(3), &groups, &roles).is_empty(), "nobody put them into a group");
    }

    #[test]
    fn a_group_reads_back_as_it_was_written(case in case()) {
        for group in case.groups() {
            let text = serde_json::to_string(&group).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<Group>(&text).expect("a group"), group);
        }
    }
}

#[test]
fn a_limit_to_nothing_is_no_grant_without_limits() {
    let empty = serde_json::from_str::<Grant>(r#"{ "role": "deployer", "environments": [] }"#);
    assert!(empty.expect_err("was taken").to_string().contains("leave it out to mean all"));
    let null = serde_json::from_str::<Grant>(r#"{ "role": "deployer", "environments": null }"#);
    assert!(null.is_err(), "nothing said and nothing meant look alike");
    let all = serde_json::from_str::<Grant>(r#"{ "role": "deployer" }"#).expect("a grant");
    assert!(all.reach().is_everything());
}

#[test]
fn an_own_role_named_as_one_of_the_product_does_not_count() {
    let name = RoleName::parse("viewer").expect("a name");
    let mine =
        Role { name: name.clone(), description: String::new(), permissions: [Permission::UserDelete].into() };
    let roles = Roles::new([mine]);
    assert!(!roles.get(&name).expect("a role").permissions.contains(&Permission::UserDelete));
    assert_eq!(roles.iter().filter(|role| role.name == name).count(), 1);
}

#[test]
fn an_unknown_permission_names_the_nearest() {
    let error = Permission::parse("pipeline:raed").expect_err("was taken");
    assert_eq!(error.to_string(), "there is no permission `pipeline:raed`: did you mean `pipeline:read`?");
    assert_eq!(Permission::parse("x").expect_err("was taken").to_string(), "there is no permission `x`");
}

#[test]
fn every_permission_is_a_resource_and_a_verb_and_stands_once() {
    let names: BTreeSet<_> = Permission::ALL.iter().map(|permission| permission.as_str()).collect();
    assert_eq!(names.len(), Permission::ALL.len());
    for permission in Permission::ALL {
        assert!(!permission.resource().is_empty() && !permission.description().is_empty(), "{permission}");
    }
}

/// The reviewed table: who changes it changes what somebody may do.
#[test]
fn what_each_role_of_the_product_may_do() {
    let roles = Role::system();
    let width = Permission::ALL.iter().map(|permission| permission.as_str().len()).max().expect("some");
    let mut table = format!("{:width$}", "");
    for role in roles {
        table.push_str(&format!("  {}", role.name));
    }
    table.push_str("  held\n");
    for permission in Permission::ALL {
        table.push_str(&format!("{:width$}", permission.as_str()));
        for role in roles {
            let mark = if role.permissions.contains(permission) { "x" } else { "." };
            table.push_str(&format!("  {mark:^length$}", length = role.name.as_str().len()));
        }
        let held = match permission.scope() {
            Scope::Server => "server",
            Scope::Realm => "realm",
            Scope::Shared => "anywhere",
            Scope::Environment => "environment",
            Scope::Project => "project",
            Scope::Both => "environment and project",
        };
        table.push_str(&format!("  {held}\n"));
    }
    insta::assert_snapshot!(table);
}

#[test]
fn the_governed_do_not_edit_the_rule_and_those_who_set_it_do_not_deploy() {
    let role = |name: &str| {
        let found = Role::system().iter().find(|role| role.name.as_str() == name);
        &found.expect("a role").permissions
    };
    let rules = [
        Permission::PolicyUpdate,
        Permission::WaiverCreate,
        Permission::WaiverEnd,
        Permission::RealmUpdate,
        Permission::EnvironmentCreate,
    ];
    for governed in ["viewer", "developer", "deployer", "credential-manager", "access-manager", "auditor"] {
        assert!(rules.iter().all(|rule| !role(governed).contains(rule)), "{governed}");
    }
    for deploying in [Permission::PipelineUpdate, Permission::DeploymentCreate] {
        assert!(!role("governance-manager").contains(&deploying));
    }
    // The impact of a change names callers.
    assert!(role("governance-manager").contains(&Permission::UsageRead));
    assert!(role("auditor").iter().all(|permission| permission.only_reads()));
    assert!(Permission::ALL.iter().filter(|it| it.only_reads()).all(|it| role("auditor").contains(it)));
    assert_eq!(role("administrator").len(), Permission::ALL.len());
}
