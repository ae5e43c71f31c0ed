// An item and a version of it, one above the other, with a divider between them.
import { drawSlice } from "./viewer.js";

const WAVE = { width: 960, height: 240 };

async function load(address) {
  const answer = await fetch(address, { headers: { "HX-Request": "true" } });
  if (!answer.ok) return null;
  if (answer.headers.get("Content-Type").startsWith("application/json")) return answer.json();
  const shape = answer.headers.get("X-Shape").split(",").map(Number);
  if (shape.length === 3) shape.splice(1, 0, 1); // a picture is one slice
  return { shape, levels: new Uint8Array(await answer.arrayBuffer()) };
}

function drawWave(canvas, wave) {
  [canvas.width, canvas.height] = [WAVE.width, WAVE.height];
  const style = getComputedStyle(document.documentElement);
  const pen = canvas.getContext("2d");
  pen.fillStyle = style.getPropertyValue("--sunken");
  pen.fillRect(0, 0, WAVE.width, WAVE.height);
  wave.channels.forEach((channel, k) => {
    pen.strokeStyle = style.getPropertyValue(`--series-${(k % 4) + 1}`);
    pen.beginPath();
    channel.forEach((value, i) => {
      const x = (wave.at[i] / Math.max(1, wave.length - 1)) * WAVE.width;
      pen.lineTo(x, ((1 - value) / 2) * WAVE.height);
    });
    pen.stroke();
  });
}

export function startComparing() {
  const part = document.getElementById("compare");
  if (!part) return;
  const [before, after] = part.querySelectorAll("canvas");
  const version = document.getElementById("version");
  const divider = document.getElementById("divider");
  const slice = document.getElementById("compare-slice");
  let items = [];

  const divide = () => {
    after.style.clipPath = `inset(0 0 0 ${divider.value}%)`;
    part.querySelector(".line").style.left = `${divider.value}%`;
  };
  const draw = () => {
    const where = Number(slice.value) / (Number(slice.max) + 1); // a low resolution has fewer slices
    for (const [canvas, item] of [[before, items[0]], [after, items[1]]]) {
      if (item?.channels) drawWave(canvas, item);
      else if (item) drawSlice(canvas, item, 0, Math.floor(where * item.shape[1] + 1e-9));
    }
  };
  const choose = async () => {
    items = await Promise.all([items[0] ?? load(part.dataset.before), load(version.value)]);
    const depth = items[1]?.shape?.[1] ?? 1;
    if (Number(slice.max) !== depth - 1) {
      slice.max = depth - 1;
      slice.value = depth >> 1;
    }
    slice.closest("label").hidden = depth < 2;
    part.classList.toggle("wave", Boolean(items[1]?.channels));
    draw();
    part.dataset.shown = version.selectedIndex;
  };
  const list = () => {
    const upscaled = document.querySelector("#result [data-compare]")?.dataset.compare;
    if (upscaled) {
      part.dataset.before = `${upscaled}&before=true`;
      items = [];
    }
    const shown = [...document.querySelectorAll("#result .items .item")];
    const values = upscaled
      ? [upscaled]
      : shown.map((button) => button.getAttribute("hx-get").replace("/item?", "/item/values?"));
    part.hidden = !values.length;
    if (!values.length) return;
    // Another call may have written the same names.
    const stamp = document.querySelector("#result [data-job]")?.dataset.job ?? "";
    version.replaceChildren(
      ...values.map((address, k) => new Option(String(k), `${address}&v=${stamp}`)),
    );
    divide();
    choose();
  };

  version.addEventListener("change", choose);
  slice.addEventListener("input", draw);
  divider.addEventListener("input", divide);
  part.querySelector(".frames").addEventListener("pointermove", (event) => {
    if (!event.buttons) return;
    const box = event.currentTarget.getBoundingClientRect();
    divider.value = Math.round((100 * (event.clientX - box.left)) / box.width);
    divide();
  });
  document.body.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.closest("#result") || event.detail.target.id.startsWith("job-")) list();
  });
}
