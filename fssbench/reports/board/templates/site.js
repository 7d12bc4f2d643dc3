// Sorting, filtering and copying. Without this file every page shows everything, in order of mIoU.
"use strict";

const ROW_FILTERS = ["backbone", "supervision", "trained", "origin"];
const BOARD_FILTERS = ["dataset", "protocol", "way", "shot"];

function cellValue(row, column, kind) {
  const cell = row.cells[column];
  const text = cell.dataset.value ?? cell.textContent.trim();
  if (kind === "text") return text.toLowerCase();
  return text === "" ? null : Number(text);
}

// Missing values stay last in both directions; equal ones keep their order.
function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === "string") return sign * a.localeCompare(b);
  return sign * (a - b);
}

function sortTable(table, header, direction) {
  const column = header.cellIndex;
  const kind = header.dataset.sort;
  const sign = direction === "ascending" ? 1 : -1;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  rows.sort((a, b) => compare(cellValue(a, column, kind), cellValue(b, column, kind), sign));
  body.append(...rows);
  for (const other of table.tHead.rows[0].cells) {
    if (other.dataset.sort) other.setAttribute("aria-sort", other === header ? direction : "none");
  }
}

function makeSortable(table) {
  for (const header of table.querySelectorAll("thead th[data-sort]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const first = header.dataset.sort === "number" ? "descending" : "ascending";
      const second = first === "descending" ? "ascending" : "descending";
      sortTable(table, header, header.getAttribute("aria-sort") === first ? second : first);
    });
  }
}

function matches(element, names, wanted) {
  return names.every((name) => !wanted[name] || element.dataset[name] === wanted[name]);
}

function applyFilters(form) {
  const wanted = Object.fromEntries(new FormData(form));
  const word = (wanted.method ?? "").trim().toLowerCase();
  let shown = 0;
  let total = 0;
  for (const board of document.querySelectorAll(".board")) {
    const open = matches(board, BOARD_FILTERS, wanted);
    let here = 0;
    for (const row of board.querySelectorAll(".ranking tbody tr")) {
      total += 1;
      const keep = open && matches(row, ROW_FILTERS, wanted) && row.dataset.method.toLowerCase().includes(word);
      row.hidden = !keep;
      here += keep;
    }
    board.hidden = here === 0;
    shown += here;
  }
  for (const bank of document.querySelectorAll(".bank")) {
    bank.hidden = bank.querySelector(".board:not([hidden])") === null;
  }
  document.getElementById("count").textContent = shown === total ? `${total} results` : `${shown} of ${total} results`;
  document.getElementById("nothing").hidden = shown > 0 || total === 0;
}

// The choice of filters is kept behind a "?" in the address, so that a view can be sent to somebody.
function rememberFilters(form) {
  const chosen = [...new FormData(form)].filter(([, value]) => value !== "");
  const query = new URLSearchParams(chosen).toString();
  try {
    history.replaceState(null, "", (query ? `?${query}` : location.pathname) + location.hash);
  } catch (error) {
    if (error.name !== "SecurityError") throw error; // some browsers forbid it on file://
  }
}

function recallFilters(form) {
  for (const [name, value] of new URLSearchParams(location.search)) {
    const field = form.elements.namedItem(name);
    if (field) field.value = value;
    if (field && field.value !== value) field.value = ""; // an option that this site does not have
  }
}

// Columns are hidden by classes of the page; the box of a hidden one is not part of the address.
function startColumns(form) {
  const narrow = matchMedia("(max-width: 46rem)").matches;
  for (const box of form.querySelectorAll("[data-column]")) {
    const apply = () => document.body.classList.toggle(`no-${box.dataset.column}`, !box.checked);
    if (box.dataset.column === "supervision" && narrow) box.checked = false; // the mean is in sight instead
    apply();
    box.addEventListener("change", apply);
    form.addEventListener("reset", () => setTimeout(apply));
  }
}

function startFilters(form) {
  form.hidden = false;
  startColumns(form);
  recallFilters(form);
  const update = () => { applyFilters(form); rememberFilters(form); };
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(update));
  applyFilters(form);
}

function startCopy(button) {
  const source = document.getElementById(button.dataset.copy);
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source); // no clipboard here: leave the text selected
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

document.querySelectorAll("table").forEach((table) => { if (table.tHead) makeSortable(table); });
document.querySelectorAll("[data-copy]").forEach(startCopy);
const filters = document.getElementById("filters");
if (filters) startFilters(filters);
