//! Expressions: the Common Expression Language, checked when a pipeline is saved and bounded when it runs.
//!
//! A path such as `message.body.user` is read straight from the JSON; only other expressions go through the
//! interpreter. CEL has no loops but the comprehensions (`map`, `filter`, `all`, `exists`), so the work of an expression
//! is bounded by its size, the data that it sees, and how deep its comprehensions nest. [`MAX_WORK`] bounds that
//! product before anything runs.

use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue};
use cel::extractors::This;
use cel::{Context, ExecutionError, Program};
use serde_json::{Map, Value};
use tollgate_credential::passwords::{self, Password};

use crate::budget::{self, Budget, MAX_STEP_BYTES};
use crate::lexer::Code;
use crate::patterns;
use crate::values::Values;

/// Longest expression, in bytes.
const MAX_BYTES: usize = 4096;
/// Deepest nesting of an expression: the interpreter recurses on the thread that serves the call.
const MAX_DEPTH: usize = 32;
/// Deepest nesting of brackets.
const MAX_BRACKETS: usize = 24;
/// Longest run of `!` and `-`.
const MAX_UNARY: usize = 4;
/// Most operators and selections.
const MAX_OPERATORS: usize = 200;
/// Deepest nesting of comprehensions.
const MAX_LOOPS: u32 = 3;
/// Most work that one expression may cost: about a quarter of a second.
const MAX_WORK: u64 = 20_000_000;
/// Work of making one regular expression.
const PATTERN_WORK: u64 = 2_000_000;
/// Most data that the `+` of an expression may put together: the largest body, and some.
const MAX_JOINED_BYTES: u64 = 128 << 20;
/// Work of handing one value to the interpreter.
const WORK_PER_VALUE: u64 = 6;
/// Bytes of data that are read in the time of one node of an expression.
const BYTES_PER_NODE: u64 = 256;

/// Brackets, operators and bytes that are parsed on any stack; the parser needs up to 160 kB of it for one bracket.
const SHALLOW: (usize, usize, usize) = (4, 40, 512);
/// The stack for parsing more than that, enough for the parser's own limit on recursion.
const ROOMY_STACK_BYTES: usize = 64 << 20;

/// Names that an expression may begin with.
const ROOTS: [&str; 6] = ["message", "globals", "accounts", "claims", "consumer", "metadata"];
/// Functions that an expression may call; operators are not listed.
const FUNCTIONS: [&str; 14] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    MATCHES,
    "string",
    "int",
    "uint",
    "double",
    "bytes",
    "type",
    "dyn",
    "bool",
    VERIFY_PASSWORD,
];
const VERIFY_PASSWORD: &str = "verifyPassword";
const MATCHES: &str = "matches";

/// A checked expression.
#[derive(Debug)]
pub(crate) struct Expression {
    source: String,
    kind: Kind,
    roots: Vec<&'static str>,
    fields: Vec<String>,
    nodes: u64,
    loops: u32,
    /// Patterns that are made anew in each run.
    patterns: u64,
    /// What a `+` joins, and how deep it stands in comprehensions: there it joins it again in every turn.
    joined: Vec<(Path, u32)>,
    slow: bool,
}

