// What markup and htmx cannot say. Listeners on the document outlive swaps.
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector) => document.querySelectorAll(selector);
const byId = (id) => document.getElementById(id);
const on = (name, act, target = document) => target.addEventListener(name, act);
const show = (element, isShown = true) => { if (element) element.hidden = !isShown; };

// A region that says the same stays silent, hence emptied. Polite ones are merged, one per 10 s.
const spoken = { waiting: [], nextAt: 0, timer: 0, seen: "" };

function speak(id, text) {
  byId(id).textContent = "";
  setTimeout(() => { byId(id).textContent = text; }, 60);
}

function announce(text) {
  spoken.waiting.push(text);
  clearTimeout(spoken.timer);
  spoken.timer = setTimeout(() => {
    speak("live-status", spoken.waiting.splice(0).join(". "));
    spoken.nextAt = Date.now() + 10_000;
  }, Math.max(0, spoken.nextAt - Date.now()));
}

const MINUTE = 60_000, IDLE = 30 * MINUTE, ASLEEP = 480 * MINUTE;
const poll = { failures: 0, notBefore: 0, triedAt: 0, updatedAt: Date.now(), usedAt: Date.now() };
const isPoll = (ctx) => ctx?.sourceElement?.id === "live";
const interval = () => parseInt(byId("live")?.getAttribute("hx-trigger").slice(6)) || 4_000;
const lookNow = () => document.body.dispatchEvent(new CustomEvent("live:now"));

function pause(text) {
  const timeZone = document.documentElement.dataset.tz || undefined;
  const at = new Date(poll.updatedAt).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", timeZone });
  byId("live-banner-text").textContent = text ?? `Live updates paused. Last updated ${at}.`;
  show(byId("live-banner"));
}

// Here, because htmx's trigger filters need eval.
function mayPoll(now, isAsked) {
  if (document.hidden || !navigator.onLine) return false;
  if (isAsked) return true;
  const idle = now - poll.usedAt;
  if (idle > ASLEEP) pause("Paused, press to resume.");
  return now >= poll.notBefore && idle <= ASLEEP && (idle <= IDLE || now - poll.triedAt >= MINUTE - 500);
}

function pollFailed() {
  poll.failures += 1;
  // Slack for a tick on the mark.
  poll.notBefore = Date.now() + Math.min(MINUTE, interval() * 2 ** poll.failures) - 500;
  if (poll.failures > 1) pause();
}

function pollWorked() {
  Object.assign(poll, { failures: 0, notBefore: 0, updatedAt: Date.now() });
  show(byId("live-banner"), false);
}

on("htmx:config:request", (event) => {
  const { ctx } = event.detail;
  if (!isPoll(ctx)) return;
  if (mayPoll(Date.now(), ctx.sourceEvent?.type === "live:now")) poll.triedAt = Date.now();
  else event.preventDefault();
});

for (const name of ["keydown", "pointerdown", "focusin"]) on(name, () => { poll.usedAt = Date.now(); });
on("visibilitychange", () => document.hidden || lookNow());
on("online", lookNow, window);
on("offline", () => byId("live") && pause(), window);
on("pageshow", (event) => {
  for (const form of $$(".busy")) form.classList.remove("busy");
  if (event.persisted) lookNow();
}, window);

function failed(ctx) {
  if (isPoll(ctx)) return pollFailed();
  const source = ctx?.sourceElement;
  const note = source?.matches?.("[data-composer]") ? $("[data-send-error]", source) : byId("request-error");
  show(note);
  if (note) speak("live-alert", note.textContent.trim());
}

// 4xx carry their own words.
on("htmx:response:error", ({ detail: { ctx } }) => (isPoll(ctx) || ctx.response.status >= 500) && failed(ctx));
on("htmx:error", ({ detail }) => failed(detail.ctx));

