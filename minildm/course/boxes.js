// Boxes on an empty frame, each with a caption. `value` is a list of [caption, left, top, right, bottom], the sides in
// 0..1 of the frame, from the left and from above.

const HUES = ["#2f7de1", "#c2410c", "#0f8a6c"]; // white can be read on them, and they can be seen on white and on black
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
const LEAST = 0.05; // of the frame: a box less wide or high is a slip of the hand
const within = (value, low, high) => Math.min(high, Math.max(low, value));
const rounded = (value) => Math.round(100 * value) / 100;

// Where a pointer is on the frame that fills the rectangle `at` of the page: [x, y] in 0..1 of it, to a hundredth.
export function position({ clientX, clientY }, at) {
  const [x, y] = [(clientX - at.left) / at.width, (clientY - at.top) / at.height];
  return [rounded(within(x, 0, 1)), rounded(within(y, 0, 1))];
}

// A box whose corners are two positions.
export function spanned([x0, y0], [x1, y1]) {
  return [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
}

// A box moved by x and y as far as the frame lets it.
export function moved([left, top, right, bottom], x, y) {
  [x, y] = [within(x, -left, 1 - right), within(y, -top, 1 - bottom)];
  return [left + x, top + y, right + x, bottom + y].map(rounded);
}

// A box whose corner at `side` (0 left, 2 right) and `edge` (1 top, 3 bottom) is put at x, y and not past the opposite.
export function resized(box, side, edge, x, y) {
  const sized = [...box];
  sized[side] = side ? within(x, box[0] + LEAST, 1) : within(x, 0, box[2] - LEAST);
  sized[edge] = edge === 3 ? within(y, box[1] + LEAST, 1) : within(y, 0, box[3] - LEAST);
  return sized.map(rounded);
}

// The words of a caption, one of each of the lists; null if it is not made of them.
export function parted(caption, [words, ...more]) {
  if (!words) return caption ? null : [];
  for (const word of words) {
    const rest = caption === word ? "" : caption.startsWith(`${word} `) ? caption.slice(word.length + 1) : null;
    const found = rest === null ? null : parted(rest, more);
    if (found) return [word, ...found];
  }
  return null;
}

function made(tag, parent, properties) {
  const element = Object.assign(document.createElement(tag), properties);
  parent.append(element);
  return element;
}

function render({ model, el }) {
  const [choices, words, most, button] = ["choices", "words", "most", "button"].map((name) => model.get(name));
  const copied = () => model.get("value").map(([caption, ...sides]) => ({ caption, sides }));
  const listed = () => boxes.map(({ caption, sides }) => [caption.trim(), ...sides]);
  let [boxes, shown, gesture] = [copied(), [], null];
  let sent = JSON.stringify(model.get("value")); // as the kernel knows it

  const root = made("div", el, { className: "minildm-tool" });
  root.style.width = `${Math.max(model.get("size"), 256)}px`; // room for the menus
  root.dataset.lmSuppressShortcuts = "true"; // JupyterLab would take the arrow keys for itself
  const frame = made("div", root, { className: "minildm-frame minildm-boxes" });
  frame.style.width = `${model.get("size")}px`;
  frame.setAttribute("role", "group");
  frame.setAttribute("aria-label", "frame with boxes");
  const captions = made("div", root, { className: "minildm-captions" });
  const foot = made("div", root, { className: "minildm-bar minildm-foot" });
  const status = made("span", foot, { className: "minildm-status" });
  status.setAttribute("role", "status");
  const more = made("button", foot, { type: "button", textContent: "Add a box" });
  const send = button && made("button", foot, { type: "button", textContent: button, className: "minildm-send" });

  const strange = (caption) => {
    const said = caption.toLowerCase().match(/[^\W_]+(?:'[^\W_]+)*/g) ?? []; // as scenes.captions splits it
    return said.find((word) => !words.includes(word));
  };
  // What is still amiss with what was typed; nothing, where captions are chosen.
  const amiss = () => {
    for (const [i, { caption }] of choices.length ? [] : boxes.entries()) {
      if (!caption.trim()) return [i, `Box ${i + 1} has no caption yet.`];
      if (strange(caption)) return [i, `Box ${i + 1}: “${strange(caption)}” is no word of the shapes world.`];
    }
    return [-1, ""];
  };

  const tell = () => {
    boxes.forEach(({ sides: [left, top, right, bottom], caption }, i) => {
      const { style } = shown[i].box;
      [style.left, style.top] = [`${100 * left}%`, `${100 * top}%`];
      [style.width, style.height] = [`${100 * (right - left)}%`, `${100 * (bottom - top)}%`];
      const place = `left ${left}, top ${top}, right ${right}, bottom ${bottom}`;
      const keys = "arrow keys move it, with Shift they resize it, Delete deletes it";
      shown[i].box.setAttribute("aria-label", `box ${i + 1}: ${caption}, ${place}; ${keys}`);
    });
    const [wrong, text] = amiss();
    shown.forEach(({ input }, i) => input?.setAttribute("aria-invalid", i === wrong));
    const room = boxes.length ? `${boxes.length} of at most ${most} box${most > 1 ? "es" : ""}` : "Drag to draw a box.";
    const said = model.get("busy") ? "Drawing …" : text || room;
    if (status.textContent !== said) status.textContent = said;
    more.disabled = boxes.length >= most;
    frame.style.cursor = more.disabled ? "default" : "";
    if (send) send.disabled = wrong >= 0 || JSON.stringify(listed()) === sent;
  };
  // The kernel is told when the pointer is let go or, where there is a button, when that is pressed.
  const commit = () => {
    const now = JSON.stringify(listed());
    if (amiss()[0] < 0 && now !== sent) {
      sent = now;
      model.set("value", listed());
      model.save_changes();
    }
    tell();
  };
  const changed = () => (send ? tell() : commit());

  const remove = (i) => {
    boxes.splice(i, 1);
    build();
    changed();
    (shown[Math.min(i, boxes.length - 1)]?.box ?? more).focus();
  };
  const caption = (row, i) => {
    if (!choices.length) {
      const input = made("input", row, { type: "text", value: boxes[i].caption, placeholder: "a small red circle" });
      input.setAttribute("aria-label", `caption of box ${i + 1}`);
      input.oninput = () => {
        boxes[i].caption = input.value;
        tell();
      };
      input.onchange = changed;
      return input;
    }
    const chosen = parted(boxes[i].caption, choices);
    const selects = choices.map((list, k) => {
      const select = made("select", row, {});
      select.setAttribute("aria-label", `box ${i + 1}, word ${k + 1} of its caption`);
      list.forEach((word) => made("option", select, { value: word, textContent: word }));
      select.value = chosen[k];
      select.onchange = () => {
        boxes[i].caption = selects.map(({ value }) => value).join(" ");
        changed();
      };
      return select;
    });
  };
  // Makes the boxes and their captions anew, when there are more, fewer or other ones.
  const build = () => {
    shown.forEach(({ box }) => box.remove());
    captions.replaceChildren();
    shown = boxes.map((_, i) => {
      const box = made("div", frame, { className: "minildm-box", tabIndex: 0 });
      box.dataset.box = i;
      box.setAttribute("role", "group");
      made("span", box, { className: "minildm-number", textContent: i + 1 });
      for (const [side, edge, cursor] of [[0, 1, "nwse"], [0, 3, "nesw"], [2, 3, "nwse"]]) {
        const corner = made("span", box, { className: "minildm-corner" });
        const [left, top] = [side ? "100%" : 0, edge === 3 ? "100%" : 0];
        corner.style.cssText = `left: ${left}; top: ${top}; cursor: ${cursor}-resize`;
        corner.dataset.corner = `${side} ${edge}`;
      }
      const cross = made("button", box, { type: "button", className: "minildm-delete", textContent: "×" });
      cross.setAttribute("aria-label", `delete box ${i + 1}`);
      cross.onclick = () => remove(i);
      const row = made("div", captions, { className: "minildm-caption" });
      made("span", row, { className: "minildm-number", textContent: i + 1 });
      for (const one of [box, row]) one.style.setProperty("--hue", HUES[i]);
      return { box, input: caption(row, i) };
    });
    tell();
  };
  const add = (sides) => {
    const first = choices.map((list) => list[0]).join(" ");
    boxes.push({ caption: first, sides });
    build();
    shown.at(-1).box.focus({ preventScroll: true });
  };

  frame.onpointerdown = (event) => {
    if (event.button || gesture || event.target.closest("button")) return;
    const [x, y] = position(event, frame.getBoundingClientRect());
    const box = boxes[event.target.closest(".minildm-box")?.dataset.box];
    const start = box?.sides;
    if (event.target.dataset.corner) {
      const [side, edge] = event.target.dataset.corner.split(" ").map(Number);
      gesture = (nx, ny) => (box.sides = resized(start, side, edge, start[side] + nx - x, start[edge] + ny - y));
    } else if (box) {
      gesture = (nx, ny) => (box.sides = moved(start, nx - x, ny - y));
    } else if (boxes.length < most) {
      add([x, y, x, y]);
      const drawn = boxes.at(-1);
      gesture = (nx, ny) => (drawn.sides = spanned([x, y], [nx, ny]));
    } else return;
    frame.setPointerCapture(event.pointerId);
    if (box) shown[boxes.indexOf(box)].box.focus({ preventScroll: true });
    event.preventDefault();
  };
  frame.onpointermove = (event) => {
    if (!gesture || !frame.hasPointerCapture(event.pointerId)) return;
    gesture(...position(event, frame.getBoundingClientRect()));
    tell();
  };
  frame.onlostpointercapture = () => {
    if (!gesture) return;
    gesture = null;
    const whole = boxes.filter(({ sides: [left, top, right, bottom] }) => {
      return Math.min(rounded(right - left), rounded(bottom - top)) >= LEAST;
    });
    if (whole.length < boxes.length) {
      boxes = whole;
      build();
    }
    changed();
  };
  frame.onkeydown = (event) => {
    const i = Number(event.target.dataset.box ?? NaN);
    if (Number.isNaN(i) || gesture || !(event.key in STEPS || ["Delete", "Backspace"].includes(event.key))) return;
    event.preventDefault();
    event.stopPropagation();
    if (!(event.key in STEPS)) return remove(i);
    const [x, y] = STEPS[event.key].map((step) => 0.02 * step);
    const { sides } = boxes[i];
    boxes[i].sides = event.shiftKey ? resized(sides, 2, 3, sides[2] + x, sides[3] + y) : moved(sides, x, y);
    changed();
  };
  more.onclick = () => {
    const at = 0.1 + 0.2 * boxes.length;
    add([at, at, at + 0.4, at + 0.4].map(rounded));
    changed();
  };
  if (send) send.onclick = commit;

  // What the kernel repeats after the page is no news, and must not undo what has been done since.
  const news = () => {
    if (JSON.stringify(model.get("value")) === sent) return;
    [boxes, sent, gesture] = [copied(), JSON.stringify(model.get("value")), null];
    build();
  };
  model.on("change:value", news);
  model.on("change:busy", tell);
  build();
  return () => {
    model.off("change:value", news);
    model.off("change:busy", tell);
  };
}

export default { render };
