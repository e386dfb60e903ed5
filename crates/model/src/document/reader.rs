//! Reads types out of a positioned tree: a serde deserializer whose errors know where they happened.

use std::fmt::Display;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer as _, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::tree::{Content, Entry, NodeId, Tree};
use super::{DocumentError, Position, cut, nearest};
use crate::steps::STEP_TYPES;
use crate::triggers::TRIGGER_TYPES;

/// Reads one node.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    tree: &'a Tree,
    node: NodeId,
    /// A key that is not handed on: the `kind` of a resource.
    skip: Option<&'a str>,
}

/// The entries of a map, the one called `type` first: what follows depends on it, wherever it stands.
struct Entries<'a, 'b> {
    reader: Reader<'a>,
    entries: std::vec::IntoIter<&'a Entry>,
    current: Option<&'a Entry>,
    /// The key read last, for errors about it that come after it was read.
    last_key: &'b mut Option<&'a Entry>,
}

struct Items<'a> {
    tree: &'a Tree,
    items: std::slice::Iter<'a, NodeId>,
}

/// A map's key.
struct Key<'a> {
    key: &'a str,
}

/// A text that names a variant.
struct Variant<'a>(&'a str);

// === impl Reader ===

impl<'a> Reader<'a> {
    /// Reads a document whose key `skip` was dealt with.
    pub(super) fn root(tree: &'a Tree, skip: &'a str) -> Self {
        Self { tree, node: Tree::ROOT, skip: Some(skip) }
    }

    fn content(&self) -> &'a Content {
        self.tree.node(self.node).map_or(&Content::Null, |node| &node.content)
    }

    fn locate(&self, error: DocumentError) -> DocumentError {
        locate(error, self.tree, self.node, self.tree.position(self.node))
    }

    fn visit<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        match self.content() {
            Content::Null => visitor.visit_unit(),
            Content::Bool(value) => visitor.visit_bool(*value),
            Content::Unsigned(value) => visitor.visit_u64(*value),
            Content::Signed(value) => visitor.visit_i64(*value),
            Content::Float(value) => visitor.visit_f64(*value),
            Content::Text(text) => visitor.visit_borrowed_str(text),
            Content::List(items) => visitor.visit_seq(Items { tree: self.tree, items: items.iter() }),
            Content::Map(entries) => {
                let mut ordered: Vec<&Entry> =
                    entries.iter().filter(|entry| Some(entry.key.as_str()) != self.skip).collect();
                ordered.sort_by_key(|entry| entry.key != "type");
                let mut last_key = None;
                let entries = ordered.into_iter();
                let result = visitor.visit_map(Entries {
                    reader: self,
                    entries,
                    current: None,
                    last_key: &mut last_key,
                });
                // A visitor that reads keys as text finds out only afterwards that it knows none of that name.
                result.map_err(|error| match last_key {
                    Some(entry) if error.message.contains(&format!("`{}`", cut(&entry.key))) => {
                        locate(error, self.tree, entry.value, entry.key_position)
                    }
                    _ => error,
                })
            }
        }
    }
}

fn locate(mut error: DocumentError, tree: &Tree, node: NodeId, position: Position) -> DocumentError {
    if error.position.is_none() {
        error.position = Some(position);
        error.pointer = tree.pointer(node);
    }
    error
}

