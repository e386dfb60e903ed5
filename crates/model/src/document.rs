//! Resource files: YAML or JSON documents, read with positions, so that an error names its line.
//!
//! JSON is read as YAML 1.2, which contains it. What YAML adds to surprise people or to exhaust a reader is
//! refused: anchors and aliases, tags, duplicate keys, `.nan` and `.inf`. A text is at most 1 MiB, its nesting at
//! most 64 deep.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::access::{Grant, Role};
use crate::issuers::IssuerSettings;
use crate::names::{ConsumerName, EnvironmentName, GroupName, IssuerName, PipelineName, UserName, ValueName};
use crate::pipelines::Pipeline;
use crate::policies::{
    AccessPolicyFile, EnforcementFile, LoginFlowsFile, Policy, PolicyName, Rule, SensitiveFieldsFile,
};
use crate::waivers::Waiver;

mod edit;
mod reader;
mod tree;
mod write;

pub use edit::{Edit, edited};
use tree::Tree;

/// Longest text read, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// A resource as written in a file; its `kind` says which.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "resources are read one at a time and never kept in bulk")]
pub enum Resource {
    /// `kind: Pipeline`.
    Pipeline(Pipeline),
    /// `kind: Policy`.
    Policy(Policy),
    /// `kind: Consumer`.
    Consumer(ConsumerFile),
    /// `kind: Global`.
    Global(GlobalFile),
    /// `kind: Group`.
    Group(GroupFile),
    /// `kind: Issuer`.
    Issuer(IssuerFile),
    /// `kind: Role`.
    Role(Role),
    /// `kind: Waiver`, as `tollgate policy export` writes it for checks without a server.
    Waiver(Waiver),
}

/// A consumer as written in a file; its credentials never stand in files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConsumerFile {
    /// Its name, unique in each environment.
    pub name: ConsumerName,
    /// Where it may call.
    pub environments: Vec<EnvironmentName>,
    /// What it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The pipelines that it may call.
    #[serde(default)]
    pub pipelines: Vec<PipelineName>,
}

/// A value for flows as written in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GlobalFile {
    /// Its name.
    pub name: ValueName,
    /// Its value in each environment: any JSON.
    pub environments: BTreeMap<EnvironmentName, serde_json::Value>,
}

/// An issuer of tokens as written in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IssuerFile {
    /// What pipelines call it.
    pub name: IssuerName,
    /// What is demanded of its tokens in each environment that takes them.
    pub environments: BTreeMap<EnvironmentName, IssuerSettings>,
}

/// A group of users as written in a file: members by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupFile {
    /// Its name.
    pub name: GroupName,
    /// Who is in it, and what for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Its members.
    #[serde(default)]
    pub members: BTreeSet<UserName>,
    /// What its members hold.
    #[serde(default)]
    pub grants: BTreeSet<Grant>,
}

/// A value with the positions of its parts in the text that it was read from.
#[derive(Debug, Clone)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where its parts stand.
    pub positions: Positions,
}

/// Where the parts of a document stand, by JSON pointer (RFC 6901).
#[derive(Debug, Clone)]
pub struct Positions(Arc<Tree>);

/// Where a value can be written, and what stands there now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// A text, number, `true`, `false` or null that begins here.
    Scalar(Position),
    /// Nothing yet, in a map that begins here and holds something.
    Absent(Position),
}

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
}

/// Why a text is not a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentError {
    /// What is wrong.
    pub message: String,
    /// Where; `None` when it concerns the text as a whole.
    pub position: Option<Position>,
    /// JSON pointer of the part at fault; empty for the whole document.
    pub pointer: String,
    /// What to write instead.
    pub hint: Option<String>,
}

/// The kinds of resource files, as `kind` spells them.
const KINDS: [&str; 8] = ["Pipeline", "Policy", "Consumer", "Global", "Group", "Issuer", "Role", "Waiver"];

/// Reads every document of a text, `---` between them.
///
/// # Errors
///
/// [`DocumentError`] for the first thing that is wrong; also when the text holds no document.
pub fn parse_resources(text: &str) -> Result<Vec<Located<Resource>>, DocumentError> {
    let trees = tree::parse(text)?;
    if trees.is_empty() {
        return Err(
            DocumentError::whole("there is no resource in this text").hint("begin with `kind: Pipeline`")
        );
    }
    trees.into_iter().map(resource).collect()
}

