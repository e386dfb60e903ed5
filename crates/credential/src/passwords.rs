//! Passwords: Argon2id (RFC 9106) with the parameters that OWASP recommends.
//!
//! The memory of each computation is asked for by us and not by the `argon2` crate, because of its size. Blocks are
//! aligned, and the C library of most Linux systems (glibc before 2.38) does not find the hole that one such piece of
//! memory left for the next: with 19 MiB each, a process that had checked a few hundred passwords held more than a
//! gigabyte for good. Pieces of more than 32 MiB are always mapped by themselves and given back as a whole. So we
//! reserve that much address space and touch what is needed.

use std::fmt;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use tollgate_model::sources::{Random, RandomError};
use zeroize::Zeroizing;

use crate::text;

/// 19 MiB, two passes, one lane: OWASP's first choice for Argon2id.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Most memory, passes and lanes that a stored hash may ask for: nobody exhausts us by planting a hash.
const MAX_MEMORY_KIB: u32 = 65_536;
const MAX_PASSES: u32 = 10;
const MAX_LANES: u32 = 4;

/// Least address space of one computation, in blocks of 1 KiB: above the 32 MiB up to which glibc may put a piece of
/// memory among others.
const RESERVED_KIB: usize = 33 * 1024;

/// Hash of nothing that anybody knows; verified against when there is no user, so that both take the same time.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5LWF0LWFsbA$PgVVNGRYNuTD5jHcDMpVhd/zGqHZB6RtTFa1wxQiZPk";

/// A password in plain: 1 to 1024 bytes.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

/// A text that is no password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a password is 1 to 1024 bytes long")]
pub struct ParsePasswordError;

/// Why no hash was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashPasswordError {
    /// The system gives no randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// There is not enough memory.
    #[error("there is not enough memory to hash a password")]
    Memory,
}

/// Hashes a password; takes about 20 ms of one core and 19 MiB, so keep it off the threads that serve calls.
///
/// Returns the PHC string.
///
/// # Errors
///
/// [`HashPasswordError`], by variant.
pub fn hash(password: &Password, random: &dyn Random) -> Result<String, HashPasswordError> {
    let mut salt = [0; 16];
    random.fill(&mut salt)?;
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| HashPasswordError::Memory)?;
    let (algorithm, version) = (Algorithm::Argon2id, Version::V0x13);
    let made = || {
        Some(PasswordHash {
            algorithm: algorithm.ident(),
            version: Some(version.into()),
            params: ParamsString::try_from(&params).ok()?,
            salt: Some(Salt::new(&salt).ok()?),
            hash: Some(compute(password, &salt, algorithm, version, params.clone())?),
        })
    };
    made().map(|hash| hash.to_string()).ok_or(HashPasswordError::Memory)
}

/// Tells whether a password belongs to a stored hash; as slow as [`hash()`], also when there is no hash.
pub fn verify(password: &Password, stored: Option<&str>) -> bool {
    let known = stored.and_then(|stored| PasswordHash::new(stored).ok()).filter(is_bounded);
    let exists = known.is_some();
    let Some(hash) = known.or_else(|| PasswordHash::new(NOBODY).ok()) else { return false };
    exists & matches(password, &hash).unwrap_or(false)
}

/// Tells whether a stored hash was made with other parameters than new ones are, and should be made anew when its
/// password is at hand.
pub fn is_outdated(stored: &str) -> bool {
    let current = PasswordHash::new(stored).ok().is_some_and(|hash| {
        let params = Params::try_from(&hash).ok();
        hash.algorithm == Algorithm::Argon2id.ident()
            && hash.version == Some(Version::V0x13.into())
            && params.is_some_and(|params| {
                (params.m_cost(), params.t_cost(), params.p_cost()) == (MEMORY_KIB, PASSES, LANES)
            })
    });
    !current
}

/// Compares in constant time; `None` when the hash says something that cannot be computed.
fn matches(password: &Password, hash: &PasswordHash) -> Option<bool> {
    let (salt, expected) = (hash.salt.as_ref()?, hash.hash.as_ref()?);
    let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
    let version = hash.version.map(Version::try_from).transpose().ok()?.unwrap_or_default();
    let computed = compute(password, salt, algorithm, version, Params::try_from(hash).ok()?)?;
    // `Output` compares in constant time.
    Some(*expected == computed)
}

