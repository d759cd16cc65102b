// One pipeline: whether it serves, its graph, its last hour, its decisions, its conditions; and why.

import { age, exact, h, money, number, plural, state, words } from "./dom.js";
import { graph, until } from "./graph.js";
import { hour, span } from "./hour.js";

const SERVES = { Yes: ["good", "✔", "serves"], Short: ["warn", "⚠", "serves less than is asked"], No: ["bad", "✖", "does not serve"], Unknown: ["busy", "?", "not looked at yet"] };
/** What nobody says: it is not zero. */
const DASH = "–";
const path = (screen) => `${encodeURIComponent(screen.namespace)}/${encodeURIComponent(screen.name)}`;

/** The page of a pipeline. `tiers`: of each pool; `tab`: `now` or `why`; `why`: what the operator said, or null; `stage`: only this one; `width`: pixels. */
export function pipeline(detail, tiers, tab, why, stage, width) {
  return [
    heading(detail, tab),
    tab === "why" ? explained(why, stage, detail) : now(detail, tiers, why, width),
  ];
}

function heading(detail, tab) {
  const screen = detail.screen;
  const [tone, mark, text] = SERVES[screen.serves] ?? SERVES.Unknown;
  const link = (name, label, key) =>
    h("a", { class: "tab", href: `#/p/${path(screen)}${name === "now" ? "" : `/${name}`}`, "aria-current": tab === name ? "page" : null, "data-key": `tab-${name}`, title: key }, label);
  return h(
    "section",
    { class: "title", "data-key": "title" },
    h("div", { class: "names" }, h("h1", {}, h("span", { class: "quiet" }, `${screen.namespace} / `), screen.name), state(screen.state)),
    h("p", { class: "serves" }, h("span", { class: `state ${tone}` }, h("span", { class: "sign", "aria-hidden": "true" }, mark), h("span", { class: "word" }, text)), h("span", {}, screen.because)),
    h("nav", { class: "tabs", "aria-label": "Parts of the pipeline" }, link("now", "Now"), link("why", "Why?", "w")),
  );
}

function now(detail, tiers, why, width) {
  const narrow = width < 560;
  return h(
    "div",
    { class: "cards", "data-key": "now" },
    tiles(detail, why),
    h("section", { class: "panel wide" }, h("h2", {}, "Stages"), graph(detail, why?.dry ?? [], width - (narrow ? 28 : 36), narrow)),
    h("section", { class: "panel wide" }, h("h2", {}, "Replicas by pool", h("span", { class: "quiet" }, span(detail.past))), hour(detail, tiers, Math.max(120, width - (narrow ? 40 : 300)))),
    costs(detail, why),
    h("section", { class: "panel" }, h("h2", {}, "Decisions"), decisions(detail)),
    h("section", { class: "panel" }, h("h2", {}, "Conditions"), conditions(detail)),
  );
}

const tile = (label, value, note, extra) =>
  h("div", { class: "tile", "data-key": label }, h("span", { class: "label" }, label), h("span", { class: "value" }, value), note ? h("span", { class: "note" }, note) : null, extra ?? null);

function tiles(detail, why) {
  const screen = detail.screen;
  const cost = money(screen.costPerHour);
  const budget = money(screen.maxCostPerHour);
  const share = cost !== null && Number(screen.maxCostPerHour) > 0 ? Math.min(1, Number(screen.costPerHour) / Number(screen.maxCostPerHour)) : null;
  const places = Object.entries(screen.pools).map(([name, count]) => `${name} ${count}`).join(", ");
  const newest = screen.decisions[0];
  const spent = share === null ? null : h("span", { class: "meter", role: "img", "aria-label": `${Math.round(share * 100)} % of the budget` }, h("i", { class: share > 0.9 ? "high" : null, css: { width: `${share * 100}%` } }));
  const mode = screen.paused ? `paused: ${screen.paused}` : screen.mode === "Automatic" ? null : `mode ${screen.mode}`;
  return h(
    "section",
    { class: "tiles", "aria-label": "In short" },
    tile("Replicas Ready", [String(screen.ready), h("small", {}, ` of ${screen.replicas}`)], places || "none anywhere"),
    tile("Cost per hour", cost ?? DASH, budget === null ? "no budget declared" : `of at most ${budget}`, [spent, beside(why)]),
    newest ? tile("Last decision", [age(newest.ageSeconds), h("small", {}, " ago")], `${money(newest.costBefore)} → ${money(newest.costAfter)} per hour planned`) : tile("Last decision", "none", "on record"),
    screen.powerWatts === undefined ? null : tile("Power", [String(screen.powerWatts), h("small", {}, " W")], "as pools declare it"),
    tile("Bottleneck", screen.bottleneck ?? "none", mode ?? (screen.bottleneck ? "limits throughput" : "no stage limits throughput")),
  );
}

