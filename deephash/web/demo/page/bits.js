// A code as a grid of bits: filled is 1, paler is nearer its threshold, ringed differs from the item pointed at.

import { counted, element } from "./elements.js";

const WIDE = 64;

// Sizes of margins from 0 to 1, which twice their mean and more have: one large margin leaves the others to be seen.
function strengths(margins) {
  const sizes = margins.map(Math.abs);
  const full = (2 * sizes.reduce((sum, size) => sum + size, 0)) / sizes.length || 1;
  return sizes.map((size) => Math.min(1, size / full));
}

export function bitGrid(answer, manhattan) {
  const bits = [...answer.bits];
  const strength = strengths(answer.margins ?? []);
  const cells = bits.map((bit, place) => {
    const margin = answer.margins ? answer.margins[place] : null;
    const told = margin === null ? "" : `, margin ${margin > 0 ? "+" : ""}${margin.toPrecision(3)}`;
    const cell = element("span", { class: `bit ${bit === "1" ? "one" : "zero"}`, title: `bit ${place}: ${bit}${told}` });
    if (margin !== null) cell.style.setProperty("--strength", strength[place].toFixed(3));
    return cell;
  });
  const ones = bits.filter((bit) => bit === "1").length;
  const label = `The query's code: ${counted(bits.length, "bit")}, ${ones} of them 1`;
  const grid = element("div", { class: "bits", role: "img", "aria-label": label }, ...cells);
  grid.style.setProperty("--columns", bits.length > WIDE ? 32 : 16);
  const paler = answer.margins ? "; paler: nearer its threshold" : "";
  const rest = `${counted(bits.length, "bit")}, filled: 1${paler}`;
  const caption = element("p", { class: "quiet caption" }, rest);

  function compare(found) {
    let differing = 0;
    cells.forEach((cell, place) => {
      const differs = found !== null && found.bits[place] !== bits[place];
      cell.classList.toggle("differs", differs);
      differing += differs;
    });
    grid.classList.toggle("comparing", found !== null);
    const steps = manhattan ? `, ${found?.distance} in Manhattan distance` : "";
    caption.textContent = found === null ? rest : `item ${found.row} differs in ${counted(differing, "bit")}${steps}`;
  }
  return { node: element("div", { class: "code" }, grid, caption), compare };
}
