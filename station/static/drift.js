// Control charts: score, pose residual and exposure over time.
import { $, attempt, h, number, request, s } from "./common.js";

const { model } = document.body.dataset;
const WIDTH = 900, HEIGHT = 190, LEFT = 64, RIGHT = 890, TOP = 12, BOTTOM = 170;

function chart(found) {
  const logarithmic = found.name !== "exposure", place = (v) => (logarithmic ? Math.log(Math.max(v, 1e-12)) : v);
  const all = [...found.values, ...(found.low === null ? [] : [found.low, found.high])].map(place);
  if (!all.length) return h("section", { class: "card" }, h("h2", {}, found.name), h("p", { class: "hint" }, "no part yet"));
  const least = Math.min(...all), span = Math.max(...all) - least || 1;
  const up = (v) => BOTTOM - (BOTTOM - TOP) * (place(v) - least) / span;
  const across = (index) => LEFT + (RIGHT - LEFT) * (found.values.length < 2 ? 0.5 : index / (found.values.length - 1));
  const svg = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: found.alarm ? "alarm" : "", role: "img", "aria-label": found.name });
  svg.append(s("path", { class: "axis", d: `M${LEFT} ${TOP}V${BOTTOM}H${RIGHT}` }));
  if (found.low !== null) {
    svg.append(s("rect", { class: "band", x: LEFT, width: RIGHT - LEFT, y: up(found.high), height: Math.max(1, up(found.low) - up(found.high)) }));
    for (const limit of [found.low, found.high]) {
      svg.append(s("path", { class: "limit", d: `M${LEFT} ${up(limit)}H${RIGHT}` }), s("text", { x: LEFT - 6, y: up(limit) + 4, "text-anchor": "end" }, number(limit)));
    }
  }
  found.values.forEach((value, index) => svg.append(s("circle", { class: "dot", r: 3, cx: across(index), cy: up(value) })));
  if (found.average.length) svg.append(s("polyline", { class: "mean", points: found.average.map((v, i) => `${across(i)},${up(v)}`).join(" ") }));
  const text = found.alarm || (found.low === null ? `${found.values.length} parts: limits need 20` : "as usual");
  return h("section", { class: "card" }, h("h2", {}, found.name, " ", h("span", { class: found.alarm ? "pill defective" : "pill good" }, text)), svg);
}

attempt(async () => {
  const found = await request(`/api/models/${model}/drift`);
  $("charts").replaceChildren(...found.charts.map(chart));
});
