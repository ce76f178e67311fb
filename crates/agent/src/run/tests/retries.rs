//! Model calls that fail, and when they are made again.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::model::ModelError;
use crate::model::ModelReply;
use crate::model::Purpose;
use crate::model::ReplyEnd;
use crate::prompt;
use crate::pruning;
use crate::testing::FakeModels;

const CUT: &str = "\n[the model's answer was cut off; asking again]\n";

fn said(text: &str) -> ModelReply {
    ModelReply::complete(AssistantMessage { text: text.into(), ..AssistantMessage::default() })
}

fn counted(reply: ModelReply, input_tokens: u64, output_tokens: u64) -> ModelReply {
    let usage = Usage { input_tokens, output_tokens, turns: 1, ..Usage::default() };
    ModelReply { message: AssistantMessage { usage, ..reply.message }, ..reply }
}

fn ended(text: &str, end: ReplyEnd) -> ModelReply {
    ModelReply { end, ..said(text) }
}

fn transient() -> ModelError {
    ModelError::Transient { model: "scripted/test".into(), detail: "503".into() }
}

fn window_full() -> ModelError {
    ModelError::WindowFull { model: "scripted/test".into(), detail: "too long".into() }
}

/// A run of an agent whose model gives these answers, each with the text that it streams before.
async fn run_with(
    answers: Vec<(&str, Result<ModelReply, ModelError>)>,
    recorded: Vec<TurnEntry>,
) -> (Outcome, String, Arc<FakeModels>) {
    let answers = answers.into_iter().map(|(text, answer)| (text.to_owned(), answer));
    let models = Arc::new(FakeModels::streaming(answers));
    let mut world = world(&json!({}));
    world.ports.models = models.clone();
    let outcome = run_to_end(&world, delegated(&lone(), "a", recorded)).await;
    (outcome, world.journal.output(), models)
}

