// The pools: what a node costs, what is on it, how much room there is.

import { age, h, money, number, plural, state } from "./dom.js";
import { short, tier, until } from "./graph.js";

const BOUGHT = { OnDemand: "on demand", Spot: "spot", Reserved: "reserved" };

/** Stages that one pool's card names as those it is dry for. */
const DRY_FOR = 5;

/** All pools of the cluster. `dry`: for whom which are dry, null while nobody has said so. */
export function pools(overview, dry) {
  const list = overview.pools;
  if (overview.session.noPools) return empty("Pools cannot be seen.", overview.session.noPools);
  if (list.length === 0) return empty("There are no pools.", "kubectl tiercel discover proposes them from the cluster's nodes; kubectl tiercel discover --apply creates them.");
  const total = list.reduce((sum, pool) => sum + Number(pool.status?.costPerHour ?? 0), 0);
  return [
    h("section", { class: "title", "data-key": "title" }, h("div", { class: "names" }, h("h1", {}, "Pools")), h("p", { class: "serves" }, `${plural(list.length, "pool")}; their nodes cost ${money(String(total))} per hour, used or not`)),
    h("div", { class: "pool-grid", "data-key": "pools" }, list.map((pool) => card(pool, overview, (dry?.places ?? []).filter((place) => place.pool === pool.name)))),
    dry?.unreached ? h("p", { class: "quiet", "data-key": "undry" }, `Which pools are dry is not known: ${dry.unreached}`) : null,
  ];
}

const empty = (text, how) => h("div", { class: "empty", "data-key": "empty" }, h("p", {}, h("b", {}, text)), h("p", {}, how));

const fact = (label, value, title) => h("div", { title }, h("dt", {}, label), h("dd", {}, value));

/** A pool that delivers nothing to a stage, and until when. */
const dry_for = (place) =>
  h("p", { class: "warnline", "data-key": `dry-${place.namespace}-${place.pipeline}-${place.stage}` }, `${place.why === undefined ? "dry" : until(place)} for ${place.pipeline} / ${place.stage}${place.why === undefined ? "" : `: ${place.why}`}`);

const said = (condition) => condition.message || condition.reason;

/** Conditions that say the same. */
const together = (conditions) => [...new Set(conditions.map(said))].map((text) => conditions.filter((condition) => said(condition) === text));

function card(pool, overview, dry) {
  const status = pool.status;
  const nodes = status ? (status.readyNodes === status.nodes ? String(status.nodes) : `${status.readyNodes} of ${status.nodes}`) : "unknown";
  const shadow = Number(status?.shadowPrice ?? 0);
  const at = Date.parse(overview.time);
  const concerns = (status?.conditions ?? []).filter((condition) => condition.status !== "True" && !["Stalled", "Reconciling"].includes(condition.type));
  return h(
    "section",
    { class: "panel pool", "data-key": pool.name, tabindex: "0", "aria-label": `Pool ${pool.name}` },
    h("h2", {}, h("span", { class: `chip ${tier(pool.tier)}` }, short(pool.tier)), h("span", { class: "name" }, pool.name), state(pool.state)),
    h("p", { class: "quiet" }, [pool.tier, pool.class, BOUGHT[pool.capacityType] ?? pool.capacityType, status?.architecture].filter(Boolean).join(" · ")),
    h(
      "dl",
      { class: "facts" },
      fact("node/h", money(pool.costPerNodeHour) ?? pool.costPerNodeHour, "price of a node per hour"),
      fact("nodes", pool.maxNodes === undefined ? nodes : `${nodes}, up to ${pool.maxNodes}`, "usable, of those that match"),
      fact("all/h", money(status?.costPerHour) ?? "unknown", "what its nodes cost per hour"),
      fact("replicas", status ? String(status.replicas) : "unknown"),
      fact("one more saves/h", shadow > 0 ? money(status.shadowPrice) : "nothing", "shadow price: what one more node would save per hour now"),
      status?.warmBuffer ? fact("held for bursts", `${status.warmBuffer.held} of ${status.warmBuffer.placeholders}`, `placeholders that hold room: ${status.warmBuffer.reason}`) : null,
      pool.powerWattsPerNode === undefined ? null : fact("W per node", String(pool.powerWattsPerNode)),
    ),
    pool.shares.map((share) => room(share, status)),
    status?.free && pool.shares.length === 0 ? h("p", { class: "free" }, `${status.free} free`) : null,
    together(concerns).map((same) => h("p", { class: "warnline", "data-key": same[0].type }, `${same.map((condition) => `${condition.type} ${condition.status} for ${age((at - Date.parse(condition.lastTransitionTime)) / 1000)}`).join(", ")}: ${said(same[0])}`)),
    dry.slice(0, DRY_FOR).map(dry_for),
    dry.length > DRY_FOR ? h("p", { class: "warnline", "data-key": "dry-more" }, `and for ${plural(dry.length - DRY_FOR, "more stage")}`) : null,
    h("h3", {}, pool.stages.length ? "On it" : "Nobody is on it"),
    h(
      "ul",
      { class: "on" },
      pool.stages.map((one) =>
        h("li", {}, h("a", { href: `#/p/${encodeURIComponent(one.namespace)}/${encodeURIComponent(one.pipeline)}`, "data-key": `${pool.name}-${one.namespace}-${one.pipeline}-${one.stage}` }, `${one.pipeline} / ${one.stage}`), h("span", { class: "count" }, `${one.ready}/${one.replicas}`)),
      ),
    ),
  );
}

const BINARY = ["Ki", "Mi", "Gi", "Ti", "Pi"];

/** A quantity in three digits and the unit that fits: `178680m` is 179, `712944Mi` is 696Gi. */
function brief(text) {
  const [, value, unit] = /^(-?[\d.]+)([a-zA-Z]*)$/.exec(text) ?? [];
  if (value === undefined) return text;
  if (unit === "m") return number(Number(value) / 1000);
  let [size, at] = [Number(value), BINARY.indexOf(unit)];
  if (at < 0) return unit === "" ? number(size) : text;
  for (; Math.abs(size) >= 1024 && at < BINARY.length - 1; at += 1) size /= 1024;
  return number(size) + BINARY[at];
}

/** Whose a resource is. */
function room(share, status) {
  const numbers = status.capacity.find((one) => one.resource === share.resource);
  const label = `${share.resource}: pipelines ${brief(numbers.requestedByTiercel)}, others ${brief(numbers.requestedByOthers)}, free ${brief(numbers.free)} of ${brief(numbers.allocatable)}`;
  const part = (name, thousandths) => (thousandths > 0 ? h("i", { class: name, css: { width: `${Math.min(100, thousandths / 10)}%` } }) : null);
  return h(
    "div",
    { class: "room", "data-key": share.resource, title: label },
    h("span", { class: "name" }, share.resource),
    h("span", { class: "meter", role: "img", "aria-label": label }, part("mine", share.tiercel), part("others", Math.min(share.others, 1000 - share.tiercel))),
    h("span", { class: "num" }, `${brief(numbers.free)} free`),
  );
}
