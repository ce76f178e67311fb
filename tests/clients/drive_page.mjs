// Drives the page in Chromium: the fleet, a live stream, a stop, a tree, a fork, a wrong token, hostile output, many jobs.
//
// usage: drive_page.mjs URL TOKEN AGENT_FILE [PICTURES]
// PAGE_TOOLS is the folder with playwright-core and axe-core, CHROMIUM the browser. PICTURES is a folder for screenshots.
// PAGE_JOBS is the number of jobs to fill the queue with. With PAGE_FILES, the files of the page are those of that folder instead of the server's.
// Exits with status 0 and prints `all good` if every check passed.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import process from "node:process";

const require = createRequire(`${process.env.PAGE_TOOLS}/`);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const [url, token, agent_file, pictures] = process.argv.slice(2);

async function post(path, body = {}) {
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  const response = await fetch(url + path, { method: "POST", headers, body: JSON.stringify(body) });
  assert.ok(response.ok, `${path}: ${response.status} ${await response.clone().text()}`);
  return response.json();
}
const dispatch = (agent, task, more = {}) => post("/v1/jobs", { agent_file, agent, task, ...more });
const ended = (id) => post("/v1/wait", { ids: [id] });

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, locale: "en-GB", timezoneId: "UTC" });
const page = await context.newPage();
page.setDefaultTimeout(20_000);
// What the policy forbids, what throws, and what reaches another server is a failure.
const faults = [];
page.on("console", (message) => message.type() === "error" && !message.text().includes("401") && faults.push(message.text()));
page.on("pageerror", (error) => faults.push(String(error)));
page.on("request", (request) => request.url().startsWith(url) || faults.push(`a request to ${request.url()}`));
if (process.env.PAGE_FILES) {
  await page.route(`${url}/page/**`, (route) =>
    route.fulfill({ path: join(process.env.PAGE_FILES, new URL(route.request().url()).pathname.slice("/page/".length)) }));
}

/** Fails on what axe finds in the page as it is, in both colour schemes. */
async function accessible(where) {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    const found = await (await context.newCDPSession(page)).send("Runtime.evaluate", {
      // Evaluated by the debugger, which the page's policy does not bind.
      expression: `${axe}; axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"] })
        .then(({ violations }) => JSON.stringify(violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html.slice(0, 200) + " " + node.any.map(({ message }) => message))])))`,
      awaitPromise: true,
      returnByValue: true,
    });
    assert.ok(!found.exceptionDetails, JSON.stringify(found.exceptionDetails));
    assert.equal(found.result.value, "[]", `${where}, ${colorScheme}`);
  }
  await page.emulateMedia({ colorScheme: "light" });
}

/** Screenshots at three widths, and in the dark. */
async function picture(name, widths = [390, 820, 1280]) {
  if (!pictures) return;
  for (const width of widths) {
    await page.setViewportSize({ width, height: width === 390 ? 844 : 900 });
    await page.waitForFunction(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true)))));
    await page.screenshot({ path: join(pictures, `${name}-${width}.png`) });
  }
  await page.emulateMedia({ colorScheme: "dark" });
  await page.screenshot({ path: join(pictures, `${name}-dark.png`) });
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 1280, height: 900 });
}
const show = (path) => page.goto(`${url}/#${path}`);
const heading = (name) => page.getByRole("heading", { name, exact: true });

// The token

await page.goto(url);
await page.getByLabel("Token").fill("wrong-wrong-wrong-wrong");
await page.getByRole("button", { name: "Open" }).click();
await page.getByText("The server does not know this token.").waitFor();
await accessible("token");
assert.equal(await page.evaluate(() => sessionStorage.length), 0);
await page.getByLabel("Token").fill(token);
await page.keyboard.press("Enter");
await heading("Fleet").waitFor();
assert.equal(await page.evaluate(() => localStorage.length + document.cookie.length), 0);
assert.deepEqual(await page.evaluate(() => Object.keys(sessionStorage)), ["legwork.token"]);

// Times and texts

assert.deepEqual(
  await page.evaluate(async () => {
    const { duration, line, money, visible } = await import(new URL("page/format.js", document.baseURI));
    return [
      [0, 59_999, 60_000, 3_661_000, 90_000_000, null].map(duration),
      [null, 0, 0.001, 2.5].map(money),
      ["a\r\nb\tc", "\u001b[2J\r", "\u0085\u202e\u007f"].map(visible),
      line("\n first line \nsecond"),
      line("x".repeat(200)).length,
    ];
  }),
  [
    ["0s", "59s", "1m", "1h 1m", "1d 1h", "–"],
    ["–", "$0", "<$0.01", "$2.50"],
    ["a\nb\tc", "␛[2J␍", "⟨0085⟩⟨202E⟩␡"],
    "first line ",
    120,
  ],
);

