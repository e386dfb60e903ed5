//! A realm on a store of its own, and short ways to fill it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;
use tollgate_app::access::{Actor, Op, Permission, Rights};
use tollgate_app::conformance::ConformanceFilter;
use tollgate_app::consumers::{CreatedConsumer, NewConsumer};
use tollgate_app::keys::NewKey;
use tollgate_app::lists::ListRequest;
use tollgate_app::pipelines::SavePipeline;
use tollgate_app::policies::{PolicyEdit, PolicyValues};
use tollgate_app::users::Authenticated;
use tollgate_app::{App, Conformance, Password};
use tollgate_credential::seal::MasterKey;
use tollgate_model::ids::{RequestId, UserId};
use tollgate_model::names::{ConsumerName, CredentialName, EnvironmentName, PipelineName, RealmName};
use tollgate_model::policies::{AccessPolicy, PolicyName};
use tollgate_model::sources::Clock;
use tollgate_model::users::User;
use tollgate_store::{Change, Expect, Mutation, Store};
use tollgate_testkit::{FixedClock, SeededRandom};

pub(crate) struct World {
    pub(crate) app: App,
    pub(crate) op: Op,
    pub(crate) store: Store,
    pub(crate) master: Arc<MasterKey>,
    pub(crate) clock: FixedClock,
    pub(crate) test: EnvironmentName,
    pub(crate) dir: TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}", dir.path().join("t.db").display())).await.unwrap();
        let random = Arc::new(SeededRandom::new(7));
        let master = Arc::new(MasterKey::generate(random.as_ref()).unwrap());
        let clock = FixedClock::default();
        let app = App::new(store.clone(), Arc::clone(&master), Arc::new(clock.clone()), random);
        let op = Op {
            actor: Actor::system(),
            source: "test".to_owned(),
            request_id: RequestId::new(clock.now(), [0; 10]),
            now: clock.now(),
            realm: RealmName::default(),
        };
        app.realms().initialise(&op).await.unwrap();
        Self { app, op, store, master, clock, test: EnvironmentName::test(), dir }
    }

    /// Returns the use cases of another process over the same store.
    pub(crate) fn another_process(&self) -> App {
        let random = Arc::new(SeededRandom::new(8));
        App::new(self.store.clone(), Arc::clone(&self.master), Arc::new(self.clock.clone()), random)
    }

    /// Returns the operation of somebody who may do nothing.
    pub(crate) fn nobody(&self) -> Op {
        self.with(Rights::none())
    }

    /// Returns the operation of somebody with these rights.
    pub(crate) fn with(&self, rights: Rights) -> Op {
        Op { actor: Actor::new(None, "somebody", rights), ..self.op.clone() }
    }

    /// Returns the operation of somebody who may do everything but this.
    pub(crate) fn without(&self, permission: Permission) -> Op {
        Op { actor: Actor::system().without(permission), ..self.op.clone() }
    }

    /// Makes a user, as `maker` does, and returns the operation of whoever signs in as that user: they may do everything.
    pub(crate) async fn account(&self, maker: &str, name: &str) -> Op {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.store.head().await.unwrap().to_be_bytes());
        let id = UserId::new(self.clock.now(), random);
        self.write_user(maker, id, name).await;
        let actor = Actor::new(Some(id), name, Rights::all());
        Op { actor, ..self.op.clone() }
    }

    /// Writes a user, as somebody does who makes one or gives one another password.
    pub(crate) async fn write_user(&self, actor: &str, id: UserId, name: &str) {
        let user = json!({ "id": id, "name": name, "passwordHash": actor, "createdAt": self.clock.now() });
        let user: User = serde_json::from_value(user).unwrap();
        self.commit(actor, Mutation::put(&user, Expect::Any).unwrap()).await;
    }

    /// Deletes a user.
    pub(crate) async fn delete_user(&self, actor: &str, name: &str) {
        self.commit(actor, Mutation::delete::<User>(name, Expect::Exists)).await;
    }

    async fn commit(&self, actor: &str, mutation: Mutation) {
        let change = Change {
            realm: RealmName::default(),
            actor: actor.to_owned(),
            source: "test".to_owned(),
            action: "user.test".to_owned(),
            request_id: self.op.request_id.to_string(),
            reason: String::new(),
            at: self.clock.now(),
            guards: Vec::new(),
            mutations: vec![mutation],
        };
        self.store.commit(change).await.unwrap();
    }

    /// Makes the first admin, with password [`PASSWORD`]; returns their API token, and what it is good for.
    pub(crate) async fn first_admin(&self) -> (String, Authenticated) {
        let password = Password::parse(PASSWORD).unwrap();
        let admin = self.app.users().create_first_admin(&self.op, Some(password)).await.unwrap().unwrap();
        let plain = admin.token.plain.expose_secret().to_owned();
        let me = self.app.users().authenticate(&plain, self.op.now).await.unwrap();
        (plain, me)
    }

    /// Returns the operation that somebody asks for now.
    pub(crate) fn as_user(&self, me: &Authenticated) -> Op {
        Op { actor: me.actor.clone(), now: self.clock.now(), ..self.op.clone() }
    }

    pub(crate) async fn save(&self, pipeline: &str, trigger: &str) {
        self.app.pipelines().save(&self.op, document(pipeline, trigger)).await.unwrap();
    }

    pub(crate) async fn consumer(&self, name: &str) -> CreatedConsumer {
        let mut created = self.app.consumers().create(&self.op, new_consumer(name)).await.unwrap();
        created.remove(0)
    }
}

