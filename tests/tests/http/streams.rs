//! Streams of events: every byte once, whatever dies in between.

use std::collections::BTreeSet;

use legwork_tests::programs::until;
use legwork_tests::redis::Redis;
use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;

use crate::client::Event;
use crate::client::Events;
use crate::client::Server;
use crate::jobs::fleet;

/// Words that arrive one after the other, with characters of several bytes.
pub(crate) fn words() -> String {
    (0..60).map(|number| format!("wörd{number} ")).collect()
}

/// Appends the output of an event.
fn append(bytes: &mut Vec<u8>, event: &Event) {
    if event.name != "output" {
        return;
    }
    assert_eq!(event.data["output_offset"], bytes.len() as u64, "a gap or a repeat");
    bytes.extend_from_slice(event.data["output"].as_str().unwrap().as_bytes());
    assert_eq!(event.id, bytes.len().to_string());
}

#[test]
fn a_stream_that_is_cut_off_is_resumed_at_the_next_byte() {
    let redis = Redis::start();
    // Some 900 KB, so that even what comes at once on a busy machine is a dozen events and more.
    let text: String = (0..60).map(|number| format!("wörd{number}").repeat(2200) + " ").collect();
    let script = json!({"quick": [{"text": text, "chunk_delay_ms": 20}]});
    let (state, mut server) = fleet(&redis, &script);
    let worker = state.worker(&[]);
    let id = server.dispatch("quick", "go");
    let (mut bytes, mut last, mut states) = (Vec::new(), None::<String>, Vec::new());
    let mut cuts = 0;
    let end = loop {
        let mut events = Events::of(&server, &id, last.as_deref());
        let mut seen = 0;
        let mut end: Option<Value> = None;
        while let Some(event) = events.next() {
            append(&mut bytes, &event);
            last = Some(event.id.clone());
            match event.name.as_str() {
                "state" => states.push(event.data["status"].as_str().unwrap().to_owned()),
                "end" => end = Some(event.data),
                _ => seen += 1,
            }
            // The client leaves, and once the server dies: another one continues the stream.
            if seen == 3 && cuts < 4 {
                cuts += 1;
                if cuts == 2 {
                    server.program.kill();
                    server = Server::start(&state, &[]);
                }
                break;
            }
        }
        if let Some(end) = end {
            break end;
        }
    };
    assert_eq!(cuts, 4);
    let stored = server.get(&format!("/v1/jobs/{id}"));
    assert_eq!(String::from_utf8(bytes).unwrap(), stored["output"].as_str().unwrap());
    assert_eq!((&end["status"], &end["result"]), (&json!("completed"), &json!(text)));
    assert!(states.contains(&"running".to_owned()), "{states:?}");
    // Who has seen the end gets no more.
    assert_eq!(Events::of(&server, &id, last.as_deref()).status, 204);
    drop(worker);
}

#[test]
fn a_client_that_leaves_ends_no_job_and_the_server_ends_with_open_streams() {
    let redis = Redis::start();
    let script = json!({"quick": [{"text": words(), "chunk_delay_ms": 20}]});
    let (state, mut server) = fleet(&redis, &script);
    let _worker = state.worker(&[]);
    let id = server.dispatch("quick", "go");
    let mut events = Events::of(&server, &id, None);
    until("output arrives", || events.next().is_some_and(|event| event.name == "output"));
    drop(events);
    let waiting = server.send("POST", "/v1/wait", &[], json!({"ids": [id]}).to_string().as_bytes());
    drop(waiting);
    let _open = Events::of(&server, &id, None);
    server.program.signal(Signal::TERM);
    assert_eq!(server.program.wait(), 0);
    state.until_status(&id, "completed");
}

#[test]
fn five_hundred_followers_of_one_job_get_every_byte() {
    let redis = Redis::start();
    let script = json!({"quick": [{"text": words(), "chunk_delay_ms": 5}]});
    let (state, server) = fleet(&redis, &script);
    let _worker = state.worker(&[]);
    let id = server.dispatch("quick", "go");
    let mut followers: Vec<Events> = (0..500).map(|_| Events::of(&server, &id, None)).collect();
    state.until_status(&id, "completed");
    let stored = server.get(&format!("/v1/jobs/{id}"));
    // Others are served meanwhile, and a follower that does not read holds up none.
    for events in followers.iter_mut().skip(1) {
        let mut bytes = Vec::new();
        while let Some(event) = events.next() {
            append(&mut bytes, &event);
        }
        assert_eq!(String::from_utf8(bytes).unwrap(), stored["output"].as_str().unwrap());
    }
}

#[test]
fn a_list_is_followed_as_it_changes() {
    let redis = Redis::start();
    let (state, server) = fleet(&redis, &json!({"quick": [{"text": "x"}]}));
    let first = server.dispatch("quick", &"long ".repeat(100));
    let mut events = Events::at(&server, "/v1/jobs/events?agent=quick&limit=2");
    let whole = events.next().unwrap();
    assert_eq!((whole.name.as_str(), &whole.data["ids"]), ("jobs", &json!([first])));
    assert_eq!(whole.data["changed"][0]["task"].as_str().unwrap().len(), 200);
    let second = server.dispatch("quick", "go");
    let more = events.next().unwrap().data;
    assert_eq!((&more["ids"], &more["changed"][1]), (&json!([second, first]), &Value::Null));
    assert_eq!(more["changed"][0]["id"], second);
    let third = server.dispatch("quick", "go");
    assert_eq!(events.next().unwrap().data["ids"], json!([third, second]));
    let _worker = state.worker(&[]);
    let mut ended = BTreeSet::new();
    while ended.len() < 2 {
        for job in events.next().unwrap().data["changed"].as_array().unwrap() {
            assert!(job.get("result").is_none());
            if job["status"] == "completed" {
                ended.insert(job["id"].as_str().unwrap().to_owned());
            }
        }
    }
    assert_eq!(ended, [second, third].into());
    server.ask("GET", "/v1/jobs/events?limit=0", &[], b"").expect(400);
}

#[test]
fn the_numbers_are_followed_by_many_and_read_once() {
    let redis = Redis::start();
    let (state, mut server) = fleet(&redis, &json!({"quick": [{"text": "x"}]}));
    let mut followers: Vec<Events> = (0..20).map(|_| Events::at(&server, "/v1/stats/events")).collect();
    let first: Vec<Value> = followers.iter_mut().map(|events| events.next().unwrap().data).collect();
    assert_eq!(first[0]["workers"], json!([]));
    let times: BTreeSet<&str> = first.iter().map(|data| data["stats"]["at"].as_str().unwrap()).collect();
    assert!(times.len() <= 3, "{times:?}");
    let _worker = state.worker(&[]);
    let id = server.dispatch("quick", "go");
    server.until_status(&id, "completed");
    until("the end is counted", || {
        let data = followers[0].next().unwrap().data;
        let ended: u64 =
            data["history"]["hour"]["completed"].as_array().unwrap().iter().filter_map(Value::as_u64).sum();
        ended == 1 && data["workers"][0]["state"] == "serving"
    });
    // Open streams do not keep the server from ending.
    server.program.signal(Signal::TERM);
    assert_eq!(server.program.wait(), 0);
}