/// A root and the keys below it.
type Path = (&'static str, Vec<String>);

#[derive(Debug)]
enum Kind {
    /// `message.body.user`: the root and the keys below it.
    Path(&'static str, Vec<String>),
    Program(Arc<Program>),
}

/// What names stand for while an expression runs.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) message: &'a Value,
    pub(crate) values: &'a Values,
    pub(crate) claims: &'a Value,
    pub(crate) consumer: &'a Value,
    pub(crate) metadata: &'a Value,
    pub(crate) budget: &'a Budget,
}

/// An expression taken together with the data that it names, to run elsewhere.
pub(crate) struct Detached {
    program: Arc<Program>,
    data: Vec<(&'static str, Value)>,
}

/// Why an expression gave no value. Holds no data of the call: it goes to the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expression `{source_text}`: {reason}")]
pub(crate) struct EvaluateError {
    source_text: String,
    reason: String,
}

static ROOT: LazyLock<Context<'static, 'static>> = LazyLock::new(|| {
    let mut context = Context::default();
    let added = context.add_function(VERIFY_PASSWORD, |password: Arc<String>, hash: Arc<String>| {
        Password::parse(&password).is_ok_and(|password| passwords::verify(&password, Some(&hash)))
    });
    debug_assert!(added.is_ok(), "the standard library has no function of this name");
    let added = context.add_function(MATCHES, |This(text): This<Arc<String>>, pattern: Arc<String>| {
        patterns::is_match(&text, &pattern)
            .ok_or_else(|| ExecutionError::function_error(MATCHES, "not a regular expression"))
    });
    debug_assert!(added.is_ok(), "the library's own is left out");
    context
});

// === impl Expression ===

impl Expression {
    /// Parses and checks an expression.
    ///
    /// # Errors
    ///
    /// A sentence for the author.
    pub(crate) fn parse(source: &str) -> Result<Self, String> {
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
            return Self::parse_here(source);
        }
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .stack_size(ROOMY_STACK_BYTES)
                .spawn_scoped(scope, || Self::parse_here(source))
                .ok()
                .and_then(|parsing| parsing.join().ok())
                .unwrap_or_else(|| Err("the expression cannot be checked: make it simpler".to_owned()))
        })
    }

    fn parse_here(source: &str) -> Result<Self, String> {
        let program = Program::compile(source).map_err(|error| {
            format!("expression `{}` does not parse: {}", cut(source), first_line(&error.to_string()))
        })?;
        let mut checker = Checker {
            bound: Vec::new(),
            roots: Vec::new(),
            fields: Vec::new(),
            nodes: 0,
            loops: 0,
            patterns: 0,
            joined: Vec::new(),
            slow: false,
        };
        checker.visit(program.expression(), 0, 0)?;
        let kind = match path(program.expression()) {
            Some((root, keys)) => Kind::Path(root, keys),
            None => Kind::Program(Arc::new(program)),
        };
        let Checker { roots, fields, nodes, loops, patterns, joined, slow, .. } = checker;
        Ok(Self { source: source.to_owned(), kind, roots, fields, nodes, loops, patterns, joined, slow })
    }

    /// Tells whether it hashes a password, which must not happen on a thread that serves calls.
    pub(crate) fn is_slow(&self) -> bool {
        self.slow
    }

    /// Tells whether all that it reads was set by operators, not by callers.
    pub(crate) fn is_trusted(&self) -> bool {
        self.roots.iter().all(|root| matches!(*root, "globals" | "accounts" | "metadata"))
    }

    /// Returns the names of the fields that it reads, for masking sensitive ones: what it gives may be made of any.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(String::as_str)
    }

    /// Evaluates the expression here.
    pub(crate) fn evaluate(&self, scope: &Scope<'_>) -> Result<Value, EvaluateError> {
        match &self.kind {
            Kind::Path(root, keys) => {
                let mut value = scope.get(root);
                for key in keys {
                    value = match value {
                        Value::Object(fields) => fields.get(key),
                        _ => None,
                    }
                    .ok_or_else(|| self.error(format!("there is no `{}`", cut(key))))?;
                }
                scope.budget.spend_value(value).map_err(|reason| self.error(reason))?;
                Ok(value.clone())
            }
            Kind::Program(program) => {
                self.check_work(scope)?;
                let data = self.roots.iter().map(|root| (*root, scope.get(root)));
                execute(program, data, scope.budget).map_err(|reason| self.error(reason))
            }
        }
    }

    /// Takes the expression and the data that it names, to evaluate it on another thread.
    pub(crate) fn detach(&self, scope: &Scope<'_>) -> Result<Detached, EvaluateError> {
        self.check_work(scope)?;
        let program = match &self.kind {
            Kind::Program(program) => Arc::clone(program),
            Kind::Path(..) => return Err(self.error("it hashes no password".to_owned())),
        };
        Ok(Detached {
            program,
            data: self.roots.iter().map(|root| (*root, scope.get(root).clone())).collect(),
        })
    }

    pub(crate) fn error(&self, reason: String) -> EvaluateError {
        EvaluateError { source_text: cut(&self.source), reason }
    }

    /// Refuses before it starts what could take too long.
    fn check_work(&self, scope: &Scope<'_>) -> Result<(), EvaluateError> {
        let mut longest = self.nodes;
        let (mut bytes, mut values) = (0, 0);
        for root in &self.roots {
            measure(scope.get(root), &mut longest, &mut bytes, &mut values);
        }
        let per_step = self.nodes.saturating_mul(1 + bytes / BYTES_PER_NODE);
        let work = (0..self.loops).fold(per_step, |work, _| work.saturating_mul(longest.max(1)));
        let work = work
            .saturating_add(self.patterns.saturating_mul(PATTERN_WORK))
            .saturating_add(values * WORK_PER_VALUE);
        let joined = self.joined.iter().map(|((root, keys), loops)| {
            let value = keys.iter().try_fold(scope.get(root), |value, key| value.get(key));
            (0..*loops).fold(value.map_or(0, budget::weigh), |sum, _| sum.saturating_mul(longest.max(1)))
        });
        if joined.fold(0, u64::saturating_add) > MAX_JOINED_BYTES {
            return Err(self.error("it would put together too much data".to_owned()));
        }
        if work > MAX_WORK {
            Err(self.error("it would take too long on this much data".to_owned()))
        } else {
            scope.budget.spend_work(work).map_err(|reason| self.error(reason))
        }
    }
}

