// Painting a zone on a picture: a mask of the picture's own pixels.
import { h } from "./common.js";

export class Painter {
  constructor(pane) {
    this.pane = pane;
    this.radius = 8;
    this.rubs = false;
    this.canvas = null;
    this.last = null;
  }

  start() {
    const [width, height] = this.pane.size;
    this.canvas = h("canvas", { width, height });
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.pane.layer.append(this.canvas);
    this.pane.box.classList.add("painting");
    this.pane.onPaint = (x, y, starts) => this.stroke(x, y, starts);
  }

  stop() {
    this.canvas?.remove();
    this.canvas = null;
    this.pane.onPaint = null;
    this.pane.box.classList.remove("painting");
  }

  stroke(x, y, starts) {
    const context = this.context;
    context.globalCompositeOperation = this.rubs ? "destination-out" : "source-over";
    context.strokeStyle = context.fillStyle = "#ff2bd6";
    context.lineWidth = 2 * this.radius;
    context.lineCap = "round";
    context.beginPath();
    if (starts || !this.last) {
      context.arc(x, y, this.radius, 0, 2 * Math.PI);
      context.fill();
    } else {
      context.moveTo(...this.last);
      context.lineTo(x, y);
      context.stroke();
    }
    this.last = [x, y];
  }

  // What is painted, as [start, length] of pixels in row-major order.
  runs() {
    const { width, height } = this.canvas;
    const alpha = this.context.getImageData(0, 0, width, height).data;
    const found = [];
    let start = -1;
    for (let pixel = 0; pixel <= width * height; pixel += 1) {
      const is = pixel < width * height && alpha[4 * pixel + 3] > 127;
      if (is && start < 0) start = pixel;
      if (!is && start >= 0) { found.push([start, pixel - start]); start = -1; }
    }
    return found;
  }
}
