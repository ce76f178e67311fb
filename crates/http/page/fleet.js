// The fleet at a glance: numbers, charts, queues, workers, what failed.

import { post } from "./api.js";
import { Chart } from "./charts.js";
import { RetryAllButton, RetryButton } from "./actions.js";
import { ago, count, duration, line, money, rate, short } from "./format.js";
import { attempt, Badge, Connection, useNow, useStream } from "./ui.js";
import { html, useReducer, useState } from "./vendor/preact.js";
import { Link, jobPath, reduceList } from "./jobs.js";

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
const total = (items, field) => sum(items.map((item) => item[field]));

function Tile({ name, value, more, isBad, to }) {
  return html`<div class=${isBad ? "tile bad" : "tile"}>
    <dt>${to ? html`<${Link} to=${to}>${name}<//>` : name}</dt>
    <dd>${value} ${more && html`<small>${more}</small>`}</dd>
  </div>`;
}

function Tiles({ stats, history }) {
  const [hour, day] = stats.ended;
  const ages = stats.queues.map((queue) => queue.oldest_queued_ms).filter((age) => age != null);
  const oldest = ages.length > 0 ? Math.max(...ages) : null;
  // The last bucket is not full.
  const recent = (name) => sum(history.hour[name].slice(-6, -1)) / 5;
  const ended = ["completed", "failed", "stopped"].reduce((rate, name) => rate + recent(name), 0);
  const { slots, used } = stats.workers;
  return html`<dl class="tiles">
    <${Tile} name="Queued" to="/jobs?status=queued" value=${count(total(stats.queues, "queued"))}
      more=${`oldest ${duration(oldest)}`} isBad=${oldest > 15 * 60_000} />
    <${Tile} name="Running" to="/jobs?status=running" value=${count(total(stats.queues, "running"))}
      more=${`${used} of ${slots} slots`} />
    <${Tile} name="Waiting" to="/jobs?status=waiting" value=${count(total(stats.queues, "waiting"))}
      more=${stats.asking.jobs > 0 ? `${count(stats.asking.jobs)} for a person` : `${count(total(stats.queues, "scheduled"))} scheduled`}
      isBad=${stats.asking.jobs > 0} />
    <${Tile} name="Failed, last hour" to="/jobs?status=failed&since=1h" value=${count(hour.failed)}
      more=${`of ${count(hour.total)} ended`} isBad=${hour.failed > 0} />
    <${Tile} name="Rates, per minute" value=${`${rate(recent("dispatched"))} in`} more=${`${rate(ended)} ended`} />
    <${Tile} name="Cost, last hour" value=${money(hour.cost_usd)} more=${`${money(day.cost_usd)} last day`} />
    <${Tile} name="Tokens, last hour" value=${count(hour.usage.input_tokens + hour.usage.output_tokens)}
      more=${`${count(day.usage.input_tokens + day.usage.output_tokens)} last day`} />
    <${Tile} name="Workers" to="/workers" value=${count(stats.workers.serving)}
      more=${["draining", "lost", "sick"].map((state) => `${stats.workers[state]} ${state}`).join(", ")}
      isBad=${stats.workers.lost + stats.workers.sick > 0 || stats.workers.serving === 0} />
  </dl>`;
}

const SPANS = { hour: "Last hour", day: "Last day" };

function Charts({ history }) {
  const [span, setSpan] = useState("hour");
  const buckets = history[span];
  const series = (name, stroke) => ({ name: name.replace("_tokens", ""), stroke, numbers: buckets[name] });
  const of = (name) => sum(buckets[name]);
  const dollars = (number) => (number === 0 ? "$0" : number < 0.01 ? `$${number.toFixed(4).replace(/0+$/, "")}` : `$${number.toFixed(2)}`);
  return html`<section aria-labelledby="charts">
    <h2 id="charts">Over time</h2>
    <p class="choice" role="group" aria-label="Time shown">
      ${Object.entries(SPANS).map(
        ([name, text]) => html`<button key=${name} aria-pressed=${span === name} onClick=${() => setSpan(name)}>${text}</button>`,
      )}
    </p>
    <div class="charts" key=${span}>
      <${Chart} title="Ended" total=${`${count(of("completed"))} completed, ${count(of("failed"))} failed, ${count(of("stopped"))} stopped`}
        buckets=${buckets} format=${count}
        series=${[series("completed", "good"), series("failed", "bad"), series("stopped", "muted")]} />
      <${Chart} title="Tokens" total=${`${count(of("input_tokens"))} in, ${count(of("output_tokens"))} out`}
        buckets=${buckets} format=${count} series=${[series("input_tokens", "accent"), series("output_tokens", "warn")]} />
      <${Chart} title="Cost" total=${money(of("cost_usd"))} buckets=${buckets} format=${dollars} least=${0.01}
        series=${[series("cost_usd", "accent")]} />
    </div>
  </section>`;
}

function Queues({ queues }) {
  const change = (queue) => {
    const verb = queue.paused_since ? "unpause" : "pause";
    attempt(
      () => post(`v1/queues/${encodeURIComponent(queue.queue)}/${verb}`),
      verb === "pause" ? `Nothing new starts from ${queue.queue}.` : `${queue.queue} starts jobs again.`,
    );
  };
  return html`<section aria-labelledby="queues">
    <h2 id="queues">Queues</h2>
    <div class="scroll" tabindex="0" role="region" aria-label="Table of queues">
      <table>
        <thead>
          <tr>${["queue", "queued", "oldest", "running", "waiting", "slots", "workers", ""].map(
            (name, at) => (name ? html`<th scope="col" key=${at}>${name}</th>` : html`<td key=${at}></td>`),
          )}</tr>
        </thead>
        <tbody>
          ${queues.map(
            (queue) => html`<tr key=${queue.queue}>
              <th scope="row">
                <${Link} to=${`/jobs?queue=${encodeURIComponent(queue.queue)}`}>${queue.queue}<//>
                ${queue.paused_since && html` <span class="badge waiting">paused</span>`}
              </th>
              <td>${count(queue.queued)}</td>
              <td>${duration(queue.oldest_queued_ms)}</td>
              <td>${count(queue.running)}</td>
              <td>${count(queue.waiting)}</td>
              <td>${queue.used} of ${queue.slots}</td>
              <td>${queue.workers}</td>
              <td><button onClick=${() => change(queue)} aria-label=${`${queue.paused_since ? "Unpause" : "Pause"} ${queue.queue}`}>
                ${queue.paused_since ? "Unpause" : "Pause"}
              </button></td>
            </tr>`,
          )}
          ${queues.length === 0 && html`<tr><td colspan="8">No queue has jobs or workers.</td></tr>`}
        </tbody>
      </table>
    </div>
  </section>`;
}

function Spending({ day }) {
  const table = (title, rows) => html`<div>
    <h3>${title}</h3>
    <table>
      <thead><tr>${["", "jobs", "tokens", "cost"].map((name) => (name ? html`<th scope="col" key=${name}>${name}</th>` : html`<td></td>`))}</tr></thead>
      <tbody>
        ${rows.slice(0, 8).map(
          (spent) => html`<tr key=${spent.name}>
            <th scope="row">${spent.name}</th>
            <td>${count(spent.jobs)}</td>
            <td>${count(spent.usage.input_tokens + spent.usage.output_tokens)}</td>
            <td>${money(spent.cost_usd)}</td>
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
  if (day.total === 0) return null;
  return html`<section aria-labelledby="spending">
    <h2 id="spending">What the last day cost</h2>
    <div class="columns">${table("By agent", day.agents)}${table("By model", day.models)}</div>
    ${day.unpriced > 0 && html`<p class="muted">${count(day.unpriced)} jobs have no known price.</p>`}
  </section>`;
}

function Failed() {
  const [list, take] = useReducer(reduceList, { jobs: new Map(), ids: null });
  const now = useNow();
  const { state, problem } = useStream("v1/jobs/events?failed=true&since=24h&limit=10", (_, data) => take(data));
  return html`<section aria-labelledby="failed">
    <header class="title">
      <h2 id="failed">Failed in the last day, not retried</h2>
      ${list.ids?.length > 0 && html`<${RetryAllButton} query="since=24h"
        count=${list.next ? "More than ten jobs failed in the last day." : `${list.ids.length} of the last day.`} />`}
    </header>
    <${Connection} state=${state} problem=${problem} />
    ${list.ids?.length === 0 && html`<p class="muted">None.</p>`}
    <ul class="plain">
      ${(list.ids ?? []).map((id) => {
        const job = list.jobs.get(id);
        return html`<li key=${id} class="row">
          <${Badge} status=${job.status} />
          <${Link} to=${jobPath(id)} class="grow"><b>${job.agent}</b> ${line(job.task)}<//>
          <span class="muted">${job.cause ?? ""} · ${ago(job.finished_at, now)}</span>
          <${RetryButton} job=${job} label=${`Retry ${job.agent} ${short(id)}`} />
        </li>`;
      })}
    </ul>
  </section>`;
}

export function Fleet() {
  const [board, setBoard] = useState(null);
  const { state, problem } = useStream("v1/stats/events", (_, data) => setBoard(data));
  return html`
    <h1>Fleet</h1>
    <${Connection} state=${state} problem=${problem} />
    ${!board && !problem && html`<p class="muted">Reading…</p>`}
    ${board && html`
      <${Tiles} ...${board} />
      <${Charts} history=${board.history} />
      <${Failed} />
      <${Queues} queues=${board.stats.queues} />
      <${Spending} day=${board.stats.ended[1]} />
    `}
  `;
}

export function Workers() {
  const [list, setList] = useState(null);
  const { state, problem } = useStream("v1/stats/events", (_, data) => setList(data.workers));
  const now = useNow();
  const drain = (worker) =>
    attempt(() => post(`v1/workers/${encodeURIComponent(worker.id)}/drain`), `${worker.id} ends once its jobs are over.`);
  return html`
    <h1>Workers</h1>
    <${Connection} state=${state} problem=${problem} />
    ${list?.length === 0 && html`<p>No worker sends heartbeats: nothing runs. <code>legwork-worker</code> starts one.</p>`}
    ${list?.length > 0 && html`<div class="scroll" tabindex="0" role="region" aria-label="Table of workers">
      <table>
        <thead>
          <tr>${["worker", "state", "host", "queues", "slots", "jobs", "heartbeat", ""].map(
            (name, at) => (name ? html`<th scope="col" key=${at}>${name}</th>` : html`<td key=${at}></td>`),
          )}</tr>
        </thead>
        <tbody>
          ${list.map(
            (worker) => html`<tr key=${worker.id}>
              <th scope="row"><${Link} to=${`/jobs?worker=${encodeURIComponent(worker.id)}`}>${worker.id}<//></th>
              <td>
                <span class=${`badge ${worker.state}`}>${worker.state}</span>
                ${worker.state === "sick" && html` <span class="muted">${line(worker.last_reason ?? "", 60)}</span>`}
              </td>
              <td>${worker.host}</td>
              <td>${worker.queues.join(", ")}</td>
              <td>${worker.used} of ${worker.slots}</td>
              <td>${worker.jobs}</td>
              <td>${ago(worker.last_heartbeat, now)}</td>
              <td><button disabled=${worker.draining} onClick=${() => drain(worker)} aria-label=${`Drain ${worker.id}`}>Drain</button></td>
            </tr>`,
          )}
        </tbody>
      </table>
    </div>`}
  `;
}
