//! Which addresses an issuer may be at.
//!
//! Whoever sets an issuer has this process ask an address of their choice. Addresses that only this machine or its
//! neighbours reach are refused after names were resolved, unless the issuer's settings allow them: among them are the
//! services that hand out a cloud's credentials.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tollgate_model::networks::is_special;

/// Resolves names, and leaves out the addresses that are refused.
pub(super) struct PublicNames;

/// A name whose addresses are all refused.
#[derive(Debug, thiserror::Error)]
#[error("the name leads to internal addresses only")]
pub(super) struct InternalName;

impl Resolve for PublicNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| !is_special(address.ip())).collect();
            if public.is_empty() {
                return Err(InternalName.into());
            }
            let public: Addrs = Box::new(public.into_iter());
            Ok(public)
        })
    }
}