// A tree, and a job that streams

const root = await dispatch("lead", "Sort out the build");
await ended(root.id);
const slow = await dispatch("slow", "Count slowly");
await show(`/jobs/${slow.id}`);
const output = page.getByRole("log");
await page.waitForFunction(() => document.querySelector("pre.output")?.textContent.includes("word3"));
const before = (await output.textContent()).length;
await page.waitForFunction((size) => document.querySelector("pre.output").textContent.length > size, before);
await page.getByRole("heading", { name: /running slow/ }).waitFor();

// Messages and stops ask first; Escape is no.
await page.getByRole("button", { name: "Send a message" }).click();
await page.getByRole("textbox", { name: "Message" }).fill("Please hurry");
await page.getByRole("button", { name: "Send", exact: true }).click();
await page.getByText("The message is stored").waitFor();
await page.getByRole("button", { name: "Stop", exact: true }).click();
await page.getByRole("dialog").waitFor();
await accessible("stop");
await page.keyboard.press("Escape");
await page.getByRole("dialog").waitFor({ state: "detached" });
await page.getByRole("button", { name: "Stop", exact: true }).click();
await page.getByRole("dialog").getByRole("button", { name: "Stop", exact: true }).click();
await page.getByText("Stopping 1 job.").waitFor();
await page.getByRole("heading", { name: /stopped slow/ }).waitFor();
assert.equal((await (await fetch(`${url}/v1/jobs/${slow.id}`, { headers: { Authorization: `Bearer ${token}` } })).json()).cause, "operator");
await page.getByRole("button", { name: "Retry" }).waitFor();

// The tree, turns with their tool calls

await show(`/jobs?session=${root.session}`);
const items = page.locator(".tree .tree .row");
await items.nth(1).waitFor();
assert.deepEqual(await page.locator(".tree .row b").allTextContents(), ["lead", "quick", "quick"]);
await picture("tree");
await page.locator(".tree .row a").first().focus();
await page.keyboard.press("Enter");
await page.getByRole("heading", { name: /completed lead/ }).waitFor();
const call = page.locator("details.call").first();
await call.getByText("run_background_agent").waitFor();
assert.equal(await call.evaluate((details) => details.open), false);
await call.locator("summary").click();
await call.getByText("started with ID").waitFor();
await page.getByText("Attempt 1").waitFor();
await accessible("job");
await picture("job");

// A person approves, answers and denies

const asking = await dispatch("ops", "Deploy", { approvals: "park" });
await show("/jobs?status=waiting");
await page.getByText("waits for your answer").waitFor();
await page.locator(".row a").first().click();
await page.getByText("echo it ran").first().waitFor();
await accessible("approval");
await picture("approval");
await page.getByRole("button", { name: "Approve" }).click();
await page.getByText("Which colour?").first().waitFor();
await accessible("question");
await page.getByLabel("color").selectOption("blue");
await page.getByRole("button", { name: "Answer" }).click();
await page.getByRole("heading", { name: /completed ops/ }).waitFor();
assert.match(await page.locator("main").textContent(), /"color": ?"blue"/);
const denied = await dispatch("ops", "Deploy again", { approvals: "park" });
await show(`/jobs/${denied.id}`);
await page.getByLabel("Why not").fill("not today");
await page.getByRole("button", { name: "Deny" }).click();
await page.getByText(/Reason: not today/).first().waitFor({ state: "attached" });
await post(`/v1/sessions/${denied.session}/stop`);
await Promise.all([asking, denied].map(({ id }) => ended(id)));

// A fork: the same agent with another task

await show(`/jobs/${root.id}`);
await page.getByRole("heading", { name: /completed lead/ }).waitFor();
assert.equal(await page.getByRole("button", { name: "Retry" }).count(), 0, "a completed job is not retried");
await page.getByRole("button", { name: "Fork" }).click();
const task = page.getByRole("textbox", { name: "Task" });
assert.equal(await task.inputValue(), "Sort out the build");
await accessible("fork");
await picture("fork");
await task.fill("Sort out the tests");
await page.getByRole("dialog").getByRole("button", { name: "Fork" }).click();
await page.getByText("Forked as").waitFor();
await page.getByRole("heading", { name: /completed lead/ }).waitFor();
const forkedId = decodeURIComponent(page.url().split("/").at(-1));
assert.notEqual(forkedId, root.id);
const forked = await (await fetch(`${url}/v1/jobs/${forkedId}`, { headers: { Authorization: `Bearer ${token}` } })).json();
assert.deepEqual([forked.task, forked.agent, forked.retry_of ?? null], ["Sort out the tests", "lead", null]);

// Hostile output is text

