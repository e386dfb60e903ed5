//! The table of operations.

use axum::Router;
use axum::handler::Handler;
use axum::middleware;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use tollgate_app::access::Permission;
use tollgate_app::users::Duty;

use crate::{
    Api, access, accounts, attestations, basic_auth, consumers, deployments, environments, evidence, globals,
    idempotency, journal, keys, meta, passwords, pipelines, policies, policy_versions, second_factor,
    sessions, shadow, signing_keys, tokens, usage,
};

/// Who may call an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anybody, without signing in.
    Public,
    /// Everybody who signed in: it concerns only themselves.
    SignedIn,
    /// Everybody who signed in, also those who have to do one of these first.
    SignedInDespite(&'static [Duty]),
    /// Whoever has this permission.
    Needs(Permission),
}

/// One operation of the API.
pub(crate) struct Operation {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) access: Access,
    /// A permission that it needs besides: its answer shows something of another resource.
    pub(crate) also: Option<Permission>,
    pub(crate) body: Option<MakeSchema>,
    /// Whether the body may be left out.
    pub(crate) body_optional: bool,
    pub(crate) query: Option<MakeSchema>,
    pub(crate) status: u16,
    pub(crate) answer: Option<MakeSchema>,
    /// Whether the answer carries the ETag of the resource.
    pub(crate) tagged: bool,
    /// Whether `If-Match` is heeded.
    pub(crate) conditional: bool,
    /// Whether it can be asked as of a time, with the parameter `asOf`.
    pub(crate) of_the_past: bool,
    /// Media types of the answer when it is not JSON: the answer is written as it is read.
    pub(crate) streams: &'static [&'static str],
    /// A media type that the body may have instead of JSON: the resource's file as it is.
    pub(crate) file: Option<&'static str>,
    /// Whether a repeated request with the same `Idempotency-Key` gets the first one's answer.
    pub(crate) repeatable: bool,
    /// Whether it answers 202 where the realm wants a second person: what was asked for is not made yet.
    pub(crate) four_eyes: bool,
    handler: MethodRouter<Api>,
}

pub(crate) type MakeSchema = fn(&mut SchemaGenerator) -> Schema;

