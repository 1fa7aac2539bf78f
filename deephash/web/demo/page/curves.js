// The precision-recall curves of all runs in one figure.

import { element, svgElement } from "./elements.js";

const WIDTH = 560;
const HEIGHT = 340;
const EDGE = { left: 58, right: 12, top: 12, bottom: 42 };
const COLOURS = 6;
const DASHES = 4;

function line(from, to, kind) {
  return svgElement("line", { x1: from[0], y1: from[1], x2: to[0], y2: to[1], class: kind });
}

// The end of the precision axis: the next tenth with room above, at most 1.
function ceiling(curves) {
  const highest = Math.max(...curves.flatMap((curve) => curve.precision.filter((value) => value !== null)));
  return Math.min(1, Math.ceil(highest * 10.5) / 10);
}

function axes(x, y, top) {
  const parts = [];
  for (let tick = 0; tick <= 5; tick += 1) {
    const [recall, precision] = [tick / 5, (top * tick) / 5];
    parts.push(line([x(0), y(precision)], [x(1), y(precision)], "rule"));
    parts.push(svgElement("text", { x: x(recall), y: y(0) + 18, class: "tick middle" }, recall.toFixed(1)));
    parts.push(svgElement("text", { x: x(0) - 8, y: y(precision) + 4, class: "tick end" }, precision.toFixed(2)));
  }
  const middle = (y(0) + y(top)) / 2;
  parts.push(svgElement("text", { x: x(0.5), y: HEIGHT - 6, class: "axis middle" }, "Recall"));
  parts.push(svgElement("text", { x: 12, y: middle, class: "axis middle", transform: `rotate(-90 12 ${middle})` }, "Precision"));
  return parts;
}

// A colour for each run and a dash pattern for each of its directions.
function seriesClasses(curves) {
  const directions = new Map();
  return curves.map(({ run }) => {
    const place = directions.get(run) ?? 0;
    directions.set(run, place + 1);
    return `series series-${run % COLOURS} dash-${(place + Math.floor(run / COLOURS)) % DASHES}`;
  });
}

export function curvesFigure(runs, curves) {
  if (curves.length === 0) {
    const message = "These runs have no curves as numbers; see pr_curve.png in each folder.";
    return [element("p", { class: "quiet" }, message)];
  }
  const top = ceiling(curves);
  const x = (recall) => EDGE.left + recall * (WIDTH - EDGE.left - EDGE.right);
  const y = (precision) => HEIGHT - EDGE.bottom - (precision / top) * (HEIGHT - EDGE.top - EDGE.bottom);
  const name = (curve) => [runs[curve.run].title, curve.direction].filter(Boolean).join(", ");
  const classes = seriesClasses(curves);
  const paths = curves.map((curve, place) => {
    const points = curve.recall
      .map((recall, radius) => [recall, curve.precision[radius]])
      .filter(([recall, precision]) => recall !== null && precision !== null)
      .map(([recall, precision]) => `${x(recall).toFixed(1)},${y(precision).toFixed(1)}`);
    return svgElement(
      "polyline", { points: points.join(" "), class: classes[place], "data-run": curve.run },
      svgElement("title", {}, name(curve)),
    );
  });
  const label = `Precision-recall curves: ${curves.map(name).join("; ")}`;
  const picture = svgElement(
    "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label, class: "curves" },
    ...axes(x, y, top), ...paths,
  );
  const legend = curves.map((curve, place) => {
    const swatch = svgElement(
      "svg", { viewBox: "0 0 28 8", class: "swatch", "aria-hidden": "true" },
      svgElement("line", { x1: 0, y1: 4, x2: 28, y2: 4, class: classes[place] }),
    );
    const area = curve.area === null ? "–" : curve.area.toFixed(4);
    const row = element("li", {}, swatch, element("span", {}, name(curve)), element("span", { class: "quiet" }, `AUPRC ${area}`));
    const light = (on) => () => {
      picture.classList.toggle("lit", on);
      paths[place].classList.toggle("lit", on);
    };
    row.addEventListener("mouseenter", light(true));
    row.addEventListener("mouseleave", light(false));
    return row;
  });
  return [picture, element("figcaption", {}, element("ul", { class: "series-names" }, ...legend))];
}