/// Reads a text that holds one pipeline.
///
/// # Errors
///
/// [`DocumentError`] for the first thing that is wrong.
pub fn parse_pipeline(text: &str) -> Result<Located<Pipeline>, DocumentError> {
    let mut resources = parse_resources(text)?;
    match (resources.pop(), resources.is_empty()) {
        (Some(Located { value: Resource::Pipeline(value), positions }), true) => {
            Ok(Located { value, positions })
        }
        (_, true) => Err(DocumentError::whole("this is not a pipeline").hint("begin with `kind: Pipeline`")),
        (_, false) => {
            Err(DocumentError::whole("this text holds more than one resource").hint("send them one by one"))
        }
    }
}

/// Reads a text that holds one document, whatever it says, as JSON.
///
/// # Errors
///
/// [`DocumentError`] when it is no YAML, or not one document. An empty text is null.
pub fn parse_value(text: &str) -> Result<serde_json::Value, DocumentError> {
    match tree::parse(text)?.as_slice() {
        [] => Ok(serde_json::Value::Null),
        [tree] => Ok(tree.value(Tree::ROOT)),
        _ => Err(DocumentError::whole("this text holds more than one document")),
    }
}

/// Writes a value as YAML.
pub fn to_yaml(value: &serde_json::Value) -> String {
    write::whole(value)
}

/// Returns the JSON Schema of a kind of resource file: `pipeline`, `policy`, `consumer`, `global`, `group`,
/// `issuer` or `role`.
pub fn schema(kind: &str) -> Option<serde_json::Value> {
    let (name, schema) = match kind {
        "pipeline" => ("Pipeline", schemars::schema_for!(Pipeline)),
        "policy" => return policy_schema(),
        "consumer" => ("Consumer", schemars::schema_for!(ConsumerFile)),
        "global" => ("Global", schemars::schema_for!(GlobalFile)),
        "group" => ("Group", schemars::schema_for!(GroupFile)),
        "issuer" => ("Issuer", schemars::schema_for!(IssuerFile)),
        "role" => ("Role", schemars::schema_for!(Role)),
        _ => return None,
    };
    let mut schema = schema.to_value();
    schema.as_object_mut()?.insert("title".to_owned(), format!("Tollgate {name}").into());
    add_kind(&mut schema, name)?;
    Some(schema)
}

/// Returns the schema of a policy: one of five shapes, by name.
fn policy_schema() -> Option<serde_json::Value> {
    let mut generator = schemars::SchemaGenerator::default();
    let mut shapes = Vec::new();
    for shape in [
        AccessPolicyFile::json_schema(&mut generator),
        LoginFlowsFile::json_schema(&mut generator),
        SensitiveFieldsFile::json_schema(&mut generator),
        EnforcementFile::json_schema(&mut generator),
        Rule::json_schema(&mut generator),
    ] {
        let mut shape = shape.to_value();
        add_kind(&mut shape, "Policy")?;
        shapes.push(shape);
    }
    let names = PolicyName::BUILT_IN.map(|name| name.to_string());
    let rule = shapes.last_mut()?.pointer_mut("/properties/name")?;
    *rule = serde_json::json!({ "allOf": [rule.take(), { "not": { "enum": names } }] });
    let definitions = generator.take_definitions(true);
    Some(serde_json::json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Tollgate Policy", "oneOf": shapes,
        "$defs": definitions,
    }))
}

/// Puts the `kind` of a resource file into its schema.
fn add_kind(schema: &mut serde_json::Value, name: &str) -> Option<()> {
    schema
        .get_mut("properties")?
        .as_object_mut()?
        .insert("kind".to_owned(), serde_json::json!({ "const": name }));
    if let Some(required) = schema.get_mut("required").and_then(serde_json::Value::as_array_mut) {
        required.insert(0, "kind".into());
    }
    Some(())
}

fn resource(tree: Tree) -> Result<Located<Resource>, DocumentError> {
    let tree = Arc::new(tree);
    let Some(kind) = tree.root_text("kind") else {
        let position = tree.find("/kind");
        return Err(DocumentError::at("the document has no `kind` that is a text", position)
            .hint(format!("begin with `kind: Pipeline`; there are {}", KINDS.join(", "))));
    };
    let value = match kind {
        "Pipeline" => {
            let pipeline: Pipeline = read(&tree)?;
            check_size(&pipeline, &tree)?;
            Resource::Pipeline(pipeline)
        }
        "Policy" => Resource::Policy(policy(&tree)?),
        "Consumer" => Resource::Consumer(read(&tree)?),
        "Global" => Resource::Global(read(&tree)?),
        "Group" => Resource::Group(read(&tree)?),
        "Issuer" => Resource::Issuer(read(&tree)?),
        "Role" => Resource::Role(read(&tree)?),
        "Waiver" => Resource::Waiver(read(&tree)?),
        other => {
            let mut error =
                DocumentError::at(format!("there is no kind `{}`", cut(other)), tree.find("/kind"));
            error.pointer = "/kind".to_owned();
            return Err(error.hint(nearest(other, &KINDS)));
        }
    };
    Ok(Located { value, positions: Positions(tree) })
}