/// Returns how everything that runs stands, in one environment or in all.
pub(crate) async fn conformance(
    app: &App,
    op: &Op,
    environment: Option<&EnvironmentName>,
) -> Vec<Conformance> {
    let (filter, request) = (ConformanceFilter::default(), ListRequest::default());
    let report = app.conformance().report(op, environment, &filter, request).await.unwrap();
    assert_eq!(report.next, None, "it is all on one page");
    report.environments
}

/// Password of the first admin.
pub(crate) const PASSWORD: &str = "correct horse battery";

pub(crate) const OPEN: &str = "{ type: rest, externalApi: true }";
pub(crate) const KEYED: &str = "{ type: rest, externalApi: true, apiKey: true }";
pub(crate) const ITEMS: &str = "{ type: rest, externalApi: true, apiKey: true, routes: [/items/:id] }";

pub(crate) fn document(name: &str, trigger: &str) -> SavePipeline {
    let document =
        format!("kind: Pipeline\nname: {name}\nproject: store\ntrigger: {trigger}\nsteps: [{{ json: 1 }}]\n");
    SavePipeline { document, ..SavePipeline::default() }
}

pub(crate) fn pipeline(text: &str) -> PipelineName {
    PipelineName::parse(text).unwrap()
}

pub(crate) fn consumer(text: &str) -> ConsumerName {
    ConsumerName::parse(text).unwrap()
}

pub(crate) fn new_key() -> NewKey {
    NewKey { name: CredentialName::parse("main").unwrap(), expires_at: None }
}

/// A consumer in `test` with a first key.
pub(crate) fn new_consumer(name: &str) -> NewConsumer {
    NewConsumer {
        name: consumer(name),
        environments: BTreeSet::from([EnvironmentName::test()]),
        pipelines: BTreeSet::new(),
        description: String::new(),
        first_key: Some(new_key()),
    }
}

/// Demands tokens and keys in `test`.
pub(crate) fn tightening() -> PolicyEdit {
    external(true, "test", "jwt-with-api-key")
}

/// Gives `external-api-access` a value in one environment.
pub(crate) fn external(partial: bool, environment: &str, value: &str) -> PolicyEdit {
    let environments = BTreeMap::from([(EnvironmentName::parse(environment).unwrap(), value.into())]);
    PolicyEdit::Set(PolicyValues {
        policy: PolicyName::Access(AccessPolicy::ExternalApiAccess),
        environments,
        partial,
        condition: None,
        message: None,
        fix: None,
    })
}
