//! How everything that runs stands to today's policies, kept between questions.
//!
//! Judging ten thousand deployments takes half a second, and every page of the console that tells numbers asks. So the
//! verdicts of a realm are kept with the number and the hash of the journal entry that they include, and with the time for
//! which they hold: until the next waiver ends. A question reads the end of the journal first. When it has grown, the new
//! entries say what is to be judged anew: what was deployed, the pipelines whose waivers changed, or everything, when the
//! policies did. When the end is not the one that is known, as after the database was restored from a backup, everything is
//! read anew. Nothing is ever answered from an entry that is not the last one, nor for another time than that of the
//! question.
//!
//! The past ([`App::as_of`]) is judged each time.

mod ahead;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jiff::Timestamp;
use tokio::sync::Mutex as AsyncMutex;
use tollgate_model::deployments::Deployment;
use tollgate_model::names::{EnvironmentName, PipelineName, RealmName};
use tollgate_model::objects::{Kind, Object, StoredObject, keys};
use tollgate_model::pipelines::{PipelineHead, PipelineVersion};
use tollgate_model::policies::Policies;
use tollgate_model::verdicts::Verdict;
use tollgate_model::waivers::Waiver;
use tollgate_policy::{ConformanceItem, Judge, KnownVersion, Standing};
use tollgate_store::{Hash, JournalEntry, RecordedMutation, Store, Stored};

use crate::App;
use crate::access::{Op, Permission, Place};
use crate::errors::Error;
use crate::judging;
use crate::places::Owners;
use crate::policies::Ruling;

/// Entries of the journal read at once.
const BATCH: u32 = 500;

/// Most entries that are caught up with; beyond them, reading everything anew is faster.
const MAX_BEHIND: u64 = 20_000;

/// The standings of each realm, when somebody asked.
#[derive(Default)]
pub(crate) struct Kept(Mutex<HashMap<RealmName, Slot>>);

/// The standings of one realm. Whoever finds that they are old brings them up to date, and others wait for it.
type Slot = Arc<AsyncMutex<Option<Arc<Standings>>>>;

/// How everything that runs in a realm stands, at one entry of the journal and for a span of time.
#[derive(Clone)]
pub(crate) struct Standings {
    /// The last entry that is in it, with its hash.
    seq: u64,
    hash: Option<Hash>,
    /// It holds from this time on…
    from: Timestamp,
    /// …until before this one.
    until: Timestamp,
    policies: Arc<Stored<Policies>>,
    /// By their keys, in whose order they count.
    waivers: Arc<BTreeMap<String, Waiver>>,
    owners: Arc<Owners>,
    /// By the keys of the deployments.
    judged: Arc<BTreeMap<String, Arc<Judged>>>,
}

/// Something that runs, judged.
pub(crate) struct Judged {
    pub(crate) deployment: Deployment,
    pub(crate) version: Arc<KnownVersion>,
    /// What the policies say; `None` where they have no value for the environment.
    pub(crate) verdict: Option<Verdict>,
    /// What they would say in every other environment, once somebody asked.
    elsewhere: OnceLock<Vec<Verdict>>,
}

/// What new entries changed.
#[derive(Default)]
struct News {
    /// Everything is to be judged anew.
    policies: bool,
    /// The deployments of these pipelines are to be judged anew.
    waived: BTreeSet<PipelineName>,
    /// What runs by now, or no more.
    deployed: BTreeMap<String, Option<Deployment>>,
    /// The versions of these pipelines are to be read anew: a pipeline that took the name of another has others.
    versions: BTreeSet<String>,
}

// === impl App ===

impl App {
    /// Returns how everything that runs in the realm stands, at the time of the operation.
    pub(crate) async fn standings(&self, op: &Op) -> Result<Arc<Standings>, Error> {
        if self.store().is_of_the_past() {
            return Ok(Arc::new(self.loaded(&op.realm, op.now).await?));
        }
        self.standings_of(&op.realm, op.now).await
    }

