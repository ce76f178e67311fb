//! What holds of the request for any conversation, on every wire.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::anthropic::Anthropic;
use crate::bedrock_converse::BedrockConverse;
use crate::conversation::AssistantMessage;
use crate::conversation::Content;
use crate::conversation::ContentPart;
use crate::conversation::Image;
use crate::conversation::Origin;
use crate::conversation::Part;
use crate::conversation::ToolCall;
use crate::conversation::ToolResult;
use crate::gemini::Gemini;
use crate::openai_chat::OpenaiChat;
use crate::openai_responses::OpenaiResponses;

/// One turn: what the user says, what the model answers, and how each call went.
#[derive(Debug, Clone)]
struct Turn {
    is_own: bool,
    thinks: bool,
    says: bool,
    calls: Vec<Call>,
}

#[derive(Debug, Clone)]
struct Call {
    is_error: bool,
    has_image: bool,
    /// Whether its result was never recorded.
    is_lost: bool,
}

fn turn() -> impl Strategy<Value = Turn> {
    let call = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.1))
        .prop_map(|(is_error, has_image, is_lost)| Call { is_error, has_image, is_lost });
    (any::<bool>(), any::<bool>(), any::<bool>(), vec(call, 0..4))
        .prop_map(|(is_own, thinks, says, calls)| Turn { is_own, thinks, says, calls })
}

fn reply(at: usize, turn: &Turn, wire: &str) -> Message {
    let (maker, mark) = if turn.is_own { (wire, "own") } else { ("another", "foreign") };
    let mut parts = Vec::new();
    if turn.thinks {
        parts.push(Part::Thinking { text: "hm".into(), signature: Some(format!("{mark}-{at}-")) });
    }
    if turn.says {
        parts.extend(["\n\n".to_owned(), format!("said-{at}-")].map(Part::Text));
    }
    parts.extend((0..turn.calls.len()).map(|call| {
        Part::ToolCall(ToolCall {
            id: format!("id{at}x{call}"),
            name: "note".into(),
            arguments: json!({"a": format!("call-{at}-{call}-")}).to_string(),
            thought_signature: None,
        })
    }));
    let origin = Origin { wire: maker.into(), provider: "p".into(), model: "m".into() };
    Message::Assistant(AssistantMessage { parts, origin: Some(origin), ..AssistantMessage::default() })
}

fn result(at: usize, call: usize, went: &Call) -> Message {
    let mut content = vec![ContentPart::Text { text: format!("result-{at}-{call}-") }];
    if went.has_image {
        let (media_type, data) = ("image/png".into(), format!("image{at}x{call}"));
        content.push(ContentPart::Image(Image { media_type, data }));
    }
    Message::ToolResult(ToolResult {
        call_id: format!("id{at}x{call}"),
        name: "note".into(),
        content: Content::new(content),
        is_error: went.is_error,
    })
}

/// The conversation of these turns. Every text has a mark of its own.
fn conversation(turns: &[Turn], wire: &str) -> Vec<Message> {
    let mut messages = vec![Message::system("who-you-are")];
    for (at, turn) in turns.iter().enumerate() {
        messages.push(Message::user(format!("asked-{at}-")));
        messages.push(reply(at, turn, wire));
        let kept = turn.calls.iter().enumerate().filter(|(_, went)| !went.is_lost);
        messages.extend(kept.map(|(call, went)| result(at, call, went)));
    }
    messages.push(Message::user("at-the-end"));
    messages
}

/// The request has what was said once each and in its order, each call with one result, and nothing that only another maker
/// understands.
fn holds<W: Wire>(turns: &[Turn], model: &str) {
    let messages = conversation(turns, W::NAME);
    let tool = ToolSpec {
        name: "note".into(),
        description: "Notes".into(),
        parameters: json!({"type": "object", "properties": {"a": {"type": "string"}}}),
    };
    let ask = Ask { messages: &messages, tools: &[tool] };
    let (request, _) = build_request::<W>(&Settings::new("p", model), &ask).unwrap();
    let body = request.body.to_string();
    let count = |mark: &str| body.matches(mark).count();
    let mut in_order = Vec::new();
    for (at, turn) in turns.iter().enumerate() {
        in_order.push(format!("asked-{at}-"));
        assert_eq!(count(&format!("said-{at}-")), usize::from(turn.says), "{} {body}", W::NAME);
        in_order.extend((0..turn.calls.len()).map(|call| format!("call-{at}-{call}-")));
        for (call, went) in turn.calls.iter().enumerate() {
            let image = usize::from(went.has_image && !went.is_lost);
            assert_eq!(count(&format!("image{at}x{call}")), image, "{} {body}", W::NAME);
        }
        let kept = turn.calls.iter().enumerate().filter(|(_, went)| !went.is_lost);
        in_order.extend(kept.map(|(call, _)| format!("result-{at}-{call}-")));
        assert_eq!(count(&format!("foreign-{at}-")), 0, "{} {body}", W::NAME);
        assert!(count(&format!("own-{at}-")) <= 1, "{} {body}", W::NAME);
    }
    in_order.push("at-the-end".to_owned());
    let mut rest = body.as_str();
    for mark in in_order {
        assert_eq!(count(&mark), 1, "{} {mark} {body}", W::NAME);
        rest = rest.split_once(&mark).unwrap_or_else(|| panic!("{} {mark} {body}", W::NAME)).1;
    }
    assert_eq!(count("who-you-are"), 1, "{} {body}", W::NAME);
    let lost = turns.iter().flat_map(|turn| &turn.calls).filter(|went| went.is_lost).count();
    assert_eq!(count("its result is not known"), lost, "{} {body}", W::NAME);
    assert!(!body.contains(r#""text":"\n\n""#), "{} {body}", W::NAME);
    flags_hold(W::NAME, turns, &body);
}

/// Calls that failed say so where the wire has a place for it, and signed thinking goes back to its maker.
fn flags_hold(wire: &str, turns: &[Turn], body: &str) {
    let count = |mark: &str| body.matches(mark).count();
    let calls = || turns.iter().flat_map(|turn| &turn.calls);
    let failed = calls().filter(|went| went.is_error || went.is_lost).count();
    let flag = match wire {
        "anthropic" => r#""is_error":true"#,
        "bedrock_converse" => r#""status":"error""#,
        "gemini" => r#""response":{"error":"#,
        _ => return,
    };
    assert_eq!(count(flag), failed, "{wire} {body}");
    // Bedrock sends reasoning to models of the same vendor only, which its own property test has.
    for (at, turn) in turns.iter().enumerate().filter(|_| wire != "bedrock_converse") {
        let goes_back = turn.is_own && turn.thinks && (turn.says || !turn.calls.is_empty());
        assert_eq!(count(&format!("own-{at}-")), usize::from(goes_back), "{wire} {body}");
    }
}

proptest! {
    #[test]
    fn a_conversation_goes_back_whole_and_in_order(turns in vec(turn(), 1..5)) {
        holds::<OpenaiChat>(&turns, "gpt-4o");
        holds::<OpenaiResponses>(&turns, "gpt-5");
        holds::<Anthropic>(&turns, "claude-sonnet-4-5");
        holds::<BedrockConverse>(&turns, "anthropic.claude-sonnet-4-5-v1:0");
        holds::<Gemini>(&turns, "gemini-3-pro");
    }
}
