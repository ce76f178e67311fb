//! No file is left out: each is declared with `mod`, directly or not, by a root of its package, and none is called `mod.rs`.
//! No test program is left out of `make test`.

use crate::hold;
use crate::source::Package;
use crate::source::of_packages;
use crate::source::root;

fn unreachable(package: &Package) -> Vec<String> {
    let say = |path: &String| match path.ends_with("/mod.rs") {
        true => format!("{path}: name it after its module, next to the module's folder: `foo.rs` and `foo/`"),
        false => format!("{path}: no module declares it; declare it with `mod` in its parent, or delete it"),
    };
    package.unreachable.iter().map(say).collect()
}

/// Settings that hide a test program from cargo, or a module from its usual path.
fn hidden_roots(package: &Package) -> Vec<String> {
    let hides = |line: &&str| line.starts_with("auto") && line.ends_with("false");
    let in_manifest = package
        .manifest
        .lines()
        .filter(hides)
        .map(|line| format!("{}: remove `{line}`: every file in tests/ is a test program", package.room));
    let moved = package.sources.iter().filter(|source| source.text.contains("\n#[path"));
    in_manifest
        .chain(moved.map(|source| {
            format!("{}: move the module to the path of its name, without `path`", source.path)
        }))
        .collect()
}

/// The test program that is built from a file, such as `it` from `tests/it/main.rs`.
fn test_program(path: &str) -> Option<&str> {
    let parts: Vec<&str> = path.split('/').collect();
    let (["crates", _, "tests", below @ ..] | ["tests", "tests", below @ ..]) = parts.as_slice() else {
        return None;
    };
    match below {
        [file] => file.strip_suffix(".rs"),
        [name, "main.rs"] => Some(name),
        _ => None,
    }
}

/// Test programs that the script of all checks does not run: it names each, to run them in two groups.
fn not_run(script: &str, paths: &[String]) -> Vec<String> {
    let words: Vec<&str> = script.split(['(', ')', ' ', '\n']).filter(|word| !word.is_empty()).collect();
    let is_run = |name: &str| words.windows(2).any(|pair| pair == ["--test", name]);
    let programs = paths.iter().filter_map(|path| test_program(path));
    programs
        .filter(|name| !is_run(name))
        .map(|name| format!("scripts/test: add `--test {name}` to one of its groups"))
        .collect()
}

#[test]
fn every_test_program_is_run() {
    let script = std::fs::read_to_string(root().join("scripts/test")).unwrap();
    let found = of_packages(move |packages| {
        let sources = packages.iter().flat_map(|package| &package.sources);
        not_run(&script, &sources.map(|source| source.path.clone()).collect::<Vec<_>>())
    });
    hold(&found);
}

#[test]
fn a_test_program_that_is_not_run_is_found() {
    let paths = [
        "crates/a/tests/one.rs",
        "crates/a/tests/two/main.rs",
        "crates/a/tests/two/part.rs",
        "crates/a/tests/two/tests/deep.rs",
        "crates/a/src/x/tests/y.rs",
        "tests/tests/three/main.rs",
    ];
    let found = not_run("group=(--test two)", &paths.map(str::to_owned));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("--test one") && found[1].contains("--test three"), "{found:?}");
}

#[test]
fn every_file_is_declared() {
    let found = of_packages(|packages| {
        let hidden = packages.iter().flat_map(hidden_roots);
        packages.iter().flat_map(unreachable).chain(hidden).collect::<Vec<_>>()
    });
    hold(&found);
}

#[test]
fn unreachable_files_and_hidden_roots_are_found() {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("Cargo.toml", "[package]\nautotests = false\n"),
        ("src/lib.rs", "mod known;\n#[path = \"odd.rs\"]\nmod strange;\n"),
        ("src/known.rs", "mod deep;\n"),
        ("src/known/deep.rs", ""),
        ("src/lost/mod.rs", ""),
        ("src/known/lost.rs", ""),
        ("tests/it/main.rs", "mod there;\n"),
        ("tests/it/there.rs", ""),
        ("tests/it/lost.rs", ""),
    ] {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let package = crate::source::package(folder.path());
    let lost = unreachable(&package).join("\n");
    for name in ["src/lost/mod.rs", "src/known/lost.rs", "tests/it/lost.rs"] {
        assert!(lost.contains(name), "{lost}");
    }
    assert_eq!(package.unreachable.len(), 3, "{lost}");
    assert_eq!(hidden_roots(&package).len(), 2);
}
