//! The forms in which models write calls.

use serde_json::value::RawValue;

use super::Arguments;
use super::Written;
use super::scan::Fields;
use super::scan::Scan;
use super::scan::fields;
use crate::work;

/// The most calls of one text, as many as of a reply with calls of its own.
const MAX_CALLS: usize = 512;
/// Where a call has its name.
const NAMES: [&str; 3] = ["name", "function", "tool"];
/// Where it has its arguments.
const ARGUMENTS: [&str; 4] = ["arguments", "parameters", "args", "input"];
/// What else an object may hold that is a call.
const BESIDES: [&str; 2] = ["id", "type"];
/// What a fence may say of its content.
const FENCES: [&str; 5] = ["```json", "```tool_call", "```tool_calls", "```tool_code", "```"];

/// The calls that a text consists of; none if it holds anything else or names a tool that `is_tool` does not know.
pub(super) fn calls(text: &str, is_tool: impl Fn(&str) -> bool) -> Option<Vec<Written<'_>>> {
    let (mut scan, mut calls) = (Scan::new(text), Vec::new());
    while !scan.is_at_end() {
        calls.extend(next(&mut scan)?);
        if calls.len() > MAX_CALLS {
            return None;
        }
        // Llama separates calls so.
        scan.takes(";");
    }
    calls.iter().all(|call| is_tool(call.name)).then_some(calls)
}

/// The reasoning that a text begins with, and the rest. A server that puts the opening mark into the prompt leaves it out
/// of the reply.
pub(super) fn reasoning(text: &str) -> (&str, &str) {
    match text.split_once("</think>") {
        Some((reasoning, rest)) => {
            let reasoning = reasoning.trim();
            (reasoning.strip_prefix("<think>").unwrap_or(reasoning).trim(), rest)
        }
        None => ("", text),
    }
}

fn next<'t>(scan: &mut Scan<'t>) -> Option<Vec<Written<'t>>> {
    if scan.takes("<tool_call>") {
        let calls = tagged(scan)?;
        // The last mark may be what the server stopped at.
        return (scan.takes("</tool_call>") || scan.is_at_end()).then_some(calls);
    }
    if scan.takes("[TOOL_CALLS]") {
        return mistral(scan);
    }
    if FENCES.iter().any(|fence| scan.takes(fence)) {
        let calls = json(scan)?;
        return scan.take("```").map(|()| calls);
    }
    scan.takes("<|python_tag|>");
    function(scan).or_else(|| json(scan))
}

/// What stands in `<tool_call>`.
fn tagged<'t>(scan: &mut Scan<'t>) -> Option<Vec<Written<'t>>> {
    function(scan).or_else(|| json(scan)).or_else(|| glm(scan))
}

/// `<function=NAME>…</function>`, with pairs or JSON in it.
fn function<'t>(scan: &mut Scan<'t>) -> Option<Vec<Written<'t>>> {
    let mut ahead = *scan;
    ahead.take("<function=")?;
    let name = quoted(ahead.until(">")?);
    let arguments = match ahead.json() {
        Some(json) => Arguments::Json(json.get()),
        None => Arguments::Pairs(pairs(&mut ahead)?),
    };
    ahead.take("</function>")?;
    *scan = ahead;
    Some(vec![Written { name, arguments }])
}

/// `<parameter=KEY>value</parameter>`, any number of times.
fn pairs<'t>(scan: &mut Scan<'t>) -> Option<Vec<(&'t str, &'t str)>> {
    let mut pairs = Vec::new();
    while scan.takes("<parameter=") {
        let name = quoted(scan.until(">")?);
        pairs.push((name, line(scan.until("</parameter>")?)));
    }
    Some(pairs)
}

/// `NAME`, then `<arg_key>KEY</arg_key><arg_value>value</arg_value>` any number of times.
fn glm<'t>(scan: &mut Scan<'t>) -> Option<Vec<Written<'t>>> {
    let name = scan.name()?;
    let mut pairs = Vec::new();
    while scan.takes("<arg_key>") {
        let key = scan.until("</arg_key>")?.trim();
        scan.take("<arg_value>")?;
        pairs.push((key, line(scan.until("</arg_value>")?)));
    }
    Some(vec![Written { name, arguments: Arguments::Pairs(pairs) }])
}

/// What follows `[TOOL_CALLS]`: JSON, or `NAME[CALL_ID]ID[ARGS]{…}` with marks that may be left out.
fn mistral<'t>(scan: &mut Scan<'t>) -> Option<Vec<Written<'t>>> {
    if let Some(calls) = json(scan) {
        return Some(calls);
    }
    let name = scan.name()?;
    if scan.takes("[CALL_ID]") {
        scan.name()?;
    }
    scan.takes("[ARGS]");
    let arguments = Arguments::Json(scan.json()?.get());
    Some(vec![Written { name, arguments }])
}

/// One call as a JSON object, or a list of them.
fn json<'t>(scan: &mut Scan<'t>) -> Option<Vec<Written<'t>>> {
    let mut ahead = *scan;
    let value = ahead.json()?;
    work::count(value.get().len());
    let calls = match serde_json::from_str::<Vec<&RawValue>>(value.get()) {
        Ok(list) => list.into_iter().map(object).collect::<Option<Vec<_>>>()?,
        Err(_) => vec![object(value)?],
    };
    *scan = ahead;
    Some(calls)
}

/// A JSON object that is a call and nothing else. OpenAI's own form has the call in a field.
fn object(value: &RawValue) -> Option<Written<'_>> {
    let outer = fields(value)?;
    match outer.get("function").filter(|function| function.get().starts_with('{')) {
        Some(_) if !outer.keys().all(|key| *key == "function" || BESIDES.contains(key)) => None,
        Some(function) => plain(&fields(function)?),
        None => plain(&outer),
    }
}

fn plain<'t>(fields: &Fields<'t>) -> Option<Written<'t>> {
    let known = |key: &&str| NAMES.contains(key) || ARGUMENTS.contains(key) || BESIDES.contains(key);
    let name = NAMES.iter().find_map(|key| serde_json::from_str(fields.get(key)?.get()).ok())?;
    let arguments = ARGUMENTS.iter().find_map(|key| fields.get(key))?.get();
    let is_call = fields.keys().all(known) && is_arguments(arguments);
    is_call.then_some(Written { name, arguments: Arguments::Json(arguments) })
}

/// Whether a value can be the arguments of a call: an object, nothing, or the text of an object.
fn is_arguments(json: &str) -> bool {
    let inner: Option<String> = serde_json::from_str(json).ok();
    let object = inner.as_deref().unwrap_or(json).trim_start();
    object.starts_with('{') || json == "null"
}

/// A name without the quotes that some models put around it.
fn quoted(name: &str) -> &str {
    name.trim().trim_matches('"')
}

/// A value without the line breaks that belong to the form.
fn line(value: &str) -> &str {
    let value = value.strip_prefix('\n').unwrap_or(value);
    value.strip_suffix('\n').unwrap_or(value)
}
