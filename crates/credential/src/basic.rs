//! HTTP Basic credentials (RFC 7617), in UTF-8.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::passwords::Password;

/// Longest header value taken, in bytes.
const MAX_LEN: usize = 4096;

/// What a caller presents.
#[derive(Debug)]
pub struct BasicCredentials {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: Password,
}

/// Parses the value of the `Authorization` header.
///
/// Returns `None` for another scheme, for what is not canonical base64 of UTF-8, for control characters, and for an
/// empty user name or password.
pub fn parse(header: &[u8]) -> Option<BasicCredentials> {
    let (scheme, rest) = header.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") || header.len() > MAX_LEN {
        return None;
    }
    let decoded = Zeroizing::new(STANDARD.decode(rest.trim_ascii_start()).ok()?);
    let text = std::str::from_utf8(&decoded).ok()?;
    if text.chars().any(char::is_control) {
        return None;
    }
    let (username, password) = text.split_once(':')?;
    if username.is_empty() {
        return None;
    }
    Some(BasicCredentials { username: username.to_owned(), password: Password::parse(password).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc_is_read() {
        let it = parse(b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==").expect("RFC 7617 section 2");
        assert_eq!((it.username.as_str(), it.password.expose_secret()), ("Aladdin", "open sesame"));
        let it = parse(b"bAsIc dGVzdDoxMjPCow==").expect("RFC 7617 section 2.1");
        assert_eq!((it.username.as_str(), it.password.expose_secret()), ("test", "123£"));
        let colon = parse(format!("Basic {}", STANDARD.encode("a:b:c")).as_bytes())
            .expect("only the first colon parts");
        assert_eq!((colon.username.as_str(), colon.password.expose_secret()), ("a", "b:c"));
    }

    #[test]
    fn anything_else_is_refused() {
        let encoded = |bytes: &[u8]| format!("Basic {}", STANDARD.encode(bytes));
        for bad in [
            "",
            "Basic",
            "Basic ",
            "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ",
            "Basic !!!!",
            &encoded(b"no colon"),
            &encoded(b":no user"),
            &encoded(b"no password:"),
            &encoded(b"a\x00b:c"),
            &encoded(&[0xff, 0xfe, b':', b'x']),
            &encoded(&[b'x'; 5000]),
        ] {
            assert!(parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
