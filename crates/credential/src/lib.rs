//! Credentials: API keys, Basic Auth, tokens and the keys that sign them: format, issue, verify.
//!
//! Pure: time and randomness are arguments. Every secret is a type without `Display` and `Serialize`, whose `Debug`
//! is opaque and whose memory is wiped. All cryptography is aws-lc's and argon2's.

pub mod basic;
pub mod certificates;
pub mod evidence;
pub mod issuers;
pub mod keys;
pub mod keysets;
pub mod leaks;
pub mod password_rule;
pub mod passwords;
pub mod private_keys;
pub mod recovery_codes;
pub mod seal;
pub mod tokens;
pub mod totp;
pub mod user_tokens;
pub mod verified_tokens;

mod read_tokens;
mod text;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tollgate_model::sources::{Random, RandomError};

    /// Bytes that look random and are the same in every run.
    #[derive(Default)]
    pub(crate) struct Counter(AtomicU64);

    impl Random for Counter {
        fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
            for chunk in buffer.chunks_mut(32) {
                let n = self.0.fetch_add(1, Ordering::Relaxed);
                let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &n.to_be_bytes());
                chunk.copy_from_slice(digest.as_ref().get(..chunk.len()).unwrap_or_default());
            }
            Ok(())
        }
    }

    /// A source that has run dry.
    pub(crate) struct Dry;

    impl Random for Dry {
        fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
            Err(RandomError)
        }
    }

    #[test]
    fn nothing_secret_is_made_without_randomness() {
        let test = tollgate_model::names::EnvironmentName::test();
        assert!(crate::keys::IssuedKey::generate(&test, &Dry).is_err());
        assert!(crate::user_tokens::IssuedUserToken::generate(&Dry).is_err());
        assert!(crate::passwords::Password::generate(&Dry).is_err());
        assert!(crate::seal::MasterKey::generate(&Dry).is_err());
        assert!(crate::totp::TotpSecret::generate(&Dry).is_err());
        let user = tollgate_model::ids::UserId::new(jiff::Timestamp::UNIX_EPOCH, [0; 10]);
        assert!(crate::recovery_codes::RecoveryCode::generate(user, &Dry).is_err());
    }
}
