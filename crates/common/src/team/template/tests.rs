//! What prompts are read as, and that any text is read quickly.

use std::time::Duration;
use std::time::Instant;

use proptest::prelude::*;

use super::*;

/// The parts in short: texts in quotes, expressions and calls in Rust's debug form.
fn parts(text: &str) -> Vec<TemplatePart> {
    let template = Template::parse(text);
    assert_eq!(template.problems, [""; 0], "{text}");
    template.parts
}

fn problems(text: &str) -> String {
    let template = Template::parse(text);
    let rebuilt: String = template
        .parts
        .iter()
        .map(|part| match part {
            TemplatePart::Text(text) => text.as_str(),
            TemplatePart::Value(_) | TemplatePart::Call(_) => "",
        })
        .collect();
    assert_eq!(rebuilt, text, "what cannot be read stays");
    template.problems.join("\n")
}

fn text(text: &str) -> TemplatePart {
    TemplatePart::Text(text.to_owned())
}

fn bang(tool: &str, arguments: &[(&str, &[TemplatePart], bool)]) -> TemplatePart {
    let arguments = arguments.iter().map(|(name, value, is_quoted)| BangArgument {
        name: (*name).to_owned(),
        value: value.to_vec(),
        is_quoted: *is_quoted,
    });
    TemplatePart::Call(BangCall { tool: tool.to_owned(), arguments: arguments.collect() })
}

