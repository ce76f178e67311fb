//! Expressions: the part of JavaScript that prompts use. Pure.

use serde_json::Number;
use serde_json::Value;

use super::scan::closing_brace;

/// The most values and operators of one expression. Reading and evaluating it are recursive.
const MAX_SIZE: usize = 200;

/// An expression: literals, `args`, `env.X`, calls of tools, and a few operators and methods.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// A string, a number, a boolean, or null.
    Literal(Value),
    /// `args`: the list of the arguments.
    Arguments,
    /// `env.X`: a variable of the environment; empty where it is not set.
    Environment(String),
    /// A list.
    List(Vec<Expression>),
    /// An object.
    Object(Vec<(String, Expression)>),
    /// A string in backticks: texts and expressions, joined.
    Joined(Vec<Expression>),
    /// `tool({…})`.
    Call {
        /// The name of the tool.
        tool: String,
        /// The object of its arguments, if there is one.
        arguments: Option<Box<Expression>>,
    },
    /// `list[index]` and `object.key`.
    Index(Box<Expression>, Box<Expression>),
    /// `value.method(…)`; `length` is one without arguments.
    Method(Box<Expression>, Method, Vec<Expression>),
    /// `!value`.
    Not(Box<Expression>),
    /// `-value`.
    Negative(Box<Expression>),
    /// Two values and what is done with them.
    Binary(BinaryOperator, Box<Expression>, Box<Expression>),
    /// `condition ? first : second`.
    Conditional(Box<[Expression; 3]>),
}

/// A method of a list or a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `join(separator)`
    Join,
    /// `slice(begin, end)`
    Slice,
    /// `includes(value)`
    Includes,
    /// `length`
    Length,
    /// `trim()`
    Trim,
    /// `toUpperCase()`
    ToUpperCase,
    /// `toLowerCase()`
    ToLowerCase,
    /// `startsWith(text)`
    StartsWith,
    /// `endsWith(text)`
    EndsWith,
    /// `split(separator)`
    Split,
}

/// An operator between two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryOperator {
    /// `||`
    Or,
    /// `&&`
    And,
    /// `??`
    OrIfNull,
    /// `==` and `===`
    Equal,
    /// `!=` and `!==`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `+`
    Add,
    /// `-`
    Subtract,
}

/// Methods by name.
const METHODS: &[(&str, Method)] = &[
    ("join", Method::Join),
    ("slice", Method::Slice),
    ("includes", Method::Includes),
    ("trim", Method::Trim),
    ("toUpperCase", Method::ToUpperCase),
    ("toLowerCase", Method::ToLowerCase),
    ("startsWith", Method::StartsWith),
    ("endsWith", Method::EndsWith),
    ("split", Method::Split),
];

/// Operators by their binding strength, weakest first; in each level longer ones before their beginnings.
const LEVELS: &[&[(&str, BinaryOperator)]] = &[
    &[("??", BinaryOperator::OrIfNull)],
    &[("||", BinaryOperator::Or)],
    &[("&&", BinaryOperator::And)],
    &[
        ("===", BinaryOperator::Equal),
        ("==", BinaryOperator::Equal),
        ("!==", BinaryOperator::NotEqual),
        ("!=", BinaryOperator::NotEqual),
    ],
    &[
        ("<=", BinaryOperator::LessOrEqual),
        ("<", BinaryOperator::Less),
        (">=", BinaryOperator::GreaterOrEqual),
        (">", BinaryOperator::Greater),
    ],
    &[("+", BinaryOperator::Add), ("-", BinaryOperator::Subtract)],
];

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    ///
    /// What is not understood, as a fragment of a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: text, size: 0 };
        let expression = parser.expression()?;
        match parser.skipped().chars().next() {
            None => Ok(expression),
            Some(_) => Err(parser.unexpected()),
        }
    }

    /// Calls `visitor` for this expression and each one in it.
    pub(super) fn visit<'e>(&'e self, visitor: &mut dyn FnMut(&'e Self)) {
        visitor(self);
        match self {
            Self::Literal(_) | Self::Arguments | Self::Environment(_) => {}
            Self::List(items) | Self::Joined(items) => items.iter().for_each(|item| item.visit(visitor)),
            Self::Object(entries) => entries.iter().for_each(|(_, value)| value.visit(visitor)),
            Self::Call { arguments, .. } => arguments.iter().for_each(|value| value.visit(visitor)),
            Self::Index(of, index) => {
                of.visit(visitor);
                index.visit(visitor);
            }
            Self::Method(of, _, arguments) => {
                of.visit(visitor);
                arguments.iter().for_each(|value| value.visit(visitor));
            }
            Self::Not(value) | Self::Negative(value) => value.visit(visitor),
            Self::Binary(_, left, right) => {
                left.visit(visitor);
                right.visit(visitor);
            }
            Self::Conditional(three) => three.iter().for_each(|value| value.visit(visitor)),
        }
    }
}

