//! The first messages of an agent's conversation, in the order that the contract fixes. Pure.

use std::fmt::Write as _;

use legwork_common::contract;
use legwork_common::team::Agent;
use legwork_common::team::Team;

use crate::message::Message;

/// What `add_date` and `add_environment_info` tell an agent about the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentInfo {
    /// The machine's local date, as `2026-11-23`.
    pub date: String,
    /// The working directory of the agent's tools.
    pub working_dir: String,
    /// Whether the working directory is inside a git repository.
    pub is_git: bool,
    /// The operating system, as `linux`.
    pub system: String,
    /// The processor architecture, as `x86_64`.
    pub architecture: String,
}

/// The system messages before the task or the conversation, in this order: sub-agents, handoffs, instruction,
/// toolsets, date, environment. `instruction` is the agent's, with its variables replaced.
pub fn system_messages(
    team: &Team,
    agent: &Agent,
    instruction: &str,
    toolset_instructions: &[String],
    info: &EnvironmentInfo,
) -> Vec<Message> {
    let mut messages = Vec::new();
    messages.extend(sub_agents(team, agent).map(Message::system));
    messages.extend(handoffs(team, agent).map(Message::system));
    if !instruction.is_empty() {
        messages.push(Message::system(instruction));
    }
    messages.extend(toolset_instructions.iter().map(Message::system));
    if agent.add_date {
        messages.push(Message::system(format!("Today's date: {}", info.date)));
    }
    if agent.add_environment_info {
        messages.push(Message::system(environment_info(info)));
    }
    messages
}

/// The messages that give a sub-agent its task.
pub fn delegated(task: &str, expected_output: Option<&str>) -> [Message; 2] {
    [Message::system(contract::assignment(task, expected_output)), Message::user(contract::PROCEED)]
}

/// Lists the agents that tasks can be given to.
fn sub_agents(team: &Team, agent: &Agent) -> Option<String> {
    if agent.sub_agents.is_empty() {
        return None;
    }
    let mut text =
        "You work with a team of agents. You can give tasks to these, and to no others:\n\n".to_owned();
    list(&mut text, team, &agent.sub_agents);
    text.push_str(
        "\nUse these exact names. Answer yourself where you are best placed to answer. Where another agent fits \
         better, give it the task with everything it needs to know: it cannot see this conversation.",
    );
    Some(text)
}

/// Lists the agents that the conversation can be handed to.
fn handoffs(team: &Team, agent: &Agent) -> Option<String> {
    if agent.handoffs.is_empty() {
        return None;
    }
    let mut text =
        "You can hand this conversation over to these agents, and to no others, with the tool handoff:\n\n"
            .to_owned();
    list(&mut text, team, &agent.handoffs);
    text.push_str(
        "\nUse these exact names. Where another agent is better for what comes next, hand over without asking and \
         without announcing it: it sees the whole conversation and continues in your place.",
    );
    Some(text)
}

/// One line for each agent, with its name and description.
fn list(text: &mut String, team: &Team, names: &[String]) {
    for name in names {
        let description = team.agent(name).map_or("", |agent| agent.description.as_str());
        let _ = writeln!(text, "Name: {name} | Description: {description}");
    }
}

fn environment_info(info: &EnvironmentInfo) -> String {
    let git = if info.is_git { "Yes" } else { "No" };
    format!(
        "You run here:\n<env>\nWorking directory: {}\nIs a git repository: {git}\nOperating system: {}\n\
         Processor: {}\n</env>",
        info.working_dir, info.system, info.architecture
    )
}
