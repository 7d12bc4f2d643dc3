// Compares two results of a board. Episodes lie in a script beside the page, IoUs in one beside each result.
"use strict";

const SHOWN = 50; // episodes in the table

function loadIous(slug) {
  if (window.fssbenchIous?.[slug]) return Promise.resolve(window.fssbenchIous[slug]);
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `../records/${encodeURIComponent(slug)}/ious.js`;
    script.onload = () => resolve(window.fssbenchIous[slug]);
    script.onerror = () => reject(new Error(`${script.src} could not be read`));
    document.head.append(script);
  });
}

const percent = (value) => (value === null || value === undefined ? "–" : (100 * value).toFixed(1));
const signed = (value) => (value === null ? "–" : `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(1)}`);
const apart = (a, b) => (a === null || b === null || a === undefined || b === undefined ? null : a - b);

function cell(tag, text, className, value) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  if (value !== undefined) made.dataset.value = value ?? "";
  return made;
}

// A bar to the right where the first is better, to the left where the second is; 100 units are `most`.
function bar(difference, most) {
  const made = cell("td", "", "figure");
  if (difference === null) return made;
  const width = Math.min(100, (100 * Math.abs(difference)) / most);
  made.innerHTML = `<svg class="bar" viewBox="0 0 200 20" aria-hidden="true"><line class="grid" x1="100" x2="100" y1="0" y2="20"/>
    <rect class="${difference < 0 ? "second" : "first"}" x="${difference < 0 ? 100 - width : 100}" width="${width}" y="5" height="10"/></svg>`;
  return made;
}

// Rows that both have, with the first's IoU minus the second's; an empty union counts 0, as in `fssbench compare`.
function episodeChanges(a, b) {
  return a.ious.map((one, row) => ({ row, first: (one ?? 0) / 1000, second: (b.ious[row] ?? 0) / 1000 }))
    .map((each) => ({ ...each, change: each.first - each.second }));
}

function betterOn(changes) {
  if (!changes.length) return null;
  return changes.reduce((sum, each) => sum + (each.change > 0 ? 1 : each.change === 0 ? 0.5 : 0), 0) / changes.length;
}

function showFacts(a, b, changes) {
  const facts = [["First", percent(a.miou)], ["Second", percent(b.miou)], ["Difference", signed(apart(a.miou, b.miou))],
    ["First better on", `${percent(betterOn(changes))} % of episodes`]];
  document.getElementById("pair-facts").replaceChildren(...facts.map(([name, value]) => {
    const group = document.createElement("div");
    group.append(cell("dt", name), cell("dd", value));
    return group;
  }));
}

function verdict(form, a, b) {
  const names = ["first", "second"].map((name) => form.elements[name].selectedOptions[0].textContent);
  if (form.elements.first.value === form.elements.second.value) return "Twice the same result: choose another.";
  if (a.beats === null || b.beats === null) return "Without a rank or intervals for both there is no test of their difference.";
  const winner = a.beats.includes(form.elements.second.value) ? 0 : b.beats.includes(form.elements.first.value) ? 1 : -1;
  const how = "by paired tests over all pairs of this table after Holm's correction";
  return winner < 0 ? `No significant difference on these episodes, ${how}.` : `${names[winner]} is better, ${how}.`;
}

function showClasses(form, a, b, changes) {
  const rows = window.fssbenchRows;
  const names = Object.keys(a.classes).filter((name) => name in b.classes);
  const differences = names.map((name) => apart(a.classes[name][0], b.classes[name][0]));
  const most = Math.max(0.05, ...differences.map((value) => Math.abs(value ?? 0)));
  const made = names.map((name, i) => {
    const [value, , , fold, episodes] = a.classes[name];
    const mine = changes.filter((each) => rows.classes[rows.class[each.row]] === name);
    const line = document.createElement("tr");
    const head = cell("th", "", "", name);
    head.scope = "row";
    const button = cell("button", name);
    button.type = "button";
    button.title = `Show the episodes of ${name}`;
    button.addEventListener("click", () => {
      form.elements.class.value = name;
      form.dispatchEvent(new Event("input"));
      document.getElementById("pair-count").scrollIntoView({ block: "nearest" });
    });
    head.append(button);
    line.append(head, cell("td", fold, "number", fold), cell("td", episodes, "number", episodes),
      cell("td", percent(value), "number", value), cell("td", percent(b.classes[name][0]), "number", b.classes[name][0]),
      cell("td", signed(differences[i]), "number", differences[i]), bar(differences[i], most),
      cell("td", `${percent(betterOn(mine))} %`, "number", betterOn(mine)));
    return line;
  });
  document.querySelector("#pair-classes tbody").replaceChildren(...made);
}

function showEpisodes(form, changes) {
  const rows = window.fssbenchRows;
  const wanted = form.elements.class.value;
  const mine = wanted ? changes.filter((each) => rows.classes[rows.class[each.row]] === wanted) : [...changes];
  const keys = { most: (each) => Math.abs(each.change), up: (each) => each.change, down: (each) => -each.change };
  const key = keys[form.elements.order.value];
  mine.sort((x, y) => key(y) - key(x) || x.row - y.row);
  const made = mine.slice(0, SHOWN).map(({ row, first, second, change }) => {
    const line = document.createElement("tr");
    line.append(cell("td", `${rows.fold[row]} / ${rows.episode[row]}`), cell("td", rows.classes[rows.class[row]]),
      cell("td", percent(first), "number"), cell("td", percent(second), "number"), cell("td", signed(change), "number"),
      cell("td", rows.queries[rows.query[row]], "id"), cell("td", rows.supports[row], "id"));
    return line;
  });
  document.querySelector("#pair-episodes tbody").replaceChildren(...made);
  document.getElementById("pair-count").textContent =
    `${Math.min(SHOWN, mine.length)} of ${mine.length} episodes${wanted ? ` of ${wanted}` : ""}.`;
}

async function showPair(form) {
  const { first, second } = form.elements;
  const chosen = [first.value, second.value];
  const status = document.getElementById("pair-verdict");
  try {
    const [a, b] = await Promise.all(chosen.map(loadIous));
    if (chosen[0] !== first.value || chosen[1] !== second.value) return; // chosen anew while loading
    const changes = episodeChanges(a, b);
    status.textContent = verdict(form, a, b);
    showFacts(a, b, changes);
    showClasses(form, a, b, changes);
    showEpisodes(form, changes);
  } catch (error) {
    status.textContent = error.message;
  }
  document.getElementById("pair-result").hidden = false;
  history.replaceState(null, "", `?first=${encodeURIComponent(chosen[0])}&second=${encodeURIComponent(chosen[1])}`);
}

function startPair(form) {
  for (const name of window.fssbenchRows.classes) form.elements.class.append(new Option(name, name));
  const asked = new URLSearchParams(location.search);
  const known = [...form.elements.first.options].map((option) => option.value);
  form.elements.first.value = known.includes(asked.get("first")) ? asked.get("first") : known[0];
  const other = known.find((slug) => slug !== form.elements.first.value);
  form.elements.second.value = known.includes(asked.get("second")) ? asked.get("second") : other;
  form.hidden = false;
  form.addEventListener("input", () => showPair(form));
  form.addEventListener("submit", (event) => event.preventDefault());
  showPair(form);
}

startPair(document.getElementById("pair"));
