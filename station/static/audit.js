// The audit log, page by page.
import { $, attempt, h, request, time } from "./common.js";

let before = null;

async function load() {
  const found = await request(`/api/audit${before ? `?before=${before}` : ""}`);
  $("entries").append(...found.entries.map((entry) => h("tr", {},
    h("td", {}, time(entry.at)), h("td", {}, entry.who), h("td", {}, entry.action),
    h("td", {}, /^[0-9a-f]{32}$/.test(entry.subject) ? h("a", { href: `/inspections/${entry.subject}` }, entry.subject.slice(0, 8)) : entry.subject),
    h("td", { class: "details" }, Object.entries(entry.details).filter(([, value]) => value !== null)
      .map(([name, value]) => `${name}: ${Array.isArray(value) ? value.map((each) => String(each).slice(0, 12)).join(", ") : String(value).slice(0, 60)}`).join(" · ")))));
  before = found.entries.at(-1)?.id ?? null;
  $("more").hidden = found.entries.length < 100;
}

$("more").addEventListener("click", () => attempt(load));
attempt(load);
