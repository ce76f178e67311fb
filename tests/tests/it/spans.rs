//! Spans over OTLP: one tree across processes, nothing of what agents are told or say, and no harm where the collector is
//! away.

use std::collections::BTreeMap;

use legwork_common::variables;
use legwork_tests::programs::StateFolder;
use legwork_tests::programs::until;
use legwork_tests::receiver::Receiver;
use legwork_tests::redis::free_port;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::json;

use crate::team::Team;
use crate::team::calls;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00f067aa0ba902b7";

/// The spans that a collector got, with the service that each is of.
struct Collector {
    receiver: Receiver,
    spans: Vec<(String, Span)>,
}

impl Collector {
    fn start() -> Self {
        Self { receiver: Receiver::start(|_| 200), spans: Vec::new() }
    }

    /// Takes the next request.
    fn take(&mut self) {
        let request = self.receiver.next();
        assert_eq!(request.path, "/v1/traces");
        assert_eq!(request.header("content-type"), "application/x-protobuf");
        assert_eq!(request.header("authorization"), "Bearer canary-header");
        let request = ExportTraceServiceRequest::decode(&*request.body).unwrap();
        for of_resource in request.resource_spans {
            let resource = of_resource.resource.unwrap();
            let service = text(
                &resource.attributes.into_iter().map(|pair| (pair.key, pair.value)).collect(),
                "service.name",
            );
            let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.extend(spans.map(|span| (service.clone(), span)));
        }
    }

    /// Takes requests until there are so many spans of this name.
    fn until(&mut self, name: &str, count: usize) {
        while self.spans.iter().filter(|(_, span)| span.name == name).count() < count {
            self.take();
        }
    }

    fn named(&self, name: &str) -> Vec<&Span> {
        self.spans.iter().map(|(_, span)| span).filter(|span| span.name == name).collect()
    }

    /// The only span of this name below a parent.
    fn below(&self, parent: &Span, name: &str) -> &Span {
        let children: Vec<&Span> =
            self.named(name).into_iter().filter(|span| span.parent_span_id == parent.span_id).collect();
        assert_eq!(children.len(), 1, "{name} below {}: {:?}", parent.name, self.tree());
        children[0]
    }

    /// All spans as `service: name < parent`, for messages.
    fn tree(&self) -> Vec<String> {
        let names: BTreeMap<&[u8], &str> =
            self.spans.iter().map(|(_, span)| (&*span.span_id, span.name.as_str())).collect();
        let line = |(service, span): &(String, Span)| {
            format!("{service}: {} < {}", span.name, names.get(&*span.parent_span_id).unwrap_or(&"?"))
        };
        self.spans.iter().map(line).collect()
    }
}

type Attributes = BTreeMap<String, Option<opentelemetry_proto::tonic::common::v1::AnyValue>>;

fn attributes(span: &Span) -> Attributes {
    span.attributes.iter().map(|pair| (pair.key.clone(), pair.value.clone())).collect()
}

