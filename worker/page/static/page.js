// Keeps the page up to date, and says how old it is. Without this file links and forms do the same.
const PERIOD = 4000;
const STALE = 3 * PERIOD;
const root = document.documentElement;
const live = document.getElementById("live");
const status = document.getElementById("status");
const announcer = document.getElementById("announcer");
// The server's clock is what all ages are measured by.
const skew = Date.parse(root.dataset.now) - Date.now();
const UNITS = [[86400, "d"], [3600, "h"], [60, "min"]];

function renderAge(seconds) {
  for (const [size, unit] of UNITS) {
    if (seconds >= 2 * size) return `${Math.round(seconds / size)} ${unit}`;
  }
  return `${Math.max(0, Math.round(seconds))} s`;
}

function renderDistance(seconds) {
  if (Math.abs(seconds) < 1) return "now";
  return seconds > 0 ? `${renderAge(seconds)} ago` : `in ${renderAge(-seconds)}`;
}

function renderLocal(moment) {
  const options = { dateStyle: "medium", timeStyle: "medium" };
  const zone = new Intl.DateTimeFormat(undefined, { timeZoneName: "short" })
    .formatToParts(moment).find((part) => part.type === "timeZoneName").value;
  return `${new Intl.DateTimeFormat(undefined, options).format(moment)} ${zone}`;
}

function updateTimes() {
  const now = Date.now() + skew;
  for (const element of document.querySelectorAll("time[datetime]")) {
    const moment = Date.parse(element.dateTime);
    const seconds = (now - moment) / 1000;
    const shown = element.dataset.as || root.dataset.zone;
    let text = null;
    if (shown === "age") text = renderAge(seconds);
    else if (shown === "until") text = renderDistance(Math.min(seconds, 0));
    else if (shown === "relative") text = renderDistance(seconds);
    else if (shown === "local") text = renderLocal(new Date(moment));
    if (text !== null && element.textContent !== text) element.textContent = text;
    if (!element.title && shown !== "utc") {
      element.title = element.dateTime.replace("T", " ").replace("Z", " UTC");
    }
  }
}

function findReasonToWait() {
  if (document.hidden) return "while hidden";
  const active = document.activeElement;
  if (active?.matches("input:not([type=checkbox], [type=submit]), select, textarea")) {
    return "while a field is in use";
  }
  if (document.querySelector("details.menu[open], dialog[open]")) return "while a menu is open";
  if (document.querySelector("form[data-selection] input[name=id]:checked")) return "while rows are selected";
  const selection = document.getSelection();
  const isSelecting = selection && !selection.isCollapsed && live?.contains(selection.anchorNode);
  return isSelecting ? "while text is selected" : null;
}

let answeredAt = Date.now();
let askedAt = Date.now();
let state = "live";

function announce(text) {
  if (announcer) announcer.textContent = text;
}

function showState() {
  const waits = findReasonToWait();
  const age = Date.now() - answeredAt;
  const next = waits ? "paused" : age > STALE ? "stale" : "live";
  if (next !== state && (next === "stale" || state === "stale")) {
    announce(next === "stale" ? "The server does not answer." : "The page is up to date again.");
  }
  state = next;
  status.dataset.state = state;
  const seconds = renderAge(age / 1000);
  const texts = {
    live: `updated ${seconds} ago`,
    paused: `updated ${seconds} ago, paused ${waits}`,
    stale: `no answer for ${seconds}; this is old`,
  };
  if (status.textContent !== texts[state]) status.textContent = texts[state];
}

function tick() {
  updateTimes();
  if (!live || !status) return;
  if (!findReasonToWait() && Date.now() - askedAt >= PERIOD) {
    askedAt = Date.now();
    htmx.trigger(live, "refresh");
  }
  showState();
}

let announced = live?.querySelector("[data-announce]")?.dataset.announce;

document.addEventListener("htmx:after:request", (event) => {
  const code = event.detail.ctx.response.status;
  if (code === 200 || code === 304) answeredAt = Date.now();
});

document.addEventListener("htmx:after:swap", () => {
  updateTimes();
  const text = live.querySelector("[data-announce]")?.dataset.announce;
  if (text && text !== announced) announce(text);
  announced = text;
});

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) askedAt = 0;
  tick();
});

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("input, select, textarea");
  if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey) {
    document.getElementById("search")?.focus();
    event.preventDefault();
  }
});

root.classList.add("scripted");
tick();
setInterval(tick, 1000);
