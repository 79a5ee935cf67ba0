/* A viewer of 3D Gaussians in WebGL 2, without dependencies; works from file:// and offline.

   const viewer = new SplatViewer(canvas, payload, options);
     canvas    a <canvas>; its parent gets two layers over it (lines, markers) and is positioned
     payload   what report/viewer_data.py writes, parsed; see there for its fields
     options   onPick(what)      what was clicked: {kind: "train" | "image", index, item},
                                 {kind: "marker", index, item} or {kind: "point", index, position}
               onColours(legend) after every change of colours: {name, title, low, high, stops};
                                 stops are CSS colours, or null for the object's own colours
               onView()          after every drawn frame
               background        [r, g, b], 0 to 1, instead of the payload's
   Throws an Error where there is no WebGL 2.

   viewer.layers                 [{name, title}] that setColours takes, "image" first
   viewer.setColours(name)       the object's own colours ("image") or a layer of the payload
   viewer.setColours(layer)      any layer: {name, title, low, high, values: Uint8Array of one value
                                 a Gaussian, 255 for "not seen", stops: [[r, g, b, a], ...] 0 to 1,
                                 fade: how far the object's own colours turn grey, 1 if left out}
   viewer.showImage(index)       the image's own heat on the Gaussians, or the largest of several
                                 ([indices], title); null: as before
   viewer.setMarkers(markers)    [{position: [x, y, z], facing: [x, y, z] or null, title, level}]
   viewer.setCameras({train, images})   which frusta are drawn: booleans; one that is left out stays
   viewer.flyTo(pose, at_once)   pose: 12 numbers, the rows of [R | t], world to camera (OpenCV
                                 axes); or a position {centre: [x, y, z], from: [x, y, z]}
   viewer.reset()                the payload's start
   viewer.pose()                 the 12 numbers of the current view
   viewer.select(index)          highlights the marker(s) of an image; null: none
   viewer.draw()                 draws at once (changes draw by themselves, in the next frame)
   viewer.dispose()              removes layers and listeners and frees the memory of the GPU

   Mouse: drag turns, right button or Shift moves, wheel (when the view has the focus) zooms, double
   click centres. Touch: one finger turns, two move and zoom. Keys: arrows turn, with Shift move,
   + and - zoom, Q and E roll, N and P fly to the next and previous train camera, 0 resets.

   Projection as in Kerbl et al. 2023 and gaussian_renderer/reference.py: EWA splatting with a low
   pass of 0.3 px^2, alpha at most 0.99 and not drawn below 1/255; blended back to front with
   premultiplied alpha. Colours are spherical harmonics of degree 1. */
