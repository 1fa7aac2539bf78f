// A user study: consent, then the results of two runs for each query, and the judgement of the participant.

import { byId, element, radioChoice, showMessage } from "/page/elements.js";
import { fetchJSON } from "/page/requests.js";

const STORAGE_KEY = "deephash-study-session";
const SECTIONS = ["introduction", "trial", "end"];
const SIDES = ["Left", "Right"];
const CHOICES = [["left", "Left"], ["none", "No difference"], ["right", "Right"]];
const RATINGS = [1, 2, 3, 4, 5];

const state = { session: null, trial: null, clicks: new Set(), began: 0 };

function request(address, content) {
  const options = content === undefined
    ? {}
    : { method: "POST", body: JSON.stringify(content), headers: { "Content-Type": "application/json" } };
  return fetchJSON(address, options, "The server does not answer. Your answers so far are kept; please try again later.");
}

function requestInSession(action, content = {}) {
  return request(`/api/sessions/${state.session.replaceAll(" ", "")}/${action}`, content);
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

function itemContent(item, place) {
  const name = item.name || item.words || `result ${place}`;
  const image = item.picture ? element("img", { src: item.picture, alt: name }) : null;
  const words = item.words ? element("span", { class: "words" }, item.words) : null;
  return [image, words, item.name ? element("span", { class: "name" }, item.name) : null];
}

function itemLayout(item) {
  return item.words ? "worded" : item.picture ? "pictured" : "bare";
}

// An item of an interleaved list. A click marks it as good, another one unmarks it.
function markableItem(item, rank) {
  const mark = (event) => {
    const good = !state.clicks.delete(rank);
    if (good) state.clicks.add(rank);
    event.currentTarget.setAttribute("aria-pressed", String(good));
  };
  return element(
    "button",
    { type: "button", class: `item ${itemLayout(item)}`, "aria-pressed": "false", "aria-label": `result ${rank + 1}: ${item.name || item.words || "picture"}`, onclick: mark },
    ...itemContent(item, rank + 1), element("span", { class: "mark", "aria-hidden": "true" }, "✓ good"),
  );
}

function resultList(items, title, marked) {
  const entries = items.map((item, rank) => element("li", {},
    marked ? markableItem(item, rank) : element("div", { class: `item ${itemLayout(item)}` }, ...itemContent(item, rank + 1))));
  return element("div", { class: "list" }, title ? element("h3", {}, title) : null, element("ol", {}, ...entries));
}

function choice(name, value, text) {
  return radioChoice({ name, value: String(value), required: true }, text);
}

function ratingScale(place, title) {
  const choices = RATINGS.map((value) => choice(`rating-${place}`, value, String(value)));
  const legend = element("legend", {}, title, " ", element("span", { class: "quiet" }, "1 = useless, 5 = just right"));
  return element("fieldset", { class: "scale" }, legend, ...choices);
}

function showTrial(trial) {
  Object.assign(state, { trial, clicks: new Set() });
  const sided = trial.mode === "side_by_side";
  byId("progress").textContent = `Query ${trial.place + 1} of ${trial.of}`;
  byId("trial-title").textContent = "The query";
  byId("query").replaceChildren(...itemContent(trial.query, 0).filter((part) => part !== null));
  byId("task").textContent = sided
    ? "Two lists of results, each with the best first. Which list fits the query better?"
    : "Results, the best first. Select every result that fits the query; select it again to undo. If none fits, select none.";
  byId("lists").classList.toggle("sided", sided);
  byId("lists").replaceChildren(...trial.lists.map((items, side) => resultList(items, sided ? SIDES[side] : "", !sided)));
  byId("preference").hidden = !sided;
  byId("preference").replaceChildren(...(sided
    ? [element("legend", {}, "Better"), ...CHOICES.map(([value, text]) => choice("choice", value, text))]
    : []));
  byId("ratings").replaceChildren(...trial.lists.map((_, side) =>
    ratingScale(side, sided ? `${SIDES[side]}, as a whole` : "The list as a whole")));
  show("trial");
  state.began = performance.now();
}

async function next() {
  const trial = await requestInSession("next");
  if (trial.done) end("All queries are answered. Your answers are kept.");
  else showTrial(trial);
}

function end(sentence) {
  byId("progress").textContent = "";
  byId("ended").textContent = sentence;
  show("end");
}

function checkedValue(name) {
  return document.querySelector(`input[name="${name}"]:checked`)?.value ?? null;
}

async function sendAnswer() {
  const { trial } = state;
  await requestInSession("answers", {
    place: trial.place,
    choice: checkedValue("choice"),
    clicks: [...state.clicks].sort((first, second) => first - second),
    ratings: trial.lists.map((_, side) => Number(checkedValue(`rating-${side}`))),
    seconds: Math.min(86400, (performance.now() - state.began) / 1000),
  });
  await next();
}

async function begin() {
  const { session } = await request("/api/sessions", { agreed: byId("agreed").checked });
  state.session = session;
  sessionStorage.setItem(STORAGE_KEY, session);
  await next();
}

async function remove() {
  await requestInSession("delete");
  forget();
  end("All your answers were deleted.");
}

function forget() {
  state.session = null;
  sessionStorage.removeItem(STORAGE_KEY);
}

// Send nothing twice while the server works, and show its errors.
function once(act) {
  let busy = false;
  return async (event) => {
    event?.preventDefault();
    if (busy) return;
    busy = true;
    showMessage("");
    try {
      await act();
    } catch (error) {
      showMessage(error.message);
    } finally {
      busy = false;
    }
  };
}

async function start() {
  const { consent } = await request("/api/study");
  byId("consent").replaceChildren(...consent.flatMap(({ heading, sentence }) =>
    [element("dt", {}, heading), element("dd", {}, sentence)]));
  state.session = sessionStorage.getItem(STORAGE_KEY);
  try {
    if (state.session !== null) return await next();
  } catch (error) {
    if (error.status !== 404) throw error;
    forget(); // the session was deleted, or belongs to another study at this address
  }
  return show("introduction");
}

byId("agreement").addEventListener("submit", once(begin));
byId("judging").addEventListener("submit", once(sendAnswer));
byId("stop").addEventListener("click", () => end("You stopped. Your answers so far are kept; reload the page to continue."));
byId("delete").addEventListener("click", () => { byId("sure").hidden = false; byId("keep").focus(); });
byId("keep").addEventListener("click", () => { byId("sure").hidden = true; });
byId("delete-all").addEventListener("click", once(remove));
once(start)();
