// One sample large: its way from noise, signals that zoom, volumes in three planes, clips that run.

const FILM_PACE = 250;

function player(part, count, show, pace) {
  const range = part.querySelector('input[type="range"]');
  const button = part.querySelector("button.play");
  range.max = count - 1;
  let timer = 0;
  const at = (k) => {
    range.value = k;
    show(Number(k));
  };
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    if (button) button.textContent = button.dataset.play;
  };
  const play = () => {
    button.textContent = button.dataset.pause;
    if (Number(range.value) >= count - 1) at(0);
    timer = setInterval(() => {
      if (!part.isConnected) return stop();
      const next = Number(range.value) + 1;
      if (next >= count && !part.dataset.clip) return stop();
      at(next % count);
    }, pace);
  };
  range.addEventListener("input", () => {
    stop();
    show(Number(range.value));
  });
  button?.addEventListener("click", () => (timer ? stop() : play()));
  return { at, play };
}

export function startFilms(root) {
  for (const film of root.querySelectorAll("[data-film]")) {
    if (film.dataset.started) continue;
    film.dataset.started = "1";
    const frames = film.dataset.film.split("|").map((text) => {
      const cut = text.indexOf("=");
      return [text.slice(0, cut), text.slice(cut + 1)];
    });
    const image = film.querySelector("img");
    const label = film.querySelector(".at");
    player(
      film,
      frames.length,
      (k) => {
        const [step, source] = frames[k];
        image.src = source;
        image.alt = image.dataset.alt.replace("{step}", step);
        label.textContent = Number(step).toLocaleString("en");
      },
      FILM_PACE,
    );
  }
}

export function showItem(root) {
  const way = root.querySelector("[data-way]");
  if (way) startWay(way);
  const signal = root.querySelector("[data-signal]");
  if (signal) {
    showSignal(signal, null);
    zoomByNumbers(signal, [...root.querySelectorAll(".signal-ends input")]);
  }
  const volume = root.querySelector("[data-volume]");
  if (volume) showVolume(volume);
  const clip = root.querySelector("[data-clip]");
  if (clip) showClip(clip);
}

function startWay(part) {
  const image = part.querySelector("img");
  const count = Number(part.dataset.frames);
  const source = (k) => `${part.dataset.way}&frame=${k}`;
  for (let k = 0; k < count; k += 1) new Image().src = source(k); // so that it plays smoothly
  player(part, count, (k) => (image.src = source(k)), 120);
}

// Zooms to what two fields say, in the units of the axis; an empty one is an end of the signal.
function zoomByNumbers(part, ends) {
  const rate = Number(part.dataset.rate) || 1;
  const zoom = () => {
    const [from, to] = ends.map((end) => end.value !== "" && Number(end.value) * rate);
    const last = to === false ? Number.MAX_SAFE_INTEGER : Math.ceil(to) + 1;
    showSignal(part, from === false && to === false ? null : [Math.floor(from), last]);
  };
  for (const end of ends) end.addEventListener("change", zoom);
}

async function showSignal(part, range) {
  let query = part.dataset.signal;
  if (range) query += `&from=${range[0]}&to=${range[1]}`;
  const answer = await fetch(query);
  if (!answer.ok || !part.isConnected) return;
  const { at, channels } = await answer.json();
  const rate = Number(part.dataset.rate) || 0;
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const grid = { stroke: color("--line"), width: 1 };
  const axis = { stroke: color("--muted"), grid, ticks: grid, font: "12px system-ui" };
  part.replaceChildren();
  const plot = new uPlot(
    {
      width: Math.max(240, part.clientWidth),
      height: 280,
      scales: { x: { time: false } },
      cursor: { drag: { x: true, y: false, setScale: false } },
      series: [
        { label: rate ? "s" : "#" },
        ...channels.map((_, k) => ({
          label: String(k),
          stroke: color(`--series-${(k % 4) + 1}`),
          width: 1.25,
        })),
      ],
      axes: [axis, axis],
      hooks: {
        setSelect: [
          (plot) => {
            if (plot.select.width < 4) return;
            const scale = rate || 1;
            const low = Math.max(0, Math.floor(plot.posToVal(plot.select.left, "x") * scale));
            const end = plot.select.left + plot.select.width;
            showSignal(part, [low, Math.ceil(plot.posToVal(end, "x") * scale)]);
          },
        ],
      },
    },
    [rate ? at.map((v) => v / rate) : at, ...channels],
    part,
  );
  plot.over.addEventListener("dblclick", () => showSignal(part, null));
}

async function loadLevels(address) {
  const answer = await fetch(address);
  if (!answer.ok) return null;
  const shape = answer.headers.get("X-Shape").split(",").map(Number);
  return { shape, levels: new Uint8Array(await answer.arrayBuffer()) };
}

export function drawSlice(canvas, { shape, levels }, axis, index) {
  const [channels, depth, height, width] = shape;
  const sizes = [depth, height, width];
  const [rows, columns] = [0, 1, 2].filter((k) => k !== axis).map((k) => sizes[k]);
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(columns, rows);
  const volume = depth * height * width;
  const place = [
    (r, c) => (index * height + r) * width + c,
    (r, c) => (r * height + index) * width + c,
    (r, c) => (r * height + c) * width + index,
  ][axis];
  for (let r = 0; r < rows; r += 1) {
    for (let c = 0; c < columns; c += 1) {
      const from = place(r, c);
      const to = 4 * (r * columns + c);
      for (let k = 0; k < 3; k += 1) {
        picture.data[to + k] = levels[from + (channels >= 3 ? k * volume : 0)];
      }
      picture.data[to + 3] = 255;
    }
  }
  context.putImageData(picture, 0, 0);
}

async function showVolume(part) {
  const volume = await loadLevels(part.dataset.volume);
  if (!volume || !part.isConnected) return;
  for (const range of part.querySelectorAll("input")) {
    const axis = Number(range.dataset.axis);
    const canvas = part.querySelector(`canvas[data-axis="${axis}"]`);
    range.max = volume.shape[axis + 1] - 1;
    range.value = Math.floor(volume.shape[axis + 1] / 2);
    const show = () => drawSlice(canvas, volume, axis, Number(range.value));
    range.addEventListener("input", show);
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        range.value = Number(range.value) + Math.sign(event.deltaY);
        show();
      },
      { passive: false },
    );
    show();
  }
}

async function showClip(part) {
  const clip = await loadLevels(part.dataset.clip);
  if (!clip || !part.isConnected) return;
  const canvas = part.querySelector("canvas");
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const show = (k) => drawSlice(canvas, clip, 0, k);
  const playing = player(part, clip.shape[1], show, Number(part.dataset.pace));
  playing.at(0);
  if (!still) playing.play();
  else part.querySelector("button.play").textContent = part.querySelector("button.play").dataset.play;
}
