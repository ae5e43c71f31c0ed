// Editing: a mask is drawn on an item, files are sent, before and after are compared.

import { startComparing } from "./compare.js";
import { addMaskTools } from "./mask_tools.js";

const MARK = [255, 92, 40];
const WAVE = { width: 960, height: 240 };

export function startEditing() {
  const part = document.getElementById("painter");
  for (const field of document.querySelectorAll("input[data-upload]")) watchFile(field);
  for (const drop of document.querySelectorAll(".drop")) {
    drop.addEventListener("dragover", (event) => event.preventDefault());
    drop.addEventListener("drop", (event) => {
      event.preventDefault();
      const { files } = event.dataTransfer;
      if (files.length) sendItem(drop.querySelector("input"), files);
    });
  }
  // A file that misses the place would be opened instead of the page.
  for (const name of ["dragover", "drop"]) {
    document.addEventListener(name, (event) => {
      if (event.dataTransfer.types.includes("Files")) event.preventDefault();
    });
  }
  startComparing();
  if (!part) return;
  const painter = new Painter(part);
  painter.load();
  const form = document.getElementById("edit-form");
  const showFields = () => {
    const kind = new FormData(form).get("kind");
    for (const field of form.querySelectorAll("[data-for-kind]")) {
      field.hidden = !field.dataset.forKind.split(" ").includes(kind);
    }
  };
  form.addEventListener("change", showFields);
  showFields();
  let drawn = ""; // the name of the mask that was drawn; another one is that of a file
  form.addEventListener("htmx:confirm", async (event) => {
    const fields = new FormData(form);
    const kind = fields.get("kind") === "restore" ? fields.get("operator") : fields.get("kind");
    if (!["inpaint", "mask"].includes(kind) || event.target !== form) return;
    event.preventDefault();
    const name = document.getElementById("mask-name");
    try {
      if (painter.mask.includes(1) || name.value === drawn) {
        drawn = await send(painter.file(), "mask.npy");
        name.value = drawn;
      }
      event.detail.issueRequest(true);
    } catch (error) {
      const problem = near(form, "upload-problem");
      problem.textContent = error.message;
      problem.hidden = false;
    }
  });
}

// Sends what is chosen, also what was chosen before this script had loaded.
function watchFile(field) {
  field.autocomplete = "off"; // so that going back does not restore the file, which would be sent again
  const sendChosen = () => field.files.length && sendItem(field, field.files);
  field.addEventListener("change", sendChosen);
  sendChosen();
}

async function send(body, name, into = "") {
  const query = new URLSearchParams({ name, into });
  const answer = await fetch(`/upload?${query}`, { method: "PUT", body });
  if (!answer.ok) {
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    throw new Error(page.querySelector("main p")?.textContent ?? String(answer.status));
  }
  return (await answer.json()).name;
}

// Returns the part of a class in the same card as a field, or the first one of the page.
const near = (field, name) =>
  field.closest(".card").querySelector(`.${name}`) ?? document.querySelector(`.${name}`);

// Sends a file; the page of editing shows it, forms keep its name.
async function sendItem(field, files) {
  const problem = near(field, "upload-problem");
  problem.hidden = true;
  try {
    const several = field.multiple && (files.length > 1 || field.webkitdirectory);
    const sent = near(field, "sent");
    tell(sent, 0, several ? files.length : 1);
    const name = several ? await sendAll(files, sent) : await send(files[0], files[0].name);
    tell(sent, several ? files.length : 1, several ? files.length : 1);
    const kept = document.querySelector(`[name="${field.dataset.upload}"]:not([type="number"])`);
    if (kept.options) kept.add(new Option(files[0].name, name));
    kept.value = name;
    kept.dispatchEvent(new Event("change", { bubbles: true }));
    if (field.dataset.upload !== "item") return;
    const run = document.querySelector('#edit-form [name="run"]').value;
    location.search = new URLSearchParams({ run, item: name });
  } catch (error) {
    problem.textContent = error.message;
    problem.hidden = false;
    field.value = "";
  }
}

// Says how many files have been sent, where a page has a place for it.
function tell(sent, done, count) {
  if (sent) sent.textContent = sent.dataset.sent.replace("{done}", done).replace("{count}", count);
}

// Sends several files into one folder; returns its name.
async function sendAll(files, sent) {
  let into = "new";
  for (const [k, file] of [...files].entries()) {
    // The folder that was chosen becomes the one here; those in it are the classes.
    const path = file.webkitRelativePath.split("/").slice(1).join("/") || file.name;
    const name = await send(file, path, into);
    [, into] = name.split("/");
    tell(sent, k + 1, files.length);
  }
  return `upload/${into}`;
}

class Painter {
  constructor(part) {
    this.part = part;
    this.canvas = part.querySelector("canvas");
    this.brush = document.getElementById("brush");
    this.erase = document.getElementById("erase");
    this.slice = document.getElementById("slice");
    this.all = document.getElementById("all-slices");
    this.wave = ["signal", "sound"].includes(part.dataset.kind);
  }

