// Changing jobs: stop, retry, fork, send; each asks first.

import { get, post } from "./api.js";
import { line, short } from "./format.js";
import { Ask, attempt, isLive } from "./ui.js";
import { html, useState } from "./vendor/preact.js";

const path = (id) => `v1/jobs/${encodeURIComponent(id)}`;

function ButtonWithDialog({ text, label, isDangerous, children }) {
  const [isOpen, open] = useState(false);
  return html`<button class=${isDangerous ? "danger" : ""} aria-label=${label} onClick=${() => open(true)}>${text}</button>
    ${isOpen && children(() => open(false))}`;
}

export function StopButton({ job }) {
  return html`<${ButtonWithDialog} text="Stop" isDangerous>
    ${(close) => html`<${Ask} title=${`Stop ${job.agent}?`} verb="Stop" isDangerous onClose=${close}
      act=${() => attempt(() => post(`${path(job.id)}/stop`), ({ stopped_jobs: n }) => `Stopping ${n} ${n === 1 ? "job" : "jobs"}.`)}>
      <p>${line(job.task)}</p>
      <p>It ends with all jobs that it dispatched. What it wrote so far stays.</p>
    <//>`}
  <//>`;
}

export function StopSessionButton({ session }) {
  return html`<${ButtonWithDialog} text="Stop all" label=${`Stop all jobs of session ${short(session.id)}`} isDangerous>
    ${(close) => html`<${Ask} title="Stop all jobs of the session?" verb="Stop all" isDangerous onClose=${close}
      act=${() => attempt(() => post(`v1/sessions/${session.id}/stop`), ({ stopped_jobs: n }) => `Stopping ${n} ${n === 1 ? "job" : "jobs"}.`)}>
      <p>${session.live} of the jobs shown here have not ended.</p>
    <//>`}
  <//>`;
}

export function RetryButton({ job, label, done }) {
  const retry = async (fields) => {
    const body = { fresh: fields.has("fresh"), again: fields.has("again") };
    const answer = await attempt(() => post(`${path(job.id)}/retry`, body), ({ id }) => `Retried as ${short(id)}.`);
    if (answer) done?.(answer);
    return answer;
  };
  return html`<${ButtonWithDialog} text="Retry" label=${label}>
    ${(close) => html`<${Ask} title=${`Retry ${job.agent}?`} verb="Retry" onClose=${close} act=${retry}>
      <p>${line(job.task)}</p>
      <label class="check"><input type="checkbox" name="fresh" /> from the beginning instead of after its recorded turns</label>
      <label class="check"><input type="checkbox" name="again" /> even if it was retried before</label>
    <//>`}
  <//>`;
}

// Retries at once, so that many failed jobs take seconds and the browser has connections left.
const AT_ONCE = 3;

/** Retries all failed jobs that a query selects and that were not retried, at most a thousand. */
export function RetryAllButton({ query, count }) {
  const retryAll = async () => {
    const { jobs } = await get(`v1/jobs?failed=true&limit=1000&${query}`);
    const waiting = jobs.map(({ id }) => id);
    const refused = [];
    const one = async () => {
      for (let id = waiting.pop(); id; id = waiting.pop()) {
        await post(`${path(id)}/retry`).catch((problem) => refused.push(problem));
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, one));
    if (refused.length > 0) throw refused[0];
    return jobs.length;
  };
  return html`<${ButtonWithDialog} text="Retry all">
    ${(close) => html`<${Ask} title="Retry all that failed?" verb="Retry all" onClose=${close}
      act=${() => attempt(retryAll, (retried) => `Retried ${retried} jobs.`)}>
      <p>${count} Each becomes a new job that continues after its recorded turns.</p>
    <//>`}
  <//>`;
}

export function ForkButton({ job, done }) {
  const fork = async (fields) => {
    const answer = await attempt(() => post(`${path(job.id)}/fork`, { task: fields.get("task") }), ({ id }) => `Forked as ${short(id)}.`);
    if (answer) done?.(answer);
    return answer;
  };
  return html`<${ButtonWithDialog} text="Fork">
    ${(close) => html`<${Ask} title=${`Fork ${job.agent}?`} verb="Fork" onClose=${close} act=${fork}>
      <p>A new job of the same agent, with the same options, from the beginning. This one is not changed.</p>
      <label>Task <textarea name="task" rows="6" required autofocus>${job.task}</textarea></label>
    <//>`}
  <//>`;
}

export function SendButton({ job }) {
  const send = (fields) =>
    attempt(() => post(`${path(job.id)}/messages`, { message: fields.get("message") }), "The message is stored; the agent reads it before its next model call.");
  return html`<${ButtonWithDialog} text="Send a message">
    ${(close) => html`<${Ask} title=${`Send a message to ${job.agent}`} verb="Send" onClose=${close} act=${send}>
      <label>Message <textarea name="message" rows="4" required autofocus></textarea></label>
    <//>`}
  <//>`;
}

/** The changes that the state of a job allows. */
export function Actions({ job, go }) {
  const show = ({ id }) => go(`/jobs/${id}`);
  const forkButton = html`<${ForkButton} job=${job} done=${show} />`;
  if (!isLive(job)) return html`${job.status !== "completed" && html`<${RetryButton} job=${job} done=${show} />`} ${forkButton}`;
  return html`<${SendButton} job=${job} /> ${forkButton} ${job.status !== "stopping" && html`<${StopButton} job=${job} />`}`;
}
