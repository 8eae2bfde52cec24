// What markup and htmx cannot say by themselves. No eval, no inline handlers: the page's Content-Security-Policy forbids both.
// Everything listens on the document, so that content swapped in later needs no set-up of its own.
const $ = (selector, root = document) => root.querySelector(selector);
const on = (name, act, target = document) => target.addEventListener(name, act);
const show = (element, isShown = true) => { if (element) element.hidden = !isShown; };

// --- Announcements -----------------------------------------------------------------------------------------------------
// A screen reader ignores a region that is set to what it already says, hence emptied first. Polite sentences are merged
// and spoken at most every 10 s: a busy fleet must not talk over its reader.
const spoken = { waiting: [], nextAt: 0, timer: 0, seen: "" };

function speak(region, text) {
  region.textContent = "";
  setTimeout(() => { region.textContent = text; }, 60);
}

function announce(text) {
  if (text) spoken.waiting.push(text);
  clearTimeout(spoken.timer);
  spoken.timer = setTimeout(() => {
    speak($("#live-status"), spoken.waiting.splice(0).join(". "));
    spoken.nextAt = Date.now() + 10_000;
  }, Math.max(0, spoken.nextAt - Date.now()));
}

const alarm = (text) => text && speak($("#live-alert"), text);

// --- The poll: when it may run, and what a failure means ----------------------------------------------------------------
const SLOW = 60_000, IDLE = 30 * SLOW, ASLEEP = 8 * 60 * SLOW;
const poll = { failures: 0, notBefore: 0, triedAt: 0, updatedAt: Date.now(), usedAt: Date.now() };
const isPoll = (ctx) => ctx?.sourceElement?.id === "live";
const interval = () => Number(/every (\d+)ms/.exec($("#live")?.getAttribute("hx-trigger"))?.[1]) || 5_000;
const lookNow = () => $("#live") && document.body.dispatchEvent(new CustomEvent("live:now"));

function pause(text) {
  const zone = document.documentElement.dataset.tz || undefined;
  const at = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: zone }).format(poll.updatedAt);
  $("#live-banner-text").textContent = text || `Live updates paused. Last updated ${at}.`;
  show($("#live-banner"));
}

function mayPoll(now, isAsked) {
  if (document.hidden || !navigator.onLine) return false;
  if (isAsked) return true;
  const idle = now - poll.usedAt;
  if (idle > ASLEEP) pause("Paused, press to resume.");
  return now >= poll.notBefore && idle <= ASLEEP && (idle <= IDLE || now - poll.triedAt >= SLOW - 500);
}

function pollFailed() {
  poll.failures += 1;
  // Half a second of slack: the tick that falls on the mark must not be taken for an early one.
  poll.notBefore = Date.now() + Math.min(SLOW, interval() * 2 ** poll.failures) - 500;
  if (poll.failures > 1) pause();
}

function pollWorked() {
  Object.assign(poll, { failures: 0, notBefore: 0, updatedAt: Date.now() });
  show($("#live-banner"), false);
}

on("htmx:config:request", (event) => {
  const { ctx } = event.detail;
  if (!isPoll(ctx)) return;
  const now = Date.now();
  if (mayPoll(now, ctx.sourceEvent?.type === "live:now")) poll.triedAt = now;
  else event.preventDefault();
});

for (const name of ["keydown", "pointerdown", "focusin"]) on(name, () => { poll.usedAt = Date.now(); });
on("visibilitychange", () => document.hidden || lookNow());
on("online", lookNow, window);
on("offline", () => $("#live") && pause(), window);
on("pageshow", (event) => {
  for (const form of document.querySelectorAll(".busy")) form.classList.remove("busy");
  if (event.persisted) lookNow();
}, window);

// --- Answers ------------------------------------------------------------------------------------------------------------
function failed(ctx) {
  const form = ctx?.sourceElement;
  if (isPoll(ctx)) return pollFailed();
  const isSend = form?.matches?.("[data-composer]");
  const note = isSend ? $("[data-send-error]", form) : $("#request-error");
  show(note);
  alarm(note?.textContent.trim());
}

// 4xx answers carry their own words; only 5xx, time-outs and lost connections are ours to explain.
on("htmx:response:error", ({ detail: { ctx } }) => (isPoll(ctx) || ctx.response.status >= 500) && failed(ctx));
on("htmx:error", ({ detail }) => failed(detail.ctx));

on("htmx:after:request", ({ detail: { ctx } }) => {
  if (ctx.response.status >= 400) return;
  if (isPoll(ctx)) return pollWorked();
  show($("#request-error"), false);
  if (ctx.sourceElement.matches("[data-composer]")) sent(ctx.sourceElement);
});

// Append means "add or update": a message that came with our own answer comes again with the next poll.
on("htmx:before:swap", ({ detail: { tasks } }) => {
  for (const task of [...tasks]) {
    if (!/^(beforeend|afterbegin)$/.test(task.swapSpec.style)) continue;
    for (const fresh of [...task.fragment.children]) {
      const target = fresh.id && document.getElementById(fresh.id);
      if (!target) continue;
      const fragment = document.createDocumentFragment();
      fragment.append(fresh);
      tasks.push({ ...task, fragment, target, swapSpec: { style: "outerMorph" } });
    }
  }
});

on("htmx:after:swap", () => {
  const title = $("#live-title"), news = $("#live-announce"), favicon = $("#favicon");
  if (title) {
    document.title = title.dataset.title;
    const href = "attention" in title.dataset ? favicon.dataset.attention : favicon.dataset.calm;
    if (favicon.getAttribute("href") !== href) favicon.href = href;
  }
  if (news && news.dataset.id !== spoken.seen) {
    spoken.seen = news.dataset.id;
    if (news.dataset.polite) announce(news.dataset.polite);
    alarm(news.dataset.alert);
  }
});

