// The page: follows the stream of states, shows what the address names, listens to keys.

import { age, clock, fill, h, money, plural, sign, state, tone } from "./dom.js";
import { pipeline } from "./pipeline.js";
import { pools } from "./pools.js";

const at = (id) => document.getElementById(id);
const KEYS = [
  ["j, ↓ / k, ↑", "next and previous pipeline"],
  ["w", "why is it there, and back"],
  ["p", "pipelines"],
  ["o", "pools"],
  ["n", "choose a namespace"],
  ["t", "theme: as the system, light, dark"],
  ["?", "these keys"],
  ["Esc", "close"],
];
const THEMES = ["auto", "light", "dark"];
const ASK_AGAIN = 10000;
/** Dry pools are found in all of the operator's metrics: that is much to read in large clusters. */
const ASK_AGAIN_POOLS = 30000;

const model = { overview: null, detail: null, why: null, cut: null, namespace: "", width: 0, asked: 0 };

// Where: #/p/NAMESPACE/NAME[/why[/STAGE]], #/pools, or nothing for the first pipeline.
function place() {
  const parts = location.hash.replace(/^#\/?/, "").split("/").map(decode);
  if (parts[0] === "pools") return { view: "pools" };
  if (parts[0] === "p" && parts[2]) return { view: "pipeline", namespace: parts[1], name: parts[2], tab: parts[3] === "why" ? "why" : "now", stage: parts[4] };
  const first = listed()[0];
  return { view: "pipeline", namespace: first?.namespace, name: first?.name, tab: "now" };
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

const go = (hash) => { location.hash = hash; };
const address = (one) => `#/p/${encodeURIComponent(one.namespace)}/${encodeURIComponent(one.name)}`;
const listed = () => (model.overview?.pipelines ?? []).filter((one) => model.namespace === "" || one.namespace === model.namespace);

// Data in.

function follow() {
  const events = new EventSource("/api/events");
  events.addEventListener("state", (event) => {
    model.overview = JSON.parse(event.data);
    model.cut = null;
    refresh();
  });
  events.addEventListener("error", async () => {
    // A refused stream ends; one that broke comes back by itself. Until then the state can be asked for.
    if (events.readyState === EventSource.CLOSED) setTimeout(follow, 5000);
    try {
      const state = await get("/api/state");
      if (state.problem) throw new Error(state.problem);
      model.overview = state;
      model.cut = null;
    } catch {
      model.cut ??= new Date().toISOString();
    }
    refresh();
  });
}

async function get(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" } });
  if (answer.ok) return answer.json();
  return { problem: (await answer.text()).trim() };
}

let refreshing = false;
let again = false;
/** Gets what the address names, one request at a time. */
async function refresh() {
  if (refreshing) { again = true; return; }
  refreshing = true;
  try {
    do {
      again = false;
      await fetched(place());
    } while (again);
  } catch {
    // Nobody answers: the stream breaks, too, and says so.
  } finally {
    refreshing = false;
    draw();
  }
}

async function fetched(where) {
  const path = shown();
  if (path === null) { model.detail = null; draw(); ask(); return; }
  const known = model.overview?.pipelines.some((one) => one.namespace === where.namespace && one.name === where.name);
  model.detail = known ? await get(path) : { problem: `There is no pipeline '${where.name}' in namespace '${where.namespace}', or not any more.` };
  draw();
  if (known) ask();
}

let asking = false;
/** Asks the operator about what is shown, one question at a time: where it is out of reach, that takes seconds. */
async function ask() {
  const path = question();
  const due = model.why?.path !== path || Date.now() - model.asked > (place().view === "pools" ? ASK_AGAIN_POOLS : ASK_AGAIN);
  if (asking || path === null || !due) return;
  asking = true;
  try {
    const why = await get(path);
    model.asked = Date.now();
    // Others may be asking: what was said before still holds for a while.
    if (!why.problem || model.why?.path !== path) model.why = { ...why, path };
  } catch {
    // Nobody answers: see refresh().
  } finally {
    asking = false;
    draw();
  }
  // Somebody may have gone on to another pipeline meanwhile.
  if (question() !== path) ask();
}

/** What the operator can be asked about what is shown; null where nothing is. */
function question() {
  const path = shown();
  if (path !== null) return `${path}/why`;
  return place().view === "pools" ? "/api/dry" : null;
}

/** Path of the pipeline that is shown; null where none is. */
function shown() {
  const where = place();
  return where.view === "pipeline" && where.name ? `/api/pipelines/${encodeURIComponent(where.namespace)}/${encodeURIComponent(where.name)}` : null;
}

// Out.

function draw() {
  const { overview } = model;
  if (!overview) { banner(); return; }
  const where = place();
  header(where);
  banner();
  const lost = Boolean(model.cut ?? overview.session.lost);
  at("body").classList.toggle("stale", lost);
  at("body").classList.toggle("no-list", where.view === "pools");
  list(where);
  model.width = at("main").clientWidth - 2 * Number.parseFloat(getComputedStyle(at("main")).paddingLeft);
  fill(at("main"), content(where));
  foot();
  document.title = where.view === "pools" ? "Pools · tiercel" : where.name ? `${where.name} · tiercel` : "tiercel";
}

function content(where) {
  const { overview, detail } = model;
  if (overview.session.waiting) return h("p", { class: "empty", "data-key": "wait" }, "Reading the cluster…");
  const why = model.why?.path === question() ? model.why : null;
  if (where.view === "pools") return pools(overview, why);
  if (!where.name) return nothing();
  if (!detail) return h("p", { class: "empty", "data-key": "wait" }, "…");
  if (detail.problem) return h("p", { class: "empty", "data-key": "problem" }, detail.problem);
  const tiers = new Map(overview.pools.map((pool) => [pool.name, pool.tier]));
  return pipeline(detail, tiers, where.tab, why, where.stage, model.width);
}

function nothing() {
  const { overview } = model;
  const chosen = model.namespace || overview.session.namespace;
  const text = chosen ? `There are no pipelines in namespace '${chosen}'.` : "There are no pipelines in any namespace.";
  const how = chosen && !model.namespace ? "This view looks at one namespace: start it with -A for all of them." : "Apply one: kubectl apply -n NAMESPACE -f pipeline.yaml. It appears here by itself.";
  return h("div", { class: "empty", "data-key": "nothing" }, h("p", {}, h("b", {}, text)), h("p", {}, how));
}

function header(where) {
  const { session, pipelines, pools: all } = model.overview;
  const tab = (name, href, label, count) => h("a", { class: "tab", href, "aria-current": where.view === name ? "page" : null, "data-key": name }, label, h("span", { class: "badge" }, String(count)));
  fill(at("tabs"), tab("pipeline", "#/", "Pipelines", pipelines.length), tab("pools", "#/pools", "Pools", all.length));
  const lost = model.cut ?? session.lost?.since;
  fill(
    at("where"),
    h("span", { class: "context", title: `context ${session.context}` }, session.context),
    h("span", { class: `live ${lost ? "bad" : "good"}`, title: lost ? `since ${lost}` : "follows the cluster" }, h("span", { class: "sign", "aria-hidden": "true" }, lost ? "✖" : "●"), lost ? `lost ${clock(lost)}` : "live"),
  );
  const names = [...new Set(pipelines.map((one) => one.namespace))].sort();
  if (model.namespace && !names.includes(model.namespace)) names.push(model.namespace);
  const only = session.namespace;
  fill(at("namespace"), only ? h("option", { value: "" }, only) : h("option", { value: "" }, "all"), only ? [] : names.map((name) => h("option", { value: name }, name)));
  at("namespace").value = model.namespace;
}

function banner() {
  const session = model.overview?.session;
  const line = (kind, mark, text, key) => h("p", { class: `banner ${kind}`, "data-key": key }, h("span", { "aria-hidden": "true" }, mark), h("span", {}, text));
  const lines = [];
  if (model.cut) lines.push(line("bad", "✖", `This page does not reach tiercel ui since ${clock(model.cut)}: start it again, the page goes on by itself. Below is what was seen last.`, "cut"));
  else if (session?.lost) lines.push(line("bad", "✖", `Not up to date since ${clock(session.lost.since)}: ${session.lost.problem}; ${session.lost.advice}. Below is what was seen last.`, "lost"));
  for (const note of session?.notes ?? []) lines.push(line("warn", "⚠", note, note));
  fill(at("banner"), lines);
}

function list(where) {
  const rows = listed();
  const cost = rows.reduce((sum, one) => sum + Number(one.costPerHour ?? 0), 0);
  const ready = rows.filter((one) => one.state === "Ready").length;
  fill(
    at("list"),
    rows.length ? h("p", { class: "sum", "data-key": "sum" }, `${ready} of ${rows.length} Ready`, h("span", {}, `${money(String(cost))}/h`)) : null,
    h("ul", { "data-key": "rows" }, rows.map((one) => row(one, where.name === one.name && where.namespace === one.namespace))),
  );
}

const row = (one, here) =>
  h(
    "li",
    { "data-key": `${one.namespace}/${one.name}` },
    h(
      "a",
      { href: address(one), "aria-current": here ? "page" : null, "data-key": `to-${one.namespace}/${one.name}` },
      h("span", { class: "line" }, h("span", { class: "name", title: one.name }, one.name), h("span", { class: "num" }, money(one.costPerHour) === null ? "–" : `${money(one.costPerHour)}/h`)),
      h("span", { class: "line" }, state(one.state), h("span", { class: "quiet" }, `${one.ready}/${one.replicas} · ${one.namespace}`)),
      h("span", { class: "dots", "aria-hidden": "true" }, one.stages.map((stage) => h("i", { class: tone(stage.state), title: `${stage.name}: ${stage.state}` }, sign(stage.state)))),
    ),
  );

function foot() {
  const { session, time } = model.overview;
  fill(at("foot"), h("span", {}, `tiercel ${session.version} · read-only · ${session.namespace ? `namespace ${session.namespace}` : "every namespace"} · history since ${clock(session.since)} (${age((Date.parse(time) - Date.parse(session.since)) / 1000)})`), h("span", {}, "? shows the keys"));
}

// Keys, theme.

function move(by) {
  const rows = listed();
  if (rows.length === 0) return;
  const where = place();
  const now = rows.findIndex((one) => one.name === where.name && one.namespace === where.namespace);
  const next = rows[Math.min(rows.length - 1, Math.max(0, where.view === "pools" ? 0 : now + by))];
  go(address(next) + (where.tab === "why" ? "/why" : ""));
  requestAnimationFrame(() => document.querySelector(`#list [aria-current="page"]`)?.scrollIntoView({ block: "nearest" }));
}

function help() {
  const dialog = at("help");
  if (dialog.open) { dialog.close(); return; }
  fill(dialog, h("h2", { id: "help-title" }, "Keys"), h("dl", {}, KEYS.map(([keys, text]) => h("div", {}, h("dt", {}, keys.split(" ").map((part) => (part === "/" ? " / " : h("kbd", {}, part.replace(/,$/, ""))))), h("dd", {}, text)))), h("p", { class: "quiet" }, "Tab reaches everything. Select a stage to see why it is where it is."), h("button", { type: "button", "data-act": "help", class: "plain" }, "Close"));
  dialog.showModal();
}

function theme(next) {
  const chosen = THEMES.includes(next) ? next : "auto";
  if (chosen === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  const label = { auto: ["◐", "as the system"], light: ["☀", "light"], dark: ["☾", "dark"] }[chosen];
  at("theme").textContent = label[0];
  at("theme").setAttribute("aria-label", `Theme: ${label[1]}`);
  at("theme").title = `Theme: ${label[1]} (t)`;
  try { localStorage.setItem("theme", chosen); } catch { /* a browser that keeps nothing still changes now */ }
  return chosen;
}

let shade = "auto";
const turn = () => { shade = theme(THEMES[(THEMES.indexOf(shade) + 1) % THEMES.length]); };

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("select, input")) return;
  if (at("help").open) {
    if (event.key === "?") help();
    return;
  }
  const where = place();
  const scrolls = event.target.closest?.("[tabindex='0']");
  const act = {
    j: () => move(1), k: () => move(-1),
    ArrowDown: scrolls ? null : () => move(1), ArrowUp: scrolls ? null : () => move(-1),
    w: () => where.name && go(address(where) + (where.tab === "why" ? "" : "/why")),
    p: () => go("#/"), o: () => go("#/pools"), n: () => at("namespace").focus(), t: turn, "?": help,
  }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

document.addEventListener("keydown", press);
document.addEventListener("click", (event) => {
  const act = event.target.closest?.("[data-act]")?.dataset.act;
  if (act === "help") help();
  if (act === "theme") turn();
  if (act === "skip") {
    // The address names what is shown, so the link must not change it.
    event.preventDefault();
    at("main").focus();
  }
  if (event.target === at("help")) at("help").close();
});
at("namespace").addEventListener("change", (event) => {
  model.namespace = event.target.value;
  if (place().view === "pipeline") go("#/");
  refresh();
});
addEventListener("hashchange", () => { draw(); refresh(); });
addEventListener("resize", () => draw());
let kept = null;
try { kept = localStorage.getItem("theme"); } catch { /* see theme() */ }
shade = theme(kept);
follow();
