// The demo page: queries to runs and their answers.

import { answerColumn, answerView, itemContent, refusalView } from "./answer.js";
import { markPicked, showPicker, showRefusals, showTab, watchFiles, watchItems, watchTabs, watchText } from "./asking.js";
import { ALL, showDirections, showRunChoices } from "./choosing.js";
import { curvesFigure } from "./curves.js";
import { byId, element, showMessage } from "./elements.js";
import { metricsView } from "./metrics.js";
import { drawQueries, findNeighbours, listCurves, listRuns } from "./requests.js";

const PICKER_ITEMS = 24;
const ONE_VIEW = { asking: "", searched: "" };

const state = {
  runs: [],
  bounds: {},
  chosen: ALL, // the number of a run as text, or ALL
  direction: ONE_VIEW,
  question: null,
  collection: 0, // data set of an item in the question
  seed: 0,
  request: new AbortController(),
  preview: null, // address of the chosen image
};

const shownRuns = () => state.runs.filter((run) => state.chosen === ALL || state.chosen === String(run.number));
// The chosen direction, or the first direction of a run without those views.
function directionOf(run) {
  const same = (other) => other.asking === state.direction.asking && other.searched === state.direction.searched;
  return run.directions.find(same) ?? run.directions[0];
}

function showQuestion(item) {
  const { question } = state;
  let content = [];
  if (question.kind === "image") {
    const name = question.file.name || "an image";
    content = [element("img", { src: state.preview, alt: "the query image" }), element("span", {}, name)];
  } else if (question.kind === "text") {
    content = [element("blockquote", {}, question.text)];
  } else if (item !== null) {
    const caption = item.picture || item.words ? [item.classes, `item ${item.row}`].filter(Boolean).join(", ") : "";
    content = [...itemContent(item, state.direction.asking), element("span", {}, caption)];
  }
  byId("query").replaceChildren(...content.filter((part) => part !== null));
}

// A run cannot answer such a question at all.
class UnsupportedQuestion extends Error {}

async function answerOf(run, signal) {
  const { question } = state;
  if (question.kind === "item" && run.collection !== state.collection) {
    throw new UnsupportedQuestion("This run uses other data, without this item. Ask with an image or a text, or show only this run.");
  }
  if (question.kind !== "item" && run.refuses[question.kind] !== null) throw new UnsupportedQuestion(run.refuses[question.kind]);
  return findNeighbours(run, question, directionOf(run), Number(byId("depth").value), signal);
}

async function ask() {
  if (state.question === null) return;
  state.request.abort();
  state.request = new AbortController();
  const { signal } = state.request;
  const runs = shownRuns();
  byId("answers").setAttribute("aria-busy", "true");
  const answers = await Promise.allSettled(runs.map((run) => answerOf(run, signal)));
  if (signal.aborted) return;
  byId("answers").setAttribute("aria-busy", "false");
  const first = answers.find((answer) => answer.status === "fulfilled")?.value;
  if (first === undefined) {
    const reasons = answers.map((answer) => answer.reason);
    refuse((reasons.find((reason) => !(reason instanceof UnsupportedQuestion)) ?? reasons[0]).message);
    return;
  }
  showMessage("");
  showQuestion(first.query);
  markPicked(state.question.kind === "item" ? state.question.row : null);
  const columns = runs.map((run, place) => {
    const answer = answers[place].value;
    const content = answer
      ? answerView(run, answer, (item) => askNext(run, item, answer))
      : refusalView(answers[place].reason.message);
    return answerColumn(run, answer, content);
  });
  byId("answers").replaceChildren(...columns);
  byId("status").textContent = `${first.found.length} neighbours in ${columns.length} run${columns.length > 1 ? "s" : ""}`;
}

function refuse(sentence) {
  showMessage(sentence);
  byId("answers").replaceChildren();
  byId("query").replaceChildren();
  byId("status").textContent = "";
  markPicked(null);
}