fn message_of(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed { cause: Cause::ProviderError, message, .. } => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn three_tries_outlive_an_overload_of_twenty_seconds() {
    let began = Instant::now();
    let answers = vec![("", Err(transient())), ("", Err(transient())), ("here", Ok(said("here")))];
    let (outcome, output, _) = run_with(answers, Vec::new()).await;
    assert_eq!(result_of(outcome), "here");
    assert_eq!(output, "here");
    let waited = began.elapsed();
    assert!((Duration::from_secs(19)..Duration::from_secs(25)).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn asking_again_is_printed_before_each_further_try_and_not_after_the_last() {
    let cut = || ("half", Err(transient()));
    let (outcome, output, _) = run_with(vec![cut(), cut(), cut()], Vec::new()).await;
    assert_eq!(message_of(outcome), "model failed: scripted/test did not answer: 503");
    // The text that is repeated stands there once.
    assert_eq!(output, format!("half{CUT}"));

    let whole = vec![cut(), ("half", Ok(said("half a loaf")))];
    let (outcome, output, _) = run_with(whole, Vec::new()).await;
    assert_eq!((result_of(outcome).as_str(), output), ("half a loaf", format!("half{CUT}")));

    let other = vec![cut(), ("another", Ok(said("another")))];
    let (outcome, output, _) = run_with(other, Vec::new()).await;
    assert_eq!((result_of(outcome).as_str(), output), ("another", format!("half{CUT}another")));

    let refused = ModelError::Refused { model: "m".into(), detail: "no".into() };
    let (outcome, output, _) = run_with(vec![("half", Err(refused))], Vec::new()).await;
    assert_eq!(message_of(outcome), "model failed: m refused: no");
    assert_eq!(output, "half");
}

#[tokio::test(start_paused = true)]
async fn an_empty_reply_is_asked_for_once_more_and_then_fails() {
    for (reasoned, words) in [(false, "the reply is empty"), (true, "the reply has reasoning and no answer")]
    {
        let empty = || ("", Ok(ended("", ReplyEnd::Empty { reasoned })));
        let (outcome, ..) = run_with(vec![empty(), ("ok", Ok(said("ok")))], Vec::new()).await;
        assert_eq!(result_of(outcome), "ok");
        let (outcome, ..) = run_with(vec![empty(), empty()], Vec::new()).await;
        assert_eq!(message_of(outcome), format!("model failed: scripted/test: {words}"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_tokens_of_a_reply_that_failed_are_counted() {
    let cut = || counted(ended("half", ReplyEnd::CutAtOutputLimit), 20, 9);
    let (outcome, output, _) = run_with(vec![("half", Ok(cut()))], Vec::new()).await;
    let Outcome::Failed { usage, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.turns), (20, 9, 0));
    assert_eq!(output, "half");

    let broken = counted(ended("ha", ReplyEnd::BrokenOff("reset".into())), 20, 2);
    let answers = vec![("ha", Ok(broken)), ("half", Ok(counted(said("half"), 20, 9)))];
    let (outcome, output, _) = run_with(answers, Vec::new()).await;
    let Outcome::Completed { usage, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.turns), (40, 11, 1));
    assert_eq!(output, format!("ha{CUT}lf"));
}

#[tokio::test]
async fn recorded_tokens_replace_nothing_and_are_no_turn() {
    let used = Usage { input_tokens: 20, output_tokens: 9, ..Usage::default() };
    let opening = prompt::delegated("the task", None).to_vec();
    let recorded = long_work();
    let mut counting = recorded.clone();
    counting.push(TurnEntry::tokens_only(4, used));
    let (with, without) = (Transcript::new(opening.clone(), &counting), Transcript::new(opening, &recorded));
    assert_eq!(with.messages(), without.messages());
    assert_eq!((with.usage().input_tokens, without.usage().input_tokens), (20, 0));
    let mut pruned = counting.clone();
    pruning::prune_replaced(&mut pruned);
    assert_eq!(pruned, counting);
}

#[tokio::test]
async fn a_paused_reply_is_continued_with_what_it_said_so_far() {
    let paused = ended("first ", ReplyEnd::Paused);
    let answers = vec![("first ", Ok(paused)), ("second", Ok(said("second")))];
    let (outcome, output, models) = run_with(answers, Vec::new()).await;
    assert_eq!(result_of(outcome), "first second");
    assert_eq!(output, "first second");
    let requests = models.requests();
    assert_eq!(requests.len(), 2);
    let last = requests[1].1.messages.last().unwrap();
    assert!(matches!(&**last, Message::Assistant(reply) if reply.text == "first "), "{last:?}");
}

/// Three finished turns with long results.
fn long_work() -> Vec<TurnEntry> {
    let turn = |turn: u32| {
        [
            reply(turn, &[("think", json!({"thought": turn.to_string()}))]),
            TurnEntry::Result {
                turn,
                index: 0,
                call_id: "think".into(),
                text: "x".repeat(60_000),
                images: Vec::new(),
                is_error: false,
                ended: Vec::new(),
            },
        ]
    };
    (1..=3).flat_map(turn).collect()
}

#[tokio::test]
async fn a_conversation_that_is_too_long_is_summarized_once_and_asked_for_again() {
    let answers = vec![("", Err(window_full())), ("", Ok(said("short"))), ("ok", Ok(said("ok")))];
    let (outcome, _, models) = run_with(answers, long_work()).await;
    assert_eq!(result_of(outcome), "ok");
    let purposes: Vec<Purpose> = models.requests().iter().map(|(_, request)| request.purpose).collect();
    assert_eq!(purposes, [Purpose::Turn, Purpose::Summary, Purpose::Turn]);

    let answers = vec![("", Err(window_full())), ("", Ok(said("short"))), ("", Err(window_full()))];
    let (outcome, ..) = run_with(answers, long_work()).await;
    assert_eq!(message_of(outcome), "model failed: the conversation is too long for scripted/test: too long");
}

#[tokio::test]
async fn an_empty_summary_replaces_nothing() {
    let answers = vec![("", Err(window_full())), ("", Ok(said(" \n")))];
    let (outcome, ..) = run_with(answers, long_work()).await;
    let expected = "model failed: the conversation is too long for scripted/test: too long; it was not summarized: the summary is empty";
    assert_eq!(message_of(outcome), expected);
}
