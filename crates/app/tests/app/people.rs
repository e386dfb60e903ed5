//! Users, groups and roles for tests: short ways to make them and to act as somebody.

use std::collections::BTreeSet;

use tollgate_app::access::{Actor, Extent, Grant, Op, Permission, Rights, Role};
use tollgate_app::errors::Error;
use tollgate_app::groups::{GroupEdit, GroupView};
use tollgate_model::document::GroupFile;
use tollgate_model::ids::UserId;
use tollgate_model::names::{EnvironmentName, GroupName, ProjectName, RealmName, RoleName, UserName};
use tollgate_model::objects::{Object, keys};
use tollgate_model::users::User;
use tollgate_store::{Change, Expect, Mutation};

use crate::world::World;

pub(crate) fn user_name(text: &str) -> UserName {
    UserName::parse(text).unwrap()
}

pub(crate) fn group_name(text: &str) -> GroupName {
    GroupName::parse(text).unwrap()
}

pub(crate) fn role_name(text: &str) -> RoleName {
    RoleName::parse(text).unwrap()
}

pub(crate) fn environment(text: &str) -> EnvironmentName {
    EnvironmentName::parse(text).unwrap()
}

/// A grant: `deployer`, `deployer in test`, `developer for store`, `deployer in test,prod for store`.
pub(crate) fn grant(text: &str) -> Grant {
    let (rest, projects) = text.split_once(" for ").unwrap_or((text, ""));
    let (role, environments) = rest.split_once(" in ").unwrap_or((rest, ""));
    let names =
        |text: &str| text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    Grant {
        role: role_name(role),
        environments: Extent::only(names(environments).iter().map(|name| environment(name)))
            .unwrap_or_default(),
        projects: Extent::only(names(projects).iter().map(|name| ProjectName::parse(name).unwrap()))
            .unwrap_or_default(),
    }
}

pub(crate) fn own_role(name: &str, permissions: impl IntoIterator<Item = Permission>) -> Role {
    let permissions = permissions.into_iter().collect();
    Role { name: role_name(name), description: String::new(), permissions }
}

impl World {
    /// Puts an object into the store as a program of another version would.
    pub(crate) async fn write(&self, realm: &RealmName, mutation: Mutation) {
        let change = Change {
            realm: realm.clone(),
            actor: "test".to_owned(),
            source: "test".to_owned(),
            action: "test".to_owned(),
            request_id: String::new(),
            reason: String::new(),
            at: self.op.now,
            guards: Vec::new(),
            mutations: vec![mutation],
        };
        self.store.commit(change).await.unwrap();
    }

    pub(crate) async fn put_object<T: Object>(&self, object: &T) {
        self.write(&RealmName::default(), Mutation::put(object, Expect::Any).unwrap()).await;
    }

    /// Makes a user without the work of hashing a password.
    pub(crate) async fn user(&self, name: &str) -> UserId {
        let mut random = [0; 10];
        random.iter_mut().zip(name.bytes()).for_each(|(byte, letter)| *byte = letter);
        let id = UserId::new(self.op.now, random);
        let user = User {
            id,
            name: user_name(name),
            password_hash: String::new(),
            created_at: self.op.now,
            disabled_at: None,
            password_is_temporary: false,
        };
        self.put_object(&user).await;
        id
    }

    /// Makes a user who is in a group of their own with these grants; returns the operation of theirs.
    pub(crate) async fn somebody(&self, name: &str, grants: &[&str]) -> Op {
        self.user(name).await;
        self.group(&format!("of-{name}"), &[name], grants).await;
        self.acting(name).await
    }

    pub(crate) async fn group(&self, name: &str, members: &[&str], grants: &[&str]) -> GroupView {
        self.app.groups().create(&self.op, &group_file(name, members, grants)).await.unwrap()
    }

    /// Returns the operation of a user, with what they may do by now.
    pub(crate) async fn acting(&self, name: &str) -> Op {
        self.acting_in(name, &RealmName::default()).await
    }

    pub(crate) async fn acting_in(&self, name: &str, realm: &RealmName) -> Op {
        let key = keys::user(&user_name(name));
        let user = self.store.get::<User>(&RealmName::default(), &key).await.unwrap().unwrap().value;
        let actor = Actor::new(Some(user.id), name, Rights::none());
        let actor = self.app.actor_in(&actor, realm).await.unwrap();
        Op { actor, realm: realm.clone(), ..self.op.clone() }
    }

    pub(crate) async fn edit(&self, op: &Op, group: &str, edit: GroupEdit) -> Result<GroupView, Error> {
        self.app.groups().edit(op, &group_name(group), &edit, None).await
    }
}

pub(crate) fn group_file(name: &str, members: &[&str], grants: &[&str]) -> GroupFile {
    GroupFile {
        name: group_name(name),
        description: String::new(),
        members: members.iter().map(|name| user_name(name)).collect(),
        grants: grants.iter().map(|text| grant(text)).collect(),
    }
}

pub(crate) fn add(name: &str) -> GroupEdit {
    GroupEdit::Add(BTreeSet::from([user_name(name)]))
}

pub(crate) fn remove(name: &str) -> GroupEdit {
    GroupEdit::Remove(BTreeSet::from([user_name(name)]))
}
