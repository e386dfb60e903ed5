//! `tollgate change-request …`: what one person asks for and another decides.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tollgate_model::ids::ChangeRequestId;

use super::{Context, impact, versions};
use crate::answers::{items, number, text};
use crate::failure::Failure;
use crate::output::{Column, Format, print_err, print_out, printable, say};

/// `tollgate change-request …`
#[derive(Subcommand)]
pub(crate) enum ChangeRequestCommand {
    /// Lists the change requests, newest first.
    List {
        /// Only those in this state.
        #[arg(long, value_enum)]
        state: Option<State>,
    },
    /// Shows what was asked for, and what it would do today.
    Show {
        /// Its id, `chg_…`.
        id: ChangeRequestId,
    },
    /// Approves what somebody else asked for, and makes the change; shows what it does, approves with --yes.
    Approve(ApproveArguments),
    /// Rejects what somebody else asked for.
    Reject(EndArguments),
    /// Takes back what you asked for yourself.
    Withdraw(EndArguments),
}

/// How a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum State {
    /// It waits for somebody to decide.
    Pending,
    /// It was approved: the change was made.
    Approved,
    /// It was rejected.
    Rejected,
    /// Its author took it back.
    Withdrawn,
    /// Nobody decided in time.
    Expired,
}

/// Arguments of `tollgate change-request approve`.
#[derive(Args)]
pub(crate) struct ApproveArguments {
    /// Its id, `chg_…`.
    id: ChangeRequestId,
    /// Approves without asking.
    #[arg(long)]
    yes: bool,
    /// The base that `show` printed; needed when the change rests on something else than when it was asked for.
    #[arg(long, value_name = "N")]
    base: Option<u64>,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
}

/// Arguments of `tollgate change-request reject` and `withdraw`.
#[derive(Args)]
pub(crate) struct EndArguments {
    /// Its id, `chg_…`.
    id: ChangeRequestId,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
}

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("STATE", "/state"),
    ("AUTHOR", "/author/name"),
    ("ASKED", "/createdAt"),
    ("EXPIRES", "/expiresAt"),
    ("DECIDED BY", "/decision/by/name"),
    ("CHANGE", "/summary"),
    ("REASON", "/reason"),
];

/// Widest line of a setting before it becomes two.
const WIDTH: usize = 100;

/// Runs `tollgate change-request …`.
pub(crate) async fn run(context: &Context<'_>, command: ChangeRequestCommand) -> Result<(), Failure> {
    let client = &context.client;
    match command {
        ChangeRequestCommand::List { state } => {
            let mut path = client.realm_path(&["change-requests"]);
            if let Some(state) = state {
                path.push_str(&format!("?state={}", state.as_str()));
            }
            context.output.list(&client.list(&path).await?, COLUMNS);
        }
        ChangeRequestCommand::Show { id } => {
            let request = client.get(&path(context, id, &[])).await?;
            if context.output.format() != Format::Table {
                context.output.document(&request);
                return Ok(());
            }
            print_out(&described(&request));
            if request.get("meaning").is_some() {
                impact::print(&request);
            }
            if text(&request, "state") == "pending" {
                let base = match request.get("currentBase") {
                    Some(base) if !rests_on_the_same(&request) => format!(" --base {base}"),
                    _ => String::new(),
                };
                say!(
                    "hint: somebody other than the author decides: `tollgate change-request approve {id}{base}`"
                );
            }
        }
        ChangeRequestCommand::Approve(arguments) => approve(context, arguments).await?,
        ChangeRequestCommand::Reject(arguments) => end(context, arguments, "reject", "rejected").await?,
        ChangeRequestCommand::Withdraw(arguments) => {
            end(context, arguments, "withdraw", "withdrew").await?;
        }
    }
    Ok(())
}

async fn approve(context: &Context<'_>, arguments: ApproveArguments) -> Result<(), Failure> {
    let ApproveArguments { id, yes, base, comment } = arguments;
    let request = context.client.get(&path(context, id, &[])).await?;
    let read = base.or_else(|| {
        let same = rests_on_the_same(&request) || text(&request, "state") != "pending";
        same.then(|| {
            number(&request, if request.get("currentBase").is_some() { "currentBase" } else { "base" })
        })
    });
    if text(&request, "state") == "pending" && request.get("obstacle").is_none() {
        print_err(described(&request).trim_end());
        if request.get("meaning").is_some() {
            impact::say(&request);
        }
        let Some(_) = read else {
            let base = number(&request, "currentBase");
            return Err(Failure::usage(
                "the change was not approved: it rests on something else than when it was asked for",
            )
            .hint(format!("read what it does now, above; to approve that, add `--base {base} --yes`")));
        };
        if !yes {
            return Err(Failure::usage("the change was not approved: it needs a yes")
                .hint("read what it does, above, then repeat the command with --yes"));
        }
    }
    // What can't be approved is refused by the server, in its words.
    let body = json!({ "base": read.unwrap_or_default(), "comment": comment });
    let approved = context.client.post(&path(context, id, &["approve"]), &body).await?;
    let (summary, author) = (text(&approved, "summary"), approved.pointer("/author/name"));
    let author = author.and_then(Value::as_str).unwrap_or_default();
    context.output.done(&approved, &format!("approved, as {author} asked: {}", printable(summary)));
    Ok(())
}

async fn end(context: &Context<'_>, arguments: EndArguments, verb: &str, done: &str) -> Result<(), Failure> {
    let EndArguments { id, comment } = arguments;
    let ended = context.client.post(&path(context, id, &[verb]), &json!({ "comment": comment })).await?;
    let summary = printable(text(&ended, "summary"));
    context.output.done(&ended, &format!("{done} change request {id}: {summary}"));
    Ok(())
}

