//! Route paths: `/products/:id`.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// The path of an additional route, for example `/products/:id`.
///
/// Begins with `/` and a literal segment; segments that begin with `:` are parameters, each with its own name. Where all
/// segments before it are literal, the last one may begin with `*`: it matches all that is left of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("maxLength" = 512, "pattern" = "^(/[A-Za-z0-9._~-]+)(/:?[A-Za-z0-9._~-]+)*(/\\*[A-Za-z0-9_-]+)?$"))]
pub struct RoutePath(Box<str>);

/// One segment of a route path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteSegment<'a> {
    /// Matches itself.
    Literal(&'a str),
    /// Matches any one non-empty segment and gives it a name.
    Parameter(&'a str),
    /// Matches one or more segments, as they were sent, and gives them a name.
    Rest(&'a str),
}

/// Why a route path was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseRouteError {
    /// No `/` in front.
    #[error("route `{0}` does not begin with `/`: write `/{0}`")]
    NoSlash(String),
    /// The first segment is a parameter.
    #[error("route `{0}` begins with a parameter: put a fixed segment first, for example `/items{0}`")]
    BeginsWithParameter(String),
    /// Two slashes in a row, or one at the end.
    #[error("route `{0}` has an empty segment: remove the extra `/`")]
    EmptySegment(String),
    /// A character that a segment cannot hold.
    #[error(
        "segment `{segment}` of route `{route}` is not allowed: use letters, digits, `-`, `_`, `.` and `~`"
    )]
    Segment {
        /// The whole route.
        route: String,
        /// The segment at fault.
        segment: String,
    },
    /// The same parameter twice.
    #[error("route `{route}` names parameter `:{name}` twice: give each its own name")]
    RepeatedParameter {
        /// The whole route.
        route: String,
        /// The parameter's name.
        name: String,
    },
    /// A `*` that is not the last segment, or stands behind a parameter.
    #[error(
        "route `{0}` has `*` in the wrong place: only the last segment can begin with it, behind segments without parameters"
    )]
    Rest(String),
    /// Longer than 512 characters.
    #[error("a route is at most 512 characters long")]
    TooLong,
}

// === impl RoutePath ===

impl RoutePath {
    /// Parses a route path.
    ///
    /// # Errors
    ///
    /// [`ParseRouteError`], by variant.
    pub fn parse(input: &str) -> Result<Self, ParseRouteError> {
        if input.len() > 512 {
            return Err(ParseRouteError::TooLong);
        }
        let Some(rest) = input.strip_prefix('/') else {
            return Err(ParseRouteError::NoSlash(input.to_owned()));
        };
        if rest.starts_with([':', '*']) {
            return Err(ParseRouteError::BeginsWithParameter(input.to_owned()));
        }
        let mut parameters = Vec::new();
        let mut segments = rest.split('/').peekable();
        while let Some(segment) = segments.next() {
            if segment.is_empty() {
                return Err(ParseRouteError::EmptySegment(input.to_owned()));
            }
            if segment.starts_with('*') && (segments.peek().is_some() || !parameters.is_empty()) {
                return Err(ParseRouteError::Rest(input.to_owned()));
            }
            let (name, is_parameter) = match segment.strip_prefix([':', '*']) {
                Some(name) => (name, true),
                None => (segment, false),
            };
            let allowed = |b: u8| {
                b.is_ascii_alphanumeric()
                    || b == b'_'
                    || b == b'-'
                    || (!is_parameter && matches!(b, b'.' | b'~'))
            };
            if name.is_empty() || !name.bytes().all(allowed) || matches!(name, "." | "..") {
                return Err(ParseRouteError::Segment {
                    route: input.to_owned(),
                    segment: segment.to_owned(),
                });
            }
            if is_parameter {
                if parameters.contains(&name) {
                    return Err(ParseRouteError::RepeatedParameter {
                        route: input.to_owned(),
                        name: name.to_owned(),
                    });
                }
                parameters.push(name);
            }
        }
        Ok(Self(input.into()))
    }

    /// Returns the path as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the segments in order.
    pub fn segments(&self) -> impl Iterator<Item = RouteSegment<'_>> {
        self.0.split('/').skip(1).map(|segment| match segment.split_at_checked(1) {
            Some((":", name)) => RouteSegment::Parameter(name),
            Some(("*", name)) => RouteSegment::Rest(name),
            _ => RouteSegment::Literal(segment),
        })
    }

    /// Returns the path with every parameter's name taken out (`/products/:`): two routes with the same shape
    /// cannot both be deployed on one listener.
    pub fn shape(&self) -> String {
        let mut shape = String::with_capacity(self.0.len());
        for segment in self.segments() {
            shape.push('/');
            match segment {
                RouteSegment::Literal(text) => shape.push_str(text),
                RouteSegment::Parameter(_) => shape.push(':'),
                RouteSegment::Rest(_) => shape.push('*'),
            }
        }
        shape
    }
}

impl fmt::Display for RoutePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for RoutePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_may_not_begin_with_a_parameter() {
        let error = RoutePath::parse("/:id").expect_err("begins with a parameter");
        assert_eq!(
            error.to_string(),
            "route `/:id` begins with a parameter: put a fixed segment first, for example `/items/:id`"
        );
    }

    #[test]
    fn odd_routes_are_refused() {
        for bad in [
            "",
            "x",
            "/",
            "//x",
            "/x/",
            "/x//y",
            "/x/:",
            "/x/../y",
            "/x/%2e",
            "/x/:a/:a",
            "/x y",
            "/x/{a}",
            "/x/*",
            "/*rest",
            "/x/*rest/y",
            "/x/:a/*rest",
            "/x/**",
            "/x/*a.b",
            "/x*rest",
        ] {
            assert!(RoutePath::parse(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn the_last_segment_can_stand_for_all_that_is_left() {
        let route = RoutePath::parse("/files/public/*rest").expect("valid");
        assert_eq!(route.segments().last(), Some(RouteSegment::Rest("rest")));
        assert_eq!(route.shape(), "/files/public/*");
    }

    #[test]
    fn the_shape_forgets_parameter_names() {
        let a = RoutePath::parse("/products/:id/parts/:part").expect("valid");
        let b = RoutePath::parse("/products/:product/parts/:p").expect("valid");
        assert_eq!(a.shape(), b.shape());
        assert_eq!(a.shape(), "/products/:/parts/:");
    }
}
