//! Client certificates of consumers: bound by fingerprint or by a name that a CA gave; nothing secret is kept.

use jiff::Timestamp;
use tollgate_credential::certificates::{PastedCertificate, holds_private_key};
use tollgate_model::certificates::{Certificate, Fingerprint, KnownBy};
use tollgate_model::consumers::Consumer;
use tollgate_model::ids::CertificateId;
use tollgate_model::names::{ConsumerName, CredentialName, EnvironmentName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::keys;
use tollgate_store::{Expect, Stored};

use crate::App;
use crate::access::{Op, Permission, Place};
use crate::changes::{Draft, expect, overtaken};
use crate::credentials::check_expiry;
use crate::errors::Error;

/// Use cases of client certificates.
pub struct Certificates(pub(crate) App);

/// A client certificate to bind.
#[derive(Debug, Clone)]
pub struct NewCertificate {
    /// For its owner to tell certificates apart.
    pub name: CredentialName,
    /// By what it is known.
    pub known_by: KnownBy,
    /// When the binding is to stop working by itself.
    pub expires_at: Option<Timestamp>,
}

/// A client certificate as lists show it.
#[derive(Debug, Clone, PartialEq)]
pub struct CertificateView {
    /// What is kept of it.
    pub certificate: Certificate,
    /// Whose it is.
    pub consumer: ConsumerName,
    /// When a call last showed it, to about ten seconds.
    pub last_used_at: Option<Timestamp>,
}

/// Whose certificate somebody pastes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PastedAs {
    /// That of a caller.
    Caller,
    /// That of a CA.
    Authority,
}

// === impl Certificates ===

impl Certificates {
    /// Reads what somebody pastes to name a certificate: the certificate itself, PEM, or its SHA-256 fingerprint, also as
    /// `openssl x509 -fingerprint` prints it. Nothing of it is kept but the fingerprint.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Invalid`] for anything else, which no error repeats: for a private key above all; for a
    /// caller's certificate where a CA's is meant and the other way round; for one that has ended.
    pub fn read(&self, op: &Op, text: &str, pasted: PastedAs) -> Result<Fingerprint, Error> {
        if holds_private_key(text) {
            return Err(Error::invalid(
                "this holds a private key, which nobody needs to see; it was not kept",
            )
            .hint("give the certificate alone, from its BEGIN CERTIFICATE to its END CERTIFICATE"));
        }
        if !text.contains("-----BEGIN") {
            let digits = text.rsplit('=').next().unwrap_or_default().trim();
            return Fingerprint::parse(digits).map_err(|error| {
                Error::invalid(error.to_string()).hint("give that, or the certificate itself as PEM")
            });
        }
        let certificate = PastedCertificate::parse_pem(text).ok_or_else(|| {
            Error::invalid("this is no certificate in PEM")
                .hint("`openssl x509 -inform der -in FILE` turns DER into PEM")
        })?;
        match (pasted, certificate.is_authority) {
            (PastedAs::Caller, true) => {
                return Err(Error::invalid("this is the certificate of a CA, and no caller shows that")
                    .hint("give one that it issued, or bind a name that it gives"));
            }
            (PastedAs::Authority, false) => {
                return Err(Error::invalid("this certificate is none of a CA: it may not issue others")
                    .hint("give the one that issued it, which the listener believes"));
            }
            _ => {}
        }
        match certificate.ends_at {
            Some(end) if end <= op.now => Err(Error::invalid(format!("this certificate ended at {end}"))
                .hint("give the one that took its place")),
            _ => Ok(certificate.fingerprint),
        }
    }

    /// Returns a consumer's client certificates, oldest first.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`].
    pub async fn list(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        consumer: &ConsumerName,
    ) -> Result<Vec<CertificateView>, Error> {
        op.demand_in(Permission::CertificateRead, Place::environment(environment))?;
        let consumer = self.0.consumer(&op.realm, environment, consumer).await?.value;
        let bound = self.0.store().owned::<Certificate>(&op.realm, &[consumer.id.to_string()]).await?;
        let used = self.0.last_uses(bound.iter().map(|stored| stored.value.id)).await?;
        let view = |Stored { value: certificate, .. }: Stored<Certificate>| {
            let last_used_at = used.get(&certificate.id).copied();
            CertificateView { certificate, consumer: consumer.name.clone(), last_used_at }
        };
        Ok(bound.into_iter().map(view).collect())
    }