impl<'a> Deserializer<'a> for Reader<'a> {
    type Error = DocumentError;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        self.visit(visitor).map_err(|error| self.locate(error))
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        match self.content() {
            Content::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        let result = match self.content() {
            Content::Text(text) => visitor.visit_enum(Variant(text)),
            _ => self.visit(visitor),
        };
        result.map_err(|error| self.locate(error))
    }

    forward_to_deserialize_any! {
        <V: Visitor<'a>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

// === impl Entries ===

impl<'a> MapAccess<'a> for Entries<'a, '_> {
    type Error = DocumentError;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, DocumentError> {
        self.current = self.entries.next();
        let Some(entry) = self.current else { return Ok(None) };
        *self.last_key = Some(entry);
        seed.deserialize(Key { key: &entry.key })
            .map(Some)
            .map_err(|error| locate(error, self.reader.tree, entry.value, entry.key_position))
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, DocumentError> {
        let Some(entry) = self.current.take() else {
            return Err(DocumentError::custom("a value was asked for before its key"));
        };
        let node = entry.value;
        seed.deserialize(Reader { tree: self.reader.tree, node, skip: None })
            .map_err(|error| locate(error, self.reader.tree, node, self.reader.tree.position(node)))
    }
}

// === impl Items ===

impl<'a> SeqAccess<'a> for Items<'a> {
    type Error = DocumentError;

    fn next_element_seed<T: DeserializeSeed<'a>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DocumentError> {
        let Some(node) = self.items.next() else { return Ok(None) };
        let reader = Reader { tree: self.tree, node: *node, skip: None };
        seed.deserialize(reader).map(Some).map_err(|error| reader.locate(error))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

// === impl Key ===

impl<'a> Deserializer<'a> for Key<'a> {
    type Error = DocumentError;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        visitor.visit_borrowed_str(self.key)
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        visitor.visit_enum(Variant(self.key))
    }

    forward_to_deserialize_any! {
        <V: Visitor<'a>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq
        tuple tuple_struct map struct identifier ignored_any
    }
}

// === impl Variant ===

impl<'a> EnumAccess<'a> for Variant<'a> {
    type Error = DocumentError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'a>>(self, seed: V) -> Result<(V::Value, Self), DocumentError> {
        let variant = self.0.into_deserializer();
        seed.deserialize::<serde::de::value::StrDeserializer<'_, DocumentError>>(variant)
            .map(|value| (value, self))
    }
}

impl<'a> VariantAccess<'a> for Variant<'a> {
    type Error = DocumentError;

    fn unit_variant(self) -> Result<(), DocumentError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'a>>(self, _: T) -> Result<T::Value, DocumentError> {
        Err(DocumentError::invalid_type(Unexpected::Str(self.0), &"a map"))
    }

    fn tuple_variant<V: Visitor<'a>>(self, _: usize, visitor: V) -> Result<V::Value, DocumentError> {
        Err(DocumentError::invalid_type(Unexpected::Str(self.0), &visitor))
    }

    fn struct_variant<V: Visitor<'a>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        Err(DocumentError::invalid_type(Unexpected::Str(self.0), &visitor))
    }
}

// === impl DocumentError ===

impl serde::de::Error for DocumentError {
    fn custom<T: Display>(message: T) -> Self {
        Self::whole(message.to_string())
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::whole(format!("unknown field `{}`", cut(field))).hint(nearest(field, expected))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let what = if expected == STEP_TYPES {
            // Beside its type a step has two fields, which may be what was meant.
            let known: Vec<_> = STEP_TYPES.into_iter().chain(["name", "failOnError"]).collect();
            return Self::whole(format!("unknown step `{}`", cut(variant))).hint(nearest(variant, &known));
        } else if expected == TRIGGER_TYPES {
            "unknown trigger type"
        } else {
            "unknown value"
        };
        Self::whole(format!("{what} `{}`", cut(variant))).hint(nearest(variant, expected))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::whole(format!("field `{field}` is missing"))
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        let unexpected = match unexpected {
            Unexpected::Str(text) => format!("the text `{}`", cut(text)),
            Unexpected::Unit => "nothing".to_owned(),
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Map => "a map".to_owned(),
            Unexpected::Bool(value) => format!("`{value}`"),
            Unexpected::Unsigned(value) => format!("the number {value}"),
            Unexpected::Signed(value) => format!("the number {value}"),
            Unexpected::Float(value) => format!("the number {value}"),
            other => other.to_string(),
        };
        let expected = match expected.to_string() {
            number if matches!(number.as_str(), "u16" | "u32" | "u64") => "a whole number".to_owned(),
            number if number.starts_with("a nonzero u") => "a whole number, at least 1".to_owned(),
            map if map.starts_with("struct ") => "a map, for example `{}` or `{ field: value }`".to_owned(),
            list if list == "a sequence" => "a list, for example `[a, b]`".to_owned(),
            other => other,
        };
        Self::whole(format!("found {unexpected}, expected {expected}"))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }
}
