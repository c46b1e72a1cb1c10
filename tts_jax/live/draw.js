// What is drawn: functions, positions and errors of the runs at one save, on three canvases.

import { colour, Panel } from "./panel.js";

const DECADES = 6; // An axis of errors reaches so far below the error at the start, at most.
const STYLES = {
  // As in tts_jax.plot; later ones are drawn over earlier ones.
  flow: { colour: "--flow", width: 2.6, dash: [] },
  SGD: { colour: "--sgd", width: 1.2, dash: [] },
  limit: { colour: "--limit", width: 1.7, dash: [8, 4] },
};

export const RUNS = Object.keys(STYLES);

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
