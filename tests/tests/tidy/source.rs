//! The repository as the rules see it: packages, their files, and which code is only for tests.

use std::collections::BTreeSet;
use std::fs;
use std::panic;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::mpsc;
use std::sync::mpsc::Sender;
use std::thread;

use proc_macro2::Delimiter;
use proc_macro2::TokenStream;
use proc_macro2::TokenTree;
use syn::Attribute;
use syn::Item;
use syn::spanned::Spanned as _;

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A parsed Rust file.
pub(crate) struct Source {
    /// Path from the root of the repository, with `/`.
    pub(crate) path: String,
    /// Source text.
    pub(crate) text: String,
    /// Whether the whole file is compiled only for tests.
    pub(crate) is_test: bool,
    /// Syntax tree.
    pub(crate) file: syn::File,
}

impl Source {
    /// Parses `text` as the file at `path`; panics on a syntax error.
    pub(crate) fn parse(path: &str, text: &str, is_test: bool) -> Self {
        let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let is_test = is_test || only_for_tests(&file.attrs);
        Self { path: path.to_owned(), text: text.to_owned(), is_test, file }
    }

    /// The tokens of the file, with doc comments as `doc` attributes.
    pub(crate) fn tokens(&self) -> TokenStream {
        self.text.parse().unwrap()
    }

    /// Line numbers, from 1, of items that are compiled only for tests.
    pub(crate) fn test_lines(&self) -> BTreeSet<usize> {
        if self.is_test {
            return (1..=self.text.lines().count()).collect();
        }
        let test_items = self.file.items.iter().filter(|item| only_for_tests(attributes(item)));
        test_items.flat_map(|item| item.span().start().line..=item.span().end().line).collect()
    }

    /// Modules that this file declares without a body: name, and whether they are only for tests.
    pub(crate) fn declared(&self) -> Vec<(String, bool)> {
        let modules = self.file.items.iter().filter_map(|item| match item {
            Item::Mod(module) if module.content.is_none() => Some(module),
            _ => None,
        });
        modules.map(|module| (module.ident.to_string(), only_for_tests(&module.attrs))).collect()
    }
}

/// Whether the attributes include `cfg(test)`.
fn only_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let Ok(list) = attribute.meta.require_list() else { return false };
        let words: Vec<String> = list.tokens.clone().into_iter().map(|token| token.to_string()).collect();
        attribute.path().is_ident("cfg") && words == ["test"]
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// A package of the workspace, called a room.
pub(crate) struct Package {
    /// Name of its folder, such as `common` or `tests`.
    pub(crate) room: String,
    /// Text of its `Cargo.toml`.
    pub(crate) manifest: String,
    /// Every file that is declared with `mod`, directly or not, by a root of the package.
    pub(crate) sources: Vec<Source>,
    /// Rust files of the package that no root declares.
    pub(crate) unreachable: Vec<String>,
}

impl Package {
    /// Every file below `src`, without integration tests.
    pub(crate) fn own_sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| source.path.contains("/src/"))
    }
}

/// What a rule does with the packages, on their thread.
type Visit = Box<dyn FnOnce(&[Package]) + Send>;

/// Shows all packages of the workspace to a rule, on a thread that reads them once for all rules: syntax trees cannot leave
/// their thread, and to parse them takes longer than any rule.
pub(crate) fn of_packages<T: Send + 'static>(rule: impl FnOnce(&[Package]) -> T + Send + 'static) -> T {
    static VISITS: LazyLock<Sender<Visit>> = LazyLock::new(|| {
        let (visits, asked) = mpsc::channel::<Visit>();
        thread::spawn(move || {
            let packages = packages();
            asked.iter().for_each(|visit| visit(&packages));
        });
        visits
    });
    let (found, answer) = mpsc::channel();
    let visit = move |packages: &[Package]| {
        let caught = panic::catch_unwind(AssertUnwindSafe(|| rule(packages)));
        found.send(caught).unwrap();
    };
    VISITS.send(Box::new(visit)).unwrap();
    answer.recv().unwrap().unwrap_or_else(|cause| panic::resume_unwind(cause))
}