  async load() {
    const answer = await fetch(this.part.dataset.source, { headers: { "HX-Request": "true" } });
    if (!answer.ok) {
      this.part.removeAttribute("aria-busy");
      const notice = this.part.querySelector(".notice");
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      notice.textContent = page.body.textContent.trim();
      notice.hidden = false;
      this.canvas.hidden = true;
      return;
    }
    if (this.wave) {
      this.data = await answer.json();
      this.size = [this.data.length];
      [this.canvas.width, this.canvas.height] = [WAVE.width, WAVE.height];
    } else {
      const shape = answer.headers.get("X-Shape").split(",").map(Number);
      this.channels = shape[0];
      this.size = shape.slice(1);
      this.levels = new Uint8Array(await answer.arrayBuffer());
      [this.canvas.height, this.canvas.width] = this.size.slice(-2);
      if (this.slice) {
        this.slice.max = this.size[0] - 1;
        this.slice.value = Math.floor(this.size[0] / 2);
        this.slice.addEventListener("input", () => this.draw());
      }
    }
    this.mask = new Uint8Array(this.size.reduce((a, b) => a * b, 1));
    this.watch();
    addMaskTools(this);
    this.draw();
    this.part.removeAttribute("aria-busy"); // opening the data may have taken a while
  }

  watch() {
    const move = (event) => {
      if (!event.buttons) return;
      const box = this.canvas.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * this.canvas.width;
      const y = ((event.clientY - box.top) / box.height) * this.canvas.height;
      this.stroke(x, y);
      this.draw();
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      move(event);
    });
    this.canvas.addEventListener("pointermove", move);
    document.getElementById("clear-mask").addEventListener("click", () => {
      this.mask.fill(0);
      this.draw();
    });
    document.getElementById("preset").addEventListener("change", (event) => {
      this.preset(event.target.value);
      event.target.value = "";
      this.draw();
    });
  }

  // Marks a disc around a place of the canvas.
  stroke(x, y) {
    const value = this.erase.checked ? 0 : 1;
    const radius = Number(this.brush.value);
    if (this.wave) {
      const scale = this.size[0] / this.canvas.width;
      const from = Math.max(0, Math.floor((x - 4 * radius) * scale));
      this.mask.fill(value, from, Math.max(from, Math.ceil((x + 4 * radius) * scale)));
      return;
    }
    this.fill(value, (r, c) => (r + 0.5 - y) ** 2 + (c + 0.5 - x) ** 2 <= radius ** 2);
  }

  fill(value, inside) {
    const [height, width] = this.size.slice(-2);
    const only = this.slice && !this.all.checked ? Number(this.slice.value) : null;
    const slices = this.slice ? this.size[0] : 1;
    for (let r = 0; r < height; r += 1) {
      for (let c = 0; c < width; c += 1) {
        if (!inside(r, c)) continue;
        for (let s = only ?? 0; s <= (only ?? slices - 1); s += 1) {
          this.mask[(s * height + r) * width + c] = value;
        }
      }
    }
  }

  preset(name) {
    if (!name) return;
    const value = this.erase.checked ? 0 : 1;
    if (this.wave) {
      const length = this.size[0];
      const places = { left: [0, 0.5], right: [0.5, 1], center: [0.25, 0.75], top: [0, 1], bottom: [0, 1] };
      const [from, to] = places[name].map((v) => Math.round(v * length));
      this.mask.fill(value, from, to);
      return;
    }
    const [height, width] = this.size.slice(-2);
    const inside = {
      top: (r) => r < height / 2,
      bottom: (r) => r >= height / 2,
      left: (_, c) => c < width / 2,
      right: (_, c) => c >= width / 2,
      center: (r, c) =>
        Math.abs(r + 0.5 - height / 2) < height / 4 && Math.abs(c + 0.5 - width / 2) < width / 4,
    };
    this.fill(value, inside[name]);
  }

  draw() {
    if (this.wave) this.drawWave();
    else this.drawLevels();
  }

  drawLevels() {
    const [height, width] = this.size.slice(-2);
    const index = this.slice ? Number(this.slice.value) : 0;
    const plane = height * width;
    const volume = this.levels.length / this.channels;
    const context = this.canvas.getContext("2d");
    const picture = context.createImageData(width, height);
    for (let k = 0; k < plane; k += 1) {
      const at = index * plane + k;
      for (let band = 0; band < 3; band += 1) {
        const level = this.levels[at + (this.channels >= 3 ? band * volume : 0)];
        picture.data[4 * k + band] = this.mask[at] ? 0.45 * level + 0.55 * MARK[band] : level;
      }
      picture.data[4 * k + 3] = 255;
    }
    context.putImageData(picture, 0, 0);
  }

  drawWave() {
    const { width, height } = this.canvas;
    const context = this.canvas.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    context.fillStyle = style.getPropertyValue("--sunken");
    context.fillRect(0, 0, width, height);
    context.fillStyle = `rgb(${MARK.join(" ")} / 45%)`;
    for (let x = 0; x < width; x += 1) {
      if (this.mask[Math.floor((x / width) * this.size[0])]) context.fillRect(x, 0, 1, height);
    }
    this.data.channels.forEach((channel, k) => {
      context.strokeStyle = style.getPropertyValue(`--series-${(k % 4) + 1}`);
      context.beginPath();
      channel.forEach((value, i) => {
        const x = (this.data.at[i] / Math.max(1, this.size[0] - 1)) * width;
        context.lineTo(x, ((1 - value) / 2) * height);
      });
      context.stroke();
    });
  }

  // The mask as a .npy file.
  file() {
    const shape = this.size.length > 1 ? this.size.join(", ") : `${this.size[0]},`;
    let header = `{'descr': '|u1', 'fortran_order': False, 'shape': (${shape}), }`;
    header = header.padEnd(128 * Math.ceil((header.length + 11) / 128) - 11) + "\n";
    const start = new Uint8Array([0x93, 78, 85, 77, 80, 89, 1, 0, header.length & 255, header.length >> 8]);
    return new Blob([start, header, this.mask]);
  }
}
