// A study: consent, then query by query what two runs found, and what the participant says of it.

import { byId, element } from "/page/elements.js";

const REMEMBERED = "deephash-study-session";
const SECTIONS = ["introduction", "trial", "end"];
const SIDES = ["Left", "Right"];
const CHOICES = [["left", "Left"], ["none", "No difference"], ["right", "Right"]];
const RATINGS = [1, 2, 3, 4, 5];

const state = { session: null, trial: null, clicks: new Set(), began: 0 };

async function answered(address, content) {
  const options = content === undefined
    ? {}
    : { method: "POST", body: JSON.stringify(content), headers: { "Content-Type": "application/json" } };
  let response;
  try {
    response = await fetch(address, options);
  } catch {
    throw new Error("The server does not answer. Your answers so far are kept; try again in a while.");
  }
  if (response.ok) return response.json();
  const body = await response.json().catch(() => ({}));
  const told = typeof body.detail === "string" ? body.detail : `The server answers with error ${response.status}.`;
  throw Object.assign(new Error(told), { status: response.status });
}

function ofSession(what, content = {}) {
  return answered(`/api/sessions/${state.session.replaceAll(" ", "")}/${what}`, content);
}

function say(sentence) {
  byId("message").textContent = sentence;
  byId("message").hidden = sentence === "";
}

function show(name) {
  for (const section of SECTIONS) byId(section).hidden = section !== name;
  byId("own").hidden = state.session === null;
  byId("session").textContent = state.session ?? "";
  byId("stop").hidden = name !== "trial";
  byId("sure").hidden = true;
  byId(`${name}-title`).focus();
  window.scrollTo(0, 0);
}

function face(item, place) {
  const name = item.name || item.words || `result ${place}`;
  const image = item.picture ? element("img", { src: item.picture, alt: name }) : null;
  const words = item.words ? element("span", { class: "words" }, item.words) : null;
  return [image, words, item.name ? element("span", { class: "name" }, item.name) : null];
}

function kind(item) {
  return item.words ? "worded" : item.picture ? "pictured" : "bare";
}

// An item of an interleaved list: marked as good by a click, unmarked by another.
function markable(item, rank) {
  const mark = (event) => {
    const good = !state.clicks.delete(rank);
    if (good) state.clicks.add(rank);
    event.currentTarget.setAttribute("aria-pressed", String(good));
  };
  return element(
    "button",
    { type: "button", class: `item ${kind(item)}`, "aria-pressed": "false", "aria-label": `result ${rank + 1}: ${item.name || item.words || "picture"}`, onclick: mark },
    ...face(item, rank + 1), element("span", { class: "mark", "aria-hidden": "true" }, "✓ good"),
  );
}

function list(items, title, marked) {
  const entries = items.map((item, rank) => element("li", {},
    marked ? markable(item, rank) : element("div", { class: `item ${kind(item)}` }, ...face(item, rank + 1))));
  return element("div", { class: "list" }, title ? element("h3", {}, title) : null, element("ol", {}, ...entries));
}

function choice(name, value, text) {
  const input = element("input", { type: "radio", name, value: String(value), required: true });
  return element("label", { class: "choice" }, input, element("span", {}, text));
}

function ratingOf(place, title) {
  const choices = RATINGS.map((value) => choice(`rating-${place}`, value, String(value)));
  const legend = element("legend", {}, title, " ", element("span", { class: "quiet" }, "1 useless, 5 just right"));
  return element("fieldset", { class: "scale" }, legend, ...choices);
}

function showTrial(trial) {
  Object.assign(state, { trial, clicks: new Set() });
  const sided = trial.mode === "side_by_side";
  byId("progress").textContent = `Query ${trial.place + 1} of ${trial.of}`;
  byId("trial-title").textContent = "The query";
  byId("query").replaceChildren(...face(trial.query, 0).filter((part) => part !== null));
  byId("task").textContent = sided
    ? "Two lists of results, the best first in each. Which fits the query better?"
    : "Results, the best first. Choose every one that fits the query; choose again to undo. If none fits, choose none.";
  byId("lists").classList.toggle("sided", sided);
  byId("lists").replaceChildren(...trial.lists.map((items, side) => list(items, sided ? SIDES[side] : "", !sided)));
  byId("preference").hidden = !sided;
  byId("preference").replaceChildren(...(sided
    ? [element("legend", {}, "Better"), ...CHOICES.map(([value, text]) => choice("choice", value, text))]
    : []));
  byId("ratings").replaceChildren(...trial.lists.map((_, side) =>
    ratingOf(side, sided ? `${SIDES[side]}, as a whole` : "The list as a whole")));
  show("trial");
  state.began = performance.now();
}

async function next() {
  const trial = await ofSession("next");
  if (trial.done) end("All queries are answered. Your answers are kept.");
  else showTrial(trial);
}

function end(sentence) {
  byId("progress").textContent = "";
  byId("ended").textContent = sentence;
  show("end");
}

function checked(name) {
  return document.querySelector(`input[name="${name}"]:checked`)?.value ?? null;
}

async function sendAnswer() {
  const { trial } = state;
  await ofSession("answers", {
    place: trial.place,
    choice: checked("choice"),
    clicks: [...state.clicks].sort((one, other) => one - other),
    ratings: trial.lists.map((_, side) => Number(checked(`rating-${side}`))),
    seconds: Math.min(86400, (performance.now() - state.began) / 1000),
  });
  await next();
}

async function begin() {
  const { session } = await answered("/api/sessions", { agreed: byId("agreed").checked });
  state.session = session;
  sessionStorage.setItem(REMEMBERED, session);
  await next();
}

async function remove() {
  await ofSession("delete");
  forget();
  end("All your answers were deleted.");
}

function forget() {
  state.session = null;
  sessionStorage.removeItem(REMEMBERED);
}

// Nothing is sent twice while the server works, and its refusals are shown.
function once(act) {
  let busy = false;
  return async (event) => {
    event?.preventDefault();
    if (busy) return;
    busy = true;
    say("");
    try {
      await act();
    } catch (error) {
      say(error.message);
    } finally {
      busy = false;
    }
  };
}

async function start() {
  const { consent } = await answered("/api/study");
  byId("consent").replaceChildren(...consent.flatMap(({ heading, sentence }) =>
    [element("dt", {}, heading), element("dd", {}, sentence)]));
  state.session = sessionStorage.getItem(REMEMBERED);
  try {
    if (state.session !== null) return await next();
  } catch (error) {
    if (error.status !== 404) throw error;
    forget(); // deleted, or of another study at this address
  }
  return show("introduction");
}

byId("agreement").addEventListener("submit", once(begin));
byId("judging").addEventListener("submit", once(sendAnswer));
byId("stop").addEventListener("click", () => end("You stopped. Your answers until here are kept; reload the page to go on."));
byId("delete").addEventListener("click", () => { byId("sure").hidden = false; byId("keep").focus(); });
byId("keep").addEventListener("click", () => { byId("sure").hidden = true; });
byId("delete-all").addEventListener("click", once(remove));
once(start)();