// === impl EvaluateError ===

impl EvaluateError {
    /// Makes the error of a step that has spent its budget outside of an expression.
    pub(crate) fn of_step(reason: String) -> Self {
        Self { source_text: "{{ … }}".to_owned(), reason }
    }
}

// === impl Detached ===

impl Detached {
    /// Evaluates the expression.
    pub(crate) fn evaluate(&self) -> Result<Value, String> {
        let data = self.data.iter().map(|(root, value)| (*root, value));
        execute(&self.program, data, &Budget::new(MAX_STEP_BYTES))
    }
}

// === impl Scope ===

impl<'a> Scope<'a> {
    fn get(&self, root: &str) -> &'a Value {
        match root {
            "message" => self.message,
            "globals" => &self.values.globals,
            "accounts" => &self.values.accounts,
            "claims" => self.claims,
            "consumer" => self.consumer,
            _ => self.metadata,
        }
    }
}

fn execute<'a>(
    program: &Program,
    data: impl Iterator<Item = (&'static str, &'a Value)>,
    budget: &Budget,
) -> Result<Value, String> {
    let mut context = ROOT.new_inner_scope();
    for (root, value) in data {
        context.add_variable_from_value(root, to_cel(value));
    }
    let result = program.execute(&context).map_err(|error| reason(&error))?;
    from_cel(&result, budget)
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
fn from_cel(value: &cel::Value, budget: &Budget) -> Result<Value, String> {
    budget.spend_text(if let cel::Value::String(text) = value { text } else { "" })?;
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
            Value::Array(items.iter().map(|item| from_cel(item, budget)).collect::<Result<_, _>>()?)
        }
        cel::Value::Map(map) => {
            let mut fields: Vec<(String, Value)> = map
                .map
                .iter()
                .map(|(key, value)| {
                    let key = key.to_string();
                    budget.spend_text(&key)?;
                    Ok((key, from_cel(value, budget)?))
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
    while let Some((_, byte)) = code.next()? {
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

/// Recognises `root.key.key` and `root["key"]`.
fn path(expression: &IdedExpr) -> Option<Path> {
    match &expression.expr {
        Expr::Ident(name) => Some((ROOTS.into_iter().find(|root| root == name)?, Vec::new())),
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

/// Finds the paths whose values, or parts of them, may be in what an expression gives.
fn given(expression: &IdedExpr, paths: &mut Vec<Path>) {
    if let Some(path) = path(expression) {
        paths.push(path);
        return;
    }
    match &expression.expr {
        Expr::Select(select) => given(&select.operand, paths),
        Expr::List(list) => list.elements.iter().for_each(|element| given(element, paths)),
        Expr::Map(map) => map.entries.iter().for_each(|entry| match &entry.expr {
            EntryExpr::StructField(field) => given(&field.value, paths),
            EntryExpr::MapEntry(entry) => given(&entry.value, paths),
        }),
        Expr::Comprehension(it) => {
            given(&it.iter_range, paths);
            given(&it.loop_step, paths);
        }
        Expr::Call(call)
            if matches!(call.func_name.as_str(), "_+_" | "_?_:_" | "_[_]" | "dyn" | "string" | "bytes") =>
        {
            call.target.iter().for_each(|target| given(target, paths));
            call.args.iter().for_each(|argument| given(argument, paths));
        }
        _ => {}
    }
}

fn cut(text: &str) -> String {
    if text.chars().count() <= 80 { text.to_owned() } else { text.chars().take(79).chain(['…']).collect() }
}

fn first_line(text: &str) -> String {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it is not an expression").to_owned()
}

fn nearest(word: &str, known: &[&str]) -> String {
    match known.iter().map(|known| (strsim::damerau_levenshtein(word, known), known)).min() {
        Some((distance, known)) if distance <= 2 => format!("did you mean `{known}`?"),
        _ => format!("there are {}", known.join(", ")),
    }
}

/// Walks an expression and finds what it names, calls and costs.
struct Checker {
    /// Variables of the comprehensions around.
    bound: Vec<String>,
    roots: Vec<&'static str>,
    fields: Vec<String>,
    nodes: u64,
    loops: u32,
    patterns: u64,
    joined: Vec<(Path, u32)>,
    slow: bool,
}

// === impl Checker ===

impl Checker {
    fn visit(&mut self, expression: &IdedExpr, depth: usize, loops: u32) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("the expression is nested more than {MAX_DEPTH} deep"));
        }
        if loops > MAX_LOOPS {
            return Err(format!(
                "the expression nests map, filter, all or exists more than {MAX_LOOPS} deep"
            ));
        }
        self.nodes += 1;
        self.loops = self.loops.max(loops);
        let depth = depth + 1;
        match &expression.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => {
                self.fields.push(select.field.clone());
                self.visit(&select.operand, depth, loops)
            }
            Expr::Call(call) => {
                self.function(&call.func_name, loops)?;
                if call.func_name == "_[_]"
                    && let Some(Expr::Literal(LiteralValue::String(key))) =
                        call.args.last().map(|index| &index.expr)
                {
                    self.fields.push(key.inner().to_owned());
                }
                // The macro `map` adds to its own list with a `+` that copies nothing.
                let of_macro = matches!(call.args.first().map(|first| &first.expr),
                    Some(Expr::Ident(name)) if name.starts_with('@'));
                if call.func_name == "_+_" && !of_macro {
                    let mut paths = Vec::new();
                    // A sum inside the sum counts what it joins itself.
                    call.args
                        .iter()
                        .filter(
                            |argument| !matches!(&argument.expr, Expr::Call(call) if call.func_name == "_+_"),
                        )
                        .for_each(|argument| given(argument, &mut paths));
                    self.joined.extend(paths.into_iter().map(|path| (path, loops)));
                }
                if call.func_name == MATCHES {
                    self.pattern(call.args.last(), loops)?;
                }
                call.target.iter().try_for_each(|target| self.visit(target, depth, loops))?;
                call.args.iter().try_for_each(|argument| self.visit(argument, depth, loops))
            }
            Expr::List(list) => {
                list.elements.iter().try_for_each(|element| self.visit(element, depth, loops))
            }
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| self.entry(&entry.expr, depth, loops)),
            Expr::Struct(it) => Err(format!("there is no type `{}`", cut(&it.type_name))),
            Expr::Comprehension(it) => {
                self.visit(&it.iter_range, depth, loops)?;
                self.visit(&it.accu_init, depth, loops)?;
                // The elements of a list that is written out may each be a whole message.
                if matches!(it.iter_range.expr, Expr::List(_)) {
                    let mut paths = Vec::new();
                    given(&it.iter_range, &mut paths);
                    self.joined.extend(paths.into_iter().map(|path| (path, loops + 1)));
                }
                let before = self.bound.len();
                self.bound.extend([it.iter_var.clone(), it.accu_var.clone()]);
                self.bound.extend(it.iter_var2.clone());
                for part in [&it.loop_cond, &it.loop_step, &it.result] {
                    self.visit(part, depth, loops + 1)?;
                }
                self.bound.truncate(before);
                Ok(())
            }
        }
    }

    /// Checks the pattern of `matches`, when it stands in the pipeline; else counts what it will cost.
    fn pattern(&mut self, pattern: Option<&IdedExpr>, loops: u32) -> Result<(), String> {
        match pattern.map(|pattern| &pattern.expr) {
            Some(Expr::Literal(LiteralValue::String(pattern))) => {
                patterns::parse(pattern.inner())?;
                Ok(())
            }
            _ if loops > 0 => Err(format!(
                "inside map, filter, all or exists the pattern of {MATCHES} must be written out: making a pattern \
                 is slow"
            )),
            _ => {
                self.patterns += 1;
                Ok(())
            }
        }
    }

    fn entry(&mut self, entry: &EntryExpr, depth: usize, loops: u32) -> Result<(), String> {
        match entry {
            EntryExpr::StructField(field) => self.visit(&field.value, depth, loops),
            EntryExpr::MapEntry(entry) => {
                self.visit(&entry.key, depth, loops)?;
                self.visit(&entry.value, depth, loops)
            }
        }
    }

    fn name(&mut self, name: &str) -> Result<(), String> {
        if self.bound.iter().any(|bound| bound == name) {
            return Ok(());
        }
        let Some(root) = ROOTS.into_iter().find(|root| *root == name) else {
            return Err(format!("unknown name `{}` in an expression: {}", cut(name), nearest(name, &ROOTS)));
        };
        if !self.roots.contains(&root) {
            self.roots.push(root);
        }
        Ok(())
    }

    fn function(&mut self, name: &str, loops: u32) -> Result<(), String> {
        let is_operator = !name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if name == VERIFY_PASSWORD {
            if loops > 0 {
                return Err(format!(
                    "{VERIFY_PASSWORD} cannot stand inside map, filter, all or exists: it is slow on purpose"
                ));
            }
            if std::mem::replace(&mut self.slow, true) {
                return Err(format!(
                    "{VERIFY_PASSWORD} can stand once in an expression: it is slow on purpose"
                ));
            }
        }
        if is_operator || FUNCTIONS.contains(&name) {
            return Ok(());
        }
        Err(format!("unknown function `{}` in an expression: {}", cut(name), nearest(name, &FUNCTIONS)))
    }
}

#[cfg(test)]
mod tests;
