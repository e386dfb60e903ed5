//! Where a request of HTTP/1.1 ends, in one reading only.
//!
//! hyper follows RFC 9112 where that is lenient: of a request with `Transfer-Encoding` and `Content-Length` it drops the
//! length, of two equal lengths the second, it takes a bare LF for the end of a line, and reads over what stands in a
//! chunk's extension. Each of these is read in another way by some program, and two programs on one connection that
//! disagree about where a request ends are how requests are smuggled past a gateway. So every byte that a caller sends
//! goes through this reader first, which knows heads, lengths and chunks, and nothing else: what a request says is not
//! its business. It looks at each line of a head once, at each chunk's size, and at no byte of a body.

use memchr::memchr;

use crate::plain_heads::is_plain_head;

/// How much of a line is kept: longer ones cannot be a length, a coding or a chunk's size.
const KEPT_BYTES: usize = 64;

/// Longest line with a chunk's size and extensions, in bytes.
const MAX_CHUNK_LINE_BYTES: usize = 256;

const BARE_LF: &str = "a line ends with a bare LF";
const BARE_CR: &str = "a line has a bare CR in it";

/// Follows what comes in on a connection.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    place: Place,
    line: Line,
    length: Option<u64>,
    chunked: bool,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    /// A request line, or the one empty line that may stand before it.
    #[default]
    Start,
    /// A request line.
    RequestLine,
    /// A field of a head.
    Fields,
    /// A body of which so much is to come.
    Body(u64),
    /// The size of a chunk.
    ChunkSize,
    /// A chunk of which so much is to come.
    Chunk(u64),
    /// The end of a line after a chunk.
    ChunkEnd,
    /// A field after the last chunk.
    Trailers,
}

/// A line of which so much has come. It may come byte by byte.
#[derive(Debug)]
struct Line {
    kept: [u8; KEPT_BYTES],
    len: usize,
    /// The last byte was a CR.
    cr: bool,
    /// There was a CR before the last byte.
    stray_cr: bool,
}

/// What makes a request ambiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// So many of the bytes are before the line in which it is.
    pub(crate) good_bytes: usize,
    /// It is in a body; else in a head.
    pub(crate) in_body: bool,
    /// For the log.
    pub(crate) reason: &'static str,
}

// === impl Framing ===

impl Framing {
    /// Reads what came in.
    ///
    /// # Errors
    ///
    /// When it can be read in two ways. Nothing that follows on the connection means anything then.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        // Nearly every request without a body comes like this.
        if self.place == Place::Start && self.line.len == 0 && is_plain_head(bytes) {
            return Ok(());
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let at = bytes.len() - rest.len();
            rest = self.step(rest).map_err(|reason| Refusal {
                good_bytes: at,
                in_body: !matches!(self.place, Place::Start | Place::RequestLine | Place::Fields),
                reason,
            })?;
        }
        Ok(())
    }

    /// Tells whether the next byte begins a request.
    #[cfg(test)]
    pub(crate) fn expects_a_request(&self) -> bool {
        self.place == Place::Start && self.line.len == 0
    }

    /// Reads to the end of a line or a body, or of what came in; returns what is left.
    fn step<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], &'static str> {
        if let Place::Body(left) | Place::Chunk(left) = self.place {
            let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            let left = left - u64::try_from(taken).unwrap_or(left);
            self.place = match self.place {
                Place::Body(_) if left > 0 => Place::Body(left),
                Place::Chunk(_) if left > 0 => Place::Chunk(left),
                Place::Chunk(_) => Place::ChunkEnd,
                _ => Place::Start,
            };
            return Ok(bytes.get(taken..).unwrap_or_default());
        }
        let end = memchr(b'\n', bytes);
        let (line, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
        // Nearly every line comes whole, and is looked at where it is.
        if self.line.len == 0 && end.is_some() && self.place != Place::ChunkSize {
            let (text, is_whole) = in_place(line)?;
            self.place = self.after(text, is_whole)?;
            return Ok(rest);
        }
        self.line.add(line);
        if self.place == Place::ChunkSize && self.line.len > MAX_CHUNK_LINE_BYTES {
            return Err("a chunk's size line is too long");
        }
        if end.is_some() {
            let line = std::mem::take(&mut self.line);
            self.place = self.after(line.text()?, line.is_whole())?;
        }
        Ok(rest)
    }

    /// Returns what follows a line, of which this is the beginning, or all of it.
    fn after(&mut self, text: &[u8], is_whole: bool) -> Result<Place, &'static str> {
        match self.place {
            Place::Start if text.is_empty() => Ok(Place::RequestLine),
            Place::RequestLine if text.is_empty() => Err("there are empty lines before the request"),
            Place::Start | Place::RequestLine => {
                (self.length, self.chunked) = (None, false);
                Ok(Place::Fields)
            }
            Place::Fields if text.is_empty() => match (self.chunked, self.length) {
                (true, Some(_)) => Err("there are Transfer-Encoding and Content-Length"),
                (true, None) => Ok(Place::ChunkSize),
                (false, None | Some(0)) => Ok(Place::Start),
                (false, Some(length)) => Ok(Place::Body(length)),
            },
            Place::Fields => self.field(text, is_whole).map(|()| Place::Fields),
            Place::ChunkSize => match chunk_size(text)? {
                0 => Ok(Place::Trailers),
                size => Ok(Place::Chunk(size)),
            },
            Place::ChunkEnd if text.is_empty() => Ok(Place::ChunkSize),
            Place::ChunkEnd => Err("a chunk is longer than its size"),
            Place::Trailers if text.is_empty() => Ok(Place::Start),
            Place::Trailers => match name_and_value(text)? {
                (name, _) if is(name, "content-length") || is(name, "transfer-encoding") => {
                    Err("a length comes after the body")
                }
                _ => Ok(Place::Trailers),
            },
            // No lines there.
            Place::Body(_) | Place::Chunk(_) => Ok(self.place),
        }
    }

    fn field(&mut self, text: &[u8], is_whole: bool) -> Result<(), &'static str> {
        let (name, value) = name_and_value(text)?;
        if is(name, "content-length") {
            if self.length.is_some() {
                return Err("there are two Content-Length fields");
            }
            let length = std::str::from_utf8(value).ok().filter(|_| is_whole && is_number(value));
            self.length =
                Some(length.and_then(|it| it.parse().ok()).ok_or("Content-Length is not a number")?);
        } else if is(name, "transfer-encoding") {
            if self.chunked || !is_whole || !value.eq_ignore_ascii_case(b"chunked") {
                return Err("Transfer-Encoding is something else than `chunked`, once");
            }
            self.chunked = true;
        }
        Ok(())
    }
}

