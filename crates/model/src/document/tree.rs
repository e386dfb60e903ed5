//! A document as a tree of positioned nodes.

use std::borrow::Cow;
use std::collections::HashSet;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};
use serde_json::Value;

use super::{DocumentError, MAX_BYTES, Position, Slot, cut};

/// Deepest nesting of a document.
const MAX_DEPTH: usize = 64;

/// Index of a node in its tree.
pub(super) type NodeId = usize;

/// One document. Node 0 is its root; a parent stands before its children.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tree {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    parent: Option<NodeId>,
    segment: Segment,
    pub(super) position: Position,
    /// Behind its last character; of a list or map without brackets, where the parser noticed that it had ended.
    pub(super) end: Position,
    pub(super) content: Content,
}

/// What leads from a parent to a node.
#[derive(Debug, Clone, PartialEq)]
enum Segment {
    Root,
    Key(String),
    Index(usize),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    List(Vec<NodeId>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_position: Position,
    pub(super) value: NodeId,
}

/// A list or map whose end has not come yet.
struct Open {
    node: NodeId,
    /// The key whose value comes next.
    key: Option<(String, Position)>,
    /// The keys of a map so far; a search through its entries would take long where there are many.
    seen: HashSet<String>,
}

/// Parses every document of a text.
pub(super) fn parse(text: &str) -> Result<Vec<Tree>, DocumentError> {
    if text.len() > MAX_BYTES {
        return Err(DocumentError::whole(format!("the text is longer than {MAX_BYTES} bytes")));
    }
    let mut trees = Vec::new();
    let mut builder = Builder { tree: Tree { nodes: Vec::new() }, open: Vec::new() };
    let text = without_surrogates(text);
    for event in Parser::new_from_str(&text) {
        let (event, span) = event.map_err(|error| {
            DocumentError::at(format!("not YAML: {}", error.info()), position(error.marker()))
                .hint("check the indentation, quotes and brackets here and in the line above")
        })?;
        match event {
            Event::DocumentEnd => {
                let tree = std::mem::replace(&mut builder.tree, Tree { nodes: Vec::new() });
                // A document with nothing but comments between `---` lines is no resource.
                if tree.nodes.first().is_some_and(|root| root.content != Content::Null) {
                    trees.push(tree);
                }
            }
            event => builder.take(event, span)?,
        }
    }
    Ok(trees)
}

/// Writes the surrogate pairs of a JSON text (`\ud83d\ude00`, RFC 8259 section 7) the way YAML writes one character
/// (`\U0001f600`), which knows no pairs. Any other text stays as it is: it may mean what it says.
fn without_surrogates(text: &str) -> Cow<'_, str> {
    let high = text.contains("\\ud") || text.contains("\\uD");
    if !high || serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return Cow::Borrowed(text);
    }
    let unit = |escape: &str| {
        let digits = escape.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok()
    };
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let pair = unit(escape).zip(escape.get(6..).and_then(unit));
        let one = pair.and_then(|(high, low)| char::decode_utf16([high, low]).next()?.ok());
        rest = match one.filter(|one| *one > '\u{ffff}') {
            Some(one) => {
                out.push_str(&format!("\\U{:08x}", u32::from(one)));
                escape.get(12..).unwrap_or_default()
            }
            None => {
                let (escape, rest) = escape.split_at_checked(2).unwrap_or((escape, ""));
                out.push_str(escape);
                rest
            }
        };
    }
    out.push_str(rest);
    Cow::Owned(out)
}

fn position(marker: &Marker) -> Position {
    Position { line: marker.line(), column: marker.col() + 1 }
}

struct Builder {
    tree: Tree,
    open: Vec<Open>,
}

