// A picture with zoom and pan by wheel, drag, pinch and keys; several pictures share one view.
import { h } from "./common.js";

const MOST = 24;

export class Pane {
  constructor(box) {
    this.box = box;
    this.layer = h("div", { class: "layer" });
    this.tag = h("span", { class: "tag" });
    box.replaceChildren(this.layer, this.tag);
    this.scale = 1; this.x = 0; this.y = 0; this.size = null;
    this.pointers = new Map(); this.linked = []; this.images = new Map();
    this.onPaint = null; // (x, y, pressed, starts) in pixels of the picture, while painting
    box.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 400), ...this.place(event));
    }, { passive: false });
    box.addEventListener("pointerdown", (event) => this.press(event));
    box.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      box.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    }
    box.addEventListener("dblclick", () => { if (!this.onPaint) this.fit(); });
    new ResizeObserver(() => { if (this.isFitted) this.fit(); }).observe(box);
    this.isFitted = true;
  }

  // Shows one of the pictures {name: address}; all are loaded, so that blinking does not flicker.
  load(pictures) {
    this.layer.replaceChildren();
    this.images.clear();
    this.size = null;
    const wait = Object.entries(pictures).map(([name, source]) => new Promise((resolve) => {
      const image = h("img", { src: source, alt: name, draggable: "false" });
      image.style.visibility = "hidden";
      image.addEventListener("load", () => resolve());
      image.addEventListener("error", () => resolve());
      this.images.set(name, image);
      this.layer.append(image);
    }));
    return Promise.all(wait).then(() => {
      const first = this.images.values().next().value;
      if (!first?.naturalWidth) return;
      this.size = [first.naturalWidth, first.naturalHeight];
      this.fit();
    });
  }

  show(name, text = name) {
    for (const [each, image] of this.images) image.style.visibility = each === name ? "visible" : "hidden";
    this.tag.textContent = text;
  }

  // Frames around boxes [x, y, width, height] of the picture.
  frames(boxes) {
    this.layer.querySelectorAll(".box").forEach((box) => box.remove());
    for (const [x, y, width, height] of boxes) {
      const box = h("div", { class: "box" });
      Object.assign(box.style, { left: `${x - 5}px`, top: `${y - 5}px`, width: `${width + 10}px`, height: `${height + 10}px` });
      this.layer.append(box);
    }
  }

  note(text) {
    this.layer.replaceChildren();
    this.images.clear();
    this.tag.textContent = "";
    this.layer.append();
    this.box.querySelector(".note")?.remove();
    if (text) this.box.append(h("div", { class: "note" }, text));
  }

  fit() {
    if (!this.size) return;
    const { clientWidth: width, clientHeight: height } = this.box;
    this.scale = Math.min(width / this.size[0], height / this.size[1]);
    this.x = (width - this.scale * this.size[0]) / 2;
    this.y = (height - this.scale * this.size[1]) / 2;
    this.isFitted = true;
    this.apply();
  }

  // Shows a box [x, y, width, height] of the picture with room around it.
  focus([x, y, width, height]) {
    if (!this.size) return;
    const side = Math.max(width, height, Math.min(...this.size) / 8) * 2.2;
    const { clientWidth, clientHeight } = this.box;
    this.scale = Math.min(clientWidth, clientHeight) / side;
    this.x = clientWidth / 2 - this.scale * (x + width / 2);
    this.y = clientHeight / 2 - this.scale * (y + height / 2);
    this.isFitted = false;
    this.apply();
  }

  zoom(factor, x = this.box.clientWidth / 2, y = this.box.clientHeight / 2) {
    if (!this.size) return;
    const least = Math.min(this.box.clientWidth / this.size[0], this.box.clientHeight / this.size[1]) / 2;
    const scale = Math.min(MOST, Math.max(least, this.scale * factor));
    this.x = x - (x - this.x) * scale / this.scale;
    this.y = y - (y - this.y) * scale / this.scale;
    this.scale = scale;
    this.isFitted = false;
    this.apply();
  }

  apply(tell = true) {
    this.layer.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.layer.classList.toggle("near", this.scale > 3);
    if (!tell) return;
    for (const other of this.linked) {
      if (!other.size) continue;
      Object.assign(other, { x: this.x, y: this.y, scale: this.scale, isFitted: this.isFitted });
      other.apply(false);
    }
  }

  place(event) {
    const box = this.box.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  press(event) {
    this.box.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.place(event));
    if (this.onPaint && this.pointers.size === 1) this.paint(event, true);
  }

  paint(event, starts) {
    const [x, y] = this.place(event);
    this.onPaint((x - this.x) / this.scale, (y - this.y) / this.scale, starts);
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = this.place(event);
    if (this.pointers.size === 2) {
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
      const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
      this.zoom(distance(now, other) / distance(before, other), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    } else if (this.onPaint) {
      this.paint(event, false);
    } else if (this.pointers.size === 1) {
      this.x += now[0] - before[0];
      this.y += now[1] - before[1];
      this.isFitted = false;
      this.apply();
    }
    this.pointers.set(event.pointerId, now);
  }
}
