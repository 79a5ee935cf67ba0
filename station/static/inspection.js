// One inspection: pictures with zoom and blink, what was found, what people say, zones.
import { $, VERDICTS, attempt, followTask, h, isTyping, meter, number, post, request, time, toast, who } from "./common.js";
import { Pane } from "./pane.js";
import { Painter } from "./paint.js";
import { Solid } from "./solid.js";

const { key, model } = document.body.dataset;
const NAMES = { query: "photograph", rendering: "defect-free rendering", map: "anomaly map", overlay: "overlay" };
const pane = new Pane($("pane"));
const painter = new Painter(pane);
const solid = new Solid(key, $("solid"), $("pane"), $("three"));
let part = null, chosen = 0, picture = "overlay", blinking = 0;

function show(name) {
  solid.hide();
  picture = name;
  pane.show(name, NAMES[name]);
  document.querySelectorAll("[data-picture]").forEach((button) =>
    button.setAttribute("aria-pressed", button.dataset.picture === name && !blinking));
}

function blink(on = !blinking) {
  clearInterval(blinking);
  blinking = 0;
  if (on) {
    let turn = false;
    blinking = setInterval(() => { turn = !turn; pane.show(turn ? "query" : "rendering", NAMES[turn ? "query" : "rendering"]); }, 550);
  }
  $("blink").setAttribute("aria-pressed", on);
  show(on ? "query" : picture);
}

async function choose(index) {
  chosen = index;
  solid.look(index);
  const photograph = part.photographs[index];
  [...$("strip").children].forEach((each, place) => each.setAttribute("aria-pressed", place === index));
  const links = photograph?.links ?? {};
  if (!links.overlay) {
    pane.note(photograph?.removed ? "The pictures were removed to make room." :
      photograph?.error ?? part.error ?? (part.state === "done" ? "There is no picture." : "The part waits to be inspected …"));
  } else {
    pane.note("");
    await pane.load(Object.fromEntries(Object.keys(NAMES).map((name) => [name, links[name]])));
    show(picture);
  }
  showRegions(photograph);
  $("paint").disabled = !links.overlay || photograph.pose_ok === false;
}

function showRegions(photograph) {
  const regions = photograph?.regions ?? [];
  $("regions").replaceChildren(...regions.slice(0, 12).map((region, place) => h("li", {},
    h("span", {}, `${place + 1}. ${number(region.peak)}, ${region.area} px`),
    h("button", { class: "button", type: "button", onclick: () => pane.focus(region.bbox) }, "Show"))));
}

function fact(name, value) { return value === null || value === undefined || value === "" ? [] : [h("dt", {}, name), h("dd", {}, value)]; }

function showFacts() {
  const photograph = part.photographs[chosen] ?? {};
  const ratio = part.score && part.threshold ? `${(part.score / part.threshold).toFixed(2)} × threshold` : "";
  const verdict = part.state === "done" ? VERDICTS[part.verdict] : part.progress ?? (part.state === "running" ? "in work" : "waits");
  $("facts").replaceChildren(
    h("div", { class: `verdict ${part.verdict ?? ""}`, id: "verdict" }, verdict), ratio, meter(part) ?? "",
    h("dl", { class: "facts" },
      ...fact("Serial", part.serial), ...fact("Model", part.model),
      ...fact("Score", number(part.score)), ...fact("Threshold", part.threshold && `${number(part.threshold)} (version ${part.threshold_version})`),
      ...fact("Pose", photograph.pose_ok === false ? "not trusted" : photograph.pose_ok ? "found" : null),
      ...fact("Residual", part.pose_loss && number(part.pose_loss)), ...fact("Exposure", part.exposure && number(part.exposure)),
      ...fact("Came", `${time(part.accepted_at)}, ${part.source}`),
      ...fact("Took", part.seconds && `${part.seconds.toFixed(2)} s`),
      ...fact("Note", photograph.error ?? photograph.note ?? part.object?.note ?? part.error),
      ...fact("File", photograph.name),
      ...fact("Files", photograph.links?.photograph && h("span", {}, h("a", { href: photograph.links.photograph }, "photograph"), " ",
        photograph.links.values ? h("a", { href: photograph.links.values }, "map values") : ""))));
  $("reviews").replaceChildren(...part.reviews.map((said) => h("li", {}, h("b", {}, said.answer), h("small", {}, `${said.who}, ${time(said.at)}`))));
  const last = part.reviews.at(-1)?.answer;
  document.querySelectorAll("[data-answer]").forEach((button) => button.classList.toggle("chosen", button.dataset.answer === last));
}

