// A mask painted over a picture. The mask, `value`, is a byte for each pixel of the picture, row by row: 1 is painted.

// What is painted lies under a cloth of two greys, pixel by pixel, which changes no colour into another: red, green,
// blue, how opaque. tests/test_painting.py says how well it is seen.
const CLOTH = [[64, 64, 64, 0.6], [230, 230, 230, 0.6]];
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
const UNDOS = 50;
const within = (value, low, high) => Math.min(high, Math.max(low, value));

// Where a pointer is on a picture of wide x high pixels that fills the rectangle `at` of the page: [x, y] in the
// picture's own pixels, from the left and from above. Pixel (i, j) reaches from i to i + 1 and from j to j + 1.
// It is here alone that the page's pixels become the picture's, so it does not matter how large the page shows it.
export function position({ clientX, clientY }, at, wide, high) {
  return [((clientX - at.left) / at.width) * wide, ((clientY - at.top) / at.height) * high];
}

// Sets the pixels that a round brush, `brush` of them wide, passes over on its way between two positions to `ink`.
// The brush snaps to whole pixels, so that one of width 1 is the pixel that the pointer is on, wherever in it.
export function stroke(bits, wide, high, from, to, brush, ink) {
  const snap = (value) => (brush % 2 ? Math.floor(value) + 0.5 : Math.round(value));
  const [[x0, y0], [x1, y1]] = [from.map(snap), to.map(snap)];
  const [dx, dy, reach] = [x1 - x0, y1 - y0, brush / 2];
  const long = dx * dx + dy * dy;
  for (let j = Math.max(0, Math.floor(Math.min(y0, y1) - reach)); j < Math.min(high, Math.max(y0, y1) + reach); j++) {
    for (let i = Math.max(0, Math.floor(Math.min(x0, x1) - reach)); i < Math.min(wide, Math.max(x0, x1) + reach); i++) {
      const [x, y] = [i + 0.5 - x0, j + 0.5 - y0]; // the middle of a pixel, seen from the beginning
      const along = long ? within((x * dx + y * dy) / long, 0, 1) : 0;
      if ((x - along * dx) ** 2 + (y - along * dy) ** 2 <= reach * reach) bits[j * wide + i] = ink;
    }
  }
}

// The border of what is painted, as a path of lines between pixels, each `zoom` wide.
function border(bits, wide, high, zoom) {
  const path = new Path2D();
  const at = (i, j) => i >= 0 && j >= 0 && i < wide && j < high && bits[j * wide + i];
  const line = (x0, y0, x1, y1) => (path.moveTo(x0 * zoom, y0 * zoom), path.lineTo(x1 * zoom, y1 * zoom));
  for (let j = 0; j < high; j++) {
    for (let i = 0; i < wide; i++) {
      if (!at(i, j)) continue;
      if (!at(i - 1, j)) line(i, j, i, j + 1);
      if (!at(i + 1, j)) line(i + 1, j, i + 1, j + 1);
      if (!at(i, j - 1)) line(i, j, i + 1, j);
      if (!at(i, j + 1)) line(i, j + 1, i + 1, j + 1);
    }
  }
  return path;
}

function made(tag, parent, properties) {
  const element = Object.assign(document.createElement(tag), properties);
  parent.append(element);
  return element;
}

