//! The Common Expression Language, bounded: what flows and custom rules share.
//!
//! CEL has no loops but the comprehensions (`map`, `filter`, `all`, `exists`), so the work of an expression is bounded
//! by its size, the data that it sees, and how deep its comprehensions nest. [`Cost::work`] is that product, known
//! before anything runs. Parsing is bounded by what [`lexer`] finds in the text before the parser recurses into it.
//!
//! This crate does no I/O. Errors say what is wrong without the values that it went wrong with.

use std::collections::BTreeSet;
use std::sync::Arc;

use cel::ExecutionError;
use cel::extractors::This;
use serde_json::{Map, Value};

mod checker;
pub mod lexer;
mod patterns;

pub use cel::common::ast;
pub use cel::{Context, Program};
pub use checker::MAX_DEPTH;

use ast::{EntryExpr, Expr, IdedExpr, LiteralValue};
use checker::MATCHES;
use lexer::Code;

/// Longest expression, in bytes.
const MAX_BYTES: usize = 4096;
/// Deepest nesting of brackets.
pub const MAX_BRACKETS: usize = 24;
/// Longest run of `!` and `-`.
const MAX_UNARY: usize = 4;
/// Most operators and selections.
const MAX_OPERATORS: usize = 200;
/// Work of making one regular expression.
const PATTERN_WORK: u64 = 2_000_000;
/// Most data that the `+` of an expression may put together: the largest body, and some.
const MAX_JOINED_BYTES: u64 = 128 << 20;
/// Work of handing one value to the interpreter.
const WORK_PER_VALUE: u64 = 6;
/// Bytes of data that are read in the time of one node of an expression.
const BYTES_PER_NODE: u64 = 256;
/// Memory of a value besides its text.
pub const VALUE_BYTES: u64 = 32;
/// Memory of a map besides its fields.
const MAP_BYTES: u64 = 128;

/// Brackets, operators and bytes that are parsed on any stack; the parser needs up to 160 kB of it for one bracket.
const SHALLOW: (usize, usize, usize) = (4, 40, 512);
/// The stack for parsing more than that, enough for the parser's own limit on recursion.
const ROOMY_STACK_BYTES: usize = 64 << 20;

/// A root and the keys below it: `message.body.user`.
pub type Path = (&'static str, Vec<String>);

/// What an expression may name.
#[derive(Debug, Clone, Copy)]
pub struct Vocabulary {
    /// Names that it may begin with.
    pub roots: &'static [&'static str],
    /// A function beyond those of the language that is slow on purpose: it may stand once, and in no loop.
    pub slow: Option<&'static str>,
}

/// What expressions of flows may name. Who judges flows reads them by the same words as who runs them: what only one of
/// the two understood would run unjudged.
pub const FLOWS: Vocabulary = Vocabulary {
    roots: &["message", "globals", "accounts", "claims", "consumer", "client", "metadata"],
    slow: Some("verifyPassword"),
};

/// An expression that was checked.
#[derive(Debug)]
pub struct Parsed {
    /// What runs.
    pub program: Arc<Program>,
    /// The roots that it reads.
    pub roots: Vec<&'static str>,
    /// Those of them that it reads in another way than by fields that are written out, once for each time.
    pub whole: Vec<&'static str>,
    /// The names of the fields that it reads.
    pub fields: Vec<String>,
    /// Whether it computes the name of a field that it reads: that one is not among `fields`.
    pub computed_fields: bool,
    /// What it costs.
    pub cost: Cost,
    /// Whether it calls the slow function.
    pub slow: bool,
}

/// What an expression costs, whatever its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// Nodes of its tree.
    pub nodes: u64,
    /// How deep its comprehensions nest.
    pub loops: u32,
    /// Patterns that are made anew in each run.
    patterns: u64,
    /// What a `+` joins, and how deep it stands in comprehensions: there it joins it again in every turn.
    joined: Vec<(Path, u32)>,
}

/// Data as the interpreter holds it; cheap to hand to one program after the other.
pub struct Prepared(cel::Value);

/// Who pays for what an expression gives, before it is copied.
pub trait Meter {
    /// Pays for a text.
    ///
    /// # Errors
    ///
    /// A sentence when there is nothing left to pay with.
    fn spend_text(&self, text: &str) -> Result<(), String>;
}