/// Tells of a change that was asked for, as the server answered; `false` when the answer is of one that was made.
pub(crate) fn told(context: &Context<'_>, answer: &Value) -> bool {
    let Some(request) = answer.get("changeRequest") else { return false };
    let (id, summary, until) = (text(request, "id"), text(request, "summary"), text(request, "expiresAt"));
    let summary = printable(summary);
    context.output.done(answer, &format!("asked for, not yet made: {summary}: change request {id}"));
    hint(id, until);
    true
}

/// Says how a change that was asked for gets made.
pub(crate) fn hint(id: &str, until: &str) {
    say!(
        "hint: the realm wants four eyes: until {until} somebody else can approve it: `tollgate change-request approve {id}`"
    );
}

fn path(context: &Context<'_>, id: ChangeRequestId, more: &[&str]) -> String {
    let id = id.to_string();
    let parts: Vec<&str> = ["change-requests", id.as_str()].iter().chain(more).copied().collect();
    context.client.realm_path(&parts)
}

fn rests_on_the_same(request: &Value) -> bool {
    request.get("currentBase").is_some_and(|base| Some(base) == request.get("base"))
}

/// Writes what was asked for by whom, what became of it, and what it would change beside what is judged otherwise.
fn described(request: &Value) -> String {
    let word =
        |pointer: &str| request.pointer(pointer).and_then(Value::as_str).map(printable).unwrap_or_default();
    let with = |text: String| if text.is_empty() { text } else { format!(": {text}") };
    let mut out = format!("change request {} ({})\n  {}\n", word("/id"), word("/state"), word("/summary"));
    let (author, asked, reason) = (word("/author/name"), word("/createdAt"), with(word("/reason")));
    out.push_str(&format!("  asked for by {author} at {asked}{reason}\n"));
    if request.get("decision").is_some_and(|decision| !decision.is_null()) {
        let (outcome, by, at) = (word("/decision/outcome"), word("/decision/by/name"), word("/decision/at"));
        out.push_str(&format!("  {outcome} by {by} at {at}{}\n", with(word("/decision/comment"))));
        return out;
    }
    out.push_str(&format!("  can be approved until {}\n", word("/expiresAt")));
    let change = request.get("change").cloned().unwrap_or_default();
    for (name, value) in change.as_object().into_iter().flatten().filter(|(name, _)| *name != "type") {
        out.push_str(&format!("  {}: {}\n", printable(name), printable(&plain(value))));
    }
    out.push('\n');
    if let Some(obstacle) = request.get("obstacle") {
        out.push_str(&format!(
            "approving it now would be refused: {}\n\n",
            printable(text(obstacle, "detail"))
        ));
    }
    if let Some(moved) = request.get("moved") {
        out.push_str("what became other since it was asked for:\n");
        out.push_str(&versions::text(moved));
    }
    if let Some(settings) = request.get("settings") {
        let side = |name: &str| settings.get(name).cloned().unwrap_or_default();
        out.push_str("the realm's settings:\n");
        out.push_str(&impact::changes(&side("before"), &side("after"), WIDTH));
    }
    if let Some(diff) = request.get("diff")
        && !(items(diff, "environmentsAdded").is_empty() && items(diff, "environmentsRemoved").is_empty())
    {
        out.push_str("what it would change:\n");
        out.push_str(&versions::text(diff));
    }
    if let Some(base) = request.get("currentBase") {
        let same =
            if rests_on_the_same(request) { "as when it was asked for" } else { "no longer as it was" };
        out.push_str(&format!("it rests on base {base}, {same}\n\n"));
    }
    out
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

// === impl State ===

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Value {
        json!({
            "id": "chg_1", "state": "pending", "summary": "set policy a-rule: test=off\u{1b}[2J",
            "change": { "type": "setPolicy", "policy": "a-rule", "environments": { "test": "off" }, "partial": true },
            "reason": "", "author": { "user": "usr_1", "name": "ann" }, "createdAt": "2026-01-01T00:00:00Z",
            "expiresAt": "2026-01-15T00:00:00Z", "base": 7, "currentBase": 9, "decision": null,
            "moved": { "from": "1.0", "to": "1.1", "environmentsAdded": [], "environmentsRemoved": [], "policies": [
                { "policy": "external-api-access", "change": "changed", "settings": [],
                    "environments": [{ "name": "test", "before": "any", "after": "api-key" }] }] },
        })
    }

    #[test]
    fn whoever_approves_reads_the_exact_change_and_what_moved_since() {
        assert_eq!(
            described(&request()),
            "\
change request chg_1 (pending)
  set policy a-rule: test=off\\u{1b}[2J
  asked for by ann at 2026-01-01T00:00:00Z
  can be approved until 2026-01-15T00:00:00Z
  policy: a-rule
  environments: {\"test\":\"off\"}
  partial: true

what became other since it was asked for:
policy version 1.0 → 1.1

external-api-access (changed):
  test: any → api-key

it rests on base 9, no longer as it was

"
        );
        assert!(!rests_on_the_same(&request()));
    }

    #[test]
    fn a_decided_request_says_who_decided_and_no_more() {
        let mut request = request();
        request["state"] = "rejected".into();
        request["decision"] = json!({ "outcome": "rejected", "by": { "user": "usr_2", "name": "bob" },
            "at": "2026-01-02T00:00:00Z", "comment": "not now" });
        let text = described(&request);
        assert!(text.ends_with("  rejected by bob at 2026-01-02T00:00:00Z: not now\n"), "{text}");
    }
}
