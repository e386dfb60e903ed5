//! One's own second factor: set up with an app, confirmed with its first code, and what is left when the app is lost.

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tollgate_app::users::{Duty, RecoveryCodes, SecondFactorStatus};

use super::{Alone, BackQuery};
use crate::Console;
use crate::answers::{Answer, page, see_other};
use crate::errors::Failure;
use crate::forms::{Fields, Problem, Refusal, Told};
use crate::paths::own_path;
use crate::qr::QrCode;
use crate::times::Moment;
use crate::visitor::SignedIn;

/// Longest address of a second factor that is drawn again.
const LONGEST_ADDRESS: usize = 400;

#[derive(Template)]
#[template(path = "pages/account/second_factor/begin.html")]
struct BeginPage<'a> {
    alone: Alone,
    back: &'a str,
    is_duty: bool,
    problem: Problem,
}

#[derive(Template)]
#[template(path = "pages/account/second_factor/enrol.html")]
struct EnrolPage<'a> {
    alone: Alone,
    back: &'a str,
    /// The address that the code holds; shown again when the first code was wrong.
    uri: &'a str,
    /// The secret, in groups of four.
    secret: String,
    qr: Option<QrCode>,
    problem: Problem,
}

#[derive(Template)]
#[template(path = "pages/account/second_factor/codes.html")]
struct CodesPage<'a> {
    alone: Alone,
    back: &'a str,
    codes: Vec<String>,
}

#[derive(Template)]
#[template(path = "pages/account/second_factor/manage.html")]
struct ManagePage<'a> {
    alone: Alone,
    back: &'a str,
    since: Moment,
    codes_left: usize,
    required: bool,
    problem: Problem,
}

/// Has no `Debug`: it holds secrets, as the forms below.
#[derive(Deserialize)]
struct BeginForm {
    #[serde(default)]
    back: String,
    password: String,
}

#[derive(Deserialize)]
struct ConfirmForm {
    #[serde(default)]
    back: String,
    #[serde(default)]
    uri: String,
    code: String,
}

#[derive(Deserialize)]
struct ManageForm {
    #[serde(default)]
    back: String,
    password: String,
    code: String,
    #[serde(rename = "do")]
    what: What,
}

/// What is to be done with a second factor.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum What {
    /// Make new recovery codes.
    Renew,
    /// Take it away and set up another.
    Replace,
    /// Take it away.
    Remove,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/account/second-factor", get(show).post(begin))
        .route("/account/second-factor/confirm", post(confirm))
        .route("/account/second-factor/manage", post(manage))
}

async fn show(
    State(console): State<Console>,
    signed_in: SignedIn,
    Query(query): Query<BackQuery>,
) -> Answer<Response> {
    let status = status(&console, &signed_in, &query.back).await?;
    let page = match ManagePage::new(&signed_in, &query.back, status) {
        Some(managed) => page(&managed)?,
        None => page(&BeginPage::new(&signed_in, &query.back))?,
    };
    Ok(page.into_response())
}

async fn begin(
    State(console): State<Console>,
    signed_in: SignedIn,
    Fields(form): Fields<BeginForm>,
) -> Answer<Response> {
    let SignedIn { op, me } = &signed_in;
    status(&console, &signed_in, &form.back).await?;
    match console.app.users().enrol_second_factor(op, me, &form.password).await {
        Ok(enrolment) => Ok(page(&EnrolPage::new(&signed_in, &form.back, &enrolment.uri))?.into_response()),
        Err(error) => {
            let (told, refusal) = Told::of(error)?;
            let mut again = BeginPage::new(&signed_in, &form.back);
            again.problem = match told.code {
                "confirmation-failed" => Problem::new("password", wrong_password(refusal)),
                _ => Problem::new("", refusal),
            };
            told.answer(&again)
        }
    }
}

async fn confirm(
    State(console): State<Console>,
    signed_in: SignedIn,
    Fields(form): Fields<ConfirmForm>,
) -> Answer<Response> {
    let SignedIn { op, me } = &signed_in;
    match console.app.users().confirm_second_factor(op, me, form.code.trim()).await {
        Ok(codes) => show_codes(&signed_in, &form.back, &codes),
        Err(error) => {
            let (told, refusal) = Told::of(error)?;
            let mut again = EnrolPage::new(&signed_in, &form.back, &form.uri);
            let field = if told.code == "confirmation-failed" { "code" } else { "" };
            again.problem = Problem::new(field, refusal);
            told.answer(&again)
        }
    }
}