/// What is found in the sources of all packages, without integration tests.
pub(crate) fn of_own_sources<F, C>(find: impl Fn(&Source) -> F + Send + 'static) -> C
where
    F: IntoIterator<Item = String>,
    C: FromIterator<String> + Send + 'static,
{
    of_packages(move |packages| packages.iter().flat_map(Package::own_sources).flat_map(find).collect())
}

/// All packages of the workspace, read from disk.
fn packages() -> Vec<Package> {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.push(root().join("tests"));
    folders.sort();
    folders.iter().map(|folder| package(folder)).collect()
}

/// Reads the package in `folder`.
pub(crate) fn package(folder: &Path) -> Package {
    let files = files_below(folder, "rs");
    let mut sources = Vec::new();
    let is_root = |path: &PathBuf| {
        let below: Vec<_> =
            path.strip_prefix(folder).unwrap().iter().map(|part| part.to_str().unwrap()).collect();
        matches!(below[..], ["src", "lib.rs" | "main.rs"] | ["tests", _] | ["tests", _, "main.rs"])
    };
    for file in files.iter().filter(|path| is_root(path)) {
        reach(file, true, file.starts_with(folder.join("tests")), &mut sources);
    }
    let reached: BTreeSet<String> = sources.iter().map(|source| source.path.clone()).collect();
    Package {
        room: folder.file_name().unwrap().to_str().unwrap().to_owned(),
        manifest: fs::read_to_string(folder.join("Cargo.toml")).unwrap(),
        unreachable: files.iter().map(|path| shown(path)).filter(|path| !reached.contains(path)).collect(),
        sources,
    }
}

/// Adds a file and, recursively, the modules it declares. The modules of a root are in its own folder.
fn reach(path: &Path, is_root: bool, is_test: bool, into: &mut Vec<Source>) {
    // A missing file is reported by the compiler.
    let Ok(text) = fs::read_to_string(path) else { return };
    let source = Source::parse(&shown(path), &text, is_test);
    let folder = if is_root { path.parent().unwrap().to_owned() } else { path.with_extension("") };
    let (declared, is_test) = (source.declared(), source.is_test);
    into.push(source);
    for (name, tests_only) in declared {
        reach(&folder.join(format!("{name}.rs")), false, is_test || tests_only, into);
    }
}

/// The path relative to the root of the repository.
pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_str().unwrap().replace('\\', "/")
}

/// Files with this extension in a folder and below it, sorted, without build output and `.git`.
pub(crate) fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() && name != "target" && name != ".git" {
            found.extend(files_below(&path, extension));
        } else if path.extension().is_some_and(|end| end == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// String literals of a token stream with their line numbers, without doc comments.
pub(crate) fn strings(tokens: TokenStream) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) if !is_doc(&group) => found.extend(strings(group.stream())),
            TokenTree::Literal(literal) => {
                let line = literal.span().start().line;
                if let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string()) {
                    found.push((text.value(), line));
                }
            }
            TokenTree::Group(_) | TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
    found
}

fn is_doc(group: &proc_macro2::Group) -> bool {
    let first = group.stream().into_iter().next();
    group.delimiter() == Delimiter::Bracket && first.is_some_and(|token| token.to_string() == "doc")
}

#[test]
fn strings_are_found_in_macros_and_not_in_docs() {
    let source =
        Source::parse("a.rs", "//! \"no\"\n/// \"no\"\nfn f() { g!(\"yes {}\", h(\"too\")); }", false);
    let found: Vec<String> = strings(source.tokens()).into_iter().map(|(text, _)| text).collect();
    assert_eq!(found, ["yes {}", "too"]);
}

#[test]
fn test_code_is_recognized() {
    let text =
        "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    fn g() {}\n}\n#[cfg(test)]\nmod more;\nmod real;\n";
    let source = Source::parse("a.rs", text, false);
    assert_eq!(source.test_lines().into_iter().collect::<Vec<_>>(), [3, 4, 5, 6, 7, 8]);
    assert_eq!(source.declared(), [("more".to_owned(), true), ("real".to_owned(), false)]);
    assert!(Source::parse("a.rs", "#![cfg(test)]\nfn f() {}", false).is_test);
}