/// Returns the beginning of a line that came at once, without its end, and whether that is all of it: the same as
/// [`Line::text`] and [`Line::is_whole`] say of one that came in pieces.
fn in_place(line: &[u8]) -> Result<(&[u8], bool), &'static str> {
    let text = line.strip_suffix(b"\r\n").ok_or(BARE_LF)?;
    if memchr(b'\r', text).is_some() {
        return Err(BARE_CR);
    }
    Ok((text.get(..KEPT_BYTES).unwrap_or(text), text.len() < KEPT_BYTES))
}

fn is(name: &[u8], known: &str) -> bool {
    name.eq_ignore_ascii_case(known.as_bytes())
}

fn is_number(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(u8::is_ascii_digit)
}

/// Splits a field; hyper refuses names that are none.
fn name_and_value(text: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    if matches!(text.first(), Some(b' ' | b'\t')) {
        return Err("a field goes on in a second line");
    }
    match memchr(b':', text).map(|colon| text.split_at(colon)) {
        Some((name, value)) => Ok((name, value.get(1..).unwrap_or_default().trim_ascii())),
        // The kept beginning of a field with a very long name.
        None if text.len() >= KEPT_BYTES => Ok((text, &[])),
        None => Err("a field has no colon"),
    }
}

/// Reads a chunk's size. Extensions are read over, as RFC 9112 section 7.1.1 demands; [`Line::text`] has seen that no
/// end of a line hides in them.
fn chunk_size(text: &[u8]) -> Result<u64, &'static str> {
    let (size, extensions) = text.split_at(memchr(b';', text).unwrap_or(text.len()));
    if extensions.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err("a chunk's extension has a control character");
    }
    // Sixteen digits are what fits, whatever they are.
    if size.is_empty() || size.len() > 16 || !size.iter().all(u8::is_ascii_hexdigit) {
        return Err("a chunk's size is not a number");
    }
    std::str::from_utf8(size)
        .ok()
        .and_then(|size| u64::from_str_radix(size, 16).ok())
        .ok_or("a chunk's size is not a number")
}

// === impl Line ===

impl Default for Line {
    fn default() -> Self {
        Self { kept: [0; KEPT_BYTES], len: 0, cr: false, stray_cr: false }
    }
}

impl Line {
    fn add(&mut self, bytes: &[u8]) {
        let Some((last, before)) = bytes.split_last() else { return };
        let is_end = *last == b'\n';
        // Of a piece with the end, what is before the end; a CR there is where it belongs.
        let inner = if is_end { before } else { bytes };
        if let Some((last, before)) = inner.split_last() {
            self.stray_cr |= self.cr || memchr(b'\r', before).is_some();
            self.cr = *last == b'\r';
        }
        if let Some(room) = self.kept.get_mut(self.len..) {
            let taken = room.len().min(inner.len());
            if let (Some(room), Some(inner)) = (room.get_mut(..taken), inner.get(..taken)) {
                room.copy_from_slice(inner);
            }
        }
        self.len += inner.len();
    }

