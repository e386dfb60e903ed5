//! The cookie of a browser's session at the management API and the console, as text: both set and read it alike.

/// Under which name the cookie goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionCookie {
    /// For a browser that came without TLS.
    Plain,
    /// For one that came over TLS: browsers let nobody but this very host set a cookie of this name (RFC 6265bis, section
    /// 4.1.3.2).
    Secure,
}

/// There are two cookies of one name, of which one was planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are two session cookies")]
pub struct DoubledCookieError;

// === impl SessionCookie ===

impl SessionCookie {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Secure];

    /// Returns the one for a browser, by the value of its `Origin` header.
    ///
    /// A proxy that adds TLS stands between: the browser says itself how it came.
    pub fn for_browser(origin: Option<&str>, always_secure: bool) -> Self {
        let over_tls = origin.is_some_and(|origin| origin.starts_with("https://"));
        if always_secure || over_tls { Self::Secure } else { Self::Plain }
    }

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "tollgate_session",
            Self::Secure => "__Host-tollgate_session",
        }
    }

    /// Returns the value of a `Set-Cookie` header that gives a token to the browser.
    pub fn set(self, token: &str) -> String {
        let secure = if self == Self::Secure { "; Secure" } else { "" };
        format!("{}={token}; Path=/; HttpOnly; SameSite=Strict{secure}", self.name())
    }

    /// Returns the value of a `Set-Cookie` header that takes the token from the browser.
    pub fn clear(self) -> String {
        format!("{}; Max-Age=0", self.set(""))
    }

    /// Returns the token in the values of `Cookie` headers.
    ///
    /// The cookie of a browser that came over TLS counts before the other, and alone where cookies are always sent over
    /// TLS: a page without TLS, or of a neighbouring name, can set the other one.
    ///
    /// # Errors
    ///
    /// [`DoubledCookieError`] when there are two of the one that counts.
    pub fn find<'a>(
        headers: impl Iterator<Item = &'a str>,
        always_secure: bool,
    ) -> Result<Option<&'a str>, DoubledCookieError> {
        let pairs = headers.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let pairs: Vec<_> = pairs.collect();
        let one = |cookie: Self| {
            let mut values = pairs.iter().filter(|(name, _)| *name == cookie.name()).map(|(_, value)| *value);
            let first = values.next();
            if values.next().is_some() { Err(DoubledCookieError) } else { Ok(first) }
        };
        match one(Self::Secure)? {
            None if !always_secure => one(Self::Plain),
            secure => Ok(secure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_that_nobody_else_can_set_counts_first_and_no_doubled_one_does() {
        let find = |headers: &[&str], secure| {
            let headers: Vec<String> = headers.iter().map(|header| (*header).to_owned()).collect();
            SessionCookie::find(headers.iter().map(String::as_str), secure).map(|it| it.map(str::to_owned))
        };
        let (plain, secure) = ("a=b; tollgate_session=p", "__Host-tollgate_session=s; c=d");
        assert_eq!(find(&[plain], false), Ok(Some("p".to_owned())));
        assert_eq!(find(&[plain, secure], false), Ok(Some("s".to_owned())));
        assert_eq!(find(&[plain], true), Ok(None));
        assert_eq!(find(&[plain, secure], true), Ok(Some("s".to_owned())));
        assert_eq!(find(&[], false), Ok(None));
        assert_eq!(find(&[plain, plain], false), Err(DoubledCookieError));
        assert_eq!(
            find(&["__Host-tollgate_session=s; __Host-tollgate_session=t"], false),
            Err(DoubledCookieError)
        );
    }

    #[test]
    fn a_cookie_is_out_of_reach_of_scripts_and_other_sites() {
        for cookie in SessionCookie::ALL {
            let set = cookie.set("tgu_x");
            for part in ["Path=/", "HttpOnly", "SameSite=Strict"] {
                assert!(set.contains(part) && !set.contains("Domain"), "{set}");
            }
            assert_eq!(set.contains("; Secure"), cookie == SessionCookie::Secure);
            assert!(cookie.clear().ends_with("; Max-Age=0"));
        }
        let over = |origin| SessionCookie::for_browser(origin, false);
        assert_eq!(over(Some("https://tollgate.example")), SessionCookie::Secure);
        assert_eq!(over(Some("http://localhost:7000")), SessionCookie::Plain, "it would not come back");
        assert_eq!(over(None), SessionCookie::Plain);
        assert_eq!(SessionCookie::for_browser(None, true), SessionCookie::Secure);
    }
}
