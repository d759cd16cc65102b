// Elements from data. Text only ever becomes text: there is no markup in strings anywhere on this page.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element. Attributes that are null, undefined or false are left out; `css` is an object of custom properties and styles.
 * What a text has between backticks becomes code, as the operator's messages name fields and commands.
 */
export function h(tag, attributes, ...children) {
  return build(document.createElement(tag), attributes, children.flat(Infinity).flatMap(coded));
}

/** The parts of a text: every second one stood between backticks. A single one is left as it is. */
function coded(child) {
  if (typeof child !== "string" || !child.includes("`")) return [child];
  const parts = child.split(/`([^`]+)`/);
  return parts.map((part, at) => (at % 2 === 1 ? build(document.createElement("code"), null, [part]) : part)).filter((part) => part !== "");
}

/** The same for SVG. */
export function s(tag, attributes, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "css") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

/** Makes `old` look like `fresh` and keeps what is the same: focus, selection and scrolling stay where they are. */
export function morph(old, fresh) {
  for (const { name } of [...old.attributes]) {
    // Whether details are open is the reader's choice.
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) === value) continue;
    // A style attribute as text would be inline style, which the policy forbids.
    if (name === "style") restyle(old, fresh);
    else old.setAttribute(name, value);
  }
  merge(old, [...fresh.childNodes]);
}

function restyle(old, fresh) {
  for (const name of [...old.style]) old.style.removeProperty(name);
  for (const name of fresh.style) old.style.setProperty(name, fresh.style.getPropertyValue(name));
}

const key = (node) => node.dataset?.key ?? null;
const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && key(a) === key(b);

function merge(parent, wanted) {
  const keyed = new Map();
  for (const node of parent.childNodes) if (key(node)) keyed.set(key(node), node);
  let at = parent.firstChild;
  for (const node of wanted) {
    const same = key(node) ? keyed.get(key(node)) : at;
    if (same && alike(same, node)) {
      if (same === at) at = at.nextSibling;
      else parent.insertBefore(same, at);
      if (node.nodeType === Node.TEXT_NODE) {
        if (same.data !== node.data) same.data = node.data;
      } else morph(same, node);
    } else parent.insertBefore(node, at);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

/** Puts new children into an element that stays. */
export function fill(element, ...children) {
  const fresh = element.cloneNode(false);
  for (const child of children.flat(Infinity)) if (child) fresh.append(child);
  merge(element, [...fresh.childNodes]);
}

const SIGNS = {
  Ready: "✔", Idle: "○", Asleep: "○", Paused: "‖", Leaving: "◌", Starting: "◐", Unknown: "?", Waiting: "◷", Degraded: "⚠", Failing: "✖",
};
const TONES = {
  Ready: "good", Idle: "quiet", Asleep: "quiet", Leaving: "quiet", Starting: "busy", Unknown: "busy", Waiting: "warn",
  Degraded: "warn", Paused: "warn", Failing: "bad",
};
export const sign = (state) => SIGNS[state] ?? "?";
export const tone = (state) => TONES[state] ?? "busy";

/** Sign and word: never colour alone. */
export const state = (word) =>
  h("span", { class: `state ${tone(word)}` }, h("span", { "aria-hidden": "true", class: "sign" }, sign(word)), h("span", { class: "word" }, word));

/** The two largest units of a time, as kubectl writes it. */
export function age(seconds) {
  if (seconds === undefined || seconds === null || Number.isNaN(seconds)) return "";
  const t = Math.max(0, Math.floor(seconds));
  if (t < 120) return `${t}s`;
  if (t < 600) return t % 60 ? `${Math.floor(t / 60)}m${t % 60}s` : `${t / 60}m`;
  if (t < 10800) return `${Math.floor(t / 60)}m`;
  if (t < 172800) return `${Math.floor(t / 3600)}h`;
  return `${Math.floor(t / 86400)}d`;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const EXACT = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
/** Hour and minute here. */
export const clock = (time) => CLOCK.format(new Date(time));
/** With seconds. */
export const exact = (time) => EXACT.format(new Date(time));

/** A number that three digits tell, or less. */
export const number = (value) => (Math.abs(value) >= 99.95 ? value.toFixed(0) : Number(value.toPrecision(3)).toString());

/** Dollars and the like: the currency is the pools'. */
export const money = (text) => {
  const value = Number(text);
  if (text === undefined || text === null || text === "" || Number.isNaN(value)) return null;
  return Math.abs(value) >= 0.0995 || value === 0 ? value.toFixed(2) : String(Number(value.toPrecision(2)));
};

/** `DemandRose` as words. */
export const words = (name) => name.replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase();

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;
