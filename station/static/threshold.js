// The threshold: a slider on the histogram of scores, and what it would have said.
import { $, attempt, followTask, number, h, post, request, s, time, toast, who } from "./common.js";

const { model } = document.body.dataset;
const WIDTH = 900, HEIGHT = 330, LEFT = 44, RIGHT = 872, TOP = 26, BOTTOM = 290, BINS = 48;
const SERIES = [["good", "confirmed good"], ["defective", "confirmed defective"], ["none", "not looked at"], ["calibration", "calibration (good)"]];
let data = null, low = 0, high = 1, cut = 0, current = 0, line = null, shade = null;

const across = (score) => LEFT + (RIGHT - LEFT) * (Math.log(score) - low) / (high - low);
const atSlider = (place) => Math.exp(low + (high - low) * place / 1000);

function draw() {
  const groups = { good: [], defective: [], none: [], calibration: data.calibration ?? [] };
  for (const [score, answer] of data.history) (groups[answer] ?? groups.none).push(score);
  const values = Object.values(groups).flat().filter((value) => value > 0);
  values.push(current || 1);
  low = Math.log(Math.min(...values)) - 0.15;
  high = Math.log(Math.max(...values)) + 0.15;
  const bins = Object.fromEntries(SERIES.map(([name]) => [name, new Array(BINS).fill(0)]));
  for (const [name] of SERIES) {
    for (const score of groups[name]) {
      const place = Math.floor((Math.log(Math.max(score, Math.exp(low))) - low) / (high - low) * BINS);
      bins[name][Math.min(BINS - 1, Math.max(0, place))] += 1;
    }
  }
  const totals = Array.from({ length: BINS }, (_, place) => SERIES.reduce((sum, [name]) => sum + bins[name][place], 0));
  const tallest = Math.max(1, ...totals), step = (RIGHT - LEFT) / BINS;
  const svg = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": "histogram of scores" });
  shade = s("rect", { class: "side-bad", y: TOP, height: BOTTOM - TOP });
  svg.append(shade, s("path", { class: "axis", d: `M${LEFT} ${TOP}V${BOTTOM}H${RIGHT}` }));
  for (let place = 0; place < BINS; place += 1) {
    let y = BOTTOM;
    for (const [name] of SERIES) {
      const tall = bins[name][place] / tallest * (BOTTOM - TOP);
      y -= tall;
      if (tall) svg.append(s("rect", { class: `bar-${name}`, x: LEFT + place * step + 1, y, width: step - 2, height: tall }));
    }
  }
  for (let tick = 0; tick <= 6; tick += 1) {
    const score = Math.exp(low + (high - low) * tick / 6);
    svg.append(s("text", { x: across(score), y: BOTTOM + 18, "text-anchor": "middle" }, number(Number(score.toPrecision(2)))));
  }
  svg.append(s("text", { x: LEFT - 6, y: TOP + 5, "text-anchor": "end" }, String(tallest)), s("text", { x: LEFT - 6, y: BOTTOM, "text-anchor": "end" }, "0"),
    s("text", { x: (LEFT + RIGHT) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, "score (logarithmic)"));
  let x = LEFT + 8;
  for (const [name, text] of SERIES) {
    if (!groups[name].length) continue;
    svg.append(s("rect", { class: `bar-${name}`, x, y: 4, width: 11, height: 11 }), s("text", { x: x + 15, y: 14 }, `${text} (${groups[name].length})`));
    x += 40 + 6.6 * `${text} (${groups[name].length})`.length;
  }
  svg.append(s("path", { class: "now", d: `M${across(current)} ${TOP}V${BOTTOM}` }));
  line = s("path", { class: "cut" });
  svg.append(line);
  $("histogram").replaceChildren(svg);
}

const percent = (share) => `${(100 * share).toFixed(share < 0.1 && share > 0 ? 1 : 0)} %`;

function rate(scores, table) {
  const hits = scores.filter((score) => score > cut).length;
  return { hits, count: scores.length, low: table.low[hits], high: table.high[hits] };
}

function figure(title, value, below) { return h("div", {}, h("span", {}, title), h("b", {}, value), h("span", {}, below)); }

function say() {
  const history = data.history, good = history.filter(([, answer]) => answer === "good").map(([score]) => score);
  const bad = history.filter(([, answer]) => answer === "defective").map(([score]) => score);
  const seen = rate(good, data.intervals), known = rate(data.calibration ?? [], data.calibration_intervals);
  const flagged = history.filter(([score]) => score > cut).length;
  const changed = history.filter(([score]) => (score > cut) !== (score > current)).length;
  const boxes = [];
  boxes.push(seen.count ? figure("False alarms among confirmed good parts", `${seen.hits} of ${seen.count}`, `95 % interval ${percent(seen.low)} to ${percent(seen.high)}`)
    : figure("False alarms among confirmed good parts", "–", "no part was confirmed to be good yet"));
  if (known.count) boxes.push(figure("Of the calibration's good images", `${known.hits} of ${known.count}`, `95 % interval ${percent(known.low)} to ${percent(known.high)}`));
  boxes.push(bad.length ? figure("Confirmed defects found", `${bad.filter((score) => score > cut).length} of ${bad.length}`, `missed: ${bad.filter((score) => score <= cut).length}`)
    : figure("Confirmed defects found", "–", "no part was confirmed to be defective yet"));
  boxes.push(figure("History would have said", `${flagged} of ${history.length}`, `flagged; ${changed} another verdict than by the threshold that counts now`));
  $("figures").replaceChildren(...boxes);
  line.setAttribute("d", `M${across(cut)} ${TOP - 6}V${BOTTOM}`);
  shade.setAttribute("x", across(cut));
  shade.setAttribute("width", Math.max(0, RIGHT - across(cut)));
  $("set").disabled = Math.abs(cut - current) < 1e-9 * current;
}

function move(value, from) {
  cut = Math.min(Math.exp(high), Math.max(Math.exp(low), value));
  if (from !== "slider") $("slider").value = String(1000 * (Math.log(cut) - low) / (high - low));
  if (from !== "value") $("value").value = String(Number(cut.toPrecision(5)));
  say();
}

async function load() {
  data = await request(`/api/models/${model}/scores`);
  current = data.chosen ?? data.calibrated ?? 1;
  $("message").textContent = data.chosen ? "A person chose the threshold that counts now." : data.message;
  $("calibrated").disabled = data.calibrated === null;
  const good = data.history.filter(([, answer]) => answer === "good").length;
  $("confirmed").textContent = `${good} parts in one photograph are confirmed.`;
  draw();
  move(current);
  const found = await request(`/api/models/${model}/versions`);
  $("versions").replaceChildren(...found.versions.map((version, place) => h("li", {},
    h("span", {}, h("b", {}, `${version.version}. ${version.kind}`), version.value ? ` ${number(version.value)}` : "",
      version.details.after ? ` ${number(version.details.after)}` : "",
      version.details.photographs ? `, ${version.details.photographs} photographs` : "",
      version.details.version ? ` version ${version.details.version}` : "",
      h("br"), h("small", { class: "hint" }, `${version.who}, ${time(version.at)}`)),
    place === 0 ? h("span", { class: "pill good" }, "counts") : h("button", { class: "button", type: "button", onclick: () => attempt(async () => {
      toast(await followTask(await post(`/api/models/${model}/undo`, { version: version.version, who: who() })));
      await load();
    }) }, "Return"))));
}

$("slider").addEventListener("input", () => move(atSlider(Number($("slider").value)), "slider"));
$("value").addEventListener("change", () => { if (Number($("value").value) > 0) move(Number($("value").value), "value"); });
$("reset").addEventListener("click", () => move(current));
$("calibrated").addEventListener("click", () => move(data.calibrated));
$("set").addEventListener("click", () => attempt(async () => {
  const made = await post(`/api/models/${model}/threshold`, { value: cut, who: who() });
  toast(`Version ${made.version} counts from the next part on.`);
  await load();
}));
$("recalibrate").addEventListener("click", () => attempt(async () => {
  $("recalibrate").disabled = true;
  try {
    const started = await post(`/api/models/${model}/recalibrate`, { who: who() });
    $("progress").textContent = await followTask(started, (text) => { $("progress").textContent = text; });
    await load();
  } catch (error) {
    $("progress").textContent = "";
    throw error;
  } finally { $("recalibrate").disabled = false; }
}));
attempt(load);
