//! What a run is given, and what comes out.

use std::sync::Arc;

use legwork_common::job::Cause;
use legwork_common::job::Usage;
use legwork_common::service::BackgroundAgents;
use legwork_common::service::Mailbox;
use legwork_common::session_state::SessionState;
use legwork_common::team::Team;

use crate::environment::Environment;
use crate::journal::Journal;
use crate::journal::TurnEntry;
use crate::message::Message;
use crate::model::ModelPort;
use crate::permission::Approval;
use crate::prompt;

/// Which agent runs, with what, from where on.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// The team that the agent belongs to.
    pub team: Arc<Team>,
    /// The agent's name in the team.
    pub agent: String,
    /// What it is asked.
    pub opening: Opening,
    /// The turns of earlier attempts; empty for the first.
    pub recorded: Vec<TurnEntry>,
    /// How many tokens the models may count, in and out, what is recorded included; `None` for no limit.
    pub budget: Option<u64>,
}

/// What an agent is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// A person talks with it.
    Conversation {
        /// The conversation so far, the new prompt last.
        messages: Vec<Message>,
    },
    /// Another agent, or an operator, gave it a task.
    Delegated {
        /// What it shall do.
        task: String,
        /// What its answer should look like.
        expected_output: Option<String>,
    },
}

impl Opening {
    /// What an agent is asked, as messages.
    pub fn messages(self) -> Vec<Message> {
        match self {
            Self::Conversation { messages } => messages,
            Self::Delegated { task, expected_output } => {
                prompt::delegated(&task, expected_output.as_deref()).into()
            }
        }
    }
}

/// Everything a run reaches the world through.
#[derive(Debug, Clone)]
pub struct Ports {
    /// The models.
    pub models: Arc<dyn ModelPort>,
    /// Where turns and output are written.
    pub journal: Arc<dyn Journal>,
    /// What dispatches and waits, bound to this run as the caller.
    pub background: Arc<dyn BackgroundAgents>,
    /// What reaches this run.
    pub mailbox: Arc<dyn Mailbox>,
    /// What it shares with the other agents of its session.
    pub session_state: Arc<dyn SessionState>,
    /// Who answers where the team wants a person to; none: such calls are refused.
    pub approval: Option<Arc<dyn Approval>>,
    /// The machine.
    pub environment: Arc<Environment>,
}

/// How a run ended. Usage counts earlier attempts too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The agent has nothing more to do.
    Completed {
        /// Its last message.
        result: String,
        /// What its models counted.
        usage: Usage,
    },
    /// It cannot go on.
    Failed {
        /// Why, for programs.
        cause: Cause,
        /// Why, for people.
        message: String,
        /// What its models counted.
        usage: Usage,
    },
    /// The token was cancelled; nothing of the run is left.
    Stopped {
        /// What its models counted.
        usage: Usage,
    },
    /// The journal said that the lease is lost: nothing of the run counts any more.
    Lost,
}