    /// Returns how everything that runs in a realm stands at a moment of today, and keeps it.
    async fn standings_of(&self, realm: &RealmName, now: Timestamp) -> Result<Arc<Standings>, Error> {
        let slot = self.0.standings.slot(realm);
        let mut held = slot.lock().await;
        // Read while nobody else brings them up to date: what is kept is never newer than this.
        let head = self.store().head().await?;
        let hash = self.store().hash_at(head).await?;
        if let Some(kept) = held.as_ref().filter(|it| it.seq == head && it.hash == hash && it.holds_at(now)) {
            return Ok(Arc::clone(kept));
        }
        let caught_up = match held.as_ref() {
            Some(kept) if kept.seq <= head => self.caught_up(realm, kept, (head, hash), now).await?,
            _ => None,
        };
        let standings = match caught_up {
            Some(standings) => standings,
            None => self.loaded(realm, now).await?,
        };
        let standings = Arc::new(standings);
        *held = Some(Arc::clone(&standings));
        Ok(standings)
    }

    /// Returns the standings with what the journal says since; `None` when it does not continue what is known.
    async fn caught_up(
        &self,
        realm: &RealmName,
        kept: &Arc<Standings>,
        (head, hash): (u64, Option<Hash>),
        now: Timestamp,
    ) -> Result<Option<Standings>, Error> {
        if head - kept.seq > MAX_BEHIND || (head == kept.seq && hash != kept.hash) {
            return Ok(None);
        }
        let mut standings = Standings::clone(kept);
        let mut news = News::default();
        while standings.seq < head {
            let entries = self.store().changes_after(standings.seq, BATCH).await?;
            if entries.is_empty() {
                return Ok(None);
            }
            for entry in entries {
                if !standings.is_continued_by(&entry) {
                    return Ok(None);
                }
                (standings.seq, standings.hash) = (entry.seq, Some(entry.hash));
                if entry.realm == *realm && !standings.note(entry, &mut news)? {
                    return Ok(None);
                }
            }
        }
        let store = self.store().as_of(standings.seq);
        standings.redeploy(&store, realm, &mut news).await?;
        let standings = judging::away(move || {
            standings.judge(&news, now)?;
            Ok(standings)
        });
        standings.await.map(Some)
    }

    /// Reads everything and judges it.
    async fn loaded(&self, realm: &RealmName, now: Timestamp) -> Result<Standings, Error> {
        let seq = self.store().head().await?;
        let hash = self.store().hash_at(seq).await?;
        let policies = self.current_policies(realm).await?;
        let waivers = self.all::<Waiver>(realm, "").await?;
        let owners = self.owners(realm).await?;
        // A version that runs in several environments is held, and judged by rules, once.
        let mut versions = HashMap::new();
        let judged = self.deployed(realm, "").await?.into_iter().map(|(deployment, version)| {
            let version =
                versions.entry(version.key()).or_insert_with(|| Arc::new(KnownVersion::new(version)));
            let judged = Judged::new(deployment, Arc::clone(version));
            (judged.deployment.key(), Arc::new(judged))
        });
        let mut standings = Standings {
            seq,
            hash,
            from: Timestamp::MIN,
            until: Timestamp::MAX,
            policies: Arc::new(policies),
            waivers: Arc::new(waivers.into_iter().map(|it| (it.value.key(), it.value)).collect()),
            owners: Arc::new(owners),
            judged: Arc::new(judged.collect()),
        };
        // What was read is of several moments, none before the entry; the entries since say what it is of.
        let mut news = News { policies: true, ..News::default() };
        if !self.store().is_of_the_past() {
            loop {
                let entries = self.store().changes_after(standings.seq, BATCH).await?;
                let last = entries.len() < BATCH as usize;
                for entry in entries {
                    (standings.seq, standings.hash) = (entry.seq, Some(entry.hash));
                    if entry.realm == *realm && !standings.note(entry, &mut news)? {
                        return Err(Error::internal("the realm is gone"));
                    }
                }
                if last {
                    break;
                }
            }
            let store = self.store().as_of(standings.seq);
            standings.redeploy(&store, realm, &mut news).await?;
        }
        judging::away(move || {
            standings.judge(&news, now)?;
            Ok(standings)
        })
        .await
    }
}

// === impl Kept ===

impl Kept {
    fn slot(&self, realm: &RealmName) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(realm.clone()).or_default())
    }

    /// Returns the realms that somebody asked about.
    fn realms(&self) -> Vec<RealmName> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

// === impl Standings ===

impl Standings {
    /// Returns the policies that judged.
    pub(crate) fn policies(&self) -> &Stored<Policies> {
        &self.policies
    }

    /// Tells whether this is what judged.
    pub(crate) fn judged_by(&self, ruling: &Ruling) -> bool {
        *self.policies == ruling.policies && self.waivers.values().eq(&ruling.waivers)
    }

    /// Returns where every pipeline lies.
    pub(crate) fn owners(&self) -> &Owners {
        &self.owners
    }

