// The live page: what flows, what it costs, what was denied and why, what is open, where the record is, what policies say.
//
// Begin at the end, at `watch`: the server says once a second what has changed, each part under its name, and PARTS shows it.
// The token is kept in its field, in memory, and goes out with nothing but the request that ends a stream.

import { draw, makeSvg, Series } from "./charts.js";
import { filterFlow, flow, showFlow } from "./flow.js";
import { age, bytes, button, choices, clock, count, element, find, milliseconds, rate, setEmpty, setFigure, short } from "./elements.js";

const STREAMS_EVERY_MS = 3000;
const SURE_MS = 4000; // within which a second press ends a stream
const SMOOTH = 5; // values: what happens once in a few seconds is a level, not a row of peaks

// --- numbers

const series = { rate: new Series(), denied: new Series(), mean: new Series(), operations: new Map() };

function showNumbers(numbers) {
  const { whole } = numbers;
  series.rate.add(whole.rate);
  series.denied.add(whole.denied, SMOOTH);
  series.mean.add(whole.mean_ms);
  draw(find('[data-chart="rate"]'), [{ series: series.rate, kind: "allowed" }, { series: series.denied, kind: "denied" }]);
  draw(find('[data-chart="mean"]'), [{ series: series.mean, kind: "mean" }]);
  setFigure("rate", rate(whole.rate));
  setFigure("mean", whole.mean_ms === null ? "–" : `${milliseconds(whole.mean_ms)} ms`);
  setFigure("p99", whole.p99_ms === null ? "" : `99 % within ${bound(whole.p99_ms)} ms`);
  setFigure("total", `${count(whole.total)} in all`);
  setFigure("denied", rate(whole.denied));
  setFigure("denied-total", `${count(whole.denied_total)} in all`);
  setFigure("failed", rate(whole.failed));
  setFigure("engine", numbers.engine_up ? "the engine answers" : "the engine does not answer");
  find('[data-figure="engine"]').className = numbers.engine_up ? "note" : "note deny";
  showInFlight(numbers);
  setFigure("cpu", `${numbers.cpu_percent.toFixed(numbers.cpu_percent < 10 ? 1 : 0)} %`);
  setFigure("memory", `${bytes(numbers.memory_bytes)}, up ${age(numbers.start_time * 1000)}`);
  showOperations(numbers.operations);
  showResults(numbers.audit);
}

const bound = (value) => (Number.isInteger(value) ? count(value) : String(value));

function showInFlight({ in_flight: inFlight }) {
  const { unary = 0, stream = 0, tunnel = 0 } = inFlight;
  setFigure("in-flight", count(unary + stream + tunnel));
  setFigure("streams", `${count(stream)} streams, ${count(tunnel)} tunnels`);
  if (stream + tunnel !== streams.expected) {
    streams.expected = stream + tunnel;
    loadStreams();
  }
}

function showOperations(operations) {
  for (const one of operations) {
    let row = series.operations.get(one.operation);
    if (!row) {
      row = { series: new Series(), node: operationRow(one.operation) };
      series.operations.set(one.operation, row);
    }
    row.series.add(one.rate, SMOOTH);
    row.total = one.total;
    const { cells } = row.node;
    draw(cells[1].firstChild, [{ series: row.series, kind: "rate" }]);
    const texts = [rate(one.rate), milliseconds(one.mean_ms), one.p99_ms === null ? "–" : bound(one.p99_ms), count(one.denied_total), count(one.total)];
    texts.forEach((text, index) => (cells[index + 2].textContent = text));
    cells[5].classList.toggle("deny", one.denied_total > 0);
    cells[5].classList.toggle("quiet", one.denied_total === 0);
  }
  sortOperations();
  setEmpty("#operations", !operations.length);
}

function operationRow(name) {
  const node = element("tr", "", element("td", "", name), element("td", "spark", makeSvg()));
  node.append(...["", "", " wide-only", "", " quiet"].map((more) => element("td", `number${more}`)));
  return node;
}

// The most asked for first; only what is in the wrong place is moved.
function sortOperations() {
  const body = find("#operation-rows");
  const sorted = [...series.operations.values()].sort((one, other) => other.total - one.total);
  sorted.forEach(({ node }, index) => {
    if (body.children[index] !== node) body.insertBefore(node, body.children[index] ?? null);
  });
}

// --- denials

function showDenials(denials) {
  find("#denial-list").replaceChildren(...denials.map(denial));
  setEmpty("#denials", !denials.length);
}

function denial(one) {
  const time = element("time", "", clock(one.time));
  time.dateTime = one.time;
  const what = element("p", "what", time, element("strong", "deny", one.operation || "unknown operation"), element("code", "", one.resource || one.target));
  what.append(element("span", "quiet", `by ${short(one.who)}, ${one.principal}`));
  if (one.times > 1) what.append(element("span", "unit tag", `${count(one.times)} times`));
  const would = one.shadow === "deny" ? "would be denied" : "denied";
  const why = element("p", "why quiet", `${would} by policy ${one.policy}: ${one.rule ? `${one.rule}: ` : ""}${one.reason}`);
  const item = element("li", "", what, why, element("p", "why", one.remedy.say));
  if (one.remedy.yaml) item.append(element("pre", "", one.remedy.yaml));
  return item;
}

