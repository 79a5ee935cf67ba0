/* What the report does beside showing: sorting and filtering, another threshold, one image large,
   and the way between images and the 3D view. Without it the page is complete, only still. */
"use strict";
(() => {
  const byId = id => document.getElementById(id), page = document.body.dataset;
  const number = text => text === "" || text === undefined ? null : Number(text);
  const short = x => String(Number(x.toPrecision(4)));
  const given = number(page.threshold);
  let threshold = given, viewer = null, large = null;

  const cards = [...document.querySelectorAll("article[data-score]")].map((element, place) => ({
    element, place, name: element.querySelector("bdi").textContent,
    score: number(element.dataset.score), truth: element.dataset.truth,
    label: element.dataset.label, trusted: element.dataset.pose === "ok",
    three: number(element.dataset.three), verdict: element.querySelector(".verdict"),
    outcome: element.querySelector(".outcome"), times: element.querySelector(".times"),
  }));
  const flagged = card => threshold === null || card.score === null || !card.trusted ? null
    : card.score > threshold;
  const near = card => threshold > 0 && card.score !== null
    && Math.abs(Math.log(card.score / threshold)) < Math.log(1.25);
  const doubtful = card => card.score === null || !card.trusted || near(card);
  const doubt = card => card.score === null || !card.trusted ? -1
    : Math.abs(Math.log((card.score || 1e-9) / (threshold || 1)));

  // ---- sorting and filtering
  const tools = document.querySelector(".tools"), list = byId("images");
  const value = id => byId(id).value;
  const FILTERS = {
    all: () => true,
    anomalous: card => flagged(card) === true, normal: card => flagged(card) === false,
    wrong: card => flagged(card) !== null && card.truth !== "" // labels say otherwise
      && flagged(card) !== (card.truth === "defective"),
    doubtful, failed: card => card.score === null || !card.trusted,
  };
  const ORDERS = {
    score: (a, b) => (a.score !== null) - (b.score !== null) || b.score - a.score,
    rising: (a, b) => (a.score !== null) - (b.score !== null) || a.score - b.score,
    name: (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }),
    kind: (a, b) => a.label.localeCompare(b.label) || b.score - a.score,
    doubt: (a, b) => doubt(a) - doubt(b),
  };
  let visible = cards;
  function arrange() {
    const words = value("find").toLowerCase(), kind = value("kind");
    visible = cards.filter(card => FILTERS[value("filter")](card)
      && (kind === "" || card.label === kind.slice(1)) && card.name.toLowerCase().includes(words));
    visible.sort((a, b) => ORDERS[value("order")](a, b) || a.place - b.place);
    const shown = new Set(visible);
    for (const card of cards) card.element.hidden = !shown.has(card);
    list.append(...visible.map(card => card.element));
    byId("shown").textContent = `${visible.length} of ${cards.length} images`;
  }
  if (tools) {
    tools.hidden = false;
    tools.addEventListener("input", arrange);
    byId("grid").addEventListener("click", () => asGrid(!list.classList.contains("grid")));
    arrange();
  }
  function asGrid(on) {
    list.classList.toggle("grid", on);
    byId("grid").setAttribute("aria-pressed", on);
  }
  if (tools && cards.length > 200) asGrid(true);
  addEventListener("beforeprint", () => { // lazy images would stay empty on paper
    for (const card of visible) card.element.querySelector("img")?.setAttribute("loading", "eager");
  });

  // ---- another threshold
  const chart = byId("histogram"), said = byId("would");
  const axis = chart && { low: number(chart.dataset.low), high: number(chart.dataset.high),
    log: chart.dataset.log === "True", left: number(chart.dataset.left),
    right: number(chart.dataset.right), top: number(chart.dataset.top),
    bottom: number(chart.dataset.bottom) };
  const scoreAt = s => axis.log ? axis.low * (axis.high / axis.low) ** s
    : axis.low + s * (axis.high - axis.low);
  const shareOf = x => Math.min(1, Math.max(0, axis.log
    ? Math.log(x / axis.low) / Math.log(axis.high / axis.low)
    : (x - axis.low) / (axis.high - axis.low)));
  function setThreshold(wanted) {
    threshold = wanted;
    const moved = wanted !== given;
    for (const card of cards) {
      const verdict = flagged(card);
      card.verdict.className = "pill verdict " + (verdict ? "bad" : "good");
      card.verdict.textContent = verdict === null ? "" : verdict ? "anomalous" : "normal";
      const wrong = verdict !== null && card.truth && verdict !== (card.truth === "defective");
      card.outcome.textContent = !wrong ? "" : verdict ? "false alarm" : "missed defect";
      card.times.textContent = card.score === null || !(threshold > 0) ? ""
        : `${(card.score / threshold).toFixed(2)} x threshold`;
    }
    if (wanted !== null) {
      const line = chart.querySelector("path.threshold.line");
      const x = (axis.left + shareOf(wanted) * (axis.right - axis.left)).toFixed(1);
      line.setAttribute("d", `M${x} ${axis.bottom}V${axis.top}`);
      line.setAttribute("class", "threshold line" + (moved ? " moved" : ""));
      byId("slide").value = 1000 * shareOf(wanted);
    }
    byId("back").hidden = !moved;
    said.textContent = wanted === null ? "No threshold: drag to try one." : whatIf(wanted);
    if (tools) arrange();
  }
  function whatIf(at) {
    const count = is => cards.filter(is).length, parts = [];
    const good = card => flagged(card) !== null && card.truth === "good";
    const bad = card => flagged(card) !== null && card.truth === "defective";
    if (count(bad)) parts.push(`${count(c => bad(c) && flagged(c))} of ${count(bad)} defective`);
    if (count(good)) parts.push(`${count(c => good(c) && flagged(c))} of ${count(good)} good`);
    if (!parts.length) parts.push(`${count(flagged)} of ${count(c => flagged(c) !== null)}`);
    return `Threshold ${short(at)} flags ${parts.join(" and ")} images.`;
  }
  if (chart && cards.length) {
    chart.classList.add("live");
    byId("try").hidden = false;
    byId("slide").addEventListener("input", e => setThreshold(scoreAt(e.target.value / 1000)));
    byId("back").addEventListener("click", () => setThreshold(given));
    const svg = chart.querySelector("svg"), drag = e => {
      const box = svg.getBoundingClientRect(), width = svg.viewBox.baseVal.width;
      const x = (e.clientX - box.left) / box.width * width;
      setThreshold(scoreAt(Math.min(1, Math.max(0, (x - axis.left) / (axis.right - axis.left)))));
    };
    svg.addEventListener("pointerdown", e => { svg.setPointerCapture(e.pointerId); drag(e); });
    svg.addEventListener("pointermove", e => { if (e.buttons) drag(e); });
    setThreshold(given);
  }

  // ---- the 3D view
  const holder = byId("scene"), hint = byId("hint");
  const ofThree = new Map(cards.filter(c => c.three !== null).map(card => [card.three, card]));
  function choose(card, scroll) {
    for (const other of document.querySelectorAll("article.chosen"))
      other.classList.remove("chosen");
    if (!card) return;
    if (card.element.hidden) {
      Object.assign(byId("filter"), { value: "all" });
      byId("kind").value = byId("find").value = "";
      arrange();
    }
    card.element.classList.add("chosen");
    if (scroll) {
      card.element.scrollIntoView({ block: "center" });
      card.element.querySelector(".strip, .to3d")?.focus({ preventScroll: true });
    }
  }
  function inThree(card) {
    if (!viewer || card.three === null) return;
    choose(card, false);
    viewer.select(card.three);
    viewer.showImage(card.three);
    viewer.flyTo(viewer.payload.images[card.three].pose);
    hint.textContent = `Seen as in ${card.name}. `;
    byId("view").scrollIntoView({ block: "nearest" });
    viewer.canvas.focus({ preventScroll: true });
  }
  function objectInThree(button) { // the largest difference in any image of the object
    const name = button.closest("article").querySelector("bdi").textContent;
    const numbers = button.dataset.numbers.trim().split(" ").map(Number);
    choose(null);
    viewer.select(null);
    viewer.showImage(null);
    viewer.showImage(numbers, name);
    hint.textContent = `The largest differences in ${numbers.length} images of ${name}.`;
    byId("view").scrollIntoView({ block: "nearest" });
  }
  function picked(what) {
    if (what.kind === "train") hint.textContent = `Seen from ${what.item.name}.`;
    const image = what.kind === "marker" ? what.item.image
      : what.kind === "image" ? what.index : null;
    if (image === null) return;
    viewer.select(image);
    viewer.showImage(image);
    const card = ofThree.get(image);
    hint.textContent = card ? `Chosen: ${card.name}.` : "";
    choose(card, what.kind === "marker");
  }
  function legend({ title, low, high, stops }) {
    byId("legend").hidden = !stops;
    if (!stops) return;
    const [from, bar, to] = byId("legend").children;
    from.textContent = short(low); to.textContent = short(high);
    bar.style.background = `linear-gradient(90deg, ${stops.join(",")})`;
    byId("legend").title = title;
  }
  if (holder) {
    const canvas = byId("canvas");
    try {
      viewer = new SplatViewer(canvas, JSON.parse(holder.textContent),
        { onPick: picked, onColours: legend });
    } catch (error) {
      byId("view").classList.add("failed");
      canvas.hidden = true;
      hint.textContent = `The 3D view cannot be shown: ${error.message}.`;
    }
  }
  if (viewer) {
    const colours = byId("colours");
    for (const layer of viewer.layers) colours.append(new Option(layer.title, layer.name));
    colours.addEventListener("change", () => {
      viewer.select(null);
      viewer.setColours(colours.value);
    });
    const toggle = (id, act) => byId(id).addEventListener("click", e => {
      const on = e.currentTarget.getAttribute("aria-pressed") !== "true";
      e.currentTarget.setAttribute("aria-pressed", on);
      act(on);
    });
    toggle("trains", train => viewer.setCameras({ train }));
    toggle("queries", images => viewer.setCameras({ images }));
    toggle("marks", on => { viewer.dots.style.visibility = on ? "" : "hidden"; });
    byId("home").addEventListener("click", () => {
      viewer.reset(); viewer.select(null); viewer.showImage(null); choose(null);
    });
    byId("full").addEventListener("click", () =>
      document.fullscreenElement ? document.exitFullscreen() : byId("view").requestFullscreen());
    byId("marks").hidden = !viewer.payload.markers.length;
    const marked = new Set(viewer.payload.markers.map(marker => marker.image));
    const hot = viewer.layers.some(layer => layer.name === "heat");
    if (hot && marked.size && marked.size <= 6) { // of more, heat would cover the whole object
      colours.value = "heat";
      viewer.setColours("heat");
    }
    for (const card of cards) {
      const button = card.element.querySelector(".to3d");
      if (!button) continue;
      button.hidden = false;
      button.addEventListener("click", () => inThree(card));
    }
    for (const button of document.querySelectorAll(".to3d[data-numbers]")) {
      button.hidden = false;
      button.addEventListener("click", () => objectInThree(button));
    }
    window.reportViewer = viewer;
  }

  // ---- one image, large
  const dialog = byId("large"), MODES = ["query", "rendering", "map", "overlay", "slider", "blink"];
  const view = { mode: "overlay", zoom: 1, x: 0, y: 0, share: 50 };
  let timer = 0;
  if (dialog) {
    const stage = dialog.querySelector(".stage"), inner = dialog.querySelector(".zoom");
    const [under, over] = inner.children;
    for (const layer of [under, over])
      layer.append(Object.assign(new Image(), { draggable: false, alt: "" }));
    const show = (layer, panel) => { layer.firstChild.style.left = `${-100 * panel}%`; };
    const place = () => {
      const image = under.firstChild, aspect = image.naturalWidth / 4 / image.naturalHeight || 1;
      const [w, h] = [stage.clientWidth, stage.clientHeight];
      const [iw, ih] = w / h > aspect ? [h * aspect, h] : [w, w / aspect];
      inner.style.width = `${iw}px`; inner.style.height = `${ih}px`;
      inner.style.transform = `translate(${(w - iw) / 2 + view.x}px,${(h - ih) / 2 + view.y}px) `
        + `scale(${view.zoom})`;
      inner.classList.toggle("near", view.zoom * iw > 2 * image.naturalWidth / 4);
    };
    const setMode = mode => {
      view.mode = mode;
      clearInterval(timer);
      for (const name of MODES) byId(`mode-${name}`).setAttribute("aria-pressed", name === mode);
      byId("share").hidden = mode !== "slider";
      const both = mode === "slider" || mode === "blink";
      show(under, both ? 0 : MODES.indexOf(mode));
      show(over, 1);
      over.hidden = !both;
      inner.classList.toggle("split", mode === "slider");
      inner.style.setProperty("--share", `${view.share}%`);
      over.style.clipPath = mode === "slider" ? `inset(0 0 0 ${view.share}%)` : "";
      if (mode === "blink") timer = setInterval(() => { over.hidden = !over.hidden; }, 550);
    };
    const open = card => {
      const image = card.element.querySelector("img");
      if (!image) return;
      large = card;
      for (const layer of [under, over]) layer.firstChild.src = image.src;
      under.firstChild.alt = image.alt;
      byId("large-name").textContent = card.name;
      byId("large-score").textContent = card.score === null ? "" : short(card.score);
      byId("large-verdict").className = card.verdict.className;
      byId("large-verdict").textContent = card.verdict.textContent;
      byId("large-3d").hidden = !viewer || card.three === null;
      Object.assign(view, { zoom: 1, x: 0, y: 0 });
      if (!dialog.open) dialog.showModal();
      setMode(view.mode);
      (under.firstChild.decode?.() ?? Promise.resolve()).then(place, place);
      place();
    };
    const step = by => {
      const all = visible.filter(card => card.element.querySelector("img"));
      const at = all.indexOf(large) + by;
      if (all.length) open(all[(at + all.length) % all.length]);
    };
    const zoomAt = (factor, x, y) => { // the place under the pointer stays
      const box = stage.getBoundingClientRect(), frame = inner.getBoundingClientRect();
      const before = view.zoom;
      view.zoom = Math.min(24, Math.max(1, view.zoom * factor));
      const k = view.zoom / before - 1;
      view.x -= k * ((x ?? box.left + box.width / 2) - frame.left);
      view.y -= k * ((y ?? box.top + box.height / 2) - frame.top);
      if (view.zoom === 1) view.x = view.y = 0;
      place();
    };
    for (const card of cards)
      card.element.querySelector(".strip")?.addEventListener("click", () => open(card));
    for (const mode of MODES) byId(`mode-${mode}`).addEventListener("click", () => setMode(mode));
    byId("share").addEventListener("input", e => {
      view.share = e.target.value;
      setMode("slider");
    });
    byId("before").addEventListener("click", () => step(-1));
    byId("after").addEventListener("click", () => step(1));
    byId("close").addEventListener("click", () => dialog.close());
    let onward = false; // into 3D, instead of back to the card
    byId("large-3d").addEventListener("click", () => { onward = true; dialog.close(); });
    dialog.addEventListener("close", () => {
      clearInterval(timer);
      if (onward) {
        onward = false;
        return inThree(large);
      }
      large?.element.scrollIntoView({ block: "nearest" });
      large?.element.querySelector(".strip")?.focus({ preventScroll: true });
    });
    stage.addEventListener("wheel", e => {
      e.preventDefault();
      zoomAt(Math.exp(-(e.deltaMode ? 30 : 1) * e.deltaY * 0.002), e.clientX, e.clientY);
    }, { passive: false });
    const down = new Map();
    stage.addEventListener("pointerdown", e => {
      stage.setPointerCapture(e.pointerId);
      down.set(e.pointerId, e);
    });
    stage.addEventListener("pointermove", e => {
      const was = down.get(e.pointerId);
      if (!was) return;
      if (down.size === 2) {
        const other = [...down.values()].find(p => p.pointerId !== e.pointerId);
        const span = p => Math.hypot(p.clientX - other.clientX, p.clientY - other.clientY) || 1;
        zoomAt(span(e) / span(was), other.clientX, other.clientY);
      } else if (view.zoom > 1) {
        view.x += e.clientX - was.clientX; view.y += e.clientY - was.clientY;
        place();
      }
      down.set(e.pointerId, e);
    });
    for (const name of ["pointerup", "pointercancel"])
      stage.addEventListener(name, e => down.delete(e.pointerId));
    addEventListener("resize", place);
    const KEYS = { arrowleft: () => step(-1), arrowright: () => step(1), j: () => step(1),
      k: () => step(-1), b: () => setMode("blink"), s: () => setMode("slider"),
      "+": () => zoomAt(1.3), "=": () => zoomAt(1.3), "-": () => zoomAt(1 / 1.3),
      0: () => zoomAt(0), v: () => byId("large-3d").click() };
    addEventListener("keydown", e => {
      const key = e.key.toLowerCase(), { target } = e;
      if (e.ctrlKey || e.metaKey || e.altKey) return;
      if (target.matches("input[type=search], select, canvas")
        || target.matches("input") && key.startsWith("arrow")) return;
      if (dialog.open) {
        const panel = Number(key) - 1;
        if (panel >= 0 && panel < 4) setMode(MODES[panel]);
        else if (KEYS[key]) KEYS[key]();
        else return;
      } else if (key === "j" || key === "k") { large ??= null; step(key === "j" ? 1 : -1); }
      else if (key === "g" && tools) byId("grid").click();
      else if (key === "/" && tools) byId("find").focus();
      else return;
      e.preventDefault();
    });
  }
})();