/// Parses and checks an expression.
///
/// # Errors
///
/// A sentence for the author.
pub fn parse(source: &str, vocabulary: &Vocabulary) -> Result<Parsed, String> {
    let source = source.trim();
    if source.is_empty() {
        return Err("the expression is empty".to_owned());
    }
    if source.len() > MAX_BYTES {
        return Err(format!("the expression is longer than {MAX_BYTES} characters"));
    }
    let (brackets, operators) = check_shape(source)?;
    let (most_brackets, most_operators, most_bytes) = SHALLOW;
    if brackets <= most_brackets && operators <= most_operators && source.len() <= most_bytes {
        return parse_here(source, vocabulary);
    }
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(ROOMY_STACK_BYTES)
            .spawn_scoped(scope, || parse_here(source, vocabulary))
            .ok()
            .and_then(|parsing| parsing.join().ok())
            .unwrap_or_else(|| Err("the expression cannot be checked: make it simpler".to_owned()))
    })
}

fn parse_here(source: &str, vocabulary: &Vocabulary) -> Result<Parsed, String> {
    let program = Program::compile(source).map_err(|error| {
        format!("expression `{}` does not parse: {}", cut(source), first_line(&error.to_string()))
    })?;
    checker::check(program, vocabulary)
}

/// Returns what every expression can call; further functions can be added to it.
pub fn base_context() -> Context<'static, 'static> {
    let mut context = Context::default();
    let added = context.add_function(MATCHES, |This(text): This<Arc<String>>, pattern: Arc<String>| {
        patterns::is_match(&text, &pattern)
            .ok_or_else(|| ExecutionError::function_error(MATCHES, "not a regular expression"))
    });
    debug_assert!(added.is_ok(), "the library's own is left out");
    context
}

/// Runs a program on data; `base` holds the functions that it may call.
///
/// # Errors
///
/// Why it gave no value, without the values that it read.
pub fn execute<'a>(
    program: &Program,
    base: &Context<'_, '_>,
    data: impl Iterator<Item = (&'static str, &'a Value)>,
    meter: &dyn Meter,
) -> Result<Value, String> {
    let data: Vec<_> = data.map(|(root, value)| (root, Prepared(to_cel(value)))).collect();
    execute_prepared(program, base, data.iter().map(|(root, value)| (*root, value)), meter)
}

/// Runs a program on data that several programs read.
///
/// # Errors
///
/// As [`execute`].
pub fn execute_prepared<'a>(
    program: &Program,
    base: &Context<'_, '_>,
    data: impl Iterator<Item = (&'static str, &'a Prepared)>,
    meter: &dyn Meter,
) -> Result<Value, String> {
    let mut context = base.new_inner_scope();
    for (root, value) in data {
        context.add_variable_from_value(root, value.0.clone());
    }
    let result = program.execute(&context).map_err(|error| reason(&error))?;
    from_cel(&result, meter)
}

// === impl Prepared ===

impl Prepared {
    /// Prepares a value.
    pub fn of(value: &Value) -> Self {
        Self(to_cel(value))
    }
}

// === impl Cost ===

