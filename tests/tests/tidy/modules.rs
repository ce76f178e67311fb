//! No file is forgotten: each is reached by `mod` from a root of its package, and none is called `mod.rs`.

use crate::hold;
use crate::source::Package;
use crate::source::packages;

fn forgotten(package: &Package) -> Vec<String> {
    let say = |path: &String| match path.ends_with("/mod.rs") {
        true => format!("{path}: call it after its module, beside the module's folder: `foo.rs` and `foo/`"),
        false => format!("{path}: nothing reaches it; declare it with `mod` in its parent, or delete it"),
    };
    package.forgotten.iter().map(say).collect()
}

/// What keeps cargo from finding a root by its place.
fn hidden_roots(package: &Package) -> Vec<String> {
    let hides = |line: &&str| line.starts_with("auto") && line.ends_with("false");
    let in_manifest =
        package.manifest.lines().filter(hides).map(|line| {
            format!("{}: take out `{line}`: every file in tests/ is a test program", package.room)
        });
    let moved = package.sources.iter().filter(|source| source.text.contains("\n#[path"));
    in_manifest
        .chain(
            moved
                .map(|source| format!("{}: put the module where its name says, without `path`", source.path)),
        )
        .collect()
}

#[test]
fn every_file_is_reached() {
    let packages = packages();
    hold(
        &packages
            .iter()
            .flat_map(forgotten)
            .chain(packages.iter().flat_map(hidden_roots))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn forgotten_files_and_hidden_roots_are_found() {
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
    let lost = forgotten(&package).join("\n");
    for name in ["src/lost/mod.rs", "src/known/lost.rs", "tests/it/lost.rs"] {
        assert!(lost.contains(name), "{lost}");
    }
    assert_eq!(package.forgotten.len(), 3, "{lost}");
    assert_eq!(hidden_roots(&package).len(), 2);
}
