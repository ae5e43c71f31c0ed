// Events from the server, forms that submit themselves, copying, the dialog of one sample.
import { watchCurves } from "./curves.js";
import { startEditing } from "./edit.js";
import { showItem, startFilms } from "./viewer.js";

const PACE = 2000; // milliseconds between two refreshes of the same part
const SLOW = 5000;

const say = (text) => {
  document.getElementById("said").textContent = text;
};

function throttled(work, pace) {
  let last = -Infinity;
  let timer = 0;
  return () => {
    const wait = Math.max(0, last + pace - performance.now());
    if (timer) return;
    timer = setTimeout(() => {
      timer = 0;
      last = performance.now();
      work();
    }, wait);
  };
}

// Changes of runs and jobs

const fire = (name, detail) => document.body.dispatchEvent(new CustomEvent(name, { detail }));
const list = document.getElementById("runs"); // all of it is sent anew, so less often
const runsChanged = throttled(() => fire("runs-changed"), list ? 2 * PACE : PACE);
const jobsChanged = throttled(() => fire("jobs-changed"), 300);
const contentChanged = throttled(() => {
  const parts = document.getElementById("run-parts");
  // Somebody who looks at an older picture, or has a field open, is not disturbed.
  if (parts && !parts.contains(document.activeElement)) htmx.trigger(parts, "content-changed");
}, SLOW);

const heard = new Map(); // the newest state of each job
const progressOf = (state) => ["waiting", "running"].indexOf(state) + 1 || 3;

function jobChanged(message) {
  if (message.state === "done" && heard.get(message.number) !== "done") fire("sets-changed");
  heard.set(message.number, message.state);
  const count = document.getElementById("active-jobs");
  count.textContent = message.active;
  count.hidden = !message.active;
  const row = document.querySelector(`[data-job-row="${message.number}"]`);
  if (document.getElementById("jobs")) {
    if (!row || row.dataset.state !== message.state) jobsChanged();
    else setProgress(row, message);
  }
  const panel = document.querySelector(`[data-job="${message.number}"]`);
  if (!panel) return;
  if (panel.dataset.state !== message.state) {
    panel.dataset.state = message.state;
    htmx.trigger(panel, "refresh");
    return;
  }
  setProgress(panel, message);
  const live = panel.querySelector("img.live");
  if (live && message.picture) {
    live.src = `/job/picture?number=${message.number}&v=${message.picture}`;
    live.hidden = false;
  }
}

// What is loaded may be older than what was heard while it was on its way.
document.addEventListener("htmx:load", (event) => {
  const part = event.detail.elt;
  if (part.dataset.proposed) propose(JSON.parse(part.dataset.proposed));
  const panels = [part, ...part.querySelectorAll("[data-job]")];
  for (const panel of panels.filter((one) => one.matches("[data-job]"))) {
    const state = heard.get(Number(panel.dataset.job));
    if (state && progressOf(state) > progressOf(panel.dataset.state)) htmx.trigger(panel, "refresh");
  }
});

// Shows in the empty fields of a new training what would be taken.
function propose(settings) {
  for (const [name, value] of Object.entries(settings)) {
    for (const field of document.getElementsByName(`set:${name}`)) {
      if (field.options) field.options[0].textContent = value;
      else field.placeholder = value;
    }
  }
}

function setProgress(part, message) {
  const bar = part.querySelector("progress");
  if (bar && message.share !== null) bar.value = message.share;
}

function listen() {
  const notice = document.getElementById("connection");
  const source = new EventSource(document.body.dataset.events);
  source.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.event === "job") jobChanged(message);
    if (message.event === "runs") {
      runsChanged();
      contentChanged();
      fire("log-changed");
    }
  };
  source.onopen = () => {
    if (!notice.hidden) {
      notice.hidden = true;
      runsChanged();
      jobsChanged();
      document.querySelectorAll("[data-job]").forEach((job) => htmx.trigger(job, "refresh"));
    }
  };
  source.onerror = () => {
    notice.textContent = document.body.dataset.lost;
    notice.hidden = false;
  };
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => event.persisted && location.reload());
}

// Small things

document.addEventListener("change", (event) => {
  const field = event.target;
  if (field.id === "only-different") {
    document.getElementById("settings").classList.toggle("only-different", field.checked);
  }
});

document.addEventListener("input", (event) => {
  const field = event.target;
  if (field.dataset.for) document.getElementById(field.dataset.for).value = field.value;
  else {
    const range = document.querySelector(`input[data-for="${CSS.escape(field.id || "-")}"]`);
    if (range && field.value !== "") range.value = field.value;
  }
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.hasAttribute("data-copy")) {
    await navigator.clipboard.writeText(button.closest(".code").querySelector("pre").textContent);
    say(document.body.dataset.copied);
    button.classList.add("done");
    setTimeout(() => button.classList.remove("done"), 1500);
  }
  if (button.id === "new-seed") {
    const seed = document.getElementById("seed");
    seed.value = Math.floor(Math.random() * 1e6);
    seed.dispatchEvent(new Event("change", { bubbles: true }));
  }
});

const viewer = document.getElementById("viewer");
document.body.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id === "viewer-body") {
    if (!viewer.open) viewer.showModal();
    showItem(viewer);
  } else startFilms(event.detail.target);
});
viewer.addEventListener("close", () => {
  document.getElementById("viewer-body").replaceChildren();
});
viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());

// An answer to a request whose part is gone meanwhile is of no use, and no fault.
document.body.addEventListener("htmx:sendError", (event) => event.preventDefault());

startFilms(document);
watchCurves();
startEditing();
listen();