/// Reads from the front of a text.
struct Parser<'t> {
    rest: &'t str,
    /// The values and operators so far.
    size: usize,
}

impl<'t> Parser<'t> {
    /// Skips whitespace; returns what is left.
    fn skipped(&mut self) -> &'t str {
        self.rest = self.rest.trim_start();
        self.rest
    }

    /// Takes this token if it is the next.
    fn take(&mut self, token: &str) -> bool {
        match self.skipped().strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.take(token) { Ok(()) } else { Err(format!("expected `{token}`, {}", self.unexpected())) }
    }

    /// What stands here instead of what is understood.
    fn unexpected(&mut self) -> String {
        let here: String = self.skipped().chars().take(20).collect();
        if here.is_empty() { "it ends too early".to_owned() } else { format!("`{here}` is not understood") }
    }

    /// Counts a value or an operator.
    fn count(&mut self) -> Result<(), String> {
        self.size += 1;
        if self.size > MAX_SIZE { Err("it is too long".to_owned()) } else { Ok(()) }
    }

    fn expression(&mut self) -> Result<Expression, String> {
        self.count()?;
        let condition = self.binary(0)?;
        if !self.take("?") {
            return Ok(condition);
        }
        let first = self.expression()?;
        self.expect(":")?;
        Ok(Expression::Conditional(Box::new([condition, first, self.expression()?])))
    }

    fn binary(&mut self, level: usize) -> Result<Expression, String> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while let Some((_, operator)) = operators.iter().find(|(token, _)| self.take(token)) {
            self.count()?;
            left = Expression::Binary(*operator, Box::new(left), Box::new(self.binary(level + 1)?));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expression, String> {
        let (mut nots, mut negatives) = (0, 0);
        loop {
            if self.take("!") {
                nots += 1;
            } else if nots == 0 && self.take("-") {
                negatives += 1;
            } else {
                break;
            }
            self.count()?;
        }
        let mut value = self.postfix()?;
        for _ in 0..nots {
            value = Expression::Not(Box::new(value));
        }
        for _ in 0..negatives {
            value = Expression::Negative(Box::new(value));
        }
        Ok(value)
    }

    /// A value with its members, indices and methods.
    fn postfix(&mut self) -> Result<Expression, String> {
        let mut value = self.primary()?;
        loop {
            self.count()?;
            if self.take("[") {
                let index = self.expression()?;
                self.expect("]")?;
                value = Expression::Index(Box::new(value), Box::new(index));
            } else if self.take("?.") || self.take(".") {
                value = self.member(value)?;
            } else {
                return Ok(value);
            }
        }
    }

    fn member(&mut self, of: Expression) -> Result<Expression, String> {
        let Some(name) = self.word() else { return Err(self.unexpected()) };
        if !self.skipped().starts_with('(') {
            return Ok(match name {
                "length" => Expression::Method(Box::new(of), Method::Length, Vec::new()),
                _ => Expression::Index(Box::new(of), Box::new(Expression::Literal(name.into()))),
            });
        }
        let Some((_, method)) = METHODS.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = METHODS.iter().map(|(known, _)| *known).collect();
            return Err(format!("the method `{name}` is unknown (known: {})", known.join(", ")));
        };
        let arguments = self.list("(", ")")?;
        Ok(Expression::Method(Box::new(of), *method, arguments))
    }

    fn primary(&mut self) -> Result<Expression, String> {
        let here = self.skipped();
        match here.chars().next() {
            Some('"' | '\'') => Ok(Expression::Literal(self.string()?.into())),
            Some('`') => self.joined(),
            Some('[') => Ok(Expression::List(self.list("[", "]")?)),
            Some('{') => self.object(),
            Some('(') => {
                self.expect("(")?;
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            Some(c) if c.is_ascii_digit() => self.number(),
            _ => match self.word() {
                Some(word) => self.named(word),
                None => Err(self.unexpected()),
            },
        }
    }

    /// A word of letters, digits, `_` and `$` that does not begin with a digit.
    fn word(&mut self) -> Option<&'t str> {
        let here = self.skipped();
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        let end = here.find(|c| !is_part(c)).unwrap_or(here.len());
        let word = &here[..end];
        if word.is_empty() || word.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        self.rest = &here[end..];
        Some(word)
    }

    /// A literal word, a variable, or a call of a tool.
    fn named(&mut self, word: &str) -> Result<Expression, String> {
        match word {
            "true" => return Ok(Expression::Literal(true.into())),
            "false" => return Ok(Expression::Literal(false.into())),
            "null" | "undefined" => return Ok(Expression::Literal(Value::Null)),
            "args" => return Ok(Expression::Arguments),
            "env" => return self.variable(),
            _ => {}
        }
        if !self.skipped().starts_with('(') {
            return Err(format!(
                "the name `{word}` is unknown (known: `args`, `env`, and `{word}(…)` for a tool)"
            ));
        }
        let mut arguments = self.list("(", ")")?;
        if arguments.len() > 1 {
            return Err(format!("`{word}(…)` takes one object, as in `{word}({{key: value}})`"));
        }
        let arguments = arguments.pop().map(Box::new);
        if let Some(Expression::Literal(_) | Expression::List(_) | Expression::Joined(_)) =
            arguments.as_deref()
        {
            return Err(format!("`{word}(…)` takes an object, as in `{word}({{key: value}})`"));
        }
        Ok(Expression::Call { tool: word.to_owned(), arguments })
    }

    fn variable(&mut self) -> Result<Expression, String> {
        if self.take(".") {
            return match self.word() {
                Some(name) => Ok(Expression::Environment(name.to_owned())),
                None => Err(self.unexpected()),
            };
        }
        self.expect("[")?;
        self.skipped();
        let name = self.string()?;
        self.expect("]")?;
        Ok(Expression::Environment(name))
    }

    /// Expressions between two brackets, separated by commas.
    fn list(&mut self, open: &str, close: &str) -> Result<Vec<Expression>, String> {
        self.expect(open)?;
        let mut items = Vec::new();
        while !self.take(close) {
            items.push(self.expression()?);
            if !self.take(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(items)
    }

    fn object(&mut self) -> Result<Expression, String> {
        self.expect("{")?;
        let mut entries = Vec::new();
        while !self.take("}") {
            let key = match self.skipped().chars().next() {
                Some('"' | '\'') => self.string()?,
                _ => match self.word() {
                    Some(word) => word.to_owned(),
                    None => return Err(self.unexpected()),
                },
            };
            self.expect(":")?;
            entries.push((key, self.expression()?));
            if !self.take(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(Expression::Object(entries))
    }

    fn number(&mut self) -> Result<Expression, String> {
        let here = self.skipped();
        let end = here.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(here.len());
        let (digits, rest) = here.split_at(end);
        let number = digits
            .parse::<i64>()
            .map(Number::from)
            .ok()
            .or_else(|| digits.parse::<f64>().ok().and_then(Number::from_f64));
        let number = number.ok_or_else(|| format!("`{digits}` is not a number"))?;
        self.rest = rest;
        Ok(Expression::Literal(Value::Number(number)))
    }

    /// A string in single or double quotes.
    fn string(&mut self) -> Result<String, String> {
        let Some(quote @ ('"' | '\'')) = self.rest.chars().next() else { return Err(self.unexpected()) };
        let mut text = String::new();
        let mut chars = self.rest[1..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                _ if c == quote => {
                    self.rest = &self.rest[1 + at + 1..];
                    return Ok(text);
                }
                '\\' => text.extend(chars.next().map(|(_, c)| unescaped(c))),
                _ => text.push(c),
            }
        }
        Err("a string is not closed".to_owned())
    }

    /// A string in backticks.
    fn joined(&mut self) -> Result<Expression, String> {
        let mut rest = &self.skipped()[1..];
        let (mut parts, mut text) = (Vec::new(), String::new());
        loop {
            if let Some(inner) = rest.strip_prefix("${") {
                let end = closing_brace(inner).ok_or("an expression is not closed")?;
                let mut nested = Parser { rest: &inner[..end], size: self.size };
                let expression = nested.expression()?;
                self.size = nested.size;
                if !nested.skipped().is_empty() {
                    return Err(nested.unexpected());
                }
                parts.push(Expression::Literal(std::mem::take(&mut text).into()));
                parts.push(expression);
                rest = &inner[end + 1..];
                continue;
            }
            let mut chars = rest.chars();
            match chars.next() {
                None => return Err("a string is not closed".to_owned()),
                Some('`') => {
                    parts.push(Expression::Literal(text.into()));
                    self.rest = chars.as_str();
                    return Ok(Expression::Joined(parts));
                }
                Some('\\') => text.extend(chars.next().map(unescaped)),
                Some(c) => text.push(c),
            }
            rest = chars.as_str();
        }
    }
}

/// The character that a backslash before `c` stands for.
fn unescaped(c: char) -> char {
    match c {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        '0' => '\0',
        other => other,
    }
}
