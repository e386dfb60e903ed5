// What the editor of pipelines does beyond its buttons. It works without: every step has a button in the list of steps.
"use strict";

const file = () => document.getElementById("document");

// The drawing: a step in it is chosen like its button in the list.
document.addEventListener("click", (event) => {
  const step = event.target.closest("a[data-step]");
  if (step) {
    const value = `select=${step.dataset.step}`;
    const button = [...document.querySelectorAll("button[name=turn]")].find((it) => it.value === value);
    if (!button) return;
    event.preventDefault();
    button.click();
  }
  const line = event.target.closest("[data-line]");
  if (line && file()) {
    const lines = file().value.split("\n");
    const index = Math.min(Number(line.dataset.line), lines.length) - 1;
    const begin = lines.slice(0, index).join("\n").length + (index > 0 ? 1 : 0);
    file().focus();
    file().setSelectionRange(begin, begin + lines[index].length);
  }
});

// The file has as many numbers as lines, also before the server has seen them.
document.addEventListener("input", (event) => {
  if (event.target !== file()) return;
  const numbers = document.getElementById("lines");
  const count = file().value.split("\n").length;
  file().rows = Math.max(count, 12);
  while (numbers.children.length < count) numbers.append(document.createElement("li"));
  while (numbers.children.length > count) numbers.lastElementChild.remove();
});

// What somebody types while an answer is under way stays in its field.
let typed = null;
document.addEventListener("htmx:beforeSwap", (event) => {
  const field = document.activeElement;
  const within = field && field.id && event.detail.target.contains(field) && "value" in field && field.type !== "checkbox";
  typed = within && field !== file() ? { id: field.id, value: field.value, shown: field.defaultValue } : null;
});
document.addEventListener("htmx:afterSwap", () => {
  const field = typed && document.getElementById(typed.id);
  if (field && typed.value !== typed.shown) field.value = typed.value;
  typed = null;
});

// Why there is no answer stands where it is looked for, and what somebody wrote stays.
document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr, target } = event.detail;
  const place = target.id === "try" ? target : document.getElementById("faults");
  if (xhr.status < 400 || xhr.status === 401 || !place) return;
  Object.assign(event.detail, { shouldSwap: true, isError: false, target: place, swapOverride: "innerHTML", selectOverride: "main .card" });
});
