//! Attestations of deployments.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tollgate_app::access::Permission;
use tollgate_app::attestations::Which;
use tollgate_app::lists::ListRequest;
use tollgate_model::attestations::Attestation;
use tollgate_model::ids::{AttestationId, DeploymentId};
use tollgate_model::names::{EnvironmentName, PipelineName};

use crate::Api;
use crate::answers::{Answer, ListView};
use crate::extract::{Ask, Caller, In};
use crate::operations::{Access, Operation};

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct AttestationView {
    id: String,
    environment: String,
    pipeline: String,
    version: String,
    /// The deployment that it is of; a redeploy keeps that id.
    deployment: String,
    /// `deploy`, `promote` or `rollback`.
    operation: Value,
    at: String,
    by: String,
    /// Digest of the pipeline version.
    sha256: String,
    /// The key that signed.
    kid: String,
}

/// A DSSE envelope with an in-toto Statement: `docs/attestations.md`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct EnvelopeView {
    /// `application/vnd.in-toto+json`.
    payload_type: String,
    /// The statement in base64.
    payload: String,
    signatures: Vec<SignatureView>,
}

#[derive(Serialize, JsonSchema)]
struct SignatureView {
    /// The key that signed.
    keyid: String,
    /// The signature in base64.
    sig: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only this environment.
    environment: Option<EnvironmentName>,
    /// Only this pipeline; needs `environment`.
    pipeline: Option<PipelineName>,
    /// How many at most: 1 to 500.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WhichQuery {
    /// Which major, when several run.
    major: Option<u32>,
    /// The newest of this deployment, which need not run any more.
    #[schemars(with = "Option<String>")]
    deployment: Option<DeploymentId>,
    /// This attestation.
    #[schemars(with = "Option<String>")]
    id: Option<AttestationId>,
}

#[derive(Deserialize)]
struct Place {
    environment: EnvironmentName,
    pipeline: PipelineName,
}

pub(crate) fn operations() -> Vec<Operation> {
    let read = Access::Needs(Permission::DeploymentRead);
    vec![
        Operation::get(
            "/realms/{realm}/attestations",
            read,
            "Lists the attestations of deployments by environment, pipeline and time",
            list,
        )
        .asks::<ListQuery>()
        .answers::<ListView<AttestationView>>(),
        Operation::get(
            "/realms/{realm}/environments/{environment}/deployments/{pipeline}/attestation",
            read,
            "Returns the attestation of a deployment: a DSSE envelope with an in-toto Statement",
            get,
        )
        .asks::<WhichQuery>()
        .answers::<EnvelopeView>(),
    ]
}

async fn list(
    State(api): State<Api>,
    Caller(op): Caller,
    Ask(query): Ask<ListQuery>,
) -> Answer<Json<ListView<AttestationView>>> {
    let ListQuery { environment, pipeline, limit, cursor } = query;
    let request = ListRequest { limit, cursor };
    let page = api.app.attestations().list(&op, environment.as_ref(), pipeline.as_ref(), request).await?;
    Ok(ListView::page(page, AttestationView::from))
}

async fn get(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<Place>,
    Ask(query): Ask<WhichQuery>,
) -> Answer<Json<EnvelopeView>> {
    let which = match (query.id, query.deployment) {
        (Some(id), _) => Which::Id(id),
        (None, Some(deployment)) => Which::Deployment(deployment),
        (None, None) => Which::Running(query.major),
    };
    let envelope = api.app.attestations().get(&op, &path.environment, &path.pipeline, which).await?.envelope;
    Ok(Json(EnvelopeView {
        payload_type: envelope.payload_type,
        payload: envelope.payload,
        signatures: envelope
            .signatures
            .into_iter()
            .map(|signature| SignatureView { keyid: signature.keyid, sig: signature.sig })
            .collect(),
    }))
}

impl From<Attestation> for AttestationView {
    fn from(attestation: Attestation) -> Self {
        Self {
            id: attestation.id.to_string(),
            environment: attestation.environment.to_string(),
            pipeline: attestation.pipeline.to_string(),
            version: attestation.version.to_string(),
            deployment: attestation.deployment.to_string(),
            operation: json!(attestation.operation),
            at: attestation.at.to_string(),
            by: attestation.by,
            sha256: attestation.sha256,
            kid: attestation.kid,
        }
    }
}
