//! Trials: a flow that is run once on a sample message.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_app::access::Permission;
use tollgate_app::trials::{Trial, Tried};
use tollgate_model::names::{EnvironmentName, PipelineName};
use tollgate_model::trials::{SampleMessage, TrialReport};
use tollgate_model::versions::Version;

use crate::Api;
use crate::answers::Answer;
use crate::extract::{Body, Caller, In};
use crate::operations::{Access, Operation};
use crate::problem::Problem;

/// What to try: a pipeline that is saved, or a file. No `Debug`: messages are nobody's business.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TrialBody {
    /// A pipeline that is saved.
    pipeline: Option<PipelineName>,
    /// Its version; the latest when absent.
    #[schemars(with = "Option<String>")]
    version: Option<Version>,
    /// A file instead, YAML or JSON, which need not be saved. It takes the permission `pipeline:update`, too.
    document: Option<String>,
    /// The message that the flow begins with.
    #[serde(default)]
    message: SampleMessage,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct TrialView {
    pipeline: String,
    /// The version, or `draft`.
    version: String,
    environment: String,
    #[serde(flatten)]
    report: TrialReport,
}

#[derive(Deserialize)]
struct OfEnvironment {
    environment: EnvironmentName,
}

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::post(
            "/realms/{realm}/environments/{environment}/trials",
            Access::Needs(Permission::DeploymentCreate),
            "Runs a flow once on a sample message, calling upstreams for real, and tells of every step",
            run,
        )
        .takes::<TrialBody>()
        .answers::<TrialView>(),
    ]
}

async fn run(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<OfEnvironment>,
    Body(body): Body<TrialBody>,
) -> Answer<Json<TrialView>> {
    let tried = match (body.pipeline, body.document) {
        (Some(name), None) => Tried::Saved(name, body.version),
        (None, Some(document)) if body.version.is_none() => Tried::Draft(document),
        _ => {
            return Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid",
                "either a pipeline is tried, with or without its version, or a document",
            )
            .hint("send `pipeline` or `document`"));
        }
    };
    let Trial { pipeline, version, report } =
        api.app.trials().run(&op, &path.environment, tried, body.message).await?;
    Ok(Json(TrialView {
        pipeline: pipeline.to_string(),
        version,
        environment: path.environment.to_string(),
        report,
    }))
}