const hostile = await dispatch("hostile", "<img src=x onerror=alert(1)> & friends");
await ended(hostile.id);
await show(`/jobs/${hostile.id}`);
await page.getByRole("heading", { name: /completed hostile/ }).waitFor();
await page.waitForFunction(() => document.querySelector("pre.output")?.textContent.includes("<script>"));
const shown = await output.textContent();
assert.ok(shown.includes("<img src=x onerror=\"window.owned=1\">") && shown.includes("␛[31mred") && shown.includes("⟨202E⟩"), shown);
assert.ok(!/[\u001b\u202e]/.test(await page.locator("main").textContent()));
assert.equal(await page.evaluate(() => document.querySelectorAll("main img, main script, main iframe").length), 0);
assert.equal(await page.evaluate(() => window.owned), undefined);
await accessible("hostile output");

// A failure is retried from the fleet's view

const broken = await dispatch("broken", "Fail at once");
await ended(broken.id);
await show("/");
await page.getByRole("button", { name: /Retry broken/ }).first().click();
await page.getByRole("dialog").getByRole("button", { name: "Retry" }).click();
await page.getByText(/Retried as/).waitFor();
const failed = await Promise.all(["one", "two"].map((task) => dispatch("broken", task)));
await Promise.all(failed.map(({ id }) => ended(id)));
await page.getByText("broken two").waitFor();
await page.getByRole("button", { name: "Retry all" }).click();
await page.getByRole("dialog").getByRole("button", { name: "Retry all" }).click();
await page.getByText(/Retried \d+ jobs/).waitFor();
await page.getByRole("button", { name: "Pause default", exact: true }).click();
await page.getByRole("button", { name: "Unpause default", exact: true }).waitFor();
await page.getByRole("button", { name: "Unpause default", exact: true }).click();
await page.getByRole("button", { name: "Pause default", exact: true }).waitFor();
await page.locator(".chart canvas").nth(2).waitFor();
await accessible("fleet");
await picture("fleet");
await page.getByRole("navigation").getByRole("link", { name: "Workers" }).click();
await page.getByText("serving").waitFor();
await accessible("workers");
await picture("workers", [390, 1280]);

// Ten thousand jobs, or PAGE_JOBS

const many = Number(process.env.PAGE_JOBS ?? 10_000);
for (let batch = 0; batch < many / 1000; batch += 1) {
  const jobs = Array.from({ length: 1000 }, (_, at) => ({ agent: "quick", task: `job ${batch * 1000 + at}`, queue: "later" }));
  await post("/v1/jobs/batch", { agent_file, jobs });
}
const began = Date.now();
await show("/jobs");
const rows = (count) => page.waitForFunction((count) => document.querySelectorAll(".row").length === count, count);
await rows(100);
assert.match(await page.locator(".row a").first().textContent(), new RegExp(`quick job ${many / 1000 - 1}\\d\\d\\d$`));
const first = Date.now() - began;
await page.getByRole("button", { name: "Show older jobs" }).click();
await rows(200);
await page.getByLabel("status").selectOption("completed");
await page.waitForFunction(() => [...document.querySelectorAll(".row .badge")].every((badge) => badge.textContent === "completed"));
await page.getByLabel("status").selectOption("");
await rows(100);
await accessible("jobs");
await picture("jobs");
const took = Date.now();
await show("/");
const shownAs = many === 10_000 ? /10,?000|10K/ : new RegExp(`${many.toLocaleString("en")}|${many / 1000}K`);
await page.waitForFunction((pattern) => new RegExp(pattern).test(document.querySelector(".tile dd")?.textContent ?? ""), shownAs.source);
const glance = Date.now() - took;
if (many > 10_000) await picture("many");
console.log(`${many.toLocaleString("en")} jobs: the list after ${first} ms, the fleet after ${glance} ms`);
// On a busy machine with programs that are not optimised.
assert.ok(first < 5000 && glance < 10_000, "too slow");

// What runs where; and a worker that is drained

const long = await dispatch("slow", "Run for long");
await show("/jobs?status=running");
await page.getByText("slow Run for long").waitFor();
const { workers } = await (await fetch(`${url}/v1/workers`, { headers: { Authorization: `Bearer ${token}` } })).json();
await page.getByText(`on ${workers[0].id}`).waitFor();
await page.getByRole("button", { name: /Stop all jobs of session/ }).click();
await page.getByRole("dialog").getByRole("button", { name: "Stop all" }).click();
await page.getByText("Stopping 1 job.").waitFor();
await ended(long.id);
await show("/workers");
await page.getByRole("button", { name: /^Drain / }).click();
await page.getByText(`${workers[0].id} ends once its jobs are over.`).waitFor();

// The page forgets the token, and asks for it again

await page.getByRole("button", { name: "Forget token" }).click();
await page.getByLabel("Token").waitFor();
assert.equal(await page.evaluate(() => sessionStorage.length), 0);
assert.deepEqual(faults, []);
await browser.close();
console.log("all good");
