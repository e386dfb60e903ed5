//! Whatever somebody does, and in whatever order: alone they change nothing that four eyes protect, and two change what
//! they approve.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use tollgate_app::access::{Actor, Op};
use tollgate_app::policies::PolicyEdit;
use tollgate_model::change_requests::RequestState;
use tollgate_model::ids::ChangeRequestId;
use tollgate_model::names::{EnvironmentName, RealmName, RuleName};
use tollgate_model::objects::Kind;
use tollgate_model::sources::Clock as _;

use crate::four_eyes::{BOTH, Everything, Pair};
use crate::world::{KEYED, OPEN, document, external, pipeline, tightening};

/// What is stored of a realm that wants four eyes for everything.
const WANTED: &str = r#""fourEyes":{"policies":true,"waivers":true}"#;

/// Somebody does something. Numbers choose among what there is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    /// Makes a change at once.
    Make(u8),
    /// Asks for one.
    Ask(u8),
    /// Approves one of the requests, as one of their accounts, names or realms.
    Approve(u8, u8),
    Reject(u8),
    Withdraw(u8),
    /// Proposes something in shadow, takes a rule away there, or ends it.
    Shadow(u8),
    SavePipeline(u8),
    DeletePipeline(u8),
    Deploy(u8, u8),
    Undeploy(u8, u8),
    EndWaiver(u8),
    /// Makes another user, or gives one another password.
    MakeAccount(u8),
    MakeRealm,
    /// Imports a key: writes the realm as it is.
    ImportKey(u8),
    Wait(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let n = any::<u8>;
    prop_oneof![
        3 => n().prop_map(Step::Make),
        4 => n().prop_map(Step::Ask),
        4 => (n(), n()).prop_map(|(request, as_whom)| Step::Approve(request, as_whom)),
        1 => n().prop_map(Step::Reject),
        1 => n().prop_map(Step::Withdraw),
        1 => n().prop_map(Step::Shadow),
        1 => n().prop_map(Step::SavePipeline),
        1 => n().prop_map(Step::DeletePipeline),
        1 => (n(), n()).prop_map(|(what, place)| Step::Deploy(what, place)),
        1 => (n(), n()).prop_map(|(what, place)| Step::Undeploy(what, place)),
        1 => n().prop_map(Step::EndWaiver),
        1 => n().prop_map(Step::MakeAccount),
        1 => Just(Step::MakeRealm),
        1 => n().prop_map(Step::ImportKey),
        1 => n().prop_map(Step::Wait),
    ]
}

/// Somebody with every permission, and what they have made for themselves.
struct Attacker<'a> {
    pair: &'a Pair,
    accounts: Vec<Op>,
    everything: Everything,
    /// Who else there is, and agrees to everything.
    second: Option<Op>,
    approved: usize,
}

impl Attacker<'_> {
    fn now(&self, op: &Op) -> Op {
        Op { now: self.pair.world.clock.now(), ..op.clone() }
    }

    fn me(&self) -> Op {
        self.now(&self.accounts[0])
    }

    /// Returns the requests of a realm: none before it is made.
    async fn requests(&self, op: &Op) -> Vec<ChangeRequestId> {
        let requests = self.pair.world.app.change_requests();
        requests.list(op, None).await.unwrap().iter().map(|it| it.value.id).collect()
    }

    async fn approve(&mut self, request: u8, as_whom: u8) {
        let whom = usize::from(as_whom) % (self.accounts.len() + 2);
        let mut op = self.now(self.accounts.get(whom).unwrap_or(&self.accounts[0]));
        match whom.checked_sub(self.accounts.len()) {
            Some(0) => op.actor.name = "bob".to_owned(),
            Some(_) => op.actor = Actor::system(),
            None => {}
        }
        if let Some(second) = &self.second
            && as_whom.is_multiple_of(2)
        {
            op = self.now(second);
        }
        let op = somewhere(&op, request);
        let requests = self.requests(&op).await;
        let Some(id) = requests.get(usize::from(request) % requests.len().max(1)) else { return };
        self.approved += usize::from(self.pair.approve(&op, *id).await.is_ok());
    }

    async fn take(&mut self, step: Step) {
        let (me, world) = (self.me(), &self.pair.world);
        let (app, test) = (&world.app, &world.test);
        let choose = |n: u8, all: &[&str]| all[usize::from(n) % all.len()].to_owned();
        let place = |n: u8| EnvironmentName::parse(&choose(n, &["test", "prod", "staging"])).unwrap();
        let name = |n: u8| pipeline(&choose(n, &["shop", "till"]));
        match step {
            Step::Make(n) => {
                let proposals = self.everything.proposals();
                let proposal = proposals[usize::from(n) % proposals.len()];
                let _ = Everything::make(world, &somewhere(&me, n), proposal).await;
            }
            Step::Ask(n) => {
                let proposals = self.everything.proposals();
                let proposal = proposals[usize::from(n) % proposals.len()];
                let _ = app.change_requests().ask(&somewhere(&me, n), proposal, "").await;
            }
            Step::Approve(request, as_whom) => self.approve(request, as_whom).await,
            Step::Reject(n) | Step::Withdraw(n) => {
                let all = self.requests(&me).await;
                let Some(id) = all.get(usize::from(n) % all.len().max(1)) else { return };
                let requests = app.change_requests();
                let _ = match step {
                    Step::Reject(_) => requests.reject(&me, *id, "", None).await,
                    _ => requests.withdraw(&me, *id, "", None).await,
                };
            }
            Step::Shadow(n) => {
                let edit = if n % 2 == 0 { tightening() } else { external(true, "test", "any") };
                let PolicyEdit::Set(values) = edit else { return };
                let a_rule = RuleName::parse("a-rule").unwrap();
                let _ = match n % 4 {
                    0 | 1 => app.shadow().set(&me, &values, "", None).await.map(drop),
                    2 => app.shadow().remove_rule(&me, &a_rule, "", None).await.map(drop),
                    _ => app.shadow().end(&me, None).await,
                };
            }
            Step::SavePipeline(n) => {
                let trigger = if n % 3 == 0 { KEYED } else { OPEN };
                let _ = app.pipelines().save(&me, document(name(n).as_str(), trigger)).await;
            }
            Step::DeletePipeline(n) => drop(app.pipelines().delete(&me, &name(n), None).await),
            Step::Deploy(n, at) => {
                drop(app.deployments().deploy(&me, &place(at), &name(n), None, None).await);
            }
            Step::Undeploy(n, at) => {
                drop(app.deployments().undeploy(&me, &place(at), &name(n), None, None).await);
            }
            Step::EndWaiver(n) => {
                let waivers = app.waivers().list(&me, &Default::default()).await.unwrap();
                if let Some(waiver) = waivers.get(usize::from(n) % 4) {
                    let _ = app.waivers().end(&me, waiver.value.id, None).await;
                }
            }
            Step::MakeAccount(n) => {
                let maker = self.accounts[usize::from(n) % self.accounts.len()].actor.name.clone();
                let made = world.account(&maker, &format!("puppet-{}", self.accounts.len())).await;
                self.accounts.push(made);
            }
            Step::MakeRealm => drop(app.realms().create(&me, RealmName::parse("mine").unwrap()).await),
            Step::ImportKey(n) => {
                let (owner, key) = (crate::world::consumer("c"), crate::world::new_key());
                let _ = app.keys().import(&me, test, &owner, key, &format!("a-key-of-elsewhere-{n}")).await;
            }
            Step::Wait(n) => world.clock.advance(Duration::from_secs(3600 * u64::from(n))),
        }
    }
}

