// What all views share: streams as state, dialogs, messages, badges.

import { follow, Problem } from "./api.js";
import { html, useCallback, useEffect, useRef, useState } from "./vendor/preact.js";

export const live = ["scheduled", "queued", "running", "waiting", "stopping", "reaping"];
export const isLive = (job) => live.includes(job.status);

/** Follows a stream while the component is shown. `take(name, data)` must be stable, or `path` changes with it. */
export function useStream(path, take) {
  const [state, setState] = useState("opening");
  const [problem, setProblem] = useState(null);
  const latest = useRef(take);
  latest.current = take;
  useEffect(() => {
    setState("opening");
    setProblem(null);
    if (!path) return undefined;
    return follow(path, {
      event: (name, data) => latest.current(name, data),
      state: setState,
      problem: setProblem,
    });
  }, [path]);
  return { state, problem };
}

/** The current time, again every second: ages grow although nothing arrives. */
export function useNow() {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return now;
}

export function Badge({ status }) {
  return html`<span class=${`badge ${status}`}>${status}</span>`;
}

export function Connection({ state, problem }) {
  if (problem) return html`<p class="problem" role="alert">${problem.message} ${problem.hint}</p>`;
  if (state === "lost") return html`<p class="problem" role="status">The server does not answer. Trying again…</p>`;
  return null;
}

// Messages

const listeners = new Set();
export function say(text, isProblem = false) {
  listeners.forEach((listener) => listener({ text, isProblem, id: Math.random() }));
}

export function Messages() {
  const [messages, setMessages] = useState([]);
  useEffect(() => {
    const listener = (message) => {
      setMessages((shown) => [...shown.slice(-3), message]);
      setTimeout(() => setMessages((shown) => shown.filter(({ id }) => id !== message.id)), 6000);
    };
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, []);
  return html`<div class="messages" role="status" aria-live="polite">
    ${messages.map(({ text, isProblem, id }) => html`<p key=${id} class=${isProblem ? "problem" : "done"}>${text}</p>`)}
  </div>`;
}

/** Runs a change and says what became of it. Returns its answer, or null. */
export async function attempt(change, done) {
  try {
    const answer = await change();
    say(typeof done === "function" ? done(answer) : done);
    return answer;
  } catch (error) {
    const isKnown = error instanceof Problem;
    say(isKnown ? `${error.message} ${error.hint}`.trim() : "The server does not answer.", true);
    return null;
  }
}

/** A dialog with a form. `act` is called with its fields; the dialog stays where it returns null. */
export function Ask({ title, children, verb, isDangerous, onClose, act }) {
  const dialog = useRef(null);
  const [isBusy, setBusy] = useState(false);
  useEffect(() => {
    dialog.current.showModal();
  }, []);
  const submit = useCallback(async (event) => {
    event.preventDefault();
    setBusy(true);
    const answer = await act(new FormData(event.target));
    setBusy(false);
    if (answer !== null) dialog.current?.close();
  });
  return html`<dialog ref=${dialog} onClose=${onClose} aria-labelledby="ask-title">
    <form onSubmit=${submit}>
      <h2 id="ask-title">${title}</h2>
      ${children}
      <p class="buttons">
        <button type="button" onClick=${() => dialog.current.close()}>Cancel</button>
        <button type="submit" class=${isDangerous ? "danger" : "primary"} disabled=${isBusy}>${verb}</button>
      </p>
    </form>
  </dialog>`;
}
