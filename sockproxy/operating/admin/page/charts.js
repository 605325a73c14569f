// Small charts: the last values of a number, as a line over its area. Owns how they are drawn; knows nothing of what they mean.

export const POINTS = 120; // two minutes of one value a second

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 100, HEIGHT = 20;

export class Series {
  constructor() {
    this.values = [];
    this.last = [];
  }

  // `smooth`: drawn as the mean of so many values, where single events would look like a bar code.
  add(value, smooth = 1) {
    this.last = [...this.last, value].slice(-smooth);
    this.values.push(value === null ? null : this.last.reduce((sum, one) => sum + (one ?? 0), 0) / this.last.length);
    if (this.values.length > POINTS) this.values.shift();
  }

  get most() {
    return Math.max(0, ...this.values.filter((value) => value !== null));
  }
}

// Draws series into an <svg>, all on one scale, the first with its area. Each is {series, kind}.
export function draw(svg, drawn) {
  const most = Math.max(...drawn.map(({ series }) => series.most));
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  const paths = [];
  drawn.forEach(({ series, kind }, index) => {
    const line = lineOf(series.values, most);
    if (index === 0 && line) paths.push(path(`${line.d}L${line.end} ${HEIGHT}L${line.start} ${HEIGHT}Z`, "area"));
    if (line) paths.push(path(line.d, kind));
  });
  svg.replaceChildren(...paths);
}

function lineOf(values, most) {
  const first = POINTS - values.length;
  const points = values
    .map((value, index) => [((first + index) / (POINTS - 1)) * WIDTH, value])
    .filter(([, value]) => value !== null)
    .map(([x, value]) => [x.toFixed(2), (HEIGHT - 1 - (most ? value / most : 0) * (HEIGHT - 3)).toFixed(2)]);
  if (points.length < 2) return null;
  return { d: `M${points.map((point) => point.join(" ")).join("L")}`, start: points[0][0], end: points.at(-1)[0] };
}

function path(d, kind) {
  const made = document.createElementNS(SVG, "path");
  made.setAttribute("d", d);
  made.setAttribute("class", kind);
  return made;
}

export function makeSvg() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("aria-hidden", "true");
  return svg;
}
