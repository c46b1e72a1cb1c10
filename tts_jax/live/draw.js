// What is drawn: functions, positions and errors of the runs at one save, on three canvases.

const DECADES = 6; // An axis of errors reaches so far below the error at the start, at most.
const STYLES = {
  // As in tts_jax.plot; later ones are drawn over earlier ones.
  flow: { colour: "--flow", width: 2.6, dash: [] },
  SGD: { colour: "--sgd", width: 1.2, dash: [] },
  limit: { colour: "--limit", width: 1.7, dash: [8, 4] },
};

export const RUNS = Object.keys(STYLES);

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// A number as people read it: 0.02, 350, 1.2·10⁻⁵.
export function shown(value, digits = 3) {
  if (!Number.isFinite(value)) return "–";
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5)) {
    const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
    const power = power10(Number(exponent));
    return Number(mantissa) === 1 ? power : `${Number(mantissa)}·${power}`;
  }
  return String(Number(value.toPrecision(digits)));
}

function power10(exponent) {
  return "10" + [...String(exponent)].map((c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] ?? "⁻").join("");
}

function linearTicks(low, high, most) {
  const rough = (high - low) / most;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 5, 10].find((digit) => digit * unit >= rough);
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) ticks.push([k * step, shown(k * step)]);
  return ticks;
}

function logTicks(low, high, most) {
  const first = Math.ceil(Math.log10(low) - 1e-9);
  const last = Math.floor(Math.log10(high) + 1e-9);
  const every = Math.max(1, Math.ceil((last - first + 1) / most));
  const ticks = [];
  for (let k = first; k <= last; k++) ticks.push([10 ** k, (k - first) % every ? "" : power10(k)]);
  return ticks;
}

// A pair of axes, in CSS pixels. What does not depend on the time is kept as an image.
class Panel {
  constructor(canvas, x, y) {
    Object.assign(this, { canvas, x, y, kept: null });
    this.context = canvas.getContext("2d");
    this.margin = { left: 52, right: 12, top: 10, bottom: 38 };
  }

  fit() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    Object.assign(this, { width, height, kept: null });
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  place(axis, from, to, value) {
    const { low, high, log } = axis;
    const share = log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
    return from + share * (to - from);
  }

  value(axis, from, to, place) {
    const share = Math.min(1, Math.max(0, (place - from) / (to - from)));
    return axis.log ? axis.low * (axis.high / axis.low) ** share : axis.low + share * (axis.high - axis.low);
  }

  get bottom() {
    return this.height - this.margin.bottom;
  }

  get right() {
    return this.width - this.margin.right;
  }

  px(value) {
    return this.place(this.x, this.margin.left, this.right, value);
  }

  py(value) {
    const ends = [this.bottom, this.margin.top];
    return this.place(this.y, ...(this.y.down ? ends.reverse() : ends), value);
  }

  xAt(place) {
    return this.value(this.x, this.margin.left, this.right, place);
  }

  yAt(place) {
    const ends = [this.bottom, this.margin.top];
    return this.value(this.y, ...(this.y.down ? ends.reverse() : ends), place);
  }

  // Draws what does not depend on the time with `still` where it is not known yet, and then `moving`.
  draw(still, moving) {
    const { context, canvas, width, height } = this;
    if (!width) return;
    context.clearRect(0, 0, width, height);
    if (!this.kept) {
      this.axes();
      this.inside(still);
      this.kept = document.createElement("canvas");
      Object.assign(this.kept, { width: canvas.width, height: canvas.height });
      this.kept.getContext("2d").drawImage(canvas, 0, 0);
    } else {
      context.drawImage(this.kept, 0, 0, width, height);
    }
    this.inside(moving);
  }

  inside(drawing) {
    const { context, margin } = this;
    context.save();
    context.beginPath();
    context.rect(margin.left, margin.top - 4, this.right - margin.left, this.bottom - margin.top + 4);
    context.clip();
    drawing();
    context.restore();
  }

