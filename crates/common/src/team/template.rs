//! The prompts of `commands`: text with expressions and tool calls in it. Pure: the caller has the values and the tools.
//!
//! `${…}` is an expression in a part of JavaScript: see [`Expression`]. `!tool(key=value)` is a call of a tool. What looks
//! like one of these but cannot be read stays in the text as it is written, and is a problem.

mod expression;
mod scan;

pub use self::expression::BinaryOperator;
pub use self::expression::Expression;
pub use self::expression::Method;
use self::scan::closing_brace;
use self::scan::closing_parenthesis;

/// The most problems of one template. Each may cost a scan of the whole text, so the rest of a text with more is plain.
const MAX_PROBLEMS: usize = 50;

/// A prompt template.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Template {
    /// The parts of the text, in order.
    pub parts: Vec<TemplatePart>,
    /// What cannot be read and stays as it is written, each a sentence.
    pub problems: Vec<String>,
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
pub enum TemplatePart {
    /// Plain text.
    Text(String),
    /// The value of an expression.
    Value(Expression),
    /// The output of a tool.
    Call(BangCall),
}

/// `!tool(key=value …)`.
#[derive(Debug, Clone, PartialEq)]
pub struct BangCall {
    /// The name of the tool.
    pub tool: String,
    /// The arguments by name, in order.
    pub arguments: Vec<BangArgument>,
}

/// An argument of a `!tool(…)` call.
#[derive(Debug, Clone, PartialEq)]
pub struct BangArgument {
    /// The name.
    pub name: String,
    /// The value: texts and expressions, joined.
    pub value: Vec<TemplatePart>,
    /// Whether any of it is quoted. An unquoted `5` or `true` is a number or a boolean.
    pub is_quoted: bool,
}

impl Template {
    /// Reads the text of a prompt.
    pub fn parse(text: &str) -> Self {
        let mut template = Self::default();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['$', '!']) {
            plain.push_str(&rest[..at]);
            rest = &rest[at..];
            if template.problems.len() >= MAX_PROBLEMS {
                break;
            }
            match special(rest, &mut template.problems) {
                Some((part, after)) => {
                    template.push_text(&mut plain);
                    template.parts.push(part);
                    rest = after;
                }
                None => {
                    plain.push_str(&rest[..1]);
                    rest = &rest[1..];
                }
            }
        }
        plain.push_str(rest);
        template.push_text(&mut plain);
        template
    }

    fn push_text(&mut self, plain: &mut String) {
        if !plain.is_empty() {
            self.parts.push(TemplatePart::Text(std::mem::take(plain)));
        }
    }

    /// Whether any part reads the arguments. The arguments are appended to the text of a template that reads none.
    pub fn reads_arguments(&self) -> bool {
        let mut found = false;
        self.visit(&mut |expression| found |= matches!(expression, Expression::Arguments));
        found
    }

    /// The names of the tools that the template calls, in order.
    pub fn tools(&self) -> Vec<&str> {
        let mut tools = Vec::new();
        for part in &self.parts {
            if let TemplatePart::Call(call) = part {
                tools.push(call.tool.as_str());
            }
        }
        self.visit(&mut |expression| {
            if let Expression::Call { tool, .. } = expression {
                tools.push(tool);
            }
        });
        tools
    }

    /// Calls `visitor` for each expression, nested ones included.
    fn visit<'t>(&'t self, visitor: &mut dyn FnMut(&'t Expression)) {
        for part in &self.parts {
            match part {
                TemplatePart::Text(_) => {}
                TemplatePart::Value(expression) => expression.visit(visitor),
                TemplatePart::Call(call) => {
                    for part in call.arguments.iter().flat_map(|argument| &argument.value) {
                        if let TemplatePart::Value(expression) = part {
                            expression.visit(visitor);
                        }
                    }
                }
            }
        }
    }
}

/// The expression or call at the beginning of `rest`, and the text after it. `None` where this is plain text; what only
/// looks like one of them is a problem.
fn special<'r>(rest: &'r str, problems: &mut Vec<String>) -> Option<(TemplatePart, &'r str)> {
    if let Some(inner) = rest.strip_prefix("${") {
        return match expression(inner) {
            Ok((expression, after)) => Some((TemplatePart::Value(expression), after)),
            Err(problem) => {
                problems.push(problem);
                None
            }
        };
    }
    if rest.starts_with("!`") {
        problems.push("`!` before a backtick runs nothing; write `${shell({cmd: \"…\"})}`".to_owned());
        return None;
    }
    if let Some(after) = rest.strip_prefix('!') {
        return bang_call(after, problems);
    }
    if let Some(number) = numbered_argument(rest) {
        problems.push(format!("`${number}` is not replaced; write `${{args[{}]}}`", number - 1));
    }
    None
}

