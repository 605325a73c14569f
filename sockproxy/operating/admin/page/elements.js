// Elements and words. Whatever is shown comes in as text and stays text: nothing here, nor anywhere on this page, parses HTML.

// An element with classes, and children that are elements or texts.
export function element(tag, classes = "", ...children) {
  const made = document.createElement(tag);
  if (classes) made.className = classes;
  made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

export function button(text, onPress, classes = "") {
  const made = element("button", classes, text);
  made.type = "button";
  made.addEventListener("click", onPress);
  return made;
}

export const find = (selector) => document.querySelector(selector);

export function setFigure(name, text) {
  const place = find(`[data-figure="${name}"]`);
  if (place.textContent !== text) place.textContent = text;
}

export function setEmpty(panel, isEmpty) {
  find(panel).classList.toggle("is-empty", isEmpty);
}

// A group of buttons of which one is pressed; `onChoose` gets its value.
export function choices(attribute, onChoose) {
  const buttons = [...document.querySelectorAll(`[data-${attribute}]`)];
  for (const one of buttons) {
    one.addEventListener("click", () => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === one));
      onChoose(one.dataset[attribute]);
    });
  }
}

// A program by its name, a container by the beginning of its id.
export function short(who) {
  return /^[0-9a-f]{64}$/.test(who) ? who.slice(0, 12) : who.startsWith("/") ? who.slice(who.lastIndexOf("/") + 1) : who;
}

export const clock = (time) => new Date(time).toTimeString().slice(0, 8);

export function count(value) {
  return value === null || value === undefined ? "–" : value >= 1e6 ? `${(value / 1e6).toPrecision(3)}\u2009M` : Math.round(value).toLocaleString("en").replaceAll(",", "\u2009");
}

export function rate(value) {
  return value === null || value === undefined ? "–" : value > 0 && value < 100 ? value.toFixed(1) : count(value);
}

export function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  return value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : count(value);
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit += 1) value /= 1024;
  return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export function age(since) {
  const seconds = Math.max(0, Math.round((Date.now() - new Date(since)) / 1000));
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([length]) => seconds >= length);
  if (first < 0) return "0 s";
  const [length, unit] = parts[first];
  const rest = parts[first + 1];
  const more = rest ? Math.floor((seconds % length) / rest[0]) : 0;
  return `${Math.floor(seconds / length)} ${unit}${more ? ` ${more} ${rest[1]}` : ""}`;
}
