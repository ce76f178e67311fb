//! The tools of `plan`, as a model is told of them.

use serde_json::json;

use crate::tool::ToolSpec;
use crate::toolset::schema;
use crate::toolset::schema::Schema;

/// The system message of the toolset.
pub(super) const INSTRUCTION: &str = "\
## Plans

You share plans with other agents: documents with a name, a title, a status and a revision, which outlive this \
conversation.

- Read a plan before you write it: write_plan replaces its whole content. Give the revision that you read as \
last_known_revision, so that no change of another agent is lost.
- To edit a long plan, export it to a file, edit the file, and give it to update_plan_from_file.";

#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    Write,
    Read,
    List,
    Delete,
    UpdateFromFile,
    Export,
    SetStatus,
    Status,
}

pub(super) fn all() -> [(Action, ToolSpec); 8] {
    let text = schema::string;
    let path = |schema: Schema, what: &str| schema.required("path", text(), what);
    [
        (
            Action::Write,
            schema::writing(
                "write_plan",
                "Create a plan, or replace its content. Each write has a new revision.",
                guarded(described(named().required("content", text(), "The whole plan, as Markdown"))),
            ),
        ),
        (Action::Read, schema::read_only("read_plan", "Show a plan with its content and revision", named())),
        (
            Action::List,
            schema::read_only("list_plans", "List all plans, without their content", Schema::new()),
        ),
        (Action::Delete, schema::writing("delete_plan", "Delete a plan", guarded(named()))),
        (
            Action::UpdateFromFile,
            schema::writing(
                "update_plan_from_file",
                "Create a plan, or replace its content, by the content of a file",
                guarded(described(path(named(), "The file"))),
            ),
        ),
        (
            Action::Export,
            schema::idempotent(
                "export_plan_to_file",
                "Write the content of a plan to a file. The content is not part of the answer.",
                path(named(), "The file, which is replaced"),
            ),
        ),
        (
            Action::SetStatus,
            schema::writing(
                "set_plan_status",
                "Set the status of a plan without its content. Each change has a new revision.",
                guarded(named().required("status", text(), "Any word, such as in-progress or done")),
            ),
        ),
        (
            Action::Status,
            schema::read_only("get_plan_status", "Show the status and the revision of a plan", named()),
        ),
    ]
}

fn named() -> Schema {
    let about = "The name of the plan: lowercase letters, digits, - and _";
    Schema::new().required("name", schema::string(), about)
}

/// Adds the fields that stay as they are where they are left out.
fn described(schema: Schema) -> Schema {
    schema
        .optional("title", schema::string(), "A title; the present one stays where it is left out")
        .optional("author", schema::string(), "Who writes; the present one stays where it is left out")
        .optional("status", schema::string(), "A status; the present one stays where it is left out")
}

fn guarded(schema: Schema) -> Schema {
    let revision = json!({"type": "integer", "minimum": 0});
    let about = "The revision that you read last: the change is refused where the plan has another one";
    schema.optional("last_known_revision", revision, about)
}