"use strict";
window.SplatViewer = (() => {
  const UNSEEN = 255;
  const BYTES = 26; // of a Gaussian in the payload
  const FLOATS = 12; // of a drawn Gaussian: middle, reach; two half axes; colour, opacity
  const PER_ROW = 256; // Gaussians in a row of the texture that carries them to the GPU
  const TRAIN = "#7f8c9d", IMAGE = "#2f6fd6", CHOSEN = "#e0402f";

  const VERTEX = `#version 300 es
precision highp float;
precision highp int; precision highp sampler2D;
uniform sampler2D drawn;
uniform vec2 size;
out vec2 place; out vec4 shade;
void main() { // two triangles a Gaussian: corners 0 1 2, 2 1 3
  int k = gl_VertexID % 6, c = k < 3 ? k : k == 3 ? 2 : k == 4 ? 1 : 3;
  int n = gl_VertexID / 6, x = n % ${PER_ROW} * 3, y = n / ${PER_ROW};
  vec4 first = texelFetch(drawn, ivec2(x, y), 0), axes = texelFetch(drawn, ivec2(x + 1, y), 0);
  shade = texelFetch(drawn, ivec2(x + 2, y), 0);
  vec2 corner = vec2(c & 1, c >> 1) * 2.0 - 1.0;
  vec2 at = first.xy + corner.x * axes.xy + corner.y * axes.zw;
  gl_Position = vec4(2.0 * at / size - 1.0, 0, 1) * vec4(1, -1, 1, 1);
  place = corner * first.z;
}`;
  const FRAGMENT = `#version 300 es
precision highp float;
in vec2 place; in vec4 shade; out vec4 colour;
void main() {
  float alpha = min(0.99, shade.a * exp(-0.5 * dot(place, place)));
  if (alpha < 1.0 / 255.0) discard;
  colour = vec4(min(shade.rgb, 1.0) * alpha, alpha);
}`;

  // ---- small algebra: vectors are arrays of 3, quaternions [w, x, y, z], matrices 9 row by row
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const plus = (a, b, s = 1) => [a[0] + s * b[0], a[1] + s * b[1], a[2] + s * b[2]];
  const times = (m, v) => [dot(m.slice(0, 3), v), dot(m.slice(3, 6), v), dot(m.slice(6, 9), v)];
  const back = (m, v) => [0, 1, 2].map(k => m[k] * v[0] + m[k + 3] * v[1] + m[k + 6] * v[2]);
  const unit = v => { const n = Math.hypot(...v) || 1; return v.map(x => x / n); };
  const product = (a, b) => [
    a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
    a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
    a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
    a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0]];
  const about = (axis, angle) => [Math.cos(angle / 2), ...axis.map(x => x * Math.sin(angle / 2))];
  const matrix = ([w, x, y, z]) => [
    1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
    2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
    2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)];
  const quaternion = m => { // the largest component is computed first, which keeps all digits
    const trace = [m[0] + m[4] + m[8], m[0] - m[4] - m[8], m[4] - m[0] - m[8], m[8] - m[0] - m[4]];
    const k = trace.indexOf(Math.max(...trace));
    const [a, b, c] = [m[7] - m[5], m[2] - m[6], m[3] - m[1]];
    const [p, q, r] = [m[1] + m[3], m[2] + m[6], m[5] + m[7]], l = 1 + trace[k];
    return unit([[l, a, b, c], [a, l, p, q], [b, p, l, r], [c, q, r, l]][k]);
  };
  const slerp = (a, b, s) => {
    let cosine = a.reduce((sum, x, k) => sum + x * b[k], 0);
    if (cosine < 0) { b = b.map(x => -x); cosine = -cosine; }
    const angle = Math.acos(Math.min(1, cosine));
    const [u, v] = angle < 1e-3 ? [1 - s, s] : [Math.sin((1 - s) * angle), Math.sin(s * angle)];
    return unit(a.map((x, k) => u * x + v * b[k]));
  };

  const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));

  /* The payload's bytes as numbers: covariances are [xx, xy, xz, yy, yz, zz], colours the constant
     ones and the nine coefficients of degree 1. */
  function unpack(payload) {
    const n = payload.count, all = bytes(payload.gaussians), view = new DataView(all.buffer);
    if (all.length !== n * BYTES) throw new Error("the payload's length does not fit its count");
    const { low, high, log_scales: ls, colours: cs, sh } = payload.ranges;
    const [os, or, oo, oc, oh] = [6, 9, 13, 14, 17].map(k => k * n);
    const [centres, covariances, colours] = [3, 6, 12].map(k => new Float32Array(k * n));
    const opacities = new Float32Array(n), spread = new Float32Array(n);
    for (let i = 0; i < n; i++) {
      const scale = [0, 0, 0];
      for (let k = 0; k < 3; k++) {
        const share = view.getUint16(2 * (3 * i + k), true) / 65535;
        centres[3 * i + k] = low[k] + share * (high[k] - low[k]);
        scale[k] = Math.exp(ls[0] + all[os + 3 * i + k] / 255 * (ls[1] - ls[0]));
        colours[12 * i + k] = cs[0] + all[oc + 3 * i + k] / 255 * (cs[1] - cs[0]);
      }
      for (let k = 0; k < 9; k++) colours[12 * i + 3 + k] = view.getInt8(oh + 9 * i + k) / 127 * sh;
      opacities[i] = all[oo + i] / 255;
      spread[i] = Math.max(...scale);
      const m = matrix(unit([0, 1, 2, 3].map(k => view.getInt8(or + 4 * i + k))));
      [[0, 0], [0, 1], [0, 2], [1, 1], [1, 2], [2, 2]].forEach(([r, c], k) => {
        covariances[6 * i + k] = [0, 1, 2].reduce(
          (sum, j) => sum + m[3 * r + j] * m[3 * c + j] * scale[j] * scale[j], 0);
      });
    }
    return { n, centres, covariances, colours, opacities, spread };
  }

  /* Writes the Gaussians that are in the image, in their order, to `out`; their number. On the CPU,
     so that machines without a GPU draw, too: 30,000 take some 10 ms. */
  function project(cloud, order, { turn: m, eye, lens, size, heat }, out) {
    const { n, centres, covariances: s, colours: c, opacities } = cloud, [fx, fy, cx, cy] = lens;
    const [limitX, limitY] = [0.65 * size[0] / fx, 0.65 * size[1] / fy]; // 1.3 tan(fov / 2)
    let o = 0;
    for (let k = 0; k < n; k++) {
      const i = order[k], alpha = opacities[i];
      const px = centres[3 * i] - eye[0], py = centres[3 * i + 1] - eye[1];
      const pz = centres[3 * i + 2] - eye[2], z = m[6] * px + m[7] * py + m[8] * pz;
      if (z < 0.01 || alpha < 1 / 255) continue;
      const x = (m[0] * px + m[1] * py + m[2] * pz) / z;
      const y = (m[3] * px + m[4] * py + m[5] * pz) / z;
      const tx = Math.min(limitX, Math.max(-limitX, x));
      const ty = Math.min(limitY, Math.max(-limitY, y));
      const gx = fx / z, gy = fy / z; // rows of the Jacobian times the rotation
      const ax = gx * (m[0] - tx * m[6]), bx = gy * (m[3] - ty * m[6]);
      const ay = gx * (m[1] - tx * m[7]), by = gy * (m[4] - ty * m[7]);
      const az = gx * (m[2] - tx * m[8]), bz = gy * (m[5] - ty * m[8]);
      const q = 6 * i, xx = s[q], xy = s[q + 1], xz = s[q + 2], yy = s[q + 3], yz = s[q + 4];
      const zz = s[q + 5], vx = xx * ax + xy * ay + xz * az, vy = xy * ax + yy * ay + yz * az;
      const vz = xz * ax + yz * ay + zz * az, b = vx * bx + vy * by + vz * bz;
      const a = vx * ax + vy * ay + vz * az + 0.3;
      const d = bx * (xx * bx + 2 * (xy * by + xz * bz)) + by * (yy * by + 2 * yz * bz)
        + zz * bz * bz + 0.3;
      const middle = (a + d) / 2, off = Math.sqrt((a - d) * (a - d) / 4 + b * b);
      const reach = Math.sqrt(2 * Math.log(255 * alpha)), long = reach * Math.sqrt(middle + off);
      const u = fx * x + cx, v = fy * y + cy; // no longer than its long axis beside the image
      if (u < -long || v < -long || u > size[0] + long || v > size[1] + long) continue;
      let ex = off + (a - d) / 2, ey = b;
      if (a < d) { ex = b; ey = off + (d - a) / 2; }
      const e = Math.sqrt(ex * ex + ey * ey);
      if (e > 1e-6 * middle) { ex /= e; ey /= e; } else { ex = 1; ey = 0; }
      const short = reach * Math.sqrt(Math.max(middle - off, 1e-6));
      out[o] = u; out[o + 1] = v; out[o + 2] = reach;
      out[o + 4] = long * ex; out[o + 5] = long * ey;
      out[o + 6] = -short * ey; out[o + 7] = short * ex;
      const h = 12 * i, r = 0.48860251 / Math.sqrt(px * px + py * py + pz * pz);
      for (let j = 0; j < 3; j++) out[o + 8 + j] = Math.max(0, c[h + j]
        + r * (pz * c[h + 6 + j] - py * c[h + 3 + j] - px * c[h + 9 + j]));
      if (heat) tinted(out, o + 8, heat, i);
      out[o + 11] = alpha;
      o += FLOATS;
    }
    return o / FLOATS;
  }

  /* The colour at `out[o]` turned grey under the hue of a layer's value, as light as it was. */
  function tinted(out, o, { values, hues, fade }, i) {
    const h = 4 * values[i], hue = hues[h + 3];
    const light = [0.3, 0.6, 0.1].reduce((sum, w, j) => sum + w * Math.min(1, out[o + j]), 0);
    for (let j = 0; j < 3; j++) {
      const grey = 0.65 * light + 0.35 * (0.72 + 0.03 * j);
      const own = out[o + j] + fade * (grey - out[o + j]);
      out[o + j] = own + hue * (hues[h + j] * (0.55 + 0.45 * light) - own);
    }
  }

  class SplatViewer {
    constructor(canvas, payload, options = {}) {
      Object.assign(this, { canvas, payload, options });
      this.gl = canvas.getContext("webgl2", { antialias: false, alpha: false, depth: false });
      if (!this.gl) throw new Error("this browser has no WebGL 2");
      this.cloud = unpack(payload);
      this.order = new Uint32Array(this.cloud.n);
      this.depths = new Float32Array(this.cloud.n);
      this.drawn = new Float32Array(FLOATS * PER_ROW * Math.ceil(this.cloud.n / PER_ROW));
      this.shown = { train: false, images: false };
      this.markers = []; this.chosen = null; this.quality = 1; this.cursor = -1;
      this.layers = [{ name: "image", title: "as in the images" }, ...payload.layers];
      this.current = this.layers[0]; this.before = null;
      this._layOut();
      this._initialise();
      this._listen();
      this.flyTo(payload.start, true);
      this.setColours("image");
      this.setMarkers(payload.markers || []);
    }

    // ---- the picture
    _initialise() {
      const gl = this.gl, program = gl.createProgram();
      for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
        const shader = gl.createShader(kind);
        gl.shaderSource(shader, text); gl.compileShader(shader); gl.attachShader(program, shader);
      }
      gl.linkProgram(program);
      if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
        const logs = gl.getAttachedShaders(program).map(s => gl.getShaderInfoLog(s));
        throw new Error([gl.getProgramInfoLog(program), ...logs].join(" "));
      }
      gl.useProgram(program);
      this.sizeAt = gl.getUniformLocation(program, "size");
      gl.bindTexture(gl.TEXTURE_2D, gl.createTexture()); // stays bound: each frame fills it anew
      for (const side of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER])
        gl.texParameteri(gl.TEXTURE_2D, side, gl.NEAREST);
      gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA32F, 3 * PER_ROW,
        this.drawn.length / PER_ROW / FLOATS);
      gl.enable(gl.BLEND);
      gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    }

    /* The lens in pixels of a drawing of the canvas: the whole image of a camera fits into it. */
    _lens(width, height) {
      const c = this.payload.camera, s = Math.min(width / c.width, height / c.height);
      return [c.fx * s, c.fy * s, c.cx * s + (width - c.width * s) / 2,
        c.cy * s + (height - c.height * s) / 2];
    }

    /* Far to near, by counting: 65,536 depths. */
    _sort() {
      const { n, centres } = this.cloud, m = this.turn, depths = this.depths;
      let low = Infinity, high = -Infinity;
      for (let i = 0; i < n; i++) {
        const d = m[6] * centres[3 * i] + m[7] * centres[3 * i + 1] + m[8] * centres[3 * i + 2];
        depths[i] = d;
        if (d < low) low = d;
        if (d > high) high = d;
      }
      const counts = this.counts ??= new Uint32Array(65537), s = 65535 / (high - low || 1);
      counts.fill(0);
      for (let i = 0; i < n; i++) counts[65536 - ((depths[i] - low) * s | 0)]++;
      for (let k = 1; k <= 65536; k++) counts[k] += counts[k - 1];
      for (let i = 0; i < n; i++) this.order[counts[65535 - ((depths[i] - low) * s | 0)]++] = i;
    }

    draw() {
      this.pending = 0;
      const gl = this.gl, { canvas } = this;
      if (gl.isContextLost()) return;
      const ratio = Math.min(2, window.devicePixelRatio || 1);
      const [w, h] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio]
        .map(x => Math.max(1, Math.round(x * this.quality)));
      if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
      this.turn = matrix(this.q);
      this._sort();
      const view = { turn: this.turn, eye: this.eye(), lens: this._lens(w, h), size: [w, h],
        heat: this.heat };
      const count = project(this.cloud, this.order, view, this.drawn);
      const rows = Math.ceil(count / PER_ROW);
      if (rows) gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, 3 * PER_ROW, rows, gl.RGBA, gl.FLOAT,
        this.drawn.subarray(0, FLOATS * PER_ROW * rows));
      gl.viewport(0, 0, w, h);
      gl.clearColor(...(this.options.background || this.payload.background), 1);
      gl.clear(gl.COLOR_BUFFER_BIT);
      gl.uniform2f(this.sizeAt, w, h);
      gl.drawArrays(gl.TRIANGLES, 0, 6 * count); // instances of four would be slow in software
      this._drawOver(ratio);
      this.options.onView?.();
    }

    _ask() { this.pending ||= requestAnimationFrame(() => this.draw()); }

    /* While the view moves, fewer pixels where frames take long; all of them when it rests. */
    _moved() {
      const now = performance.now(), gap = this.last ? now - this.last : 0;
      if (gap > 45) this.quality = Math.max(0.4, this.quality * 0.85);
      this.last = now;
      clearTimeout(this.rest);
      this.rest = setTimeout(() => { this.quality = 1; this.last = 0; this._ask(); },
        Math.max(250, 2.5 * gap));
      this._ask();
    }

    // ---- colours
    setColours(what) {
      const layer = typeof what === "string" ? this.layers.find(l => l.name === what) : what;
      if (!layer) throw new Error(`there is no layer called ${what}`);
      this.current = layer; this.before = null;
      const stops = layer.name === "image" ? null : layer.stops || this.payload.heat.stops;
      this.heat = null;
      if (stops) {
        const hues = new Float32Array(4 * 256); // the last, of what is not seen, stays clear
        for (let k = 0; k < UNSEEN; k++) {
          const s = k / (UNSEEN - 1) * (stops.length - 1), j = Math.min(stops.length - 2, s | 0);
          for (let c = 0; c < 4; c++)
            hues[4 * k + c] = stops[j][c] + (s - j) * (stops[j + 1][c] - stops[j][c]);
        }
        this.heat = { values: layer.values ??= bytes(layer.data), hues, fade: layer.fade ?? 1 };
      }
      const css = ([r, g, b]) => `rgb(${[r, g, b].map(x => Math.round(255 * x))})`;
      this.options.onColours?.({ name: layer.name, title: layer.title, low: layer.low,
        high: layer.high, stops: stops && stops.map(css) });
      this._ask();
    }

    showImage(index, title) {
      const images = [index ?? []].flat().map(k => this.payload.images[k]).filter(i => i.heat);
      const was = this.before;
      if (!images.length) {
        if (was) this.setColours(was);
        return;
      }
      const values = new Uint8Array(this.cloud.n);
      for (const pairs of images.map(image => bytes(image.heat)))
        for (let k = 0; k + 3 < pairs.length; k += 4) {
          const i = pairs[k] | pairs[k + 1] << 8 | pairs[k + 2] << 16;
          values[i] = Math.max(values[i], pairs[k + 3]);
        }
      const base = was || this.current, { low, high } = this.payload.heat;
      title ??= images[0].name;
      this.setColours({ name: "images", title, low, high, values, fade: 0.5 });
      this.before = base;
    }

    // ---- where the view is from
    eye() { return plus(this.pivot, back(matrix(this.q), [0, 0, 1]), -this.away); }

    pose() {
      const m = matrix(this.q), t = times(m, this.pivot);
      return [0, 1, 2].flatMap(
        k => [...m.slice(3 * k, 3 * k + 3), (k === 2 ? this.away : 0) - t[k]]);
    }

    flyTo(where, at_once) {
      const goal = Array.isArray(where) ? this._ofPose(where) : this._ofPlace(where);
      cancelAnimationFrame(this.flight);
      if (at_once || window.matchMedia?.("(prefers-reduced-motion: reduce)").matches) {
        Object.assign(this, goal);
        return this._ask();
      }
      const from = { q: this.q, pivot: this.pivot, away: this.away }, begun = performance.now();
      const step = now => {
        const s = Math.min(1, Math.max(0, now - begun) / 600), e = s * s * (3 - 2 * s);
        this.q = slerp(from.q, goal.q, e);
        this.pivot = plus(from.pivot, plus(goal.pivot, from.pivot, -1), e);
        this.away = from.away + e * (goal.away - from.away);
        if (s < 1) this.flight = requestAnimationFrame(step); else Object.assign(this, goal);
        this._moved();
      };
      this.flight = requestAnimationFrame(step);
    }

    _ofPose(p) { // turns about the point on the optical axis that is nearest to the object's centre
      const m = [p[0], p[1], p[2], p[4], p[5], p[6], p[8], p[9], p[10]], t = [p[3], p[7], p[11]];
      const away = Math.max(times(m, this.payload.centre)[2] + t[2], 0.1 * this.payload.radius);
      return { q: quaternion(m), away, pivot: back(m, plus([0, 0, away], t, -1)) };
    }

    _ofPlace({ centre, from }) { // the camera turns as little as possible
      const m = matrix(this.q), forward = unit(plus(centre, from, -1));
      const old = back(m, [0, 0, 1]), [a, b] = [old, forward];
      const cross = [0, 1, 2].map(k => [(k + 1) % 3, (k + 2) % 3])
        .map(([j, k]) => a[j] * b[k] - a[k] * b[j]);
      const axis = Math.hypot(...cross) > 1e-6 ? unit(cross) : back(m, [0, 1, 0]);
      const turn = about(axis, -Math.acos(Math.max(-1, Math.min(1, dot(a, b)))));
      return { q: unit(product(this.q, turn)), pivot: centre,
        away: Math.hypot(...plus(centre, from, -1)) };
    }

    reset() { this.flyTo(this.payload.start); }

    _rotate(axis, angle) { this.q = unit(product(about(axis, angle), this.q)); this._moved(); }

    _shift(dx, dy) { // CSS pixels
      const f = this._lens(this.canvas.clientWidth, this.canvas.clientHeight)[0];
      this.pivot = plus(this.pivot,
        back(matrix(this.q), [-dx * this.away / f, -dy * this.away / f, 0]));
      this._moved();
    }

    _zoom(factor) {
      const r = this.payload.radius;
      this.away = Math.min(40 * r, Math.max(0.05 * r, this.away * factor));
      this._moved();
    }

    // ---- lines and markers over the picture
    _layOut() {
      const { canvas } = this, parent = canvas.parentElement;
      if (getComputedStyle(parent).position === "static") parent.style.position = "relative";
      const over = kind => {
        const layer = document.createElement(kind);
        layer.style.cssText = "position:absolute;inset:0;width:100%;height:100%;overflow:hidden;"
          + "pointer-events:none";
        canvas.after(layer);
        return layer;
      };
      this.dots = over("div"); this.lines = over("canvas");
      this.lines.setAttribute("aria-hidden", "true");
      canvas.style.touchAction = "none";
      if (!canvas.hasAttribute("tabindex")) canvas.tabIndex = 0;
    }

    /* CSS pixels and depth of a point. */
    _project(point, lens) {
      const p = times(this.turn, plus(point, this.pivot, -1)), z = p[2] + this.away;
      return [lens[0] * p[0] / z + lens[2], lens[1] * p[1] / z + lens[3], z];
    }

    setCameras(shown) { Object.assign(this.shown, shown); this._ask(); }

    setMarkers(markers) {
      this.markers = markers;
      this.dots.replaceChildren(...markers.map((marker, index) => {
        const mark = document.createElement("button");
        Object.assign(mark, { type: "button", title: marker.title, className: "splat-marker" });
        mark.setAttribute("aria-label", marker.title);
        mark.style.cssText = "position:absolute;left:0;top:0;margin:-8px;width:16px;height:16px;"
          + "min-height:0;padding:0;border-radius:50%;border:2.5px solid #e0402f;cursor:pointer;"
          + "background:#fff6;box-shadow:0 0 0 1.5px #fff,0 1px 4px 1px #0006;pointer-events:auto";
        mark.onclick = () => this._pick({ kind: "marker", index, item: marker });
        return mark;
      }));
      this._ask();
    }

    select(image) { this.chosen = image; this._ask(); }

    _cameras() {
      const all = [];
      const add = (kind, list, colour, is) => (list || []).forEach((item, index) => {
        if (is(index)) all.push({ kind, item, index, colour });
      });
      add("train", this.payload.train, TRAIN, k => this.shown.train || k === this.cursor);
      add("image", this.payload.images, IMAGE, k => this.shown.images && k !== this.chosen);
      add("image", this.payload.images, CHOSEN, k => k === this.chosen);
      return all;
    }

    _drawOver(ratio) {
      const { clientWidth: w, clientHeight: h } = this.canvas, { lines } = this;
      const lens = this._lens(w, h), c = this.payload.camera, size = 0.14 * this.payload.radius;
      Object.assign(lines, { width: Math.round(w * ratio), height: Math.round(h * ratio) });
      const pen = lines.getContext("2d");
      pen.scale(ratio, ratio);
      pen.lineJoin = "round";
      this.tips = []; // of the frusta, for clicks
      for (const camera of this._cameras()) {
        const p = camera.item.pose, m = [p[0], p[1], p[2], p[4], p[5], p[6], p[8], p[9], p[10]];
        const centre = back(m, [-p[3], -p[7], -p[11]]);
        const corners = [[0, 0], [c.width, 0], [c.width, c.height], [0, c.height]].map(([x, y]) =>
          plus(centre, back(m, [(x - c.cx) / c.fx * size, (y - c.cy) / c.fy * size, size])));
        const [tip, ...image] = [centre, ...corners].map(x => this._project(x, lens));
        if ([tip, ...image].some(x => x[2] < 0.3 * size)) continue;
        pen.strokeStyle = camera.colour;
        pen.globalAlpha = tip[2] < this.away ? 0.95 : 0.4;
        pen.lineWidth = camera.colour === CHOSEN ? 2.5 : 1.2;
        pen.beginPath();
        for (const corner of image) {
          pen.moveTo(tip[0], tip[1]);
          pen.lineTo(corner[0], corner[1]);
        }
        image.forEach((x, k) => pen[k ? "lineTo" : "moveTo"](x[0], x[1]));
        pen.closePath();
        pen.stroke();
        const middle = image.reduce((sum, x) => [sum[0] + x[0] / 4, sum[1] + x[1] / 4], [0, 0]);
        const wide = Math.max(...image.map(x => Math.hypot(x[0] - middle[0], x[1] - middle[1])));
        this.tips.push({ ...camera, x: middle[0], y: middle[1], reach: Math.max(8, wide) });
      }
      const eye = this.eye();
      this.markers.forEach((marker, index) => {
        const mark = this.dots.children[index], [x, y, z] = this._project(marker.position, lens);
        const seen = z > 0 && x > -9 && y > -9 && x < w + 9 && y < h + 9;
        // A defect lies on the side that its image shows; from behind it is only hinted at.
        const front = !marker.facing
          || dot(unit(plus(eye, marker.position, -1)), unit(marker.facing)) > 0.1;
        const chosen = this.chosen !== null && marker.image === this.chosen;
        mark.style.display = seen ? "" : "none";
        mark.style.opacity = chosen || front && this.chosen === null ? 1 : 0.3;
        mark.style.zIndex = chosen ? 2 : front ? 1 : 0;
        mark.style.transform = `translate(${x}px,${y}px) scale(${chosen ? 1.5 : front ? 1 : 0.6})`;
      });
    }

    // ---- what the user does
    _pick(what) { this.options.onPick?.(what); }

    _click(x, y) {
      const hit = this.tips.filter(t => Math.hypot(t.x - x, t.y - y) < t.reach)
        .sort((a, b) => Math.hypot(a.x - x, a.y - y) - Math.hypot(b.x - x, b.y - y))[0];
      if (hit) {
        if (hit.kind === "train") this.cursor = hit.index;
        this.flyTo(hit.item.pose);
        return this._pick({ kind: hit.kind, index: hit.index, item: hit.item });
      }
      const found = this._under(x, y);
      if (found) this._pick({ kind: "point", ...found });
    }

    /* The nearest Gaussian that is seen at a place of the canvas; null for the background. */
    _under(x, y) {
      const { clientWidth: w, clientHeight: h } = this.canvas, lens = this._lens(w, h);
      const { n, centres, opacities, spread } = this.cloud;
      let best = null, depth = Infinity;
      for (let i = 0; i < n; i++) {
        if (opacities[i] < 0.2) continue;
        const position = [...centres.subarray(3 * i, 3 * i + 3)];
        const [px, py, z] = this._project(position, lens);
        if (z <= 0 || z >= depth) continue;
        if (Math.hypot(px - x, py - y) < Math.max(2, lens[0] * spread[i] / z)) {
          best = { index: i, position }; depth = z;
        }
      }
      return best;
    }

    _listen() {
      const { canvas } = this, down = new Map();
      const on = (name, act, passive = true) => canvas.addEventListener(name, act, {
        passive, signal: (this.ending ??= new AbortController()).signal });
      const at = e => { const b = canvas.getBoundingClientRect();
        return [e.clientX - b.left, e.clientY - b.top]; };
      let travelled = 0;
      on("pointerdown", e => {
        cancelAnimationFrame(this.flight);
        canvas.setPointerCapture(e.pointerId);
        if (!down.size) travelled = 0;
        down.set(e.pointerId, at(e));
      });
      on("pointermove", e => {
        const was = down.get(e.pointerId), now = at(e);
        if (!was) return;
        const [dx, dy] = [now[0] - was[0], now[1] - was[1]];
        travelled += Math.abs(dx) + Math.abs(dy);
        if (down.size === 2) {
          const [[, other]] = [...down].filter(([id]) => id !== e.pointerId);
          const span = p => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
          this._zoom(span(was) / span(now));
          this._shift(dx / 2, dy / 2);
        } else if (e.shiftKey || e.buttons & 6) this._shift(dx, dy);
        else {
          const s = 3.6 / Math.min(canvas.clientWidth, canvas.clientHeight);
          const angle = s * Math.hypot(dx, dy);
          if (angle) this._rotate(unit([-dy, dx, 0]), -angle);
        }
        down.set(e.pointerId, now);
      });
      on("pointerup", e => {
        if (down.delete(e.pointerId) && !down.size && travelled < 5 && e.button === 0)
          this._click(...at(e));
      });
      on("pointercancel", e => down.delete(e.pointerId));
      on("contextmenu", e => e.preventDefault(), false);
      on("dblclick", e => {
        const found = this._under(...at(e));
        if (found) this.flyTo({ centre: found.position, from: plus(this.eye(), // keeps its heading
          plus(found.position, this.pivot, -1)) });
      });
      on("wheel", e => {
        if (document.activeElement !== canvas && !e.ctrlKey) return; // the page scrolls
        e.preventDefault();
        this._zoom(Math.exp((e.deltaMode ? 30 : 1) * e.deltaY * 0.0012));
      }, false);
      on("keydown", e => { if (this._key(e)) e.preventDefault(); }, false);
      on("webglcontextlost", e => e.preventDefault(), false);
      on("webglcontextrestored", () => { this._initialise(); this.setColours(this.current); });
      this.watch = new ResizeObserver(() => this._ask());
      this.watch.observe(canvas);
    }

    _key(e) {
      if (e.ctrlKey || e.metaKey || e.altKey) return false;
      const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const move = moves[e.key], key = e.key.toLowerCase(), train = this.payload.train || [];
      if (move && e.shiftKey) this._shift(30 * move[0], 30 * move[1]);
      else if (move) this._rotate([-move[1], move[0], 0], -0.1);
      else if (key === "+" || key === "=") this._zoom(0.88);
      else if (key === "-") this._zoom(1 / 0.88);
      else if (key === "q" || key === "e") this._rotate([0, 0, 1], key === "q" ? 0.1 : -0.1);
      else if (key === "0") this.reset();
      else if ((key === "n" || key === "p") && train.length) {
        this.cursor = (this.cursor + (key === "n" ? 1 : -1) + train.length) % train.length;
        this.flyTo(train[this.cursor].pose);
        this._pick({ kind: "train", index: this.cursor, item: train[this.cursor] });
      } else return false;
      return true;
    }

    dispose() {
      cancelAnimationFrame(this.flight); cancelAnimationFrame(this.pending);
      clearTimeout(this.rest);
      this.ending.abort(); this.watch.disconnect();
      this.dots.remove(); this.lines.remove();
      this.gl.getExtension("WEBGL_lose_context")?.loseContext();
    }
  }
  return SplatViewer;
})();
