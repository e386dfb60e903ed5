//! Where the texts and comments of an expression end.
//!
//! Whoever counts brackets or looks for `}}` must skip exactly what the parser skips: if the two disagree on where a text
//! ends, brackets hide from the count. So this follows the lexer of CEL's grammar, and refuses what that lexer
//! would stumble over and read on from some other place.

/// Walks the bytes of an expression outside its texts and comments.
pub struct Code<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the name or number that the walk is in began.
    word: usize,
}

/// Why a text does not end.
const UNENDED: &str = "a text in an expression is not ended on its line: close its quote";

// === impl Code ===

impl<'a> Code<'a> {
    /// Begins at the start of an expression.
    pub fn of(source: &'a str) -> Self {
        Self { bytes: source.as_bytes(), at: 0, word: 0 }
    }

    /// Returns the next byte that belongs to no text and no comment, and where it stands.
    ///
    /// # Errors
    ///
    /// A sentence when a text does not end or holds an escape that CEL does not know.
    pub fn next_byte(&mut self) -> Result<Option<(usize, u8)>, String> {
        loop {
            let Some(byte) = self.byte(self.at) else { return Ok(None) };
            match byte {
                b'"' | b'\'' => {
                    self.skip_text(byte)?;
                    self.word = self.at;
                }
                b'/' if self.byte(self.at + 1) == Some(b'/') => {
                    while self.byte(self.at).is_some_and(|byte| byte != b'\n') {
                        self.at += 1;
                    }
                    self.word = self.at;
                }
                b'`' => return Err("a name in backticks cannot be used: write `[\"name\"]`".to_owned()),
                _ => {
                    let at = self.at;
                    self.at += 1;
                    if !byte.is_ascii_alphanumeric() && byte != b'_' {
                        self.word = self.at;
                    }
                    return Ok(Some((at, byte)));
                }
            }
        }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    /// Skips a text from its opening quote; what stands before the quote says whether `\` is an escape in it.
    fn skip_text(&mut self, quote: u8) -> Result<(), String> {
        let raw = match self.bytes.get(self.word..self.at) {
            Some([b'r' | b'R'] | [b'b' | b'B', b'r' | b'R']) => true,
            Some([b'0'..=b'9', ..]) => {
                return Err("a number stands right before a text: put an operator between them".to_owned());
            }
            _ => false,
        };
        let triple = self.bytes.get(self.at..self.at + 3) == Some(&[quote; 3]);
        self.at += if triple { 3 } else { 1 };
        loop {
            let Some(byte) = self.byte(self.at) else { return Err(UNENDED.to_owned()) };
            match byte {
                b'\\' if !raw => self.at += self.escape()?,
                b'\n' | b'\r' if !triple => return Err(UNENDED.to_owned()),
                _ if byte == quote && !triple => {
                    self.at += 1;
                    return Ok(());
                }
                _ if byte == quote && self.bytes.get(self.at..self.at + 3) == Some(&[quote; 3]) => {
                    self.at += 3;
                    return Ok(());
                }
                _ => self.at += 1,
            }
        }
    }

    /// Returns the length of the escape that stands here.
    fn escape(&self) -> Result<usize, String> {
        let digits = |count: usize, digit: fn(&u8) -> bool| {
            let digits = self.bytes.get(self.at + 2..self.at + 2 + count);
            digits.is_some_and(|digits| digits.iter().all(digit)).then_some(2 + count)
        };
        let length = match self.byte(self.at + 1) {
            Some(b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'"' | b'\'' | b'\\' | b'?' | b'`') => {
                Some(2)
            }
            Some(b'x' | b'X') => digits(2, u8::is_ascii_hexdigit),
            Some(b'u') => digits(4, u8::is_ascii_hexdigit),
            Some(b'U') => digits(8, u8::is_ascii_hexdigit),
            Some(b'0'..=b'3') => digits(2, |byte| (b'0'..=b'7').contains(byte)),
            _ => None,
        };
        length.ok_or_else(|| {
            "a text in an expression holds an escape that CEL does not know: write `\\\\` for one backslash, or put \
             `r` before the quote"
                .to_owned()
        })
    }
}

/// Finds the `}}` that ends an expression; braces inside texts, comments and maps do not.
///
/// # Errors
///
/// As [`Code::next_byte`].
pub fn end_of_expression(text: &str) -> Result<Option<usize>, String> {
    let mut depth = 0_u32;
    let mut code = Code::of(text);
    while let Some((at, byte)) = code.next_byte()? {
        match byte {
            b'{' => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            b'}' if text.as_bytes().get(at + 1) == Some(&b'}') => return Ok(Some(at)),
            _ => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(source: &str) -> Result<String, String> {
        let mut code = Code::of(source);
        let mut out = String::new();
        while let Some((_, byte)) = code.next_byte()? {
            out.push(char::from(byte));
        }
        Ok(out)
    }

    #[test]
    fn texts_end_where_the_grammar_ends_them() {
        for (source, rest) in [
            (r#""(" + '(' + x"#, " +  + x"),
            (r#""\"(" + x"#, " + x"),
            (r#"r"\" + (x"#, "r + (x"),
            (r#"bR'\' + (x"#, "bR + (x"),
            (r#"_r"\"(" + x"#, "_r + x"),
            (r#""""a"(b""" + (x"#, " + (x"),
            (r#""" + (x"#, " + (x"),
            ("// \"\n(x", "\n(x"),
            ("a / b", "a / b"),
            (r#""\x28\u0028\050" + x"#, " + x"),
        ] {
            assert_eq!(code(source).as_deref(), Ok(rest), "{source}");
        }
        for bad in ["\"a", "\"a\nb\"", "\"\\q\"", "\"\\x2\"", "1r\"\\\"", "`a`", "\"\"\"a\"\""] {
            assert!(code(bad).is_err(), "{bad}");
        }
    }
}