// === impl Builder ===

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), DocumentError> {
        let at = position(&span.start);
        let refuse = |what: &str| {
            Err(DocumentError::at(format!("{what} cannot be used in resource files"), at)
                .hint("write the value itself"))
        };
        match event {
            Event::Alias(_) => return refuse("aliases"),
            Event::Scalar(_, _, anchor, _)
            | Event::SequenceStart(anchor, _)
            | Event::MappingStart(anchor, _)
                if anchor != 0 =>
            {
                return refuse("anchors");
            }
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => {
                return refuse("tags");
            }
            Event::Scalar(text, style, ..) => {
                if let Some(Open { node, key: key @ None, .. }) = self.open.last_mut()
                    && matches!(self.tree.nodes.get(*node), Some(Node { content: Content::Map(_), .. }))
                {
                    *key = Some((text.into_owned(), at));
                    return Ok(());
                }
                let content = scalar(&text, style).map_err(|message| DocumentError::at(message, at))?;
                let node = self.add(content, at)?;
                self.end(node, position(&span.end));
            }
            Event::SequenceStart(..) => self.enter(Content::List(Vec::new()), at)?,
            Event::MappingStart(..) => self.enter(Content::Map(Vec::new()), at)?,
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    self.end(open.node, position(&span.end));
                }
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn end(&mut self, node: NodeId, end: Position) {
        if let Some(node) = self.tree.nodes.get_mut(node) {
            node.end = end;
        }
    }

    fn enter(&mut self, content: Content, at: Position) -> Result<(), DocumentError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(DocumentError::at(format!("nested more than {MAX_DEPTH} deep"), at));
        }
        let node = self.add(content, at)?;
        self.open.push(Open { node, key: None, seen: HashSet::new() });
        Ok(())
    }

    /// Adds a node where the innermost open list or map expects one.
    fn add(&mut self, content: Content, at: Position) -> Result<NodeId, DocumentError> {
        let id = self.tree.nodes.len();
        let Some(open) = self.open.last_mut() else {
            self.tree.nodes.push(Node {
                parent: None,
                segment: Segment::Root,
                position: at,
                end: at,
                content,
            });
            return Ok(id);
        };
        let segment = match self.tree.nodes.get_mut(open.node).map(|parent| &mut parent.content) {
            Some(Content::List(items)) => {
                items.push(id);
                Segment::Index(items.len() - 1)
            }
            Some(Content::Map(entries)) => {
                let Some((key, key_position)) = open.key.take() else {
                    return Err(DocumentError::at("a key must be a plain text", at));
                };
                if !open.seen.insert(key.clone()) {
                    let message = format!("`{}` stands twice in this map", cut(&key));
                    return Err(DocumentError::at(message, key_position).hint("keep one of them"));
                }
                entries.push(Entry { key: key.clone(), key_position, value: id });
                Segment::Key(key)
            }
            _ => Segment::Root,
        };
        self.tree.nodes.push(Node { parent: Some(open.node), segment, position: at, end: at, content });
        Ok(id)
    }
}

/// Resolves a scalar by the core schema of YAML 1.2 (section 10.3.2).
pub(super) fn scalar(text: &str, style: ScalarStyle) -> Result<Content, String> {
    if style != ScalarStyle::Plain {
        return Ok(Content::Text(text.to_owned()));
    }
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Content::Null,
        "true" | "True" | "TRUE" => Content::Bool(true),
        "false" | "False" | "FALSE" => Content::Bool(false),
        _ => number(text)?.unwrap_or_else(|| Content::Text(text.to_owned())),
    })
}

fn number(text: &str) -> Result<Option<Content>, String> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let radix = |digits: &str, radix: u32| u64::from_str_radix(digits, radix).ok().map(Content::Unsigned);
    let too_large = || format!("the number {} is too large: put it in quotes to keep it as text", cut(text));
    if matches!(unsigned, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return Err(format!(
            "{text} is not a number that JSON can hold: put it in quotes to keep it as text"
        ));
    }
    if let Some(digits) =
        text.strip_prefix("0x").filter(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        return radix(digits, 16).ok_or_else(too_large).map(Some);
    }
    if let Some(digits) =
        text.strip_prefix("0o").filter(|d| !d.is_empty() && d.bytes().all(|b| (b'0'..=b'7').contains(&b)))
    {
        return radix(digits, 8).ok_or_else(too_large).map(Some);
    }
    if !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit()) {
        let content = if text.starts_with('-') {
            text.parse().ok().map(Content::Signed)
        } else {
            unsigned.parse().ok().map(Content::Unsigned)
        };
        return content.ok_or_else(too_large).map(Some);
    }
    let digit = unsigned.bytes().next().is_some_and(|b| b.is_ascii_digit() || b == b'.');
    let shape = unsigned.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    if digit && shape && unsigned.bytes().any(|b| b.is_ascii_digit()) {
        // What Rust does not read either (`1.2.3`, `2026-11-24`) is a text.
        return match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Some(Content::Float(value))),
            Ok(_) => Err(too_large()),
            Err(_) => Ok(None),
        };
    }
    Ok(None)
}

