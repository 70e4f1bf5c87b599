"use strict";
// What all pages share: elements, packed bytes, scales of colours, maps of cells. Every text goes in
// as text, never as HTML.
const shared = (function () {
  document.documentElement.classList.add("js");

  // ---- elements

  function make(tag, attributes, ...children) {
    return filled(document.createElement(tag), attributes, children);
  }

  function draw(tag, attributes, ...children) {
    return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  }

  function filled(node, attributes, children) {
    for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }

  // A table of texts or elements; the first of each row is its heading.
  function table(head, rows, attributes) {
    const top = make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)));
    const lines = rows.map((row) => make("tr", {}, make("th", { scope: "row" }, row[0]), ...row.slice(1).map((cell) => make("td", {}, cell))));
    return make("table", attributes, make("thead", {}, top), make("tbody", {}, ...lines));
  }

  // The data of the page, and what is packed in it as base64.
  const data = () => JSON.parse(document.getElementById("data").textContent);
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

  // ---- colours

  // Colours of the style sheet as they are now, in light or dark: [[r, g, b], ...].
  function colours(...names) {
    const probe = document.body.appendChild(make("span"));
    const found = names.map((name) => {
      probe.style.color = "var(--" + name + ")";
      return getComputedStyle(probe).color.match(/\d+/g).slice(0, 3).map(Number);
    });
    probe.remove();
    return found;
  }

  // The colour at x between those at [[place, colour], ...]; where two share a place, the first is for it.
  function between(stops, x) {
    let i = 0;
    while (i < stops.length - 2 && (x > stops[i + 1][0] + 1e-9 || stops[i][0] === stops[i + 1][0])) i++;
    const [[from, low], [to, high]] = [stops[i], stops[i + 1]];
    const part = Math.min(1, Math.max(0, (x - from) / (to - from)));
    return low.map((value, j) => Math.round(value + part * (high[j] - value)));
  }

  const css = (colour) => "rgb(" + colour.join(",") + ")";

  // ---- maps of cells

  // One pixel a cell.
  function paint(canvas, columns, rows, colourOf) {
    canvas.width = columns;
    canvas.height = rows;
    const context = canvas.getContext("2d");
    const picture = context.createImageData(columns, rows);
    for (let i = 0; i < rows * columns; i++) picture.data.set([...colourOf(i), 255], 4 * i);
    context.putImageData(picture, 0, 0);
  }

  // Calls tell(cell) for the cell under the pointer, or under a cursor that the arrow keys move. The
  // cursor begins at begin().
  function walk(canvas, columns, rows, begin, tell) {
    let at = -1;
    function go(cell) {
      at = cell;
      tell(cell);
    }
    canvas.tabIndex = 0;
    canvas.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect();
      const x = Math.floor(((event.clientX - box.left) / box.width) * columns);
      const y = Math.floor(((event.clientY - box.top) / box.height) * rows);
      if (x >= 0 && y >= 0 && x < columns && y < rows) go(y * columns + x);
    });
    canvas.addEventListener("focus", () => go(begin(at)));
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
      if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      if (at + step >= 0 && at + step < columns * rows) go(at + step);
    });
  }

  return { make, draw, table, data, bytes, colours, between, css, paint, walk };
}());
