//! Changes a part of a file and keeps the rest as its author wrote it: order, comments, quotes, brackets.
//!
//! An edit says what the document is to say afterwards. How the text is changed for that is proposed from where its parts
//! stand, and the proposal is read again: only one that says exactly what it should is taken. Where none does (an author
//! may write YAML in more ways than are known here) the document is written anew as a whole, without its comments.

use serde_json::{Map, Value};

use super::tree::{self, Content, NodeId, Tree};
use super::{Position, write};

/// One change of a document. Places are JSON pointers (RFC 6901).
#[derive(Debug, Clone, PartialEq)]
pub enum Edit {
    /// Writes a value. Maps on the way there that are missing, or are none, are made.
    Set(String, Value),
    /// Takes a field out of a map or an item out of a list. What is not there stays so.
    Remove(String),
    /// Puts an item into a list, in front of the one at an index; at the end when there is none. A list that is missing is
    /// made.
    Insert(String, usize, Value),
    /// Makes the item at an index and the next one of a list change places.
    Swap(String, usize),
}

/// Makes a change in a text; `None` when the text is not one readable document, or the change does not fit it.
pub fn edited(text: &str, edit: &Edit) -> Option<String> {
    let mut text = text.replace("\r\n", "\n");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let trees = tree::parse(&text).ok()?;
    let [tree] = trees.as_slice() else { return None };
    let before = tree.value(Tree::ROOT);
    let mut wanted = before.clone();
    apply(&mut wanted, edit)?;
    if wanted == before && !matches!(edit, Edit::Swap(..)) {
        return Some(text);
    }
    let says = |text: &String| super::parse_value(text).as_ref() == Ok(&wanted);
    let source = Source { text: &text, tree, is_json: text.trim_start().starts_with('{') };
    source
        .propose(edit)
        .filter(says)
        .or_else(|| Some(write::whole(&wanted)).filter(says))
        .or_else(|| serde_json::to_string_pretty(&wanted).ok())
}

/// Changes a value.
fn apply(value: &mut Value, edit: &Edit) -> Option<()> {
    match edit {
        Edit::Set(pointer, new) => *made(value, pointer)? = new.clone(),
        Edit::Remove(pointer) => {
            let (parent, token) = pointer.rsplit_once('/')?;
            match value.pointer_mut(parent) {
                Some(Value::Object(fields)) => drop(fields.shift_remove(&unescaped(token))),
                Some(Value::Array(items)) => {
                    let index: usize = token.parse().ok()?;
                    (index < items.len()).then(|| items.remove(index));
                }
                _ => {}
            }
        }
        Edit::Insert(pointer, index, new) => {
            let list = made(value, pointer)?;
            if !list.is_array() {
                *list = Value::Array(Vec::new());
            }
            let items = list.as_array_mut()?;
            items.insert((*index).min(items.len()), new.clone());
        }
        Edit::Swap(pointer, index) => {
            let items = value.pointer_mut(pointer)?.as_array_mut()?;
            (index + 1 < items.len()).then(|| items.swap(*index, index + 1))?;
        }
    }
    Some(())
}

