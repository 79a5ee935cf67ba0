// What all pages share: elements, requests, the name of who works here, the state of the station.
export const VERDICTS = { good: "good", defective: "defective", unknown: "no verdict", error: "error" };

// An element with attributes, listeners (on...) and children; text is never taken for markup.
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export const $ = (id) => document.getElementById(id);

export async function request(path, options = {}) {
  const answer = await fetch(path, options);
  if (answer.status === 401) location.assign("/login");
  const body = await answer.json().catch(() => ({ error: `status ${answer.status}` }));
  if (!answer.ok) throw Object.assign(new Error(body.error ?? answer.statusText), { status: answer.status });
  return body;
}

export const post = (path, values) => request(path, {
  method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(values),
});

let toastTimer = 0;
export function toast(text, bad = false) {
  const box = $("toast");
  box.textContent = text;
  box.className = bad ? "bad" : "";
  box.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { box.hidden = true; }, bad ? 7000 : 3000);
}

// Runs what a button asks for; an error is told.
export async function attempt(action) {
  try { return await action(); } catch (error) { toast(error.message, true); return undefined; }
}

export function who() {
  const name = $("who").value.trim();
  if (!name) {
    $("who").focus();
    throw new Error("Write your name at the top first: the log says who decided.");
  }
  return name;
}

export async function followTask(started, say = () => {}) {
  for (;;) {
    const task = await request(started.links.self);
    if (task.state === "done") {
      if (!task.outcome.ok) throw new Error(task.outcome.message);
      return task.outcome.message;
    }
    say(task.progress ?? (task.state === "queued" ? "waits for a worker" : "in work"));
    await new Promise((resolve) => setTimeout(resolve, 400));
  }
}

export const number = (value) => value === null || value === undefined ? "–" : Number(value.toPrecision(4)).toString();

export function time(seconds) {
  const date = new Date(seconds * 1000);
  const clock = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  return date.toDateString() === new Date().toDateString() ? clock : `${date.toLocaleDateString()} ${clock}`;
}

// Whether keys belong to what is being typed.
export const isTyping = (event) => event.ctrlKey || event.metaKey || event.altKey ||
  event.target.matches("input:not([type=checkbox]):not([type=range]), select, textarea");

export function pill(part) {
  if (part.state !== "done") return h("span", { class: "pill" }, part.state === "running" ? "in work" : "waits");
  return h("span", { class: `pill ${part.verdict}` }, VERDICTS[part.verdict]);
}

export function meter(part) {
  if (!part.score || !part.threshold) return null;
  const bar = h("i"), ratio = part.score / part.threshold;
  bar.style.width = `${100 * (ratio <= 1 ? ratio / 2 : 1 - 1 / (2 * ratio))}%`;
  return h("div", { class: ratio > 1 ? "meter over" : "meter", title: "score; the mark is the threshold" }, bar);
}

async function showState() {
  const box = $("state");
  try {
    const found = await (await fetch("/health")).json();
    box.className = found.status === "ok" ? "state ok" : "state bad";
    box.lastChild.textContent = found.troubles[0] ?? (found.waiting ? `${found.waiting} waiting` : "ready");
    box.title = found.troubles.join("\n") || `${found.workers} workers`;
  } catch {
    box.className = "state bad";
    box.lastChild.textContent = "no connection";
  }
}

export async function showReviewCount() {
  const found = await request("/api/review?limit=100").catch(() => null);
  const badge = $("review-count");
  if (!found) return;
  badge.hidden = found.inspections.length === 0;
  badge.textContent = found.inspections.length < 100 ? found.inspections.length : "99+";
}

$("who").value = localStorage.getItem("who") ?? "";
$("who").addEventListener("input", () => localStorage.setItem("who", $("who").value));
showState();
showReviewCount();
setInterval(showState, 3000);
