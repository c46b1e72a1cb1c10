// Axes on a canvas, and what is drawn into them.

// A colour of the style sheet.
export function colour(name) {
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
export class Panel {
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
