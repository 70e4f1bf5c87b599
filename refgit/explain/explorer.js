// Draws what is known of one word at a time.
(function () {
  const { make, draw, bytes } = shared;
  const data = shared.data();
  const $ = (id) => document.getElementById(id);
  const root = document.documentElement;
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const [F, R, C] = data.grid;
  const N = F * (1 + R * C); // image tokens: of each frame the class token, then the patches
  const L = N + data.context.length;
  const layers = data.heads.length;
  const starts = data.heads.map((_, i) => data.heads.slice(0, i).reduce((n, h) => n + h.length, 0));
  const allHeads = starts[layers - 1] + data.heads[layers - 1].length;
  const words = Array.from(document.querySelectorAll(".word"));
  const frames = Array.from(document.querySelectorAll("#frames img"));
  // layer -1 is all of them; head is an index into the heads that its layer has left
  const now = { word: 0, mode: "mean", layer: -1, head: 0, frame: 0, patch: -1 };

  // ---- small helpers

  function percent(p) {
    if (p === null || !Number.isFinite(p)) return "not a number";
    const x = 100 * p;
    if (x > 0 && x < 0.01) return "< 0.01 %";
    if (x >= 99.95 && x < 100) return "> 99.9 %";
    return x.toFixed(x >= 1 || x === 0 ? 1 : 2) + " %";
  }

  // ---- attention: bytes on a square-root scale, see `packed` in html.py

  function unpacked(block) {
    const codes = bytes(block.codes);
    const largest = new DataView(bytes(block.largest).buffer);
    const rows = codes.length / L;
    const shares = new Float32Array(codes.length);
    for (let row = 0; row < rows; row++) {
      const most = largest.getFloat32(4 * row, true);
      for (let i = row * L; i < (row + 1) * L; i++) shares[i] = most * (codes[i] / 255) ** 2;
    }
    return (row) => shares.subarray(row * L, (row + 1) * L);
  }

  const ofHead = unpacked(data.attention);
  const ofRollout = unpacked(data.rollout);

  function mean(rows) {
    const sum = new Float32Array(L);
    for (const row of rows) for (let i = 0; i < L; i++) sum[i] += row[i] / rows.length;
    return sum;
  }

  const headRow = (word, layer, head) => ofHead(word * allHeads + starts[layer] + head);
  const layerRow = (word, layer) => mean(data.heads[layer].map((_, h) => headRow(word, layer, h)));
  const rolledRow = (word, layer) => ofRollout(word * layers + (layer < 0 ? layers - 1 : layer));

  // What is chosen now, for a word: L shares.
  function row(word) {
    if (now.mode === "rolled") return rolledRow(word, now.layer);
    if (now.mode === "head") return headRow(word, now.layer, now.head);
    if (now.layer >= 0) return layerRow(word, now.layer);
    return mean(data.heads.map((_, i) => layerRow(word, i)));
  }

  const classToken = (frame) => frame * (1 + R * C);
  const patches = (shares, frame) => shares.subarray(classToken(frame) + 1, classToken(frame + 1));
  const sum = (list) => list.reduce((a, b) => a + b, 0);

  function best(shares) {
    let place = [0, 0];
    for (let f = 0; f < F; f++) {
      patches(shares, f).forEach((x, i) => { if (x > patches(shares, place[0])[place[1]]) place = [f, i]; });
    }
    return place;
  }

  const spot = (i) => "row " + (Math.floor(i / C) + 1) + ", column " + ((i % C) + 1);
  const where = ([f, i]) => (F > 1 ? "frame " + (f + 1) + ", " : "") + spot(i);

  function chosen() {
    const layer = now.layer < 0 ? "all layers" : "layer " + (now.layer + 1);
    if (now.mode === "rolled") return now.layer < 0 ? "rollout through all layers" : "rollout up to " + layer;
    if (now.mode === "head") return layer + ", head " + (data.heads[now.layer][now.head] + 1);
    return "mean of the heads of " + layer;
  }

  // ---- the map

  const heat = shared.colours("h0", "h1", "h2", "h3", "h4").map((colour, i, all) => [i / (all.length - 1), colour]);
  const colour = (x) => shared.between(heat, x);

  const map = $("map");
  const cell = Math.max(8, Math.round(896 / C)); // twice what is seen, for sharp lines
  let shown = null; // levels on the canvas, 0 to 1
  let fading = 0;

  const greys = [];

  function grey(frame) {
    if (greys[frame]) return greys[frame];
    const picture = frames[frame];
    const canvas = make("canvas", { width: picture.naturalWidth, height: picture.naturalHeight });
    const context = canvas.getContext("2d");
    context.drawImage(picture, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < pixels.data.length; i += 4) {
      const [r, g, b] = pixels.data.subarray(i, i + 3);
      pixels.data.fill(0.299 * r + 0.587 * g + 0.114 * b, i, i + 3);
    }
    context.putImageData(pixels, 0, 0);
    greys[frame] = canvas;
    return canvas;
  }

  function levels() {
    const shares = patches(row(now.word), now.frame);
    let most = 0;
    const counted = $("same").checked ? data.words.map((_, k) => k) : [now.word];
    for (const k of counted) {
      const all = row(k);
      for (let f = 0; f < F; f++) for (const x of patches(all, f)) most = Math.max(most, x);
    }
    return { most: most, list: Array.from(shares, (x) => (most > 0 ? x / most : 0)) };
  }

  function paint(list) {
    map.width = cell * C;
    map.height = cell * R;
    const context = map.getContext("2d");
    const picture = frames[now.frame];
    const blend = Number($("blend").value) / 100;
    context.imageSmoothingEnabled = map.width < 3 * picture.naturalWidth; // else its pixels show
    context.drawImage(picture, 0, 0, map.width, map.height);
    context.globalAlpha = Math.min(1, 1.2 * blend); // grey, so that the heat's are the only colours
    context.drawImage(grey(now.frame), 0, 0, map.width, map.height);
    context.globalAlpha = 1;
    list.forEach((x, i) => {
      context.fillStyle = "rgba(" + colour(x).join(",") + "," + blend * (blend + (1 - blend) * (0.85 + 0.45 * x)) + ")";
      context.fillRect((i % C) * cell, Math.floor(i / C) * cell, cell, cell);
    });
    if ($("lines").checked) {
      context.fillStyle = "rgba(255,255,255,.28)";
      const thin = cell < 80 ? 1 : 2;
      for (let c = 1; c < C; c++) context.fillRect(c * cell - 1, 0, thin, map.height);
      for (let r = 1; r < R; r++) context.fillRect(0, r * cell - 1, map.width, thin);
    }
    if (now.patch >= 0) {
      const [left, top] = [(now.patch % C) * cell, Math.floor(now.patch / C) * cell];
      for (const [style, width] of [["#000", 8], ["#fff", 4]]) {
        context.strokeStyle = style;
        context.lineWidth = width;
        context.strokeRect(left + 4, top + 4, cell - 8, cell - 8);
      }
    }
    shown = list;
  }

  function showMap(fade) {
    const { most, list } = levels();
    $("most").textContent = percent(most);
    const shares = row(now.word);
    const place = best(shares);
    map.setAttribute("aria-label", "Attention over the patches, " + R + " rows and " + C + " columns, " + chosen() +
      ": most, " + percent(patches(shares, place[0])[place[1]]) + ", at " + where(place) + "; the table below has all numbers.");
    cancelAnimationFrame(fading);
    if (!fade || still.matches || !shown) { paint(list); return; }
    const before = shown;
    const start = performance.now();
    (function step(time) {
      const part = Math.min(1, Math.max(0, time - start) / 220);
      paint(list.map((x, i) => before[i] + part * (x - before[i])));
      if (part < 1) fading = requestAnimationFrame(step);
    })(start);
  }

  function point(patch) {
    now.patch = patch;
    const share = patches(row(now.word), now.frame)[patch];
    $("readout").textContent = patch < 0 ? "Point at a patch, or focus the picture and use the arrow keys."
      : (F > 1 ? "frame " + (now.frame + 1) + ", " : "") + spot(patch) + ": " + percent(share) + " of the attention";
  }

  shared.walk(map, C, R, () => best(row(now.word))[1], (patch) => {
    if (patch !== now.patch) { point(patch); showMap(false); }
  });
  map.addEventListener("pointerleave", () => { if (document.activeElement !== map) { point(-1); showMap(false); } });
  map.addEventListener("blur", () => { point(-1); showMap(false); });

  function showTable() {
    if (!$("numbers").open) return;
    const shares = patches(row(now.word), now.frame);
    const most = Math.max(...shares);
    const number = (x) => make("span", x === most ? { class: "top" } : {}, (100 * x).toFixed(1));
    const lines = Array.from({ length: R }, (_, r) => [String(r + 1), ...Array.from(shares.subarray(r * C, (r + 1) * C), number)]);
    const table = shared.table(["", ...Array.from({ length: C }, (_, c) => String(c + 1))], lines);
    table.prepend(make("caption", { class: "hidden" }, "Attention in per cent, " + chosen()));
    document.querySelector("#numbers .wide").replaceChildren(table);
  }

  // ---- all heads: a button each, the mean and rollout of each layer behind them

  const thumbs = $("thumbs");
  const most = Math.max(...data.heads.map((h) => h.length));
  const small = []; // {button, canvas, layer, head, mode}

  function buildThumbs() {
    const known = Array.from(new Set(data.heads.flat())).sort((a, b) => a - b);
    thumbs.style.gridTemplateColumns = "max-content repeat(" + (known.length + 2) + ", minmax(20px, 56px))";
    const titles = ["", ...known.map((h) => String(h + 1)), "mean", "roll"];
    titles.forEach((title) => thumbs.append(make("span", { "aria-hidden": "true" }, title)));
    for (let layer = 0; layer < layers; layer++) {
      thumbs.append(make("span", { class: "side", "aria-hidden": "true" }, "layer " + (layer + 1)));
      for (const h of known) {
        const head = data.heads[layer].indexOf(h);
        thumbs.append(head < 0 ? make("span", { title: "pruned" }, "×") : thumb(layer, head, "head"));
      }
      thumbs.append(thumb(layer, 0, "mean"), thumb(layer, 0, "rolled"));
    }
  }

  function thumb(layer, head, mode) {
    const canvas = make("canvas", { width: C, height: R, "aria-hidden": "true" });
    const button = make("button", { type: "button", tabindex: "-1" }, canvas);
    button.style.aspectRatio = C + " / " + R;
    button.addEventListener("click", () => { Object.assign(now, { layer: layer, head: head, mode: mode }); show(); });
    small.push({ button: button, canvas: canvas, layer: layer, head: head, mode: mode });
    return button;
  }

  function showThumbs() {
    let current = null;
    for (const t of small) {
      const all = t.mode === "head" ? headRow(now.word, t.layer, t.head) : t.mode === "mean" ? layerRow(now.word, t.layer) : rolledRow(now.word, t.layer);
      const shares = patches(all, now.frame);
      const top = Math.max(...shares) || 1;
      shared.paint(t.canvas, C, R, (i) => colour(shares[i] / top));
      const what = t.mode === "head" ? "head " + (data.heads[t.layer][t.head] + 1) : t.mode === "mean" ? "mean of heads" : "rollout up to here";
      t.button.setAttribute("aria-label", "layer " + (t.layer + 1) + ", " + what + ": most at " + where(best(all)));
      const same = t.mode === now.mode && t.layer === now.layer && (t.mode !== "head" || t.head === now.head);
      t.button.setAttribute("aria-current", String(same));
      t.button.tabIndex = -1;
      if (same) current = t;
    }
    (current || small[0]).button.tabIndex = 0;
  }

  thumbs.addEventListener("keydown", (event) => {
    const at = small.findIndex((t) => t.button === document.activeElement);
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const row = small.filter((t) => t.layer === small[at].layer);
    const x = row.indexOf(small[at]);
    const level = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const other = small.filter((t) => t.layer === small[at].layer + level);
    const next = { ArrowLeft: row[x - 1], ArrowRight: row[x + 1], Home: row[0], End: row[row.length - 1] }[event.key] ||
      (level && other.length ? other[Math.min(x, other.length - 1)] : null);
    if (!next) return;
    event.preventDefault();
    next.button.click();
    next.button.focus();
  });

  // ---- bars, lens, charts

  function bar(p, scale) {
    const inner = make("span");
    inner.style.width = Math.max(0, Math.min(100, (100 * p) / scale)) + "%";
    return make("span", { class: "track", "aria-hidden": "true" }, inner);
  }

  function bars(caption, lines) {
    return make("table", { class: "bars" }, make("caption", { class: "hidden" }, caption), make("tbody", {},
      ...lines.map(([name, p, kind]) => make("tr", { class: kind || "" }, make("th", { scope: "row" }, name),
        make("td", {}, bar(p, 1)), make("td", { class: "n" }, percent(p))))));
  }

  function showRivals() {
    const word = data.words[now.word];
    const lines = word.top.map(([token, p, id]) => [token, p, id === word.id ? "own" : ""]);
    if (!word.top.some((other) => other[2] === word.id)) lines.push([word.token + " (rank " + word.rank.toLocaleString("en") + ")", word.p, "own rule"]);
    $("rivals").replaceChildren(bars("The likeliest words, and their probabilities", lines));
  }

  function showSources() {
    const shares = row(now.word);
    const lines = [];
    for (let f = 0; f < F; f++) {
      lines.push([F > 1 ? "frame " + (f + 1) : "patches", sum(patches(shares, f))]);
    }
    lines.push([F > 1 ? "class tokens" : "class token", sum(Array.from({ length: F }, (_, f) => shares[classToken(f)]))]);
    data.context.slice(0, now.word + 1).forEach((token, i) => lines.push([token, shares[N + i], i ? "" : "rule"]));
    $("sources").replaceChildren(bars("Attention, " + chosen(), lines));
    document.querySelector("#from .quiet").textContent =
      "The same attention (" + chosen() + ") over everything the position sees: the image, and the words before.";
  }

  function showLens() {
    const word = data.words[now.word];
    const head = make("tr", {}, ...["after", "it would say", "probability", "of “" + word.token + "”"].map((text, i) =>
      make("th", { scope: "col", class: i > 1 ? "n" : "" }, text)));
    const lines = word.lens.map(([token, p, own], i) => make("tr", token === word.token ? { class: "own" } : {},
      make("th", { scope: "row" }, i ? "layer " + i : "the embedding"), make("td", {}, token),
      make("td", { class: "n" }, percent(p)), make("td", { class: "n" }, percent(own))));
    $("lens").replaceChildren(make("div", { class: "wide" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...lines))));
  }

  const [W, H, LEFT, BELOW] = [300, 120, 38, 34];

  function chart(title, lines, band) {
    const values = [...lines.flatMap((l) => l.values), ...(band || []).flat()].filter(Number.isFinite);
    const top = Math.max(1e-9, ...values) * 1.05;
    const count = lines[0].values.length;
    const x = (i) => LEFT + (count > 1 ? (i / (count - 1)) * (W - LEFT - 8) : 0);
    const y = (v) => 6 + (H - 6) * (1 - (Number.isFinite(v) ? v : 0) / top);
    const path = (list) => list.map((v, i) => (i ? "L" : "M") + x(i).toFixed(1) + " " + y(v).toFixed(1)).join("");
    const main = lines[lines.length - 1].values;
    const svg = draw("svg", { viewBox: "0 0 " + W + " " + (H + BELOW), role: "img",
      "aria-label": title + ", layer by layer from 0: " + main.map((v) => (v === null ? "none" : v.toPrecision(3))).join(", ") });
    svg.append(draw("line", { class: "axis", x1: LEFT, x2: W, y1: H, y2: H }));
    for (const v of [0, top / 2.1, top / 1.05]) {
      svg.append(draw("line", { class: "axis", x1: LEFT, x2: W, y1: y(v), y2: y(v) }),
        draw("text", { x: LEFT - 6, y: y(v) + 4, "text-anchor": "end" }, Number(v.toPrecision(3)).toLocaleString("en")));
    }
    const step = Math.ceil(count / 13);
    for (let i = 0; i < count; i += step) svg.append(draw("text", { x: x(i), y: H + 15, "text-anchor": "middle" }, String(i)));
    svg.append(draw("text", { x: (LEFT + W) / 2, y: H + 31, "text-anchor": "middle" }, "layer"));
    if (band) {
      const [low, high] = band;
      svg.append(draw("path", { class: "band", d: path(high) + low.map((v, i) => "L" + x(i).toFixed(1) + " " + y(v).toFixed(1)).reverse().join("") + "Z" }));
    }
    for (const line of lines) svg.append(draw("path", { class: "line" + (line.pale ? " pale" : ""), d: path(line.values) }));
    main.forEach((v, i) => svg.append(draw("circle", { class: "dot", cx: x(i), cy: y(v), r: 3 }, draw("title", {}, "layer " + i + ": " + v))));
    return make("figure", {}, make("figcaption", {}, title), svg);
  }

  function showCharts() {
    const image = [0, 1, 2].map((i) => data.image_norms.map((state) => state[i]));
    const others = data.words.filter((_, k) => k !== now.word).map((word) => ({ values: word.norms, pale: true }));
    $("charts").replaceChildren(
      chart("Image encoder: mean of the patches, and their range", [{ values: image[0] }], [image[1], image[2]]),
      chart("Decoder: this word" + (others.length ? ", the others pale" : ""), [...others, { values: data.words[now.word].norms }]));
  }

  // ---- choosing

  function say() {
    const word = data.words[now.word];
    $("said").textContent = "Word " + (now.word + 1) + " of " + words.length + ", “" + word.token + "”, probability " + percent(word.p) +
      (word.rank > 1 ? " (rank " + word.rank.toLocaleString("en") + ")" : "") + ", looks most at " + where(best(row(now.word))) + " (" + chosen() + ").";
  }

  function showControls() {
    words.forEach((button, k) => { button.setAttribute("aria-current", String(k === now.word)); button.tabIndex = k === now.word ? 0 : -1; });
    document.querySelectorAll("#all tbody tr").forEach((line, k) => line.setAttribute("aria-current", String(k === now.word)));
    document.querySelectorAll("#frames button").forEach((button, f) => {
      button.setAttribute("aria-current", String(f === now.frame));
      button.lastChild.textContent = "frame " + (f + 1) + "\n" + percent(sum(patches(row(now.word), f)));
    });
    document.querySelector('input[name="mode"][value="' + now.mode + '"]').checked = true;
    const each = now.mode === "head";
    const options = Array.from({ length: layers }, (_, i) => make("option", { value: i }, (now.mode === "rolled" ? "up to " : "") + (i + 1) + " of " + layers));
    $("layer").replaceChildren(...(each ? [] : [make("option", { value: -1 }, "all")]), ...options);
    $("layer").value = now.layer;
    const heads = data.heads[Math.max(0, now.layer)];
    $("head").replaceChildren(...(each ? heads.map((h, i) => make("option", { value: i }, h + 1 + " of " + most)) : [make("option", {}, "all")]));
    if (each) $("head").value = now.head;
    $("head").disabled = !each;
    $("back").setAttribute("aria-disabled", String(now.word === 0)); // and keeps the focus
    $("on").setAttribute("aria-disabled", String(now.word === words.length - 1));
  }

  function show(fade) {
    if (now.mode === "head") {
      if (now.layer < 0) now.layer = layers - 1;
      now.head = Math.min(now.head, data.heads[now.layer].length - 1);
    }
    if (now.patch >= 0) point(now.patch);
    showControls();
    showMap(fade);
    showThumbs();
    showTable();
    showRivals();
    showSources();
    showLens();
    showCharts();
    say();
  }

  function reveal(child, box) {
    const [a, b] = [child.getBoundingClientRect(), box.getBoundingClientRect()];
    box.scrollLeft += Math.min(0, a.left - b.left - 8) + Math.max(0, a.right - b.right + 8);
    box.scrollTop += Math.min(0, a.top - b.top - 4) + Math.max(0, a.bottom - b.bottom + 4);
  }

  function go(word, focus) {
    if (word < 0 || word >= words.length) return;
    now.word = word;
    show(true);
    if (focus) words[word].focus({ preventScroll: true });
    reveal(words[word], $("words"));
  }

  words.forEach((button, k) => button.addEventListener("click", () => { halt(); go(k); }));
  document.querySelectorAll("#frames button").forEach((button, f) => button.addEventListener("click", () => { now.frame = f; show(); }));
  document.querySelectorAll('input[name="mode"]').forEach((input) => input.addEventListener("change", () => { now.mode = input.value; show(); }));
  $("layer").addEventListener("change", (event) => { now.layer = Number(event.target.value); show(); });
  $("head").addEventListener("change", (event) => { now.head = Number(event.target.value); show(); });
  for (const id of ["blend", "lines", "same"]) $(id).addEventListener("input", () => showMap(false));
  $("numbers").addEventListener("toggle", showTable);

  // Left and right lead through the words, up and down through the layers.
  document.addEventListener("keydown", (event) => {
    const inWords = event.target.closest(".word");
    if ((!inWords && event.target !== document.body) || event.ctrlKey || event.metaKey || event.altKey) return;
    const word = { ArrowLeft: now.word - 1, ArrowRight: now.word + 1, Home: 0, End: words.length - 1 }[event.key];
    const layer = inWords ? { ArrowUp: now.layer - 1, ArrowDown: now.layer + 1 }[event.key] : undefined;
    if (word === undefined && layer === undefined) return;
    if (!inWords && (event.key === "Home" || event.key === "End")) return; // scrolls
    event.preventDefault();
    halt();
    if (word !== undefined) go(word, inWords);
    else if (layer >= (now.mode === "head" ? 0 : -1) && layer < layers) { now.layer = layer; show(); }
  });

  // ---- the player

  let timer = 0;

  function halt() {
    clearTimeout(timer);
    timer = 0;
    $("play").classList.remove("playing");
    $("play").setAttribute("aria-label", "play");
  }

  function tick() {
    if (now.word === words.length - 1) { halt(); return; }
    go(now.word + 1);
    timer = setTimeout(tick, Number($("speed").value));
  }

  $("play").addEventListener("click", () => {
    if (timer) { halt(); return; }
    if (now.word === words.length - 1) go(0);
    $("play").classList.add("playing");
    $("play").setAttribute("aria-label", "pause");
    timer = setTimeout(tick, Number($("speed").value));
  });
  $("speed").addEventListener("change", () => {
    if (timer) { clearTimeout(timer); timer = setTimeout(tick, Number($("speed").value)); }
  });
  $("back").addEventListener("click", () => { halt(); go(now.word - 1); });
  $("on").addEventListener("click", () => { halt(); go(now.word + 1); });

  // ---- the theme

  const themes = ["automatic", "light", "dark"];
  $("theme").addEventListener("click", () => {
    const next = themes[(themes.indexOf(root.dataset.theme || "automatic") + 1) % themes.length];
    if (next === "automatic") delete root.dataset.theme;
    else root.dataset.theme = next;
    $("theme").textContent = "Theme: " + next;
  });

  map.style.maxWidth = (36 * C) / R + "rem"; // so that its height has an end
  buildThumbs();
  Promise.all(frames.map((img) => img.decode().catch(() => null))).then(() => show());
}());
