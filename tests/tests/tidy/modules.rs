//! No file is left out: each is declared with `mod`, directly or not, by a root of its package, and none is called `mod.rs`.

use crate::hold;
use crate::source::Package;
use crate::source::of_packages;

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
