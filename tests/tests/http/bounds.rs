//! Bounds: sizes, times and connections; and that others are served meanwhile.

use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;

use legwork_tests::programs::TIMEOUT;
use legwork_tests::redis::Redis;
use serde_json::json;

use crate::jobs::fleet;

/// The memory of a process that is in use, in bytes.
fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_body_of_a_hundred_megabytes_is_refused_and_takes_no_memory() {
    let redis = Redis::start();
    let (_state, server) = fleet(&redis, &json!({}));
    server.get("/v1/jobs");
    let before = resident(server.program.id());
    let body = vec![b' '; 100 * 1024 * 1024];
    let refused = server.ask("POST", "/v1/jobs", &[], &body);
    assert_eq!(refused.expect(413)["code"], "too_large");
    // In chunks, without a length.
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        server.address
    );
    stream.write_all(head.as_bytes()).unwrap();
    for _ in 0..100 {
        let chunk = [b"100000\r\n".as_slice(), &body[..0x10_0000], b"\r\n"].concat();
        // It closes before all of it is sent.
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    let grown = resident(server.program.id()).saturating_sub(before);
    assert!(grown < 64 * 1024 * 1024, "{grown} bytes more");
    server.get("/v1/jobs");
}

#[test]
fn a_client_that_sends_its_head_slowly_holds_up_no_other() {
    let redis = Redis::start();
    let (_state, server) = fleet(&redis, &json!({}));
    let slow: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(&server.address).unwrap();
            stream.write_all(b"GET /v1/jobs HTTP/1.1\r\nHost:").unwrap();
            stream
        })
        .collect();
    server.get("/v1/jobs");
    let metrics = server.ask("GET", "/metrics", &[], b"");
    let text = String::from_utf8(metrics.body).unwrap();
    let open = text.lines().find(|line| line.starts_with("legwork_http_connections ")).unwrap();
    assert!(open.rsplit(' ').next().unwrap().parse::<u32>().unwrap() > 200, "{open}");
    drop(slow);
}

#[test]
fn a_head_that_is_too_long_and_paths_that_are_not_there_are_refused() {
    let redis = Redis::start();
    let (_state, server) = fleet(&redis, &json!({}));
    let long = "x".repeat(100_000);
    assert_eq!(server.ask("GET", "/v1/jobs", &[("X-Long", &long)], b"").status, 431);
    assert_eq!(server.ask("GET", "/v2/jobs", &[], b"").expect(404)["code"], "not_found");
    assert_eq!(server.ask("DELETE", "/v1/jobs", &[], b"").expect(405)["status"], 405);
    let wrong = server.ask("GET", "/v1/jobs?limit=0", &[], b"").expect(400);
    assert_eq!(wrong["detail"], "`limit` must be 1 to 1000");
    assert_eq!(server.ask("GET", "/v1/jobs?colour=red", &[], b"").expect(400)["code"], "usage");
    let broken = server.ask("POST", "/v1/jobs", &[], b"{").expect(400);
    assert!(broken["detail"].as_str().unwrap().starts_with("the body: "), "{broken}");
}
