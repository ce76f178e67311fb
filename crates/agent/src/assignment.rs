//! The arguments and the outcome of a run.

use std::sync::Arc;

use legwork_common::job::Cause;
use legwork_common::job::Usage;
use legwork_common::money::Money;
use legwork_common::money::Prices;
use legwork_common::service::BackgroundAgents;
use legwork_common::service::Mailbox;
use legwork_common::session_state::SessionState;
use legwork_common::team::SafetyMode;
use legwork_common::team::Team;

use crate::environment::Environment;
use crate::journal::Journal;
use crate::journal::TurnEntry;
use crate::message::Message;
use crate::model::ModelPort;
use crate::person::Person;
use crate::prompt;

/// Which agent runs, its task, and where it resumes.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// The team that the agent belongs to.
    pub team: Arc<Team>,
    /// The agent's name in the team.
    pub agent: String,
    /// The task or the conversation.
    pub opening: Opening,
    /// The recorded turns of earlier attempts; empty for the first.
    pub recorded: Vec<TurnEntry>,
    /// Tokens that the job may use, input and output together, over all its attempts; `None` for no limit.
    pub budget: Option<u64>,
    /// What its models may cost over all its attempts; `None` for no limit.
    pub max_cost: Option<CostLimit>,
    /// What models cost whose agent file does not say.
    pub prices: Prices,
    /// The safety mode of the dispatcher; the run's own can only be stricter. `None` for no mode.
    pub safety: Option<SafetyMode>,
}

/// A limit of what a run's models may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CostLimit {
    /// Where it is counted among the pots of the session: the same for all attempts of a job, and for nothing else.
    pub pot: String,
    /// The most that they may cost.
    pub max: Money,
}

/// How a conversation begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// A user talks with the agent.
    Conversation {
        /// The conversation so far, the new prompt last.
        messages: Vec<Message>,
    },
    /// Another agent, or an operator, gave the agent a task.
    Delegated {
        /// The task, in the dispatcher's words.
        task: String,
        /// What the answer should look like.
        expected_output: Option<String>,
    },
}

impl Opening {
    /// The opening as messages, in the contract's words for a task.
    pub fn messages(self) -> Vec<Message> {
        match self {
            Self::Conversation { messages } => messages,
            Self::Delegated { task, expected_output } => {
                prompt::delegated(&task, expected_output.as_deref()).into()
            }
        }
    }
}

/// Everything through which a run acts on the world.
#[derive(Debug, Clone)]
pub struct Ports {
    /// Calls models, of providers or from a script.
    pub models: Arc<dyn ModelPort>,
    /// Takes turns, output and events.
    pub journal: Arc<dyn Journal>,
    /// Dispatches jobs and waits for them, with this run as the caller.
    pub background: Arc<dyn BackgroundAgents>,
    /// Holds the ends of this run's jobs and the messages that are sent to it.
    pub mailbox: Arc<dyn Mailbox>,
    /// The todo list and the token budget of the session.
    pub session_state: Arc<dyn SessionState>,
    /// Answers where the team's permissions or its agents ask; without one such calls are refused.
    pub person: Option<Arc<dyn Person>>,
    /// Variables, working directory and process guard.
    pub environment: Arc<Environment>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The model asks for nothing more, all jobs have ended, and no mail is left.
    Completed {
        /// The agent's last message.
        result: String,
        /// Tokens and turns of all attempts.
        usage: Usage,
    },
    /// The run cannot continue: no model answers, a limit is reached, or the turns cannot be recorded.
    Failed {
        /// The reason, for programs.
        cause: Cause,
        /// The reason, as a fragment of a sentence for people.
        message: String,
        /// Tokens and turns of all attempts.
        usage: Usage,
    },
    /// The token was cancelled. No process of the run is left.
    Stopped {
        /// Tokens and turns of all attempts.
        usage: Usage,
    },
    /// The journal reported the lease as lost: another attempt may be running, and this one must write nothing
    /// more.
    Lost,
}
