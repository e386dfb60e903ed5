//! Bodies: in memory, or as they come.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

use crate::overload::Running;
use crate::passing::Passing;

/// An error of any kind.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// A body that comes from somebody else.
pub(crate) type Stream = Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>;

/// The body of an answer, or of a request to an upstream.
///
/// Most are in memory, and cost no more than that; the others are passed on piece by piece, each when the one before was
/// taken.
pub struct Payload(Inner);

enum Inner {
    Whole(Full<Bytes>),
    Stream {
        body: Stream,
        /// The place of the call among those that run: given back when the body has ended or nobody wants it any more.
        running: Option<Running>,
        /// The call that ends with this body.
        call: Option<Box<Passing>>,
    },
}

// === impl Payload ===

impl Payload {
    /// Passes a body on.
    pub(crate) fn stream<B>(body: B) -> Self
    where
        B: Body<Data = Bytes, Error = BoxError> + Send + 'static,
    {
        Self(Inner::Stream { body: Box::pin(body), running: None, call: None })
    }

    /// Keeps the place of a call for as long as its answer is passed on; gives it back at once when all is in memory.
    pub(crate) fn hold(&mut self, place: Running) {
        if let Inner::Stream { running, .. } = &mut self.0 {
            *running = Some(place);
        }
    }

    /// Has a call end when this body ends, when it is cut off, or when nobody wants it any more.
    pub(crate) fn end_with(&mut self, ending: Box<Passing>) {
        if let Inner::Stream { call, .. } = &mut self.0 {
            *call = Some(ending);
        }
    }

    /// Tells whether all of it is in memory.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.0, Inner::Whole(_))
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self(Inner::Whole(Full::default()))
    }
}

impl<T: Into<Bytes>> From<T> for Payload {
    fn from(bytes: T) -> Self {
        Self(Inner::Whole(Full::new(bytes.into())))
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_whole() { "Payload(whole)" } else { "Payload(stream)" })
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Inner::Whole(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Inner::Stream { body, call, .. } => {
                let polled = body.as_mut().poll_frame(context);
                if let (Some(call), Poll::Ready(frame)) = (call, &polled) {
                    call.note(frame.as_ref(), body.is_end_stream());
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Whole(body) => body.is_end_stream(),
            Inner::Stream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Whole(body) => body.size_hint(),
            Inner::Stream { body, .. } => body.size_hint(),
        }
    }
}