impl Cost {
    /// Returns how much work the expression is on the data that `get` gives for each of `roots`, in nodes.
    ///
    /// # Errors
    ///
    /// A sentence when it would put together more data than it may.
    pub fn work<'a>(
        &self,
        roots: &[&'static str],
        get: impl Fn(&'static str) -> &'a Value,
    ) -> Result<u64, String> {
        let mut longest = self.nodes;
        let (mut bytes, mut values) = (0, 0);
        for root in roots {
            measure(get(root), &mut longest, &mut bytes, &mut values);
        }
        let per_step = self.nodes.saturating_mul(1 + bytes / BYTES_PER_NODE);
        let work = per_step
            .saturating_mul(self.rounds(longest))
            .saturating_add(self.patterns.saturating_mul(PATTERN_WORK))
            .saturating_add(values * WORK_PER_VALUE);
        let joined = self.joined.iter().map(|((root, keys), loops)| {
            let value = keys.iter().try_fold(get(root), |value, key| value.get(key));
            (0..*loops).fold(value.map_or(0, weigh), |sum, _| sum.saturating_mul(longest.max(1)))
        });
        if joined.fold(0, u64::saturating_add) > MAX_JOINED_BYTES {
            return Err("it would put together too much data".to_owned());
        }
        Ok(work)
    }

    /// Returns how often its innermost part runs when no list is longer than `longest`.
    pub fn rounds(&self, longest: u64) -> u64 {
        (0..self.loops).fold(1, |rounds: u64, _| rounds.saturating_mul(longest.max(1)))
    }
}

/// Returns about how much memory a value takes, in bytes.
pub fn weigh(value: &Value) -> u64 {
    VALUE_BYTES
        + match value {
            Value::String(text) => text.len() as u64,
            Value::Array(items) => items.iter().map(weigh).sum(),
            Value::Object(fields) => {
                let weigh = |(name, field): (&String, &Value)| VALUE_BYTES + name.len() as u64 + weigh(field);
                MAP_BYTES + fields.iter().map(weigh).sum::<u64>()
            }
            _ => 0,
        }
}

/// Recognises `root.key.key` and `root["key"]`.
pub fn path(expression: &IdedExpr) -> Option<(&str, Vec<String>)> {
    match &expression.expr {
        Expr::Ident(name) => Some((name, Vec::new())),
        Expr::Select(select) if !select.test => {
            let (root, mut keys) = path(&select.operand)?;
            keys.push(select.field.clone());
            Some((root, keys))
        }
        Expr::Call(call) if call.func_name == "_[_]" && call.target.is_none() => {
            let [operand, index] = call.args.as_slice() else { return None };
            let Expr::Literal(LiteralValue::String(key)) = &index.expr else { return None };
            let (root, mut keys) = path(operand)?;
            keys.push(key.inner().to_owned());
            Some((root, keys))
        }
        _ => None,
    }
}

/// Recognises a path that begins with one of `roots`.
pub fn path_from(expression: &IdedExpr, roots: &[&'static str]) -> Option<Path> {
    let (root, keys) = path(expression)?;
    Some((roots.iter().copied().find(|known| *known == root)?, keys))
}

/// Collects the keys that an expression reads directly below a root: of `globals.a.b + globals["c"]` these are `a` and `c`.
/// Tells whether it reads the root in another way, too, so that it may read any key: whole, or by a key that it computes.
pub fn keys_below(expression: &IdedExpr, root: &str, keys: &mut BTreeSet<String>) -> bool {
    if let Some((of, path)) = path(expression) {
        match path.into_iter().next() {
            Some(key) if of == root => drop(keys.insert(key)),
            Some(_) => {}
            None => return of == root,
        }
        return false;
    }
    let mut any = false;
    let mut visit = |inner: &IdedExpr| any |= keys_below(inner, root, keys);
    match &expression.expr {
        Expr::Select(select) => match path(&select.operand) {
            // `has(globals.a)`.
            Some((of, above)) if of == root && above.is_empty() => drop(keys.insert(select.field.clone())),
            _ => visit(&select.operand),
        },
        Expr::Call(call) => call.target.iter().map(|it| &**it).chain(&call.args).for_each(visit),
        Expr::List(list) => list.elements.iter().for_each(visit),
        Expr::Map(map) => map.entries.iter().for_each(|entry| match &entry.expr {
            EntryExpr::StructField(field) => visit(&field.value),
            EntryExpr::MapEntry(entry) => {
                visit(&entry.key);
                visit(&entry.value);
            }
        }),
        Expr::Comprehension(it) => {
            [&it.iter_range, &it.accu_init, &it.loop_cond, &it.loop_step, &it.result]
                .into_iter()
                .for_each(visit);
        }
        _ => {}
    }
    any
}

/// Says what went wrong without the values that it went wrong with.
fn reason(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(_) => "a field that it reads is not there",
        ExecutionError::NoSuchOverload(_)
        | ExecutionError::UnexpectedType { .. }
        | ExecutionError::UnsupportedBinaryOperator(..)
        | ExecutionError::UnsupportedIndex(..) => "a value has another type than it needs",
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "it divides by zero",
        ExecutionError::Overflow(..) => "a number is too large",
        ExecutionError::IndexOutOfBounds(_) => "a list is shorter than it needs",
        _ => "it does not fit the data",
    }
    .to_owned()
}

fn to_cel(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(value) => cel::Value::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(value), _, _) => cel::Value::Int(value),
            (_, Some(value), _) => cel::Value::UInt(value),
            (_, _, value) => cel::Value::Float(value.unwrap_or_default()),
        },
        Value::String(text) => cel::Value::from(text.as_str()),
        Value::Array(items) => cel::Value::from(items.iter().map(to_cel).collect::<Vec<_>>()),
        Value::Object(fields) => {
            let fields: std::collections::HashMap<String, cel::Value> =
                fields.iter().map(|(name, value)| (name.clone(), to_cel(value))).collect();
            cel::Value::from(fields)
        }
    }
}

