// Calls every tool of `legwork mcp` with the official TypeScript client and checks the results.
//
// usage: node drive.mjs stdio COMMAND...    or    node drive.mjs http URL [TOKEN]
// Exits with status 0 and prints `all good` if every check passed. MCP_SDK is the folder with the client's packages.

import assert from "node:assert/strict";
import process from "node:process";
import { pathToFileURL } from "node:url";

const sdk = (path) => import(pathToFileURL(`${process.env.MCP_SDK}/@modelcontextprotocol/sdk/dist/esm/${path}`).href);
const { Client } = await sdk("client/index.js");
const { StdioClientTransport } = await sdk("client/stdio.js");
const { StreamableHTTPClientTransport } = await sdk("client/streamableHttp.js");

const [kind, ...rest] = process.argv.slice(2);
const transport =
  kind === "stdio"
    ? new StdioClientTransport({ command: rest[0], args: rest.slice(1), env: process.env, stderr: "inherit" })
    : new StreamableHTTPClientTransport(new URL(rest[0]), {
        requestInit: rest[1] ? { headers: { Authorization: `Bearer ${rest[1]}` } } : {},
      });
const client = new Client({ name: "drive", version: "1" });
await client.connect(transport);

const text = (result) => result.content.map((block) => block.text).join("\n");
const call = (name, args, options = {}, meta = undefined) =>
  client.callTool({ name, arguments: args, _meta: meta }, undefined, options);
const succeed = async (...call_) => {
  const result = await call(...call_);
  assert.ok(!result.isError, text(result));
  return result;
};
const fail = async (words, ...call_) => {
  const result = await call(...call_);
  assert.ok(result.isError && text(result).includes(words), text(result));
};

assert.match(client.getInstructions(), /never poll/);
const { tools } = await client.listTools();
assert.deepEqual(
  tools.map((tool) => tool.name),
  ["run", "list", "view", "stop", "wait", "send"].map((verb) =>
    ["list", "wait"].includes(verb) ? `${verb}_background_agents` : `${verb}_background_agent`,
  ),
);

const run = "run_background_agent";
const first = await succeed(run, { agent: "quick", task: "one", expected_output: null, key: "mine" });
const one = first.structuredContent.id;
assert.ok(text(first).startsWith(`Background agent task started with ID: ${one}\nAgent: quick\nTask: one`));
const again = await succeed(run, { agent: "quick", task: "one", key: "mine" });
assert.equal(again.structuredContent.id, one);
const meta = { "example.com/toolCallId": "call_1" };
const two = (await succeed(run, { agent: "quick", task: "two" }, {}, meta)).structuredContent.id;
assert.equal((await succeed(run, { agent: "quick", task: "two" }, {}, meta)).structuredContent.id, two);
await fail('agent "stranger" is not in the sub-agents list', run, { agent: "stranger", task: "x" });

const waited = await succeed("wait_background_agents", { task_ids: [one, two], timeout: 30 });
assert.deepEqual(
  JSON.parse(waited.content[0].text).tasks.map((item) => [item.task_id, item.status]),
  [[one, "completed"], [two, "completed"]],
);
const slow = (await succeed(run, { agent: "shell", task: "slow" })).structuredContent.id;
const progress = [];
const late = await succeed(
  "wait_background_agents",
  { task_ids: [slow, one], timeout: 0.5 },
  { onprogress: (update) => progress.push(update) },
);
assert.deepEqual(late.structuredContent.still_running, [slow]);
assert.match(progress[0].message, /1 of 2 ended; still running: shell/);

// Cancelling a request leaves its job running.
const cancellation = new AbortController();
const waiting = call("wait_background_agents", { task_ids: [slow] }, { signal: cancellation.signal });
setTimeout(() => cancellation.abort("changed my mind"), 100);
await assert.rejects(waiting);
const listed = await succeed("list_background_agents", {});
assert.ok(listed.structuredContent.tasks.some((job) => job.id === slow && job.status !== "stopped"));

let output = "";
while (!output.includes("marker")) {
  const view = await succeed("view_background_agent", { task_id: slow, since: output.length, wait_ms: 20000 });
  output += view.structuredContent.output;
}
assert.equal(
  text(await succeed("send_background_agent", { task_id: slow, message: "hello" })),
  `Message sent to background agent task ${slow}.`,
);
assert.equal(
  text(await succeed("stop_background_agent", { task_id: slow })),
  `Background agent task ${slow} stopped.`,
);
await succeed("wait_background_agents", { task_ids: [slow] });
await fail("is not running (status: stopped)", "stop_background_agent", { task_id: slow });
await client.close();
console.log("all good");
process.exit(0);