/** What is planned and what the least would cost: only the operator knows. */
const beside = (why) => {
  const title = why?.cost?.minimumPerHour === undefined ? "the operator has not said it" : "minimum: the least replicas, where one costs the least";
  return h("span", { class: "note", title }, `planned ${money(why?.cost?.plannedPerHour) ?? DASH}, minimum ${money(why?.cost?.minimumPerHour) ?? DASH}`);
};

// Cost. Replicas are the status's, what one costs and draws the operator's. A sum of which a part is not known is not known.

function costs(detail, why) {
  const parts = detail.stages.flatMap((stage) => stage.pools.filter((pool) => pool.replicas > 0).map((pool) => part(stage, pool, why)));
  const sums = (name, those) => ({ name, replicas: sum(those, "replicas"), cost: sum(those, "cost"), watts: sum(those, "watts") });
  const all = sums("All", parts);
  const whole = { ...all, cost: all.cost ?? stated(detail.screen.costPerHour), watts: all.watts ?? stated(detail.screen.powerWatts) };
  const stages = detail.stages.map((stage) => sums(stage.name, parts.filter((one) => one.stage === stage.name)));
  const used = [...new Set(parts.map((one) => one.pool))].map((pool) => sums(pool, parts.filter((one) => one.pool === pool)));
  const powered = parts.some((one) => one.watts !== null);
  return h(
    "section",
    { class: "panel wide", "data-key": "costs" },
    h("h2", {}, "Cost", thousand(detail, why, whole.cost)),
    h("div", { class: "costs" }, cost_table("Stage", stages, whole, powered), used.length ? cost_table("Pool", used, whole, powered) : null),
  );
}

/** The replicas of a stage on a pool: what all of them cost per hour and draw, null where nobody says so. */
function part(stage, pool, why) {
  const one = why?.stages?.find(({ name }) => name === stage.name)?.pools.find(({ name }) => name === pool.name)?.replica;
  const times = (value) => (value === undefined ? null : value * pool.replicas);
  return { stage: stage.name, pool: pool.name, replicas: pool.replicas, cost: times(one?.costPerHour), watts: times(one?.watts) };
}

const sum = (parts, what) => parts.reduce((all, one) => (all === null || one[what] === null ? null : all + one[what]), 0);

/** A number of the status; null where it has none. */
const stated = (text) => (money(text) === null ? null : Number(text));

/** What a thousand requests cost at the rate of now. */
function thousand(detail, why, cost) {
  const rate = arriving(detail, why);
  const known = rate > 0 && cost !== null;
  const title = known ? "cost of an hour over the requests that come in within it" : "known where every stage that nobody calls declares requestsPerSecond, and requests come in";
  return h("span", { class: "quiet", title }, `${known ? money((cost / rate / 3600) * 1000) : DASH} per 1,000 requests${known ? `, at ${number(rate)} requests/s` : ""}`);
}

/** Requests per second that come in: those of the stages that nobody calls. Demand is what replicas at their target serve them with. */
function arriving(detail, why) {
  const called = new Set(detail.graph.edges.map((edge) => edge.to));
  const first = (why?.stages ?? []).filter((stage) => !called.has(stage.name));
  const rates = first.map((stage) => (stage.unit === "requestsPerSecond" && stage.demand !== undefined && stage.targetPercent !== undefined ? (stage.demand * stage.targetPercent) / 100 : null));
  return rates.length === 0 || rates.includes(null) ? null : rates.reduce((all, rate) => all + rate, 0);
}

