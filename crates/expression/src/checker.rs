//! Walks an expression and finds what it names, calls and costs.

use std::sync::Arc;

use cel::Program;
use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue};

use crate::{Cost, Parsed, Path, Vocabulary, cut, nearest, path_from, patterns};

/// Deepest nesting of an expression: the interpreter recurses on the thread that serves the call.
pub const MAX_DEPTH: usize = 32;
/// Deepest nesting of comprehensions.
const MAX_LOOPS: u32 = 3;

/// Functions that every expression may call; operators are not listed.
const FUNCTIONS: [&str; 13] = [
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
];
pub(crate) const MATCHES: &str = "matches";

pub(crate) fn check(program: Program, vocabulary: &Vocabulary) -> Result<Parsed, String> {
    let mut checker = Checker {
        vocabulary,
        bound: Vec::new(),
        roots: Vec::new(),
        whole: Vec::new(),
        fields: Vec::new(),
        computed_fields: false,
        nodes: 0,
        loops: 0,
        patterns: 0,
        joined: Vec::new(),
        slow: false,
    };
    checker.visit(program.expression(), 0, 0)?;
    let Checker { roots, whole, fields, computed_fields, nodes, loops, patterns, joined, slow, .. } = checker;
    let cost = Cost { nodes, loops, patterns, joined };
    Ok(Parsed { program: Arc::new(program), roots, whole, fields, computed_fields, cost, slow })
}

/// Walks an expression and finds what it names, calls and costs.
struct Checker<'a> {
    vocabulary: &'a Vocabulary,
    /// Variables of the comprehensions around.
    bound: Vec<String>,
    roots: Vec<&'static str>,
    whole: Vec<&'static str>,
    fields: Vec<String>,
    computed_fields: bool,
    nodes: u64,
    loops: u32,
    patterns: u64,
    joined: Vec<(Path, u32)>,
    slow: bool,
}

// === impl Checker ===

impl Checker<'_> {
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
                let before = self.whole.len();
                self.visit(&select.operand, depth, loops)?;
                self.reads_a_field_of(&select.operand, before);
                Ok(())
            }
            Expr::Call(call) => {
                self.function(&call.func_name, loops)?;
                let (before, mut of) = (self.whole.len(), None);
                if call.func_name == "_[_]" {
                    match call.args.last().map(|index| &index.expr) {
                        Some(Expr::Literal(LiteralValue::String(key))) => {
                            self.fields.push(key.inner().to_owned());
                            of = call.args.first();
                        }
                        Some(Expr::Literal(_)) => {}
                        _ => self.computed_fields = true,
                    }
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
                        .for_each(|argument| given(argument, self.vocabulary.roots, &mut paths));
                    self.joined.extend(paths.into_iter().map(|path| (path, loops)));
                }
                if call.func_name == MATCHES {
                    self.pattern(call.args.last(), loops)?;
                }
                call.target.iter().try_for_each(|target| self.visit(target, depth, loops))?;
                call.args.iter().try_for_each(|argument| self.visit(argument, depth, loops))?;
                if let Some(of) = of {
                    self.reads_a_field_of(of, before);
                }
                Ok(())
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
                    given(&it.iter_range, self.vocabulary.roots, &mut paths);
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
        let roots = self.vocabulary.roots;
        let Some(root) = roots.iter().copied().find(|root| *root == name) else {
            return Err(format!("unknown name `{}` in an expression: {}", cut(name), nearest(name, roots)));
        };
        if !self.roots.contains(&root) {
            self.roots.push(root);
        }
        self.whole.push(root);
        Ok(())
    }

    /// Takes back that a root is read whole, once it turns out that a field of it is.
    fn reads_a_field_of(&mut self, operand: &IdedExpr, before: usize) {
        if matches!(operand.expr, Expr::Ident(_)) {
            self.whole.truncate(before);
        }
    }

    fn function(&mut self, name: &str, loops: u32) -> Result<(), String> {
        let is_operator = !name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if is_operator || FUNCTIONS.contains(&name) {
            return Ok(());
        }
        if self.vocabulary.slow != Some(name) {
            let known: Vec<&str> = FUNCTIONS.into_iter().chain(self.vocabulary.slow).collect();
            return Err(format!(
                "unknown function `{}` in an expression: {}",
                cut(name),
                nearest(name, &known)
            ));
        }
        if loops > 0 {
            return Err(format!(
                "{name} cannot stand inside map, filter, all or exists: it is slow on purpose"
            ));
        }
        if std::mem::replace(&mut self.slow, true) {
            return Err(format!("{name} can stand once in an expression: it is slow on purpose"));
        }
        Ok(())
    }
}

/// Finds the paths whose values, or parts of them, may be in what an expression gives.
fn given(expression: &IdedExpr, roots: &[&'static str], paths: &mut Vec<Path>) {
    if let Some(path) = path_from(expression, roots) {
        paths.push(path);
        return;
    }
    match &expression.expr {
        Expr::Select(select) => given(&select.operand, roots, paths),
        Expr::List(list) => list.elements.iter().for_each(|element| given(element, roots, paths)),
        Expr::Map(map) => map.entries.iter().for_each(|entry| match &entry.expr {
            EntryExpr::StructField(field) => given(&field.value, roots, paths),
            EntryExpr::MapEntry(entry) => given(&entry.value, roots, paths),
        }),
        Expr::Comprehension(it) => {
            given(&it.iter_range, roots, paths);
            given(&it.loop_step, roots, paths);
        }
        Expr::Call(call)
            if matches!(call.func_name.as_str(), "_+_" | "_?_:_" | "_[_]" | "dyn" | "string" | "bytes") =>
        {
            call.target.iter().for_each(|target| given(target, roots, paths));
            call.args.iter().for_each(|argument| given(argument, roots, paths));
        }
        _ => {}
    }
}
