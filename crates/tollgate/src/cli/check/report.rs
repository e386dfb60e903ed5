//! What a check found, before it is written down in any format.

use tollgate_model::document::{DocumentError, Position, Resource};
use tollgate_model::names::{EnvironmentName, PipelineName, RealmName};
use tollgate_model::policies::{PolicyName, Rule};
use tollgate_model::verdicts::{Violation, Waived};
use tollgate_policy::Judge;

use super::FileResource;
use crate::failure::Failure;

/// A file that cannot be read or does not parse.
pub(super) const FILE_INVALID: &str = "file-invalid";
/// Policies that do not fit together.
pub(super) const POLICY_INVALID: &str = "policy-invalid";
/// A pipeline that the server would not save.
pub(super) const PIPELINE_INVALID: &str = "pipeline-invalid";
/// What the policies allow and advise against.
pub(super) const ADVICE: &str = "advice";

/// What a check found.
pub(super) struct Report {
    pub(super) files: Vec<FileReport>,
    /// The custom rules judged by.
    pub(super) rules: Vec<Rule>,
}

/// What was found in one file.
pub(super) struct FileReport {
    pub(super) file: String,
    pub(super) text: String,
    pub(super) resources: Vec<FileResource>,
    /// What is wrong with the file as such, or with policies in it.
    pub(super) problems: Vec<Finding>,
    pub(super) cases: Vec<Case>,
}

/// One pipeline in one environment.
pub(super) struct Case {
    pub(super) pipeline: PipelineName,
    /// `None`: whether the pipeline could be saved at all.
    pub(super) environment: Option<EnvironmentName>,
    /// Which resource of the file it is.
    pub(super) resource: usize,
    pub(super) findings: Vec<Finding>,
}

/// One thing that was found.
pub(super) struct Finding {
    /// Which rule it breaks: `POLICY/CODE` of a violation, or one of the constants above.
    pub(super) rule: String,
    pub(super) message: String,
    pub(super) pointer: String,
    pub(super) position: Position,
    pub(super) kind: FindingKind,
}

/// What a finding is.
pub(super) enum FindingKind {
    /// Something cannot be read, or could not be saved.
    Broken,
    /// A pipeline would not be deployed.
    Violation(Box<Violation>),
    /// A violation that does not count.
    Waived(Box<Waived>),
    /// Allowed, and advised against.
    Advice,
}

// === impl Report ===

impl Report {
    /// Returns everything that was found, in the order of the files.
    pub(super) fn findings(&self) -> impl Iterator<Item = (&FileReport, Option<&Case>, &Finding)> {
        self.files.iter().flat_map(|file| {
            let of_file = file.problems.iter().map(move |finding| (file, None, finding));
            let of_cases = file
                .cases
                .iter()
                .flat_map(move |case| case.findings.iter().map(move |finding| (file, Some(case), finding)));
            of_file.chain(of_cases)
        })
    }

    /// Tells whether something could not be read or saved.
    pub(super) fn is_broken(&self) -> bool {
        self.findings().any(|(_, _, finding)| matches!(finding.kind, FindingKind::Broken))
    }

    /// Counts the findings of a kind.
    pub(super) fn count(&self, kind: impl Fn(&FindingKind) -> bool) -> usize {
        self.findings().filter(|(_, _, finding)| kind(&finding.kind)).count()
    }

    /// Returns how many pipelines were judged.
    pub(super) fn pipelines(&self) -> usize {
        let all = self.files.iter().flat_map(|file| &file.resources);
        all.filter(|resource| matches!(resource.located.value, Resource::Pipeline(_))).count()
    }
}

// === impl FileReport ===

impl FileReport {
    /// Judges the pipelines of the file; without a judge it only tells whether they could be saved.
    pub(super) fn judge(
        &mut self,
        realm: &RealmName,
        judge: Option<&Judge<'_>>,
        environments: &[EnvironmentName],
    ) -> Result<(), Failure> {
        for (resource, FileResource { located, .. }) in self.resources.iter().enumerate() {
            let Resource::Pipeline(pipeline) = &located.value else { continue };
            let at = |pointer: &str| located.positions.find(pointer);
            let faults = tollgate_app::pipelines::faults(realm, pipeline);
            let case = |environment, findings| Case {
                pipeline: pipeline.name.clone(),
                environment,
                resource,
                findings,
            };
            if !faults.is_empty() {
                let broken = faults.into_iter().map(|(pointer, message)| Finding {
                    rule: PIPELINE_INVALID.to_owned(),
                    position: at(&pointer),
                    message,
                    pointer,
                    kind: FindingKind::Broken,
                });
                self.cases.push(case(None, broken.collect()));
            }
            for environment in environments {
                let Some(judge) = judge else { continue };
                let verdict = judge
                    .verdict(pipeline, environment)
                    .map_err(|error| Failure::usage(format!("{error} in the policies")))?;
                let violations = verdict.violations.into_iter().map(|violation| Finding {
                    rule: rule_of(&violation),
                    message: violation.to_string(),
                    pointer: violation.pointer.clone(),
                    position: at(&violation.pointer),
                    kind: FindingKind::Violation(Box::new(violation)),
                });
                let waived = verdict.waived.into_iter().map(|waived| Finding {
                    rule: rule_of(&waived.violation),
                    message: waived.violation.to_string(),
                    pointer: waived.violation.pointer.clone(),
                    position: at(&waived.violation.pointer),
                    kind: FindingKind::Waived(Box::new(waived)),
                });
                let advice = verdict.advice.into_iter().map(|message| Finding {
                    rule: ADVICE.to_owned(),
                    message,
                    pointer: "/trigger".to_owned(),
                    position: at("/trigger"),
                    kind: FindingKind::Advice,
                });
                let findings = violations.chain(waived).chain(advice).collect();
                self.cases.push(case(Some(environment.clone()), findings));
            }
        }
        Ok(())
    }
}

/// Names a violation's rule: what it breaks, and how.
fn rule_of(violation: &Violation) -> String {
    rule_id(&violation.policy, violation.code.as_str())
}

/// Names the rule that a policy's violation of a code breaks.
pub(super) fn rule_id(policy: &PolicyName, code: &str) -> String {
    format!("{policy}/{code}")
}

// === impl Finding ===

impl Finding {
    pub(super) fn broken(rule: &str, message: String, pointer: &str, position: Position) -> Self {
        let (rule, pointer) = (rule.to_owned(), pointer.to_owned());
        Self { rule, message, pointer, position, kind: FindingKind::Broken }
    }

    pub(super) fn unreadable(error: &std::io::Error) -> Self {
        let message = format!("the file cannot be read: {error}");
        Self::broken(FILE_INVALID, message, "", Position { line: 1, column: 1 })
    }

    pub(super) fn unparsable(error: &DocumentError) -> Self {
        let hint = error.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        let position = error.position.unwrap_or(Position { line: 1, column: 1 });
        Self::broken(FILE_INVALID, format!("{}{hint}", error.message), &error.pointer, position)
    }

    /// Tells whether a deploy would be refused for it.
    pub(super) fn counts(&self) -> bool {
        matches!(self.kind, FindingKind::Violation(_))
    }
}