// --- streams

const streams = { expected: -1, isLoading: false };

async function loadStreams() {
  if (streams.isLoading) return;
  streams.isLoading = true;
  try {
    const answer = await fetch("/streams", { cache: "no-store" });
    if (answer.ok) showStreams(await answer.json());
  } catch {
    // The connection is lost, which is told where everything else comes from.
  } finally {
    streams.isLoading = false;
  }
}

function showStreams({ count: all, old, streams: open }) {
  const body = find("#stream-rows");
  const known = new Map([...body.children].map((node) => [node.id, node]));
  const nodes = open.map((one) => fillStream(known.get(`stream-${one.id}`) ?? streamRow(one), one));
  for (const node of known.values()) if (!nodes.includes(node)) node.remove();
  nodes.forEach((node, index) => {
    if (body.children[index] !== node) body.insertBefore(node, body.children[index] ?? null);
  });
  setFigure("stream-count", all ? `${count(all)}${old ? `, ${count(old)} by a policy that does not hold any more` : ""}` : "");
  setEmpty("#streams", !all);
}

function streamRow(one) {
  const who = one.principal.container ?? one.principal.exe ?? one.principal.tls_subject ?? one.principal.address ?? `uid:${one.principal.uid}`;
  const name = `${one.resource.kind} ${one.resource.name}`.trim();
  const node = element("tr", "", element("td", "", one.operation), element("td", "name", name), element("td", "who", short(who)));
  node.id = `stream-${one.id}`;
  node.children[1].title = name;
  node.children[2].title = who;
  node.append(element("td", "number"), element("td", "number wide-only"), element("td", "number wide-only"));
  const end = button("End", () => endStream(one, end));
  end.setAttribute("aria-label", `End ${one.operation} of ${name}`);
  node.append(element("td", "number", end));
  return node;
}

function fillStream(node, one) {
  node.children[0].classList.toggle("shadow", one.is_old);
  node.children[0].title = one.is_old ? `goes on by policy ${one.policy}, which does not hold any more` : `policy ${one.policy}`;
  [age(one.since), bytes(one.bytes_in), bytes(one.bytes_out)].forEach((text, index) => (node.children[index + 3].textContent = text));
  return node;
}

function ask(end, isAsked) {
  end.classList.toggle("sure", isAsked);
  end.textContent = isAsked ? "Sure?" : "End";
}

async function endStream(one, end) {
  const isSure = end.classList.contains("sure");
  ask(end, !isSure);
  clearTimeout(end.timer);
  if (!isSure) {
    end.timer = setTimeout(() => ask(end, false), SURE_MS);
    return;
  }
  const token = find("#token").value;
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let said;
  try {
    const answer = await fetch(`/streams/${encodeURIComponent(one.id)}/end`, { method: "POST", headers });
    said = answer.ok ? `Ended ${one.operation} of ${one.resource.name}.` : `Not ended: ${(await answer.text()).trim()}`;
  } catch (error) {
    said = `Not ended: ${error.message}`;
  }
  find("#stream-answer").textContent = said;
  await loadStreams();
}

// --- the record

const record = { results: new Map() };

function showTrails(trails) {
  record.results.clear();
  find("#trails").replaceChildren(...trails.map(trail));
  setEmpty("#record", !trails.length);
  showResults(record.audit ?? {});
}

const STATES = {
  whole: ["allow", "whole: the last lines are those that were written, and each carries its hash"],
  changed: ["deny", "changed: the file does not end with what was written to it"],
  waiting: ["shadow", "waiting: the sink does not take lines"],
  unread: ["quiet", "nothing here to be read back"],
};

function trail(one) {
  const state = one.waiting ? "waiting" : one.is_whole === null ? "unread" : one.is_whole ? "whole" : "changed";
  const [colour, says] = STATES[state];
  const facts = element("dl");
  const results = element("dd");
  record.results.set(one.sink, results);
  const said = [["lines", count(one.seq)], ["in this process", count(one.seq - one.began_at)], ["events", results], ["on failure", one.on_failure]];
  if (one.waiting) said.push(["waiting", count(one.waiting)]);
  if (one.cut_bytes) said.push(["cut off at start", bytes(one.cut_bytes)]);
  for (const [name, value] of said) facts.append(element("div", "", element("dt", "", name), value instanceof Node ? value : element("dd", "", value)));
  facts.append(element("div", "", element("dt", "", "last hash"), element("dd", "hash", one.hash)));
  const what = element("p", "what", element("strong", "", one.sink), element("span", colour, says));
  return element("div", "trail", what, facts, tail(one.tail));
}