  axes() {
    const { context, margin, x, y, bottom, right } = this;
    context.font = "12px system-ui, sans-serif";
    context.strokeStyle = colour("--line");
    context.fillStyle = colour("--soft");
    context.lineWidth = 1;
    const ticks = (axis, pixels) => (axis.log ? logTicks : linearTicks)(axis.low, axis.high, pixels / 55);
    context.textAlign = "center";
    context.textBaseline = "top";
    for (const [value, label] of ticks(x, right - margin.left)) {
      this.segment(this.px(value), margin.top, this.px(value), bottom + 4);
      context.fillText(label, this.px(value), bottom + 6);
    }
    context.fillText(x.label, (margin.left + right) / 2, bottom + 22);
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const [value, label] of ticks(y, bottom - margin.top)) {
      this.segment(margin.left - 4, this.py(value), right, this.py(value));
      context.fillText(label, margin.left - 7, this.py(value));
    }
    context.save();
    context.translate(9, (margin.top + bottom) / 2);
    context.rotate(-Math.PI / 2);
    context.textAlign = "center";
    context.fillText(y.label, 0, 0);
    context.restore();
  }

  segment(x0, y0, x1, y1) {
    this.context.beginPath();
    this.context.moveTo(x0, y0);
    this.context.lineTo(x1, y1);
    this.context.stroke();
  }

  // Through the points whose coordinates are numbers.
  line(count, xOf, yOf) {
    const { context } = this;
    let down = false;
    context.beginPath();
    for (let k = 0; k < count; k++) {
      const [x, y] = [this.px(xOf(k)), this.py(yOf(k))];
      if (Number.isFinite(x) && Number.isFinite(y)) {
        const [across, along] = [x, y].map((place) => Math.min(1e5, Math.max(-1e5, place)));
        down ? context.lineTo(across, along) : context.moveTo(across, along);
        down = true;
      } else {
        down = false;
      }
    }
    context.stroke();
  }

  pen({ colour: name, width, dash }, scale = 1) {
    Object.assign(this.context, { strokeStyle: colour(name), fillStyle: colour(name), lineWidth: width * scale });
    this.context.setLineDash(dash);
    this.context.lineJoin = "round";
  }
}

// The three pictures. `picture` has the setting, `runs`, and which of them are visible.
export class Stage {
  constructor(functions, positions, risks) {
    const time = { low: 1e-6, high: 1, log: true, label: "slow time τ" };
    this.functions = new Panel(functions, { low: 0, high: 1, label: "input x" }, { low: 0, high: 1, label: "output f(x)" });
    this.positions = new Panel(positions, { low: 0, high: 1, label: "positions u" }, { ...time, down: true });
    this.risks = new Panel(risks, { ...time }, { low: 1e-3, high: 1, log: true, label: "error  ∫ (f − f*)² dx" });
    this.panels = [this.functions, this.positions, this.risks];
  }

  fit() {
    this.panels.forEach((panel) => panel.fit());
  }

  // After a change of the picture: the axes for all times, and nothing kept.
  update(picture) {
    const { times, values, runs } = picture;
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const span = high - low || 1;
    let [least, most] = [low, high];
    for (const run of runs.values()) {
      for (const value of run.functions) {
        if (value < least) least = Math.max(value, low - span);
        if (value > most) most = Math.min(value, high + span);
      }
    }
    const room = 0.08 * (most - least || 1);
    Object.assign(this.functions.y, { low: least - 1.6 * room, high: most + room });
    for (const axis of [this.positions.y, this.risks.x]) Object.assign(axis, { low: times[1], high: times.at(-1) });
    const start = [...runs.values()].map((run) => run.risk[0]).find((risk) => risk > 0) ?? 1;
    const errors = [...runs.values()].flatMap((run) => [...run.risk]);
    const [bottom, top] = [start * 10 ** -DECADES, start * 10 ** DECADES];
    const seen = [picture.level, ...errors].filter((error) => error > bottom && error < top);
    Object.assign(this.risks.y, { low: 0.5 * Math.min(start, ...seen), high: 2 * Math.max(start, ...seen) });
    this.panels.forEach((panel) => (panel.kept = null));
  }

  draw(picture, at) {
    this.drawFunctions(picture, at);
    this.drawPositions(picture, at);
    this.drawRisks(picture, at);
  }

  // The runs that are there and are to be seen, each with its pen.
  *each(panel, picture, scale) {
    for (const name of RUNS) {
      const run = picture.runs.get(name);
      if (run && picture.visible.has(name)) {
        panel.pen(STYLES[name], scale);
        yield run;
      }
    }
    panel.context.setLineDash([]);
  }

