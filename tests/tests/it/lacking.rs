//! Files that need what the machine lacks: each variable, key and program is named, and no prompt goes elsewhere.

use legwork_tests::programs::StateFolder;
use serde_json::json;

const FILE: &str = "
models:
  own: {provider: openai, model: m, base_url: '${env.MY_BASE_URL}', token_key: MY_KEY}
agents:
  root:
    model: own
    toolsets:
      - {type: mcp, command: pythonx, args: ['${env.SRV}']}
      - {type: openapi, url: 'https://api.example', headers: {Authorization: 'Bearer ${env.TOKEN}'}}
";

#[test]
fn check_doctor_and_run_name_what_is_missing() {
    let (_redis, mut state) = StateFolder::with_redis();
    state.set("MY_KEY", "k");
    let file = state.file("team.yaml", FILE);
    let lacks = [
        "agent `root` lacks MY_BASE_URL (the base_url of openai/m)",
        "agent `root` lacks SRV (the arguments of mcp pythonx), TOKEN (the header Authorization of toolset openapi)",
        "agent `root` needs pythonx (mcp pythonx), which is not on the PATH",
    ];
    let checked = state.legwork(["check", &file]).expect_success();
    let expected: String = lacks.iter().map(|lack| format!("{file}: warning: {lack} here\n")).collect();
    assert_eq!(checked, format!("{expected}{file}: good, 1 agent, with 3 warnings\n"));
    assert_eq!(state.legwork(["check", "--json", &file]).json_lines()[0]["lacks"], json!(lacks));

    let doctor = state.legwork(["doctor", &file]);
    assert_eq!(doctor.status, 2, "{doctor:?}");
    for (topic, lack) in ["keys", "variables", "programs"].iter().zip(lacks) {
        assert!(doctor.stdout.contains(&format!("bad      {topic}: {lack}\n")), "{}", doctor.stdout);
    }

    let run = state.legwork(["run", &file, "hi"]);
    assert_eq!(run.status, 2, "{run:?}");
    assert!(run.stderr.contains("agent `root` lacks MY_BASE_URL"), "{run:?}");
}

#[test]
fn a_job_whose_address_has_an_unset_variable_is_rejected() {
    let (_redis, mut state) = StateFolder::with_redis();
    state.set("MY_KEY", "k");
    let file = state.file("team.yaml", FILE);
    let _worker = state.worker(&[]);
    let id = state.dispatch(&[&file, "root", "work"]);
    // No other worker may have the variable: the job is rejected before its first turn, and the reason names it.
    let view = state.until_status(&id, "failed");
    assert_eq!((&view["cause"], &view["usage"]["turns"]), (&json!("rejected"), &json!(0)), "{view}");
    assert!(
        view["error"].as_str().unwrap().contains("lacks MY_BASE_URL (the base_url of openai/m)"),
        "{view}"
    );
    // Commands that follow or wait print the reason too.
    let error = view["error"].as_str().unwrap();
    let followed = state.legwork(["view", "--follow", &id]);
    assert_eq!((followed.status, followed.stderr), (1, format!("{id} failed (rejected): {error}\n")));
    let waited = state.legwork(["wait", &id]);
    assert_eq!(
        (waited.status, waited.stdout, waited.stderr),
        (1, format!("{id} failed (rejected)\n"), format!("{id}: {error}\n"))
    );
}

#[test]
fn a_dispatch_to_a_worker_of_this_machine_needs_its_keys() {
    let state = StateFolder::embedded();
    let file = state.file("team.yaml", "agents: {root: {model: openai/gpt-4o}}\n");
    let refused = state.legwork(["dispatch", &file, "root", "work"]);
    assert_eq!((refused.status, refused.stdout.as_str()), (2, ""), "{refused:?}");
    assert!(refused.stderr.starts_with("error: agent `root` lacks OPENAI_API_KEY"), "{refused:?}");
    assert!(refused.stderr.contains("; nothing was stored\nhint: set the variable"), "{refused:?}");
    // With a script no key is needed.
    let script = state.file("script.json", r#"{"agents": {"root": [{"text": "done"}]}}"#);
    state.legwork(["dispatch", "--wait", "--script", &script, &file, "root", "work"]).expect_success();
}

#[test]
fn a_toolset_that_cannot_start_is_named_in_the_view() {
    let (_redis, mut state) = StateFolder::with_redis();
    let file = state.file(
        "team.yaml",
        "agents:\n  root:\n    model: scripted/any\n    toolsets: [{type: mcp, command: pythonx}]\n",
    );
    let script = state.file("script.json", json!({"agents": {"root": [{"text": "Done."}]}}).to_string());
    state.set(legwork_common::variables::SCRIPT, &script);
    let _worker = state.worker(&[]);
    let id = state.dispatch(&[&file, "root", "work"]);
    state.until_status(&id, "completed");
    let view = state.legwork(["view", &id]).expect_success();
    assert!(view.contains("Warning   toolset mcp failed: "), "{view}");
    assert!(view.contains("pythonx cannot be started"), "{view}");
    let output = state.view(&id)["output"].as_str().unwrap().to_owned();
    assert!(output.starts_with("[warning: toolset mcp failed: ") && output.ends_with("]\nDone."), "{output}");
}
