// The stages of a pipeline: cards in the layers that the server found, edges as curves between them.

import { exact, h, s, sign, state, tone } from "./dom.js";

const SIZE = { card: [158, 236], gapLayer: [44, 72], gapRow: 18, bend: 12 };
const HEAD = 54;
const LINE = 24;
const DRY = 40;

/** Height of a card: its head and a line for each pool, and for each that is dry. */
const height = (stage) => HEAD + LINE * Math.max(1, stage.on.length) + DRY * stage.dry.length + 4;

/** The drawing in so many pixels. `dry`: pools that are taken for dry, by stage; `down`: layers below each other, for narrow screens. */
export function graph(detail, dry, width, down) {
  const own = (stage) => ({ ...stage, on: stage.pools.filter((pool) => pool.replicas > 0), dry: dry.filter((one) => one.stage === stage.name) });
  const stages = new Map(detail.stages.map((stage) => [stage.name, own(stage)]));
  const places = down ? stacked(detail.graph, stages, width) : sideBySide(detail.graph, stages, width);
  const cards = [...places.cards].map(([name, place]) => card(stages.get(name), place, detail));
  const lines = detail.graph.edges.map((edge, at) => line(edge, at, places, down));
  return h(
    "div",
    { class: "graph-scroll", tabindex: "0", role: "group", "aria-label": "Stages, callers before the called" },
    h(
      "div",
      { class: "graph", css: { width: `${places.width}px`, height: `${places.height}px` } },
      s(
        "svg",
        { width: places.width, height: places.height, viewBox: `0 0 ${places.width} ${places.height}`, "aria-hidden": "true" },
        s("defs", {}, s("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, s("path", { d: "M0 .8 7 4 0 7.2z", class: "arrow" }))),
        lines.map((part) => part.path),
      ),
      lines.map((part) => part.label),
      cards,
    ),
    h("ul", { class: "unseen" }, detail.graph.edges.map((edge) => h("li", {}, `${edge.from} calls ${edge.to} ${calls(edge)} times per request`))),
  );
}

const calls = (edge) => edge.learned ?? edge.callsPerRequest;

const between = (value, [least, most]) => Math.max(least, Math.min(most, value));

/** Where everything stands, layers from left to right: as wide as there is room, and no narrower than can be read. */
function sideBySide(graph, stages, width) {
  const count = Math.max(1, graph.layers.length);
  const gap = count > 1 ? between((width * 0.18) / (count - 1), SIZE.gapLayer) : 0;
  const across = between((width - 8 - gap * (count - 1)) / count, SIZE.card);
  const size = (spot) => (spot.stage === undefined ? SIZE.bend : height(stages.get(spot.stage)));
  const heights = graph.layers.map((layer) => layer.reduce((sum, spot) => sum + size(spot) + SIZE.gapRow, -SIZE.gapRow));
  const tallest = Math.max(...heights, 0);
  const found = { cards: new Map(), bends: new Map(), width: count * (across + gap) - gap + 8, height: tallest + 12 };
  graph.layers.forEach((layer, depth) => {
    const x = 4 + depth * (across + gap);
    let y = 6 + (tallest - heights[depth]) / 2;
    for (const spot of layer) {
      const box = { x, y, width: across, height: size(spot) };
      if (spot.stage === undefined) bend(found, spot.bend, [[x, y + box.height / 2], [x + across, y + box.height / 2]]);
      else found.cards.set(spot.stage, box);
      y += box.height + SIZE.gapRow;
    }
  });
  return found;
}

/** Layers below each other: one column, as narrow screens need it. Long edges pass at the left. */
function stacked(graph, stages, width) {
  const found = { cards: new Map(), bends: new Map(), width: Math.min(420, width), height: 0 };
  let y = 6;
  for (const layer of graph.layers) {
    for (const spot of layer) {
      if (spot.stage === undefined) continue;
      const box = { x: 26, y, width: found.width - 30, height: height(stages.get(spot.stage)) };
      found.cards.set(spot.stage, box);
      y += box.height + 26;
    }
  }
  found.height = y - 14;
  return found;
}

function bend(found, edge, points) {
  found.bends.set(edge, [...(found.bends.get(edge) ?? []), ...points]);
}

/** One edge, and its calls per request where these are not one. */
function line(edge, at, places, down) {
  const from = places.cards.get(edge.from);
  const to = places.cards.get(edge.to);
  const text = calls(edge) === "1" ? null : `×${calls(edge)}`;
  if (down) {
    const direct = Math.abs(to.y - from.y - from.height) < 40 && !edge.back;
    const x = direct ? from.x + 40 : 12 - ((at * 4) % 9);
    const start = direct ? [x, from.y + from.height] : [from.x, from.y + from.height - 14];
    const end = direct ? [x, to.y - 2] : [to.x - 2, to.y + 20];
    const d = direct ? `M${start}L${end}` : `M${start}C${[x, start[1]]} ${[x, start[1]]} ${[x, start[1] + 14]}L${[x, end[1] - 14]}C${[x, end[1]]} ${[x, end[1]]} ${end}`;
    const label = text && h("span", { class: "calls", css: { left: direct ? `${x + 22}px` : `${to.x + 16}px`, top: direct ? `${(start[1] + end[1]) / 2}px` : `${to.y - 9}px` } }, text);
    return { path: s("path", { d, class: "edge", "marker-end": "url(#arrow)" }), label };
  }
  const start = [from.x + from.width, from.y + from.height / 2];
  const end = [to.x - 2, to.y + to.height / 2];
  const points = [start, ...(places.bends.get(at) ?? []), end];
  if (edge.back) {
    const low = places.height - 4;
    return { path: s("path", { d: `M${start}C${[start[0] + 40, low]} ${[end[0] - 40, low]} ${end}`, class: "edge back", "marker-end": "url(#arrow)" }), label: null };
  }
  let d = `M${points[0]}`;
  for (let i = 1; i < points.length; i += 1) {
    const [a, b] = [points[i - 1], points[i]];
    const half = (b[0] - a[0]) / 2;
    d += i % 2 ? `C${[a[0] + half, a[1]]} ${[b[0] - half, b[1]]} ${b}` : `L${b}`;
  }
  const before = points[points.length - 2];
  const label = text && h("span", { class: "calls", css: { left: `${(before[0] + end[0]) / 2}px`, top: `${(before[1] + end[1]) / 2}px` } }, text);
  return { path: s("path", { d, class: "edge", "marker-end": "url(#arrow)" }), label };
}

/** A stage: a link to why it is where it is. */
function card(stage, place, detail) {
  const path = `${encodeURIComponent(detail.screen.namespace)}/${encodeURIComponent(detail.screen.name)}`;
  return h(
    "a",
    {
      class: `card stage ${tone(stage.state)}${stage.bottleneck ? " bottleneck" : ""}`,
      href: `#/p/${path}/why/${encodeURIComponent(stage.name)}`,
      "data-key": `stage-${stage.name}`,
      title: stage.message,
      css: { left: `${place.x}px`, top: `${place.y}px`, width: `${place.width}px`, height: `${place.height}px` },
    },
    h(
      "span",
      { class: "top" },
      h("span", { class: "name" }, stage.name),
      h("span", { class: "count", title: "Ready of all replicas" }, `${stage.ready}/${stage.replicas}`),
    ),
    h(
      "span",
      { class: "sub" },
      state(stage.state),
      stage.bottleneck ? h("span", { class: "tag" }, "bottleneck") : h("span", { class: "kind" }, stage.kind),
    ),
    stage.on.length === 0 ? h("span", { class: "place none" }, "on no pool") : stage.on.map(place_of),
    stage.dry.map(dry_of),
  );
}

/** Until when a pool is taken for dry, in words. */
export const until = (dry) => (dry.until ? `dry until ${exact(dry.until)}` : "dry, tried again");

const dry_of = (dry) =>
  h(
    "span",
    { class: "place dry", title: `${dry.pool}: ${dry.why}` },
    h("span", { class: "sign", "aria-hidden": "true" }, "⚠"),
    h("span", { class: "name" }, dry.pool),
    h("span", { class: "until" }, until(dry)),
  );

const place_of = (pool) =>
  h(
    "span",
    { class: "place" },
    h("span", { class: `chip ${tier(pool.tier)}`, title: pool.tier ?? "tier unknown" }, short(pool.tier)),
    h("span", { class: "name" }, pool.name),
    h("span", { class: pool.ready < pool.replicas ? "count short" : "count" }, pool.ready < pool.replicas ? `${sign(pool.state)} ` : null, `${pool.ready}/${pool.replicas}`),
  );

/** Class of a tier. */
export const tier = (name) => (name === "Accelerator" ? "acc" : name === "CPU" ? "cpu" : "none");
/** Its sign: a word of three letters, so that colour is not all. */
export const short = (name) => (name === "Accelerator" ? "acc" : name === "CPU" ? "cpu" : "?");
