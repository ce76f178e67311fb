// Drives a server with the TypeScript client: dispatches, streams across a cut connection, stops, is refused.
//
// usage: drive_http.mjs URL TOKEN AGENT_FILE
// Prints `cut` once a stream has begun, and continues it after the connection is cut. Exits with status 0 and prints
// `all good` if every check passed.

import assert from "node:assert/strict";
import { once } from "node:events";
import process from "node:process";

import { createLegwork, ProblemError } from "legwork-client";

const [url = "", token = "", agent_file = ""] = process.argv.slice(2);
const legwork = createLegwork({ url, token });

/** @template T @param {{ data?: T, error?: unknown }} answer @returns {NonNullable<T>} */
function data(answer) {
  assert.ok(answer.data, JSON.stringify(answer.error));
  return answer.data;
}

/** @template T @param {AsyncIterable<T>} stream */
async function all(stream) {
  const found = [];
  for await (const event of stream) found.push(event);
  return found;
}

const body = { agent: "quick", task: "go", key: "once", agent_file };
const job = data(await legwork.POST("/v1/jobs", { body }));
assert.equal(data(await legwork.POST("/v1/jobs", { body })).id, job.id);

/** @type {import("legwork-client").JobEvent[]} */
const events = [];
let outputs = 0;
for await (const event of legwork.stream(job.id)) {
  events.push(event);
  if (event.name === "output" && ++outputs === 3) {
    console.log("cut");
    await once(process.stdin, "data");
    process.stdin.pause();
  }
}
/** @param {import("legwork-client").JobEvent[]} events */
const output = (events) => Buffer.concat(events.map((event) => (event.name === "output" ? event.bytes : new Uint8Array())));
const path = { id: job.id };
const stored = data(await legwork.GET("/v1/jobs/{id}", { params: { path } }));
assert.equal(output(events).toString(), stored.output);
const end = events.at(-1);
assert.ok(end?.name === "end" && end.data.status === "completed");
assert.ok(events.some((event) => event.name === "state"));
// Another process continues after an event, and after the last one there is nothing.
const middle = events.find((event) => event.name === "output");
assert.ok(middle?.name === "output");
const rest = await all(legwork.stream(job.id, { lastEventId: middle.id }));
assert.equal(Buffer.concat([middle.bytes, output(rest)]).toString(), stored.output);
assert.deepEqual(await all(legwork.stream(job.id, { lastEventId: end.id })), []);

const slow = data(await legwork.POST("/v1/jobs", { body: { agent: "slow", task: "go", agent_file } }));
let last;
let stopped;
for await (const event of legwork.stream(slow.id)) {
  last = event;
  // More output may arrive before the end.
  if (event.name === "output" && !stopped) {
    stopped = data(await legwork.POST("/v1/jobs/{id}/stop", { params: { path: { id: slow.id } } }));
    assert.equal(stopped.stopped_jobs, 1);
  }
}
assert.ok(last?.name === "end" && last.data.cause === "operator");
const listed = data(await legwork.GET("/v1/jobs", { params: { query: { status: "stopped" } } }));
assert.deepEqual(listed.jobs.map((job) => job.id), [slow.id]);
assert.equal((await legwork.GET("/v1/stats")).data?.workers.serving, 1);

const nothing = "agent_task_00000000-0000-4000-8000-000000000000";
const missing = await legwork.GET("/v1/jobs/{id}", { params: { path: { id: nothing } } });
assert.equal(missing.error?.code, "not_found");
await assert.rejects(all(legwork.stream(nothing)), (error) => error instanceof ProblemError && error.status === 404);
const stranger = createLegwork({ url, token: "wrong-wrong-wrong-wrong" });
assert.equal((await stranger.GET("/v1/jobs")).response.status, 401);
console.log("all good");
