// Requests and streams. The token is kept in sessionStorage only: it is gone with the tab.

import { EventSourceParserStream } from "./vendor/sse.js";

const TOKEN = "legwork.token";
const base = new URL("./", document.baseURI);
// The server sends a comment every 15 seconds; a connection that shows nothing for three of them is dead.
const READ_TIMEOUT_MS = 50_000;
const FIRST_DELAY_MS = 500;
const MAX_DELAY_MS = 15_000;

export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (text) => (text ? sessionStorage.setItem(TOKEN, text) : sessionStorage.removeItem(TOKEN)),
};

/** What the server answered instead of doing it. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? `The server answered with status ${status}.`);
    this.status = status;
    this.code = body.code ?? "http";
    this.hint = body.hint ?? "";
  }
}

/** Called with true when the server wants a token, or another one. */
export const refused = new EventTarget();

function headers(more = {}) {
  return token.get() ? { Authorization: `Bearer ${token.get()}`, ...more } : more;
}

async function check(response) {
  if (response.ok) return;
  const problem = new Problem(response.status, await response.json().catch(() => ({})));
  if (problem.status === 401) refused.dispatchEvent(new Event("refused"));
  throw problem;
}

export async function get(path) {
  const response = await fetch(new URL(path, base), { headers: headers() });
  await check(response);
  return response.json();
}

export async function post(path, body = {}) {
  const init = { method: "POST", headers: headers({ "Content-Type": "application/json" }), body: JSON.stringify(body) };
  const response = await fetch(new URL(path, base), init);
  await check(response);
  return response.json();
}

/**
 * Follows a stream until it is closed: `on.event(name, data)`, `on.state("live" | "lost")`, `on.problem(problem)` for a
 * refusal that a repeat does not change. A hidden page gives up its connection and comes back when it is shown.
 * Returns the function that closes it.
 */
export function follow(path, on) {
  const closed = new AbortController();
  run(path, on, closed.signal);
  return () => closed.abort();
}

async function run(path, on, signal) {
  let last = "";
  let delay = FIRST_DELAY_MS;
  while (!signal.aborted) {
    await shown(signal);
    try {
      const isOver = await connection(path, last, signal, (event) => {
        delay = FIRST_DELAY_MS;
        last = event.id || last;
        on.state?.("live");
        on.event(event.event, JSON.parse(event.data));
        return event.event === "end";
      });
      if (isOver) return;
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && error.status < 500 && error.status !== 429) return on.problem?.(error);
    }
    if (signal.aborted) return;
    if (document.visibilityState === "visible") {
      on.state?.("lost");
      await sleep(delay, signal);
      delay = Math.min(delay * 2, MAX_DELAY_MS);
    }
  }
}

/** One connection. True once the stream has ended for good. */
async function connection(path, last, signal, take) {
  const mine = new AbortController();
  const leave = () => mine.abort();
  let timer = setTimeout(leave, READ_TIMEOUT_MS);
  const seen = () => {
    clearTimeout(timer);
    timer = setTimeout(leave, READ_TIMEOUT_MS);
  };
  const hide = () => document.visibilityState === "hidden" && leave();
  document.addEventListener("visibilitychange", hide);
  signal.addEventListener("abort", leave);
  try {
    const given = headers(last ? { "Last-Event-ID": last } : {});
    const response = await fetch(new URL(path, base), { headers: given, signal: mine.signal, cache: "no-store" });
    if (response.status === 204) return true;
    await check(response);
    const parser = new EventSourceParserStream({ onComment: seen });
    const reader = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(parser).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || mine.signal.aborted) return false;
      seen();
      if (take(value)) return true;
    }
  } finally {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", hide);
    signal.removeEventListener("abort", leave);
    leave();
  }
}

function shown(signal) {
  if (document.visibilityState === "visible") return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => (document.visibilityState === "visible" || signal.aborted) && resolve();
    document.addEventListener("visibilitychange", done);
    signal.addEventListener("abort", done);
  });
}

function sleep(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