    /// Returns what the realm judges by.
    pub(crate) fn ruling(&self) -> Ruling {
        Ruling { policies: Stored::clone(&self.policies), waivers: self.waivers.values().cloned().collect() }
    }

    /// Returns what runs in an environment where the actor has one of these permissions, by the keys of the deployments.
    pub(crate) fn of<'a>(
        &'a self,
        op: &'a Op,
        permissions: &'a [Permission],
        environment: &'a EnvironmentName,
    ) -> impl Iterator<Item = (&'a String, &'a Arc<Judged>)> + Clone {
        let everywhere =
            permissions.iter().any(|permission| op.may(*permission, Place::environment(environment)));
        let first = format!("{environment}/");
        self.judged.range(first..).take_while(|(_, it)| it.deployment.environment == *environment).filter(
            move |(_, it)| {
                everywhere || self.owners.may(op, permissions, environment, &it.deployment.pipeline)
            },
        )
    }

    /// Returns all that runs in an environment, whoever asks: what of it is told is for the caller to decide.
    pub(crate) fn in_environment<'a>(
        &'a self,
        environment: &'a EnvironmentName,
    ) -> impl Iterator<Item = &'a Arc<Judged>> {
        let here = self.judged.range(format!("{environment}/")..).map(|(_, it)| it);
        here.take_while(|it| it.deployment.environment == *environment)
    }

    fn holds_at(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }

    fn is_continued_by(&self, entry: &JournalEntry) -> bool {
        entry.seq == self.seq + 1 && self.hash.is_none_or(|hash| hash == entry.previous_hash)
    }

    /// Takes in what an entry wrote; `false` when only reading everything anew can tell what holds.
    fn note(&mut self, entry: JournalEntry, news: &mut News) -> Result<bool, Error> {
        for mutation in entry.mutations {
            match mutation.kind {
                Kind::Policies => {
                    let Some(value) = parsed(&entry.realm, entry.seq, &mutation)? else { return Ok(false) };
                    self.policies = Arc::new(Stored { value, revision: entry.seq });
                    news.policies = true;
                }
                Kind::Waiver => {
                    let waivers = Arc::make_mut(&mut self.waivers);
                    let before = match parsed::<Waiver>(&entry.realm, entry.seq, &mutation)? {
                        Some(waiver) => {
                            news.waived.insert(waiver.pipeline.clone());
                            waivers.insert(mutation.key, waiver)
                        }
                        None => waivers.remove(&mutation.key),
                    };
                    news.waived.extend(before.map(|waiver| waiver.pipeline));
                }
                Kind::Deployment => {
                    let deployment = parsed::<Deployment>(&entry.realm, entry.seq, &mutation)?;
                    news.deployed.insert(mutation.key, deployment);
                }
                Kind::Pipeline => {
                    let head = parsed::<PipelineHead>(&entry.realm, entry.seq, &mutation)?;
                    let name = PipelineName::parse(&mutation.key).map_err(Error::internal)?;
                    let project = head.map(|head| head.project);
                    if self.owners.project(&name) != project.as_ref() {
                        Arc::make_mut(&mut self.owners).note(name, project);
                    }
                }
                Kind::PipelineVersion if mutation.body.is_none() => {
                    let name = mutation.key.split('/').next().unwrap_or_default();
                    news.versions.insert(name.to_owned());
                }
                _ => {}
            }
        }
        Ok(true)
    }

    /// Puts what runs by now in the place of what ran, with the versions of the same entry.
    async fn redeploy(&mut self, store: &Store, realm: &RealmName, news: &mut News) -> Result<(), Error> {
        if !news.versions.is_empty() {
            let stale =
                self.judged.values().filter(|it| news.versions.contains(it.deployment.pipeline.as_str()));
            let stale: Vec<_> = stale.map(|it| it.deployment.clone()).collect();
            for deployment in stale {
                news.deployed.entry(deployment.key()).or_insert(Some(deployment));
            }
        }
        if news.deployed.is_empty() {
            return Ok(());
        }
        let key = |it: &Deployment| keys::pipeline_version(&it.pipeline, it.version);
        let wanted: BTreeSet<String> = news.deployed.values().flatten().map(key).collect();
        let wanted: Vec<String> = wanted.into_iter().collect();
        let versions = store.get_many::<PipelineVersion>(realm, &wanted).await?;
        let versions: HashMap<String, Arc<KnownVersion>> =
            versions.into_iter().map(|it| (it.value.key(), Arc::new(KnownVersion::new(it.value)))).collect();
        let judged = Arc::make_mut(&mut self.judged);
        for (at, deployment) in &news.deployed {
            // What runs no more, or lost its version, no longer counts.
            let running = deployment.as_ref().and_then(|it| Some((it, versions.get(&key(it))?)));
            match running {
                Some((it, version)) => {
                    let new = Judged::new(it.clone(), Arc::clone(version));
                    judged.insert(at.clone(), Arc::new(new));
                }
                None => {
                    judged.remove(at);
                }
            }
        }
        Ok(())
    }

    /// Judges anew what news and the time say, and notes for how long that holds.
    fn judge(&mut self, news: &News, now: Timestamp) -> Result<(), Error> {
        let mut waived = news.waived.clone();
        if !self.holds_at(now) {
            waived.extend(self.waivers.values().map(|waiver| waiver.pipeline.clone()));
        }
        let ends = || self.waivers.values().map(|waiver| waiver.until);
        (self.from, self.until) = (
            ends().filter(|end| *end <= now).max().unwrap_or(Timestamp::MIN),
            ends().filter(|end| *end > now).min().unwrap_or(Timestamp::MAX),
        );
        let is_stale = |key: &String, it: &Judged| {
            news.policies || news.deployed.contains_key(key) || waived.contains(&it.deployment.pipeline)
        };
        let stale: Vec<(String, Arc<Judged>)> = self
            .judged
            .iter()
            .filter(|(key, it)| is_stale(key, it))
            .map(|(key, it)| (key.clone(), Arc::clone(it)))
            .collect();
        if stale.is_empty() {
            return Ok(());
        }
        let ruling = self.ruling();
        let judge = ruling.judge(now);
        let anew = judging::in_shares(&stale, |share| {
            share.iter().map(|(_, it)| it.anew(&judge)).collect::<Vec<_>>()
        })?;
        let judged = Arc::make_mut(&mut self.judged);
        for ((key, _), new) in stale.into_iter().zip(anew.into_iter().flatten()) {
            judged.insert(key, Arc::new(new));
        }
        Ok(())
    }
}

