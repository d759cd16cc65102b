// `make screenshots`: the web view over the running demo in headless Chromium, the commands in a terminal, and a plan as the
// comment of a pull request. Walks through the view by keys, takes the pictures of docs/ui.md, and fails on whatever the browser
// complains about, on text that is hard to read, and on text that becomes markup.
//
//   node e2e/ui/screenshots.mjs [--url URL] [--out FOLDER]
//
// With --url a view that runs already is looked at, without the picture of pools in short supply; otherwise the demo is started and ended. FAST=1: its two minutes. TIERCEL_BIN
// and TIERCEL_DEMO_BIN name the programs, CHROMIUM the browser.

import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { launch, open } from "./browser.mjs";
import { BYTES_MAX, contrast, hostile, reachable } from "./checks.mjs";
import { commented } from "./comment.mjs";
import { pictures, planned } from "./terminal.mjs";

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const option = (name, otherwise) => {
  const at = process.argv.indexOf(name);
  return at < 0 ? otherwise : process.argv[at + 1];
};
const out = resolve(option("--out", join(ROOT, "docs/images")));
const target = resolve(process.env.CARGO_TARGET_DIR ?? join(ROOT, "target"));
const say = (text) => console.log(`ui: ${text}`);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** A program that is ended with everything else, and its lines. */
const started = [];
function start(file, args, env, onLine, errors = "inherit") {
  const child = spawn(file, args, { cwd: ROOT, env: { ...process.env, ...env }, stdio: ["ignore", "pipe", errors] });
  let rest = "";
  child.stdout.on("data", (chunk) => {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop();
    for (const line of lines) onLine?.(line);
  });
  started.push(child);
  return child;
}

async function end() {
  for (const child of started.reverse()) {
    if (child.exitCode !== null) continue;
    const gone = new Promise((done) => child.on("exit", done));
    child.kill("SIGINT");
    await Promise.race([gone, sleep(30_000).then(() => child.kill("SIGKILL"))]);
  }
}

/** The demo under load: where its view is, and what was wrong with the page until then. */
async function demo(browser) {
  const folder = join(target, "ui-demo");
  const fast = ["1", "true"].includes(process.env.FAST ?? "");
  rmSync(folder, { recursive: true, force: true });
  let loaded;
  const load = new Promise((done) => { loaded = done; });
  const story = start(process.env.TIERCEL_DEMO_BIN ?? join(target, "debug/demo"), ["--folder", folder, ...(fast ? ["--fast"] : [])], {}, (line) => { if (/\b3 · /.test(line)) loaded(); });
  const broken = new Promise((_, fail) => story.on("exit", (code) => fail(new Error(`the demo ended with ${code}: ${folder}`))));
  broken.catch(() => {});
  planned(out, say);
  say("the demo starts");
  const config = join(folder, "cluster/admin.kubeconfig");
  const before = Date.now();
  while (!existsSync(config)) {
    if (Date.now() - before > 120_000) throw new Error(`the demo wrote no ${config}`);
    await Promise.race([broken, sleep(200)]);
  }
  // The operator's port is five after the API server's: see e2e/src/slot.rs.
  const server = () => Number(/server: https:\/\/127\.0\.0\.1:(\d+)/.exec(readFileSync(config, "utf8"))?.[1]);
  const surroundings = () => ({ KUBECONFIG: config, TIERCEL_OPERATOR: `http://127.0.0.1:${server() + 5}` });
  const view = async () => {
    let url;
    const child = start(process.env.TIERCEL_BIN ?? join(target, "debug/tiercel"), ["ui", "-A", "--port", "0"], surroundings(), (line) => { url ??= /http:\/\/\S+/.exec(line)?.[0]; }, "ignore");
    while (!url && child.exitCode === null) await sleep(50);
    return url;
  };
  let url;
  // The definitions come a few seconds after the server; without them it says so and ends.
  while (!(url = await Promise.race([broken, view()]))) {
    if (Date.now() - before > 120_000) throw new Error("the view does not start: try tiercel ui by hand");
    await sleep(1000);
  }
  say(`the view is at ${url}`);
  await Promise.race([broken, load]);
  // The pools in the demo's stock-out, everything else when there is something to see of all: see e2e/src/demo/schedule.rs.
  const [emptied, seconds] = fast ? [55, 85] : [130, 235];
  const begun = Date.now();
  const after = (moment) => Promise.race([broken, sleep(begun + moment * 1000 - Date.now())]);
  say(`${seconds} s of load first, so that there is something to see`);
  await after(emptied);
  const faults = await shortage(url, browser, begun + (seconds - 5) * 1000);
  await after(seconds);
  Object.assign(process.env, surroundings());
  pictures(out, { namespace: "agents", say });
  return [url, faults];
}

/** The pools while one delivers nothing, which the page asks about once in a while: each load of it asks anew. */
async function shortage(url, browser, end) {
  const page = await open(browser);
  await page.media({ "prefers-color-scheme": "light", "prefers-reduced-motion": "reduce" });
  await page.size(1280, 960);
  await page.go(`${url}#/pools`);
  const dry = "/dry(, tried again| until .+) for .+ \\/ .+: /.test(document.querySelector('.pool-grid')?.innerText)";
  while (!(await page.until("a pool that is dry, and for whom", dry, 2000).then(() => true, () => false))) {
    if (Date.now() > end) {
      say("no pool was dry: ui-pools.png stays as it is");
      return page.faults;
    }
    await page.send("Page.reload");
  }
  await shot(page, "ui-pools");
  await readable(page, "pools in short supply");
  return page.faults;
}

