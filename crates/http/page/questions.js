// What a job asks a person: a call to be approved, or a question to be answered.

import { post } from "./api.js";
import { ago, duration, visible } from "./format.js";
import { attempt, useNow } from "./ui.js";
import { html } from "./vendor/preact.js";

/** The fields of an answer: one for each property of the schema, else one without a name. */
function fields(schema) {
  const properties = Object.entries(schema?.properties ?? {});
  if (properties.length === 0) return [{ name: "", label: "Answer", schema: schema ?? {}, isRequired: true }];
  const isRequired = (name) => properties.length === 1 || (schema.required ?? []).includes(name);
  return properties.map(([name, property]) => ({ name, label: property.title ?? name, schema: property, isRequired: isRequired(name) }));
}

/** What a form gives as an answer: its only text, or an object of its texts, which the server reads as the schema wants. */
function answered(schema, form) {
  const all = fields(schema);
  if (all.length === 1) return form.get(all[0].name);
  return Object.fromEntries(all.map(({ name }) => [name, form.get(name)]).filter(([, text]) => text));
}

function Field({ name, label, schema, isRequired }) {
  const allowed = schema.enum ?? (schema.type === "boolean" ? ["yes", "no"] : []);
  const text = `${label}${isRequired ? "" : " (may be left out)"}`;
  if (allowed.length === 0) return html`<label>${text} <input type="text" name=${name} required=${isRequired} /></label>`;
  return html`<label>${text}
    <select name=${name}>
      ${!isRequired && html`<option value=""></option>`}
      ${allowed.map((one) => html`<option key=${one}>${one}</option>`)}
    </select>
  </label>`;
}

function Question({ id, question }) {
  const now = useNow();
  const path = `v1/jobs/${encodeURIComponent(id)}`;
  const isApproval = question.kind === "approval";
  const decide = (verb, body) => attempt(() => post(`${path}/${verb}`, { call: question.number, ...body }), "The decision is stored.");
  const submit = (verb, body) => (event) => {
    event.preventDefault();
    decide(verb, body(new FormData(event.target)));
  };
  const why = (form) => (form.get("why") ? { why: form.get("why") } : {});
  return html`<li class="question">
    ${isApproval
      ? html`<p><b>${question.tool}</b> ${question.why && html`<span class="muted">${visible(question.why)}</span>`}</p>
          <pre tabindex="0">${visible(question.arguments ?? "")}</pre>`
      : html`${question.title && html`<h3>${visible(question.title)}</h3>`}<p>${visible(question.message ?? "")}</p>`}
    <p class="muted">
      asked ${ago(question.asked_at, now)}${question.expires_at && `, counts as denied in ${duration(Date.parse(question.expires_at) - now)}`}
    </p>
    <form class="decision" onSubmit=${submit("approve", (form) => (isApproval ? {} : { answer: answered(question.schema, form) }))}>
      ${!isApproval && fields(question.schema).map((field) => html`<${Field} key=${field.name} ...${field} />`)}
      <button type="submit" class="primary">${isApproval ? "Approve" : "Answer"}</button>
    </form>
    <form class="decision" onSubmit=${submit("deny", why)}>
      <label>Why not <input type="text" name="why" /></label>
      <button type="submit" class="danger">Deny</button>
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