// === impl Judged ===

impl Judged {
    fn new(deployment: Deployment, version: Arc<KnownVersion>) -> Self {
        Self { deployment, version, verdict: None, elsewhere: OnceLock::new() }
    }

    fn anew(&self, judge: &Judge<'_>) -> Self {
        let Self { deployment, version, .. } = self;
        // Where the policies have no value for an environment, nothing is said of it.
        let verdict = judge.verdict_on(version, &deployment.environment).ok();
        let (deployment, version) = (deployment.clone(), Arc::clone(version));
        Self { verdict, ..Self::new(deployment, version) }
    }

    /// Returns what the policies say of it in every other environment.
    pub(crate) fn elsewhere(&self, judge: &Judge<'_>) -> &[Verdict] {
        self.elsewhere.get_or_init(|| {
            let others = judge.policies().environments().filter(|name| **name != self.deployment.environment);
            others.filter_map(|name| judge.verdict_on(&self.version, name).ok()).collect()
        })
    }

    /// Returns it with the version that runs.
    pub(crate) fn deployed(&self) -> (&Deployment, &PipelineVersion) {
        (&self.deployment, self.version.version())
    }

    /// Returns how it stands; `None` where the policies do not say.
    pub(crate) fn standing(&self) -> Option<Standing> {
        self.verdict.as_ref().map(Standing::of)
    }

    /// Tells whether it is a login flow.
    pub(crate) fn is_login_flow(&self) -> bool {
        self.verdict.as_ref().is_some_and(|verdict| verdict.login_flow)
    }

    /// Returns how it stands, and why.
    pub(crate) fn item(&self) -> Option<ConformanceItem> {
        let verdict = self.verdict.clone()?;
        Some(ConformanceItem::new(&self.deployment, &self.version.version().pipeline, verdict))
    }
}

/// Reads what an entry wrote; `None` when it deleted it.
fn parsed<T: Object>(realm: &RealmName, seq: u64, mutation: &RecordedMutation) -> Result<Option<T>, Error> {
    let Some(body) = mutation.body.clone() else { return Ok(None) };
    let (realm, kind, key) = (realm.clone(), mutation.kind, mutation.key.clone());
    let object = StoredObject { realm, kind, key, revision: seq, body };
    object.parse().map(Some).map_err(Error::internal)
}
