//! Oddities of streams, each as pieces and the calls that they are.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Pieces as `index, id, name, arguments`.
type Piece = (Value, &'static str, &'static str, &'static str);

fn calls(pieces: &[Piece]) -> Vec<(String, String, String)> {
    let mut all = ToolCalls::new(64, "made_".into());
    for (index, id, name, arguments) in pieces {
        let key = CallKey::of(index);
        all.take(&CallDelta { key, id, name, arguments: (*arguments).into(), ..CallDelta::default() })
            .unwrap();
    }
    all.finish().into_iter().flatten().map(|call| (call.id, call.name, call.arguments)).collect()
}

fn expect(what: &str, pieces: &[Piece], expected: &[(&str, &str, &str)]) {
    let owned = |(id, name, arguments): &(&str, &str, &str)| {
        ((*id).to_owned(), (*name).to_owned(), (*arguments).to_owned())
    };
    assert_eq!(calls(pieces), expected.iter().map(owned).collect::<Vec<_>>(), "{what}");
}

const NOTE: &str = r#"{"a":"x"}"#;
const OTHER: &str = r#"{"b":"y"}"#;

#[test]
fn an_index_is_only_a_key() {
    let one = [("a", "note", NOTE)];
    let both = [("a", "note", NOTE), ("b", "other", OTHER)];
    let none = Value::Null;
    for index in
        [json!(0), json!(50), json!(-1), json!(4_294_967_295_u64), json!(1e300), json!("0"), none.clone()]
    {
        let name = index.to_string();
        expect(&name, &[(index.clone(), "a", "note", NOTE)], &one);
        let pieces = [
            (index.clone(), "a", "note", ""),
            (index.clone(), "", "", r#"{"a":"#),
            (index.clone(), "", "", r#""x"}"#),
        ];
        expect(&name, &pieces, &one);
        expect(&name, &[(index.clone(), "a", "note", NOTE), (index, "b", "other", OTHER)], &both);
    }
    expect("a gap", &[(json!(0), "a", "note", NOTE), (json!(2), "b", "other", OTHER)], &both);
    let reversed = [("b", "other", OTHER), ("a", "note", NOTE)];
    expect("reversed", &[(json!(1), "b", "other", OTHER), (json!(0), "a", "note", NOTE)], &reversed);
    let turns = [
        (json!(0), "a", "note", ""),
        (json!(1), "b", "other", ""),
        (json!(0), "", "", r#"{"a":"#),
        (json!(1), "", "", r#"{"b":"#),
        (json!(0), "", "", r#""x"}"#),
        (json!(1), "", "", r#""y"}"#),
    ];
    expect("in turns", &turns, &both);
    expect(
        "other forms of one number",
        &[(json!(0), "a", "note", ""), (json!("0"), "", "", "{}"), (json!(0.0), "", "", "")],
        &[("a", "note", "{}")],
    );
}

#[test]
fn ids_come_late_again_and_not_at_all() {
    let none = || Value::Null;
    let both = [("made_1", "note", NOTE), ("made_2", "other", OTHER)];
    expect("empty ids", &[(json!(0), "", "note", NOTE), (json!(1), "", "other", OTHER)], &both);
    expect("one index", &[(json!(0), "", "note", NOTE), (json!(0), "", "other", OTHER)], &both);
    expect("nothing", &[(none(), "", "note", NOTE), (none(), "", "other", OTHER)], &both);
    let twice = [("made_1", "note", NOTE), ("made_2", "note", r#"{"a":"z"}"#)];
    expect("one tool twice", &[(none(), "", "note", NOTE), (none(), "", "note", r#"{"a":"z"}"#)], &twice);
    expect(
        "one tool and index",
        &[(json!(0), "", "note", NOTE), (json!(0), "", "note", r#"{"a":"z"}"#)],
        &twice,
    );
    let repeated = [("a", "note", NOTE), ("made_1", "other", OTHER)];
    expect("one id", &[(json!(0), "a", "note", NOTE), (json!(1), "a", "other", OTHER)], &repeated);
    expect("one id, no index", &[(none(), "a", "note", NOTE), (none(), "a", "other", OTHER)], &repeated);
    let late = [(json!(0), "", "note", ""), (json!(0), "a", "", NOTE)];
    expect("late", &late, &[("a", "note", NOTE)]);
    let again = [
        (json!(3), "a", "note", ""),
        (none(), "a", "", NOTE),
        (json!(0), "b", "other", ""),
        (json!(0), "", "", OTHER),
    ];
    expect("only the id again", &again, &[("a", "note", NOTE), ("b", "other", OTHER)]);
    let fresh = [(json!(0), "a", "note", r#"{"a":"#), (json!(0), "q", "", r#""x"}"#)];
    expect("a new id for each piece", &fresh, &[("a", "note", NOTE)]);
    let taken = [(none(), "", "note", "{}"), (none(), "made_1", "other", "{}")];
    expect("a made id is given", &taken, &[("made_2", "note", "{}"), ("made_1", "other", "{}")]);
}

#[test]
fn names_come_whole_in_pieces_late_and_again() {
    let note = [("a", "note", NOTE)];
    expect("pieces", &[(json!(0), "a", "no", ""), (json!(0), "", "te", NOTE)], &note);
    expect("so far", &[(json!(0), "a", "no", ""), (json!(0), "", "note", NOTE)], &note);
    expect("late", &[(json!(0), "a", "", ""), (json!(0), "", "note", NOTE)], &note);
    expect("after the arguments", &[(json!(0), "a", "", NOTE), (json!(0), "", "note", "")], &note);
    let again = [
        (json!(0), "a", "note", r#"{"a":"#),
        (json!(0), "a", "note", r#""x"}"#),
        (json!(0), "a", "note", ""),
    ];
    expect("with each piece", &again, &note);
    expect("index that grows", &[(json!(0), "a", "note", r#"{"a":"#), (json!(1), "", "", r#""x"}"#)], &note);
    expect("padding", &[(json!(0), "", "", ""), (json!(1), "a", "note", NOTE)], &note);
    expect("nothing but an id", &[(json!(0), "a", "", "")], &[]);
}

#[test]
fn arguments_come_whole_in_pieces_again_and_not_at_all() {
    expect("none", &[(json!(0), "a", "note", "")], &[("a", "note", "{}")]);
    expect("null", &[(json!(0), "a", "note", "null")], &[("a", "note", "{}")]);
    expect("broken", &[(json!(0), "a", "note", "{\"a\":")], &[("a", "note", "{\"a\":")]);
    let so_far =
        [(json!(0), "a", "note", r#"{"a""#), (json!(0), "", "", r#"{"a":"x"#), (json!(0), "", "", NOTE)];
    expect("so far", &so_far, &[("a", "note", NOTE)]);
    expect(
        "the same again",
        &[(json!(0), "a", "note", NOTE), (json!(0), "a", "note", NOTE)],
        &[("a", "note", NOTE)],
    );
    expect("as text", &[(json!(0), "a", "note", r#""{\"a\":\"x\"}""#)], &[("a", "note", NOTE)]);
    assert_eq!(arguments_of(&json!({"a": "x"})), NOTE);
    assert_eq!(arguments_of(&json!(null)), "");
}

#[test]
fn more_calls_than_the_limit_are_an_error_that_names_it() {
    let mut all = ToolCalls::new(2, String::new());
    let ids = ["a", "b", "c"].map(|id| all.take(&CallDelta { id, ..CallDelta::default() }));
    assert_eq!(ids[2], Err("the reply has more than 2 tool calls".to_owned()));
}

proptest! {
    #[test]
    fn well_formed_calls_survive_any_cut(
        texts in vec("[a-z\"\\\\{}\u{e9}]{0,9}", 1..4),
        cuts in vec(1_usize..5, 1..9),
        keyed in any::<bool>(),
    ) {
        let mut all = ToolCalls::new(64, String::new());
        let whole: Vec<String> = texts.iter().map(|text| json!({"q": text}).to_string()).collect();
        for (at, arguments) in whole.iter().enumerate() {
            let (id, name) = (format!("id{at}"), format!("tool{at}"));
            let key = || keyed.then(|| CallKey::of(&json!(at)).unwrap());
            all.take(&CallDelta { key: key(), id: &id, name: &name, ..CallDelta::default() }).unwrap();
            let characters: Vec<char> = arguments.chars().collect();
            let mut sizes = cuts.iter().cycle();
            let mut rest = characters.as_slice();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                let piece: String = piece.iter().collect();
                all.take(&CallDelta { key: key(), arguments: piece.into(), ..CallDelta::default() }).unwrap();
                rest = after;
            }
        }
        let read: Vec<String> = all.finish().into_iter().flatten().map(|call| call.arguments).collect();
        prop_assert_eq!(read, whole);
    }
}