/// Returns a place in a value, made where it is missing; `None` where a list has no such item.
fn made<'a>(value: &'a mut Value, pointer: &str) -> Option<&'a mut Value> {
    let mut at = value;
    for token in pointer.split('/').skip(1) {
        if !at.is_array() && !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = match at {
            Value::Object(fields) => fields.entry(unescaped(token)).or_insert(Value::Null),
            Value::Array(items) => items.get_mut(token.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(at)
}

fn unescaped(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

/// A text with the tree that was read from it.
struct Source<'a> {
    text: &'a str,
    tree: &'a Tree,
    is_json: bool,
}

/// A node with what it stands in.
#[derive(Clone, Copy)]
struct Child {
    node: NodeId,
    parent: NodeId,
    index: usize,
}

// === impl Source ===

impl Source<'_> {
    fn propose(&self, edit: &Edit) -> Option<String> {
        match edit {
            Edit::Set(pointer, value) => self.set(pointer, value),
            Edit::Remove(pointer) => self.remove(pointer),
            Edit::Insert(pointer, index, value) => self.insert(pointer, *index, value),
            Edit::Swap(pointer, index) => self.swap(pointer, *index),
        }
    }

    fn set(&self, pointer: &str, value: &Value) -> Option<String> {
        let tokens: Vec<&str> = pointer.split('/').skip(1).collect();
        let mut parent = Tree::ROOT;
        for (depth, token) in tokens.iter().enumerate() {
            let rest = tokens.get(depth + 1..)?;
            let below = || {
                let wrap = |inner, token: &&str| Value::Object(Map::from_iter([(unescaped(token), inner)]));
                rest.iter().rev().fold(value.clone(), wrap)
            };
            let Some((node, _)) = self.tree.child(parent, token) else {
                return self.add_entry(parent, &unescaped(token), &below());
            };
            let goes_on =
                matches!(self.content(node)?, Content::Map(_) | Content::List(_)) && !rest.is_empty();
            let is_empty = matches!(self.content(node)?, Content::Map(entries) if entries.is_empty());
            if !goes_on || is_empty {
                let index = self.children(parent)?.iter().position(|it| *it == node)?;
                return self.replace(Child { node, parent, index }, &below());
            }
            parent = node;
        }
        None
    }

    fn remove(&self, pointer: &str) -> Option<String> {
        let child = self.find(pointer)?;
        let siblings = self.children(child.parent)?;
        if siblings.len() == 1 {
            let empty = match self.content(child.parent)? {
                Content::List(_) => Value::Array(Vec::new()),
                _ => Value::Object(Map::new()),
            };
            return self.set(pointer.rsplit_once('/')?.0, &empty);
        }
        if self.is_flow(child.parent) {
            let begin = self.begin(child)?;
            let next = siblings
                .get(child.index + 1)
                .map(|node| self.begin(Child { node: *node, index: child.index + 1, ..child }));
            let range = match next {
                Some(next) => begin..next?,
                None => self.end(*siblings.get(child.index.checked_sub(1)?)?)?..self.end(child.node)?,
            };
            return Some(self.with(range, ""));
        }
        let range = match self.lines(child) {
            Some(range) => range,
            // The first key of a list's item: it stands behind the dash, where the next one goes.
            None => {
                let next = *siblings.get(child.index + 1)?;
                self.begin(child)?..self.begin(Child { node: next, index: child.index + 1, ..child })?
            }
        };
        Some(self.with(range, ""))
    }

    fn insert(&self, pointer: &str, index: usize, value: &Value) -> Option<String> {
        let list = self.find(pointer).map(|child| child.node);
        let items = list.and_then(|list| self.children(list)).unwrap_or_default();
        let (Some(list), false) = (list, items.is_empty()) else {
            return self.set(pointer, &Value::Array(vec![value.clone()]));
        };
        let index = index.min(items.len());
        let at = |index: usize| Some(Child { node: *items.get(index)?, parent: list, index });
        if self.is_flow(list) {
            let new = self.inline(value);
            return Some(match at(index) {
                Some(next) => {
                    let begin = self.begin(next)?;
                    self.with(begin..begin, &format!("{new}, "))
                }
                None => {
                    let end = self.end(at(index - 1)?.node)?;
                    self.with(end..end, &format!(", {new}"))
                }
            });
        }
        let place = match at(index) {
            Some(next) => self.lines(next)?.start,
            None => self.lines(at(index - 1)?)?.end,
        };
        let indent = self.dash_indent(at(0)?)?;
        let mut new = format!("{}- ", " ".repeat(indent));
        write::block(value, indent + 2, &mut new);
        new.push('\n');
        Some(self.with(place..place, &new))
    }

    fn swap(&self, pointer: &str, index: usize) -> Option<String> {
        let list = self.find(pointer)?.node;
        let items = self.children(list)?;
        let at = |index: usize| Some(Child { node: *items.get(index)?, parent: list, index });
        let (first, second) = (at(index)?, at(index + 1)?);
        let (first, second) = if self.is_flow(list) {
            (self.begin(first)?..self.end(first.node)?, self.begin(second)?..self.end(second.node)?)
        } else {
            (self.lines(first)?, self.lines(second)?)
        };
        let part = |range: std::ops::Range<usize>| self.text.get(range);
        let (a, between, b) = (part(first.clone())?, part(first.end..second.start)?, part(second.clone())?);
        Some(self.with(first.start..second.end, &format!("{b}{between}{a}")))
    }

    /// Writes another value where one stands.
    fn replace(&self, child: Child, value: &Value) -> Option<String> {
        let (begin, end) = (self.at(self.tree.position(child.node))?, self.end(child.node)?);
        let was_inline = begin < end
            && !self.text.get(begin..end)?.contains('\n')
            && !self.text.get(begin..)?.starts_with(['|', '>'])
            && (self.is_flow(child.node)
                || !matches!(self.content(child.node)?, Content::List(_) | Content::Map(_)));
        let new = self.inline(value);
        let is_short = match value {
            Value::Object(fields) => fields.is_empty() || self.is_flow(child.node) && new.len() <= 90,
            Value::Array(_) => new.len() <= 90 && (self.is_flow(child.node) || !new.contains('{')),
            Value::String(text) => !text.contains('\n'),
            _ => true,
        };
        if self.is_flow(child.parent) || was_inline && is_short {
            return Some(self.with(begin..end, &new));
        }
        let mut new = String::new();
        match self.key(child) {
            Some((key, position)) => {
                write::entry(key, value, position.column - 1, &mut new);
                let begin = self.at(position)?;
                // A key without a value stands where its line ends.
                let end = if begin < end { end } else { self.line_end(begin) - 1 };
                Some(self.with(begin..end, &new))
            }
            None => {
                write::block(value, self.tree.position(child.node).column - 1, &mut new);
                Some(self.with(begin..end, &new))
            }
        }
    }

    /// Adds a field to a map.
    fn add_entry(&self, map: NodeId, key: &str, value: &Value) -> Option<String> {
        let Content::Map(entries) = self.content(map)? else { return None };
        let last = self.end(entries.last()?.value)?;
        if self.is_flow(map) {
            let quoted = self.text.get(self.at(entries.first()?.key_position)?..)?.starts_with('"');
            let key = if quoted { Value::from(key).to_string() } else { write::key(key) };
            return Some(self.with(last..last, &format!(", {key}: {}", self.inline(value))));
        }
        let last_key = self.at(entries.last()?.key_position)?;
        let place = self.line_end(last.max(last_key));
        let indent = entries.first()?.key_position.column - 1;
        let mut new = " ".repeat(indent);
        write::entry(key, value, indent, &mut new);
        new.push('\n');
        Some(self.with(place..place, &new))
    }

    fn inline(&self, value: &Value) -> String {
        if self.is_json {
            return value.to_string();
        }
        let mut out = String::new();
        write::inline(value, &mut out);
        out
    }

    fn content(&self, node: NodeId) -> Option<&Content> {
        Some(&self.tree.node(node)?.content)
    }

    /// Returns the values in a list or map.
    fn children(&self, node: NodeId) -> Option<Vec<NodeId>> {
        match self.content(node)? {
            Content::List(items) => Some(items.clone()),
            Content::Map(entries) => Some(entries.iter().map(|entry| entry.value).collect()),
            _ => None,
        }
    }

    fn find(&self, pointer: &str) -> Option<Child> {
        let mut child = Child { node: Tree::ROOT, parent: Tree::ROOT, index: 0 };
        for token in pointer.split('/').skip(1) {
            let parent = child.node;
            let (node, _) = self.tree.child(parent, token)?;
            let index = self.children(parent)?.iter().position(|it| *it == node)?;
            child = Child { node, parent, index };
        }
        Some(child)
    }

    fn key(&self, child: Child) -> Option<(&str, Position)> {
        let Content::Map(entries) = self.content(child.parent)? else { return None };
        let entry = entries.get(child.index)?;
        Some((&entry.key, entry.key_position))
    }

    /// Returns where a field or an item begins: its key, where it has one.
    fn begin(&self, child: Child) -> Option<usize> {
        let position =
            self.key(child).map_or_else(|| self.tree.position(child.node), |(_, position)| position);
        self.at(position)
    }

    /// Returns where the last character of a node ends.
    fn end(&self, node: NodeId) -> Option<usize> {
        let begin = self.at(self.tree.position(node))?;
        if let (false, Some(last)) =
            (self.is_flow(node), self.children(node).and_then(|all| all.last().copied()))
        {
            // An empty value of the last key ends where it begins, which may be anywhere behind the key.
            return self.end(last);
        }
        let end = self.at(self.tree.node(node)?.end)?.max(begin);
        Some(begin + self.text.get(begin..end)?.trim_end().len())
    }

    fn is_flow(&self, node: NodeId) -> bool {
        let is_collection = matches!(self.content(node), Some(Content::List(_) | Content::Map(_)));
        let begin = self.at(self.tree.position(node)).and_then(|begin| self.text.get(begin..));
        is_collection && begin.is_some_and(|text| text.starts_with(['{', '[']))
    }

    /// Returns the column of the dash in front of an item, counted from 0.
    fn dash_indent(&self, item: Child) -> Option<usize> {
        let begin = self.at(self.tree.position(item.node))?;
        let before = self.text.get(..begin)?.trim_end();
        let dash = before.strip_suffix('-')?.len();
        let line = self.text.get(self.line_start(dash)..dash)?;
        line.trim().is_empty().then_some(line.len())
    }

    /// Returns the lines of a field or an item, with the comments above it; `None` when it does not begin its line.
    fn lines(&self, child: Child) -> Option<std::ops::Range<usize>> {
        let (begin, indent) = match self.key(child) {
            Some((_, position)) => (self.at(position)?, position.column - 1),
            None => {
                let begin = self.at(self.tree.position(child.node))?;
                (self.text.get(..begin)?.trim_end().strip_suffix('-')?.len(), self.dash_indent(child)?)
            }
        };
        let mut start = self.line_start(begin);
        if !self.text.get(start..begin)?.trim().is_empty() {
            return None;
        }
        while let Some(above) = start.checked_sub(1).map(|end| self.line_start(end)) {
            let line = self.text.get(above..start)?;
            let is_comment =
                line.trim_start().starts_with('#') && line.len() - line.trim_start().len() == indent;
            if !is_comment {
                break;
            }
            start = above;
        }
        Some(start..self.line_end(self.end(child.node)?.max(begin)))
    }

    fn at(&self, position: Position) -> Option<usize> {
        let mut begin = 0;
        for _ in 1..position.line {
            begin += self.text.get(begin..)?.find('\n')? + 1;
        }
        let line = self.text.get(begin..)?;
        let column = position.column.checked_sub(1)?;
        let within = line.char_indices().map(|(byte, _)| byte).chain([line.len()]).nth(column)?;
        Some(begin + within)
    }

    fn line_start(&self, byte: usize) -> usize {
        self.text.get(..byte).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1)
    }

    /// Returns where the next line begins.
    fn line_end(&self, byte: usize) -> usize {
        let rest = self.text.get(byte..).unwrap_or_default();
        rest.find('\n').map_or(self.text.len(), |newline| byte + newline + 1)
    }

    fn with(&self, range: std::ops::Range<usize>, new: &str) -> String {
        let part = |range| self.text.get(range).unwrap_or_default();
        format!("{}{new}{}", part(0..range.start), part(range.end..self.text.len()))
    }
}

#[cfg(test)]
mod tests;
