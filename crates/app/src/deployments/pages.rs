//! A page of what runs, found by a part of its name: only what is on the page is judged.

use std::collections::HashMap;

use tollgate_model::deployments::Deployment;
use tollgate_model::names::EnvironmentName;
use tollgate_model::objects::{Object, keys};
use tollgate_model::pipelines::PipelineVersion;

use super::{DeploymentView, Deployments};
use crate::access::{Op, Permission, Place};
use crate::errors::Error;
use crate::lists::{ListPage, ListRequest};

// === impl Deployments ===

impl Deployments {
    /// Returns a page of what runs in an environment, of what the actor may read, by name; of it only that whose name
    /// contains a text.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] when there is no such environment.
    pub async fn page(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        search: &str,
        request: ListRequest,
    ) -> Result<ListPage<DeploymentView>, Error> {
        self.0.demand_list(op, Permission::DeploymentRead, Some(environment)).await?;
        let mut running = self.0.all::<Deployment>(&op.realm, &format!("{environment}/")).await?;
        running.retain(|stored| stored.value.pipeline.as_str().contains(search));
        if !op.may(Permission::DeploymentRead, Place::REALM) {
            let owners = self.0.owners(&op.realm).await?;
            running.retain(|stored| {
                let Deployment { environment, pipeline, .. } = &stored.value;
                owners.may(op, &[Permission::DeploymentRead], environment, pipeline)
            });
        }
        let page = ListPage::of(running.into_iter().map(|stored| stored.value), request, Object::key);
        let key = |it: &Deployment| keys::pipeline_version(&it.pipeline, it.version);
        let wanted: Vec<String> = page.items.iter().map(key).collect();
        let versions = self.0.store().get_many::<PipelineVersion>(&op.realm, &wanted).await?;
        let versions: HashMap<String, PipelineVersion> =
            versions.into_iter().map(|stored| (stored.value.key(), stored.value)).collect();
        let ruling = self.0.ruling(&op.realm).await?;
        let judge = ruling.judge(op.now);
        // What was undeployed and deleted since the list was read no longer counts.
        let running =
            page.items.into_iter().filter_map(|it| versions.get(&key(&it)).map(|version| (it, version)));
        let items = running.map(|(it, version)| DeploymentView::new(&op.realm, it, version, &judge));
        Ok(ListPage { items: items.collect::<Result<_, _>>()?, next: page.next })
    }
}
