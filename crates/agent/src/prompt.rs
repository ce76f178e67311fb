//! The first messages of a run, in the order that the contract fixes. Pure.

use std::fmt::Write as _;

use legwork_common::contract;
use legwork_common::team::Agent;
use legwork_common::team::Team;

use crate::message::Message;

/// What the worker knows and an agent may ask to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// The date, as `2026-11-23`.
    pub date: String,
    /// The working folder.
    pub working_dir: String,
    /// Whether the working folder is a git repository.
    pub is_git: bool,
    /// The operating system.
    pub system: String,
    /// The processor.
    pub architecture: String,
}

/// The system messages before the task or the conversation: sub-agents, handoffs, instruction, toolsets, date and
/// environment.
pub fn system_messages(
    team: &Team,
    agent: &Agent,
    toolset_instructions: &[String],
    around: &Surroundings,
) -> Vec<Message> {
    let mut messages = Vec::new();
    messages.extend(sub_agents(team, agent).map(Message::system));
    messages.extend(handoffs(team, agent).map(Message::system));
    if !agent.instruction.is_empty() {
        messages.push(Message::system(&agent.instruction));
    }
    messages.extend(toolset_instructions.iter().map(Message::system));
    if agent.add_date {
        messages.push(Message::system(format!("Today's date: {}", around.date)));
    }
    if agent.add_environment_info {
        messages.push(Message::system(environment_info(around)));
    }
    messages
}

/// The messages that give a sub-agent its task.
pub fn delegated(task: &str, expected_output: Option<&str>) -> [Message; 2] {
    [Message::system(contract::assignment(task, expected_output)), Message::user(contract::PROCEED)]
}

/// Who can be dispatched to, each as name and description.
fn sub_agents(team: &Team, agent: &Agent) -> Option<String> {
    if agent.sub_agents.is_empty() {
        return None;
    }
    let mut text =
        "You work with a team of agents. You can give tasks to these, and to no others:\n\n".to_owned();
    list(&mut text, team, &agent.sub_agents);
    text.push_str(
        "\nName them exactly so. Answer yourself what you are the best to answer; where another agent fits \
         better, give it the task with everything it needs to know: it sees nothing of this conversation.",
    );
    Some(text)
}

/// Who the conversation can be handed to, each as name and description.
fn handoffs(team: &Team, agent: &Agent) -> Option<String> {
    if agent.handoffs.is_empty() {
        return None;
    }
    let mut text =
        "You can hand this conversation over to these agents, and to no others, with the tool handoff:\n\n"
            .to_owned();
    list(&mut text, team, &agent.handoffs);
    text.push_str(
        "\nName them exactly so. Where another agent is better for what comes next, hand over without asking and \
         without announcing it: it sees the whole conversation and goes on in your place.",
    );
    Some(text)
}

/// A line for each agent.
fn list(text: &mut String, team: &Team, names: &[String]) {
    for name in names {
        let description = team.agent(name).map_or("", |agent| agent.description.as_str());
        let _ = writeln!(text, "Name: {name} | Description: {description}");
    }
}

fn environment_info(around: &Surroundings) -> String {
    let git = if around.is_git { "Yes" } else { "No" };
    format!(
        "You run here:\n<env>\nWorking directory: {}\nIs a git repository: {git}\nOperating system: {}\n\
         Processor: {}\n</env>",
        around.working_dir, around.system, around.architecture
    )
}
