//! Names of tools that a provider refuses, and what is sent in their place.
//!
//! Tool names come from MCP servers and agent files and may hold dots, slashes or any letter. Providers differ in what
//! they take; every one of them takes letters, digits, `_` and `-`, at most 64 of them, with a letter or `_` first. Any
//! other name is replaced on the way out and restored on the way in. The replacement depends on nothing but the set of
//! names in the request.

use std::collections::BTreeSet;
use std::collections::HashMap;

use crate::conversation::Message;
use crate::conversation::Part;
use crate::conversation::ToolSpec;
use crate::ids;
use crate::reply::Reply;
use crate::reply::ReplyEvent;
use crate::settings::Settings;
use crate::settings::ToolChoice;
use crate::wire::Ask;

/// The most characters that every provider takes: Gemini's and OpenAI's limit.
const MAX_CHARS: usize = 64;
/// What is kept of a longer name before the part that makes it distinct.
const KEPT_CHARS: usize = 54;

/// The names of one request, replaced where a provider would refuse them. A two-way map, usually empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// What is sent, by the tool's own name.
    sent: HashMap<String, String>,
    /// The tool's own name, by what is sent.
    own: HashMap<String, String>,
}

impl Names {
    /// The names of the tools on offer and of the calls in the conversation.
    #[must_use]
    pub fn of(ask: &Ask<'_>) -> Self {
        let offered = ask.tools.iter().map(|tool| tool.name.as_str());
        let names: BTreeSet<&str> = offered.chain(ask.messages.iter().flat_map(names_in)).collect();
        let (fitting, refused): (BTreeSet<&str>, BTreeSet<&str>) =
            names.into_iter().partition(|name| fits(name));
        let mut all = Self::default();
        for name in refused {
            let free = |sent: &String| !fitting.contains(sent.as_str()) && !all.own.contains_key(sent);
            // Distinct salts give distinct hashes sooner or later.
            if let Some(sent) = (0_u32..).map(|salt| fitted(name, salt)).find(free) {
                all.sent.insert(name.to_owned(), sent.clone());
                all.own.insert(sent, name.to_owned());
            }
        }
        all
    }

    /// Whether every name is sent as it is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// What is sent for a tool's own name.
    #[must_use]
    pub fn sent<'a>(&'a self, own: &'a str) -> &'a str {
        self.sent.get(own).map_or(own, String::as_str)
    }

    /// The tool's own name for what a model calls it.
    #[must_use]
    pub fn own<'a>(&'a self, sent: &'a str) -> &'a str {
        self.own.get(sent).map_or(sent, String::as_str)
    }

    pub(crate) fn in_settings(&self, settings: &Settings) -> Settings {
        let mut settings = settings.clone();
        if let ToolChoice::Tool(name) = &mut settings.tool_choice {
            *name = self.sent(name).to_owned();
        }
        settings
    }

    pub(crate) fn in_tools(&self, tools: &[ToolSpec]) -> Vec<ToolSpec> {
        let renamed = |tool: &ToolSpec| ToolSpec { name: self.sent(&tool.name).to_owned(), ..tool.clone() };
        tools.iter().map(renamed).collect()
    }

    pub(crate) fn in_messages(&self, messages: &[Message]) -> Vec<Message> {
        let mut messages = messages.to_vec();
        for message in &mut messages {
            match message {
                Message::Assistant(reply) => calls(&mut reply.parts)
                    .for_each(|name| *name = self.sent.get(name).unwrap_or(name).clone()),
                Message::ToolResult(result) => result.name = self.sent(&result.name).to_owned(),
                Message::System { .. } | Message::User { .. } => {}
            }
        }
        messages
    }

    pub(crate) fn restore(&self, reply: &mut Reply) {
        let dropped = reply.dropped_calls.iter_mut().map(|call| &mut call.name);
        for name in calls(&mut reply.message.parts).chain(dropped) {
            *name = self.own(name).to_owned();
        }
    }

    pub(crate) fn restore_event(&self, event: ReplyEvent) -> ReplyEvent {
        match event {
            ReplyEvent::CallBegun { position, name } => {
                ReplyEvent::CallBegun { position, name: self.own(&name).to_owned() }
            }
            other => other,
        }
    }
}

fn names_in(message: &Message) -> Vec<&str> {
    match message {
        Message::Assistant(reply) => reply.tool_calls().map(|call| call.name.as_str()).collect(),
        Message::ToolResult(result) => vec![&result.name],
        Message::System { .. } | Message::User { .. } => Vec::new(),
    }
}

fn calls(parts: &mut [Part]) -> impl Iterator<Item = &mut String> {
    parts.iter_mut().filter_map(|part| match part {
        Part::ToolCall(call) => Some(&mut call.name),
        _ => None,
    })
}

/// Whether every provider takes a name.
fn fits(name: &str) -> bool {
    name.len() <= MAX_CHARS && name.starts_with(is_first) && name.chars().all(is_inner)
}

fn is_first(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn is_inner(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

/// A name that fits and still resembles the one it stands for. Only the first try of a short name has no hash in it.
fn fitted(name: &str, salt: u32) -> String {
    let replaced: String = name.chars().map(|c| if is_inner(c) { c } else { '_' }).collect();
    let replaced = if replaced.starts_with(is_first) { replaced } else { format!("_{replaced}") };
    if salt == 0 && replaced.len() <= MAX_CHARS {
        return replaced;
    }
    let kept: String = replaced.chars().take(KEPT_CHARS).collect();
    format!("{kept}_{}", ids::made(&format!("{salt} {name}")))
}

#[cfg(test)]
mod tests;
