//! The header of Basic Auth.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tollgate_credential::basic;

pub(crate) const WORDS: &[&str] =
    &["Basic ", "basic ", "QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "dTpw", "Og==", "=", " "];

/// What is taken has one writing: encoding it again gives the header back.
pub(crate) fn run(input: &[u8]) {
    let Some(credentials) = basic::parse(input) else { return };
    let (username, password) = (credentials.username.as_str(), credentials.password.expose_secret());
    assert!(!username.is_empty() && !username.contains(':') && !password.is_empty());
    assert!(!username.chars().chain(password.chars()).any(char::is_control));
    let again = STANDARD.encode(format!("{username}:{password}"));
    let sent = input.get(6..).unwrap_or_default().trim_ascii_start();
    assert_eq!(sent, again.as_bytes(), "two headers for one user");
    assert!(
        !format!("{credentials:?}").contains(password) || username.contains(password) || password.len() < 8
    );
}