function tail(lines) {
  const head = element("tr");
  const columns = [["number", "line"], ["time", "time"], ["", "stage and operation"], ["effect", "effect"], ["hash-column", "hash"]];
  for (const [classes, text] of columns) {
    const cell = element("th", classes, text);
    cell.scope = "col";
    head.append(cell);
  }
  const rows = lines.toReversed().map((line) =>
    element(
      "tr",
      "",
      element("td", "number quiet", line.seq ?? "–"),
      element("td", "time", line.time ? clock(line.time) : "–"),
      element("td", "", `${line.stage ?? "no line of a trail"} ${line.operation || line.method || ""} ${line.status ?? ""}`),
      element("td", line.effect ?? "", line.effect ?? ""),
      element("td", "hash hash-column quiet", (line.hash ?? "").slice(0, 10)),
    ),
  );
  return rows.length ? element("table", "", element("thead", "", head), element("tbody", "", ...rows)) : "";
}

function showResults(audit) {
  record.audit = audit;
  for (const [sink, place] of record.results) {
    const { written = 0, failed = 0, lost = 0, omitted = 0 } = audit[sink] ?? {};
    place.replaceChildren(`${count(written)} written, `, element("span", failed ? "shadow" : "", `${count(failed)} failed`), ", ", element("span", lost ? "deny" : "", `${count(lost)} lost`), omitted ? `, ${count(omitted)} omitted` : "");
  }
}

// --- policies

const matrix = { rows: [], cells: "all", text: "" };
const MARKS = { allow: "✓ allow", if: "? if", deny: "· deny" };

async function loadPolicies() {
  try {
    const answer = await fetch("/policies", { cache: "no-store" });
    if (answer.ok) showPolicies(await answer.json());
  } catch {
    // The same as above.
  }
}

function showPolicies({ api_version: version, policies, operations }) {
  const head = element("tr");
  for (const [classes, text] of [["", "operation"], ["method", "method"], ["path", "path"], ["access", "access"]]) head.append(element("th", classes, text));
  for (const policy of policies) {
    const cell = element("th", "cell", policy.name);
    cell.title = `${policy.name}, revision ${policy.revision}, mode ${policy.mode}, at ${policy.listeners.join(", ")}`;
    head.append(cell);
  }
  for (const cell of head.children) cell.scope = "col";
  find("#matrix thead").replaceChildren(head);
  matrix.rows = operations.map((one) => {
    const node = element("tr", "", element("td", "", one.operation), element("td", "method quiet", one.method), element("td", "path quiet", one.path), element("td", "access quiet", one.access));
    node.children[2].title = one.path;
    node.append(...one.effects.map((effect) => element("td", `cell ${effect === "deny" ? "quiet" : effect}`, MARKS[effect])));
    const words = `${one.operation} ${one.method} ${one.path} @${one.tag} @${one.access}`.toLowerCase();
    return { node, words, effects: one.effects };
  });
  find("#matrix tbody").replaceChildren(...matrix.rows.map(({ node }) => node));
  matrix.version = version;
  filterPolicies();
}

function filterPolicies() {
  let visible = 0;
  for (const { node, words, effects } of matrix.rows) {
    const fits = words.includes(matrix.text) && (matrix.cells === "all" || effects.includes(matrix.cells));
    node.hidden = !fits;
    visible += fits;
  }
  setFigure("matrix", `${count(visible)} operations of API ${matrix.version}`);
  setEmpty("#policies", !visible);
}

// --- all of it

const PARTS = { flow: showFlow, numbers: showNumbers, denials: showDenials, trails: showTrails };

function setState(state, text) {
  const place = find("#state");
  place.dataset.state = state;
  if (place.textContent !== text) place.textContent = text;
}

let source = null;

function watch() {
  source?.close();
  source = null;
  if (document.hidden) return setState("waiting", "resting while nobody looks");
  source = new EventSource("/live");
  source.onopen = () => {
    setState("live", flow.isPaused ? "live, flow paused" : "live");
    loadStreams();
    loadPolicies();
  };
  source.onerror = () => {
    setState("lost", "no connection, trying again");
    if (source.readyState === EventSource.CLOSED) setTimeout(watch, 3000);
  };
  for (const [name, show] of Object.entries(PARTS)) source.addEventListener(name, (event) => show(JSON.parse(event.data)));
}

choices("kind", (kind) => {
  flow.kind = kind;
  filterFlow();
});
choices("cells", (cells) => {
  matrix.cells = cells;
  filterPolicies();
});
find("#flow-filter").addEventListener("input", (event) => {
  flow.text = event.target.value.trim().toLowerCase();
  filterFlow();
});
find("#matrix-filter").addEventListener("input", (event) => {
  matrix.text = event.target.value.trim().toLowerCase();
  filterPolicies();
});
find("#pause").addEventListener("click", (event) => {
  flow.isPaused = !flow.isPaused;
  event.target.setAttribute("aria-pressed", String(flow.isPaused));
  setState("live", flow.isPaused ? "live, flow paused" : "live");
});
document.addEventListener("visibilitychange", watch);
setInterval(() => {
  if (!document.hidden && streams.expected > 0) loadStreams();
}, STREAMS_EVERY_MS);
watch();
