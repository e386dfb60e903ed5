//! Client certificates of consumers.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_app::access::Permission;
use tollgate_app::certificates::{CertificateView as Certificate, NewCertificate};
use tollgate_model::certificates::{Fingerprint, KnownBy, SubjectAltName};
use tollgate_model::consumers::CredentialState;
use tollgate_model::ids::CertificateId;
use tollgate_model::names::{ConsumerName, CredentialName, EnvironmentName};

use crate::Api;
use crate::answers::{Answer, Created, ListView};
use crate::extract::{Body, Caller, In};
use crate::keys::default_name;
use crate::operations::{Access, Operation};
use crate::problem::Problem;

/// A client certificate, or all that bear a name, bound to a consumer.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct CertificateView {
    id: String,
    name: String,
    consumer: String,
    environment: String,
    /// SHA-256 of the certificate, where one is bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    /// The subject alternative name, where one is bound: `dns:…`, `uri:…` or `email:…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    san: Option<String>,
    /// SHA-256 of the CA certificate that must have given that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    /// `active`, `expired` or `revoked`: of the binding, not of the certificate.
    state: &'static str,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<String>,
    /// To about ten seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<String>,
}

/// Either `fingerprint`, or `san` with `issuer`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewCertificateBody {
    #[serde(default = "default_name")]
    name: CredentialName,
    /// SHA-256 of the certificate in DER: 64 hexadecimal digits, with or without colons.
    fingerprint: Option<String>,
    /// A subject alternative name: `dns:HOST`, `uri:URI` or `email:ADDRESS`.
    san: Option<String>,
    /// SHA-256 of the CA certificate, one of the listener's bundle, that certificates with this name must lead to.
    issuer: Option<String>,
    /// RFC 3339; without, until it is revoked.
    #[schemars(with = "Option<String>")]
    expires_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct OfConsumer {
    environment: EnvironmentName,
    consumer: ConsumerName,
}

#[derive(Deserialize)]
struct OneCertificate {
    environment: EnvironmentName,
    id: CertificateId,
}

pub(crate) fn operations() -> Vec<Operation> {
    let needs = Access::Needs;
    vec![
        Operation::get(
            "/realms/{realm}/environments/{environment}/consumers/{consumer}/certificates",
            needs(Permission::CertificateRead),
            "Lists a consumer's client certificates",
            list,
        )
        .answers::<ListView<CertificateView>>(),
        Operation::post(
            "/realms/{realm}/environments/{environment}/consumers/{consumer}/certificates",
            needs(Permission::CertificateCreate),
            "Binds a client certificate, or all that bear a name, to a consumer",
            create,
        )
        .takes::<NewCertificateBody>()
        .answers::<CertificateView>()
        .creates(),
        Operation::post(
            "/realms/{realm}/environments/{environment}/certificates/{id}/revoke",
            needs(Permission::CertificateRevoke),
            "Revokes a client certificate of a consumer",
            revoke,
        )
        .answers::<CertificateView>(),
    ]
}

async fn list(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<OfConsumer>,
) -> Answer<Json<ListView<CertificateView>>> {
    let certificates = api.app.certificates().list(&op, &path.environment, &path.consumer).await?;
    Ok(ListView::whole(certificates, |certificate| CertificateView::new(certificate, op.now)))
}

async fn create(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<OfConsumer>,
    Body(body): Body<NewCertificateBody>,
) -> Answer<Created<CertificateView>> {
    let known_by = body.known_by()?;
    let input = NewCertificate { name: body.name, known_by, expires_at: body.expires_at };
    let made = api.app.certificates().create(&op, &path.environment, &path.consumer, input).await?;
    Ok(Created(CertificateView::new(made, op.now)))
}

async fn revoke(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<OneCertificate>,
) -> Answer<Json<CertificateView>> {
    let revoked = api.app.certificates().revoke(&op, &path.environment, path.id).await?;
    Ok(Json(CertificateView::new(revoked, op.now)))
}

impl NewCertificateBody {
    fn known_by(&self) -> Result<KnownBy, Problem> {
        let invalid = |message: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message);
        let fingerprint = |text: &str| Fingerprint::parse(text).map_err(|error| invalid(error.to_string()));
        match (&self.fingerprint, &self.san, &self.issuer) {
            (Some(one), None, None) => Ok(KnownBy::Fingerprint(fingerprint(one)?)),
            (None, Some(san), Some(issuer)) => Ok(KnownBy::San {
                san: SubjectAltName::parse(san).map_err(|error| invalid(error.to_string()))?,
                issuer: fingerprint(issuer)?,
            }),
            (None, Some(_), None) => {
                Err(invalid("a name alone is not enough: another CA may give it to somebody else".to_owned())
                    .hint("give `issuer`, the SHA-256 of the CA certificate that it must come from"))
            }
            _ => Err(invalid("a client certificate is known by its fingerprint or by a name".to_owned())
                .hint("give either `fingerprint`, or `san` with `issuer`")),
        }
    }
}

impl CertificateView {
    fn new(it: Certificate, now: Timestamp) -> Self {
        let Certificate { certificate, consumer, last_used_at } = it;
        let (fingerprint, san, issuer) = match &certificate.known_by {
            KnownBy::Fingerprint(one) => (Some(one.to_string()), None, None),
            KnownBy::San { san, issuer } => (None, Some(san.to_string()), Some(issuer.to_string())),
        };
        Self {
            id: certificate.id.to_string(),
            name: certificate.name.to_string(),
            consumer: consumer.to_string(),
            environment: certificate.environment.to_string(),
            fingerprint,
            san,
            issuer,
            state: match certificate.state(now) {
                CredentialState::Active => "active",
                CredentialState::Expired => "expired",
                CredentialState::Revoked => "revoked",
            },
            created_at: certificate.created_at.to_string(),
            expires_at: certificate.expires_at.map(|at| at.to_string()),
            revoked_at: certificate.revoked_at.map(|at| at.to_string()),
            last_used_at: last_used_at.map(|at| at.to_string()),
        }
    }
}
