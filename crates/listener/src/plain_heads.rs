//! Heads that anybody would read in the same way, told in one look.
//!
//! Most requests are a head that comes whole, and nothing behind it. Of those nothing has to be known but that each line ends
//! as it should and that none says how long a body is. What stands within a line is looked through by `memchr`, many bytes at
//! once. Whatever looks like anything else is left to whoever reads line by line.

use memchr::memchr2;

/// Tells whether bytes that came at the beginning of a request are one whole head of a request without a body, with one
/// reading. What it does not tell, the reader of lines may still find in them.
///
/// A line without a colon is plain here: it is no field for whoever parses the head.
pub(crate) fn is_plain_head(bytes: &[u8]) -> bool {
    let mut lines = bytes;
    while lines != b"\r\n" {
        // Empty, or the line before goes on in this one.
        if matches!(lines.first(), None | Some(b'\r' | b'\n' | b' ' | b'\t')) || may_have_length(lines) {
            return false;
        }
        let end = memchr2(b'\r', b'\n', lines).and_then(|end| lines.get(end..)?.strip_prefix(b"\r\n"));
        let Some(rest) = end else { return false };
        lines = rest;
    }
    lines.len() < bytes.len()
}

/// Tells whether a line may begin with `Content-Length` or `Transfer-Encoding`.
fn may_have_length(line: &[u8]) -> bool {
    matches!(
        line,
        [b'c' | b'C', _, _, _, _, _, _, b'-', b'l' | b'L', ..] | [b't' | b'T', _, _, _, _, _, _, _, b'-', ..]
    )
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