// === impl Tree ===

impl Tree {
    /// The root's id.
    pub(super) const ROOT: NodeId = 0;

    /// Returns a node.
    pub(super) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id)
    }

    /// Returns a node's position.
    pub(super) fn position(&self, id: NodeId) -> Position {
        self.nodes.get(id).map_or(Position { line: 1, column: 1 }, |node| node.position)
    }

    /// Returns the text that stands under a key of the root.
    pub(super) fn root_text(&self, key: &str) -> Option<&str> {
        let Content::Map(entries) = &self.nodes.first()?.content else { return None };
        let entry = entries.iter().find(|entry| entry.key == key)?;
        match &self.nodes.get(entry.value)?.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the position of the node that a JSON pointer names, or of its nearest ancestor; of the key where
    /// there is one, since that is what a person looks for.
    pub(super) fn find(&self, pointer: &str) -> Position {
        let mut id = Self::ROOT;
        let mut position = self.position(id);
        for token in pointer.split('/').skip(1) {
            let Some((child, at)) = self.child(id, token) else { break };
            (id, position) = (child, at);
        }
        position
    }

    /// Returns where the value that a JSON pointer names can be written.
    pub(super) fn slot(&self, pointer: &str) -> Option<Slot> {
        let mut tokens = pointer.split('/').skip(1).peekable();
        let mut id = Self::ROOT;
        while let Some(token) = tokens.next() {
            let is_last = tokens.peek().is_none();
            match (self.child(id, token), self.nodes.get(id)) {
                (Some((child, _)), _) => id = child,
                (None, Some(Node { content: Content::Map(entries), position, .. })) if is_last => {
                    return (!entries.is_empty()).then_some(Slot::Absent(*position));
                }
                _ => return None,
            }
        }
        let node = self.nodes.get(id)?;
        (!matches!(node.content, Content::List(_) | Content::Map(_))).then_some(Slot::Scalar(node.position))
    }

    /// Returns the child that a token of a JSON pointer names, with the place that a person looks for.
    pub(super) fn child(&self, id: NodeId, token: &str) -> Option<(NodeId, Position)> {
        let token = token.replace("~1", "/").replace("~0", "~");
        match &self.nodes.get(id)?.content {
            Content::Map(entries) => {
                let entry = entries.iter().find(|entry| entry.key == token)?;
                Some((entry.value, entry.key_position))
            }
            Content::List(items) => {
                let child = *items.get(token.parse::<usize>().ok()?)?;
                Some((child, self.position(child)))
            }
            _ => None,
        }
    }

    /// Returns what a node says, as JSON.
    pub(super) fn value(&self, id: NodeId) -> Value {
        match self.nodes.get(id).map(|node| &node.content) {
            None | Some(Content::Null) => Value::Null,
            Some(Content::Bool(value)) => (*value).into(),
            Some(Content::Unsigned(value)) => (*value).into(),
            Some(Content::Signed(value)) => (*value).into(),
            Some(Content::Float(value)) => (*value).into(),
            Some(Content::Text(text)) => text.as_str().into(),
            Some(Content::List(items)) => items.iter().map(|item| self.value(*item)).collect(),
            Some(Content::Map(entries)) => {
                let fields = entries.iter().map(|entry| (entry.key.clone(), self.value(entry.value)));
                Value::Object(fields.collect())
            }
        }
    }

    /// Returns the JSON pointer (RFC 6901) of a node.
    pub(super) fn pointer(&self, id: NodeId) -> String {
        let mut segments = Vec::new();
        let mut at = Some(id);
        while let Some(node) = at.and_then(|id| self.nodes.get(id)) {
            match &node.segment {
                Segment::Root => {}
                Segment::Key(key) => segments.push(key.replace('~', "~0").replace('/', "~1")),
                Segment::Index(index) => segments.push(index.to_string()),
            }
            at = node.parent;
        }
        segments.iter().rev().map(|segment| format!("/{segment}")).collect()
    }
}