async fn manage(
    State(console): State<Console>,
    signed_in: SignedIn,
    Fields(form): Fields<ManageForm>,
) -> Answer<Response> {
    let SignedIn { op, me } = &signed_in;
    let (users, code) = (console.app.users(), form.code.trim());
    let done = match form.what {
        What::Renew => match users.renew_recovery_codes(op, me, &form.password, code).await {
            Ok(codes) => {
                let back = form.back.replace("done=second-factor", "done=recovery-codes");
                return show_codes(&signed_in, &back, &codes);
            }
            Err(error) => Err(error),
        },
        What::Replace | What::Remove => users.remove_second_factor(op, me, &form.password, code).await,
    };
    match (done, form.what) {
        (Ok(()), What::Replace) => {
            let back = utf8_percent_encode(&form.back, NON_ALPHANUMERIC);
            Ok(see_other(&format!("/account/second-factor?back={back}")))
        }
        (Ok(()), _) => {
            let back = form.back.replace("done=second-factor", "done=second-factor-removed");
            Ok(see_other(own_path(&back)))
        }
        (Err(error), _) => {
            let (told, refusal) = Told::of(error)?;
            let status = users.second_factor(op, me).await?;
            let Some(mut again) = ManagePage::new(&signed_in, &form.back, status) else {
                return Ok(see_other("/account/second-factor"));
            };
            again.problem = Problem::new("", refusal);
            told.answer(&again)
        }
    }
}

/// Returns how the second factor stands; whoever has to change their password does that first.
async fn status(console: &Console, signed_in: &SignedIn, back: &str) -> Answer<SecondFactorStatus> {
    let SignedIn { op, me } = signed_in;
    if let Some(duty @ Duty::ChangePassword) = me.duty {
        return Err(Failure::First { duty, back: back.to_owned(), htmx: false, refused: None });
    }
    Ok(console.app.users().second_factor(op, me).await?)
}

fn show_codes(signed_in: &SignedIn, back: &str, codes: &RecoveryCodes) -> Answer<Response> {
    let mut alone = Alone::new(signed_in, "Keep your recovery codes", back);
    alone.cancel = None;
    let codes = codes.expose_secrets().map(str::to_owned).collect();
    Ok(page(&CodesPage { alone, back: own_path(back), codes })?.into_response())
}

fn wrong_password(refusal: Refusal) -> Refusal {
    Refusal { message: "That is not your password".to_owned(), ..refusal }
}

// === impl BeginPage ===

impl<'a> BeginPage<'a> {
    fn new(signed_in: &SignedIn, back: &'a str) -> Self {
        let is_duty = signed_in.me.duty.is_some();
        let alone = Alone::new(signed_in, "Set up a second factor", back);
        Self { alone, back, is_duty, problem: Problem::default() }
    }
}

// === impl EnrolPage ===

impl<'a> EnrolPage<'a> {
    /// Shows a secret. What a form sent back is only drawn when it looks like one: it came from its sender's own page.
    fn new(signed_in: &SignedIn, back: &'a str, uri: &'a str) -> Self {
        let known = uri.starts_with("otpauth://totp/") && uri.len() <= LONGEST_ADDRESS && uri.is_ascii();
        let uri = if known { uri } else { "" };
        let secret = uri.split(['?', '&']).find_map(|part| part.strip_prefix("secret=")).unwrap_or_default();
        let letters: Vec<char> = secret.chars().collect();
        let groups: Vec<String> = letters.chunks(4).map(|group| group.iter().collect()).collect();
        Self {
            alone: Alone::new(signed_in, "Scan the code with your app", back),
            back,
            uri,
            secret: groups.join(" "),
            qr: QrCode::of(uri).filter(|_| known),
            problem: Problem::default(),
        }
    }
}

// === impl ManagePage ===

impl<'a> ManagePage<'a> {
    /// Returns nothing for somebody who has no second factor.
    fn new(signed_in: &SignedIn, back: &'a str, status: SecondFactorStatus) -> Option<Self> {
        Some(Self {
            alone: Alone::new(signed_in, "Your second factor", back),
            back,
            since: Moment::new(status.since?, signed_in.op.now),
            codes_left: status.recovery_codes_left,
            required: status.required,
            problem: Problem::default(),
        })
    }
}