/// Reads the expression after a `${`, with its closing brace.
///
/// # Errors
///
/// Why it cannot be read.
fn expression(inner: &str) -> Result<(Expression, &str), String> {
    let Some(end) = closing_brace(inner) else {
        let shown: String = inner.lines().next().unwrap_or_default().chars().take(40).collect();
        return Err(format!("`${{{shown}` has no closing brace"));
    };
    match Expression::parse(&inner[..end]) {
        Ok(expression) => Ok((expression, &inner[end + 1..])),
        Err(reason) => {
            let shown: String = inner[..end].chars().take(100).collect();
            Err(format!("`${{{shown}}}` cannot be evaluated: {reason}"))
        }
    }
}

/// The number in `$1`; `None` for an amount such as `$10` or `$1.50`, and for other text.
fn numbered_argument(rest: &str) -> Option<u32> {
    let mut chars = rest.strip_prefix('$')?.chars();
    let digit = chars.next()?.to_digit(10).filter(|digit| *digit > 0)?;
    let mut after = chars;
    match (after.next(), after.next()) {
        (Some(c), _) if c.is_ascii_alphanumeric() || c == '_' => None,
        (Some('.' | ','), Some(c)) if c.is_ascii_digit() => None,
        _ => Some(digit),
    }
}

/// Reads the call after a `!`. `None` for text that is not `name(…)`.
fn bang_call<'r>(after: &'r str, problems: &mut Vec<String>) -> Option<(TemplatePart, &'r str)> {
    let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|end| *end > 0)?;
    let (tool, rest) = after.split_at(end);
    let inner = rest.strip_prefix('(')?;
    let Some(end) = closing_parenthesis(inner) else {
        problems.push(format!("`!{tool}(` has no closing parenthesis"));
        return None;
    };
    let call = BangCall { tool: tool.to_owned(), arguments: bang_arguments(&inner[..end], problems) };
    Some((TemplatePart::Call(call), &inner[end + 1..]))
}

/// Reads `key=value` pairs, separated by whitespace or commas. Values may be quoted in whole or in part.
fn bang_arguments(text: &str, problems: &mut Vec<String>) -> Vec<BangArgument> {
    let mut arguments = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        let Some((name, after)) = rest.split_once('=') else {
            if !rest.is_empty() {
                problems.push(format!("`{rest}` in a tool call is not `name=value`"));
            }
            return arguments;
        };
        let (value, is_quoted, after) = bang_value(after, problems);
        arguments.push(BangArgument { name: name.trim().to_owned(), value, is_quoted });
        rest = after;
    }
}

/// Reads one value up to whitespace or a comma outside of quotes and expressions.
fn bang_value<'r>(text: &'r str, problems: &mut Vec<String>) -> (Vec<TemplatePart>, bool, &'r str) {
    let (mut parts, mut plain, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut quote = None;
    let mut rest = text.trim_start();
    while let Some(c) = rest.chars().next() {
        if let Some(inner) = rest.strip_prefix("${").filter(|_| problems.len() < MAX_PROBLEMS) {
            match expression(inner) {
                Ok((expression, after)) => {
                    if !plain.is_empty() {
                        parts.push(TemplatePart::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(TemplatePart::Value(expression));
                    rest = after;
                    continue;
                }
                Err(problem) => problems.push(problem),
            }
        }
        let next = &rest[c.len_utf8()..];
        match (c, quote) {
            ('"' | '\'', None) => {
                quote = Some(c);
                is_quoted = true;
            }
            (_, Some(open)) if c == open => quote = None,
            // An escaped quote; other backslashes belong to the value, often a command line.
            ('\\', Some(open)) if next.starts_with(open) => {
                plain.push(open);
                rest = &next[open.len_utf8()..];
                continue;
            }
            (_, None) if c.is_whitespace() || c == ',' => break,
            _ => plain.push(c),
        }
        rest = next;
    }
    if !plain.is_empty() {
        parts.push(TemplatePart::Text(plain));
    }
    (parts, is_quoted, rest)
}

/// Splits the text after a command's name into its arguments. Quotes keep an argument together and are removed; one
/// without a partner, such as an apostrophe, is plain text.
pub fn split_arguments(text: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut current: Option<String> = None;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c.is_whitespace() {
            arguments.extend(current.take());
            continue;
        }
        let current = current.get_or_insert_default();
        let partner = if matches!(c, '"' | '\'') { rest.find(c) } else { None };
        match partner {
            Some(end) => {
                current.push_str(&rest[..end]);
                rest = &rest[end + 1..];
            }
            None => current.push(c),
        }
    }
    arguments.extend(current);
    arguments
}

#[cfg(test)]
mod tests;
