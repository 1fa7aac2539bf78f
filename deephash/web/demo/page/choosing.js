// Choices of runs and of the direction of search.

import { byId, element, radioChoice } from "./elements.js";

export const ALL = "all";

function choice(name, value, isChosen, onChosen, ...content) {
  const label = radioChoice({ name, value, onchange: () => onChosen(value) }, ...content);
  label.firstChild.checked = isChosen;
  return label;
}

export function showRunChoices(runs, chosen, onChosen) {
  const choices = runs.map((run) =>
    choice("run", String(run.number), chosen === String(run.number), onChosen,
      run.title, element("small", { class: "quiet" }, run.folder)));
  if (runs.length > 1) {
    choices.push(choice("run", ALL, chosen === ALL, onChosen, "Side by side",
      element("small", { class: "quiet" }, `all ${runs.length} runs`)));
  }
  byId("runs").append(...choices);
  byId("runs").hidden = false;
}

export function showDirections(directions, chosen, onChosen) {
  const box = byId("directions");
  box.hidden = directions.length < 2;
  box.replaceChildren(element("legend", {}, "Direction"), ...directions.map((direction, place) =>
    choice("direction", String(place), direction === chosen, () => onChosen(direction),
      `${direction.asking} → ${direction.searched}`)));
}
