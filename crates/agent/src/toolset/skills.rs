//! `skills`: texts for certain tasks, which the model reads when it has such a task.
//!
//! A skill of the machine is a folder with a `SKILL.md`, whose front matter has `name` and `description`. The folders are
//! those of docker-agent, nearest first; of two skills with one name the first counts. A skill of the agent file comes
//! before all of them.

mod forked;
mod local;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use legwork_common::team::Agent;
use legwork_common::team::Skills;
use serde::Deserialize;
use serde_json::Value;

use self::forked::Fork;
use self::forked::RunSkill;
use super::Kit;
use super::limited;
use super::schema;
use super::schema::Schema;
use crate::environment::Environment;
use crate::tool::Tool;
use crate::tool::ToolContext;
use crate::tool::ToolOutcome;
use crate::tool::ToolSpec;

/// The system message before the list of skills.
const INSTRUCTION: &str = "\
## Skills

A skill is a text that tells how a certain kind of task is done here. Where one of these fits your task, read it with \
read_skill before you begin, and follow it. Files that it names are read with read_skill_file.";

/// One skill, with its text or the folder that it is in.
#[derive(Debug, Clone, PartialEq)]
struct Skill {
    name: String,
    description: String,
    source: Source,
}

#[derive(Debug, Clone, PartialEq)]
enum Source {
    /// The text itself.
    Text(String),
    /// A folder with a `SKILL.md`.
    Folder(PathBuf),
    /// It is not read: it runs in a conversation of its own.
    Forked(Box<Fork>),
}

/// The tools for these skills; a kit without tools where there are none. Waits for the disk.
pub(crate) fn open(agent: &Agent, skills: &Skills, environment: &Arc<Environment>) -> Kit {
    let inline = skills.inline.iter().map(|skill| Skill {
        name: skill.name.clone(),
        description: skill.description.clone(),
        source: match Fork::of(skill) {
            Some(fork) => Source::Forked(Box::new(fork)),
            None => Source::Text(skill.instructions.clone()),
        },
    });
    let mut all: Vec<Skill> = inline.collect();
    let mut warnings: Vec<String> = skills
        .urls
        .iter()
        .map(|url| {
            format!("skills of {url} are not loaded: only those of this machine and of the agent file are")
        })
        .collect();
    if skills.local {
        let (found, unreadable) = local::find(environment);
        warnings.extend(unreadable);
        let is_wanted = |skill: &Skill| skills.names.is_empty() || skills.names.contains(&skill.name);
        for skill in found.into_iter().filter(is_wanted) {
            if all.iter().all(|known| known.name != skill.name) {
                all.push(skill);
            }
        }
    }
    for name in skills.names.iter().filter(|name| all.iter().all(|skill| skill.name != **name)) {
        warnings.push(format!("skill {name} was not found"));
    }
    if all.is_empty() {
        return Kit { warnings, ..Kit::default() };
    }
    let list: String = all.iter().map(listed).collect();
    let forks: Vec<(String, Fork)> = all.iter().filter_map(fork_of).collect();
    let all: Arc<[Skill]> = all.into();
    let tool = |action, spec| SkillTool {
        action,
        spec,
        skills: Arc::clone(&all),
        environment: Arc::clone(environment),
    };
    let mut kit = Kit::new([tool(Action::Read, read_spec()), tool(Action::ReadFile, read_file_spec())]);
    if !forks.is_empty() {
        kit.tools.push(Arc::new(RunSkill::new(agent, forks)));
    }
    Kit { warnings, ..kit.with_instruction(format!("{INSTRUCTION}\n{list}")) }
}

/// The line of a skill in the system message.
fn listed(skill: &Skill) -> String {
    let how = if fork_of(skill).is_some() { " (run it with run_skill)" } else { "" };
    format!("\n- {}: {}{how}", skill.name, skill.description.trim())
}

