// What commands look like in a terminal, as SVG: each runs in a window of tmux, which knows every escape sequence that there is,
// and what it shows is drawn with the colours that it shows it in. Text stays text: it can be searched and scales.
//
//   node e2e/ui/terminal.mjs [--out FOLDER] [--namespace NAMESPACE]
//
// Against the cluster of KUBECONFIG, which must have the sample pipeline under load for the pictures to say something; that of
// `plan` takes git and no cluster. TIERCEL_BIN names the program, TIERCEL_OPERATOR the operator's address where no pod of it
// runs in the cluster.

import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const [LETTER, LINE, MARGIN] = [8.4, 19, 16];
// The sixteen colours of a terminal, dark and readable; and what is plain.
const COLOURS = ["#24292f", "#ff7b72", "#5fd087", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#d0d7de", "#8b949e", "#ffa198", "#7ee787", "#f0c674", "#a5d6ff", "#e2c5ff", "#9fe8ef", "#ffffff"];
const [PLAIN, GROUND] = ["#d0d7de", "#0d1117"];

const escaped = (text) => text.replace(/[&<>]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[sign]);

/** Parts of one line in one look each: `[columns before, text, look]`; and the look at its end, with which the next one begins. */
function parts(line, before) {
  const found = [];
  let [look, at] = [{ ...before }, 0];
  for (const [, codes, text] of line.matchAll(/(?:\x1b\[([\d;]*)m)|([^\x1b]+)/g)) {
    if (text !== undefined) {
      found.push([at, text, { ...look }]);
      at += [...text].length;
      continue;
    }
    const all = (codes || "0").split(";").map(Number);
    for (let next = 0; next < all.length; next += 1) {
      const code = all[next];
      // One of 256 colours, or one of red, green and blue: their numbers are no codes.
      if ((code === 38 || code === 48) && all[next + 1] === 5) {
        if (code === 38 && all[next + 2] < COLOURS.length) look.colour = all[next + 2];
        next += 2;
      } else if (code === 38 || code === 48) next += 4;
      else if (code === 0) look = {};
      else if (code === 1) look.bold = true;
      else if (code === 2) look.faint = true;
      else if (code === 4) look.underlined = true;
      else if (code === 24) look.underlined = false;
      else if (code === 7) look.turned = true;
      else if (code === 27) look.turned = false;
      else if (code === 22) look.bold = look.faint = false;
      else if (code >= 30 && code <= 37) look.colour = code - 30;
      else if (code >= 90 && code <= 97) look.colour = code - 82;
      else if (code === 39) delete look.colour;
    }
  }
  return [found, look];
}

/** A screen as SVG. The title is what somebody typed, on one line or several. */
export function drawn(title, screen, columns) {
  const lines = [...`$ ${title}`.split("\n").map((line) => `\x1b[1m${line}\x1b[0m`), ...screen.replace(/\s+$/, "").split("\n")];
  const [width, height] = [Math.ceil(columns * LETTER + 2 * MARGIN), Math.ceil(lines.length * LINE + 2 * MARGIN)];
  let last = {};
  const looks = lines.map((line) => {
    const [found, look] = parts(line, last);
    last = look;
    return found;
  });
  const rows = looks.map((found, row) => found.map(([at, text, look]) => {
    const y = MARGIN + row * LINE + 14;
    const x = (column) => (MARGIN + column * LETTER).toFixed(1);
    const wide = (letters) => ([...letters].length * LETTER).toFixed(1);
    const colour = look.colour === undefined ? PLAIN : COLOURS[look.colour];
    const ground = look.turned ? `<rect x="${x(at)}" y="${y - 14}" width="${wide(text)}" height="${LINE}" fill="${colour}"/>` : "";
    const weight = look.bold ? ' font-weight="bold"' : "";
    const faint = look.faint ? ' opacity=".65"' : "";
    const line = look.underlined ? ' text-decoration="underline"' : "";
    // Words that stand apart are placed apart: viewers differ in what they do with several spaces.
    const words = [...text.matchAll(/\S+(?: \S+)*/g)].map(({ 0: said, index }) => {
      const column = at + [...text.slice(0, index)].length;
      return `<text x="${x(column)}" y="${y}" fill="${look.turned ? GROUND : colour}" textLength="${wide(said)}" lengthAdjust="spacingAndGlyphs"${weight}${faint}${line}>${escaped(said)}</text>`;
    });
    return ground + words.join("");
  }).join("")).filter(Boolean);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" role="img" aria-label="${escaped(title.replace(/\s*\\?\n\s*/g, " "))}">`,
    `<rect width="${width}" height="${height}" rx="8" fill="${GROUND}"/>`,
    `<g font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="14">`,
    ...rows,
    "</g></svg>",
    "",
  ].join("\n");
}

/** What a command shows in a window of this size once it has shown `until`. */
function shown(name, command, columns, lines, until, folder = ROOT) {
  // A server of its own each time: one that ends takes no new window.
  const socket = `tiercel-${name}-${process.pid}`;
  const tmux = (...args) => execFileSync("tmux", ["-L", socket, "-f", "/dev/null", ...args], { encoding: "utf8" });
  tmux("new-session", "-d", "-s", "one", "-c", folder, "-x", String(columns), "-y", String(lines), `${command}; sleep 60`);
  try {
    const before = Date.now();
    for (;;) {
      const screen = tmux("capture-pane", "-p", "-e", "-t", "one");
      if (until.test(screen.replace(/\x1b\[[\d;]*m/g, ""))) return screen;
      if (Date.now() - before > 20_000) throw new Error(`'${command}' does not show ${until}:\n${screen}`);
      spawnSync("sleep", ["0.2"]);
    }
  } finally {
    tmux("kill-server");
  }
}

const program = process.env.TIERCEL_BIN ?? join(resolve(process.env.CARGO_TARGET_DIR ?? join(ROOT, "target")), "debug/tiercel");

// The pull request of docs/how-to/plan.md: what is found in the sample, and what takes its place.
const CHANGE = [
  ["replicas: {min: 2, max: 64, reliableMin: 1}", "replicas: {min: 3, max: 64, reliableMin: 1}"],
  ["support/guard:2.1.0", "support/guard:2.2.0"],
  ['maxCostPerHour: "40.00"', 'maxCostPerHour: "30.00"'],
];
const NODES = ["graviton=4:16,64Gi", "x86=2:16,64Gi", "l4-spot=6:8,32Gi,1", "h100=2:16,256Gi,1", "inferentia=2:4,16Gi,1"];

/** The pull request of docs/how-to/plan.md in a repository of its own, on top of the branch main: what `look` makes of its folder. */
function changed(look) {
  const folder = mkdtempSync(join(tmpdir(), "tiercel-plan-"));
  try {
    const git = (...args) => execFileSync("git", ["-C", folder, "-c", "user.name=demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false", ...args]);
    mkdirSync(join(folder, "deploy"));
    for (const file of ["support-agent.yaml", "pools.yaml"]) copyFileSync(join(ROOT, "config/samples", file), join(folder, "deploy", file));
    git("init", "-q", "-b", "main");
    git("add", ".");
    git("commit", "-q", "-m", "Deploy the support agent");
    const file = join(folder, "deploy/support-agent.yaml");
    let text = readFileSync(file, "utf8");
    for (const [before, after] of CHANGE) {
      if (!text.includes(before)) throw new Error(`the sample has no '${before}' any more: adjust CHANGE`);
      text = text.replace(before, after);
    }
    writeFileSync(file, text);
    return look(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Writes the picture of `plan`: the sample with a change, against the branch that it is meant for. */
export function planned(out, say = console.log) {
  const nodes = NODES.map((pool) => `--nodes ${pool}`);
  const command = `LC_ALL=C.UTF-8 TERM=screen-256color ${program} plan -f deploy --diff main ${nodes.join(" ")}`;
  const screen = changed((folder) => shown("plan", command, 84, 60, /replicas\.max, pools and budget/, folder));
  const typed = `tiercel plan -f deploy --diff main ${nodes.slice(0, 2).join(" ")} \\\n    ${nodes.slice(2).join(" ")}`;
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, "cli-plan.svg"), drawn(typed, screen, 88));
  say("cli-plan.svg");
}

/** The same plan in Markdown, as a pull request gets it. */
export const planText = () => {
  const nodes = NODES.flatMap((pool) => ["--nodes", pool]);
  return changed((folder) => execFileSync(program, ["plan", "-f", "deploy", "--diff", "main", ...nodes, "-o", "markdown"], { cwd: folder, encoding: "utf8" }));
};

/** Writes the pictures of the commands into a folder. */
export function pictures(out, { namespace = "default", pipeline = "support-agent", say = console.log } = {}) {
  const at = process.env.TIERCEL_OPERATOR ? ` --operator ${process.env.TIERCEL_OPERATOR}` : "";
  mkdirSync(out, { recursive: true });
  for (const [name, typed, more, columns, lines, until] of [
    ["get", `get ${pipeline} -w`, "", 100, 60, /postprocess[\s\S]*\d+\/\d+/],
    ["top", "top", "", 122, 17, /postprocess/],
    ["why", `why ${pipeline} generate`, at, 100, 80, /DECIDED AT|no decision/],
    ["cost", `cost ${pipeline} --by stage`, at, 84, 14, /total/],
  ]) {
    const asked = `${typed} -n ${namespace}${more}`;
    const screen = shown(name, `LC_ALL=C.UTF-8 TERM=screen-256color ${program} ${asked}`, columns, lines, until);
    writeFileSync(join(out, `cli-${name}.svg`), drawn(`kubectl tiercel ${typed}`, screen, columns));
    say(`cli-${name}.svg`);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const at = process.argv.indexOf("--out");
  const named = process.argv.indexOf("--namespace");
  const out = resolve(at < 0 ? join(ROOT, "docs/images") : process.argv[at + 1]);
  planned(out);
  pictures(out, named < 0 ? {} : { namespace: process.argv[named + 1] });
}
