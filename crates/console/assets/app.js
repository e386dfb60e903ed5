// What pages do beyond links and forms. Every page works without it.
"use strict";

// Copies the text of the element that a button names.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  if (!source) return;
  try {
    await navigator.clipboard.writeText(source.textContent.trim());
    const said = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = said; }, 1500);
  } catch {
    getSelection().selectAllChildren(source);
  }
});

// A form that is sent twice would be done twice. What was pressed shows that it is under way.
document.addEventListener("submit", (event) => {
  event.submitter?.setAttribute("aria-busy", "true");
  for (const button of event.target.querySelectorAll("button[type=submit]")) {
    setTimeout(() => { button.disabled = true; }, 0);
  }
});
addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("button[type=submit]:disabled")) button.disabled = false;
  for (const button of document.querySelectorAll("button[aria-busy]")) button.removeAttribute("aria-busy");
});

// A page that came back because something was refused stands at the address of the form: loading it again would send the form
// again.
const stands = document.querySelector("[data-stands-at]");
if (stands) history.replaceState(history.state, "", stands.dataset.standsAt);

// Answers that say what is wrong carry 4xx and belong on the page all the same.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.xhr.status === 422 || event.detail.xhr.status === 409) {
    event.detail.shouldSwap = true;
    event.detail.isError = false;
  }
});

// A swap takes the focus away with what had it. htmx gives it back to what has the same id; this does to what is called the
// same, and else to the page, so that the next Tab does not begin at the top.
const called = (it) => [it.tagName, it.getAttribute("name"), it.getAttribute("aria-labelledby") ?? it.textContent.trim()].join(" ");
let had = null;
document.addEventListener("htmx:beforeSwap", (event) => {
  const it = document.activeElement;
  had = it && it !== document.body && !it.id && event.detail.target.contains(it) ? called(it) : null;
});
document.addEventListener("htmx:afterSettle", () => {
  if (had === null || document.activeElement !== document.body) return;
  const same = [...document.querySelectorAll("a, button, input, select, summary")].find((it) => called(it) === had);
  (same ?? document.getElementById("main"))?.focus({ preventScroll: true });
  had = null;
});

// What opens below a button, such as a question before something is destroyed, closes with Escape, and the button has the
// focus again.
document.addEventListener("keydown", (event) => {
  const open = event.key === "Escape" && event.target.closest("details[open]");
  if (!open) return;
  open.open = false;
  open.querySelector("summary").focus();
});

// The search box: `/` goes to it, the arrow keys through what it suggests, Escape puts the suggestions away.
document.addEventListener("keydown", (event) => {
  const box = document.getElementById("search");
  const suggestions = document.getElementById("suggestions");
  if (!box || !suggestions) return;
  const writing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "/" && !writing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    box.focus();
    return;
  }
  if (event.target !== box && !suggestions.contains(event.target)) return;
  if (event.key === "Escape") {
    suggestions.replaceChildren();
    box.focus();
    return;
  }
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const stops = [box, ...suggestions.querySelectorAll("a")];
  const next = stops.indexOf(event.target) + (event.key === "ArrowDown" ? 1 : -1);
  event.preventDefault();
  stops[(next + stops.length) % stops.length].focus();
});
document.addEventListener("click", (event) => {
  const suggestions = document.getElementById("suggestions");
  if (suggestions && !event.target.closest(".search")) suggestions.replaceChildren();
});