on("htmx:after:request", ({ detail: { ctx } }) => {
  if (ctx.response.status >= 400) return;
  if (isPoll(ctx)) return pollWorked();
  show(byId("request-error"), false);
  if (ctx.sourceElement.matches("[data-composer]")) sent(ctx.sourceElement);
});

// Append means add or update: our own answer comes again with the poll. Each keeps its place before the next.
on("htmx:before:swap", ({ detail: { tasks } }) => {
  for (const task of [...tasks]) {
    if (!/^(before|after)(end|begin)$/.test(task.swapSpec.style)) continue;
    let { fragment } = task;
    for (const fresh of [...fragment.children].reverse()) {
      const target = fresh.id && byId(fresh.id);
      const add = (style) => target && tasks.push({ ...task, fragment: fragment = new DocumentFragment(), target, swapSpec: { style } });
      add("outerMorph");
      fragment.prepend(fresh);
      add("beforebegin");
    }
  }
});

// News load by themselves when nobody's hand is on the list.
function tidyDesk() {
  const open = byId("thread-title")?.dataset.url, news = $("[data-auto-refresh]"), list = byId("list-body");
  for (const row of $$(".row-link")) row.ariaCurrent = row.pathname === open || null;
  if (!news || list.scrollTop || list.matches(":hover, :focus-within")) return;
  delete news.dataset.autoRefresh;
  news.click();
}

on("htmx:finally:request", ({ detail: { ctx } }) => {
  const item = ctx?.sourceElement?.closest?.(".msg");
  if (ctx?.target?.id === "composer-reply") $("[data-composer] textarea")?.focus();
  else if (item && document.activeElement === document.body) $(".msg-foot :is(a, button)", byId(item.id))?.focus();
});

on("htmx:after:swap", () => {
  tidyDesk();
  const title = byId("live-title")?.dataset, news = byId("live-announce")?.dataset, favicon = byId("favicon");
  if (title && "unread" in title) {
    document.title = (title.unread ? `(${title.unread}) ` : "") + (title.title || document.title.replace(/^\(\d+\) /, ""));
    const href = "attention" in title ? favicon.dataset.attention : favicon.dataset.calm;
    if (favicon.getAttribute("href") !== href) favicon.href = href;
  }
  if (!news || news.id === spoken.seen) return;
  spoken.seen = news.id;
  announce(news.polite);
});

// A changed row glows once; the policy forbids inline styles.
on("htmx:after:settle", ({ target }) => {
  // No news: a countdown.
  if (!target.matches?.(".row, .msg:not(:has([data-key=z])), [data-glow]") || matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  const tint = getComputedStyle(target).getPropertyValue("--accent-bg");
  ($(":scope > :not(span)", target) ?? target).animate({ backgroundColor: [tint, ""] }, 1600);
});

function sent(form) {
  const text = $("textarea", form), log = $("[data-log]");
  form.reset(); // Priority too: High is chosen each time.
  text.value = "";
  delete drafts[form.action];
  show($("[data-send-error]", form), false);
  if (log) log.isAtEnd = true;
  count(text);
  text.focus();
}

function count(text) {
  const counter = byId(text.dataset.count), most = Number(text.dataset.max) || text.maxLength;
  if (!counter) return;
  const left = most - [...text.value].length;
  counter.hidden = left > most / 5;
  counter.classList.toggle("is-over", left < 0);
  counter.textContent = left < 0 ? `${-left} characters too many` : `${left} characters left`;
}

const drafts = {};

on("input", ({ target }) => {
  if (target.dataset.count) count(target);
  if (target.matches("[data-composer] textarea")) drafts[target.form.action] = target.value;
});

// No second native post under way; htmx forms have hx-sync.
on("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  if (form.classList.contains("busy")) event.preventDefault();
  form.classList.add("busy");
});