#[test]
fn texts_with_calls_are_split_into_parts() {
    assert_eq!(parts(""), []);
    assert_eq!(parts("a $ b ! c $10 $1.50 !x! {args[0]}"), [text("a $ b ! c $10 $1.50 !x! {args[0]}")]);
    assert_eq!(parts("Status: !tool()."), [text("Status: "), bang("tool", &[]), text(".")]);
    assert_eq!(
        parts("!t(name=World, n=5 path=/tmp/f.txt,flag=true)"),
        [bang(
            "t",
            &[
                ("name", &[text("World")], false),
                ("n", &[text("5")], false),
                ("path", &[text("/tmp/f.txt")], false),
                ("flag", &[text("true")], false),
            ]
        )]
    );
    assert_eq!(
        parts(r#"!shell(cmd="sh -c 'echo $((1+2))' (now)" cwd='a b' x="say \"hi\" \d")"#),
        [bang(
            "shell",
            &[
                ("cmd", &[text("sh -c 'echo $((1+2))' (now)")], true),
                ("cwd", &[text("a b")], true),
                ("x", &[text(r#"say "hi" \d"#)], true),
            ]
        )]
    );
    let args = TemplatePart::Value(Expression::Arguments);
    assert_eq!(
        parts(r#"!shell(cmd="log ${args} (${args.join(")\"")})")"#).first().map(|part| match part {
            TemplatePart::Call(call) => call.arguments[0].value[..3].to_vec(),
            other => vec![other.clone()],
        }),
        Some(vec![text("log "), args, text(" (")])
    );
}

#[test]
fn expressions_of_docker_agents_prompts_are_read() {
    for good in [
        "${args}",
        "${args[0]}",
        "${ args [ 0 ] }",
        r#"${args.join(" ")}"#,
        r#"${args.slice(1).join(" ")}"#,
        "${args.length}",
        "${args[0] || \"\"}",
        "${env.NAME || 'app'}",
        "${env[\"NAME\"] ?? `x`}",
        "${args.length > 0 ? args[0] : 'none'}",
        "${!args.includes('-v') && args[0] === \"a\"}",
        "${shell({cmd: \"task lint\"})}",
        "${go_diagnostics()}",
        r#"${shell({cmd: "sh -c 'echo $((" + args.join(" ") + "))'"})}"#,
        "${tool({'a-b': [1, 2.5, -3], c: {d: null, e: true,},})}",
        "${`a ${args[0]} b`.trim().toUpperCase()}",
        "${args[0]?.startsWith('x') ? 1 + 2 : (3)}",
    ] {
        let [TemplatePart::Value(_)] = &parts(good)[..] else { panic!("{good}: {:?}", parts(good)) };
    }
    assert_eq!(
        parts("${args[0]} or ${'$1 !x()'}")[1..],
        [text(" or "), TemplatePart::Value(Expression::Literal("$1 !x()".into()))]
    );
    let or = parts("${args[0] || args[1] + 'x'}");
    let [TemplatePart::Value(Expression::Binary(BinaryOperator::Or, _, right))] = &or[..] else {
        panic!("{or:?}")
    };
    assert!(matches!(**right, Expression::Binary(BinaryOperator::Add, ..)), "{right:?}");
}

#[test]
fn what_cannot_be_read_is_a_problem_and_stays_in_the_text() {
    for (text, expected) in [
        (
            "${FOO}",
            "`${FOO}` cannot be evaluated: the name `FOO` is unknown (known: `args`, `env`, and `FOO(…)` for a tool)",
        ),
        ("a ${args[0", "`${args[0` has no closing brace"),
        ("${}", "`${}` cannot be evaluated: it ends too early"),
        (
            "${args.map(x => x)}",
            "`${args.map(x => x)}` cannot be evaluated: the method `map` is unknown (known: join, slice, includes, trim, toUpperCase, toLowerCase, startsWith, endsWith, split)",
        ),
        (
            "${shell('ls')}",
            "`${shell('ls')}` cannot be evaluated: `shell(…)` takes an object, as in `shell({key: value})`",
        ),
        (
            "${shell('ls', 1)}",
            "`${shell('ls', 1)}` cannot be evaluated: `shell(…)` takes one object, as in `shell({key: value})`",
        ),
        ("${args[0] args[1]}", "`${args[0] args[1]}` cannot be evaluated: `args[1]` is not understood"),
        ("${'a}", "`${'a}` has no closing brace"),
        ("!shell(cmd=\"x\"", "`!shell(` has no closing parenthesis"),
        ("Fix $1, please", "`$1` is not replaced; write `${args[0]}`"),
        ("Now: !`git status`", "`!` before a backtick runs nothing; write `${shell({cmd: \"…\"})}`"),
    ] {
        assert_eq!(problems(text), expected, "{text}");
    }
    let no_value = Template::parse("!t(x)");
    assert_eq!(no_value.problems, ["`x` in a tool call is not `name=value`"]);
}

#[test]
fn the_arguments_and_the_tools_that_a_template_uses_are_known() {
    let template = Template::parse("!a(x=\"${args[0]}\") ${b({c: d({})})} ${env.X}");
    assert!(template.reads_arguments());
    assert_eq!(template.tools(), ["a", "b", "d"]);
    assert!(!Template::parse("!a() ${env.args} args").reads_arguments());
}

#[test]
fn quotes_keep_an_argument_together() {
    for (text, expected) in [
        ("", &[][..]),
        ("  a  b\tc\n", &["a", "b", "c"]),
        ("\"a b\" 'c d'", &["a b", "c d"]),
        ("--opt=\"a b\"c", &["--opt=a bc"]),
        ("\"\" x", &["", "x"]),
        ("don't stop", &["don't", "stop"]),
        ("say \"it's\"", &["say", "it's"]),
    ] {
        assert_eq!(split_arguments(text), expected, "{text}");
    }
}

#[test]
fn hostile_texts_are_read_quickly() {
    let start = Instant::now();
    for (unit, count) in [
        ("${", 500_000),
        ("${'", 300_000),
        ("${`", 300_000),
        ("!a(", 300_000),
        ("!a(x=${", 100_000),
        ("${!}", 250_000),
        ("$1 ", 300_000),
        ("!a(x) ", 150_000),
        ("${args} ", 100_000),
    ] {
        Template::parse(&unit.repeat(count));
        Template::parse(&(unit.repeat(count) + &"}`)".repeat(count)));
    }
    for (begin, middle, end) in
        [("${", "(", ")}"), ("${", "!", "1}"), ("${", "1+", "1}"), ("${args", "[0]", "}"), ("${", "[", "]}")]
    {
        Template::parse(&format!("{begin}{}{end}", middle.repeat(300_000)));
    }
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

proptest! {
    #[test]
    fn any_text_is_read(text in r#"[!$`"'{}()\[\]a-c.,=:?|&+ \\ä0-2]{0,60}"#) {
        Template::parse(&text);
        split_arguments(&text);
    }
}
