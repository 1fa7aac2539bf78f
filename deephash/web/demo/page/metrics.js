// The metrics of the runs side by side.

import { element } from "./elements.js";

// Metrics that papers compare; with two views, only between different views.
function isLeading(name) {
  const [direction, metric] = name.includes("_to_") ? name.split("/") : [null, name];
  if (direction !== null && new Set(direction.split("_to_")).size === 1) return false;
  return ["mAP", "AUPRC_micro", "AUPRC_macro"].includes(metric);
}

function table(runs, names) {
  const value = (run, name) => run.metrics.find((metric) => metric.name === name)?.value ?? null;
  // Metrics on different data have no best value.
  const comparable = runs.length > 1 && new Set(runs.map((run) => run.collection)).size === 1;
  const rows = names.map((name) => {
    const values = runs.map((run) => value(run, name));
    const best = comparable ? Math.max(...values.filter((number) => number !== null)) : null;
    const cells = values.map((number) =>
      element("td", { class: number !== null && number === best ? "best" : "" }, number === null ? "–" : number.toFixed(4)));
    return element("tr", {}, element("th", { scope: "row" }, name.replace("_to_", " → ").replace("/", " ")), ...cells);
  });
  const heads = runs.map((run) => element("th", { scope: "col" }, run.folder));
  return element(
    "div", { class: "scrolled", tabindex: 0, role: "region", "aria-label": "Metrics of the runs" },
    element("table", {}, element("thead", {}, element("tr", {}, element("td"), ...heads)), element("tbody", {}, ...rows)),
  );
}

export function metricsView(runs) {
  const names = [...new Set(runs.flatMap((run) => run.metrics.map((metric) => metric.name)))];
  const leading = names.filter(isLeading);
  const rest = names.filter((name) => !isLeading(name));
  const more = rest.length
    ? element("details", {}, element("summary", {}, `${rest.length} more metrics`), table(runs, rest))
    : null;
  return [table(runs, leading), more];
}