/** One line for each, the dearest first, and the whole. */
function cost_table(what, lines, whole, powered) {
  const cells = (line) => [
    h("td", { class: "num" }, line.replicas),
    h("td", { class: "num" }, money(line.cost) ?? DASH),
    h("td", { class: "num share" }, share(line.cost, whole.cost)),
    powered ? h("td", { class: "num" }, line.watts === null ? DASH : number(line.watts)) : null,
  ];
  const row = (line) => h("tr", { "data-key": line.name, class: line.replicas === 0 ? "dim" : null }, h("th", { scope: "row" }, line.name), cells(line));
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "group", "aria-label": `Cost by ${what.toLowerCase()}` },
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, [what, "Replicas", "Per hour", "Share", powered ? "Watts" : null].filter(Boolean).map((text, at) => h("th", { scope: "col", class: at > 0 ? "num" : null }, text)))),
      h("tbody", {}, [...lines].sort((a, b) => (b.cost ?? -1) - (a.cost ?? -1)).map(row)),
      h("tfoot", {}, row(whole)),
    ),
  );
}

/** Which part of the whole that is. */
function share(cost, whole) {
  if (cost === null || !(whole > 0)) return DASH;
  const percent = Math.min(100, (100 * cost) / whole);
  const text = percent > 0 && percent < 1 ? "<1 %" : `${Math.round(percent)} %`;
  return [h("span", { class: "meter", "aria-hidden": "true" }, cost > 0 ? h("i", { css: { width: `${percent}%` } }) : null), h("span", { class: "percent" }, text)];
}

function decisions(detail) {
  const all = new Map();
  for (const decision of [...detail.screen.decisions, ...detail.past.decisions]) if (!all.has(decision.id)) all.set(decision.id, decision);
  const list = [...all.values()].sort((a, b) => Date.parse(b.time) - Date.parse(a.time)).slice(0, 50);
  if (list.length === 0) return h("p", { class: "empty small" }, "No decision is on record.");
  const at = Date.parse(detail.time);
  return h(
    "ol",
    { class: "decisions", tabindex: "0", "aria-label": "Decisions, newest first" },
    list.map((decision) =>
      h(
        "li",
        { "data-key": decision.id },
        h("time", { datetime: decision.time, title: decision.time }, exact(decision.time), h("span", { class: "quiet" }, `${age((at - Date.parse(decision.time)) / 1000)} ago`)),
        h("div", {}, h("span", { class: "what" }, decision.summary.replaceAll("->", " → ")), h("span", { class: "reason" }, because(decision, detail.reasons)), h("span", { class: "quiet" }, `${money(decision.costBefore)} → ${money(decision.costAfter)} per hour`)),
      ),
    ),
  );
}

/** Why it was decided: what set it off, which need, what shaped it. */
function because(decision, reasons) {
  const need = decision.signal ? `; ${decision.signal} asked for most` : "";
  const shaped = reasons?.[decision.reason];
  return `${words(decision.trigger)}${need}; ${decision.reason}${shaped ? `: ${shaped}` : ""}`;
}

/** As it should be, per type. */
const WANTED = { Reconciling: "False", Stalled: "False" };

function conditions(detail) {
  const matter = new Set(detail.screen.conditions.map((condition) => condition.type));
  const at = Date.parse(detail.time);
  const line = (condition) => {
    const fine = condition.status === (WANTED[condition.type] ?? "True");
    const [tone, mark] = fine ? ["good", "✔"] : condition.status === "Unknown" ? ["busy", "?"] : ["warn", "⚠"];
    return h(
      "li",
      { class: matter.has(condition.type) ? "matters" : null, "data-key": condition.type },
      h("span", { class: `state ${tone}` }, h("span", { class: "sign", "aria-hidden": "true" }, mark), h("span", { class: "word" }, `${condition.type} ${condition.status === "True" ? "" : condition.status}`.trim())),
      h("span", { class: "quiet" }, `${condition.reason}, for ${age((at - Date.parse(condition.lastTransitionTime)) / 1000)}`),
      condition.message ? h("p", {}, condition.message) : null,
    );
  };
  const sorted = [...detail.conditions].sort((a, b) => Number(matter.has(b.type)) - Number(matter.has(a.type)));
  return [
    detail.screen.waitsFor.length ? h("div", { class: "waits" }, h("h3", {}, "Waits for"), h("ul", {}, detail.screen.waitsFor.map((text) => h("li", {}, text)))) : null,
    sorted.length ? h("ul", { class: "conditions" }, sorted.map(line)) : h("p", { class: "empty small" }, "The operator has not looked at it yet. Is it running? kubectl get pods -n tiercel-system"),
  ];
}

