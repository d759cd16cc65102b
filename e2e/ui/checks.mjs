// What a person would notice, or should never be able to.

import { open } from "./browser.mjs";

/** Most bytes of a picture: the repository holds every version of it. */
export const BYTES_MAX = 200_000;

/** Runs in the page: texts with less than 4.5:1 (3:1 where large) against what is behind them. */
export function contrast() {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (text) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => {
    const part = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const ratio = (a, b) => {
    const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (light + 0.05) / (dark + 0.05);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] > 250) return colour;
    }
    return [255, 255, 255, 255];
  };
  const found = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim();
    const element = walker.currentNode.parentElement;
    if (!text || !element.checkVisibility() || ["TITLE", "NOSCRIPT", "OPTION"].includes(element.tagName.toUpperCase())) continue;
    const style = getComputedStyle(element);
    const drawn = element instanceof SVGElement;
    const block = drawn ? element.parentElement.querySelector(".block") : null;
    const [front, back] = [rgba(drawn ? style.fill : style.color), block ? rgba(getComputedStyle(block).fill) : behind(element.closest("svg")?.parentElement ?? element)];
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
    const value = ratio(front, back);
    seen += 1;
    if (value < (large ? 3 : 4.5)) found.add(`contrast ${value.toFixed(2)}: "${text.slice(0, 40)}" in ${element.tagName}.${element.getAttribute("class")}`);
  }
  if (seen < 20) found.add(`only ${seen} texts were looked at`);
  return [...found];
}

/** Tab comes to every link, button and list, each with a visible outline, and back. */
export async function reachable(page) {
  const wanted = await page.evaluate("[...document.querySelectorAll('a[href], button, select, summary, [tabindex=\"0\"]')].filter((one) => one.checkVisibility() && !one.closest('dialog')).length");
  await page.evaluate("document.activeElement.blur(); scrollTo(0, 0)");
  const seen = new Set();
  const faults = [];
  for (let at = 0; at < wanted + 5; at += 1) {
    await page.press("Tab");
    const focus = await page.evaluate(`(() => {
      const one = document.activeElement;
      const all = [...document.querySelectorAll('a[href], button, select, summary, [tabindex="0"]')];
      const style = getComputedStyle(one);
      return { at: all.indexOf(one), outlined: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1, what: one.outerHTML.slice(0, 90) };
    })()`);
    if (focus.at < 0) continue;
    seen.add(focus.at);
    if (!focus.outlined) faults.push(`focus cannot be seen: ${focus.what}`);
  }
  if (seen.size < wanted) faults.push(`Tab reaches ${seen.size} of ${wanted}`);
  return faults;
}

const MARKUP = `"><img src=x onerror="globalThis.hit=1"><script>globalThis.hit=1</script>\u202e`;

/** Every text of a document with markup in it, names and numbers aside. */
function poisoned(value, key = "") {
  const kept = /^(time|since|from|until|name|namespace|state|serves|version|status|type|at|stage|pool|to|bend|lastTransitionTime|.*[cC]ost.*|id|tier|capacityType|resource)$/;
  if (typeof value === "string") return kept.test(key) ? value : value + MARKUP;
  if (Array.isArray(value)) return value.map((one) => poisoned(one, key));
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, poisoned(one, name)]));
  return value;
}

/** The page over answers that are changed on their way: markup in every message, and every state without data. */
export async function hostile(url, browser, say) {
  const page = await open(browser);
  let change = (_, document) => document;
  const real = async (path) => JSON.parse(await (await fetch(new URL(path, url))).text());
  browser.listen(async ({ method, params }) => {
    if (method !== "Fetch.requestPaused") return;
    const path = new URL(params.request.url).pathname;
    const events = path === "/api/events";
    const document = change(path, await real(events ? "/api/state" : path));
    const text = JSON.stringify(document);
    // A stream that ends is asked for again: an hour later, so that it does not count as lost.
    const body = events ? `retry: 3600000\nevent: state\ndata: ${text}\n\n` : text;
    const responseHeaders = [{ name: "content-type", value: events ? "text/event-stream" : "application/json" }];
    await page.send("Fetch.fulfillRequest", { requestId: params.requestId, responseCode: 200, responseHeaders, body: Buffer.from(body).toString("base64") }).catch(() => {});
  });
  await page.send("Fetch.enable", { patterns: [{ urlPattern: "*/api/*" }] });
  await page.size(1280, 900);

  change = (_, document) => poisoned(document);
  for (const hash of ["#/", "#/pools", "why"]) {
    await page.go("about:blank");
    await page.go(new URL(hash === "why" ? "#/" : hash, url).href);
    await page.until("a page", "document.querySelectorAll('.card.stage, .pool').length > 0");
    if (hash === "why") {
      await page.press("w");
      await page.until("why", "document.querySelectorAll('.why section').length > 0");
    }
    await page.until("the text as text", "document.body.innerText.includes('onerror=')");
    if (await page.evaluate("globalThis.hit === 1 || document.querySelectorAll('main img, main script, [onerror]').length > 0")) page.faults.push(`${hash}: text became markup`);
  }
  say("markup in messages stays text");

  const states = [
    ["no pipelines", (state) => ({ ...state, pipelines: [] }), "There are no pipelines"],
    ["no pools", (state) => ({ ...state, pools: [] }), "discover", "#/pools"],
    ["pools not permitted", (state) => ({ ...state, pools: [], session: { ...state.session, noPools: "not permitted: ask for the right to list computepools" } }), "ask for the right", "#/pools"],
    ["nothing seen yet", (state) => ({ ...state, pipelines: [], session: { ...state.session, waiting: true } }), "Reading the cluster"],
    ["cluster gone", (state) => ({ ...state, session: { ...state.session, lost: { since: state.time, problem: "no answer", advice: "check the network" } } }), "check the network"],
    ["no such pipeline", (state) => state, "or not any more", "#/p/nowhere/nothing"],
  ];
  for (const [what, changed, text, hash] of states) {
    change = (path, document) => (/state|events/.test(path) ? changed(document) : document);
    await page.go("about:blank");
    await page.go(new URL(hash ?? "#/", url).href);
    await page.until(what, `document.body.innerText.includes(${JSON.stringify(text)})`);
  }
  say(`${states.length} states without data say how to go on`);
  return page.faults;
}
