// Shows the values under the pointer, and the same moment in every other plot.
const figures = [...document.querySelectorAll("figure")].map((figure) => {
  const svg = figure.querySelector("svg");
  const edge = (name) => Number(svg.dataset[name]);
  const data = JSON.parse(figure.querySelector("script").textContent);
  return { figure, svg, data, cross: svg.querySelector(".cross"), left: edge("left"), right: edge("right"), top: edge("top"), bottom: edge("bottom") };
});
const tip = document.createElement("div");
tip.className = "tip";
const clock = (s) => (s < -0.5 ? "\u2212" : "") + Math.floor(Math.abs(Math.round(s)) / 60) + ":" + String(Math.abs(Math.round(s)) % 60).padStart(2, "0");
const format = (v) => (v === null || v === undefined ? "\u2013" : v.toLocaleString("en-US", { maximumFractionDigits: v >= 100 ? 0 : v >= 10 ? 1 : 2 }));
function hide() {
  tip.remove();
  for (const f of figures) f.cross.setAttribute("hidden", "");
}
function show(f, event) {
  const box = f.svg.getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * f.svg.viewBox.baseVal.width;
  if (x < f.left || x > f.right || !f.data.times.length) return hide();
  const [from, to] = f.data.span;
  const t = from + ((x - f.left) / (f.right - f.left)) * (to - from);
  for (const g of figures) {
    const [a, b] = g.data.span;
    const gx = g.left + ((t - a) / (b - a)) * (g.right - g.left);
    for (const [name, value] of [["x1", gx], ["x2", gx], ["y1", g.top], ["y2", g.bottom]]) g.cross.setAttribute(name, value);
    g.cross.toggleAttribute("hidden", gx < g.left || gx > g.right);
  }
  let nearest = 0;
  f.data.times.forEach((time, i) => {
    if (Math.abs(time - t) < Math.abs(f.data.times[nearest] - t)) nearest = i;
  });
  tip.replaceChildren(clock(f.data.times[nearest]));
  for (const curve of f.data.curves) {
    const row = document.createElement("div");
    const colour = document.createElement("i");
    colour.className = curve.class;
    const value = document.createElement("b");
    value.textContent = format(curve.values[nearest]);
    row.append(colour, curve.label, value);
    tip.append(row);
  }
  f.figure.append(tip);
  const at = event.clientX - f.figure.getBoundingClientRect().left;
  tip.style.left = Math.max(4, at + 14 + tip.offsetWidth > f.figure.clientWidth ? at - 14 - tip.offsetWidth : at + 14) + "px";
}
for (const f of figures) {
  f.svg.addEventListener("pointermove", (event) => show(f, event));
  f.svg.addEventListener("pointerleave", hide);
}