// Why.

function explained(why, only, detail) {
  if (!why) return h("p", { class: "empty", "data-key": "why" }, "Asking the operator…");
  if (why.problem) return h("p", { class: "empty", "data-key": "why" }, why.problem);
  const known = new Map(why.stages.map((stage) => [stage.name, stage]));
  const stages = only && known.has(only) ? [known.get(only)] : why.stages;
  const screen = detail.screen;
  return h(
    "div",
    { class: "why", "data-key": "why" },
    why.live
      ? h("p", { class: "lead" }, `As the operator sees it at ${exact(why.time)}`, why.sentences.proof ? `; ${why.sentences.proof}` : null, planned(why))
      : h("p", { class: "lead warnline", role: "status" }, "The operator could not be asked, so readings and needs are missing: ", why.unreached, ". Below is what the status has."),
    only ? h("p", {}, h("a", { href: `#/p/${path(screen)}/why`, "data-key": "all-stages" }, "All stages")) : null,
    stages.map((stage) => of_stage(stage, why)),
  );
}

/** What all planned replicas would cost, and the least of them. */
const planned = (why) => `. Per hour, what is planned costs ${money(why.cost.plannedPerHour) ?? DASH}, and the minimum ${money(why.cost.minimumPerHour) ?? DASH}.`;

function of_stage(stage, why) {
  const rated = stage.unit === "requestsPerSecond";
  const most = Math.max(stage.demand ?? 0, stage.readyCapacity ?? 0);
  const unit = rated ? "requests/s" : "replicas' worth";
  const shaped = stage.reason ? `planned: ${why.sentences.reasons[stage.reason] ?? words(stage.reason)} (${stage.reason})${stage.costPerHour === undefined ? "" : `, ${money(stage.costPerHour)} per hour`}, ${money(stage.minimumCostPerHour) ?? DASH} at the minimum` : null;
  return h(
    "section",
    { class: "panel wide", "data-key": `why-${stage.name}` },
    h("h2", {}, stage.name, stage.replicas ? h("span", { class: "quiet" }, `${stage.replicas.min} to ${stage.replicas.max} replicas`) : null),
    h(
      "div",
      { class: "why-head" },
      h(
        "div",
        {},
        h("p", { class: "headline" }, why.sentences.headlines[stage.name] ?? null),
        shaped ? h("p", {}, shaped) : null,
        stage.hold ? h("p", { class: "warnline" }, `held: ${stage.hold.message} (${stage.hold.reason}${stage.hold.seconds === undefined ? "" : `, for ${age(stage.hold.seconds)} at most`})`) : null,
        stage.message && stage.message !== stage.hold?.message ? h("p", {}, `status: ${stage.message}`) : null,
      ),
      most > 0 && stage.demand !== undefined
        ? h("div", { class: "bars" }, bar("needed", stage.demand, most, unit, "need"), stage.readyCapacity === undefined ? null : bar("Ready", stage.readyCapacity, most, unit, "have"))
        : null,
    ),
    stage.needs.length ? h("p", { class: "needs" }, h("span", { class: "quiet" }, "needs "), stage.needs.map((need) => h("span", { class: need.need === stage.decided ? "tag strong" : "tag" }, `${need.need} ${number(need.asks)}${need.need === stage.decided ? " decides" : ""}`))) : null,
    stage.pools.length ? pools(stage, rated, new Map(why.dry.filter((dry) => dry.stage === stage.name).map((dry) => [dry.pool, dry]))) : null,
    stage.signals.length ? h("details", { "data-key": `signals-${stage.name}` }, h("summary", {}, `${plural(stage.signals.length, "signal")} read${stage.trusted ? "" : "; not recent enough to shrink on"}`), signals(stage)) : null,
    stage.excluded?.length ? h("details", { "data-key": `excluded-${stage.name}` }, h("summary", {}, `${plural(stage.excluded.length, "pool")} it may not use`), h("ul", {}, stage.excluded.map((one) => h("li", {}, h("b", {}, one.pool), `: ${one.why}`)))) : null,
  );
}

