// Shows one tensor at a time beside the tower.
(function () {
  const { make, draw, bytes, css } = shared;
  const data = shared.data();
  const tower = document.getElementById("tower");
  const detail = document.getElementById("detail");
  const live = document.getElementById("live");
  const buttons = Array.from(tower.querySelectorAll("button"));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let current = null; // the button chosen in the tower
  let shown = -1; // the row that it shows

  function number(x) {
    if (typeof x !== "number") return x === null ? "none" : String(x);
    if (x === 0 || Number.isInteger(x) && Math.abs(x) < 1e7) return x.toLocaleString("en");
    const size = Math.abs(x);
    return size >= 1e-3 && size < 1e6 ? String(Number(x.toPrecision(4))) : x.toExponential(2).replace("e+", "e");
  }

  const index = (list) => "[" + list.join(", ") + "]";

  // ---- errors: bytes on a logarithmic scale, see pictures.py

  const logOf = (code) => -3 + (code - 1) * 0.05;

  function said(code) {
    if (code === 0) return "equal";
    if (code === 255) return "NaN or infinite";
    const x = Math.pow(10, logOf(code));
    return (x < 10 ? x.toFixed(x < 0.1 ? 3 : 1) : x < 1e5 ? Math.round(x).toLocaleString("en") : x.toExponential(1).replace("e+", "e")) + " ×";
  }

  // Colours at these powers of ten; at the limit the blue ones end and the orange ones begin.
  const limit = Math.log10(data.multiple);
  const stops = [[limit - 3, 0], [limit, 1], [limit, 2], [limit + 2, 3], [limit + 4, 4], [limit + 6, 5]];

  // By code: 256 colours.
  function palette() {
    const base = shared.colours("k0", "k1", "k2", "k3", "k4", "k5");
    const places = stops.map(([place, k]) => [place, base[k]]);
    return Array.from({ length: 256 }, (_, code) => (code === 0 ? base[0] : shared.between(places, logOf(code))));
  }

  function paint(canvas, codes, columns, rows) {
    const colours = palette();
    const hatched = [[0, 0, 0], [119, 119, 119]]; // what is not finite
    shared.paint(canvas, columns, rows, (i) => (codes[i] === 255 ? hatched[i % 2] : colours[codes[i]]));
  }

  // ---- pictures

  const largest = (codes) => codes.reduce((a, b) => Math.max(a, b), 0);

  // A canvas of cells that says what is under the pointer, or under a cursor moved by keys.
  function cells(codes, columns, rows, size, label, describe) {
    const canvas = make("canvas", { role: "img", "aria-label": label });
    canvas.style.width = size[0] + "px";
    canvas.style.height = size[1] + "px";
    paint(canvas, codes, columns, rows);
    const readout = make("p", { class: "readout", role: "status" }, describe.hint);
    shared.walk(canvas, columns, rows, (at) => (at < 0 ? codes.indexOf(largest(codes)) : at), (at) => {
      readout.textContent = describe(Math.floor(at / columns), at % columns) + ": " + said(codes[at]);
    });
    return [canvas, readout];
  }

  const span = (name, first, last) => name + " " + (last > first ? first + " to " + last : first);

  function rowText(map, first, last) {
    const per = map.period;
    const where = (r) => {
      const place = r % per;
      if (!map.image || map.image >= per) return [map.rows, place];
      return place < map.image ? ["image " + map.rows, place] : ["text " + map.rows, place - map.image];
    };
    const many = map.R > per;
    const row = many ? "item " + Math.floor(first / per) + ", " : "";
    const [name, start] = where(first);
    const [lastName, end] = where(last);
    if (name !== lastName || Math.floor(first / per) !== Math.floor(last / per)) {
      return row + span(map.rows, first % per, first % per + last - first);
    }
    return row + span(name, start, end);
  }

  function heatMap(row) {
    const map = row.map;
    if (!map) return null;
    const blocks = map.r < map.R || map.c < map.C;
    const title = map.rows + "s × " + map.columns + "s";
    const size = map.R + " × " + map.C;
    if (!map.d) return make("p", { class: "quiet" }, "All " + size + " elements are equal: there is no heat map to draw.");
    const codes = bytes(map.d);
    const ends = (i, shownCells, all) => [Math.floor((i * all) / shownCells), Math.floor(((i + 1) * all) / shownCells) - 1];
    function describe(y, x) {
      const [top, bottom] = ends(y, map.r, map.R);
      const [left, right] = ends(x, map.c, map.C);
      return rowText(map, top, bottom) + ", " + span(map.columns, left, right);
    }
    describe.hint = "Point at a cell, or focus the map and use the arrow keys.";
    const width = Math.min(512, Math.max(128, map.c * 8));
    const height = Math.min(384, Math.max(Math.min(map.r * 16, 96), map.r * (width / map.c > 6 ? 6 : 3)));
    const label = "Heat map of the error, " + title + ", largest " + said(largest(codes));
    const folded = map.part ? " Folded over the " + map.part + "s by their largest error." : "";
    const image = map.image && map.image < map.period ? " The first " + map.image + " are the image's." : "";
    return make("figure", { id: "heat" },
      make("figcaption", {}, "Error: " + title + " (" + size + (blocks ? ", shown as " + map.r + " × " + map.c : "") + "). Down: " + map.rows + "s; across: " + map.columns + "s." + image + folded),
      ...cells(codes, map.c, map.r, [width, height], label, describe));
  }

  function patchGrid(row) {
    if (!row.grid) return null;
    const side = row.grid.side;
    const describe = (y, x) => "patch in row " + y + ", column " + x;
    describe.hint = "class" in row.grid ? "Class token: " + said(row.grid.class) : "";
    const which = "image" in row.grid ? " of image " + row.grid.image : "";
    const cell = Math.max(6, Math.min(24, Math.floor(224 / side)));
    return make("figure", { id: "grid" },
      make("figcaption", {}, "Image tokens where their patches lie" + which + "."),
      ...cells(bytes(row.grid.d), side, side, [side * cell, side * cell], "Errors of the image's patches, " + side + " × " + side, describe));
  }

  function parts(row) {
    if (!row.map || !row.map.parts) return null;
    const codes = bytes(row.map.parts);
    if (codes.length > 64) return null;
    const colours = palette();
    const lines = Array.from(codes, (code, i) => {
      const swatch = make("span", { class: "swatch", "aria-hidden": "true" });
      swatch.style.background = css(colours[code]);
      return [row.map.part + " " + i, make("span", {}, swatch, " " + said(code))];
    });
    return make("details", codes.length <= 4 ? { open: "" } : {},
      make("summary", {}, "Error of each " + row.map.part), make("div", { class: "wide" }, shared.table([row.map.part, "largest error"], lines)));
  }

  const WIDTH = 300, HEIGHT = 110;

  function histogram(title, label, bars, ticks) {
    const svg = draw("svg", { viewBox: "0 0 " + WIDTH + " " + (HEIGHT + 18), width: WIDTH, role: "img", "aria-label": label });
    svg.append(draw("line", { class: "axis", x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT }), ...bars);
    for (const [x, text, anchor] of ticks) svg.append(draw("text", { x: x, y: HEIGHT + 14, "text-anchor": anchor }, text));
    return make("figure", {}, make("figcaption", {}, title), svg);
  }

  function valueHistogram(row) {
    if (!row.values) return null;
    const [ours, theirs] = row.values.d.map(bytes);
    const top = Math.max(1, ...ours, ...(theirs || []));
    const step = WIDTH / ours.length;
    const bars = [];
    (theirs || []).forEach((n, i) => {
      const h = (n / top) * HEIGHT;
      bars.push(draw("rect", { class: "theirs", x: i * step, y: HEIGHT - h, width: step, height: h }));
    });
    let path = "M0 " + HEIGHT;
    ours.forEach((n, i) => { path += "V" + (HEIGHT - (n / top) * HEIGHT) + "H" + (i + 1) * step; });
    bars.push(draw("path", { class: "ours", d: path + "V" + HEIGHT }));
    return histogram("Values: the line is the reference, the filled bars are yours (logarithmic counts).",
      "Histogram of both tensors from " + row.values.low + " to " + row.values.high, bars,
      [[0, number(row.values.low), "start"], [WIDTH, number(row.values.high), "end"]]);
  }

  // The first bar is of equal elements, then half decades from 10^-3 noise floors.
  function errorHistogram(row) {
    if (!row.errors) return null;
    const counts = bytes(row.errors);
    const top = Math.max(1, ...counts);
    const step = WIDTH / (counts.length + 1);
    const colours = palette();
    const left = (i) => (i ? i + 1 : 0) * step;
    const bars = Array.from(counts, (n, i) => {
      const h = (n / top) * HEIGHT;
      const code = i ? Math.round((-3 + (i - 0.5) / 2 + 3) / 0.05) + 1 : 0;
      const bar = draw("rect", { x: left(i), y: HEIGHT - h, width: step - 1, height: h, stroke: "var(--quiet)", "stroke-width": 0.5 });
      bar.setAttribute("fill", css(colours[Math.min(254, code)]));
      return bar;
    });
    const at = (power) => (2 + 2 * (power + 3)) * step;
    bars.push(draw("line", { class: "limit", x1: at(limit), x2: at(limit), y1: 0, y2: HEIGHT }));
    const ticks = [[0, "equal", "start"]];
    for (const power of [0, 2, 4, 6, 8]) ticks.push([at(power), power ? "10" + "⁰¹²³⁴⁵⁶⁷⁸⁹"[power] : "1", "middle"]);
    return histogram("Errors in noise floors; the dashed line is what is allowed (logarithmic counts).",
      "Histogram of the error in multiples of the noise floor", bars, ticks);
  }

  function ramp() {
    const canvas = make("canvas", { "aria-hidden": "true" });
    const codes = Array.from({ length: 184 }, (_, i) => i + 41); // from 0.1 on
    paint(canvas, codes, codes.length, 1);
    const labels = [0, limit, 2, 4, 6].map((power) => {
      const text = power === limit ? data.multiple + " ×" : power > 2 ? "10" + "⁰¹²³⁴⁵⁶⁷⁸⁹"[power] + " ×" : Math.pow(10, power) + " ×";
      const label = make("span", {}, text);
      label.style.left = (100 * (power + 1)) / (codes.length * 0.05) + "%";
      return label;
    });
    return make("div", { class: "ramp", "aria-hidden": "true" }, canvas, ...labels);
  }

  // ---- words

  function facts(row) {
    const list = make("dl");
    const add = (name, value) => { if (value !== "" && value !== undefined) list.append(make("dt", {}, name), make("dd", {}, value)); };
    const by = row.floor && row.error > 1.01 * row.max_abs / row.floor ? " (its rms; the largest element " + number(row.max_abs / row.floor) + " ×)" : "";
    add("error", row.times.replace(" ×", " × the noise floor") + by + (row.ok ? " ✓ agrees" : " ✗ differs"));
    add("diagnosis", row.located === undefined ? "" : "◆ wrong by itself; " + row.located);
    add("note", row.note);
    add("noise floor", number(row.floor));
    add("largest difference", number(row.max_abs) + " at " + index(row.worst) + ", relative " + number(row.max_rel));
    add("rms", number(row.rms));
    add("cosine", row.cosine);
    add("units in the last place", number(row.ulp));
    add("elements that differ", (100 * row.mismatching).toPrecision(3) + " %" + (row.nan ? ", " + number(row.nan) + " NaN or infinite" : ""));
    add("your name", row.matched + " (matched by " + row.how + ")");
    add("shape", index(row.shape) + (index(row.other_shape) === index(row.shape) ? "" : "; yours " + index(row.other_shape)));
    add("layout", row.layout || "as ours");
    add("stored in", row.dtype);
    return list;
  }

  function table(head, rows, caption) {
    return make("div", { class: "wide numbers", tabindex: "0", role: "region", "aria-label": caption }, shared.table(head, rows));
  }

  function statistics(row) {
    if (!row.ours) return null;
    const line = (name, x) => [name, ...x.map(number)];
    return table(["", "smallest", "largest", "mean", "deviation", "not finite"],
      [line("reference", row.ours), line("yours", row.theirs)], "statistics");
  }

  function worst(row) {
    const list = row.worst_elements;
    if (!list || !list.length) return null;
    return make("div", {}, make("h3", {}, "Worst elements"),
      table(["index", "reference", "yours", "error in noise floors"],
        list.map(([place, ours, theirs, error]) => [index(place), String(ours), String(theirs), row.floor === 0 ? "differs" : number(error)]), "worst elements"));
  }

  function chips(row, i) {
    const box = make("div", { class: "chips", role: "group", "aria-label": "tensors of this layer" });
    data.rows.forEach((other, j) => {
      if (other.in !== row.in) return;
      const chip = make("button", { class: "k" + other.level, "data-i": j, "aria-current": String(i === j) }, other.short + " " + other.times);
      chip.addEventListener("click", () => { choose(cellOf(j)); const next = detail.querySelector('.chips [aria-current="true"]'); if (next) next.focus(); });
      box.append(chip);
    });
    return box;
  }

  // ---- choosing

  const cellOf = (i) => tower.querySelector('.cell[data-i="' + i + '"]');

  // Where the window is narrow, the tower is above.
  function back() {
    const link = make("a", { href: "#tower", class: "back" }, "↑ to the layers");
    link.addEventListener("click", (event) => {
      event.preventDefault();
      current.focus({ preventScroll: true });
      current.scrollIntoView({ block: "center" });
    });
    return link;
  }

  function show(i) {
    const row = data.rows[i];
    const first = row.first ? " (first divergence)" : "";
    detail.hidden = false;
    detail.replaceChildren(...[
      back(), make("h3", { tabindex: "-1" }, row.name + first),
      make("p", { class: "quiet" }, row.section + ", " + row.layer),
      chips(row, i), facts(row), make("div", { class: "figures" }, heatMap(row), patchGrid(row)),
      row.map && row.map.d ? ramp() : null, parts(row),
      make("div", { class: "figures" }, valueHistogram(row), errorHistogram(row)),
      statistics(row), worst(row),
    ].filter((node) => node !== null));
    detail.scrollTop = 0;
    shown = i;
  }

  function choose(button, follow) {
    if (!button) return;
    if (current) { current.removeAttribute("aria-current"); current.tabIndex = -1; }
    current = button;
    current.tabIndex = 0;
    current.setAttribute("aria-current", "true");
    const fold = button.closest("details");
    if (fold) fold.open = true;
    const i = Number(button.dataset.i);
    show(i);
    live.textContent = data.rows[i].name + ": " + data.rows[i].times + (data.rows[i].ok ? ", agrees" : ", differs");
    if (follow && detail.getBoundingClientRect().top > innerHeight * 0.7) detail.scrollIntoView({ block: "start" });
  }

  // Up and down go from layer to layer, left and right through the tensors of one.
  function neighbour(key) {
    const lines = Array.from(tower.querySelectorAll("details[open] li"));
    const line = current.closest("li");
    const y = lines.indexOf(line);
    const own = Array.from(line.querySelectorAll("button"));
    const x = own.indexOf(current);
    if (key === "ArrowLeft") return own[x - 1];
    if (key === "ArrowRight") return own[x + 1];
    const next = key === "Home" ? lines[0] : key === "End" ? lines[lines.length - 1] : lines[y + (key === "ArrowUp" ? -1 : 1)];
    if (!next) return null;
    const others = next.querySelectorAll("button");
    return others[Math.min(x, others.length - 1)];
  }

  for (const button of buttons) button.tabIndex = -1;
  tower.addEventListener("click", (event) => choose(event.target.closest("button"), true));
  tower.addEventListener("keydown", (event) => {
    if (!event.target.closest("button") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!/^(Arrow(Up|Down|Left|Right)|Home|End)$/.test(event.key)) return;
    event.preventDefault();
    const next = neighbour(event.key);
    if (next) { choose(next); next.focus(); }
  });
  document.getElementById("only").addEventListener("change", (event) => {
    document.querySelector("#all table").classList.toggle("only", event.target.checked);
  });
  document.querySelector("#all table").addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#t"]');
    if (!link) return;
    choose(cellOf(link.getAttribute("href").slice(2)));
    detail.scrollIntoView({ block: "start" });
  });
  dark.addEventListener("change", () => { if (shown >= 0) show(shown); });
  const wanted = /^#t(\d+)$/.exec(location.hash);
  choose(cellOf(wanted ? wanted[1] : data.start) || buttons[0]);
}());