/// Returns every operation.
pub(crate) fn all() -> Vec<Operation> {
    [
        meta::operations(),
        sessions::operations(),
        passwords::operations(),
        second_factor::operations(),
        tokens::operations(),
        environments::operations(),
        pipelines::operations(),
        policies::operations(),
        policy_versions::operations(),
        deployments::operations(),
        consumers::operations(),
        keys::operations(),
        basic_auth::operations(),
        crate::certificates::operations(),
        signing_keys::operations(),
        globals::operations(),
        crate::gateways::operations(),
        crate::issuers::operations(),
        accounts::operations(),
        journal::operations(),
        crate::change_requests::operations(),
        evidence::operations(),
        attestations::operations(),
        crate::waivers::operations(),
        crate::realm_settings::operations(),
        crate::users::operations(),
        crate::groups::operations(),
        crate::roles::operations(),
        usage::operations(),
        crate::traffic::operations(),
        crate::explanations::operations(),
        crate::trials::operations(),
        crate::reach::operations(),
        shadow::operations(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn make_schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

// === impl Operation ===

impl Operation {
    pub(crate) fn get<T: 'static>(
        path: &'static str,
        access: Access,
        summary: &'static str,
        handler: impl Handler<T, Api>,
    ) -> Self {
        Self::new(Method::GET, MethodFilter::GET, path, access, summary, handler)
    }

    pub(crate) fn post<T: 'static>(
        path: &'static str,
        access: Access,
        summary: &'static str,
        handler: impl Handler<T, Api>,
    ) -> Self {
        Self::new(Method::POST, MethodFilter::POST, path, access, summary, handler)
    }

    pub(crate) fn put<T: 'static>(
        path: &'static str,
        access: Access,
        summary: &'static str,
        handler: impl Handler<T, Api>,
    ) -> Self {
        Self::new(Method::PUT, MethodFilter::PUT, path, access, summary, handler)
    }

    pub(crate) fn delete<T: 'static>(
        path: &'static str,
        access: Access,
        summary: &'static str,
        handler: impl Handler<T, Api>,
    ) -> Self {
        let mut operation = Self::new(Method::DELETE, MethodFilter::DELETE, path, access, summary, handler);
        operation.status = 204;
        operation
    }

    fn new<T: 'static>(
        method: Method,
        filter: MethodFilter,
        path: &'static str,
        access: Access,
        summary: &'static str,
        handler: impl Handler<T, Api>,
    ) -> Self {
        Self {
            method,
            path,
            summary,
            access,
            also: None,
            body: None,
            body_optional: false,
            query: None,
            status: 200,
            answer: None,
            tagged: false,
            conditional: false,
            of_the_past: false,
            streams: &[],
            file: None,
            repeatable: false,
            four_eyes: false,
            handler: on(filter, handler),
        }
    }

    /// Says which permission it needs besides.
    pub(crate) fn also_needs(mut self, permission: Permission) -> Self {
        self.also = Some(permission);
        self
    }

    /// Says what the request's body is.
    pub(crate) fn takes<T: JsonSchema>(mut self) -> Self {
        self.body = Some(make_schema::<T>);
        self
    }

    /// Says what the request's body is, which may be left out.
    pub(crate) fn takes_optional<T: JsonSchema>(mut self) -> Self {
        self.body_optional = true;
        self.takes::<T>()
    }

    /// Says which query parameters there are.
    pub(crate) fn asks<T: JsonSchema>(mut self) -> Self {
        self.query = Some(|_| {
            let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
            settings.into_generator().into_root_schema_for::<T>()
        });
        self
    }

    /// Says what the answer's body is.
    pub(crate) fn answers<T: JsonSchema>(mut self) -> Self {
        self.answer = Some(make_schema::<T>);
        self
    }

    /// Says that it makes something: 201, and repeatable with `Idempotency-Key`.
    pub(crate) fn creates(mut self) -> Self {
        self.status = 201;
        self.repeatable = true;
        self
    }

    /// Says that it makes something, and not the same twice: 201.
    pub(crate) fn created(mut self) -> Self {
        self.status = 201;
        self
    }

    /// Says that it makes no more than a change request where the realm wants a second person: 202.
    pub(crate) fn under_four_eyes(mut self) -> Self {
        self.four_eyes = true;
        self
    }

    /// Says that there is nothing to answer: 204.
    pub(crate) fn empty(mut self) -> Self {
        self.status = 204;
        self
    }

    /// Says that the answer carries an ETag.
    pub(crate) fn tagged(mut self) -> Self {
        self.tagged = true;
        self
    }

    /// Says that `If-Match` is heeded.
    pub(crate) fn conditional(mut self) -> Self {
        self.conditional = true;
        self
    }

    /// Says that it can be asked as of a time: its handler takes [`crate::past::Then`].
    pub(crate) fn of_the_past(mut self) -> Self {
        self.of_the_past = true;
        self
    }

    /// Says that the answer is of one of these media types, and has no bound.
    pub(crate) fn streams(mut self, media_types: &'static [&'static str]) -> Self {
        self.streams = media_types;
        self
    }

    /// Says that the body may be a file of this media type; where nothing changes the answer is 200.
    pub(crate) fn takes_file(mut self, media_type: &'static str) -> Self {
        self.file = Some(media_type);
        self
    }

    /// Puts the operation into a router, behind its guards.
    pub(crate) fn add_to(self, router: Router<Api>, api: &Api) -> Router<Api> {
        let mut handler = self.handler;
        if self.repeatable {
            handler = handler.route_layer(middleware::from_fn_with_state(api.clone(), idempotency::repeat));
        }
        let guard = access::Guard {
            api: api.clone(),
            access: self.access,
            also: self.also,
            path: self.path,
            of_the_past: self.of_the_past,
        };
        router.route(self.path, handler.route_layer(middleware::from_fn_with_state(guard, access::admit)))
    }
}