/// Reads a policy by the shape that its name gives it, so that errors in it have positions.
fn policy(tree: &Tree) -> Result<Policy, DocumentError> {
    let Some(name) = tree.root_text("name") else {
        let names = PolicyName::BUILT_IN.map(|name| name.to_string());
        return Err(DocumentError::at("the policy has no `name`", tree.position(Tree::ROOT))
            .hint(format!("name one of {}, or choose a name for a custom rule", names.join(", "))));
    };
    let name: PolicyName = name.parse().map_err(|error: crate::policies::ParsePolicyError| {
        let mut error = DocumentError::at(error.to_string(), tree.find("/name"));
        error.pointer = "/name".to_owned();
        error
    })?;
    Ok(match &name {
        PolicyName::Access(_) => Policy::Access(read(tree)?),
        PolicyName::LoginFlows => Policy::LoginFlows(read(tree)?),
        PolicyName::SensitiveFields => Policy::SensitiveFields(read(tree)?),
        PolicyName::Enforcement => Policy::Enforcement(read(tree)?),
        // Most often the name of another policy, mistyped.
        PolicyName::Rule(rule) if tree.root_text("condition").is_none() => {
            let message = format!("`{rule}` would be a custom rule, and those have a `condition`");
            let mut error = DocumentError::at(message, tree.find("/name"));
            error.pointer = "/name".to_owned();
            return Err(
                error.hint(nearest(rule.as_str(), &PolicyName::BUILT_IN.each_ref().map(PolicyName::as_str)))
            );
        }
        PolicyName::Rule(_) => Policy::Rule(read(tree)?),
    })
}

fn read<T: DeserializeOwned>(tree: &Tree) -> Result<T, DocumentError> {
    T::deserialize(reader::Reader::root(tree, "kind"))
}

fn check_size(pipeline: &Pipeline, tree: &Tree) -> Result<(), DocumentError> {
    pipeline.check_size().map_err(|message| DocumentError {
        pointer: "/steps".to_owned(),
        ..DocumentError::at(message, tree.find("/steps")).hint("split the pipeline in two")
    })
}

/// Names the nearest known word, or all of them when none is near.
fn nearest(word: &str, known: &[&str]) -> String {
    let best = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&word.to_lowercase(), &known.to_lowercase()), known))
        .min()
        .filter(|(distance, known)| *distance <= 1 + known.len() / 4);
    match best {
        Some((_, known)) => format!("did you mean `{known}`?"),
        None if known.is_empty() => "nothing can stand here".to_owned(),
        None => format!("known here: {}", known.join(", ")),
    }
}

/// Cuts what a person wrote to a length that fits an error message.
fn cut(text: &str) -> String {
    if text.chars().count() <= 80 { text.to_owned() } else { text.chars().take(79).chain(['…']).collect() }
}

// === impl Resource ===

impl Resource {
    /// Returns the kind as files spell it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Pipeline(_) => "Pipeline",
            Self::Policy(_) => "Policy",
            Self::Consumer(_) => "Consumer",
            Self::Global(_) => "Global",
            Self::Group(_) => "Group",
            Self::Issuer(_) => "Issuer",
            Self::Role(_) => "Role",
            Self::Waiver(_) => "Waiver",
        }
    }
}

// === impl Positions ===

impl Positions {
    /// Returns where the part that a JSON pointer names stands; its nearest ancestor when it does not.
    pub fn find(&self, pointer: &str) -> Position {
        self.0.find(pointer)
    }

    /// Returns where the value that a JSON pointer names can be written without touching anything else; `None` when a
    /// list or a map stands there, or the map that it belongs to is not there.
    pub fn slot(&self, pointer: &str) -> Option<Slot> {
        self.0.slot(pointer)
    }
}

// === impl Position ===

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

// === impl DocumentError ===

impl DocumentError {
    fn whole(message: impl Into<String>) -> Self {
        Self { message: message.into(), position: None, pointer: String::new(), hint: None }
    }

    fn at(message: impl Into<String>, position: Position) -> Self {
        Self { position: Some(position), ..Self::whole(message) }
    }

    #[must_use]
    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(position) = self.position {
            write!(f, "{position}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for DocumentError {}

#[cfg(test)]
mod tests;