fn text(attributes: &Attributes, name: &str) -> String {
    let value = attributes.get(name).cloned().flatten().and_then(|value| value.value);
    match value {
        Some(AnyValue::StringValue(text)) => text,
        Some(AnyValue::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Programs of this folder export to the collector.
fn export_to(state: &mut StateFolder, url: &str) {
    state.set(variables::OTLP_ENDPOINT, url);
    state.set(variables::OTLP_HEADERS, "authorization=Bearer%20canary-header");
}

/// Checks the tree of a dispatch whose job dispatches another, and returns the span of that one's attempt.
fn check_tree<'spans>(collector: &'spans Collector, id: &str, session: &str) -> &'spans Span {
    let trace = hex(&collector.named("attempt")[0].trace_id);
    assert_eq!(trace, TRACE);
    assert!(collector.spans.iter().all(|(_, span)| hex(&span.trace_id) == TRACE), "{:?}", collector.tree());
    let dispatch =
        collector.named("dispatch").into_iter().find(|span| hex(&span.parent_span_id) == PARENT).unwrap();
    let services: Vec<&str> = collector
        .spans
        .iter()
        .filter(|(_, span)| span.span_id == dispatch.span_id)
        .map(|(service, _)| service.as_str())
        .collect();
    assert_eq!(services, ["legwork"]);
    collector.below(dispatch, "claim");
    let attempt = collector.below(dispatch, "attempt");
    let of_attempt = attributes(attempt);
    assert_eq!(text(&of_attempt, "messaging.message.id"), id);
    assert_eq!(text(&of_attempt, "gen_ai.conversation.id"), session);
    assert_eq!(
        (text(&of_attempt, "legwork.state"), text(&of_attempt, "legwork.attempt")),
        ("completed".into(), "1".into())
    );
    let agent = collector.below(attempt, "invoke_agent nested");
    let tool = collector.below(agent, "execute_tool run_background_agent");
    let chats = collector.named("chat any").into_iter().filter(|span| span.parent_span_id == agent.span_id);
    let chats: Vec<Attributes> = chats.map(attributes).collect();
    assert!(chats.len() >= 2, "{:?}", collector.tree());
    assert_eq!(text(&chats[0], "gen_ai.operation.name"), "chat");
    assert_eq!(
        (text(&chats[0], "gen_ai.provider.name"), text(&chats[0], "gen_ai.request.model")),
        ("scripted".into(), "any".into())
    );
    assert_ne!(text(&chats[0], "gen_ai.usage.input_tokens"), "None");
    // The job that the tool dispatched, in another attempt.
    let below = collector.below(collector.below(tool, "dispatch"), "attempt");
    let agent = collector.below(below, "invoke_agent shell");
    collector.below(agent, "execute_tool shell");
    below
}

#[test]
fn one_trace_goes_from_the_dispatch_through_redis_to_the_jobs_of_jobs() {
    let mut collector = Collector::start();
    let (_redis, mut state) = StateFolder::with_redis();
    let team = Team::write(
        &mut state,
        &json!({
            "nested": [
                calls("run_background_agent", &json!({"agent": "shell", "task": "canary-task below"})),
                {"text": "canary-output"},
                {"text": "It is done."},
            ],
            "shell": [calls("shell", &json!({"cmd": "echo $TRACEPARENT canary-command"})), {"text": "done"}],
        }),
    );
    export_to(&mut state, collector.receiver.url());
    let _worker = state.worker(&[]);
    state.set(variables::TRACEPARENT, &format!("00-{TRACE}-{PARENT}-01"));
    let id = state.dispatch(&[&team.file, "nested", "canary-task"]);
    let view = state.until_status(&id, "completed");
    collector.until("attempt", 2);
    collector.until("dispatch", 2);

    let session = view["session"].as_str().unwrap();
    let below = check_tree(&collector, &id, session);
    // Its command continues the trace below its attempt.
    let job = text(&attributes(below), "messaging.message.id");
    let output = state.legwork(["view", "--transcript", &job]).expect_success();
    assert!(output.contains(&format!("00-{TRACE}-{}-01", hex(&below.span_id))), "{output}");

    let all: String = collector.spans.iter().map(|(_, span)| format!("{span:?}")).collect();
    assert!(!all.contains("canary"), "nothing of tasks, commands, output and headers is exported");
    let log = state.worker_log();
    let line = log.lines().find(|line| line.contains("attempt started") && line.contains(&id)).unwrap();
    assert!(
        line.contains(&format!("session={session}")) && line.contains(&format!("trace_id=\"{TRACE}\"")),
        "{line}"
    );
}

#[test]
fn a_failed_attempt_and_a_failed_tool_are_marked_without_their_words() {
    let mut collector = Collector::start();
    let (_redis, mut state) = StateFolder::with_redis();
    let team = Team::write(&mut state, &json!({"shell": [calls("no_such_tool_canary", &json!({}))]}));
    export_to(&mut state, collector.receiver.url());
    let _worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "shell", "go"]);
    state.until_status(&id, "failed");
    collector.until("attempt", 1);
    let error = |name: &str| {
        let span = collector.named(name)[0].clone();
        (text(&attributes(&span), "error.type"), span.status.unwrap().code)
    };
    assert_eq!(error("attempt"), ("provider_error".to_owned(), 2));
    assert_eq!(error("execute_tool unknown"), ("tool_error".to_owned(), 2));
    assert_eq!(error("invoke_agent shell"), ("provider_error".to_owned(), 2));
    let all: String = collector.spans.iter().map(|(_, span)| format!("{span:?}")).collect();
    assert!(!all.contains("canary"), "{all}");
}

#[test]
fn a_collector_that_is_away_costs_one_line_of_the_log_and_no_job() {
    let (_redis, mut state) = StateFolder::with_redis();
    let team = Team::write(&mut state, &json!({"quick": [{"text": "done"}]}));
    export_to(&mut state, &format!("http://127.0.0.1:{}", free_port()));
    let mut worker = state.worker(&[]);
    for task in ["one", "two", "three"] {
        let id = state.dispatch(&[&team.file, "quick", task]);
        state.until_status(&id, "completed");
        let says = |log: String| log.matches("cannot export spans").count();
        until("the outage is logged", || says(state.worker_log()) == 1);
    }
    worker.signal(rustix::process::Signal::TERM);
    assert_eq!(worker.wait(), 0);
    let log = state.worker_log();
    assert_eq!(log.matches("cannot export spans").count(), 1, "{log}");
    assert!(!log.contains("canary-header"), "{log}");
}

#[test]
fn nothing_is_exported_and_no_trace_is_made_up_unless_a_collector_is_named() {
    let (redis, mut state) = StateFolder::with_redis();
    let team = Team::write(&mut state, &json!({"quick": [{"text": "done"}]}));
    state.set(variables::OTLP_PROTOCOL, "grpc");
    state.set(variables::OTLP_ENDPOINT, "http://127.0.0.1:4317");
    let _worker = state.worker(&[]);
    let id = state.dispatch(&[&team.file, "quick", "go"]);
    state.until_status(&id, "completed");
    assert!(!redis.written().contains("\"trace\""), "no trace is stored");
    let log = state.worker_log();
    let expected = "spans are not exported: OTEL_EXPORTER_OTLP_PROTOCOL is not http/protobuf";
    assert_eq!(log.matches(expected).count(), 1, "{log}");
}
