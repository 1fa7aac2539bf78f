// A code as a grid of bits. Filled bits are 1, pale bits are near their threshold, ringed bits differ from the hovered item.

import { element, formatCount } from "./elements.js";

const MAX_NARROW_BITS = 64;

// Sizes of margins, scaled to 1 at twice their mean so that one large margin does not hide the others.
function scaleMargins(margins) {
  const sizes = margins.map(Math.abs);
  const full = (2 * sizes.reduce((sum, size) => sum + size, 0)) / sizes.length || 1;
  return sizes.map((size) => Math.min(1, size / full));
}

export function bitGrid(answer, manhattan) {
  const bits = [...answer.bits];
  const strength = scaleMargins(answer.margins ?? []);
  const cells = bits.map((bit, place) => {
    const margin = answer.margins ? answer.margins[place] : null;
    const suffix = margin === null ? "" : `, margin ${margin > 0 ? "+" : ""}${margin.toPrecision(3)}`;
    const cell = element("span", { class: `bit ${bit === "1" ? "one" : "zero"}`, title: `bit ${place}: ${bit}${suffix}` });
    if (margin !== null) cell.style.setProperty("--strength", strength[place].toFixed(3));
    return cell;
  });
  const ones = bits.filter((bit) => bit === "1").length;
  const label = `The query's code: ${formatCount(bits.length, "bit")}, ${ones} of them 1`;
  const grid = element("div", { class: "bits", role: "img", "aria-label": label }, ...cells);
  grid.style.setProperty("--columns", bits.length > MAX_NARROW_BITS ? 32 : 16);
  const pale = answer.margins ? "; pale bits are near their threshold" : "";
  const legend = `${formatCount(bits.length, "bit")}; filled bits are 1${pale}`;
  const caption = element("p", { class: "quiet caption" }, legend);

  function compare(found) {
    let differing = 0;
    cells.forEach((cell, place) => {
      const differs = found !== null && found.bits[place] !== bits[place];
      cell.classList.toggle("differs", differs);
      differing += differs;
    });
    grid.classList.toggle("comparing", found !== null);
    const distance = manhattan ? `, ${found?.distance} in Manhattan distance` : "";
    caption.textContent = found === null ? legend : `item ${found.row} differs in ${formatCount(differing, "bit")}${distance}`;
  }
  return { node: element("div", { class: "code" }, grid, caption), compare };
}