function watchLog(log) {
  const button = $("[data-new]", log.parentElement), list = $(".log-list", log), toEnd = () => { log.scrollTop = log.scrollHeight; };
  let fresh = 0, height = 0, top = 0;
  log.isAtEnd = true;
  on("scroll", () => {
    height = log.scrollHeight;
    // Only scrolling up leaves the end.
    log.isAtEnd = height - log.scrollTop - log.clientHeight < 48 || (log.isAtEnd && log.scrollTop >= top);
    top = log.scrollTop;
    if (!log.isAtEnd) return;
    fresh = 0;
    show(button, false);
  }, log);
  if (button) on("click", toEnd, button);
  new MutationObserver((changes) => {
    if (log.isAtEnd) return;
    const grown = log.scrollHeight - height;
    height += grown;
    // At the top the browser does not anchor.
    if (!log.scrollTop && changes.some((change) => !change.previousSibling?.previousElementSibling)) log.scrollTop = grown;
    // Older messages land before others; only the end is new.
    const added = changes.flatMap((change) => (change.nextSibling?.nextElementSibling ? [] : [...change.addedNodes]));
    fresh += added.filter((node) => node.matches?.(".msg")).length;
    if (!fresh || !button) return;
    button.lastElementChild.textContent = `${fresh} new`;
    show(button);
  }).observe(list, { childList: true });
  // When composer or list grow, the end stays in sight.
  for (const part of [log, list]) new ResizeObserver(() => log.isAtEnd && toEnd()).observe(part);
  const start = byId(location.hash.slice(1)) ?? $(".new-rule", log);
  if (!start) return toEnd();
  log.isAtEnd = false;
  start.scrollIntoView({ block: "center" });
}

function prepare() {
  const log = $("[data-log]");
  if (log && !("isAtEnd" in log)) watchLog(log);
  for (const text of $$("[data-count]")) {
    text.value ||= drafts[text.form.action] ?? "";
    count(text);
  }
  for (const button of $$("[data-needs-js]")) show(button);
}

async function copy(button) {
  const text = button.dataset.copy || $(button.dataset.copyFrom).textContent.trim();
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Plain http has no clipboard.
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
  const field = byId(button.dataset.reveal), isHidden = field.type === "password";
  field.type = isHidden ? "text" : "password";
  button.ariaPressed = isHidden;
}

on("click", ({ target, isTrusted }) => {
  if (isTrusted && target.closest("#inbox-news")) byId("list-body").focus();
  const button = target.closest("[data-copy], [data-copy-from], [data-reveal], [data-dialog], [data-live-now]");
  if (!button) return;
  const { dialog, reveal: field, liveNow } = button.dataset;
  if (field) reveal(button);
  else if (dialog) byId(dialog).showModal();
  else if (liveNow === "") lookNow();
  else copy(button);
});

let prefix = "";

function step(direction) {
  const rows = [...$$(".row-link, [data-row]")].filter((row) => row.checkVisibility());
  const at = rows.indexOf(document.activeElement);
  (rows[at + direction] ?? rows[Math.max(at, 0)])?.focus();
}

// data-key is an element's key, the last wins; "g i" is g, then i within a second.
function press(key) {
  const element = [...$$(`[data-key=${JSON.stringify(key)}]`)].at(-1);
  element?.[element.matches("input, textarea") ? "focus" : "click"]();
  return element;
}

on("keydown", (event) => {
  const { key, target } = event, composer = target.closest?.("[data-composer]");
  if (composer && key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) return composer.requestSubmit();
  if (composer && key === "Escape") return $("[data-log]")?.focus();
  const isTyping = event.isComposing || target.matches("input:not([type=radio], [type=checkbox]), textarea, select");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || document.body.dataset.shortcuts !== "on" || $("dialog[open]")) return;
  if (!prefix && (key === "j" || key === "k")) return step(key === "j" ? 1 : -1);
  if (press(prefix + key)) event.preventDefault(); // or it lands in the field
  prefix = !prefix && key === "g" ? "g " : "";
  if (prefix) setTimeout(() => { prefix = ""; }, 1_000);
});

on("DOMContentLoaded", prepare);
on("htmx:after:process", prepare);
