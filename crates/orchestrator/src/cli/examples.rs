//! The examples below the help of each command. A test parses each of them.

/// The commands, spelled as on the command line (`local reset`), each with its examples: two lines or more, or one with a
/// comment where a command takes nothing.
pub(super) const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "run",
        &[
            "legwork run team.yaml \"How do we handle retries in this folder?\"",
            "legwork run team.yaml    # asks for prompts, one after the other",
            "git diff | legwork run team.yaml --agent reviewer -",
        ],
    ),
    (
        "dispatch",
        &[
            "legwork dispatch team.yaml code_analyst \"Count the source files\"",
            "legwork dispatch --wait --timeout 10m team.yaml code_analyst \"Review it\"",
            "legwork dispatch --batch requests.jsonl team.yaml",
        ],
    ),
    (
        "list",
        &["legwork list --status running --tree", "legwork list --failed --agent code_analyst --since 1h"],
    ),
    ("view", &["legwork view 4f1c", "legwork view --follow --tail 2000 4f1c"]),
    ("explain", &["legwork explain 4f1c", "legwork explain --json 4f1c"]),
    ("wait", &["legwork wait 4f1c 92ab --timeout 10m", "legwork wait --any 4f1c 92ab"]),
    ("stop", &["legwork stop 4f1c", "legwork stop --agent code_analyst --no-wait"]),
    ("retry", &["legwork retry 4f1c", "legwork retry --failed --agent code_analyst"]),
    ("delete", &["legwork delete 4f1c", "legwork delete --ended-before 7d --dry-run"]),
    ("send", &["legwork send 4f1c \"Leave out the tests\"", "legwork send 4f1c - < notes.txt"]),
    ("approve", &["legwork approve", "legwork approve 4f1c", "legwork approve 4f1c --call 2 --answer blue"]),
    ("deny", &["legwork deny 4f1c \"Not on a Friday\"", "legwork deny 4f1c --call 2"]),
    ("check", &["legwork check team.yaml", "legwork check --json examples/script.yaml team.yaml"]),
    ("doctor", &["legwork doctor", "legwork doctor team.yaml --redis redis://127.0.0.1:6379"]),
    ("stats", &["legwork stats", "legwork stats --json --namespace staging"]),
    (
        "workers",
        &["legwork workers", "legwork workers --json --namespace staging", "legwork workers drain build-17"],
    ),
    ("workers drain", &["legwork workers drain build-17", "legwork workers drain build-17-3f2a9c1b"]),
    ("pause", &["legwork pause code", "legwork pause code --namespace staging"]),
    ("unpause", &["legwork unpause code", "legwork unpause code --namespace staging"]),
    (
        "schedule",
        &[
            "legwork schedule add digest \"0 7 * * 1-5\" --zone Europe/Berlin team.yaml writer \"Write the digest\"",
            "legwork schedule list",
        ],
    ),
    (
        "schedule add",
        &[
            "legwork schedule add digest \"0 7 * * 1-5\" --zone Europe/Berlin team.yaml writer \"Write the digest\"",
            "legwork schedule add sweep \"*/10 * * * *\" --missed one --overlap skip team.yaml sweeper \"Sweep\"",
        ],
    ),
    ("schedule list", &["legwork schedule list", "legwork schedule list --json"]),
    (
        "schedule pause",
        &["legwork schedule pause digest", "legwork schedule pause digest --namespace staging"],
    ),
    (
        "schedule resume",
        &["legwork schedule resume digest", "legwork schedule resume digest --namespace staging"],
    ),
    (
        "schedule remove",
        &["legwork schedule remove digest", "legwork schedule remove digest --namespace staging"],
    ),
    ("schedule run-now", &["legwork schedule run-now digest", "legwork schedule run-now digest --json"]),
    ("configure", &["legwork configure", "legwork configure --retention 7d --session-cap 50"]),
    ("keys", &["legwork keys new ci.key --id ci-2026", "legwork keys show ci.key"]),
    ("keys new", &["legwork keys new ci.key --id ci-2026", "legwork keys new worker.key --worker"]),
    ("keys show", &["legwork keys show ci.key", "legwork keys show worker.key --worker --json"]),
    (
        "mcp",
        &[
            "claude mcp add legwork -- legwork mcp /path/to/team.yaml",
            "legwork mcp team.yaml --http 127.0.0.1:7879 --token-file ~/.legwork-token",
        ],
    ),
    ("top", &["legwork top", "legwork top --namespace staging"]),
    ("serve", &["legwork serve team.yaml", "legwork serve --listen 0.0.0.0:7878 --tokens tokens.txt"]),
    ("local", &["legwork local status", "legwork local stop"]),
    ("local status", &["legwork local status", "legwork local status --json"]),
    ("local stop", &["legwork local stop", "legwork local stop --state-dir /tmp/legwork"]),
    ("local reset", &["legwork local reset", "legwork local reset --force"]),
    ("completions", &["legwork completions bash", "legwork completions zsh"]),
    ("man", &["legwork man", "legwork man dispatch"]),
    ("bench", &["legwork bench", "legwork bench --jobs 100000 --redis redis://127.0.0.1:6379 --json"]),
];

/// The examples of the program itself.
pub(super) const FIRST: &[&str] = &[
    "legwork run team.yaml \"How do we handle retries in this folder?\"",
    "legwork dispatch team.yaml code_analyst \"Count the source files\"",
    "legwork list",
];
