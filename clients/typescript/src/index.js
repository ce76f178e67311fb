// A typed client of the HTTP interface, and the stream of a job's events.

import { EventSourceParserStream } from "eventsource-parser/stream";
import createClient from "openapi-fetch";

// What a server that ends, or a proxy in front of it, answers.
const TRANSIENT = [429, 500, 502, 503, 504];
// The server sends a comment every 15 seconds; a connection that shows nothing for three of them is dead.
const READ_TIMEOUT_MS = 50_000;
const FIRST_DELAY_MS = 500;
const MAX_DELAY_MS = 15_000;

/** What the server answered instead of carrying out a request of a stream. */
export class ProblemError extends Error {
  constructor(status, body) {
    super(body.detail ?? `status ${status}`);
    this.name = "ProblemError";
    this.status = status;
    this.code = body.code ?? "http";
    this.hint = body.hint ?? null;
  }
}

export function createLegwork({ url = "http://127.0.0.1:7878", token, fetch = globalThis.fetch } = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const client = createClient({ baseUrl: url, headers, fetch });
  const stream = (id, options) =>
    follow({ fetch, headers, url: `${url.replace(/\/+$/, "")}/v1/jobs/${encodeURIComponent(id)}/events` }, options);
  return Object.assign(client, { stream });
}

async function* follow(source, { lastEventId = "", signal, giveUpAfter = 300 } = {}) {
  let last = lastEventId;
  let delay = FIRST_DELAY_MS;
  let alive = Date.now();
  for (;;) {
    let failure = new Error("the stream ended without its last event");
    try {
      for await (const event of connection(source, last, signal)) {
        delay = FIRST_DELAY_MS;
        alive = Date.now();
        last = event.id || last;
        yield event;
        if (event.name === "end") return;
      }
    } catch (error) {
      // `done` is a client that has seen the end.
      if (error === done) return;
      if (signal?.aborted || (error instanceof ProblemError && !TRANSIENT.includes(error.status))) throw error;
      failure = error;
    }
    if (Date.now() - alive > giveUpAfter * 1000) throw failure;
    await sleep(delay, signal);
    delay = Math.min(delay * 2, MAX_DELAY_MS);
  }
}

const done = Symbol("done");

/** The events of one connection. */
async function* connection({ fetch, headers, url }, last, signal) {
  const watchdog = new AbortController();
  let timer;
  const seen = () => {
    clearTimeout(timer);
    timer = setTimeout(() => watchdog.abort(new Error("nothing arrived")), READ_TIMEOUT_MS);
  };
  const either = signal ? AbortSignal.any([signal, watchdog.signal]) : watchdog.signal;
  seen();
  try {
    const given = last ? { ...headers, "Last-Event-ID": last } : headers;
    const response = await fetch(url, { headers: given, signal: either });
    if (response.status === 204) throw done;
    if (!response.ok) throw new ProblemError(response.status, await response.json().catch(() => ({})));
    const parser = new EventSourceParserStream({ onComment: seen });
    const reader = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(parser).getReader();
    try {
      for (;;) {
        const { done: isOver, value } = await reader.read();
        if (isOver) return;
        seen();
        if (["state", "output", "end"].includes(value.event)) yield read(value);
      }
    } finally {
      await reader.cancel().catch(() => {});
    }
  } finally {
    clearTimeout(timer);
    watchdog.abort();
  }
}

function read({ event: name, id = "", data: text }) {
  const data = JSON.parse(text);
  return name === "output" ? { name, id, data, bytes: bytes(data) } : { name, id, data };
}

function bytes({ output, output_base64 }) {
  if (output_base64 === undefined) return new TextEncoder().encode(output ?? "");
  return Uint8Array.from(atob(output_base64), (character) => character.charCodeAt(0));
}

function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    signal?.addEventListener("abort", stop, { once: true });
  });
}
