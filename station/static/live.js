// The live list: what comes in, the newest first; photographs are sent from here too.
import { $, VERDICTS, attempt, h, meter, number, pill, request, showReviewCount, time, toast } from "./common.js";

const MOST = 300; // cards that are kept while the page stays open
const list = $("list"), cards = new Map();
let verdict = "", next = null;

function card(part, fresh = false) {
  const kind = part.state === "done" ? part.verdict : "";
  const shot = part.score !== null && part.verdict
    ? h("img", { src: part.links.thumbnail, alt: "", loading: "lazy",
      onerror: (event) => event.target.replaceWith("no picture") })
    : h("span", {}, part.state === "done" ? "no picture" : "…");
  const ratio = part.score && part.threshold ? `${(part.score / part.threshold).toFixed(2)} × threshold` : number(part.score);
  return h("a", { class: `part card ${kind} ${fresh ? "fresh" : ""}`, href: part.links.page, "data-key": part.key },
    h("div", { class: "shot" }, shot, part.n_photographs > 1 ? h("span", { class: "many" }, `${part.n_photographs}×`) : null,
      part.review ? h("span", { class: "said" }, `✓ ${part.review}`) : null),
    h("div", { class: "text" },
      h("div", { class: "line" }, pill(part), h("small", {}, time(part.accepted_at))),
      h("div", { class: "name" }, part.serial ?? part.key.slice(0, 8)),
      meter(part),
      h("small", {}, part.state === "done" ? ratio : "")));
}

function show(part, fresh) {
  const made = card(part, fresh), old = cards.get(part.key);
  cards.set(part.key, made);
  if (old) old.replaceWith(made);
  else if (fresh) list.prepend(made);
  else list.append(made);
  $("empty").hidden = true;
}

const wanted = (part) => {
  const text = $("search").value.trim();
  return (!text || (part.serial ?? "").includes(text)) &&
    (verdict === "" || verdict === "open" || part.verdict === verdict);
};

async function load(older = false) {
  const query = new URLSearchParams({ limit: "60" });
  if (verdict) query.set("verdict", verdict);
  if ($("search").value.trim()) query.set("serial", $("search").value.trim());
  if (older && next) query.set("before", next);
  const found = await request(`/api/inspections?${query}`);
  if (!older) { list.replaceChildren(); cards.clear(); }
  found.inspections.forEach((part) => show(part, false));
  next = found.next;
  $("more").hidden = next === null;
  $("empty").hidden = cards.size > 0;
}

function listen() {
  const source = new EventSource("/api/events");
  source.addEventListener("inspection", (event) => {
    const part = JSON.parse(event.data);
    if (verdict === "open") {
      cards.get(part.key)?.remove();
      cards.delete(part.key);
      return;
    }
    if (!wanted(part)) return;
    show(part, true);
    while (list.children.length > MOST) {
      cards.delete(list.lastChild.dataset.key);
      list.lastChild.remove();
    }
    if (part.verdict !== "good") showReviewCount();
  });
}

async function send(files, name) {
  const line = h("li", {}, `${name}: is sent …`);
  $("uploads").append(line);
  const form = new FormData();
  files.forEach((file) => form.append("photographs", file, file.name));
  if ($("serial").value.trim()) form.append("serial", $("serial").value.trim());
  if ($("model")) form.append("model", $("model").value);
  form.append("source", "page");
  for (let tries = 0; ; tries += 1) {
    try {
      const part = await request("/api/inspect?wait=0", { method: "POST", body: form });
      if (wanted(part) || verdict === "open") { if (!cards.has(part.key)) show(part, true); }
      line.remove();
      return;
    } catch (error) {
      if (error.status !== 429 || tries > 60) {
        line.textContent = `${name}: ${error.message}`;
        line.className = "warn";
        return;
      }
      line.textContent = `${name}: waits for room in the queue …`;
      await new Promise((resolve) => setTimeout(resolve, 1500));
    }
  }
}

async function sendAll(files) {
  const chosen = [...files];
  if (!chosen.length) return;
  [...$("uploads").querySelectorAll(".warn")].forEach((line) => line.remove());
  if ($("together").checked) await send(chosen, `${chosen.length} photographs`);
  else for (const file of chosen) await send([file], file.name);
}

$("files").addEventListener("change", async () => {
  await sendAll($("files").files);
  $("files").value = "";
});
const drop = $("drop");
for (const name of ["dragover", "dragenter"]) {
  document.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  sendAll(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => sendAll(event.clipboardData.files));
$("upload").addEventListener("submit", (event) => event.preventDefault());
document.querySelectorAll("[data-verdict]").forEach((button) => button.addEventListener("click", () => {
  verdict = button.dataset.verdict;
  document.querySelectorAll("[data-verdict]").forEach((each) => each.setAttribute("aria-checked", each === button));
  attempt(() => load());
}));
let typing = 0;
$("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => attempt(() => load()), 250);
});
$("more").addEventListener("click", () => attempt(() => load(true)));
attempt(async () => { await load(); listen(); });