  drawFunctions(picture, at) {
    const panel = this.functions;
    const { context } = panel;
    const { jumps, values, points, neurons } = picture;
    const edges = [0, ...jumps, 1];
    const target = () => {
      panel.pen({ colour: "--target", width: 4, dash: [] });
      panel.line(2 * values.length, (k) => edges[(k + 1) >> 1], (k) => values[k >> 1]);
    };
    panel.draw(target, () => {
      let row = 0;
      for (const run of this.each(panel, picture)) {
        panel.line(points, (k) => k / (points - 1), (k) => run.functions[at * points + k]);
        context.setLineDash([]);
        context.lineWidth = 1.5;
        for (let j = 0; j < neurons; j++) {
          const x = panel.px(run.positions[at * neurons + j]);
          panel.segment(x, panel.bottom - 7 * row - 6, x, panel.bottom - 7 * row);
        }
        row += 1;
      }
    });
  }

  drawPositions(picture, at) {
    const panel = this.positions;
    const { context } = panel;
    const { times, jumps, neurons } = picture;
    const still = () => {
      panel.pen({ colour: "--target", width: 3, dash: [] });
      for (const jump of jumps) panel.segment(panel.px(jump), panel.margin.top, panel.px(jump), panel.bottom);
      for (const run of this.each(panel, picture, 0.7)) {
        for (let j = 0; j < neurons; j++) {
          panel.line(times.length - 1, (k) => run.positions[(k + 1) * neurons + j], (k) => times[k + 1]);
        }
      }
    };
    panel.draw(still, () => {
      const now = at ? panel.py(times[at]) : panel.margin.top;
      this.coverFuture(panel, panel.margin.left, now, panel.right, panel.bottom);
      panel.segment(panel.margin.left, now, panel.right, now);
      for (const run of this.each(panel, picture)) {
        for (let j = 0; j < neurons; j++) {
          context.beginPath();
          context.arc(panel.px(run.positions[at * neurons + j]), now, 2.6, 0, 7);
          context.fill();
        }
      }
    });
  }

  drawRisks(picture, at) {
    const panel = this.risks;
    const { context } = panel;
    const { times, level } = picture;
    const still = () => {
      panel.pen({ colour: "--soft", width: 1, dash: [2, 3] });
      panel.segment(panel.margin.left, panel.py(level), panel.right, panel.py(level));
      context.setLineDash([]);
      context.font = "12px system-ui, sans-serif";
      context.textAlign = "left";
      context.fillText("below: a global minimum", panel.margin.left + 6, panel.py(level) + 11);
      for (const run of this.each(panel, picture)) {
        panel.line(times.length - 1, (k) => times[k + 1], (k) => Math.max(run.risk[k + 1], panel.y.low));
        this.markVanished(panel, times, run.risk);
      }
    };
    panel.draw(still, () => {
      const now = at ? panel.px(times[at]) : panel.margin.left;
      this.coverFuture(panel, now, panel.margin.top - 4, panel.right, panel.bottom);
      panel.segment(now, panel.margin.top, now, panel.bottom);
      for (const run of this.each(panel, picture)) {
        context.beginPath();
        context.arc(now, panel.py(Math.max(run.risk[at], panel.y.low)), 4, 0, 7);
        context.fill();
      }
    });
  }

  // A triangle on the bottom axis where an error leaves it.
  markVanished(panel, times, risk) {
    const { context } = panel;
    const k = risk.findIndex((error, index) => index > 0 && error < panel.y.low);
    if (k < 0) return;
    const x = panel.px(times[k]);
    context.beginPath();
    context.moveTo(x - 5, panel.bottom - 9);
    context.lineTo(x + 5, panel.bottom - 9);
    context.lineTo(x, panel.bottom);
    context.fill();
  }

  coverFuture(panel, left, top, right, bottom) {
    const { context } = panel;
    context.globalAlpha = 0.72;
    context.fillStyle = colour("--paper");
    context.fillRect(left, top, right - left, bottom - top);
    context.globalAlpha = 1;
    context.strokeStyle = colour("--ink");
    context.lineWidth = 1;
  }
}
