//! The skills of an agent: texts that it reads when a task needs them.

use serde::Deserialize;
use serde::Serialize;

use super::model::ModelSettings;
use super::toolset::Toolset;

/// Where an agent's skills come from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Skills {
    /// Whether the folders of the machine are searched.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub local: bool,
    /// Sources by URL.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// The names to choose from the sources; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Skills that the file itself contains. The names do not filter them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inline: Vec<Skill>,
}

/// A skill that the agent file contains.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Skill {
    /// The name, by which the model asks for it.
    pub name: String,
    /// When to use it, for the model.
    pub description: String,
    /// The text.
    pub instructions: String,
    /// Whether it runs in a conversation of its own: `context: fork`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub fork: bool,
    /// The model of that conversation, as written in the file; `None` for the agent's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The same model resolved; where there are several, one is chosen at random for each turn.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelSettings>,
    /// Globs of those tools of the agent that it gets there; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_tools: Vec<String>,
    /// The names of toolsets of the file that it gets there in addition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub toolsets: Vec<String>,
    /// The same toolsets resolved.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub more_toolsets: Vec<Toolset>,
}

impl Skills {
    /// Adds what another definition has; skills of this one win over those with the same name.
    pub(super) fn extend(&mut self, other: Self) {
        self.local |= other.local;
        let add = |mine: &mut Vec<String>, more: Vec<String>| {
            for text in more {
                if !mine.contains(&text) {
                    mine.push(text);
                }
            }
        };
        add(&mut self.urls, other.urls);
        add(&mut self.names, other.names);
        for skill in other.inline {
            if !self.inline.iter().any(|mine| mine.name == skill.name) {
                self.inline.push(skill);
            }
        }
    }
}
