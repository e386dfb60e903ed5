//! Heads that anybody would read in the same way, told in one look.
//!
//! Most requests are a head that comes whole, and nothing behind it. Of those nothing has to be known but that each line ends
//! as it should and that none says how long a body is. That is looked for in blocks, without a branch for each byte, so that
//! the compiler makes a few instructions for sixteen bytes of it. Whatever looks like anything else is left to whoever
//! reads line by line.

/// How many bytes are looked at together.
const BLOCK: usize = 16;

/// From the end of a line to the last letter of the next that is looked at: `content-l`, `transfer-`.
const NAME_END: usize = 9;

/// Shortest head that is looked at here. Any real one is longer.
const MIN_BYTES: usize = BLOCK + NAME_END + 2;

/// Tells whether bytes that came at the beginning of a request are one whole head of a request without a body, with one
/// reading. What it does not tell, the reader of lines may still find in them.
///
/// A line without a colon is plain here: it is no field for whoever parses the head.
pub(crate) fn is_plain_head(bytes: &[u8]) -> bool {
    let Some(lines) = bytes.strip_suffix(b"\r\n") else { return false };
    lines.len() >= MIN_BYTES
        && lines.ends_with(b"\r\n")
        && !matches!(lines.first(), Some(b'\r' | b'\n'))
        && !has_odd_line(lines)
        && !may_have_length(lines)
}

/// Tells whether a line ends in another way than CR LF, has one of them in it, is empty, or goes on in the next.
fn has_odd_line(lines: &[u8]) -> bool {
    any(lines, 1, |[byte, next, ..]| {
        let is_odd_end = is(byte, b'\r') ^ is(next, b'\n');
        is_odd_end | is(byte, b'\n') & (is(next, b' ') | is(next, b'\t') | is(next, b'\r'))
    })
}

/// Tells whether a line may begin with `Content-Length` or `Transfer-Encoding`. Such a line is too long to begin where no
/// more bytes are left than are looked at.
fn may_have_length(lines: &[u8]) -> bool {
    any(lines, NAME_END, |[byte, next, eighth, ninth]| {
        let is_length = is(next | 0x20, b'c') & is(eighth, b'-') & is(ninth | 0x20, b'l');
        let is_coding = is(next | 0x20, b't') & is(ninth, b'-');
        is(byte, b'\n') & (is_length | is_coding)
    })
}

fn is(byte: u8, other: u8) -> u8 {
    u8::from(byte == other)
}

/// Tells whether a test says 1 anywhere: of a byte, the next, and where `ahead` reaches so far the eighth and the ninth after
/// it.
fn any(bytes: &[u8], ahead: usize, test: impl Fn([u8; 4]) -> u8 + Copy) -> bool {
    let count = bytes.len().saturating_sub(ahead);
    let from = |offset: usize| bytes.get(offset..offset + count).unwrap_or_default();
    let (first, next) = (from(0), from(1));
    let (eighth, ninth) =
        if ahead == NAME_END { (from(NAME_END - 1), from(NAME_END)) } else { (first, next) };
    let block = |a: &[u8; BLOCK], b: &[u8; BLOCK], c: &[u8; BLOCK], d: &[u8; BLOCK]| {
        let bytes = a.iter().zip(b).zip(c).zip(d);
        bytes.fold(0, |found, (((a, b), c), d)| found | test([*a, *b, *c, *d]))
    };
    let ((a, _), (b, _)) = (first.as_chunks(), next.as_chunks());
    let ((c, _), (d, _)) = (eighth.as_chunks(), ninth.as_chunks());
    let blocks = a.iter().zip(b).zip(c).zip(d);
    let found = blocks.fold(0, |found, (((a, b), c), d)| found | block(a, b, c, d));
    // What is left of the last block is looked at with some of what was looked at already.
    let last = match (first.last_chunk(), next.last_chunk(), eighth.last_chunk(), ninth.last_chunk()) {
        (Some(a), Some(b), Some(c), Some(d)) => block(a, b, c, d),
        // Too few to tell.
        _ => 1,
    };
    found | last != 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::framing::Framing;

    const PLAIN: &str = "GET /pipeline/default/v1/orders HTTP/1.1\r\nHost: a.example\r\napikey: x\r\n\r\n";

    #[test]
    fn an_ordinary_head_is_plain() {
        assert!(is_plain_head(PLAIN.as_bytes()));
        let more =
            PLAIN.replace("apikey", "Content-Type: a\r\nConnection: keep-alive\r\nTE: x\r\ntraceparent");
        assert!(is_plain_head(more.as_bytes()));
    }

    #[test]
    fn whatever_may_be_read_in_two_ways_is_not_plain_wherever_it_stands() {
        for odd in [
            "\nx: y\r\n",
            "\r\n\r\nx: y\r\n",
            "\rx\r\n",
            "\r\n x\r\n",
            "\r\n\tx\r\n",
            "\r\r\n",
            "\r\ncOntent-Length: 5\r\n",
            "\r\ncontent-length:0\r\n",
            "\r\nTransfer-encoding: chunked\r\n",
            "\r\ntransfer-encoding:\r\n",
            "\n",
        ] {
            for pad in 0..40 {
                for after in ["", "z: 1\r\n"] {
                    let head = format!("GET /{} HTTP/1.1\r\nhost: a{odd}{after}\r\n", "p".repeat(pad));
                    assert!(!is_plain_head(head.as_bytes()), "{head:?}");
                }
            }
        }
        for pad in 0..40 {
            let path = "p".repeat(pad);
            for head in [
                format!("\r\nGET /{path} HTTP/1.1\r\nhost: a.example\r\n\r\n"),
                format!("\nGET /{path} HTTP/1.1\r\nhost: a.example\r\n\r\n"),
                format!("GET /{path} HTTP/1.1\r\nhost: a.example\r\n"),
                format!("GET /{path} HTTP/1.1\r\nhost: a.example\r\n\r"),
                format!("GET /{path} HTTP/1.1\r\nhost: a.example\n\r\n"),
                format!("GET /{path} HTTP/1.1\r\nhost: a.example\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
            ] {
                assert!(!is_plain_head(head.as_bytes()), "{head:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        /// Whoever reads line by line finds nothing in a plain head either, and expects a new one behind it.
        #[test]
        fn a_plain_head_is_read_alike_line_by_line(
            pieces in proptest::collection::vec(
                prop_oneof![
                    6 => Just("\r\nx: "),
                    2 => Just("\r\nContent-Length: "),
                    2 => Just("\r\ntransfer-encoding: "),
                    1 => Just("\r"), 1 => Just("\n"), 1 => Just("\r\n"), 1 => Just(" "), 1 => Just("\t"),
                    6 => Just("chunked"), 6 => Just("5"), 6 => Just("a:b"), 6 => Just("con"), 6 => Just("-l"),
                ],
                0..24,
            ),
        ) {
            let head = format!("GET / HTTP/1.1\r\nhost: a.example{}\r\n\r\n", pieces.concat());
            if is_plain_head(head.as_bytes()) {
                let mut framing = Framing::default();
                // Byte by byte, which never comes here.
                for byte in head.as_bytes() {
                    let read = framing.read(&[*byte]);
                    prop_assert!(read.is_ok() || read.is_err_and(|it| it.reason == "a field has no colon"), "{head:?}");
                    if read.is_err() { return Ok(()); }
                }
                prop_assert!(framing.expects_a_request());
            }
        }
    }
}
