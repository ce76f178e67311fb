//! What hosts see, as they read it.

use std::time::Duration;

use legwork_common::team;

use super::*;

const FILE: &str = "
agents:
  root: {model: openai/gpt-4o, description: Leads, sub_agents: [digger, writer], toolsets: [{type: background_agents}]}
  digger: {model: openai/gpt-4o, description: Digs in code}
  writer: {model: openai/gpt-4o}
  spare: {model: openai/gpt-4o, description: \"Spare\\nlines\"}
";

fn parsed(file: &str) -> Team {
    team::parse("team.yaml", file.as_bytes()).unwrap().team
}

#[test]
fn offers_the_named_agents_or_the_roots_or_all_others_or_the_only_one() {
    let team = parsed(FILE);
    assert_eq!(agents(&team, &[]).unwrap(), ["digger", "writer"]);
    assert_eq!(agents(&team, &["spare".into()]).unwrap(), ["spare"]);
    let unknown = agents(&team, &["missing".into()]).unwrap_err();
    assert_eq!(unknown.message, "no such agent: missing");

    let flat = parsed("agents:\n  root: {model: openai/gpt-4o}\n  a: {model: openai/gpt-4o}\n");
    assert_eq!(agents(&flat, &[]).unwrap(), ["a"]);
    let alone = parsed("agents:\n  root: {model: openai/gpt-4o}\n");
    assert_eq!(agents(&alone, &[]).unwrap(), ["root"]);
}

#[test]
fn instructions_and_tools() {
    let team = parsed(FILE);
    let names = vec!["digger".to_owned(), "writer".to_owned()];
    let offer = Offer::new(&team, names, Duration::from_secs(45), true);
    insta::assert_snapshot!(offer.instructions);
    let new = Offer::new(&team, offer.agents.clone(), Duration::from_secs(45), false);
    assert!(!new.instructions.contains("restart"), "{}", new.instructions);
    let mut tools = serde_json::to_value(&offer.tools).unwrap();
    tools.sort_all_objects();
    insta::assert_json_snapshot!(tools);
}

#[test]
fn every_parameter_and_result_has_a_description() {
    let offer = Offer::new(&parsed(FILE), vec!["digger".to_owned()], Duration::from_secs(45), true);
    assert_eq!(offer.tools.len(), 6);
    for tool in &offer.tools {
        assert_eq!(tool.input_schema["additionalProperties"], json!(false), "{}", tool.name);
        for schema in [&tool.input_schema, tool.output_schema.as_ref().unwrap()] {
            assert_eq!(schema["type"], json!("object"), "{}", tool.name);
            for (property, shape) in schema["properties"].as_object().unwrap() {
                let described = shape.get("description").or_else(|| shape["items"].get("properties"));
                assert!(described.is_some(), "{} {property}", tool.name);
            }
        }
    }
}
