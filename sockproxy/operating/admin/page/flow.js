// What flows now: rows of requests, the newest first. Owns which are kept and which are shown. Begin at `showFlow`.

import { button, clock, count, element, find, milliseconds, setEmpty, setFigure, short } from "./elements.js";

const ROWS_MAX = 150; // of each of two kinds, reads and all others, so that many reads do not push out what is rare

export const flow = { rows: new Map(), kind: "all", text: "", isPaused: false, kept: [[], []] };

const KINDS = {
  all: () => true,
  changes: (row) => row.method !== "GET" && row.method !== "HEAD",
  denied: (row) => row.effect === "deny" || row.shadow === "deny",
  failed: (row) => row.status >= 500 || row.status === null,
};

export function showFlow({ seen, rows }) {
  if (flow.isPaused) return;
  for (const row of rows.sort((one, other) => (one.time < other.time ? -1 : 1))) {
    const known = flow.rows.get(row.id);
    if (known) {
      fillRow(known.node, row);
      known.row = row;
    } else {
      addRow(row);
    }
  }
  const shown = rows.length < seen ? `${count(rows.length)} of ${count(seen)} a second` : "";
  setFigure("shown", shown);
  filterFlow();
}

function addRow(row) {
  const isRare = KINDS.changes(row) || KINDS.denied(row) || KINDS.failed(row);
  const node = element("tr", isRare ? "rare" : "");
  fillRow(node, row);
  flow.rows.set(row.id, { node, row });
  find("#rows").prepend(node);
  const kept = flow.kept[isRare ? 1 : 0];
  kept.push(row.id);
  if (kept.length > ROWS_MAX) forget(kept.shift());
}

function forget(id) {
  const { node } = flow.rows.get(id);
  node.details?.remove();
  node.remove();
  flow.rows.delete(id);
}

function fillRow(node, row) {
  const decision = row.shadow === "deny" ? ["shadow", "would deny"] : row.effect === "deny" ? ["deny", "deny"] : ["allow", "allow"];
  const isOver = row.stage === "completed";
  node.classList.toggle("denied", KINDS.denied(row));
  const cells = [
    ["time", clock(row.time)],
    [`effect ${decision[0]}`, decision[1]],
    ["operation", row.operation || `${row.method} unknown`],
    ["name", row.resource || row.target],
    ["who", short(row.who)],
    ["policy", row.policy],
    ["number status", isOver ? (row.status ?? "none") : "…"],
    ["number took", isOver ? milliseconds(row.duration_ms) : "open"],
  ];
  if (!node.firstChild) {
    node.append(...cells.map(([classes]) => element("td", classes)));
    node.children[2].append(button("", () => toggleDetails(node, row.id), "open"));
    node.children[2].firstChild.setAttribute("aria-expanded", "false");
  }
  cells.forEach(([classes, text], index) => {
    const cell = index === 2 ? node.children[2].firstChild : node.children[index];
    if (index !== 2) cell.className = classes;
    if (cell.textContent !== String(text)) cell.textContent = text;
    if (index > 2 && index < 6) cell.title = index === 4 ? `${row.who}, ${row.principal}` : text;
  });
  if (node.details) node.details.firstChild.replaceChildren(details(row));
}

function toggleDetails(node, id) {
  if (node.details) {
    node.details.remove();
    node.details = null;
  } else {
    const cell = element("td", "", details(flow.rows.get(id).row));
    cell.colSpan = 8;
    node.details = element("tr", "more", cell);
    node.after(node.details);
  }
  node.children[2].firstChild.setAttribute("aria-expanded", String(Boolean(node.details)));
}

const DETAILS = ["method", "target", "reason", "rule", "policy", "principal", "who", "listener", "api_version", "user_agent", "bytes_in", "bytes_out", "engine_ms", "id"];

function details(row) {
  const list = element("dl");
  for (const name of DETAILS) {
    if (row[name] !== null && row[name] !== "") list.append(element("dt", "", name), element("dd", "", row[name]));
  }
  return list;
}

export function filterFlow() {
  let visible = 0;
  for (const { node, row } of flow.rows.values()) {
    const words = [row.operation, row.resource, row.target, row.who, row.principal, row.policy, row.reason, row.status].join(" ");
    const fits = KINDS[flow.kind](row) && words.toLowerCase().includes(flow.text);
    node.hidden = !fits;
    if (node.details) node.details.hidden = !fits;
    visible += fits;
  }
  setEmpty("#flow", !visible);
}
