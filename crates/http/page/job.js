// One job: its state and why, live output, transcript, attempts, and its session.

import { get } from "./api.js";
import { Actions } from "./actions.js";
import { ago, bytes, clock, count, duration, money, short, visible } from "./format.js";
import { jobPath, Link, SessionTree } from "./jobs.js";
import { Questions } from "./questions.js";
import { Transcript } from "./transcript.js";
import { Badge, Connection, isLive, useNow, useStream } from "./ui.js";
import { html, useEffect, useRef, useState } from "./vendor/preact.js";

// Output that the page keeps: enough to read, and no burden for the browser.
const MAX_OUTPUT = 512 * 1024;

/** Output as it comes. It is not announced: a model writes faster than a screen reader reads. It is appended to the page as text nodes: nothing in it is markup, and nothing is drawn twice. */
function Output({ sink, job, since }) {
  const place = useRef(null);
  const [size, setSize] = useState({ shown: 0, cut: false });
  useEffect(() => {
    let shown = 0;
    sink.current = (text) => {
      const box = place.current;
      const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
      box.append(document.createTextNode(text));
      shown += text.length;
      let cut = false;
      while (shown > MAX_OUTPUT && box.childNodes.length > 1) {
        shown -= box.firstChild.length;
        box.firstChild.remove();
        cut = true;
      }
      setSize((before) => ({ shown, cut: before.cut || cut }));
      if (isAtEnd) box.scrollTop = box.scrollHeight;
    };
    return () => (sink.current = null);
  }, []);
  return html`<section aria-labelledby="output">
    <h2 id="output">Output <small>${bytes(job?.output_bytes ?? 0)}</small></h2>
    ${(size.cut || since > 0) && html`<p class="muted">The beginning is not shown; <code>legwork view</code> has all of it.</p>`}
    <pre class="output" ref=${place} tabindex="0" role="log" aria-live="off" aria-labelledby="output"></pre>
    ${size.shown === 0 && html`<p class="muted">It has printed nothing.</p>`}
  </section>`;
}

function Attempts({ job, now }) {
  const current = job.attempt > 0 && job.attempt_started_at
    ? [{ attempt: job.attempt, worker: job.worker, started_at: job.attempt_started_at, end: isLive(job) ? "running" : job.status, detail: job.error,
        runtime_ms: (job.finished_at ? Date.parse(job.finished_at) : now) - Date.parse(job.attempt_started_at) }]
    : [];
  const all = [...job.past_attempts.filter(({ attempt }) => attempt !== current[0]?.attempt), ...current];
  if (all.length === 0) return html`<p class="muted">It has not run yet.</p>`;
  const begin = Math.min(...all.map(({ started_at }) => Date.parse(started_at ?? job.created_at)));
  const end = Math.max(...all.map((one) => Date.parse(one.started_at ?? job.created_at) + one.runtime_ms), begin + 1);
  const percent = (time) => `${Math.max(0, Math.min(100, ((time - begin) / (end - begin)) * 100))}%`;
  return html`<ol class="plain attempts">
    ${all.map((one) => {
      const started = Date.parse(one.started_at ?? job.created_at);
      return html`<li key=${one.attempt}>
        <div>
          <b>Attempt ${one.attempt}</b> <span class=${`badge ${one.end}`}>${one.end.replace("_", " ")}</span>
          <span class="muted">${clock(one.started_at)} · ${duration(one.runtime_ms)} · ${one.worker ?? ""}</span>
        </div>
        <div class="track" aria-hidden="true">
          <div class=${`bar ${one.end}`} style=${{ left: percent(started), width: `max(3px, ${percent(begin + one.runtime_ms)})` }}></div>
        </div>
        ${one.detail && html`<p class="muted">${visible(one.detail)}</p>`}
      </li>`;
    })}
  </ol>`;
}

