//! Requests to a server whose answers are read as leniently as possible.
//!
//! The protocol library rejects an answer as a whole when it does not know one part of it. Here such an answer is read
//! part by part.

use rmcp::Peer;
use rmcp::RoleClient;
use rmcp::model::CallToolRequest;
use rmcp::model::CallToolRequestParams;
use rmcp::model::CancelledNotificationParam;
use rmcp::model::ClientRequest;
use rmcp::model::ListToolsRequest;
use rmcp::model::PaginatedRequestParams;
use rmcp::model::RequestId;
use rmcp::model::ServerResult;
use rmcp::model::Tool as ServerTool;
use rmcp::service::PeerRequestOptions;
use rmcp::service::ServiceError;
use serde::Deserialize;
use serde_json::Value;

use crate::process::Nursery;

/// The most pages of one list of tools. Servers have a few hundred tools at most; one that never ends its list must not
/// fill the memory.
const MAX_PAGES: usize = 100;
/// The most tools of one server, and the most bytes of their names, descriptions and schemas: several times what any model
/// can be offered.
const MAX_TOOLS: usize = 2_000;
const MAX_TOOL_BYTES: usize = 8 * 1024 * 1024;

/// Calls a tool. Dropping the future notifies the server that the call is cancelled.
pub(super) async fn call(
    peer: &Peer<RoleClient>,
    params: CallToolRequestParams,
    nursery: &Nursery,
) -> Result<ServerResult, ServiceError> {
    let request = CallToolRequest::new(params);
    let handle = peer
        .send_cancellable_request(ClientRequest::CallToolRequest(request), PeerRequestOptions::no_options())
        .await?;
    let mut cancel =
        CancelOnDrop { peer: peer.clone(), id: Some(handle.id.clone()), nursery: nursery.clone() };
    let answer = handle.await_response().await;
    cancel.id = None;
    answer
}

/// Sends the notification that a request is cancelled, unless its id was taken.
struct CancelOnDrop {
    peer: Peer<RoleClient>,
    id: Option<RequestId>,
    nursery: Nursery,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        // Without a runtime the process is exiting, and the server notices that.
        let (Some(id), Ok(_)) = (self.id.take(), tokio::runtime::Handle::try_current()) else { return };
        let peer = self.peer.clone();
        self.nursery.spawn(async move {
            let reason = Some("the caller no longer waits for it".to_owned());
            let cancelled = CancelledNotificationParam::new(Some(id), reason);
            // The connection may have ended.
            let _ignored = peer.notify_cancelled(cancelled).await;
        });
    }
}

/// The tools of a server, and a warning for each that cannot be read.
///
/// # Errors
///
/// The server refused, or its answer is not a list of tools.
pub(super) async fn list_tools(peer: &Peer<RoleClient>) -> Result<(Vec<ServerTool>, Vec<String>), String> {
    let (mut tools, mut warnings) = (Vec::new(), Vec::new());
    let mut cursor = None;
    let mut bytes = 0;
    for _ in 0..MAX_PAGES {
        let page = PaginatedRequestParams::default().with_cursor(cursor);
        let request = ListToolsRequest::with_param(page);
        let answer = peer.send_request(ClientRequest::ListToolsRequest(request)).await;
        let counted = tools.len();
        let next = match answer.map_err(|error| error.to_string())? {
            ServerResult::ListToolsResult(page) => {
                tools.extend(page.tools);
                page.next_cursor
            }
            ServerResult::CustomResult(page) => {
                let Some(listed) = page.0["tools"].as_array() else {
                    return Err("the answer has no list of tools".to_owned());
                };
                for tool in listed {
                    match ServerTool::deserialize(tool) {
                        Ok(tool) => tools.push(tool),
                        Err(error) => warnings.push(skipped(tool, &error)),
                    }
                }
                page.0["nextCursor"].as_str().map(str::to_owned)
            }
            _ => return Err("the answer is not a list of tools".to_owned()),
        };
        bytes += tools[counted..].iter().map(size).sum::<usize>();
        if tools.len() > MAX_TOOLS || bytes > MAX_TOOL_BYTES {
            tools.truncate(counted.min(MAX_TOOLS));
            warnings.push(format!("it lists too many tools; only the first {} are used", tools.len()));
            return Ok((tools, warnings));
        }
        // Some servers send an empty cursor with the last page.
        cursor = next.filter(|cursor| !cursor.is_empty());
        if cursor.is_none() {
            return Ok((tools, warnings));
        }
    }
    warnings.push(format!("it lists more than {MAX_PAGES} pages of tools; the rest is left out"));
    Ok((tools, warnings))
}

/// The bytes of a tool's texts, about.
fn size(tool: &ServerTool) -> usize {
    let schema = serde_json::to_string(&*tool.input_schema).map_or(0, |schema| schema.len());
    tool.name.len() + tool.description.as_ref().map_or(0, |text| text.len()) + schema
}

/// The warning for a tool that cannot be read.
fn skipped(tool: &Value, error: &serde_json::Error) -> String {
    let name: String = tool["name"].as_str().unwrap_or("without a name").chars().take(100).collect();
    format!("its tool {name} cannot be read and is skipped: {error}")
}