// A changed row or bubble glows once. An animation, because an inline style would break the policy.
on("htmx:after:settle", ({ target }) => {
  if (!target.matches?.(".row, .msg, [data-glow]") || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const tint = getComputedStyle(target).getPropertyValue("--accent-bg");
  (target.firstElementChild ?? target).animate({ backgroundColor: [tint, ""] }, 1600);
});

// --- Writing ------------------------------------------------------------------------------------------------------------
function sent(form) {
  const text = $("textarea", form), log = $("[data-log]");
  form.reset(); // Priority goes back to Medium: a High must be chosen each time.
  text.value = "";
  show($("[data-send-error]", form), false);
  if (log) log.isAtEnd = true;
  count(text);
  text.focus();
}

function count(text) {
  const counter = document.getElementById(text.dataset.count), most = Number(text.dataset.max) || text.maxLength;
  if (!counter || most < 1) return;
  const left = most - [...text.value].length;
  counter.hidden = left > most / 5;
  counter.classList.toggle("is-over", left < 0);
  counter.textContent = left < 0 ? `${-left} characters too many` : `${left} characters left`;
}

on("input", ({ target }) => target.dataset?.count && count(target));

// htmx forms have hx-sync; a native post that is on its way must not be posted again by a second click.
on("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  if (form.classList.contains("busy")) event.preventDefault();
  form.classList.add("busy");
});

// --- The thread ---------------------------------------------------------------------------------------------------------
function watchLog(log) {
  const list = $(".log-list", log), button = $("[data-new]", log.parentElement);
  const toEnd = () => { log.scrollTop = log.scrollHeight; };
  let fresh = 0;
  log.isAtEnd = true;
  on("scroll", () => {
    log.isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 48;
    if (log.isAtEnd) { fresh = 0; show(button, false); }
  }, log);
  if (button) on("click", toEnd, button);
  new MutationObserver((changes) => {
    if (log.isAtEnd) return toEnd();
    const added = changes.flatMap((change) => (change.nextSibling?.nextElementSibling ? [] : [...change.addedNodes]));
    fresh += added.filter((node) => node.matches?.(".msg")).length;
    if (!fresh || !button) return;
    button.lastElementChild.textContent = `${fresh} new`;
    show(button);
  }).observe(list, { childList: true });
  // The composer grows while one writes: the last message stays in sight.
  new ResizeObserver(() => log.isAtEnd && toEnd()).observe(log);
  const start = document.getElementById(location.hash.slice(1)) ?? $(".new-rule", log);
  if (start) start.scrollIntoView({ block: "center" });
  else toEnd();
}

function prepare() {
  const log = $("[data-log]");
  if (log && !("isAtEnd" in log)) watchLog(log);
  for (const text of document.querySelectorAll("textarea[data-count]")) count(text);
  for (const button of document.querySelectorAll("[data-needs-js]")) button.hidden = false;
}

// --- Buttons ------------------------------------------------------------------------------------------------------------
async function copy(button) {
  const text = button.dataset.copy || $(button.dataset.copyFrom).textContent.trim();
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Plain http (an intranet address) has no clipboard interface: select a copy and use the old command.
    const box = document.body.appendChild(Object.assign(document.createElement("textarea"), { value: text }));
    box.select();
    document.execCommand("copy");
    box.remove();
    button.focus();
  }
  const label = button.lastElementChild, before = label.textContent;
  if (before !== "Copied") setTimeout(() => { label.textContent = before; }, 2_000);
  label.textContent = "Copied";
  announce("Copied");
}

function reveal(button) {
  const field = document.getElementById(button.dataset.reveal), isShown = field.type === "password";
  field.type = isShown ? "text" : "password";
  button.setAttribute("aria-pressed", isShown);
}

on("click", (event) => {
  const button = event.target.closest?.("[data-copy], [data-copy-from], [data-reveal], [data-dialog], [data-live-now]");
  if (!button) return;
  const { dataset } = button;
  if ("reveal" in dataset) reveal(button);
  else if ("dialog" in dataset) document.getElementById(dataset.dialog).showModal();
  else if ("liveNow" in dataset) lookNow();
  else copy(button);
});

// --- Keys ---------------------------------------------------------------------------------------------------------------
// An element says by data-key which key presses or focuses it; "g i" is g, then i within a second.
let prefix = "";

function step(direction) {
  const rows = [...document.querySelectorAll(".row-link, [data-row]")].filter((row) => row.checkVisibility());
  const at = rows.indexOf(document.activeElement);
  (rows[at + direction] ?? (at < 0 ? rows[0] : rows[at]))?.focus();
}

function press(key) {
  const element = $(`[data-key=${JSON.stringify(key)}]`);
  if (!element) return false;
  if (element.matches("input, textarea")) element.focus();
  else element.click();
  return true;
}

on("keydown", (event) => {
  const { key, target } = event;
  const composer = target.closest?.("[data-composer]");
  if (composer && key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) return composer.requestSubmit();
  if (composer && key === "Escape") return $("[data-log]")?.focus();
  const isTyping = event.isComposing || target.matches?.("input:not([type=radio], [type=checkbox]), textarea, select, [contenteditable]");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || document.body.dataset.shortcuts !== "on" || $("dialog[open]")) return;
  if (!prefix && (key === "j" || key === "k")) return step(key === "j" ? 1 : -1);
  if (press(prefix + key)) event.preventDefault(); // or the key would land in the field that it focuses
  prefix = !prefix && key === "g" ? "g " : "";
  if (prefix) setTimeout(() => { prefix = ""; }, 1_000);
});

on("DOMContentLoaded", prepare);
on("htmx:after:process", prepare);