/// The skill with its name, if it runs in a conversation of its own.
fn fork_of(skill: &Skill) -> Option<(String, Fork)> {
    match &skill.source {
        Source::Forked(fork) => Some((skill.name.clone(), fork.as_ref().clone())),
        Source::Text(_) | Source::Folder(_) => None,
    }
}

fn read_spec() -> ToolSpec {
    let schema = Schema::new().required("name", schema::string(), "The name of the skill");
    schema::read_only("read_skill", "Read a skill", schema)
}

fn read_file_spec() -> ToolSpec {
    let schema = Schema::new().required("skill_name", schema::string(), "The name of the skill").required(
        "path",
        schema::string(),
        "The path of the file in the skill's folder",
    );
    schema::read_only("read_skill_file", "Read a file that belongs to a skill", schema)
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Read,
    ReadFile,
}

#[derive(Debug)]
struct SkillTool {
    action: Action,
    spec: ToolSpec,
    skills: Arc<[Skill]>,
    environment: Arc<Environment>,
}

#[derive(Deserialize)]
struct Read {
    name: String,
}

#[derive(Deserialize)]
struct ReadFile {
    skill_name: String,
    path: String,
}

impl SkillTool {
    fn find(&self, name: &str) -> Result<Skill, ToolOutcome> {
        self.skills.iter().find(|skill| skill.name == name).cloned().ok_or_else(|| {
            let names: Vec<&str> = self.skills.iter().map(|skill| skill.name.as_str()).collect();
            ToolOutcome::error(format!("unknown skill `{name}`. Available: {}", names.join(", ")))
        })
    }

    async fn act(&self, arguments: Value) -> Result<String, ToolOutcome> {
        let refused = |reason: String| ToolOutcome::error(reason);
        let environment = Arc::clone(&self.environment);
        match self.action {
            Action::Read => {
                let Read { name } = schema::parse(&self.spec, arguments)?;
                match self.find(&name)?.source {
                    Source::Text(text) => Ok(text),
                    Source::Forked(_) => {
                        Err(refused(format!("skill {name} is not read: run it with run_skill")))
                    }
                    Source::Folder(folder) => {
                        let reading = move || local::text_of(&environment, &folder).map_err(refused);
                        self.environment.blocking.run(reading).await
                    }
                }
            }
            Action::ReadFile => {
                let ReadFile { skill_name, path } = schema::parse(&self.spec, arguments)?;
                match self.find(&skill_name)?.source {
                    Source::Text(_) | Source::Forked(_) => {
                        Err(refused(format!("skill {skill_name} has no files")))
                    }
                    Source::Folder(folder) => {
                        let reading = move || local::file_of(&environment, &folder, &path).map_err(refused);
                        self.environment.blocking.run(reading).await
                    }
                }
            }
        }
    }
}

