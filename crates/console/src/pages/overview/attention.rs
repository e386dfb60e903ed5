//! What needs somebody before long: keys and waivers that end, dates of enforcement, change requests that wait.
//!
//! What a visitor may not see is left out, and so is what no gateway can be asked for: the overview is of use without.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_app::waivers::WaiverFilter;
use tollgate_model::change_requests::RequestState;
use tollgate_model::names::EnvironmentName;

use crate::Console;
use crate::answers::Answer;
use crate::times::Moment;
use crate::visitor::Visitor;

/// How many days ahead is looked.
const DAYS: u16 = 14;

/// Most concerns of one kind on a card.
const NAMED: usize = 5;

/// Something that needs somebody.
pub(super) struct Concern {
    /// What it is about, in words.
    pub(super) what: String,
    /// What happens, in words that come before `when`.
    pub(super) then: &'static str,
    pub(super) when: Option<Moment>,
    /// Where something can be done about it, if there is such a page.
    pub(super) href: Option<String>,
}

/// What needs somebody, by environment.
#[derive(Default)]
pub(super) struct Attention {
    pub(super) of_realm: Vec<Concern>,
    of_environments: BTreeMap<EnvironmentName, Vec<Concern>>,
}

// === impl Attention ===

impl Attention {
    /// Gathers it, as far as the visitor may see it.
    pub(super) async fn gather(console: &Console, visitor: &Visitor) -> Answer<Self> {
        let mut attention = Self::default();
        attention.add_enforcement(console, visitor).await?;
        attention.add_keys(console, visitor).await?;
        attention.add_waivers(console, visitor).await?;
        attention.add_change_requests(console, visitor).await?;
        Ok(attention)
    }

    /// Takes what concerns an environment.
    pub(super) fn of(&mut self, environment: &EnvironmentName) -> Vec<Concern> {
        self.of_environments.remove(environment).unwrap_or_default()
    }

    fn add(&mut self, environment: &EnvironmentName, concern: Concern) {
        self.of_environments.entry(environment.clone()).or_default().push(concern);
    }

    async fn add_enforcement(&mut self, console: &Console, visitor: &Visitor) -> Answer<()> {
        let Some(policies) = seen(console.app.policies().get(&visitor.op).await)? else { return Ok(()) };
        let (now, realm) = (visitor.op.now, &visitor.op.realm);
        for environment in policies.value.environments() {
            let enforced = policies.value.enforcement(environment).and_then(|it| it.at_gateway());
            if let Some(from) = enforced.map(|it| it.at_gateway).filter(|from| now < *from) {
                let concern = Concern {
                    what: "Calls to what does not conform".to_owned(),
                    then: "are refused",
                    when: Some(Moment::new(from, now)),
                    href: Some(format!("/realms/{realm}/policies/conformance/{environment}")),
                };
                self.add(environment, concern);
            }
        }
        Ok(())
    }

    async fn add_keys(&mut self, console: &Console, visitor: &Visitor) -> Answer<()> {
        let Some(keys) = seen(console.app.keys().expiring(&visitor.op, DAYS).await)? else { return Ok(()) };
        let (now, realm) = (visitor.op.now, &visitor.op.realm);
        let mut shown: BTreeMap<EnvironmentName, usize> = BTreeMap::new();
        for key in keys {
            let environment = &key.expiry.environment;
            let count = shown.entry(environment.clone()).or_default();
            *count += 1;
            if *count > NAMED {
                continue;
            }
            let replaced = if key.replaced { ", which was rotated," } else { "" };
            let concern = Concern {
                what: format!("Key {} …{} of {}{replaced}", key.name, key.hint, key.expiry.consumer),
                then: "stops working",
                when: Some(Moment::new(key.expiry.at, now)),
                href: Some(format!("/realms/{realm}/consumers/{environment}/{}", key.expiry.consumer)),
            };
            self.add(environment, concern);
        }
        for (environment, count) in shown {
            if let Some(more) = count.checked_sub(NAMED).filter(|more| *more > 0) {
                let concern = Concern {
                    what: format!("{more} more keys"),
                    then: "stop working within two weeks: tollgate key expiring lists them",
                    when: None,
                    href: None,
                };
                self.add(&environment, concern);
            }
        }
        Ok(())
    }

    async fn add_waivers(&mut self, console: &Console, visitor: &Visitor) -> Answer<()> {
        let waivers = console.app.waivers().list(&visitor.op, &WaiverFilter::default()).await;
        let Some(mut waivers) = seen(waivers)? else { return Ok(()) };
        let (now, realm) = (visitor.op.now, &visitor.op.realm);
        let until: Timestamp = now + SignedDuration::from_hours(24 * i64::from(DAYS));
        waivers.retain(|it| it.value.until <= until);
        waivers.sort_by_key(|it| it.value.until);
        let mut shown: BTreeMap<EnvironmentName, usize> = BTreeMap::new();
        for waiver in waivers.into_iter().map(|it| it.value) {
            let count = shown.entry(waiver.environment.clone()).or_default();
            *count += 1;
            if *count <= NAMED {
                let concern = Concern {
                    what: format!("The waiver for {}", waiver.pipeline),
                    then: "ends",
                    when: Some(Moment::new(waiver.until, now)),
                    href: Some(format!("/realms/{realm}/waivers")),
                };
                self.add(&waiver.environment, concern);
            }
        }
        Ok(())
    }

    async fn add_change_requests(&mut self, console: &Console, visitor: &Visitor) -> Answer<()> {
        let pending = console.app.change_requests().list(&visitor.op, Some(RequestState::Pending)).await;
        let Some(pending) = seen(pending)? else { return Ok(()) };
        let now = visitor.op.now;
        for request in pending.into_iter().take(NAMED).map(|it| it.value) {
            self.of_realm.push(Concern {
                what: format!("A change that {} asked for", request.author.name),
                then: "waits for somebody to decide, and expires",
                when: Some(Moment::new(request.expires_at, now)),
                href: Some(format!("/realms/{}/change-requests", visitor.op.realm)),
            });
        }
        Ok(())
    }
}

/// Returns what there is to see; `None` where it is not to be seen.
fn seen<T>(outcome: Result<T, Error>) -> Answer<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind, ErrorKind::Forbidden | ErrorKind::Unavailable) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
