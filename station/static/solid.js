// The object in 3D with the defects of this part; made by a worker when somebody asks for it.
import { $, followTask, post, request } from "./common.js";

export class Solid {
  constructor(key, box, pane, button) {
    Object.assign(this, { key, box, pane, button, viewer: null, waits: false });
  }

  hide() {
    this.box.hidden = true;
    this.pane.hidden = false;
    this.button.setAttribute("aria-pressed", "false");
  }

  async show(index) {
    this.box.hidden = false;
    this.pane.hidden = true;
    this.button.setAttribute("aria-pressed", "true");
    if (!this.viewer && !this.waits) {
      this.waits = true;
      const note = $("solid-note");
      try {
        const address = `/api/inspections/${this.key}/scene`;
        let payload = await request(address).catch((error) => { if (error.status !== 404) throw error; });
        if (!payload) {
          note.textContent = "is made …";
          await followTask(await post(address, {}));
          payload = await request(address);
        }
        this.viewer = new window.SplatViewer($("canvas"), payload, {});
        this.viewer.setCameras({ train: false, images: false });
        note.hidden = true;
      } catch (error) {
        note.textContent = error.message;
        throw error;
      } finally { this.waits = false; }
    }
    this.look(index);
  }

  look(index) {
    const image = this.viewer?.payload.images[index];
    if (!image) return;
    this.viewer.select(index);
    this.viewer.showImage(index);
    this.viewer.flyTo(image.pose);
  }
}