fn compute(
    password: &Password,
    salt: &[u8],
    algorithm: Algorithm,
    version: Version,
    params: Params,
) -> Option<Output> {
    let blocks = params.block_count();
    let mut memory = Vec::new();
    memory.try_reserve_exact(blocks.max(RESERVED_KIB)).ok()?;
    memory.resize(blocks, Block::default());
    let mut buffer = [0; Output::MAX_LENGTH];
    let out = buffer.get_mut(..params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN))?;
    Argon2::new(algorithm, version, params)
        .hash_password_into_with_memory(password.0.as_bytes(), salt, out, &mut memory)
        .ok()?;
    Output::new(out).ok()
}

fn is_bounded(hash: &PasswordHash) -> bool {
    Params::try_from(hash).is_ok_and(|params| {
        params.m_cost() <= MAX_MEMORY_KIB && params.t_cost() <= MAX_PASSES && params.p_cost() <= MAX_LANES
    })
}

// === impl Password ===

impl Password {
    /// Takes a password.
    ///
    /// # Errors
    ///
    /// [`ParsePasswordError`] when it is empty or longer than 1024 bytes.
    pub fn parse(input: &str) -> Result<Self, ParsePasswordError> {
        if (1..=1024).contains(&input.len()) {
            Ok(Self(Zeroizing::new(input.to_owned())))
        } else {
            Err(ParsePasswordError)
        }
    }

    /// Makes one up: 24 base62 characters and a checksum (142 bits).
    ///
    /// # Errors
    ///
    /// [`RandomError`] when the system gives no randomness.
    pub fn generate(random: &dyn Random) -> Result<Self, RandomError> {
        text::generate("", 24, random).map(Self)
    }

    /// Returns the secret, for the one answer that shows it.
    pub fn expose_secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Counter;

    fn password(text: &str) -> Password {
        Password::parse(text).expect("a password")
    }

    #[test]
    fn a_password_matches_its_hash_and_no_other() {
        let stored = hash(&password("correct horse"), &Counter::default()).expect("hashes");
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(verify(&password("correct horse"), Some(&stored)));
        assert!(!verify(&password("correct horsf"), Some(&stored)));
    }

    #[test]
    fn an_absent_or_broken_hash_matches_nothing() {
        assert!(
            PasswordHash::new(NOBODY).is_ok_and(|hash| is_bounded(&hash)),
            "must cost as much as a real one"
        );
        assert!(!verify(&password("x"), None));
        for broken in
            ["", "plain", "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ", "$2b$12$abcdefghijklmnopqrstuv"]
        {
            assert!(!verify(&password("plain"), Some(broken)), "{broken}");
        }
    }

    #[test]
    fn a_hash_of_weaker_parameters_is_told_from_a_new_one() {
        let stored = hash(&password("correct horse"), &Counter::default()).expect("hashes");
        assert!(!is_outdated(&stored));
        for old in [
            stored.replace("m=19456", "m=8192"),
            stored.replace("t=2", "t=1"),
            stored.replace("argon2id", "argon2i"),
            stored.replace("v=19", "v=16"),
            "junk".to_owned(),
        ] {
            assert!(is_outdated(&old), "{old}");
        }
    }

    #[test]
    fn a_planted_hash_cannot_ask_for_gigabytes() {
        let planted = NOBODY.replace("m=19456", "m=4194304");
        let parsed = PasswordHash::new(&planted).expect("well formed");
        assert!(!is_bounded(&parsed));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_is_given_back_after_each_check() {
        let resident_kib = || {
            let status = std::fs::read_to_string("/proc/self/status").expect("reads");
            let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line").to_owned();
            line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number")
        };
        let before = resident_kib();
        for _ in 0..5 {
            // Threads that come and go, as those of a pool do.
            let checks = [(); 4].map(|()| {
                std::thread::spawn(|| (0..5).for_each(|_| assert!(!verify(&password("wrong"), None))))
            });
            for check in checks {
                check.join().expect("ends");
            }
        }
        // Other tests of this process may hash a password or two meanwhile.
        let (grown, limit) = (resident_kib().saturating_sub(before), 6 * u64::from(MEMORY_KIB));
        assert!(grown < limit, "{grown} KiB are still held");
    }

    #[test]
    fn debug_hides_the_password() {
        assert_eq!(format!("{:?}", password("hunter2")), "Password(…)");
        assert!(Password::parse("").is_err() && Password::parse(&"x".repeat(1025)).is_err());
    }
}
