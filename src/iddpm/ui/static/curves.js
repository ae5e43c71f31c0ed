// The curves of a run: loaded thinned, zoomed by asking for a part, two runs in one plot.

const PACE = 5000;
const DASH = [6, 4];
const COLORS = ["--series-1", "--series-2", "--series-3", "--series-4"];

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const short = (value) => {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
};

const known = (value) => value !== null && value !== undefined;

const lastOnes = (plot) => ({ idxs: plot.data.map((values) => values.findLastIndex(known)) });

export function watchCurves() {
  const root = document.getElementById("curves");
  if (root) new Curves(root);
}

class Curves {
  constructor(root) {
    this.root = root;
    this.figures = [...root.querySelectorAll("figure")];
    this.plots = new Map();
    this.range = null;
    this.last = -Infinity;
    this.asked = 0;
    this.smooth = document.getElementById("smooth");
    this.beside = document.getElementById("beside");
    this.log = document.getElementById("log-scale");
    this.reset = document.getElementById("reset-zoom");
    for (const field of [this.smooth, this.beside]) field.addEventListener("change", () => this.load());
    this.log.addEventListener("change", () => this.draw());
    this.reset.addEventListener("click", () => this.zoom(null));
    this.ends = ["from", "to"].map((end) => document.getElementById(`zoom-${end}`));
    for (const end of this.ends) end.addEventListener("change", () => this.zoomByNumbers());
    document.body.addEventListener("log-changed", () => this.later());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    new ResizeObserver(() => this.resize()).observe(root);
    this.load();
  }

  later() {
    if (this.timer || document.hidden) return;
    const wait = Math.max(0, this.last + PACE - performance.now());
    this.timer = setTimeout(() => {
      this.timer = 0;
      this.load();
    }, wait);
  }

  async load() {
    this.last = performance.now();
    const query = new URLSearchParams({ run: this.root.dataset.run, smooth: this.smooth.value });
    if (this.beside.value) query.set("beside", this.beside.value);
    if (this.range) {
      query.set("from", this.range[0]);
      if (Number.isFinite(this.range[1])) query.set("to", this.range[1]);
    }
    const asked = ++this.asked;
    const answer = await fetch(`/run/curves?${query}`);
    if (!answer.ok || asked !== this.asked) return;
    this.data = (await answer.json()).runs;
    this.draw();
  }

  zoom(range) {
    this.range = range;
    this.reset.disabled = !range;
    this.ends.forEach((end, k) => {
      end.value = range && Number.isFinite(range[k]) ? Math.round(range[k]) : "";
    });
    this.load();
  }

  zoomByNumbers() {
    const [from, to] = this.ends.map((end) => (end.value === "" ? null : Number(end.value)));
    this.zoom(from === null && to === null ? null : [from ?? 0, to ?? Infinity]);
  }

  draw() {
    if (!this.data) return;
    for (const figure of this.figures) this.drawOne(figure);
  }

  drawOne(figure) {
    const columns = figure.dataset.columns.split(",");
    const names = figure.dataset.names.split("|");
    const logarithmic = this.log.checked && !["memory", "speed"].includes(figure.dataset.plot);
    const space = figure.querySelector(".canvas");
    const tables = this.data.map((run) => [
      run.step,
      ...columns.map((column) => run[column].map((v) => (logarithmic && v <= 0 ? null : v))),
    ]);
    const measured = tables[0].slice(1).some((values) => values.some(known));
    figure.classList.toggle("nothing", !measured);
    const old = this.plots.get(figure);
    if (old) old.destroy();
    this.plots.delete(figure);
    space.replaceChildren();
    if (!measured) {
      space.textContent = this.root.dataset.empty;
      return;
    }
    const table = tables.length > 1 ? uPlot.join(tables) : tables[0];
    const series = this.data.flatMap((run, index) =>
      columns.map((column, k) => ({
        label: this.data.length > 1 ? `${names[k]} (${run.name})` : names[k],
        stroke: color(COLORS[k % COLORS.length]),
        width: 1.5,
        dash: index ? DASH : undefined,
        spanGaps: true,
        points: { show: run[column].filter((v) => v !== null).length < 40, size: 5 },
        value: (_, value) => short(value),
      })),
    );
    const options = this.options(figure, series, logarithmic);
    const plot = new uPlot(options, table, space);
    this.plots.set(figure, plot);
    const lasts = columns.map((column, k) => {
      const values = this.data[0][column];
      const at = values.findLastIndex((v) => v !== null);
      return at < 0 ? "" : `${names[k]} ${short(values[at])}`;
    });
    const title = figure.querySelector("figcaption").textContent;
    space.setAttribute("aria-label", `${title}: ${lasts.filter(Boolean).join(", ")}`);
  }

  options(figure, series, logarithmic) {
    const grid = { stroke: color("--line"), width: 1 };
    const axis = { stroke: color("--muted"), grid, ticks: grid, font: "12px system-ui" };
    return {
      width: this.width(figure),
      height: 220,
      cursor: { sync: { key: "steps" }, drag: { x: true, y: false, setScale: false } },
      legend: {
        live: true,
        markers: { width: 2, dash: (plot, k) => (plot.series[k].dash ? "dashed" : "solid") },
      },
      scales: { x: { time: false }, y: { distr: logarithmic ? 3 : 1 } },
      series: [{ label: this.root.dataset.step, value: (_, v) => (v === null ? "–" : v.toLocaleString("en")) }, ...series],
      axes: [
        { ...axis, values: (_, ticks) => ticks.map((v) => short(v)) },
        { ...axis, size: 62, values: (_, ticks) => ticks.map((v) => (v === null ? "" : short(v))) },
      ],
      hooks: {
        // Without a cursor the legend shows the last value of each series.
        setLegend: [(plot) => plot.legend.idx === null && plot.setLegend(lastOnes(plot), false)],
        ready: [(plot) => plot.setLegend(lastOnes(plot))],
        setSelect: [
          (plot) => {
            if (plot.select.width < 4) return;
            const low = plot.posToVal(plot.select.left, "x");
            const high = plot.posToVal(plot.select.left + plot.select.width, "x");
            this.zoom([low, high]);
          },
        ],
      },
    };
  }

  width(figure) {
    return Math.max(200, figure.clientWidth - 24);
  }

  resize() {
    for (const [figure, plot] of this.plots) {
      const width = this.width(figure);
      if (width !== plot.width) plot.setSize({ width, height: 220 });
    }
  }
}
