//! The types of a rule's condition, checked against what a pipeline is.
//!
//! A small inference over the expression's tree: it refuses a field that is not there, a comparison of things that can
//! never be equal, and a condition that is not true or false. What it cannot know (the body of a step) is [`Type::Any`],
//! which fits everything.

use tollgate_expression::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue};
use tollgate_expression::{cut, nearest};

use super::view;

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Type {
    Any,
    Null,
    Bool,
    Number,
    Text,
    List(&'static Type),
    /// Text keys, values of one type.
    Map(&'static Type),
    Object(&'static Shape),
}

/// The fields of an object.
#[derive(Debug, PartialEq)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
}

/// A field of an object.
#[derive(Debug, PartialEq)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Type,
    /// Whether it can be absent; `has(…)` asks for it.
    pub(super) optional: bool,
}

/// Names and types of the comprehensions around.
type Bound = Vec<(String, Type)>;

/// Checks a condition.
///
/// # Errors
///
/// A sentence for its author.
pub(super) fn check(condition: &IdedExpr) -> Result<(), String> {
    match infer(condition, &mut Vec::new())? {
        Type::Bool | Type::Any => Ok(()),
        other => Err(format!("it gives {}, and must give true or false", other.describe())),
    }
}

fn infer(expression: &IdedExpr, bound: &mut Bound) -> Result<Type, String> {
    Ok(match &expression.expr {
        Expr::Unspecified | Expr::Struct(_) => Type::Any,
        Expr::Literal(literal) => match literal {
            LiteralValue::Boolean(_) => Type::Bool,
            LiteralValue::Int(_) | LiteralValue::UInt(_) | LiteralValue::Double(_) => Type::Number,
            LiteralValue::String(_) => Type::Text,
            LiteralValue::Null => Type::Null,
            LiteralValue::Bytes(_) => Type::Any,
        },
        Expr::Ident(name) => match bound.iter().rev().find(|(known, _)| known == name) {
            Some((_, kind)) => *kind,
            None => view::root(name).unwrap_or(Type::Any),
        },
        Expr::Select(select) => {
            check_header(&select.operand, &select.field)?;
            let operand = infer(&select.operand, bound)?;
            let field = field(operand, &select.field)?;
            if let (true, Type::Object(shape)) = (select.test, operand)
                && shape.fields.iter().any(|known| known.name == select.field && !known.optional)
            {
                let name = cut(&select.field);
                return Err(format!(
                    "`{name}` of {} is always there, so that has(…) always holds: compare it, or use it as it is",
                    shape.name
                ));
            }
            if select.test { Type::Bool } else { field }
        }
        Expr::List(list) => {
            let mut of = None;
            for element in &list.elements {
                let kind = infer(element, bound)?;
                of = Some(of.map_or(kind, |of| join(of, kind)));
            }
            // Nothing is in an empty list, so it fits every other.
            Type::List(of.unwrap_or(Type::Null).simple())
        }
        Expr::Map(map) => {
            for entry in &map.entries {
                if let EntryExpr::MapEntry(entry) = &entry.expr {
                    infer(&entry.key, bound)?;
                    infer(&entry.value, bound)?;
                }
            }
            Type::Map(&Type::Any)
        }
        Expr::Call(call) => infer_call(call, bound)?,
        Expr::Comprehension(it) => infer_comprehension(it, bound)?,
    })
}

/// Refuses a name of a header that none in a pipeline's view has.
fn check_header(of: &IdedExpr, name: &str) -> Result<(), String> {
    let Expr::Select(select) = &of.expr else { return Ok(()) };
    if !matches!(select.field.as_str(), "headers" | "responseHeaders") || name == name.to_ascii_lowercase() {
        return Ok(());
    }
    let (name, small) = (cut(name), name.to_ascii_lowercase());
    Err(format!("no header is called `{name}`: their names are in small letters, `{}`", cut(&small)))
}

fn field(of: Type, name: &str) -> Result<Type, String> {
    match of {
        Type::Object(shape) => {
            let found = shape.fields.iter().find(|field| field.name == name);
            found.map(|field| field.kind).ok_or_else(|| {
                let known: Vec<&str> = shape.fields.iter().map(|field| field.name).collect();
                format!("{} has no field `{}`: {}", shape.name, cut(name), nearest(name, &known))
            })
        }
        Type::Map(of) => Ok(*of),
        Type::Any => Ok(Type::Any),
        other => Err(format!("{} has no field `{}`", other.describe(), cut(name))),
    }
}

fn infer_comprehension(it: &ComprehensionExpr, bound: &mut Bound) -> Result<Type, String> {
    let item = match infer(&it.iter_range, bound)? {
        Type::List(of) => *of,
        Type::Map(_) => Type::Text,
        Type::Any => Type::Any,
        other => {
            return Err(format!("all, exists, filter and map need a list, and have {}", other.describe()));
        }
    };
    let mut accumulated = infer(&it.accu_init, bound)?;
    let before = bound.len();
    // Once to learn what is accumulated, once more to check with that.
    for _ in 0..2 {
        bound.push((it.iter_var.clone(), item));
        bound.extend(it.iter_var2.clone().map(|name| (name, Type::Any)));
        bound.push((it.accu_var.clone(), accumulated));
        infer(&it.loop_cond, bound)?;
        accumulated = join(accumulated, infer(&it.loop_step, bound)?);
        bound.truncate(before);
    }
    bound.push((it.accu_var.clone(), accumulated));
    let result = infer(&it.result, bound);
    bound.truncate(before);
    result
}

fn infer_call(call: &CallExpr, bound: &mut Bound) -> Result<Type, String> {
    let mut kinds = Vec::new();
    for part in call.target.iter().map(|it| &**it).chain(&call.args) {
        kinds.push(infer(part, bound)?);
    }
    let name_and_map = match (call.func_name.as_str(), call.args.as_slice()) {
        ("_[_]", [map, name]) | ("@in", [name, map]) => Some((name, map)),
        _ => None,
    };
    if let Some((name, map)) = name_and_map
        && let Expr::Literal(LiteralValue::String(name)) = &name.expr
    {
        check_header(map, name.inner())?;
    }
    let at = |index: usize| kinds.get(index).copied().unwrap_or(Type::Any);
    let demand = |index: usize, wanted: Type, says: &str| {
        if at(index).fits(wanted) {
            Ok(())
        } else {
            Err(format!("{says} needs {}, and has {}", wanted.describe(), at(index).describe()))
        }
    };
    Ok(match call.func_name.as_str() {
        name @ ("_&&_" | "_||_") => {
            let operator = name.trim_matches('_');
            demand(0, Type::Bool, operator)?;
            demand(1, Type::Bool, operator)?;
            Type::Bool
        }
        "!_" => {
            demand(0, Type::Bool, "!")?;
            Type::Bool
        }
        "@not_strictly_false" => Type::Bool,
        "_?_:_" => {
            demand(0, Type::Bool, "?")?;
            join(at(1), at(2))
        }
        "_==_" | "_!=_" => {
            if at(0).is_whole() || at(1).is_whole() {
                return Err(format!("it compares {} as a whole: compare their fields", at(0).describe()));
            }
            // Nothing that a pipeline's view has is null, but for what a body holds.
            let never_null = |kind| !matches!(kind, Type::Any | Type::Null);
            let null =
                (at(0) == Type::Null && never_null(at(1))) || (at(1) == Type::Null && never_null(at(0)));
            if null || !at(0).fits(at(1)) {
                return Err(format!("it compares {} with {}", at(0).describe(), at(1).describe()));
            }
            Type::Bool
        }
        "_<_" | "_<=_" | "_>_" | "_>=_" => {
            let ordered = |kind: Type| kind.fits(Type::Number) || kind.fits(Type::Text);
            if !ordered(at(0)) || !ordered(at(1)) || !at(0).fits(at(1)) {
                return Err(format!("it compares {} with {} by size", at(0).describe(), at(1).describe()));
            }
            Type::Bool
        }
        "@in" => match at(1) {
            Type::List(of) if of.is_whole() || at(0).is_whole() => {
                return Err(format!("it looks for {} as a whole: compare their fields", of.describe()));
            }
            Type::List(of) if !at(0).fits(*of) => {
                return Err(format!("it looks for {} in a list of {}", at(0).describe(), of.describe()));
            }
            Type::List(_) | Type::Map(_) | Type::Any => Type::Bool,
            other => return Err(format!("in needs a list, and has {}", other.describe())),
        },
        "_+_" => match (at(0), at(1)) {
            (Type::List(a), Type::List(b)) => Type::List(join(*a, *b).simple()),
            (a, b) if a.fits(b) => join(a, b),
            (a, b) => return Err(format!("it adds {} and {}", a.describe(), b.describe())),
        },
        "_-_" | "_*_" | "_/_" | "_%_" => {
            demand(0, Type::Number, "arithmetic")?;
            demand(1, Type::Number, "arithmetic")?;
            Type::Number
        }
        "-_" => {
            demand(0, Type::Number, "-")?;
            Type::Number
        }
        "_[_]" => match at(0) {
            Type::List(of) => {
                demand(1, Type::Number, "the index of a list")?;
                *of
            }
            Type::Object(_) => match call.args.get(1).map(|it| &it.expr) {
                Some(Expr::Literal(LiteralValue::String(key))) => field(at(0), key.inner())?,
                _ => return Err(format!("the name of a field of {} must be written out", at(0).describe())),
            },
            Type::Map(of) => *of,
            Type::Any => Type::Any,
            other => return Err(format!("{} has no parts", other.describe())),
        },
        "size" => match at(0) {
            Type::Bool | Type::Number | Type::Null | Type::Object(_) => {
                return Err(format!("size needs a text or a list, and has {}", at(0).describe()));
            }
            _ => Type::Number,
        },
        name @ ("contains" | "startsWith" | "endsWith" | "matches") => {
            demand(0, Type::Text, name)?;
            demand(1, Type::Text, name)?;
            Type::Bool
        }
        "string" if at(0).is_whole() => return Err(format!("{} has no text", at(0).describe())),
        "type" if at(0).is_whole() => return Err(format!("it asks for the type of {}", at(0).describe())),
        "dyn" => at(0),
        "string" => Type::Text,
        "int" | "uint" | "double" => Type::Number,
        "bool" => Type::Bool,
        _ => Type::Any,
    })
}

/// Returns the type of something that is of either type.
fn join(a: Type, b: Type) -> Type {
    match (a, b) {
        (Type::List(of), Type::List(Type::Null)) | (Type::List(Type::Null), Type::List(of)) => Type::List(of),
        (Type::Null, other) | (other, Type::Null) => other,
        (a, b) if a == b => a,
        _ => Type::Any,
    }
}

// === impl Type ===

impl Type {
    /// Tells whether a value of this type can be one of the other.
    fn fits(self, other: Self) -> bool {
        match (self, other) {
            (Self::Any | Self::Null, _) | (_, Self::Any | Self::Null) => true,
            (Self::List(a), Self::List(b)) | (Self::Map(a), Self::Map(b)) => a.fits(*b),
            (Self::Map(_), Self::Object(_)) | (Self::Object(_), Self::Map(_)) => true,
            (a, b) => a == b,
        }
    }

    /// Tells whether it is an object, of which only fields can be looked at: a rule's view has no others than it reads.
    fn is_whole(self) -> bool {
        match self {
            Self::Object(_) => true,
            Self::List(of) => of.is_whole(),
            _ => false,
        }
    }

    /// Returns what stands for a setting that is not there.
    pub(super) fn nothing(self) -> serde_json::Value {
        match self {
            Self::Any | Self::Null => serde_json::Value::Null,
            Self::Bool => false.into(),
            Self::Number => 0.into(),
            Self::Text => "".into(),
            Self::List(_) => serde_json::Value::Array(Vec::new()),
            Self::Map(_) | Self::Object(_) => serde_json::json!({}),
        }
    }

    /// Returns a static reference to it; what is more than one level deep counts as anything.
    fn simple(self) -> &'static Self {
        match self {
            Self::Bool => &Self::Bool,
            Self::Number => &Self::Number,
            Self::Text => &Self::Text,
            Self::Null => &Self::Null,
            Self::Object(_) => view::OBJECTS.into_iter().find(|known| **known == self).unwrap_or(&Self::Any),
            Self::Any | Self::List(_) | Self::Map(_) => &Self::Any,
        }
    }

    fn describe(self) -> String {
        match self {
            Self::Any => "something".to_owned(),
            Self::Null => "null".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::Text => "a text".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a map".to_owned(),
            Self::Object(shape) => shape.name.to_owned(),
        }
    }
}