function askItem(row, collection = shownRuns()[0].collection) {
  state.collection = collection;
  state.question = { kind: "item", row };
  return ask();
}

// Use a found item as the next query, by its own view.
function askNext(run, item, answer) {
  if (run.views.length > 1 && answer.searched !== state.direction.asking) {
    choose({ asking: answer.searched, searched: answer.asking });
  }
  showTab("item");
  return askItem(item.row, run.collection);
}

function askImage(file) {
  showTab("image");
  if (file.size > state.bounds.image_bytes) {
    const limit = Math.floor(state.bounds.image_bytes / 2 ** 20);
    refuse(`This file has ${Math.ceil(file.size / 2 ** 20)} MB; choose a file of at most ${limit} MB.`);
    return;
  }
  if (state.preview !== null) URL.revokeObjectURL(state.preview);
  state.preview = URL.createObjectURL(file);
  state.question = { kind: "image", file };
  askBy("image");
}

function askText(text) {
  state.question = { kind: "text", text };
  askBy("text");
}

// Ask by a view, and change the direction if necessary.
function askBy(view) {
  const directions = knownDirections();
  if (state.direction.asking !== view && directions.some((direction) => direction.asking === view)) {
    choose(directions.find((direction) => direction.asking === view));
  }
  return ask();
}

function knownDirections() {
  return shownRuns().find((run) => run.views.length > 1)?.directions ?? [];
}

function choose(direction) {
  const known = knownDirections();
  const same = (other) => other.asking === direction.asking && other.searched === direction.searched;
  state.direction = known.find(same) ?? known[0] ?? ONE_VIEW;
  showDirections(known, state.direction, turn);
}

async function turn(direction) {
  choose(direction);
  await draw();
  // A given image or text cannot be a query of the other view, so an item of the data is used.
  if (state.question.kind !== "item" && state.question.kind !== direction.asking) await askFirst();
  else await ask();
}

async function draw() {
  const [run] = shownRuns();
  const { asking } = directionOf(run);
  try {
    const queries = await drawQueries(run, asking, state.seed, PICKER_ITEMS);
    showPicker(queries, asking, (row) => askItem(row));
    byId("item-number").max = run.items - 1;
    return queries;
  } catch (error) {
    showMessage(error.message);
    return [];
  }
}

async function askFirst() {
  showTab("item");
  const queries = await draw();
  if (queries.length > 0) await askItem(queries[0].row);
}

async function showRuns(chosen) {
  state.chosen = chosen;
  const runs = shownRuns();
  choose(state.direction);
  showRefusals(runs);
  const { question } = state;
  const stays = question !== null && (question.kind !== "item" || runs.some((run) => run.collection === state.collection));
  if (!stays) await askFirst();
  else {
    await draw();
    await ask();
  }
}

async function start() {
  try {
    const [{ runs, bounds }, curves] = [await listRuns(), await listCurves()];
    Object.assign(state, { runs, bounds, chosen: runs.length > 1 ? ALL : "0" });
    const limit = Math.floor(bounds.image_bytes / 2 ** 20);
    byId("image-bounds").textContent =
      `${bounds.image_formats}, up to ${limit} MB and ${bounds.image_pixels / 1e6} megapixels. The server does not store it.`;
    byId("text").maxLength = bounds.text_letters;
    showRunChoices(runs, state.chosen, showRuns);
    byId("curves").replaceChildren(...curvesFigure(runs, curves));
    byId("metrics").replaceChildren(...metricsView(runs).filter((part) => part !== null));
    await showRuns(state.chosen);
  } catch (error) {
    showMessage(error.message);
  }
}

watchTabs((kind) => { if (kind === "item") showMessage(""); });
watchFiles(askImage);
watchText(askText);
watchItems((row) => askItem(row), () => { state.seed += 1; draw().then(() => markPicked(state.question?.row ?? null)); });
byId("depth").addEventListener("change", ask);
start();
