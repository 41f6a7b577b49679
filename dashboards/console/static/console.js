// Keeps a page up to date and opens details beside it. Every page works without it.
"use strict";

const PERIOD_MS = 5000;
const live = document.getElementById("live");
const panel = document.getElementById("panel");
const toggle = document.querySelector("[data-live-switch]");
let tag = "";
let from = null; // What opened the panel: it has the focus again when the panel closes.
let on = true;

async function part(address, name, headers) {
  return fetch(address, { headers: { "X-Hopwatch-Part": name, ...headers }, credentials: "same-origin" });
}

// A link is known again by its address, and by which of the links with that address it is, after the page around it was renewed.
function links(address) {
  return live ? [...live.querySelectorAll("a[href]")].filter((one) => one.getAttribute("href") === address) : [];
}

function place(link) {
  const address = link?.getAttribute("href");
  return address ? [address, links(address).indexOf(link)] : null;
}

function again(known) {
  return known && (links(known[0])[known[1]] || links(known[0])[0]);
}

async function renew() {
  if (!on || document.hidden) return;
  let answer;
  try {
    answer = await part(location.href, "live", tag ? { "If-None-Match": tag } : {});
  } catch {
    return say("not reached");
  }
  if (answer.status === 401) return location.reload();
  if (answer.status === 304) return say("");
  if (!answer.ok) return say("not reached");
  const text = await answer.text();
  tag = answer.headers.get("ETag") || "";
  say("");
  const focused = live.contains(document.activeElement) ? place(document.activeElement) : null;
  const scrolled = [...live.querySelectorAll(".sheet, .scroll")].map((one) => [one.scrollLeft, one.scrollTop]);
  live.innerHTML = text;
  [...live.querySelectorAll(".sheet, .scroll")].forEach((one, place) => {
    if (scrolled[place]) [one.scrollLeft, one.scrollTop] = scrolled[place];
  });
  again(focused)?.focus({ preventScroll: true });
}

function say(text) {
  if (!toggle) return;
  toggle.textContent = text ? "Live: " + text : on ? "Live" : "Paused";
  toggle.classList.toggle("lost", Boolean(text));
}

async function open(link) {
  let answer;
  try {
    answer = await part(link.getAttribute("href"), "panel", {});
  } catch {
    return location.assign(link.getAttribute("href"));
  }
  if (answer.status === 401) return location.reload();
  if (!panel.contains(link)) from = { link, known: place(link) };
  panel.innerHTML = await answer.text();
  panel.hidden = false;
  (panel.querySelector("h1") || panel).focus();
}

function close() {
  panel.hidden = true;
  panel.replaceChildren();
  (from && document.contains(from.link) ? from.link : again(from?.known))?.focus();
  from = null;
}

document.addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = event.target.closest("[data-open]");
  if (link && panel) {
    event.preventDefault();
    open(link);
  } else if (event.target.closest("[data-close]")) {
    close();
  } else if (event.target.closest("[data-copy]")) {
    const button = event.target.closest("[data-copy]");
    const text = document.getElementById(button.dataset.copy).textContent;
    navigator.clipboard.writeText(text).then(() => (button.textContent = "Copied"));
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && panel && !panel.hidden) close();
});

if (live) {
  setInterval(renew, PERIOD_MS);
  renew();
  toggle?.addEventListener("click", () => {
    on = !on;
    toggle.setAttribute("aria-pressed", String(on));
    say("");
    if (on) renew();
  });
} else if (toggle) {
  toggle.hidden = true;
}