#[async_trait]
impl Tool for SkillTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, _context: &ToolContext) -> ToolOutcome {
        self.act(arguments).await.map_or_else(|error| error, |text| ToolOutcome::ok(limited(text)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use serde_json::json;

    use super::*;
    use crate::environment::Confinement;
    use crate::testing;

    #[tokio::test]
    async fn skills_of_the_file_and_of_the_machine_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        let write = |path: &str, text: &str| {
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            fs::write(at(path), text).unwrap();
        };
        let front =
            |name: &str| format!("---\nname: {name}\ndescription: \"about {name}\"\n---\nHow to {name}.\n");
        write("project/.agents/skills/deploy/SKILL.md", &front("deploy"));
        write("project/.agents/skills/deploy/notes/a.md", "a note");
        write("project/.claude/skills/review/SKILL.md", &front("review"));
        write("home/.agents/skills/deploy/SKILL.md", "---\nname: deploy\ndescription: farther\n---\nx");
        write("home/.codex/skills/deep/er/SKILL.md", &front("deeper"));
        write("home/.claude/skills/broken/SKILL.md", "no front matter");
        write("secret", "secret");
        fs::create_dir_all(at("project/.git")).unwrap();
        fs::create_dir_all(at("project/src")).unwrap();
        let mut environment = testing::environment(at("project/src"));
        environment.variables.insert("HOME".into(), at("home").display().to_string());

        let skills: Skills = serde_json::from_value(json!({
            "local": true,
            "names": ["deploy", "deeper", "gone"],
            "inline": [{"name": "inline", "description": "of the file", "instructions": "Do it."}],
        }))
        .unwrap();
        let agent = testing::team(&[("a", &[], json!({}))]).agents()[0].clone();
        let kit = open(&agent, &skills, &Arc::new(environment.clone()));
        assert!(
            kit.instruction
                .unwrap()
                .ends_with("\n\n- inline: of the file\n- deploy: about deploy\n- deeper: about deeper")
        );
        let broken = kit.warnings.iter().find(|warning| warning.contains("broken/SKILL.md")).unwrap();
        assert!(
            broken.ends_with("cannot be used: it has no front matter with name and description"),
            "{broken}"
        );
        assert_eq!(kit.warnings.last().unwrap(), "skill gone was not found");

        let (read, read_file) = (&kit.tools[0], &kit.tools[1]);
        assert_eq!(testing::call(read, json!({"name": "inline"})).await.text, "Do it.");
        assert_eq!(testing::call(read, json!({"name": "deploy"})).await.text, "How to deploy.");
        let unknown = testing::call(read, json!({"name": "review"})).await;
        assert_eq!(unknown.text, "unknown skill `review`. Available: inline, deploy, deeper");
        let file =
            async |path: &str| testing::call(read_file, json!({"skill_name": "deploy", "path": path})).await;
        assert_eq!(file("notes/a.md").await.text, "a note");
        for outside in ["../../../../secret", at("secret").to_str().unwrap(), "missing"] {
            assert!(file(outside).await.is_error, "{outside}");
        }
    }

    #[tokio::test]
    async fn skills_of_a_confined_run_in_a_linked_work_dir_are_read_and_no_link_of_theirs_leads_out() {
        let top = tempfile::tempdir().unwrap();
        let at = |path: &str| top.path().join(path);
        for (path, text) in [
            (
                "real/.agents/skills/deploy/SKILL.md",
                "---\nname: deploy\ndescription: d\n---\nHow to deploy.\n",
            ),
            ("real/.agents/skills/deploy/a.md", "a note"),
            ("real/.agents/skills/out/keep", ""),
            ("outside/SKILL.md", "---\nname: outside\ndescription: d\n---\nsecret\n"),
            ("outside/secret", "secret"),
        ] {
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            fs::write(at(path), text).unwrap();
        }
        symlink(at("real"), at("work")).unwrap();
        symlink(at("outside"), at("real/.agents/skills/away")).unwrap();
        symlink(at("outside/SKILL.md"), at("real/.agents/skills/out/SKILL.md")).unwrap();
        symlink(at("outside/secret"), at("real/.agents/skills/deploy/secret.md")).unwrap();
        let mut environment = testing::environment(at("work"));
        environment.confinement = Some(Confinement { folder: at("work"), readable: Vec::new(), user: None });
        let skills: Skills = serde_json::from_value(json!({"local": true})).unwrap();
        let agent = testing::team(&[("a", &[], json!({}))]).agents()[0].clone();
        let kit = open(&agent, &skills, &Arc::new(environment));
        assert!(kit.instruction.unwrap().ends_with("\n\n- deploy: d"));
        assert_eq!(kit.warnings.len(), 2, "{:?}", kit.warnings);
        let (read, read_file) = (&kit.tools[0], &kit.tools[1]);
        assert_eq!(testing::call(read, json!({"name": "deploy"})).await.text, "How to deploy.");
        let file =
            async |path: &str| testing::call(read_file, json!({"skill_name": "deploy", "path": path})).await;
        assert_eq!(file("a.md").await.text, "a note");
        assert!(file("secret.md").await.is_error);
    }
}
