// Points on a picture: dragged with a pointer, or moved by the arrow keys when they have the focus.
// x and y are in 0..1 of `area` = [left, bottom, width, height], itself in 0..1 of the picture, from below.

const DOT = `position: absolute; width: 24px; height: 24px; margin: -12px 0 0 -12px; padding: 0; border-radius: 50%;
  border: 3px solid white; box-shadow: 0 0 0 2px black; background: rgb(229, 0, 10); cursor: grab; touch-action: none;`;
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
const within = (value) => Math.min(1, Math.max(0, value));

function render({ model, el }) {
  const box = document.createElement("div");
  box.style.cssText = "position: relative; display: inline-block; max-width: 100%;";
  box.dataset.lmSuppressShortcuts = "true"; // JupyterLab would take the arrow keys for itself
  const image = document.createElement("img");
  image.style.cssText = "display: block; max-width: 100%; height: auto; user-select: none;";
  image.draggable = false;
  box.append(image);
  el.append(box);

  let url;
  const draw = () => {
    const old = url;
    url = URL.createObjectURL(new Blob([model.get("png")], { type: "image/png" }));
    image.onload = () => old && URL.revokeObjectURL(old);
    image.src = url;
  };

  const move = (i, x, y) => {
    const [xs, ys] = [[...model.get("x")], [...model.get("y")]];
    [xs[i], ys[i]] = [within(x), within(y)];
    model.set({ x: xs, y: ys });
    model.save_changes();
  };

  const dots = model.get("labels").map((label, i) => {
    const dot = document.createElement("button");
    dot.type = "button";
    dot.style.cssText = DOT;
    dot.title = `${label}: drag it, or use the arrow keys`;
    dot.onpointerdown = (event) => {
      dot.setPointerCapture(event.pointerId);
      dot.focus();
      event.preventDefault();
    };
    dot.onpointermove = (event) => {
      if (!dot.hasPointerCapture(event.pointerId)) return;
      const [left, bottom, width, height] = model.get("area");
      const at = image.getBoundingClientRect();
      const x = (event.clientX - at.left) / at.width;
      const y = 1 - (event.clientY - at.top) / at.height;
      move(i, (x - left) / width, (y - bottom) / height);
    };
    dot.onkeydown = (event) => {
      if (!(event.key in STEPS)) return;
      const [dx, dy] = STEPS[event.key];
      const by = event.shiftKey ? 0.1 : 0.02;
      move(i, model.get("x")[i] + by * dx, model.get("y")[i] + by * dy);
      event.preventDefault();
      event.stopPropagation();
    };
    box.append(dot);
    return dot;
  });

  const place = () => {
    const [left, bottom, width, height] = model.get("area");
    dots.forEach((dot, i) => {
      const [x, y] = [model.get("x")[i], model.get("y")[i]];
      dot.style.left = `${100 * (left + width * x)}%`;
      dot.style.top = `${100 * (1 - bottom - height * y)}%`;
      dot.setAttribute("aria-label", `${model.get("labels")[i]}, x ${x.toFixed(2)}, y ${y.toFixed(2)}, arrow keys move it`);
    });
  };

  model.on("change:png", draw);
  model.on("change:x", place);
  model.on("change:y", place);
  draw();
  place();
  return () => url && URL.revokeObjectURL(url);
}

export default { render };
