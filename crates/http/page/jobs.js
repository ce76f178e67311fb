// Sessions as trees of jobs, with a filter; and the tree of one session.

import { StopSessionButton } from "./actions.js";
import { ago, count, duration, line, money, short } from "./format.js";
import { Badge, Connection, isLive, live, useNow, useStream } from "./ui.js";
import { html, useEffect, useReducer, useRef, useState } from "./vendor/preact.js";

export const jobPath = (id) => `/jobs/${encodeURIComponent(id)}`;

export function Link({ to, children, ...more }) {
  return html`<a href=${`#${to}`} ...${more}>${children}</a>`;
}

/** A list with what one event of its stream brings: the jobs that changed, and which ones are in it. */
export function reduceList(list, { changed, ids, next }) {
  const known = new Map(list.jobs);
  changed.forEach((job) => known.set(job.id, job));
  return { jobs: new Map(ids.map((id) => [id, known.get(id)])), ids, next };
}

/**
 * The jobs of a list by session: those whose dispatcher is not in the list newest first, as in the list; below a job those
 * that it dispatched, in that order.
 */
export function sessions({ jobs, ids }) {
  const found = new Map();
  for (const id of ids) {
    const job = jobs.get(id);
    if (!found.has(job.session)) found.set(job.session, { id: job.session, below: new Map(), size: 0, cost: null, live: 0 });
    const session = found.get(job.session);
    const parent = job.parent && jobs.has(job.parent) ? job.parent : "";
    if (!session.below.has(parent)) session.below.set(parent, []);
    if (parent) session.below.get(parent).unshift(job);
    else session.below.get(parent).push(job);
    session.size += 1;
    session.live += isLive(job) ? 1 : 0;
    if (job.cost_usd != null) session.cost = (session.cost ?? 0) + job.cost_usd;
  }
  return [...found.values()];
}

function Row({ job, now, current }) {
  const runs = job.attempt_started_at && isLive(job) ? now - Date.parse(job.attempt_started_at) : 0;
  const waits = job.waits_for?.reason;
  return html`<div class=${current === job.id ? "row current" : "row"}>
    <${Badge} status=${job.status} />
    <${Link} to=${jobPath(job.id)} class="grow" aria-current=${current === job.id ? "page" : undefined}>
      <b>${job.agent}</b> ${line(job.task)}
    <//>
    ${waits && html`<span class=${waits === "answer" ? "asks" : "muted"}>${waits === "answer" ? "waits for your answer" : waits.replace("_", " ")}</span>`}
    ${!isLive(job) && job.cause && html`<span class="muted">${job.cause}</span>`}
    ${isLive(job) && job.worker && html`<span class="muted wide">on ${job.worker}</span>`}
    <span class="muted number" title="run time">${job.started_at ? duration(runs || job.runtime_ms) : "–"}</span>
    <span class="muted number wide" title="cost">${money(job.cost_usd)}</span>
    <span class="muted number wide" title="dispatched">${ago(job.created_at, now)}</span>
  </div>`;
}

function Branch({ session, parent, now, current }) {
  const jobs = session.below.get(parent) ?? [];
  if (jobs.length === 0) return null;
  return html`<ul class="tree">
    ${jobs.map(
      (job) => html`<li key=${job.id}>
        <${Row} job=${job} now=${now} current=${current} />
        <${Branch} session=${session} parent=${job.id} now=${now} current=${current} />
      </li>`,
    )}
  </ul>`;
}

function Session({ session, now, current }) {
  return html`<section class="session" aria-label=${`Session ${short(session.id)}`}>
    <header>
      <h2><${Link} to=${`/jobs?session=${session.id}`}>Session ${short(session.id)}<//></h2>
      <span class="muted">${count(session.size)} jobs, ${count(session.live)} live · ${money(session.cost)}</span>
      ${session.live > 0 && html`<${StopSessionButton} session=${session} />`}
    </header>
    <${Branch} session=${session} parent="" now=${now} current=${current} />
  </section>`;
}

/** The tree of one session, next to one of its jobs. */
export function SessionTree({ id, current }) {
  const [list, take] = useReducer(reduceList, { jobs: new Map(), ids: null });
  const now = useNow();
  const { state, problem } = useStream(`v1/jobs/events?limit=500&session=${id}`, (_, data) => take(data));
  if (!list.ids) return html`<${Connection} state=${state} problem=${problem} />`;
  return sessions(list).map((session) => html`<${Session} key=${session.id} session=${session} now=${now} current=${current} />`);
}

const CHOICES = { "": "all", [live.join(",")]: "live", running: "running", queued: "queued", waiting: "waiting", "completed": "completed", failed: "failed", stopped: "stopped" };
const TEXTS = ["agent", "queue", "session", "worker", "since"];

function Filter({ query, change }) {
  const first = useRef(null);
  useEffect(() => {
    const focus = (event) => {
      if (event.key !== "/" || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
      event.preventDefault();
      first.current.focus();
    };
    document.addEventListener("keydown", focus);
    return () => document.removeEventListener("keydown", focus);
  }, []);
  return html`<form class="filter" onSubmit=${(event) => event.preventDefault()} aria-label="Filter">
    <label>status
      <select ref=${first} value=${query.get("status") ?? ""} onChange=${(event) => change("status", event.target.value)}>
        ${Object.entries(CHOICES).map(([value, name]) => html`<option key=${value} value=${value}>${name}</option>`)}
      </select>
    </label>
    ${TEXTS.map(
      (name) => html`<label key=${name}>${name}
        <input type="text" value=${query.get(name) ?? ""} onChange=${(event) => change(name, event.target.value.trim())} autocomplete="off" spellcheck=${false} />
      </label>`,
    )}
  </form>`;
}

const PAGE = 100;
const MOST = 1000;

export function Jobs({ query, go }) {
  const [limit, setLimit] = useState(PAGE);
  const [list, take] = useReducer(reduceList, { jobs: new Map(), ids: null });
  const now = useNow();
  const asked = new URLSearchParams(query);
  asked.set("limit", limit);
  const { state, problem } = useStream(`v1/jobs/events?${asked}`, (_, data) => take(data));
  const change = (name, value) => {
    const next = new URLSearchParams(query);
    if (value) next.set(name, value);
    else next.delete(name);
    setLimit(PAGE);
    go(`/jobs?${next}`);
  };
  return html`
    <h1>Jobs</h1>
    <${Filter} query=${query} change=${change} />
    <${Connection} state=${state} problem=${problem} />
    ${!list.ids && !problem && html`<p class="muted">Reading…</p>`}
    ${list.ids?.length === 0 && html`<p>No job fits.</p>`}
    ${list.ids && !problem && sessions(list).map((session) => html`<${Session} key=${session.id} session=${session} now=${now} />`)}
    ${list.next && limit < MOST && html`<p><button onClick=${() => setLimit(Math.min(limit * 2, MOST))}>Show older jobs</button></p>`}
    ${list.next && limit >= MOST && html`<p class="muted">The newest ${MOST} are shown; narrow the filter to see others.</p>`}
  `;
}
