// Headless Chromium by its DevTools protocol over two pipes: nothing to install but the browser.

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const ANSWER = 20_000;

/** Where the browser is: `CHROMIUM`, or one on the PATH. */
function program() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  const folders = (process.env.PATH ?? "").split(":");
  for (const name of NAMES) for (const folder of folders) if (existsSync(join(folder, name))) return join(folder, name);
  throw new Error("no Chromium: install the package chromium, or name the program in CHROMIUM");
}

/** A browser that is gone with `close`. */
export async function launch() {
  const profile = mkdtempSync(join(tmpdir(), "tiercel-ui-"));
  const root = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  const child = spawn(
    program(),
    ["--headless=new", "--remote-debugging-pipe", `--user-data-dir=${profile}`, "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--force-color-profile=srgb", ...root, "about:blank"],
    { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] },
  );
  const [out, into] = [child.stdio[3], child.stdio[4]];
  const waiting = new Map();
  const listeners = [];
  let [last, rest] = [0, Buffer.alloc(0)];
  into.on("data", (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    for (let end = rest.indexOf(0); end >= 0; end = rest.indexOf(0)) {
      const message = JSON.parse(rest.subarray(0, end).toString("utf8"));
      rest = rest.subarray(end + 1);
      if (message.id === undefined) for (const listen of listeners) listen(message);
      else {
        waiting.get(message.id)?.(message);
        waiting.delete(message.id);
      }
    }
  });
  out.on("error", () => {});
  child.on("exit", () => { for (const answer of waiting.values()) answer({ error: { message: "the browser ended" } }); });

  function send(method, params = {}, sessionId) {
    last += 1;
    const id = last;
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`${method}: no answer within ${ANSWER} ms`)), ANSWER);
      waiting.set(id, (message) => {
        clearTimeout(late);
        if (message.error) reject(new Error(`${method}: ${message.error.message}`));
        else resolve(message.result);
      });
      out.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
  }

  async function close() {
    await send("Browser.close").catch(() => child.kill());
    await new Promise((resolve) => { if (child.exitCode !== null) resolve(); else { child.on("exit", resolve); setTimeout(() => child.kill("SIGKILL"), 5000).unref(); } });
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  }

  return { send, close, listen: (listener) => listeners.push(listener) };
}

/** A tab. Whatever a visitor would call broken is collected in `faults`. */
export async function open(browser) {
  const { targetId } = await browser.send("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await browser.send("Target.attachToTarget", { targetId, flatten: true });
  const send = (method, params) => browser.send(method, params, sessionId);
  const faults = [];
  const requests = new Map();
  let allowed = null;
  const fault = (text) => { if (!allowed?.test(text)) faults.push(text); };
  const text = (argument) => argument.value ?? argument.description ?? argument.type;
  const heard = {
    "Runtime.consoleAPICalled": ({ type, args }) => { if (["error", "warning", "assert"].includes(type)) fault(`console ${type}: ${args.map(text).join(" ")}`); },
    "Runtime.exceptionThrown": ({ exceptionDetails: thrown }) => fault(`exception: ${thrown.exception?.description ?? thrown.text} at ${thrown.url}:${thrown.lineNumber}`),
    "Log.entryAdded": ({ entry }) => { if (["error", "warning"].includes(entry.level)) fault(`log ${entry.level} (${entry.source}): ${entry.text} ${entry.url ?? ""}`); },
    "Audits.issueAdded": ({ issue }) => fault(`issue: ${issue.code} ${JSON.stringify(issue.details).slice(0, 400)}`),
    "Network.requestWillBeSent": ({ requestId, request }) => requests.set(requestId, request.url),
    "Network.responseReceived": ({ response }) => { if (response.status >= 400) fault(`answer ${response.status}: ${response.url}`); },
    "Network.loadingFailed": ({ requestId, errorText, canceled }) => { if (!canceled) fault(`request failed: ${requests.get(requestId)}: ${errorText}`); },
  };
  browser.listen((message) => { if (message.sessionId === sessionId) heard[message.method]?.(message.params); });
  for (const domain of ["Page", "Runtime", "Log", "Network", "Audits"]) await send(`${domain}.enable`);

  async function evaluate(expression) {
    const { result, exceptionDetails } = await send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  async function until(what, expression, patience = 15_000) {
    const end = Date.now() + patience;
    for (;;) {
      const found = await evaluate(`Boolean(${expression})`).catch(() => false);
      if (found) return;
      if (Date.now() > end) throw new Error(`not within ${patience / 1000} s: ${what}\n${await evaluate("document.body.innerText.slice(0, 2000)")}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  const CODES = { Escape: 27, Tab: 9, Enter: 13, ArrowDown: 40, ArrowUp: 38 };
  async function press(key) {
    const letter = key.length === 1 ? { text: key } : key === "Enter" ? { text: "\r" } : {};
    const common = { key, code: key.length === 1 ? undefined : key, windowsVirtualKeyCode: CODES[key] ?? key.toUpperCase().charCodeAt(0) };
    await send("Input.dispatchKeyEvent", { type: letter.text ? "keyDown" : "rawKeyDown", ...common, ...letter });
    await send("Input.dispatchKeyEvent", { type: "keyUp", ...common });
    await new Promise((resolve) => setTimeout(resolve, 60));
  }

  return {
    send, evaluate, until, press, faults,
    /** Faults that a step means to cause. */
    expecting: (pattern) => { allowed = pattern; },
    size: (width, height, mobile = false) => send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile }),
    media: (features) => send("Emulation.setEmulatedMedia", { features: Object.entries(features).map(([name, value]) => ({ name, value })) }),
    async go(url) {
      await send("Page.navigate", { url });
      await until("the page loads", "document.readyState === 'complete'");
    },
    /** What is on the screen, as PNG. */
    async picture() {
      await evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");
      const { data } = await send("Page.captureScreenshot", { format: "png", optimizeForSpeed: false });
      return Buffer.from(data, "base64");
    },
  };
}
