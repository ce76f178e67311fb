// What a job asks a person: a call to be approved, or a question to be answered.

import { post } from "./api.js";
import { ago, duration, visible } from "./format.js";
import { attempt, useNow } from "./ui.js";
import { html } from "./vendor/preact.js";

/** The texts that a question's schema allows as its answer; none where any text does. */
function choices(schema) {
  const properties = Object.values(schema?.properties ?? {});
  return schema?.enum ?? (properties.length === 1 ? properties[0].enum : undefined) ?? [];
}

/** The answer as the schema wants it: an object with one property gets the text in it. */
function shaped(schema, text) {
  const names = Object.keys(schema?.properties ?? {});
  return schema?.type === "object" && names.length === 1 ? { [names[0]]: text } : text;
}

function Question({ id, question }) {
  const now = useNow();
  const path = `v1/jobs/${encodeURIComponent(id)}`;
  const decide = (verb, body) => attempt(() => post(`${path}/${verb}`, { call: question.number, ...body }), "The decision is stored.");
  const answer = (event) => {
    event.preventDefault();
    const text = new FormData(event.target).get("text");
    if (question.kind === "approval") decide("deny", text ? { why: text } : {});
    else decide("approve", { answer: shaped(question.schema, text) });
  };
  const allowed = choices(question.schema);
  return html`<li class="question">
    ${question.kind === "approval"
      ? html`<p><b>${question.tool}</b> ${question.why && html`<span class="muted">${question.why}</span>`}</p>
          <pre tabindex="0">${visible(question.arguments ?? "")}</pre>`
      : html`${question.title && html`<h3>${question.title}</h3>`}<p>${visible(question.message ?? "")}</p>`}
    <p class="muted">
      asked ${ago(question.asked_at, now)}${question.expires_at && `, counts as denied in ${duration(Date.parse(question.expires_at) - now)}`}
    </p>
    <form class="buttons" onSubmit=${answer}>
      ${question.kind === "approval" && html`<button type="button" class="primary" onClick=${() => decide("approve", {})}>Approve</button>`}
      ${allowed.length > 0
        ? html`<label>Answer <select name="text">${allowed.map((text) => html`<option key=${text}>${text}</option>`)}</select></label>`
        : html`<label>${question.kind === "approval" ? "Why not" : "Answer"} <input type="text" name="text" required=${question.kind !== "approval"} /></label>`}
      <button type="submit" class=${question.kind === "approval" ? "danger" : "primary"}>${question.kind === "approval" ? "Deny" : "Answer"}</button>
    </form>
  </li>`;
}

/** The questions of a job that waits for answers. */
export function Questions({ job }) {
  if (job.waits_for?.reason !== "answer") return null;
  return html`<section aria-labelledby="questions" class="attention">
    <h2 id="questions">It waits for you</h2>
    <ul class="plain">
      ${job.waits_for.questions.map((question) => html`<${Question} key=${question.number} id=${job.id} question=${question} />`)}
    </ul>
  </section>`;
}
