//! Length of files and functions, the first line of a file, and the place of its imports.

use syn::Block;
use syn::ImplItemFn;
use syn::ItemFn;
use syn::Signature;
use syn::TraitItemFn;
use syn::spanned::Spanned as _;
use syn::visit;
use syn::visit::Visit;

use crate::hold;
use crate::source::Source;
use crate::source::of_packages;

/// Maximum lines of a file, without its tests. Longer files had more than one topic.
const FILE_CAP: usize = 600;
/// Maximum lines of a function, from its signature to its end: one screen.
const FUNCTION_CAP: usize = 60;

fn long_file(source: &Source) -> Option<String> {
    let lines = source.text.lines().count() - source.test_lines().len();
    (lines > FILE_CAP && !source.is_test).then(|| {
        format!(
            "{}: {lines} lines without tests, the cap is {FILE_CAP}; move one concept to its own file",
            source.path
        )
    })
}

struct LongFunctions<'a> {
    path: &'a str,
    complaints: Vec<String>,
}

impl LongFunctions<'_> {
    fn measure(&mut self, signature: &Signature, block: &Block) {
        let (first, last) = (signature.span().start().line, block.span().end().line);
        let lines = last - first + 1;
        if lines > FUNCTION_CAP {
            let (path, name) = (self.path, &signature.ident);
            self.complaints.push(format!(
                "{path}:{first}: `{name}` has {lines} lines, the cap is {FUNCTION_CAP}; extract its steps as functions"
            ));
        }
    }
}

impl<'ast> Visit<'ast> for LongFunctions<'_> {
    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.measure(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.measure(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        if let Some(block) = &item.default {
            self.measure(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

fn long_functions(source: &Source) -> Vec<String> {
    let mut visitor = LongFunctions { path: &source.path, complaints: Vec::new() };
    visitor.visit_file(&source.file);
    visitor.complaints
}

fn without_doc(source: &Source) -> Option<String> {
    (!source.text.starts_with("//! "))
        .then(|| format!("{}: start it with `//! ` and one sentence on its contents", source.path))
}

/// Collects imports inside functions, which hide what a file depends on.
struct InnerUses(Vec<usize>);

impl<'ast> Visit<'ast> for InnerUses {
    fn visit_stmt(&mut self, statement: &'ast syn::Stmt) {
        if let syn::Stmt::Item(syn::Item::Use(item)) = statement {
            // `use State as S;` before a long match only abbreviates variants and imports nothing new.
            let first = match &item.tree {
                syn::UseTree::Path(path) => path.ident.to_string(),
                syn::UseTree::Rename(rename) => rename.ident.to_string(),
                _ => String::new(),
            };
            if !first.starts_with(|c: char| c.is_ascii_uppercase()) {
                self.0.push(item.span().start().line);
            }
        }
        visit::visit_stmt(self, statement);
    }
}

fn inner_uses(source: &Source) -> Vec<String> {
    let mut visitor = InnerUses(Vec::new());
    visitor.visit_file(&source.file);
    visitor
        .0
        .iter()
        .map(|line| format!("{}:{line}: move the `use` to the top of the file", source.path))
        .collect()
}

fn in_all_sources(check: fn(&Source) -> Vec<String>) -> Vec<String> {
    of_packages(move |packages| {
        packages.iter().flat_map(|package| &package.sources).flat_map(check).collect()
    })
}

#[test]
fn files_are_short_and_start_with_a_doc_comment() {
    hold(&in_all_sources(|source| long_file(source).into_iter().chain(without_doc(source)).collect()));
}

#[test]
fn functions_are_short() {
    hold(&in_all_sources(long_functions));
}

#[test]
fn imports_are_at_the_top() {
    hold(&in_all_sources(inner_uses));
}

#[test]
fn long_files_and_functions_are_found() {
    let body = |lines: usize| "    g();\n".repeat(lines);
    let function = |lines: usize| format!("//! Doc.\nfn f() {{\n{}}}\n", body(lines - 2));
    for (lines, complaints) in [(60, 0), (61, 1)] {
        let source = Source::parse("a.rs", &function(lines), false);
        assert_eq!(long_functions(&source).len(), complaints, "{lines}");
        let method = format!("impl X {{\n{}\n}}", function(lines).replace("//! Doc.\n", ""));
        assert_eq!(long_functions(&Source::parse("a.rs", &method, false)).len(), complaints, "{lines}");
    }
    for (lines, complaint) in [(600, false), (601, true)] {
        let text = "static A: u8 = 0;\n".repeat(lines);
        assert_eq!(long_file(&Source::parse("a.rs", &text, false)).is_some(), complaint, "{lines}");
        assert!(long_file(&Source::parse("a.rs", &text, true)).is_none());
        let with_tests =
            format!("{text}#[cfg(test)]\nmod tests {{\n{}}}\n", "static B: u8 = 0;\n".repeat(99));
        assert_eq!(long_file(&Source::parse("a.rs", &with_tests, false)).is_some(), complaint, "{lines}");
    }
}

#[test]
fn a_file_without_doc_and_an_inner_import_are_found() {
    assert!(without_doc(&Source::parse("a.rs", "// No doc.\nfn f() {}", false)).is_some());
    assert!(without_doc(&Source::parse("a.rs", "//! A doc.\nfn f() {}", false)).is_none());
    assert_eq!(inner_uses(&Source::parse("a.rs", "fn f() {\n    use a::b;\n}", false)).len(), 1);
    assert_eq!(
        inner_uses(&Source::parse("a.rs", "fn f() {\n    use State as S;\n    use Kind::A;\n}", false)),
        [""; 0]
    );
}