/// Turns a result into JSON; the keys of maps come in order, since CEL's have none. Lists and maps in a result may
/// share their parts, and JSON repeats them: each is paid for before it is copied.
fn from_cel(value: &cel::Value, meter: &dyn Meter) -> Result<Value, String> {
    meter.spend_text(if let cel::Value::String(text) = value { text } else { "" })?;
    Ok(match value {
        cel::Value::Null => Value::Null,
        cel::Value::Bool(value) => Value::Bool(*value),
        cel::Value::Int(value) => (*value).into(),
        cel::Value::UInt(value) => (*value).into(),
        cel::Value::Float(value) => serde_json::Number::from_f64(*value)
            .map(Value::Number)
            .ok_or("the result is no number that JSON can hold")?,
        cel::Value::String(text) => Value::String(text.to_string()),
        cel::Value::List(items) => {
            Value::Array(items.iter().map(|item| from_cel(item, meter)).collect::<Result<_, _>>()?)
        }
        cel::Value::Map(map) => {
            let mut fields: Vec<(String, Value)> = map
                .map
                .iter()
                .map(|(key, value)| {
                    let key = key.to_string();
                    meter.spend_text(&key)?;
                    Ok((key, from_cel(value, meter)?))
                })
                .collect::<Result<_, String>>()?;
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(Map::from_iter(fields))
        }
        _ => return Err("the result is nothing that JSON can hold".to_owned()),
    })
}

/// Refuses what would nest so deep that parsing it could exhaust the stack: the parser recurses, and so does whoever
/// walks or drops what it made. Returns the depth of its brackets and the number of its operators.
fn check_shape(source: &str) -> Result<(usize, usize), String> {
    let (mut open, mut deepest, mut unary, mut operators) = (0_usize, 0_usize, 0_usize, 0_usize);
    let mut code = Code::of(source);
    while let Some((_, byte)) = code.next_byte()? {
        unary = match byte {
            b'!' | b'-' => unary + 1,
            _ if byte.is_ascii_whitespace() => unary,
            _ => 0,
        };
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            b'+' | b'-' | b'*' | b'/' | b'%' | b'?' | b'.' | b'&' | b'|' | b'<' | b'>' | b'=' => {
                operators += 1
            }
            _ => {}
        }
        deepest = deepest.max(open);
        if deepest > MAX_BRACKETS || unary > MAX_UNARY || operators > MAX_OPERATORS {
            return Err("the expression is too deep or too long: split it over several steps".to_owned());
        }
    }
    Ok((deepest, operators))
}

/// Finds the length of the longest container, the number of bytes of text and the number of values in a value.
fn measure(value: &Value, longest: &mut u64, bytes: &mut u64, values: &mut u64) {
    *values += 1;
    match value {
        Value::String(text) => *bytes += text.len() as u64,
        Value::Array(items) => {
            *longest = (*longest).max(items.len() as u64);
            items.iter().for_each(|item| measure(item, longest, bytes, values));
        }
        Value::Object(fields) => {
            *longest = (*longest).max(fields.len() as u64);
            fields.values().for_each(|field| measure(field, longest, bytes, values));
        }
        _ => *bytes += 8,
    }
}

/// Cuts a text to a length that fits an error message.
pub fn cut(text: &str) -> String {
    if text.chars().count() <= 80 { text.to_owned() } else { text.chars().take(79).chain(['…']).collect() }
}

fn first_line(text: &str) -> String {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it is not an expression").to_owned()
}

/// Names the nearest known word, or all of them when none is near.
pub fn nearest(word: &str, known: &[&str]) -> String {
    match known.iter().map(|known| (strsim::damerau_levenshtein(word, known), known)).min() {
        Some((distance, known)) if distance <= 2 => format!("did you mean `{known}`?"),
        _ => format!("there are {}", known.join(", ")),
    }
}
