// The turns of a job: replies, and tool calls with their results, folded.

import { count, visible } from "./format.js";
import { html } from "./vendor/preact.js";

/** One item for each reply, summary, message and so on, with the results at the calls that they belong to. */
export function items(entries) {
  const found = [];
  const calls = new Map();
  for (const { sequence, entry } of entries) {
    if (entry?.entry === "result") {
      const call = calls.get(`${entry.turn}.${entry.index}`);
      if (call) call.result = entry;
      continue;
    }
    const item = { sequence, entry, calls: [] };
    (entry?.message?.tool_calls ?? []).forEach((call, index) => {
      const made = { call, result: null };
      calls.set(`${entry.turn}.${index}`, made);
      item.calls.push(made);
    });
    // Nothing but counted tokens.
    if (entry?.entry === "compacted" && !entry.summary) continue;
    found.push(item);
  }
  return found;
}

/** Arguments on several lines, if they are JSON. */
function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function Call({ call, result }) {
  const state = result === null ? "running" : result.is_error ? "failed" : "";
  return html`<details class="call">
    <summary>
      <b>${call.name}</b> <code>${visible(call.arguments).slice(0, 100)}</code>
      ${state && html`<span class=${`badge ${state}`}>${state === "failed" ? "error" : "no result yet"}</span>`}
    </summary>
    <h4>Arguments</h4>
    <pre tabindex="0">${visible(pretty(call.arguments))}</pre>
    ${result && html`<h4>Result</h4><pre tabindex="0">${visible(result.text)}</pre>`}
    ${result?.images?.length > 0 && html`<p class="muted">${result.images.length} images are not shown here.</p>`}
  </details>`;
}

function Reply({ entry, calls }) {
  const { text, reasoning, usage } = entry.message;
  return html`<li>
    <header>
      <h3>Turn ${entry.turn}</h3>
      <span class="muted">${usage ? `${count(usage.input_tokens)} tokens in, ${count(usage.output_tokens)} out` : ""}</span>
    </header>
    ${reasoning && html`<details><summary>Reasoning</summary><pre tabindex="0">${visible(reasoning)}</pre></details>`}
    ${text && html`<div class="text">${visible(text)}</div>`}
    ${calls.map(({ call, result }) => html`<${Call} key=${call.id} call=${call} result=${result} />`)}
  </li>`;
}

const TITLES = { delivered: "Message", compacted: "Summary of what came before", stderr: "Standard error" };

function Other({ entry }) {
  if (entry?.entry === "retried") return html`<li><p class="muted">The turns above are those of the job that this one retries.</p></li>`;
  const title = TITLES[entry?.entry] ?? "An entry of a later release";
  const text = entry?.text ?? entry?.summary ?? JSON.stringify(entry, null, 2);
  return html`<li><details open=${entry?.entry === "delivered"}><summary>${title}</summary><pre tabindex="0">${visible(text)}</pre></details></li>`;
}

export function Transcript({ entries }) {
  if (entries.length === 0) return html`<p class="muted">No turn is recorded yet.</p>`;
  return html`<ol class="plain transcript">
    ${items(entries).map(({ sequence, entry, calls }) =>
      entry?.entry === "reply"
        ? html`<${Reply} key=${sequence} entry=${entry} calls=${calls} />`
        : html`<${Other} key=${sequence} entry=${entry} />`,
    )}
  </ol>`;
}
