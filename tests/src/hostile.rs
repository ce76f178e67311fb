//! A server that never ends its answer, and the agents that meet it or attack their worker themselves.

use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;

use serde_json::Value;
use serde_json::json;

/// The agents whose peers, or who, are hostile: a provider, a web site, the agent itself, a program and a server for MCP. They
/// use the model `honest`, which the file of the test defines, and `ENDLESS` stands for the address of [`endless`].
pub const AGENTS: &str = "
  asks: {model: endless, instruction: Ask.}
  fetches: {model: honest, instruction: Fetch., toolsets: [{type: fetch}]}
  attacks: {model: honest, instruction: Attack., toolsets: [{type: shell}, {type: filesystem}]}
  pipes:
    model: honest
    instruction: Call.
    toolsets: [{type: mcp, command: sh, args: [-c, 'cat /dev/zero']}]
  connects:
    model: honest
    instruction: Call.
    toolsets: [{type: mcp, remote: {url: 'ENDLESS/mcp', transport_type: streamable}}]
";
/// The model of `asks`.
pub const MODEL: &str = "
  endless: {provider: openai, model: endless, base_url: ENDLESS/v1, provider_opts: {api_type: openai_chatcompletions}}
";
/// Their names.
pub const NAMES: [&str; 5] = ["asks", "fetches", "attacks", "pipes", "connects"];

/// The tool calls of the first turn of one of them: name and arguments. `mark` is a word on the command line of each of its
/// processes.
pub fn calls(agent: &str, endless: &str, mark: &str) -> Vec<(String, Value)> {
    let call = |name: &str, arguments: Value| (name.to_owned(), arguments);
    match agent {
        "fetches" => vec![call("fetch", json!({"urls": [endless]}))],
        "attacks" => {
            let mut calls = vec![
                call("shell", json!({"cmd": format!("yes {mark}"), "timeout": 4})),
                call("read_multiple_files", json!({"paths": vec!["/dev/zero"; 100]})),
            ];
            let job = || call("run_background_job", json!({"cmd": format!("timeout 4 yes {mark}")}));
            calls.extend((0..20).map(|_| job()));
            calls
        }
        _ => Vec::new(),
    }
}

/// Answers each connection with an event stream of one line without an end, until the other side closes it. Returns the
/// server's address, as the beginning of a URL.
pub fn endless() -> String {
    fn serve(mut connection: TcpStream) -> std::io::Result<()> {
        let _request = connection.read(&mut [0; 4096])?;
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: ")?;
        loop {
            connection.write_all(&[b'x'; 16 * 1024])?;
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            // An error is the other side's end.
            std::thread::spawn(move || drop(serve(connection)));
        }
    });
    url
}