    /// Tells whether all of the line is kept.
    fn is_whole(&self) -> bool {
        self.len <= KEPT_BYTES
    }

    /// Returns the beginning of the line, without its end.
    fn text(&self) -> Result<&[u8], &'static str> {
        if !self.cr {
            return Err(BARE_LF);
        }
        if self.stray_cr {
            return Err(BARE_CR);
        }
        Ok(self.kept.get(..(self.len - 1).min(KEPT_BYTES)).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "POST / HTTP/1.1\r\nhost: a\r\n";

    /// Reads all at once and byte by byte, which must say the same.
    fn read(text: &str) -> Result<(), &'static str> {
        let whole = Framing::default().read(text.as_bytes()).map_err(|refusal| refusal.reason);
        let mut framing = Framing::default();
        let pieces = text.as_bytes().chunks(1).try_for_each(|byte| framing.read(byte));
        assert_eq!(pieces.map_err(|refusal| refusal.reason), whole, "{text:?}");
        whole
    }

    #[test]
    fn requests_after_one_another_are_followed() {
        let mut framing = Framing::default();
        for text in [
            format!("{HEAD}\r\n"),
            format!("\r\n{HEAD}Content-Length:  5 \r\n\r\nab\ncd"),
            format!("{HEAD}Transfer-Encoding: Chunked\r\n\r\n3;a=\"b\"\r\n\n\r\n\r\n00\r\nx: y\r\n\r\n"),
            format!("{HEAD}content-length: 0\r\nx: {}\r\n\r\n", "a".repeat(10_000)),
            format!("{HEAD}transfer-encoding:chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n"),
        ] {
            assert_eq!(read(&text), Ok(()), "{text}");
            assert_eq!(framing.read(text.as_bytes()), Ok(()), "{text}");
            assert_eq!(framing.place, Place::Start, "{text}");
        }
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        for rest in [
            "content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n",
            "content-length: 4\r\ncontent-length: 4\r\n",
            "content-length: 4, 4\r\n",
            "content-length: +4\r\n",
            "content-length: 0x4\r\n",
            "content-length:\r\n",
            "content-length: 99999999999999999999\r\n",
            "content-length: 00000000000000000000000000000000000000000000000000000000000000000004\r\n",
            "transfer-encoding: gzip, chunked\r\n",
            "transfer-encoding: chunked, chunked\r\n",
            "transfer-encoding: identity\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: \x0bchunked\r\n",
            "x: y\n",
            "x: y\n\r\n",
            "x: y\rz: a\r\n",
            "x: y\r\r\n",
            " x: folded\r\n",
            "x: y\r\n\tfolded\r\n",
            "no colon\r\n",
            "\n",
        ] {
            assert!(read(&format!("{HEAD}{rest}")).is_err(), "{rest:?} was taken");
        }
        for text in ["GET / HTTP/1.1\nhost: a\r\n\r\n", "\n", "\r\n\r\n", "\r\r\n"] {
            assert!(read(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn chunks_with_two_readings_are_refused() {
        for body in [
            "5\n12345\r\n",
            "5\r12345\r\n",
            "5 \r\n",
            " 5\r\n",
            "0x5\r\n",
            "-5\r\n",
            "+5\r\n",
            "\r\n",
            ";x\r\n",
            "10000000000000000\r\n",
            "5;x\n12345\r\n",
            "5;x\ry\r\n",
            "5;\0\r\n",
            "5\r\n123456\r\n",
            "5\r\n12345\n0\r\n\r\n",
            "0\r\n\n",
            "0\r\nx: y\n\r\n",
            "0\r\ncontent-length: 5\r\n\r\n",
            "0\r\n folded\r\n\r\n",
        ] {
            let text = format!("{HEAD}transfer-encoding: chunked\r\n\r\n{body}");
            assert!(read(&text).is_err(), "{body:?} was taken");
        }
        let long = format!("{HEAD}transfer-encoding: chunked\r\n\r\n5;{}", "x".repeat(300));
        assert!(read(&long).is_err(), "without an end");
    }

    #[test]
    fn a_refusal_tells_what_may_still_be_read() {
        let good = format!("{HEAD}content-length: 1\r\n\r\nx{HEAD}");
        let refusal = Framing::default().read(format!("{good}x\n\r\n").as_bytes()).expect_err("a bare LF");
        assert_eq!((refusal.good_bytes, refusal.in_body), (good.len(), false));
        let good = format!("{HEAD}transfer-encoding: chunked\r\n\r\n1\r\nx\r\n");
        let refusal = Framing::default().read(format!("{good}z\r\n").as_bytes()).expect_err("no size");
        assert_eq!((refusal.good_bytes, refusal.in_body), (good.len(), true));
    }
}