/// Goes to the realm of one's own now and then.
fn somewhere(op: &Op, n: u8) -> Op {
    match n % 5 {
        0 => Op { realm: RealmName::parse("mine").unwrap(), ..op.clone() },
        _ => op.clone(),
    }
}

/// What four eyes protect, as it is stored, by kind and key; everywhere.
async fn protected(pair: &Pair) -> BTreeMap<(String, &'static str, String), String> {
    let kinds = [Kind::Policies, Kind::PolicyVersion, Kind::Realm, Kind::Waiver];
    let (_, objects) = pair.world.store.load(&kinds).await.unwrap();
    let object = |it: tollgate_model::objects::StoredObject| {
        ((it.realm.to_string(), it.kind.as_str(), it.key.clone()), it.body)
    };
    objects.into_iter().map(object).collect()
}

async fn alone(steps: Vec<Step>) {
    let pair = Pair::start(BOTH).await;
    pair.world.consumer("c").await;
    let before = protected(&pair).await;
    let accounts = vec![pair.ann.clone()];
    let mut attacker =
        Attacker { pair: &pair, accounts, everything: everything(), second: None, approved: 0 };
    for (index, step) in steps.iter().enumerate() {
        attacker.take(*step).await;
        let mut now = protected(&pair).await;
        // What is made of a new realm is made with it, and wants four eyes from the start.
        now.retain(|(realm, kind, _), body| {
            let is_new = realm == "mine";
            assert!(!is_new || *kind != "realm" || body.contains(WANTED));
            assert!(!is_new || !body.contains("\"1.1\""), "{body}");
            !is_new
        });
        // One person may end a waiver: it lets nothing pass that did not before.
        let mut left = before.clone();
        left.retain(|key, _| key.1 != "waiver" || now.contains_key(key));
        assert_eq!(now, left, "after {:?}", &steps[..=index]);
    }
    assert_eq!(attacker.approved, 0);
}

async fn with_another(steps: Vec<Step>) {
    let pair = Pair::start(BOTH).await;
    pair.world.consumer("c").await;
    let (accounts, second) = (vec![pair.ann.clone()], Some(pair.bob.clone()));
    let mut attacker = Attacker { pair: &pair, accounts, everything: everything(), second, approved: 0 };
    for step in steps {
        let (before, approved) = (protected(&pair).await, attacker.approved);
        attacker.take(step).await;
        let mut now = protected(&pair).await;
        if step == Step::MakeRealm {
            now.retain(|(realm, ..), _| realm != "mine");
        }
        // As long as nobody approved that four eyes end, only what is approved changes anything.
        let ended = |((_, kind, _), body): (&(String, &str, String), &String)| {
            *kind == "realm" && !body.contains(WANTED)
        };
        if now.iter().any(ended) {
            return;
        }
        let came = now.iter().any(|(key, body)| before.get(key) != Some(body));
        assert_eq!(came, attacker.approved > approved, "{step:?}");
    }
    let requests = pair.world.app.change_requests();
    let approved = requests.list(&attacker.me(), Some(RequestState::Approved)).await.unwrap();
    // Others were approved in the realm of their own.
    assert!(approved.len() <= attacker.approved);
    for request in approved {
        let by = request.value.decision.unwrap().by.user;
        assert_ne!(by, request.value.author.user);
    }
}

fn everything() -> Everything {
    Everything::new()
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 64, ..ProptestConfig::with_cases(12) })]

    #[test]
    fn nobody_alone_changes_what_four_eyes_protect(steps in proptest::collection::vec(step(), 1..32)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(alone(steps));
    }

    #[test]
    fn two_change_what_they_approve_and_nothing_else(steps in proptest::collection::vec(step(), 1..32)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(with_another(steps));
    }
}