    /// Binds client certificates to a consumer.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`]; [`crate::errors::ErrorKind::Invalid`] for an expiry that has passed;
    /// [`crate::errors::ErrorKind::Conflict`] when the certificate or the name is bound in this environment and not revoked.
    pub async fn create(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        consumer: &ConsumerName,
        input: NewCertificate,
    ) -> Result<CertificateView, Error> {
        op.demand_in(Permission::CertificateCreate, Place::environment(environment))?;
        check_expiry(input.expires_at, op.now)?;
        let id = CertificateId::new(op.now, self.0.id_bytes()?);
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let mut draft = Draft::new(op, "certificate.create");
            self.0.take_turn(&op.realm, &mut draft).await?;
            let owner = self.0.consumer(&op.realm, environment, consumer).await?;
            self.check_free(op, environment, &owner.value, &input.known_by).await?;
            let certificate = Certificate {
                id,
                consumer: owner.value.id,
                environment: environment.clone(),
                name: input.name.clone(),
                known_by: input.known_by.clone(),
                created_at: op.now,
                expires_at: input.expires_at,
                revoked_at: None,
            };
            draft.hold_consumer(&owner)?;
            draft.put(&certificate, Expect::Absent)?;
            if self.0.commit_decided(op, draft).await?.is_some() {
                return Ok(CertificateView { certificate, consumer: consumer.clone(), last_used_at: None });
            }
        }
        Err(overtaken())
    }

    /// Revokes a binding; revoking it again changes nothing.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`].
    pub async fn revoke(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        id: CertificateId,
    ) -> Result<CertificateView, Error> {
        op.demand_in(Permission::CertificateRevoke, Place::environment(environment))?;
        self.0.environment(&op.realm, environment).await?;
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let key = keys::certificate(environment, id);
            let mut stored = self.0.store().get::<Certificate>(&op.realm, &key).await?.ok_or_else(|| {
                Error::not_found(format!("there is no client certificate `{id}` in {environment}"))
                    .hint("see the client certificates of a consumer with their ids")
                    .next(NextStep::ListCertificates { environment: environment.clone() })
            })?;
            if stored.value.revoked_at.is_none() {
                stored.value.revoked_at = Some(op.now);
                let mut draft = Draft::new(op, "certificate.revoke");
                draft.put(&stored.value, expect(&stored, None))?;
                if self.0.commit_decided(op, draft).await?.is_none() {
                    continue;
                }
            }
            let consumer = self.0.consumer_by_id(&op.realm, environment, stored.value.consumer).await?;
            let last_used_at = self.0.last_used(id).await?;
            return Ok(CertificateView {
                certificate: stored.value,
                consumer: consumer.value.name,
                last_used_at,
            });
        }
        Err(overtaken())
    }

    /// Refuses what another consumer of this environment has, whichever CA gave it the name, and what this one has already.
    async fn check_free(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        owner: &Consumer,
        known_by: &KnownBy,
    ) -> Result<(), Error> {
        let all = self.0.all::<Certificate>(&op.realm, &format!("{environment}/")).await?;
        let mut met = all.iter().map(|it| &it.value).filter(|it| it.revoked_at.is_none());
        // The same name from two CAs is one consumer's, as while one CA takes the place of another.
        let Some(held) = met
            .find(|it| it.known_by.meets(known_by) && (it.consumer != owner.id || it.known_by == *known_by))
        else {
            return Ok(());
        };
        let holder = if held.consumer == owner.id {
            owner.name.clone()
        } else {
            self.0.consumer_by_id(&op.realm, environment, held.consumer).await?.value.name
        };
        let message = format!("{known_by} is that of consumer `{holder}` in {environment} already");
        Err(Error::conflict("already-exists", message)
            .hint("revoke that first")
            .next(NextStep::RevokeCertificate { id: held.id, environment: environment.clone() }))
    }
}
