//! Calls that a person decides about, over the attempts of a run: what is recorded, what is asked again, what is made.

use std::sync::Mutex;

use async_trait::async_trait;
use legwork_common::question::Answer;
use legwork_common::question::Question;
use legwork_common::service::ServiceError;

use super::*;
use crate::person::Person;

/// A person who always gives one answer, or without one loses the lease, and what was asked.
#[derive(Debug)]
struct Says {
    answer: Option<Answer>,
    is_durable: bool,
    asked: Mutex<Vec<(CallIndex, Question)>>,
}

#[async_trait]
impl Person for Says {
    fn is_durable(&self) -> bool {
        self.is_durable
    }

    async fn ask(&self, call: CallIndex, question: &Question) -> Result<Answer, ServiceError> {
        self.asked.lock().unwrap().push((call, question.clone()));
        self.answer.clone().ok_or(ServiceError::LeaseLost)
    }
}

/// A team whose shell is asked about, a world whose person gives this answer, and the person.
fn asking(answer: Option<Answer>, is_durable: bool) -> (Arc<Team>, World, Arc<Says>) {
    let team = json!({
        "agents": [{"name": "a", "kind": {"models": [crate::testing::settings()]}, "sub_agents": [],
            "toolsets": [{"kind": {"type": "shell", "env": {}}}]}],
        "permissions": {"allow": [], "ask": ["shell"], "deny": []},
    });
    let mut world = world(&json!({"a": [
        calls("shell", json!({"cmd": "echo it ran"})),
        {"text": "{{result:0}}"},
    ]}));
    let person = Arc::new(Says { answer, is_durable, asked: Mutex::default() });
    world.ports.person = Some(person.clone());
    (Arc::new(serde_json::from_value(team).unwrap()), world, person)
}

/// The first turn of an attempt that died, and what it recorded about its call.
fn recorded(more: Vec<TurnEntry>) -> Vec<TurnEntry> {
    let mut recorded = vec![reply(1, &[("shell", json!({"cmd": "echo it ran"}))])];
    recorded.extend(more);
    recorded
}

fn asked() -> TurnEntry {
    let arguments = json!({"cmd": "echo what was asked"}).as_object().unwrap().clone();
    TurnEntry::Asked { turn: 1, index: 0, tool: "shell".into(), arguments }
}

fn decided(answer: Answer) -> TurnEntry {
    TurnEntry::Decided { turn: 1, index: 0, answer }
}

#[tokio::test]
async fn it_is_recorded_that_a_call_is_asked_about_and_what_was_decided_before_it_is_made() {
    let (team, world, person) = asking(Some(Answer::Approved), true);
    assert_eq!(result_of(run_to_end(&world, delegated(&team, "a", Vec::new())).await), "it ran\n");
    let entries = entries(&world);
    assert_eq!(entries[1..4], ["asked 1.0 shell", "decided 1.0 approved", "result 1.0 it ran\n"]);
    let expected =
        Question::approval("shell", r#"{"cmd":"echo it ran"}"#, "the team's permissions ask for it");
    assert_eq!(*person.asked.lock().unwrap(), [(CallIndex { turn: 1, index: 0 }, expected)]);
}

#[tokio::test]
async fn an_answer_at_this_terminal_leaves_no_entries() {
    let (team, world, _person) = asking(Some(Answer::Denied { why: None }), false);
    let result = result_of(run_to_end(&world, delegated(&team, "a", Vec::new())).await);
    assert_eq!(result, "The user rejected the tool call.");
    assert!(!entries(&world).iter().any(|entry| entry.starts_with("asked")), "{:?}", entries(&world));
}

#[tokio::test]
async fn an_attempt_that_finds_a_question_asks_it_again_and_makes_the_call_that_was_asked_about() {
    let (team, world, person) = asking(Some(Answer::Approved), true);
    let result = result_of(run_to_end(&world, delegated(&team, "a", recorded(vec![asked()]))).await);
    assert_eq!(result, "what was asked\n");
    assert_eq!(entries(&world)[0], "decided 1.0 approved");
    assert_eq!(person.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_approved_call_of_an_attempt_that_died_is_not_made_again() {
    let (team, world, person) = asking(Some(Answer::Approved), true);
    let recorded = recorded(vec![asked(), decided(Answer::Approved)]);
    let result = result_of(run_to_end(&world, delegated(&team, "a", recorded)).await);
    assert!(result.starts_with("This call was interrupted"), "{result}");
    assert!(person.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_denied_call_of_an_attempt_that_died_stays_denied() {
    let (team, world, person) = asking(Some(Answer::Approved), true);
    let recorded = recorded(vec![asked(), decided(Answer::Expired)]);
    let result = result_of(run_to_end(&world, delegated(&team, "a", recorded)).await);
    assert_eq!(result, "The tool call was denied: no one approved it in time.");
    assert!(person.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_lease_that_is_lost_while_a_person_thinks_ends_the_attempt_without_a_record() {
    let (team, world, _person) = asking(None, true);
    assert_eq!(run_to_end(&world, delegated(&team, "a", Vec::new())).await, Outcome::Lost);
    assert_eq!(entries(&world)[1..], ["asked 1.0 shell"]);
}

#[tokio::test]
async fn a_question_is_asked_without_secrets() {
    let (_, mut world, person) = asking(Some(Answer::Denied { why: None }), false);
    let question = json!({"message": "Use canary-canary?", "title": "canary-canary",
        "schema": {"enum": ["canary-canary", "no"]}});
    let script = json!({"agents": {"a": [calls("user_prompt", question), {"text": "done"}]}}).to_string();
    world.ports.models = Arc::new(crate::model::scripted::ScriptedModels::parse(script.as_bytes()).unwrap());
    let mut environment = crate::testing::environment("/");
    let known = std::collections::BTreeMap::from([("A_KEY".to_owned(), "canary-canary".to_owned())]);
    environment.secrets = Arc::new(Secrets::of(&known));
    world.ports.environment = Arc::new(environment);
    let team = team(&[("a", &[], json!({"toolsets": [{"kind": {"type": "user_prompt"}}]}))]);
    run_to_end(&world, delegated(&team, "a", Vec::new())).await;
    let asked = person.asked.lock().unwrap();
    let [(_, question)] = asked.as_slice() else { panic!("{asked:?}") };
    let shown = json!(question).to_string();
    assert!(!shown.contains("canary") && shown.matches("[hidden: A_KEY]").count() == 3, "{shown}");
}
