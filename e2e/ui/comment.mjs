// What `tiercel plan -o markdown` looks like as the comment of a pull request: the program prints it, a page of our own shows it,
// headless Chromium takes the picture of docs/how-to/plan.md.
//
//   node e2e/ui/comment.mjs [--out FOLDER]
//
// No cluster is needed. TIERCEL_BIN names the program, CHROMIUM the browser.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { launch, open } from "./browser.mjs";
import { BYTES_MAX, contrast } from "./checks.mjs";
import { planText } from "./terminal.mjs";

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const [WIDTH, SCALE] = [920, 2];

const STYLE = `
  * { box-sizing: border-box; }
  body { margin: 0; padding: 20px; background: #f4f6f8; color: #16202a; font: 14.5px/1.55 system-ui, "Noto Sans", "DejaVu Sans", sans-serif; }
  article { display: grid; grid-template-columns: 36px minmax(0, 1fr); gap: 12px; }
  .who { width: 36px; height: 36px; }
  .card { border: 1px solid #c3cbd4; border-radius: 10px; background: #fff; overflow: hidden; }
  header { padding: 9px 16px; border-bottom: 1px solid #dce1e7; background: #eef1f4; color: #55616e; font-size: 13.5px; }
  header b { color: #16202a; }
  .text { padding: 16px 18px 18px; }
  .text > * { margin: 0 0 13px; } .text > :last-child { margin: 0; }
  h3 { font-size: 18.5px; line-height: 1.3; font-weight: 650; }
  table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
  th, td { padding: 5px 12px; border: 1px solid #dce1e7; text-align: left; }
  th { font-weight: 650; } tr:nth-child(even) td { background: #f8f9fb; }
  code { padding: 1px 5px; border-radius: 5px; background: #eef1f4; font: 12.5px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; box-decoration-break: clone; }
  b code, th code { font-weight: 700; }
  ul { padding-left: 22px; } summary { color: #35424f; } sub { display: block; font-size: 12px; line-height: 1.5; color: #55616e; }
`;

const plain = (text) => text.replace(/[&<>"]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[sign]);

/** One line of text: code, bold, and signs that a backslash keeps as they are. */
function inline(text) {
  const parts = text.matchAll(/`([^`]+)`|\*\*(.+?)\*\*|_([^_]+)_|\\(.)|([^`*_\\]+|.)/g);
  return [...parts].map(([, code, bold, slanted, kept, rest]) => {
    if (code !== undefined) return `<code>${plain(code)}</code>`;
    if (bold !== undefined) return `<b>${inline(bold)}</b>`;
    if (slanted !== undefined) return `<i>${inline(slanted)}</i>`;
    return plain(kept ?? rest);
  }).join("");
}

/** Cells of a line of a table. */
const cells = (line) => line.replace(/^\||\|\s*$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim());

function table(lines) {
  const sides = cells(lines[1]).map((rule) => (rule.endsWith(":") ? ' style="text-align:right"' : ""));
  const row = (line, tag) => `<tr>${cells(line).map((cell, at) => `<${tag}${sides[at]}>${inline(cell)}</${tag}>`).join("")}</tr>`;
  return `<table><thead>${row(lines[0], "th")}</thead><tbody>${lines.slice(2).map((line) => row(line, "td")).join("")}</tbody></table>`;
}

/** As much of Markdown as `plan` prints. Anything else is an error, not a picture that shows another text than was printed. */
export function html(markdown) {
  const blocks = markdown.trim().split(/\n\n+/).flatMap((block) => {
    // A comment and a heading stand above each other without a line between them.
    const [first, ...rest] = block.split("\n");
    return /^(<!--.*-->|#+ .*)$/.test(first) && rest.length ? [first, rest.join("\n")] : [block];
  });
  return blocks.map((block) => {
    const lines = block.split("\n");
    const [, folded] = /^<details><summary>([^<]*)<\/summary>$/.exec(block) ?? [];
    const [, small] = /^<sub>(.*)<\/sub>$/.exec(block) ?? [];
    if (/^<!--.*-->$/.test(block)) return "";
    if (block.startsWith("### ")) return `<h3>${inline(block.slice(4))}</h3>`;
    if (folded !== undefined) return `<details><summary>${inline(folded)}</summary>`;
    if (block === "</details>") return block;
    if (small !== undefined) return `<sub>${inline(small)}</sub>`;
    if (lines.length > 2 && lines.every((line) => line.startsWith("|"))) return table(lines);
    if (lines.every((line) => line.startsWith("- "))) return `<ul>${lines.map((line) => `<li>${inline(line.slice(2))}</li>`).join("")}</ul>`;
    if (/^[<#>|]|^- /m.test(block)) throw new Error(`the plan has Markdown that this picture does not know: ${block}`);
    return `<p>${inline(block)}</p>`;
  }).join("\n");
}

/** Writes the picture of the comment. What is wrong with it: faults. */
export async function commented(out, browser, say = console.log) {
  const page = await open(browser);
  const icon = `data:image/svg+xml;base64,${readFileSync(join(ROOT, "src/cli/ui/assets/icon.svg")).toString("base64")}`;
  const card = `<article><img class="who" alt="" src="${icon}"><div class="card"><header><b>tiercel plan</b> commented on the pull request</header><div class="text">${html(planText())}</div></div></article>`;
  const document = `<!doctype html><html lang="en"><meta charset="utf-8"><title>tiercel plan</title><style>${STYLE}</style><body>${card}</body></html>`;
  await page.media({ "prefers-color-scheme": "light", "prefers-reduced-motion": "reduce" });
  const sized = (height) => page.send("Emulation.setDeviceMetricsOverride", { width: WIDTH, height, deviceScaleFactor: SCALE, mobile: false });
  await sized(200);
  await page.go(`data:text/html;charset=utf-8,${encodeURIComponent(document)}`);
  if (await page.evaluate("document.documentElement.scrollWidth > innerWidth")) page.faults.push("comment: wider than its card");
  await sized(await page.evaluate("document.documentElement.scrollHeight"));
  page.faults.push(...(await page.evaluate(`(${contrast})()`)).map((text) => `comment: ${text}`));
  const png = await page.picture();
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, "plan-comment.png"), png);
  if (png.length > BYTES_MAX) page.faults.push(`plan-comment.png has ${png.length} bytes, more than ${BYTES_MAX}`);
  say(`plan-comment.png, ${Math.round(png.length / 1000)} kB`);
  return page.faults;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const at = process.argv.indexOf("--out");
  const browser = await launch();
  try {
    const faults = await commented(resolve(at < 0 ? join(ROOT, "docs/images") : process.argv[at + 1]), browser);
    for (const fault of faults) console.error(fault);
    if (faults.length) process.exitCode = 1;
  } finally {
    await browser.close();
  }
}
