// The review queue: doubtful parts one after the other, answered by keys or large buttons.
import { $, VERDICTS, attempt, h, isTyping, post, request, showReviewCount, toast, who } from "./common.js";
import { Pane } from "./pane.js";

const left = new Pane($("left-pane")), right = new Pane($("right-pane"));
left.linked = [right];
right.linked = [left];
let queue = [], part = null, done = [];

async function show() {
  $("reviewing").hidden = queue.length === 0;
  $("done").hidden = queue.length > 0;
  part = queue[0] ?? null;
  if (!part) return;
  const shown = part;
  const ratio = part.score && part.threshold ? `, ${(part.score / part.threshold).toFixed(2)} × threshold` : "";
  $("title").textContent = `${part.serial ?? part.key.slice(0, 8)}: ${VERDICTS[part.verdict]}${ratio}`;
  $("left").textContent = `${queue.length} to look at`;
  $("open").href = part.links.page;
  $("next").replaceChildren(...queue.slice(1, 16).map((each) => h("button", { type: "button", title: each.serial ?? each.key.slice(0, 8),
    onclick: () => { queue = [each, ...queue.filter((other) => other !== each)]; attempt(show); } },
  h("img", { src: each.links.thumbnail, alt: each.serial ?? "" }))));
  const found = await request(part.links.self);
  if (part !== shown) return;
  const worst = [...found.photographs].sort((a, b) => (b.score ?? 0) - (a.score ?? 0))[0];
  if (!worst?.links?.overlay) {
    left.note(worst?.error ?? found.error ?? "There is no picture.");
    right.note(" ");
    return;
  }
  left.note("");
  right.note("");
  await Promise.all([left.load({ query: worst.links.query }),
    right.load({ overlay: worst.links.overlay, rendering: worst.links.rendering })]);
  left.frames((worst.regions ?? []).slice(0, 12).map((region) => region.bbox));
  left.show("query", "photograph");
  right.show("overlay", "overlay");
}

const say = (answer) => attempt(async () => {
  if (!part) return;
  const answered = part, name = who();
  queue = queue.filter((each) => each !== answered);
  done.push(answered);
  const kept = post(`/api/inspections/${answered.key}/reviews`, { answer, who: name });
  await show();
  try { await kept; } catch (error) { queue.unshift(answered); done.pop(); await show(); throw error; }
  toast(`${answered.serial ?? answered.key.slice(0, 8)}: ${answer}`);
  showReviewCount();
  if (queue.length < 5) await more();
});

async function more() {
  const known = new Set([...queue, ...done].map((each) => each.key));
  const found = await request("/api/review?limit=100");
  const was = queue.length;
  queue.push(...found.inspections.filter((each) => !known.has(each.key)));
  if (was === 0) await show();
}

function later() {
  if (queue.length > 1) { queue.push(queue.shift()); attempt(show); }
}

// The last answer is asked for again; the log keeps both, and the last word counts.
function back() {
  const last = done.pop();
  if (last) { queue.unshift(last); attempt(show); }
}

document.querySelectorAll("[data-answer]").forEach((button) => button.addEventListener("click", () => say(button.dataset.answer)));
$("skip").addEventListener("click", later);
$("back").addEventListener("click", back);
document.addEventListener("keydown", (event) => {
  if (isTyping(event) || event.repeat) return;
  const pressed = event.key.toLowerCase();
  if (pressed === "g") say("good");
  else if (pressed === "d") say("defective");
  else if (pressed === "u") say("unsure");
  else if (pressed === "arrowright") later();
  else if (pressed === "arrowleft") back();
  else if (pressed === "b" && right.size) right.show(right.tag.textContent === "overlay" ? "rendering" : "overlay", right.tag.textContent === "overlay" ? "rendering" : "overlay");
  else if (pressed === "enter" && part && event.target === document.body) location.assign(part.links.page);
});
attempt(more).then(() => { if (!queue.length) show(); });
const source = new EventSource("/api/events");
source.addEventListener("inspection", (event) => {
  if (JSON.parse(event.data).verdict !== "good") attempt(more);
});
