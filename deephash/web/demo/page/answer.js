// The answer of a run: the bits of the query, and the items found by distance.

import { bitGrid } from "./bits.js";
import { element, formatCount } from "./elements.js";

export function itemContent(item, view) {
  const name = item.classes || `item ${item.row}`;
  const words = item.words ? element("span", { class: "words" }, item.words) : null;
  if (item.picture) return [element("img", { src: item.picture, alt: name, loading: "lazy" }), words];
  const number = element("span", { class: "number" }, view ? `${view} ${item.row}` : `item ${item.row}`);
  return [words ?? element("span", { class: "name" }, item.classes || "no label"), number];
}

function foundItem(item, view, compare, choose) {
  const known = item.relevant !== null;
  const kind = item.is_query ? "self" : !known ? "unknown" : item.relevant ? "good" : "bad";
  const relevance = item.is_query ? "the query itself" : !known ? "" : item.relevant ? "relevant" : "not relevant";
  const mark = item.is_query ? "=" : !known ? "" : item.relevant ? "✓" : "✗";
  const label = [`item ${item.row}`, item.classes, `distance ${item.distance}`, relevance].filter(Boolean).join(", ");
  const layout = item.words ? "worded" : item.picture ? "pictured" : "bare";
  const caption = item.picture || item.words ? item.classes || `#${item.row}` : "";
  const show = () => compare(item);
  const hide = () => compare(null);
  const button = element(
    "button",
    {
      type: "button", class: `item ${kind} ${layout}`, title: label, "aria-label": label, "data-row": item.row,
      onclick: () => choose(item), onmouseenter: show, onmouseleave: hide, onfocus: show, onblur: hide,
    },
    ...itemContent(item, view),
    element("span", { class: "foot" }, element("span", { class: `mark ${kind}` }, mark), " ", caption),
  );
  return element("li", {}, button);
}

function tieGroup(tie, items, view, compare, choose) {
  const tied = tie.items > 1;
  const count = tie.shown < tie.items ? `${tie.shown} of ${tie.items.toLocaleString("en")} tied` : `${tie.items} tied`;
  const good = tied && tie.relevant !== null ? `, ${tie.relevant.toLocaleString("en")} relevant` : "";
  const more = tied ? element("span", { class: "quiet" }, `, ${count}`) : null;
  const title = `distance ${tie.distance}: ${formatCount(tie.items, "item")}${good}`;
  return element(
    "li",
    { class: "tie", "data-distance": tie.distance },
    element("p", { class: "distance", title }, "at ", element("strong", {}, String(tie.distance)), more),
    element("ul", { class: "items" }, ...items.map((item) => foundItem(item, view, compare, choose))),
  );
}

export function answerView(run, answer, choose) {
  const { node, compare } = bitGrid(answer, run.distance !== "Hamming");
  const groups = answer.ties.map((tie) => {
    const items = answer.found.filter((item) => item.distance === tie.distance);
    return tieGroup(tie, items, answer.searched, compare, (item) => choose(item, answer));
  });
  const others = answer.found.filter((item) => !item.is_query);
  const good = others.filter((item) => item.relevant).length;
  const summary = answer.relevant === null
    ? "relevance is unknown, since the query is not an item of the data"
    : `${good} of the ${others.length} shown are relevant`;
  const heading = `Ranked by ${run.distance} distance among ${formatCount(answer.size, "item")}; ${summary}`;
  return [node, element("p", { class: "quiet summary" }, heading), element("ol", { class: "ties" }, ...groups)];
}

// mAP of the run, in the direction of the answer for several views.
function formatMAP(run, answer) {
  const name = run.views.length > 1 ? `${answer.asking}_to_${answer.searched}/mAP` : "mAP";
  const value = run.metrics.find((metric) => metric.name === name)?.value ?? null;
  return value === null ? "" : ` · mAP ${value.toFixed(4)}`;
}

export function answerColumn(run, answer, content) {
  const details = run.folder + (answer ? formatMAP(run, answer) : "");
  const heading = element("h3", {}, run.title, " ", element("span", { class: "quiet" }, details));
  return element("article", { class: "answer", "data-run": run.number, "aria-label": run.title }, heading, ...content);
}

export function refusalView(sentence) {
  return [element("p", { class: "refusal" }, sentence)];
}
