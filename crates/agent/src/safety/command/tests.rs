//! Labels of command lines, and ways around them.

use super::*;

fn assert_all(expected: Label, lines: &[&str]) {
    for line in lines {
        assert_eq!(label(line), expected, "{line}");
    }
}

#[test]
fn commands_that_only_read_are_safe() {
    assert_all(
        Label::Safe,
        &[
            "ls -la",
            "'ls' \"-l\"",
            "git status",
            "git log --oneline -n 5",
            "git log --text -p",
            "git show 'HEAD@{1}:a b.txt'",
            "git log '--format=%h %an'",
            "grep -o x y",
            "grep -rn 'a|b;c' src/*.rs",
            "grep --file=list *.txt",
            "cat *.txt",
            "rg --pretty -A3 -g'*.rs' -t rust '--' pattern src",
            "rg --glob='!target' -in \"fn main\"",
            "date",
            "date +%s",
            "date -u -d yesterday '+%F'",
            "date -d2020-01-01 +%s",
            "tree -aL 2 src",
            "tree --noreport -I target",
            "file -bi a.png",
            "printf '%s\\n' a",
            "cut -d: -f1 --output-delimiter=, x",
            "df --output=size",
            "python3 --version",
        ],
    );
}

#[test]
fn an_option_that_runs_a_program_is_found_however_it_is_written() {
    assert_all(
        Label::Unknown,
        &[
            "rg \\x2d\\x2dpre=./run x",
            // Quoted, escaped, put together.
            "rg \"--pre\" cmd",
            "rg '--pre' cmd",
            "rg '-'\"-pre\" cmd",
            "rg \\-\\-pre cmd",
            "rg --p'r'e=cmd x",
            "rg ''--pre cmd",
            "rg $'--pre' cmd",
            "rg $'\\x2d-pre' cmd",
            "rg {--pre,cmd} x",
            "rg $x cmd",
            "rg \"$x\" cmd",
            "r'g' --pre=./run x",
            "\\rg --pre ./run x",
            // Joined with its value, abbreviated, in a cluster, or after words that look like an end.
            "rg --pre=./run x",
            "rg --hostname-bin ./run x",
            "rg -z x",
            "rg -iz x",
            "rg --search-zip x",
            "rg -- x --pre=./run",
            "rg --glob -- --pre=./run",
            "rg -g -- --pre=./run",
            "rg -e --pre=./run x",
            "rg --colors=x --pre=./run x",
        ],
    );
}

#[test]
fn an_option_that_writes_or_sets_is_found_however_it_is_written() {
    assert_all(
        Label::Unknown,
        &[
            "git diff --output=x",
            "git diff --out=x",
            "git diff --outp x",
            "git diff '--output' x",
            "git diff --\"out\"put=x",
            "git log -S -- --output=x",
            "git diff --ext-diff",
            "git diff --ext",
            "git show --textc",
            "git log --show-signature",
            "git log --show-sig",
            "git log --format=%G?",
            "git log '--pretty=%h%+GK'",
            "git log --help",
            "tree -o x",
            "tree -ao file",
            "tree -aofile",
            "tree -R -L 1",
            "tree '-a''o' x",
            "tree --output x",
            "date -s 2020-01-01",
            "date -us 2020-01-01",
            "date -s2020",
            "date --set=2020",
            "date --se 2020",
            "date 010100002020",
            "date -u 01010000",
            "date -- 01010000",
            "date -d -s x",
            "date -f format 01010000",
            "file -C -m x",
            "file -bC",
            "file --compile",
            "file --comp -m x",
            "file -z x",
            "printf -v 'a[$(id)]' x",
            "printf %d 'a[$(id)]'",
            "printf %d 'a[`id`]'",
        ],
    );
}

#[test]
fn names_of_files_may_be_options_and_a_program_has_one_name() {
    assert_all(
        Label::Unknown,
        &[
            "rg *",
            "rg x ?*",
            "rg x -*",
            "tree *",
            "git diff *.rs",
            "date [+]*",
            // Another program than the name says.
            "./ls",
            "/tmp/ls",
            "ls\u{a0}-la",
            "l* x",
            "PATH=. ls",
            "GIT_EXTERNAL_DIFF=x git diff",
            "cargo --version",
            "node --version x",
            "node --eval x",
        ],
    );
}

#[test]
fn git_reads_only_by_commands_that_read_and_without_settings() {
    assert_all(
        Label::Unknown,
        &[
            "git logs",
            "git -c core.pager=x log",
            "git -c alias.status=!x status",
            "git --exec-path=. status",
            "git -C x status",
            "git --git-dir=x status",
            "git --paginate log",
            "git grep -Oless x",
            "git config core.pager x",
            "git commit -m x",
            "git branch",
            "git stat*",
            "git",
        ],
    );
}

#[test]
fn programs_that_run_others_or_write_are_not_safe() {
    assert_all(
        Label::Unknown,
        &[
            "find . -name x",
            "find . -fprint x",
            "sort -o x y",
            "sort --compress-program=x y",
            "uniq a b",
            "sed 'w x' y",
            "sed '1e id' y",
            "awk 'BEGIN {system(\"id\")}'",
            "xargs ls",
            "env ls",
            "env -S 'ls -l'",
            "tar --to-command=x -xf y",
            "tar -I x -cf y z",
            "less x",
            "more x",
            "man -P x ls",
            "curl -o x http://a",
            "wget http://a",
            "tee x",
            "vim x",
            "ssh a",
            "nice ls",
            "watch ls",
            "time ls",
            "command ls",
            "! ls",
            "exec ls",
            "cargo test",
            "make",
            "cp a b",
            "touch x",
            "echo x >y",
            "",
            "''",
        ],
    );
}

#[test]
fn several_commands_or_words_of_the_shell_are_not_safe() {
    assert_all(
        Label::Unknown,
        &[
            "ls; cat x",
            "ls\ncat x",
            "ls & cat x",
            "ls | cat",
            "cat x > y",
            "cat < y",
            "echo $(cat x)",
            "echo `cat x`",
            "echo \"$(cat x)\"",
            "echo ${x:-y}",
            "ls # x",
            "echo 'x",
            "echo \"x",
            "echo x\\",
            // Where fish and csh end a quote elsewhere.
            "echo 'a\\' '; touch x; '",
            "echo \"a\\\" ; touch x ; \"",
        ],
    );
}

#[test]
fn what_destroys_is_found_behind_names_and_in_lines() {
    assert_all(
        Label::Destructive,
        &[
            "rm -rf build",
            "'rm' x",
            "r\"m\" x",
            "\\rm x",
            "/bin/rm x",
            "FORCE=1 rm x",
            "ls && sudo ls",
            "echo `rm x`",
            "echo \"$(rm x)\"",
            "git push --force",
            "git -C x push",
            "find . -name x -delete",
            "find . -exec rm {} +",
            "find . '-exec' x",
            "mkfs.ext4 /dev/sda",
            "env -i rm x",
            "xargs -0 rm",
            "nohup nice rm x",
            "sh -c 'rm x'",
            "bash -c \"sh -c 'rm x'\"",
            "sed -i s/a/b/ x",
        ],
    );
}
