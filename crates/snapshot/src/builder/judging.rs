//! What the policies make of deployments, kept apart from what compiles their flows: a change of the policies judges
//! anew and compiles nothing.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use tollgate_model::names::RealmName;
use tollgate_model::objects::{Kind, Object as _, keys};
use tollgate_model::pipelines::PipelineVersion;
use tollgate_model::policies::Policies;
use tollgate_policy::Judge;

use super::{Builder, Part, Stale, unreadable};
use crate::endpoints::{Deployed, Endpoint};
use crate::enforcement::{Law, enforced};
use crate::{Broken, Enforced};

// === impl Builder ===

impl Builder {
    /// Reads the policies and waivers that changed, and marks what depends on them.
    pub(super) fn make_laws(&mut self, stale: &mut Stale) {
        for realm in std::mem::take(&mut stale.laws) {
            let law = self.read_law(&realm);
            self.laws.insert(realm.clone(), law);
            let environments = self.bodies(&realm, Kind::Environment, "");
            let environments = environments.filter_map(|(key, _)| key.parse().ok());
            stale.scopes.extend(environments.map(|name| (realm.clone(), name, Part::SensitiveFields)));
        }
    }

    pub(super) fn law(&self, realm: &RealmName) -> Result<&Law, Broken> {
        match self.laws.get(realm) {
            Some(law) => law.as_ref().map_err(Clone::clone),
            None => Err(no_policies(realm)),
        }
    }

    fn read_law(&self, realm: &RealmName) -> Result<Law, Broken> {
        let place = (realm.clone(), Policies::KIND, keys::POLICIES.to_owned());
        let body = self.objects.get(&place).ok_or_else(|| no_policies(realm))?;
        let policies =
            serde_json::from_str(body).map_err(|_| unreadable(realm, Policies::KIND, keys::POLICIES))?;
        // A waiver that does not parse lets nothing pass.
        Ok(Law::new(policies, self.of_kind(realm, "").collect()))
    }

    /// Judges deployments where calls are refused, and puts those whose standing changed behind the listeners anew.
    pub(super) fn judge_deployments(&mut self, stale: &mut Stale) {
        let mut judged = Vec::new();
        let prefixes = std::mem::take(&mut stale.judged);
        let realms: BTreeSet<&RealmName> = prefixes.iter().map(|(realm, _)| realm).collect();
        for realm in realms {
            let law = self.law(realm);
            let judge = OnceCell::new();
            let mut seen = BTreeSet::new();
            for (_, prefix) in prefixes.iter().filter(|(of, _)| of == realm) {
                let begin = (realm.clone(), prefix.clone());
                for (place, deployed) in self.deployed.range(begin..) {
                    if place.0 != *realm || !place.1.starts_with(prefix.as_str()) {
                        break;
                    }
                    let Deployed::Endpoint(endpoint) = deployed else { continue };
                    if !seen.insert(&place.1) {
                        continue;
                    }
                    let enforced = match &law {
                        Ok(law) => self.judge(law, &judge, endpoint),
                        Err(broken) => Err(broken.clone()),
                    };
                    if enforced != endpoint.enforced {
                        let endpoint = Endpoint { enforced, ..Endpoint::clone(endpoint) };
                        judged.push((place.clone(), Deployed::Endpoint(Arc::new(endpoint))));
                    }
                }
            }
        }
        stale.listeners |= !judged.is_empty();
        self.deployed.extend(judged);
    }

    fn judge<'a>(
        &self,
        law: &'a Law,
        judge: &OnceCell<Judge<'a>>,
        endpoint: &Endpoint,
    ) -> Result<Option<Arc<Enforced>>, Broken> {
        let Some(at) = law.at_gateway(&endpoint.environment)? else { return Ok(None) };
        let key = keys::pipeline_version(&endpoint.pipeline, endpoint.version);
        let body = self.objects.get(&(endpoint.realm.clone(), Kind::PipelineVersion, key.clone()));
        // A version that is not there or does not parse has no flow that could run; its calls are answered 503.
        let version: PipelineVersion = body
            .and_then(|body| serde_json::from_str(body).ok())
            .ok_or_else(|| unreadable(&endpoint.realm, Kind::PipelineVersion, &key))?;
        let judge = judge.get_or_init(|| law.judge());
        Ok(enforced(judge, &version.pipeline, &endpoint.environment, at)?.map(Arc::new))
    }
}

fn no_policies(realm: &RealmName) -> Broken {
    Broken(format!("realm `{realm}` has no policies"))
}
