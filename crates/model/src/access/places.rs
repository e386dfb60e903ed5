//! Where something is done, and how far a right reaches.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::names::{EnvironmentName, ProjectName};

/// Where something is done. What is not named is meant as a whole: [`Place::REALM`] is everything in the realm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The environment; `None` means all, those to come included.
    pub environment: Option<&'a EnvironmentName>,
    /// The project; `None` means all, those to come included.
    pub project: Option<&'a ProjectName>,
}

/// All of something, or the named ones only. As JSON a list that is never empty; all is to leave it out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Extent<N> {
    /// All, those to come included.
    #[default]
    All,
    /// These. Invariant: never empty.
    Only(BTreeSet<N>),
}

/// How far a right reaches: a rectangle of environments and projects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Reach {
    /// In which environments.
    pub environments: Extent<EnvironmentName>,
    /// For which projects.
    pub projects: Extent<ProjectName>,
}

// === impl Place ===

impl<'a> Place<'a> {
    /// Everything in the realm.
    pub const REALM: Self = Self { environment: None, project: None };

    /// All of an environment.
    pub fn environment(environment: &'a EnvironmentName) -> Self {
        Self { environment: Some(environment), project: None }
    }

    /// All of a project.
    pub fn project(project: &'a ProjectName) -> Self {
        Self { environment: None, project: Some(project) }
    }

    /// A project in an environment.
    pub fn both(environment: &'a EnvironmentName, project: &'a ProjectName) -> Self {
        Self { environment: Some(environment), project: Some(project) }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.environment, self.project) {
            (None, None) => f.write_str("in the whole realm"),
            (Some(environment), None) => write!(f, "in all of environment `{environment}`"),
            (None, Some(project)) => write!(f, "for all of project `{project}`"),
            (Some(environment), Some(project)) => {
                write!(f, "in environment `{environment}` for project `{project}`")
            }
        }
    }
}

// === impl Extent ===

impl<N: Ord + Clone> Extent<N> {
    /// Returns the named ones; `None` when there are none, which is no extent.
    pub fn only(names: impl IntoIterator<Item = N>) -> Option<Self> {
        let names: BTreeSet<N> = names.into_iter().collect();
        if names.is_empty() { None } else { Some(Self::Only(names)) }
    }

    /// Tells whether it is all.
    pub fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }

    /// Returns the names; none when it is all.
    pub fn names(&self) -> impl Iterator<Item = &N> {
        match self {
            Self::All => None,
            Self::Only(names) => Some(names.iter()),
        }
        .into_iter()
        .flatten()
    }

    /// Tells whether it has this one; `None` stands for all, those to come included.
    pub fn has(&self, name: Option<&N>) -> bool {
        match (self, name) {
            (Self::All, _) => true,
            (Self::Only(names), Some(name)) => names.contains(name),
            (Self::Only(_), None) => false,
        }
    }

    /// Tells whether it has all that the other has.
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Only(_), Self::All) => false,
            (Self::Only(names), Self::Only(others)) => others.is_subset(names),
        }
    }

    /// Returns what both have; `None` when that is nothing.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::All, other) => Some(other.clone()),
            (own, Self::All) => Some(own.clone()),
            (Self::Only(names), Self::Only(others)) => Self::only(names.intersection(others).cloned()),
        }
    }

    /// Takes a name out; `None` when nothing is left. All stays all.
    pub fn without(&self, name: &N) -> Option<Self> {
        match self {
            Self::All => Some(Self::All),
            Self::Only(names) => Self::only(names.iter().filter(|it| *it != name).cloned()),
        }
    }
}

impl<N: Serialize> Serialize for Extent<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_none(),
            Self::Only(names) => names.serialize(serializer),
        }
    }
}

impl<'de, N: Deserialize<'de> + Ord + Clone> Deserialize<'de> for Extent<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = BTreeSet::<N>::deserialize(deserializer)?;
        Self::only(names)
            .ok_or_else(|| serde::de::Error::custom("a list of no names: leave it out to mean all of them"))
    }
}

impl<N: schemars::JsonSchema> schemars::JsonSchema for Extent<N> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}s", N::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names = generator.subschema_for::<N>();
        schemars::json_schema!({ "type": "array", "items": names, "minItems": 1, "uniqueItems": true })
    }
}

// === impl Reach ===

impl Reach {
    /// Everything in a realm.
    pub const EVERYTHING: Self = Self { environments: Extent::All, projects: Extent::All };

    /// Tells whether it has no limits.
    pub fn is_everything(&self) -> bool {
        self.environments.is_all() && self.projects.is_all()
    }

    /// Tells whether it reaches all of a place.
    pub fn has(&self, place: Place<'_>) -> bool {
        self.environments.has(place.environment) && self.projects.has(place.project)
    }

    /// Tells whether it reaches wherever the other does.
    pub fn contains(&self, other: &Self) -> bool {
        self.environments.contains(&other.environments) && self.projects.contains(&other.projects)
    }

    /// Returns where both reach; `None` when that is nowhere.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        Some(Self {
            environments: self.environments.intersect(&other.environments)?,
            projects: self.projects.intersect(&other.projects)?,
        })
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list<N: fmt::Display + Ord + Clone>(extent: &Extent<N>) -> String {
            extent.names().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        }
        match (self.environments.is_all(), self.projects.is_all()) {
            (true, true) => f.write_str("everywhere"),
            (false, true) => write!(f, "in {}", list(&self.environments)),
            (true, false) => write!(f, "for {}", list(&self.projects)),
            (false, false) => write!(f, "in {} for {}", list(&self.environments), list(&self.projects)),
        }
    }
}