async function load() {
  part = await request(`/api/inspections/${key}`);
  document.title = `${part.serial ?? part.key.slice(0, 8)} · inspection station`;
  $("strip").replaceChildren(...(part.photographs.length < 2 ? [] : part.photographs.map((each, index) =>
    h("button", { type: "button", title: each.name, onclick: () => attempt(() => choose(index).then(showFacts)) },
      each.links.thumbnail ? h("img", { src: each.links.thumbnail, alt: each.name }) : "?"))));
  await choose(Math.min(chosen, Math.max(0, part.photographs.length - 1)));
  showFacts();
  if (part.state !== "done") {
    const source = new EventSource(`/api/inspections/${key}/events`);
    source.addEventListener("progress", (event) => { Object.assign(part, JSON.parse(event.data)); showFacts(); });
    source.addEventListener("done", () => { source.close(); attempt(load); });
  }
}

async function showZones() {
  const found = await request(`/api/models/${model}/zones`);
  $("zones").replaceChildren(...found.zones.map((zone) => h("li", {},
    h("span", {}, `${zone.name}: ${zone.kind === "ignore" ? "ignored" : `× ${zone.factor}`}`),
    h("button", { class: "button", type: "button", onclick: () => attempt(async () => {
      toast(await followTask(await post(`/api/models/${model}/zones/erase`, { who: who(), name: zone.name })));
      await showZones();
    }) }, "Erase"))));
}

function paint(on) {
  if (on && $("paint").disabled) return;
  $("painting").hidden = !on;
  $("paint").setAttribute("aria-pressed", on);
  if (on) { blink(false); painter.start(); $("zone-name").focus(); } else painter.stop();
}

function three() {
  paint(false);
  blink(false);
  document.querySelectorAll("[data-picture]").forEach((button) => button.setAttribute("aria-pressed", false));
  attempt(() => solid.show(chosen));
}

const say = (answer) => attempt(async () => {
  part = await post(`/api/inspections/${key}/reviews`, { answer, who: who() });
  showFacts();
  toast(`Kept: ${answer}`);
});

document.querySelectorAll("[data-picture]").forEach((button) => button.addEventListener("click", () => { blink(false); show(button.dataset.picture); }));
document.querySelectorAll("[data-answer]").forEach((button) => button.addEventListener("click", () => say(button.dataset.answer)));
$("blink").addEventListener("click", () => blink());
$("three").addEventListener("click", () => three());
$("fit").addEventListener("click", () => pane.fit());
$("paint").addEventListener("click", () => paint($("painting").hidden));
$("zone-cancel").addEventListener("click", () => paint(false));
$("zone-kind").addEventListener("change", () => { $("factor-label").hidden = $("zone-kind").value !== "strict"; });
$("brush").addEventListener("input", () => { painter.radius = Number($("brush").value) / 2; });
$("erase").addEventListener("change", () => { painter.rubs = $("erase").checked; });
$("painting").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    const runs = painter.runs();
    if (!runs.length) throw new Error("Paint on the object first.");
    $("zone-save").disabled = true;
    try {
      toast(await followTask(await post(`/api/models/${model}/zones`, {
        who: who(), name: $("zone-name").value, kind: $("zone-kind").value,
        factor: Number($("zone-factor").value), key, number: chosen, runs,
      }), (text) => toast(text)));
      paint(false);
      await showZones();
    } finally { $("zone-save").disabled = false; }
  });
});
document.addEventListener("keydown", (event) => {
  if (isTyping(event) || event.target === $("canvas")) return;
  const pressed = event.key.toLowerCase();
  const names = Object.keys(NAMES);
  if (names[Number(pressed) - 1]) { blink(false); show(names[Number(pressed) - 1]); }
  else if (pressed === "5") three();
  else if (pressed === "b") blink();
  else if (pressed === "0") pane.fit();
  else if (pressed === "+") pane.zoom(1.4);
  else if (pressed === "-") pane.zoom(1 / 1.4);
  else if (pressed === "z") { event.preventDefault(); paint($("painting").hidden); }
  else if (pressed === "escape") paint(false);
  else if (pressed === "g") say("good");
  else if (pressed === "d") say("defective");
  else if (pressed === "u") say("unsure");
});
attempt(async () => { await load(); await showZones(); });
