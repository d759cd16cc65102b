// The strip of the last hour: a line for each stage on each pool, one block for each time with the same replicas.

import { clock, exact, h, money, plural, s } from "./dom.js";
import { short, tier } from "./graph.js";

const ROW = 22;
const GAP = 4;
/** Windows that are shown, minutes: the smallest that holds what was seen. */
const WINDOWS = [5, 10, 15, 30, 60];

/** Which steps are shown. */
function frame(past, width) {
  const seen = (Date.parse(past.from) + past.steps * past.stepSeconds * 1000 - Date.parse(past.since)) / 60000;
  const minutes = WINDOWS.find((window) => seen <= window) ?? 60;
  const steps = Math.min(past.steps, (minutes * 60) / past.stepSeconds);
  const first = past.steps - steps;
  return { minutes, steps, first, width, x: (step) => ((step - first) / steps) * width, time: (step) => Date.parse(past.from) + step * past.stepSeconds * 1000 };
}

/** Part of a run within the frame. */
function within(run, view) {
  const at = Math.max(run.at, view.first);
  const end = run.at + run.steps;
  return end > at ? { ...run, at, steps: end - at } : null;
}

/** All of the strip. `tiers`: of each pool; `width`: pixels for the time. */
export function hour(detail, tiers, width) {
  const past = detail.past;
  const view = frame(past, width);
  const most = new Map();
  for (const row of past.rows) {
    const top = Math.max(0, ...row.runs.map((run) => run.replicas));
    most.set(row.stage, Math.max(most.get(row.stage) ?? 0, top));
  }
  const order = new Map(detail.stages.map((stage, at) => [stage.name, at]));
  const rows = past.rows
    .filter((row) => order.has(row.stage))
    .sort((a, b) => order.get(a.stage) - order.get(b.stage) || a.pool.localeCompare(b.pool));
  if (rows.length === 0) return h("p", { class: "empty small" }, "Nothing seen yet: the strip fills from now on.");
  let last = null;
  const lines = rows.map((row) => {
    const head = row.stage === last ? null : row.stage;
    last = row.stage;
    return line(row, head, view, tiers.get(row.pool), most.get(row.stage), past);
  });
  return h(
    "div",
    { class: "hour" },
    h("div", { class: "hour-rows" }, marks(past, view), lines, cost(past, view), axis(view)),
    h(
      "p",
      { class: "legend" },
      h("span", {}, h("i", { class: "key cpu l4" }), " CPU"),
      h("span", {}, h("i", { class: "key acc l4" }), " accelerator"),
      h("span", {}, "the number is replicas; the stronger, the more of the stage's most"),
      h("span", {}, h("i", { class: "key starting" }), " some not Ready"),
      h("span", {}, h("i", { class: "key zero" }), " none there"),
      h("span", {}, h("i", { class: "key gap" }), " not seen"),
      past.incomplete ? h("span", {}, "too many pipelines to keep them all") : null,
    ),
  );
}

function line(row, head, view, tierName, most, past) {
  const runs = row.runs.map((run) => within(run, view)).filter(Boolean);
  const label = row.pool === "" ? "no pool" : row.pool;
  return h(
    "div",
    { class: head ? "hour-row head" : "hour-row", "data-key": `${row.stage}/${row.pool}` },
    h("span", { class: "hour-stage" }, head ?? ""),
    h("span", { class: "hour-pool" }, row.pool === "" ? null : h("span", { class: `chip ${tier(tierName)}` }, short(tierName)), h("span", { class: "name", title: label }, label)),
    h(
      "span",
      { class: "hour-time", role: "img", "aria-label": told(row, runs, view, past) },
      s(
        "svg",
        { width: view.width, height: ROW, viewBox: `0 0 ${view.width} ${ROW}`, "aria-hidden": "true", focusable: "false" },
        runs.map((run) => block(run, view, tierName, most)),
      ),
    ),
  );
}

function block(run, view, tierName, most) {
  const x = view.x(run.at);
  const width = Math.max(1, view.x(run.at + run.steps) - x);
  const title = s("title", {}, `${exact(view.time(run.at))} to ${exact(view.time(run.at + run.steps))}: ${plural(run.replicas, "replica")}, ${run.ready} Ready`);
  if (run.replicas === 0) return s("g", {}, title, s("rect", { x, y: ROW / 2 - 1, width, height: 2, class: "zero" }), s("rect", { x, y: 0, width, height: ROW, class: "touch" }));
  const level = Math.max(1, Math.ceil((run.replicas / Math.max(1, most)) * 5));
  const text = width >= 8 + 7 * String(run.replicas).length;
  const waits = run.ready < run.replicas;
  return s(
    "g",
    { class: `${tier(tierName)} l${level}` },
    title,
    s("rect", { x: x + 0.5, y: GAP / 2, width: Math.max(0.8, width - 1), height: ROW - GAP - (waits ? 4 : 0), rx: 2, class: "block" }),
    waits ? s("rect", { x: x + 0.5, y: ROW - GAP / 2 - 3, width: Math.max(0.8, width - 1), height: 3, class: "starting" }) : null,
    text ? s("text", { x: x + 5, y: ROW / 2 + (waits ? 2 : 4) }, run.replicas) : null,
  );
}

