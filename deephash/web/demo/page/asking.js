// Ways to give a query: an item of the data, an image, or a text.

import { byId, element } from "./elements.js";
import { itemContent } from "./answer.js";

const KINDS = ["item", "image", "text"];

export function showTab(kind) {
  for (const other of KINDS) {
    const chosen = other === kind;
    const tab = byId(`tab-${other}`);
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    byId(`panel-${other}`).hidden = !chosen;
  }
}

export function watchTabs(onChosen) {
  KINDS.forEach((kind, place) => {
    const tab = byId(`tab-${kind}`);
    tab.addEventListener("click", () => { showTab(kind); onChosen(kind); });
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = KINDS[(place + step + KINDS.length) % KINDS.length];
      byId(`tab-${next}`).focus();
      byId(`tab-${next}`).click();
    });
  });
}

// Calls onFile with the first file that is chosen, or dropped anywhere on the page.
export function watchFiles(onFile) {
  const zone = byId("drop");
  const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    zone.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) zone.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    zone.classList.remove("over");
    if (!holdsFiles(event)) return;
    event.preventDefault();
    if (event.dataTransfer.files.length > 0) onFile(event.dataTransfer.files[0]);
  });
  byId("file").addEventListener("change", (event) => {
    if (event.target.files.length > 0) onFile(event.target.files[0]);
    event.target.value = "";
  });
}

export function watchText(onText) {
  byId("text-form").addEventListener("submit", (event) => {
    event.preventDefault();
    onText(byId("text").value);
  });
}

export function watchItems(onItem, onOthers) {
  byId("others").addEventListener("click", onOthers);
  byId("by-number").addEventListener("submit", (event) => {
    event.preventDefault();
    onItem(Number(byId("item-number").value));
  });
}

export function showPicker(queries, view, onItem) {
  const entries = queries.map((item) => {
    const label = [`item ${item.row}`, item.classes].filter(Boolean).join(", ");
    const layout = item.words ? "worded" : item.picture ? "pictured" : "bare";
    const button = element(
      "button",
      { type: "button", class: `pick ${layout}`, title: label, "aria-label": label, "data-row": item.row, onclick: () => onItem(item.row) },
      ...itemContent(item, view),
    );
    return element("li", {}, button);
  });
  byId("picker").replaceChildren(...entries);
}

export function markPicked(row) {
  for (const button of byId("picker").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.row) === row));
  }
}

// Reasons why no shown run takes images, or texts, as queries.
export function showRefusals(runs) {
  for (const kind of ["image", "text"]) {
    const reasons = runs.map((run) => run.refuses[kind]);
    const refused = reasons.every((reason) => reason !== null);
    const reason = byId(`${kind}-reason`);
    reason.hidden = !refused;
    reason.textContent = refused ? reasons[0] : "";
    byId(kind === "image" ? "drop" : "text-form").hidden = refused;
  }
}
