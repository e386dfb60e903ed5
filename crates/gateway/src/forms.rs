//! Bodies of `multipart/form-data` (RFC 7578), in bounds.
//!
//! The body is in memory already, within the limits of its trigger. What the parts become takes several times that, and
//! most of it where parts are small: so their number and their names are bounded, too. Whatever is not as it should be
//! refuses the whole: half a form is a form that its sender did not send.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyDataStream, Full};
use multer::Multipart;
use serde_json::{Map, Value, json};
use tollgate_model::explanations::Check;

use crate::problem::{Code, Problem};

/// Most parts of a form.
const MAX_PARTS: usize = 256;

/// Longest name of a field or a file, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// Longest boundary, in characters (RFC 2046 section 5.1.1).
const MAX_BOUNDARY: usize = 70;

/// Tells whether a body is a form of several parts.
pub(crate) fn is_multipart(content_type: &str) -> bool {
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("multipart/form-data")
}

/// Reads a form: texts by name, and files as `{ fileName, contentType, size, content }`, whose content is text, or base64
/// where it is none. A name that comes again makes a list.
pub(crate) async fn read(content_type: &str, body: Bytes) -> Result<Value, Problem> {
    let boundary = multer::parse_boundary(content_type).ok().filter(|it| is_boundary(it));
    let boundary = boundary.ok_or_else(|| malformed("the form's boundary is missing or malformed"))?;
    let mut parts = Multipart::new(BodyDataStream::new(Full::new(body)), boundary);
    let (mut form, mut count) = (Map::new(), 0);
    loop {
        let part = parts.next_field().await.map_err(|_| malformed("the form is cut off or malformed"))?;
        let Some(part) = part else { return Ok(Value::Object(form)) };
        count += 1;
        if count > MAX_PARTS {
            return Err(malformed("the form has too many parts: 256 at most"));
        }
        let name = part.name().filter(|name| is_name(name)).map(str::to_owned);
        let name =
            name.ok_or_else(|| malformed("a part of the form has no name, or one that is too long"))?;
        let file_name = part.file_name().map(str::to_owned);
        if file_name.as_deref().is_some_and(|it| !it.is_empty() && !is_name(it)) {
            return Err(malformed("a file's name is too long, or has control characters"));
        }
        let content_type = part.content_type().map(ToString::to_string);
        let bytes = part.bytes().await.map_err(|_| malformed("the form is cut off or malformed"))?;
        let value = match file_name {
            None => Value::String(text(&bytes)),
            Some(file_name) => json!({
                "fileName": file_name, "contentType": content_type.unwrap_or_default(), "size": bytes.len(),
                "content": text(&bytes),
            }),
        };
        match form.get_mut(&name) {
            None => drop(form.insert(name, value)),
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
}

fn malformed(why: &'static str) -> Problem {
    Problem::new(Code::RequestMalformed).at(Check::Body).detail(why)
}

fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| STANDARD.encode(bytes), str::to_owned)
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control)
}

fn is_boundary(boundary: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    (1..=MAX_BOUNDARY).contains(&boundary.len())
        && boundary.bytes().all(is_allowed)
        && !boundary.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn form(body: &str) -> Result<Value, String> {
        let content_type = "multipart/form-data; boundary=b";
        let read = read(content_type, Bytes::from(body.to_owned())).await;
        read.map_err(|problem| problem.why().0.to_owned())
    }

    fn part(head: &str, content: &str) -> String {
        format!("--b\r\ncontent-disposition: form-data; {head}\r\n\r\n{content}\r\n")
    }

    #[tokio::test]
    async fn fields_are_texts_and_files_say_what_they_are() {
        let body = [
            part("name=\"user\"", "ada"),
            part("name=tag", "a"),
            part("name=tag", "--c\r\nb"),
            part("name=\"photo\"; filename=\"a.txt\"\r\ncontent-type: text/plain", "hello"),
            "--b--\r\n".to_owned(),
        ];
        assert_eq!(
            form(&body.concat()).await,
            Ok(json!({
                "user": "ada", "tag": ["a", "--c\r\nb"],
                "photo": { "fileName": "a.txt", "contentType": "text/plain", "size": 5, "content": "hello" },
            }))
        );
        assert_eq!(form("--b--\r\n").await, Ok(json!({})));
    }

    #[tokio::test]
    async fn a_form_that_is_not_as_it_should_be_is_refused_whole() {
        let good = part("name=a", "1");
        let many = |count| format!("{}--b--\r\n", part("name=a", "1").repeat(count));
        assert!(form(&many(MAX_PARTS)).await.is_ok());
        let long = "n".repeat(MAX_NAME_BYTES + 1);
        for bad in [
            String::new(),
            "nothing".to_owned(),
            good.clone(),
            format!("{good}--b"),
            format!("{good}--b\r\ncontent-disposition: form-data; name=b\r\n\r\ncut off"),
            many(MAX_PARTS + 1),
            many(20_000),
            format!("{}--b--\r\n", part(&format!("name={long}"), "1")),
            format!("{}--b--\r\n", part("filename=\"a\"", "1")),
            format!("{}--b--\r\n", part("name=\"\"", "1")),
            format!("{}--b--\r\n", part(&format!("name=a; filename={long}"), "1")),
            "--b\r\n\r\nno head\r\n--b--\r\n".to_owned(),
            format!("--b\r\n{}\r\n\r\n1\r\n--b--\r\n", "x: y\r\n".repeat(1_000)),
            format!("--c\r\n{good}"),
        ] {
            assert!(form(&bad).await.is_err(), "{}", bad.get(..80).unwrap_or(&bad));
        }
        for content_type in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"a\u{7f}\"",
            &format!("multipart/form-data; boundary={}", "b".repeat(71)),
        ] {
            assert!(read(content_type, Bytes::from_static(b"--b--\r\n")).await.is_err(), "{content_type}");
        }
    }
}
