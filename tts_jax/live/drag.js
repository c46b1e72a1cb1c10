// The target is drawn by hand: a mouse moves its jumps along x, and its pieces up and down.

const NEAR = 7; // Pixels.
const APART = 0.01; // Of two jumps.

function grasp(panel, { jumps, values }, event) {
  const [x, y] = [event.offsetX, event.offsetY];
  const edges = [0, ...jumps, 1];
  const jump = jumps.findIndex((at, k) => {
    const [top, bottom] = [panel.py(values[k]), panel.py(values[k + 1])].sort((a, b) => a - b);
    return Math.abs(x - panel.px(at)) < NEAR && y > top + NEAR && y < bottom - NEAR;
  });
  if (jump >= 0) return { jump };
  const piece = values.findIndex(
    (value, k) => Math.abs(y - panel.py(value)) < NEAR && x > panel.px(edges[k]) && x < panel.px(edges[k + 1]),
  );
  return piece >= 0 ? { piece } : null;
}

function moved(panel, { jumps, values }, { jump, piece }, event) {
  if (piece !== undefined) return { jumps, values: values.with(piece, Number(panel.yAt(event.offsetY).toFixed(1))) };
  const [low, high] = [(jumps[jump - 1] ?? 0) + APART, (jumps[jump + 1] ?? 1) - APART];
  const at = Math.min(high, Math.max(low, panel.xAt(event.offsetX)));
  return { jumps: jumps.with(jump, Number(at.toFixed(2))), values };
}

// `picture()` is what is shown now; `redraw` is called when its target has moved, and `finish` with what it has become.
export function dragTarget(panel, picture, redraw, finish) {
  const { canvas } = panel;
  let held = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "touch" || !picture()) return;
    held = grasp(panel, picture(), event);
    if (held) canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!picture()) return;
    const hand = held ?? grasp(panel, picture(), event);
    canvas.style.cursor = hand ? (hand.piece === undefined ? "ew-resize" : "ns-resize") : "crosshair";
    if (!held) return;
    Object.assign(picture(), moved(panel, picture(), held, event));
    redraw();
  });
  canvas.addEventListener("pointerup", () => {
    if (held) finish(picture().jumps.join(), picture().values.join());
    held = null;
  });
}