/** A picture of what is on the page. */
async function shot(page, name, crop) {
  const png = await page.picture(crop);
  if (png.length > BYTES_MAX) page.faults.push(`${name}.png has ${png.length} bytes, more than ${BYTES_MAX}`);
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, `${name}.png`), png);
  say(`${name}.png, ${Math.round(png.length / 1000)} kB`);
}

const readable = async (page, where) => page.faults.push(...(await page.evaluate(`(${contrast})()`)).map((text) => `${where}: ${text}`));

async function walk(url, browser) {
  const page = await open(browser);
  await page.media({ "prefers-color-scheme": "light", "prefers-reduced-motion": "reduce" });
  await page.size(1280, 1180);
  await page.go(url);
  await page.until("a graph", "document.querySelectorAll('.card.stage').length > 0");
  await page.until("the operator's answer", "/minimum \\d/.test(document.querySelector('.tiles').innerText)");
  await page.until("a strip", "document.querySelectorAll('.hour-row svg .block').length > 0");
  // Prices come with the operator's answer; the sample's first stage counts requests.
  await page.until("what every stage and pool costs", "document.querySelectorAll('.costs tbody tr').length > 6 && [...document.querySelectorAll('.costs td:nth-child(3)')].every((one) => one.textContent !== '–')");
  await page.until("what a thousand requests cost", "/^\\d[\\d.]* per 1,000 requests, at /.test(document.querySelector('[data-key=costs] h2 .quiet').textContent)");
  await shot(page, "ui-light");
  await readable(page, "light");
  await page.media({ "prefers-color-scheme": "dark", "prefers-reduced-motion": "reduce" });
  await shot(page, "ui-dark");
  await readable(page, "dark");
  await page.media({ "prefers-color-scheme": "light", "prefers-reduced-motion": "reduce" });
  await page.size(1280, 640);
  await page.evaluate("document.querySelector('[data-key=costs]').scrollIntoView({block: 'start'}); scrollBy(0, -80)");
  await shot(page, "ui-cost");
  await page.evaluate("scrollTo(0, 0)");
  await page.media({ "prefers-color-scheme": "dark", "prefers-reduced-motion": "reduce" });

  // By keys alone. What is open stays so while the page follows.
  await page.press("t");
  await page.until("the light theme by key", "document.documentElement.dataset.theme === 'light'");
  await page.press("?");
  await page.until("the keys", "document.querySelector('dialog').open");
  await page.size(1280, 720);
  await shot(page, "ui-keys");
  await page.press("Escape");
  await page.until("no keys", "!document.querySelector('dialog').open");
  await page.press("t");
  await page.press("t");
  await page.media({ "prefers-color-scheme": "light", "prefers-reduced-motion": "reduce" });
  await page.press("w");
  await page.until("why", "location.hash.endsWith('/why') && document.querySelectorAll('.why section').length > 0");
  await page.size(1280, 900);
  await page.evaluate("document.getElementById('main').querySelector('[data-key=why-generate]')?.scrollIntoView({block: 'start'}); scrollBy(0, -130)");
  await shot(page, "ui-why");
  await readable(page, "why");
  if (await page.evaluate("document.getElementById('main').textContent.includes('`')")) page.faults.push("why: a raw backtick");
  const wrong = "[...document.querySelectorAll('.signals .state')].filter((one) => one.classList.contains('good') !== one.textContent.includes('fresh')).length";
  if (await page.evaluate(wrong)) page.faults.push("why: a signal's colour is not that of its state");
  await page.evaluate("document.querySelector('.why details summary').click()");
  await page.evaluate("new Promise((done) => setTimeout(done, 6000))");
  if (!(await page.evaluate("document.querySelector('.why details').open"))) page.faults.push("details that were opened close by themselves");
  await page.press("o");
  await page.until("pools", "document.querySelectorAll('.pool').length > 0");
  await readable(page, "pools");
  await page.media({ "prefers-color-scheme": "dark", "prefers-reduced-motion": "reduce" });
  await readable(page, "pools, dark");
  await page.press("p");
  await page.until("pipelines", "document.querySelectorAll('.card.stage').length > 0");
  await page.press("w");
  await page.until("why", "document.querySelectorAll('.why section').length > 0");
  await readable(page, "why, dark");
  await page.press("w");
  await page.until("a graph", "document.querySelectorAll('.card.stage').length > 0");
  page.faults.push(...(await reachable(page)));

  for (const [width, height] of [[390, 844], [360, 740]]) {
    await page.size(width, height, true);
    for (const hash of ["#/", "#/pools"]) {
      await page.evaluate(`location.hash = "${hash}"`);
      await page.until("the view", `document.querySelectorAll("${hash === "#/" ? ".card.stage" : ".pool"}").length > 0`);
      const over = await page.evaluate("document.documentElement.scrollWidth - innerWidth");
      if (over > 0) page.faults.push(`${width} px: ${hash} is ${over} px too wide`);
    }
  }
  await page.size(390, 1200, true);
  await page.evaluate("location.hash = '#/'; document.activeElement.blur(); scrollTo(0, 0)");
  await page.until("a graph", "document.querySelectorAll('.card.stage').length > 0");
  await shot(page, "ui-phone");
  return page.faults;
}

let failed = [];
let browser;
try {
  browser = await launch();
  const [url, faults] = option("--url") ? [option("--url"), []] : await demo(browser);
  failed = [...faults, ...(await walk(url, browser))];
  failed.push(...(await commented(out, browser, say)));
  failed.push(...(await hostile(url, browser, say)));
} catch (error) {
  failed.push(String(error.stack ?? error));
} finally {
  await browser?.close();
  await end();
}
for (const fault of failed) console.error(`ui: ${fault}`);
say(failed.length ? `${failed.length} faults` : "no fault");
process.exit(failed.length ? 1 : 0);