function render({ model, el }) {
  const [wide, high, alt, button] = ["wide", "high", "alt", "button"].map((name) => model.get(name));
  const shown = Math.max(1, Math.round(model.get("size") / wide)); // as wide is a pixel on the page, if it has room
  const received = () => {
    const view = model.get("value"); // of a message that may hold more
    return new Uint8Array(view.buffer, view.byteOffset, wide * high).slice();
  };
  let bits = received();
  let sent = bits.slice(); // as the kernel knows it
  let [ink, brush, down, hover] = [1, Math.max(1, Math.round(wide / 8)), null, null];
  const undos = [];
  const same = (one, other) => one.every((bit, i) => bit === other[i]);

  const root = made("div", el, { className: "minildm-tool" });
  root.style.width = `${Math.max(wide * shown, 256)}px`; // room for the buttons
  root.dataset.lmSuppressShortcuts = "true"; // JupyterLab would take the arrow keys for itself
  const frame = made("div", root, { className: "minildm-frame" });
  frame.style.width = `${wide * shown}px`;
  frame.style.aspectRatio = `${wide} / ${high}`;
  const image = made("img", frame, { draggable: false, alt });
  const url = URL.createObjectURL(new Blob([model.get("picture")], { type: "image/png" }));
  image.src = url;
  const zoom = shown * Math.ceil(window.devicePixelRatio); // of the canvas's pixels
  const canvas = made("canvas", frame, { width: wide * zoom, height: high * zoom, tabIndex: 0 });
  canvas.setAttribute("role", "application");
  const label = "arrow keys move the brush, with Shift they paint; Space paints; Control and Z undoes";
  canvas.setAttribute("aria-label", `mask over ${alt}: ${label}`);
  const small = Object.assign(document.createElement("canvas"), { width: wide, height: high });

  const bar = made("div", root, { className: "minildm-bar" });
  const inks = made("div", bar, { className: "minildm-joined" });
  inks.setAttribute("role", "group");
  inks.setAttribute("aria-label", "what the pointer does");
  const [paint, erase] = ["Paint", "Erase"].map((name) => made("button", inks, { type: "button", textContent: name }));
  const undo = made("button", bar, { type: "button", textContent: "Undo" });
  const clear = made("button", bar, { type: "button", textContent: "Clear" });
  const width = made("label", bar, { className: "minildm-brush", textContent: "Brush" });
  const slider = made("input", width, { type: "range", min: 1, max: Math.max(2, wide >> 1), value: brush });
  slider.setAttribute("aria-label", "width of the brush in pixels");
  const number = made("output", width, {});
  const foot = made("div", root, { className: "minildm-bar minildm-foot" });
  const status = made("span", foot, { className: "minildm-status" });
  status.setAttribute("role", "status");
  const send = button && made("button", foot, { type: "button", textContent: button, className: "minildm-send" });

  const draw = () => {
    const pixels = new ImageData(wide, high);
    bits.forEach((bit, i) => {
      const [red, green, blue, opaque] = CLOTH[((i % wide) + Math.floor(i / wide)) % 2];
      if (bit) pixels.data.set([red, green, blue, 255 * opaque], 4 * i);
    });
    small.getContext("2d").putImageData(pixels, 0, 0);
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
    const lines = [border(bits, wide, high, zoom)];
    if (hover) {
      const tip = new Uint8Array(wide * high);
      stroke(tip, wide, high, hover, hover, brush, 1);
      lines.push(border(tip, wide, high, zoom));
    }
    for (const [colour, thick] of [["black", 3], ["white", 1]]) { // seen on any ground
      [context.strokeStyle, context.lineWidth] = [colour, thick * Math.ceil(window.devicePixelRatio)];
      lines.forEach((line) => context.stroke(line));
    }
  };

  const tell = () => {
    const painted = bits.reduce((sum, bit) => sum + bit, 0);
    const share = Math.max(1, Math.round((100 * painted) / bits.length));
    const told = painted ? `${painted} pixel${painted > 1 ? "s" : ""} (${share}%)` : "Drag over the picture to paint.";
    const text = model.get("busy") ? "Drawing …" : told;
    if (status.textContent !== text) status.textContent = text;
    paint.setAttribute("aria-pressed", ink === 1);
    erase.setAttribute("aria-pressed", ink === 0);
    [undo.disabled, clear.disabled, number.value] = [!undos.length, !painted, brush];
    if (send) send.disabled = same(bits, sent);
    draw();
  };

  // The kernel is told when a stroke ends or, where there is a button, when that is pressed.
  const commit = () => {
    if (!same(bits, sent)) {
      sent = bits.slice();
      model.set("value", new DataView(sent.slice().buffer));
      model.save_changes();
    }
    tell();
  };
  const changed = () => (send ? tell() : commit());
  const keep = () => {
    undos.push(bits.slice());
    if (undos.length > UNDOS) undos.shift();
  };
  const finish = () => {
    if (undos.length && same(undos.at(-1), bits)) undos.pop(); // a stroke that painted nothing new
    changed();
  };
  const act = (change) => {
    keep();
    change();
    finish();
  };
  const back = () => {
    if (undos.length) bits = undos.pop();
    changed();
  };

  const here = (event) => position(event, canvas.getBoundingClientRect(), wide, high);
  canvas.onpointerdown = (event) => {
    if (event.button || down) return;
    canvas.setPointerCapture(event.pointerId);
    canvas.focus({ preventScroll: true });
    event.preventDefault();
    keep();
    down = hover = here(event);
    stroke(bits, wide, high, down, down, brush, ink);
    draw();
  };
  canvas.onpointermove = (event) => {
    hover = here(event);
    if (down && canvas.hasPointerCapture(event.pointerId)) {
      stroke(bits, wide, high, down, hover, brush, ink);
      down = hover;
    }
    draw();
  };
  canvas.onlostpointercapture = () => {
    if (!down) return;
    down = null;
    finish();
  };
  canvas.onpointerleave = canvas.onblur = () => {
    hover = null;
    draw();
  };
  canvas.onkeydown = (event) => {
    const undoing = event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey);
    if (!(event.key in STEPS) && event.key !== " " && !undoing) return;
    event.preventDefault();
    event.stopPropagation();
    if (down) return;
    if (undoing) return back();
    const from = hover ?? [wide / 2, high / 2];
    const [dx, dy] = STEPS[event.key] ?? [0, 0];
    hover = [within(from[0] + dx, 0, wide - 0.5), within(from[1] + dy, 0, high - 0.5)];
    if (event.key === " " || event.shiftKey) act(() => stroke(bits, wide, high, from, hover, brush, ink));
    else draw();
  };
  const choose = (chosen) => {
    ink = chosen;
    tell();
  };
  paint.onclick = () => choose(1);
  erase.onclick = () => choose(0);
  slider.oninput = () => {
    brush = Number(slider.value);
    tell();
  };
  undo.onclick = back;
  clear.onclick = () => act(() => bits.fill(0));
  if (send) send.onclick = commit;

  // What the kernel repeats after the page is no news, and must not undo a stroke that has begun since.
  const news = () => {
    if (same(received(), sent)) return;
    keep();
    [bits, sent] = [received(), received()];
    tell();
  };
  model.on("change:value", news);
  model.on("change:busy", tell);
  tell();
  return () => {
    model.off("change:value", news);
    model.off("change:busy", tell);
    URL.revokeObjectURL(url);
  };
}

export default { render };
