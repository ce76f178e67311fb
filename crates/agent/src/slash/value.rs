//! The values of expressions, and what can be done with them, as in JavaScript. Pure.
//!
//! Where JavaScript would write `undefined` or `null` into a prompt, nothing is written.

use legwork_common::team::BinaryOperator;
use legwork_common::team::Method;
use serde_json::Value;

/// The text of a value in a prompt.
pub(super) fn to_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => joined(items, ","),
        Value::Number(number) => match number.as_f64() {
            // 3.0 is written as 3.
            Some(float) if number.as_i64().is_none() => float.to_string(),
            _ => number.to_string(),
        },
        Value::Bool(_) | Value::Object(_) => value.to_string(),
    }
}

fn joined(items: &[Value], separator: &str) -> String {
    items.iter().map(to_text).collect::<Vec<_>>().join(separator)
}

/// Whether a condition with this value holds.
pub(super) fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// The value of a `!tool(key=value)` argument. It has the type that the tool's schema names; without one, an unquoted
/// boolean or number is that.
pub(super) fn typed(text: String, is_quoted: bool, schema: &Value) -> Value {
    let parsed = || match serde_json::from_str(text.trim()) {
        Ok(value @ (Value::Bool(_) | Value::Number(_))) => Some(value),
        Ok(_) | Err(_) => None,
    };
    let types: Vec<&str> = match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let has = |name: &str| types.contains(&name);
    let value = if has("string") {
        None
    } else if has("array") || has("object") {
        serde_json::from_str(&text).ok()
    } else if types.is_empty() && is_quoted {
        None
    } else {
        parsed()
    };
    value.unwrap_or(Value::String(text))
}

/// `list[index]`, `text[index]` or `object[key]`; null where there is none.
pub(super) fn element(of: &Value, index: &Value) -> Value {
    let at = || number(index).filter(|at| *at >= 0.0).map(|at| at as usize);
    match of {
        Value::Array(items) => at().and_then(|at| items.get(at).cloned()).unwrap_or_default(),
        Value::String(text) => {
            at().and_then(|at| text.chars().nth(at)).map(|c| c.to_string().into()).unwrap_or_default()
        }
        Value::Object(entries) => entries.get(&to_text(index)).cloned().unwrap_or_default(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Value::Null,
    }
}

/// `-value`; null for what is not a number.
pub(super) fn negative(value: &Value) -> Value {
    number(value).map_or(Value::Null, |number| from_number(-number))
}

/// The result of a method; null where the value has no such method.
pub(super) fn method(of: &Value, method: Method, arguments: &[Value]) -> Value {
    let first = arguments.first();
    let text_argument = || first.map(to_text).unwrap_or_default();
    match (method, of) {
        (Method::Length, Value::Array(items)) => items.len().into(),
        (Method::Length, Value::String(text)) => text.chars().count().into(),
        (Method::Join, Value::Array(items)) => {
            joined(items, &first.map_or_else(|| ",".to_owned(), to_text)).into()
        }
        (Method::Slice, Value::Array(items)) => {
            let (begin, end) = range(arguments, items.len());
            items[begin..end].to_vec().into()
        }
        (Method::Slice, Value::String(text)) => {
            let chars: Vec<char> = text.chars().collect();
            let (begin, end) = range(arguments, chars.len());
            chars[begin..end].iter().collect::<String>().into()
        }
        (Method::Includes, Value::Array(items)) => {
            first.is_some_and(|wanted| items.iter().any(|item| equal(item, wanted))).into()
        }
        (Method::Includes, Value::String(text)) => text.contains(&text_argument()).into(),
        (Method::StartsWith, Value::String(text)) => text.starts_with(&text_argument()).into(),
        (Method::EndsWith, Value::String(text)) => text.ends_with(&text_argument()).into(),
        (Method::Trim, Value::String(text)) => text.trim().into(),
        (Method::ToUpperCase, Value::String(text)) => text.to_uppercase().into(),
        (Method::ToLowerCase, Value::String(text)) => text.to_lowercase().into(),
        (Method::Split, Value::String(text)) => match first {
            None => vec![text.clone()].into(),
            Some(separator) => text.split(&to_text(separator)).map(Value::from).collect(),
        },
        _ => Value::Null,
    }
}

/// The bounds of a slice. Negative ones count from the end.
fn range(arguments: &[Value], length: usize) -> (usize, usize) {
    let bound = |at: usize, default: usize| match arguments.get(at).and_then(number) {
        None => default,
        Some(bound) if bound < 0.0 => length.saturating_sub(-bound as usize),
        Some(bound) => (bound as usize).min(length),
    };
    let (begin, end) = (bound(0, 0), bound(1, length));
    (begin, end.max(begin))
}

/// The result of an operator that needs both values.
pub(super) fn binary(operator: BinaryOperator, left: &Value, right: &Value) -> Value {
    let less = |one: &Value, other: &Value| match (one, other) {
        (Value::String(one), Value::String(other)) => one < other,
        _ => number(one).zip(number(other)).is_some_and(|(one, other)| one < other),
    };
    match operator {
        BinaryOperator::Equal => equal(left, right).into(),
        BinaryOperator::NotEqual => (!equal(left, right)).into(),
        BinaryOperator::Less => less(left, right).into(),
        BinaryOperator::Greater => less(right, left).into(),
        BinaryOperator::LessOrEqual => (less(left, right) || equal(left, right)).into(),
        BinaryOperator::GreaterOrEqual => (less(right, left) || equal(left, right)).into(),
        BinaryOperator::Add => match (left, right) {
            (Value::Number(_), Value::Number(_)) => arithmetic(left, right, |one, other| one + other),
            _ => (to_text(left) + &to_text(right)).into(),
        },
        BinaryOperator::Subtract => arithmetic(left, right, |one, other| one - other),
        // These do not always need both.
        BinaryOperator::Or | BinaryOperator::And | BinaryOperator::OrIfNull => right.clone(),
    }
}

fn arithmetic(left: &Value, right: &Value, operate: impl Fn(f64, f64) -> f64) -> Value {
    match number(left).zip(number(right)) {
        Some((left, right)) => from_number(operate(left, right)),
        None => Value::Null,
    }
}

/// Numbers are equal by value, also where one is written as text.
fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(_), Value::Number(_) | Value::String(_)) | (Value::String(_), Value::Number(_)) => {
            number(one).zip(number(other)).is_some_and(|(one, other)| one == other)
        }
        _ => one == other,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A whole number stays one.
fn from_number(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 { (number as i64).into() } else { number.into() }
}