const bar = (label, value, most, unit, kind) =>
  h("div", { class: "bar-line" }, h("span", {}, label), h("span", { class: "meter" }, h("i", { class: kind, css: { width: `${(100 * value) / most}%` } })), h("span", { class: "num" }, `${number(value)} ${unit}`));

function pools(stage, rated, dry) {
  const head = ["Pool", "Planned", "Ready", "Costs/h each", rated ? "Serves each" : null, "All of it there", "Why not more"].filter(Boolean);
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "group", "aria-label": `Pools of ${stage.name}` },
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, head.map((text, at) => h("th", { scope: "col", class: at > 0 && at < head.length - 1 ? "num" : null }, text)))),
      h(
        "tbody",
        {},
        stage.pools.map((pool) =>
          h(
            "tr",
            { class: pool.replicas + (pool.wanted ?? 0) === 0 ? "dim" : null },
            h("th", { scope: "row" }, pool.name, pool.belowHint ? h("span", { class: "tag" }, "below the hint") : null),
            h("td", { class: "num" }, pool.wanted ?? DASH),
            h("td", { class: "num" }, `${pool.ready}/${pool.replicas}`),
            h("td", { class: "num" }, pool.replica ? money(pool.replica.costPerHour) : DASH),
            rated ? h("td", { class: "num" }, learned(pool.requestsPerSecond)) : null,
            h("td", { class: "num" }, pool.alone ? `${pool.alone.replicas} for ${money(pool.alone.costPerHour)}/h` : DASH, pool.notAlone ? h("span", { class: "quiet block" }, pool.notAlone) : null),
            h("td", {}, dry.has(pool.name) ? h("span", { class: "warnline block" }, `${until(dry.get(pool.name))}: ${dry.get(pool.name).why}`) : null, reason(pool, dry)),
          ),
        ),
      ),
    ),
  );
}

/** What a dry pool is not used for is told once: with the moment, not with seconds that are old when they are read. */
const reason = (pool, dry) => (dry.has(pool.name) && pool.notMore?.startsWith(dry.get(pool.name).why) ? null : pool.notMore ?? (pool.wanted ? "chosen" : DASH));

const learned = (value) => (value === undefined ? DASH : [`${number(value.value)}/s`, value.samples > 0 ? h("span", { class: "quiet block" }, `declared ${number(value.declared)}`) : null]);

function signals(stage) {
  const values = (signal) => signal.values.map((value) => `${value.role} ${number(value.value)} ${value.unit}`).join(", ");
  return h(
    "ul",
    { class: "signals" },
    stage.signals.map((signal) =>
      h(
        "li",
        {},
        h("span", { class: `state ${signal.state === "fresh" ? "good" : "warn"}` }, h("span", { class: "sign", "aria-hidden": "true" }, signal.state === "fresh" ? "✔" : "⚠"), h("span", { class: "word" }, signal.state)),
        ` ${signal.pool ?? "whole stage"}: ${signal.preset} from ${signal.source}`,
        signal.newestSeconds === undefined ? "" : `, ${age(signal.newestSeconds)} old`,
        signal.pods ? `, ${signal.pods.sampled} of ${signal.pods.expected} pods` : "",
        h("span", { class: "quiet block" }, values(signal)),
        signal.gaps.map((gap) => h("span", { class: "block" }, `${gap.pods === undefined ? "" : `${plural(gap.pods, "pod")}: `}${gap.why}`)),
      ),
    ),
  );
}