function Facts({ job, now }) {
  const facts = [
    ["agent", job.agent],
    ["queue", html`<${Link} to=${`/jobs?queue=${encodeURIComponent(job.queue)}`}>${job.queue}<//>`],
    ["priority", job.priority],
    ["dispatched", ago(job.created_at, now)],
    job.finished_at && ["ended", ago(job.finished_at, now)],
    ["run time", duration(isLive(job) && job.attempt_started_at ? now - Date.parse(job.attempt_started_at) : job.runtime_ms)],
    job.worker && ["worker", html`<${Link} to=${`/jobs?worker=${encodeURIComponent(job.worker)}`}>${job.worker}<//>`],
    job.model && ["model", job.model],
    ["turns", count(job.usage.turns)],
    ["tokens", `${count(job.usage.input_tokens)} in, ${count(job.usage.output_tokens)} out`],
    ["cost", money(job.cost_usd)],
    job.parent && ["dispatched by", html`<${Link} to=${jobPath(job.parent)}>${short(job.parent)}<//>`],
    job.retry_of && ["retry of", html`<${Link} to=${jobPath(job.retry_of)}>${short(job.retry_of)}<//>`],
    job.timeout_ms && ["timeout", duration(job.timeout_ms)],
    job.key && ["key", job.key],
  ];
  return html`<dl class="facts">
    ${facts.filter(Boolean).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
  </dl>`;
}

function Text({ title, text, isError }) {
  if (!text) return null;
  return html`<section>
    <h2>${title}</h2>
    <div class=${isError ? "text problem" : "text"} tabindex="0">${visible(text)}</div>
  </section>`;
}

/** What streams bring of a job: the whole job once, then its states; its turns whenever there are more. */
function useJob(id, sink) {
  const [job, setJob] = useState(null);
  const [explanation, setExplanation] = useState("");
  const [entries, setEntries] = useState([]);
  const [problem, setProblem] = useState(null);
  const last = useRef(0);
  const path = `v1/jobs/${encodeURIComponent(id)}`;
  const readMore = async () => {
    const { turns } = await get(`${path}/turns?after=${last.current}`);
    const more = turns.filter(({ sequence }) => sequence > last.current);
    if (more.length === 0) return;
    last.current = more.at(-1).sequence;
    setEntries((known) => [...known, ...more]);
  };
  const explain = () => get(`${path}/explanation`).then((answer) => setExplanation(answer.explanation));
  const [since, setSince] = useState(null);
  useEffect(() => {
    get(`${path}?tail=0`)
      .then((whole) => {
        setJob(whole);
        setSince(Math.max(0, whole.output_bytes - MAX_OUTPUT));
      })
      .catch(setProblem);
    readMore().catch(() => {});
  }, [id]);
  const stream = useStream(since === null ? null : `${path}/events?since=${since}`, (name, data) => {
    if (name === "output") return sink.current?.(visible(data.output ?? decode(data.output_base64)));
    setJob((known) => ({ ...known, ...data }));
    explain().catch(() => {});
    readMore().catch(() => {});
  });
  return { job, since, explanation, entries, state: stream.state, problem: problem ?? stream.problem };
}

const decode = (base64) =>
  new TextDecoder().decode(Uint8Array.from(atob(base64 ?? ""), (character) => character.charCodeAt(0)));

export function JobView({ id, go }) {
  const sink = useRef(null);
  const now = useNow();
  const { job, since, explanation, entries, state, problem } = useJob(id, sink);
  useEffect(() => {
    if (job) document.title = `${job.agent} ${job.status} – Legwork`;
  }, [job?.status]);
  if (!job) {
    return html`<h1>Job ${short(id)}</h1><${Connection} state=${state} problem=${problem} />${!problem && html`<p class="muted">Reading…</p>`}`;
  }
  return html`
    <header class="title">
      <h1><${Badge} status=${job.status} /> ${job.agent} <small>${short(job.id)}</small></h1>
      <div class="buttons"><${Actions} job=${job} go=${go} /></div>
    </header>
    <${Connection} state=${state} problem=${problem} />
    <p class="explanation">${visible(explanation)}</p>
    <${Questions} job=${job} />
    <${Facts} job=${job} now=${now} />
    <${Text} title="Task" text=${job.task} />
    <${Text} title="Error" text=${job.status === "failed" ? job.error : ""} isError />
    <${Text} title="Result" text=${job.result} />
    <${Output} sink=${sink} job=${job} since=${since} />
    <section aria-labelledby="transcript"><h2 id="transcript">Transcript</h2><${Transcript} entries=${entries} /></section>
    <section aria-labelledby="attempts"><h2 id="attempts">Attempts</h2><${Attempts} job=${job} now=${now} /></section>
    <section aria-labelledby="tree"><h2 id="tree">Its session</h2><${SessionTree} id=${job.session} current=${job.id} /></section>
  `;
}
