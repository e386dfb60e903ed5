//! Client certificates of a consumer: bound by what somebody pastes, revoked at once. Nothing of them is secret, and a
//! private key that is pasted by mistake is refused and not shown again.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::post;
use jiff::Timestamp;
use serde::Deserialize;
use tollgate_app::access::{Op, Permission, Place};
use tollgate_app::certificates::{CertificateView, NewCertificate, PastedAs};
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_model::certificates::{KnownBy, SubjectAltName};
use tollgate_model::consumers::CredentialState;
use tollgate_model::ids::CertificateId;
use tollgate_model::names::{ConsumerName, CredentialName, EnvironmentName};

use super::keys::end_after;
use super::{ConsumerPath, Filled, consumer_path, place, show_again, show_wrong};
use crate::Console;
use crate::answers::{Answer, see_other};
use crate::forms::{Fields, Problem};
use crate::paths::named;
use crate::times::Moment;
use crate::visitor::Visitor;

/// The client certificates of a consumer, for whom they are to see.
pub(super) struct Certificates {
    pub(super) rows: Vec<Row>,
    pub(super) may_bind: bool,
    pub(super) may_revoke: bool,
}

pub(super) struct Row {
    pub(super) id: String,
    pub(super) name: String,
    /// What is known: `fingerprint`, or a name.
    pub(super) known_by: String,
    /// Fingerprint of the CA that must have given the name.
    pub(super) authority: Option<String>,
    pub(super) mark: (&'static str, &'static str),
    pub(super) made: Moment,
    pub(super) expires: Option<Moment>,
    pub(super) used: Option<Moment>,
    pub(super) active: bool,
}

/// What somebody wrote to bind a certificate, or all that bear a name.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct BindForm {
    /// `name` for all that bear one.
    by: String,
    pub(super) name: String,
    /// A certificate or its fingerprint: of the caller, or of the CA that gives the name.
    certificate: String,
    pub(super) san: String,
    pub(super) days: String,
}

#[derive(Deserialize)]
struct CertificatePath {
    environment: String,
    consumer: String,
    certificate: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/realms/{realm}/consumers/{environment}/{consumer}/certificates", post(bind)).route(
        "/realms/{realm}/consumers/{environment}/{consumer}/certificates/{certificate}/revoke",
        post(revoke),
    )
}

async fn bind(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<ConsumerPath>,
    Fields(form): Fields<BindForm>,
) -> Answer<Response> {
    let (environment, consumer) = place(&path)?;
    let input = match form.input(&console, &visitor.op) {
        Ok(input) => input,
        Err(problem) => return show_wrong(&console, &visitor, &path, form.filled(), problem).await,
    };
    match console.app.certificates().create(&visitor.op, &environment, &consumer, input).await {
        Ok(_) => Ok(see_other(&consumer_path(&visitor.op, &environment, &consumer))),
        Err(error) => {
            let field = match (error.kind, form.is_by_name()) {
                (ErrorKind::Invalid, false) => "certificate-days",
                (ErrorKind::Invalid, true) => "san-days",
                (_, false) => "certificate",
                (_, true) => "san",
            };
            show_again(&console, &visitor, &path, form.filled(), field, error).await
        }
    }
}

async fn revoke(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<CertificatePath>,
) -> Answer<Response> {
    let id: CertificateId = named(&path.certificate)?;
    let path = ConsumerPath { environment: path.environment, consumer: path.consumer };
    let (environment, consumer) = place(&path)?;
    console.app.certificates().revoke(&visitor.op, &environment, id).await?;
    Ok(see_other(&consumer_path(&visitor.op, &environment, &consumer)))
}

// === impl Certificates ===

impl Certificates {
    /// Lists them; `None` for whom they are not to see.
    pub(super) async fn of(
        console: &Console,
        op: &Op,
        environment: &EnvironmentName,
        consumer: &ConsumerName,
    ) -> Result<Option<Self>, Error> {
        let all = match console.app.certificates().list(op, environment, consumer).await {
            Ok(all) => all,
            Err(error) if error.kind == ErrorKind::Forbidden => return Ok(None),
            Err(error) => return Err(error),
        };
        let here = Place::environment(environment);
        Ok(Some(Self {
            rows: all.iter().rev().map(|it| Row::new(it, op.now)).collect(),
            may_bind: op.may(Permission::CertificateCreate, here),
            may_revoke: op.may(Permission::CertificateRevoke, here),
        }))
    }
}

// === impl Row ===

impl Row {
    fn new(view: &CertificateView, now: Timestamp) -> Self {
        let it = &view.certificate;
        let state = it.state(now);
        let (known_by, authority) = match &it.known_by {
            KnownBy::Fingerprint(one) => (one.to_string(), None),
            KnownBy::San { san, issuer } => (san.to_string(), Some(issuer.to_string())),
        };
        Self {
            id: it.id.to_string(),
            name: it.name.to_string(),
            known_by,
            authority,
            mark: match state {
                CredentialState::Active => ("good", "works"),
                CredentialState::Expired => ("bad", "expired"),
                CredentialState::Revoked => ("bad", "revoked"),
            },
            made: Moment::new(it.created_at, now),
            expires: it.expires_at.map(|at| Moment::new(at, now)),
            used: view.last_used_at.map(|at| Moment::new(at, now)),
            active: state == CredentialState::Active,
        }
    }
}

// === impl BindForm ===

impl BindForm {
    fn is_by_name(&self) -> bool {
        self.by == "name"
    }

    /// Reads the form; what is wrong is put at its field.
    fn input(&self, console: &Console, op: &Op) -> Result<NewCertificate, Problem> {
        let by_name = self.is_by_name();
        let at = |one, all| if by_name { all } else { one };
        let name = CredentialName::parse(self.name.trim())
            .map_err(|error| Problem::of(at("certificate-name", "san-name"), error))?;
        let read = |pasted, field| {
            let text = self.certificate.trim();
            console
                .app
                .certificates()
                .read(op, text, pasted)
                .map_err(|error| Problem::new(field, error.into()))
        };
        let known_by = if by_name {
            let san = SubjectAltName::parse(self.san.trim()).map_err(|error| Problem::of("san", error))?;
            KnownBy::San { san, issuer: read(PastedAs::Authority, "san-authority")? }
        } else {
            KnownBy::Fingerprint(read(PastedAs::Caller, "certificate")?)
        };
        let expires_at = end_after(&self.days, op.now)
            .map_err(|refusal| Problem::new(at("certificate-days", "san-days"), refusal))?;
        Ok(NewCertificate { name, known_by, expires_at })
    }

    /// What is shown again: what was pasted is not, it may be something else than was meant.
    fn filled(self) -> Filled {
        let bound = Self { certificate: String::new(), ..self };
        if bound.is_by_name() {
            Filled { by_name: bound, ..Filled::default() }
        } else {
            Filled { one: bound, ..Filled::default() }
        }
    }
}