/** A line in words. */
function told(row, runs, view, past) {
  if (runs.length === 0) return `${row.stage} on ${row.pool || "no pool"}: not seen in this time`;
  const numbers = runs.map((run) => run.replicas);
  const [least, top] = [Math.min(...numbers), Math.max(...numbers)];
  const last = runs[runs.length - 1];
  const seen = runs.reduce((sum, run) => sum + run.steps, 0) * past.stepSeconds;
  const unseen = Math.round((view.steps * past.stepSeconds - seen) / 60);
  const now = last.at + last.steps >= past.steps - 1 ? `${plural(last.replicas, "replica")} now, ${last.ready} Ready` : "not seen now";
  const range = least === top ? `${top} all the time` : `between ${least} and ${top}`;
  return `${row.stage} on ${row.pool || "no pool"}: ${now}; ${range} in ${view.minutes} minutes${unseen > 0 ? `, of which ${plural(unseen, "minute")} not seen` : ""}`;
}

/** When decisions were taken. */
function marks(past, view) {
  const shown = past.decisions
    .map((decision) => ({ decision, step: (Date.parse(decision.time) - Date.parse(past.from)) / 1000 / past.stepSeconds }))
    .filter(({ step }) => step >= view.first && step <= past.steps);
  return h(
    "div",
    { class: "hour-row marks", "data-key": "marks" },
    h("span", { class: "hour-stage" }, "decisions"),
    h("span", { class: "hour-pool" }, past.moreDecisions ? `${shown.length} and more` : String(shown.length)),
    h(
      "span",
      { class: "hour-time", role: "img", "aria-label": `${plural(shown.length, "decision")} in ${view.minutes} minutes` },
      s(
        "svg",
        { width: view.width, height: 16, viewBox: `0 0 ${view.width} 16`, "aria-hidden": "true", focusable: "false" },
        shown.map(({ decision, step }) => {
          const x = Math.min(view.width - 5, Math.max(5, view.x(step)));
          return s("g", {}, s("title", {}, `${exact(decision.time)}: ${decision.summary}`), s("path", { d: `M${x - 5} 4h10l-5 8z`, class: "mark" }));
        }),
      ),
    ),
  );
}

/** What it cost, as a line. */
function cost(past, view) {
  const runs = past.cost.map((run) => within(run, view)).filter(Boolean);
  const values = runs.map((run) => Number(run.costPerHour));
  if (values.length === 0) return null;
  const top = Math.max(...values, 0.000001);
  const tall = 34;
  const y = (value) => 4 + (tall - 8) * (1 - value / top);
  let d = "";
  runs.forEach((run, at) => {
    const joined = at > 0 && runs[at - 1].at + runs[at - 1].steps === run.at;
    const value = y(Number(run.costPerHour)).toFixed(1);
    d += `${joined ? "L" : "M"}${view.x(run.at).toFixed(1)} ${value}L${view.x(run.at + run.steps).toFixed(1)} ${value}`;
  });
  const range = `${money(Math.min(...values))} to ${money(top)} per hour`;
  return h(
    "div",
    { class: "hour-row head cost", "data-key": "cost" },
    h("span", { class: "hour-stage" }, "cost/h"),
    h("span", { class: "hour-pool" }, money(values[values.length - 1])),
    h(
      "span",
      { class: "hour-time", role: "img", "aria-label": `cost: ${range}, ${money(values[values.length - 1])} at last` },
      s("svg", { width: view.width, height: tall, viewBox: `0 0 ${view.width} ${tall}`, "aria-hidden": "true", focusable: "false" }, s("title", {}, range), s("path", { d, class: "costline" })),
    ),
  );
}

function axis(view) {
  const every = view.minutes / 5;
  const steps = view.steps / 5;
  const ticks = [];
  for (let at = 0; at <= 5; at += 1) {
    const x = (at / 5) * view.width;
    const anchor = at === 0 ? "start" : at === 5 ? "end" : "middle";
    ticks.push(s("path", { d: `M${Math.min(view.width - 0.5, x + 0.5)} 0v5`, class: "tick" }));
    if (view.width / 5 > 48 || at % 5 === 0) ticks.push(s("text", { x, y: 17, "text-anchor": anchor }, at === 5 ? "now" : clock(view.time(view.first + at * steps))));
  }
  return h(
    "div",
    { class: "hour-row axis", "data-key": "axis" },
    h("span", { class: "hour-stage" }),
    h("span", { class: "hour-pool" }),
    h("span", { class: "hour-time" }, s("svg", { width: view.width, height: 20, viewBox: `0 0 ${view.width} 20`, "aria-hidden": "true", "data-minutes": every }, ticks)),
  );
}

/** The title's second part: which time the strip shows. */
export function span(past) {
  const view = frame(past, 1);
  return `last ${view.minutes === 60 ? "hour" : `${view.minutes} minutes`}; seen since ${clock(past.since)}`;
}
