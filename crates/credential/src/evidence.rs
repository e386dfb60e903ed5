//! Evidence: statements about what the server did, signed with Ed25519, that anybody verifies with the published keys.
//!
//! - [`keys`]: the keys, and their published form.
//! - [`envelopes`]: DSSE, what attestations are wrapped in.
//! - [`attestations`]: signing and verifying the statement of an admission.
//! - [`checkpoints`]: the journal's length and hash at a time, as a C2SP signed note.
//! - [`digests`]: the digest of a pipeline that anybody can take.
//!
//! Every parser here takes bytes from a stranger. What the formats leave open is read in one way only: JSON with a
//! member twice, base64 with bits left over, numbers with leading zeros are refused.

pub mod attestations;
pub mod checkpoints;
pub mod digests;
pub mod envelopes;
pub mod keys;

mod strict_json;

#[cfg(test)]
mod tests;
