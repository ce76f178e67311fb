// The page: which view an address shows, and the token where the server wants one.

import { get, Problem, refused, token } from "./api.js";
import { Fleet, Workers } from "./fleet.js";
import { Jobs, Link } from "./jobs.js";
import { JobView } from "./job.js";
import { Messages } from "./ui.js";
import { html, render, useEffect, useRef, useState } from "./vendor/preact.js";

const go = (path) => (location.hash = path);

function useAddress() {
  const read = () => location.hash.slice(1) || "/";
  const [address, setAddress] = useState(read());
  useEffect(() => {
    const changed = () => setAddress(read());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  const [path, query = ""] = address.split("?", 2);
  return { path, query: new URLSearchParams(query) };
}

function TokenForm({ wasWrong, done }) {
  const input = useRef(null);
  useEffect(() => input.current.focus(), []);
  const [problem, setProblem] = useState(wasWrong ? "The server does not know this token." : "");
  const submit = async (event) => {
    event.preventDefault();
    token.set(new FormData(event.target).get("token").trim());
    try {
      await get("v1/teams");
      done();
    } catch (error) {
      token.set("");
      setProblem(error instanceof Problem && error.status === 401 ? "The server does not know this token." : "The server does not answer.");
    }
  };
  return html`<main class="token" id="main">
    <h1>Legwork</h1>
    <form onSubmit=${submit}>
      <p>This server wants a token. It is kept in this tab until you close it.</p>
      <label>Token <input ref=${input} type="password" name="token" required autocomplete="off" aria-describedby="token-problem" /></label>
      <p id="token-problem" class=${problem ? "problem" : ""} role="alert">${problem}</p>
      <p class="buttons"><button type="submit" class="primary">Open</button></p>
    </form>
  </main>`;
}

function View({ path, query }) {
  if (path === "/") return html`<${Fleet} />`;
  if (path === "/workers") return html`<${Workers} />`;
  if (path === "/jobs") return html`<${Jobs} query=${query} go=${go} />`;
  const id = /^\/jobs\/([^/]+)$/.exec(path)?.[1];
  if (id) return html`<${JobView} key=${id} id=${decodeURIComponent(id)} go=${go} />`;
  return html`<h1>Nothing is here</h1><p><${Link} to="/">To the fleet<//></p>`;
}

const VIEWS = { "/": "Fleet", "/jobs": "Jobs", "/workers": "Workers" };

const isCurrent = (to, path) => (to === "/" ? path === to : path.startsWith(to));

function App() {
  const { path, query } = useAddress();
  // null until the first answer: whether the server wants another token.
  const [isRefused, setRefused] = useState(null);
  const main = useRef(null);
  useEffect(() => {
    const listener = () => {
      token.set("");
      setRefused(true);
    };
    refused.addEventListener("refused", listener);
    get("v1/teams").then(() => setRefused(false), (error) => setRefused(error instanceof Problem && error.status === 401));
    return () => refused.removeEventListener("refused", listener);
  }, []);
  useEffect(() => {
    document.title = `${VIEWS[path] ?? "Job"} – Legwork`;
    scrollTo(0, 0);
  }, [path]);
  if (isRefused === null) return html`<main id="main"><p class="muted">Connecting…</p></main>`;
  if (isRefused) return html`<${TokenForm} done=${() => setRefused(false)} />`;
  const skip = (event) => {
    event.preventDefault();
    main.current.focus();
  };
  return html`
    <a class="skip" href="#main" onClick=${skip}>To the content</a>
    <header class="top">
      <nav aria-label="Views">
        ${Object.entries(VIEWS).map(
          ([to, name]) => html`<${Link} key=${to} to=${to} aria-current=${isCurrent(to, path) ? "page" : undefined}>${name}<//>`,
        )}
      </nav>
      ${token.get() && html`<button onClick=${() => { token.set(""); setRefused(true); }}>Forget token</button>`}
    </header>
    <main id="main" ref=${main} tabindex="-1"><${View} path=${path} query=${query} /></main>
    <${Messages} />
  `;
}

render(html`<${App} />`, document.getElementById("app"));
