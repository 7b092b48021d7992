"use strict";
// The interactive front: hovering describes a network, clicking keeps it, and the sliders limit which may be chosen.
// Text from the data is set as text, never as markup. Only the drawings are markup; mgnas made and escaped them.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const trials = data.runs.flatMap((run, index) => run.trials.map((trial) => ({ ...trial, run: index })));
  const chart = document.getElementById("chart");
  if (!chart || !trials.length) return;
  const byId = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const front = trials.filter((trial) => trial.front).sort((a, b) => a.weights - b.weights || a.run - b.run);
  const state = { kept: null, hovered: null, maxWeights: Infinity, minAccuracy: 0, prefer: "knee", run: 0 };

  const make = (name, attributes, parent, text) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    if (parent) parent.append(element);
    return element;
  };
  const html = (name, parent, text, className) => {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    if (parent) parent.append(element);
    return element;
  };
  const percent = (value) => (100 * value).toFixed(2) + " %";
  const count = (value) => Math.round(value).toLocaleString("en-US");
  const short = (value) => {
    for (const [limit, suffix] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
      if (value >= limit * 0.9995) return +(value / limit).toPrecision(3) + suffix;
    return String(+value.toPrecision(3));
  };

  // ---------------------------------------------------------------- axes
  const logTicks = (low, high, most) => {
    for (const steps of [[1, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]]) {
      const ticks = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
        for (const step of steps) {
          const value = step * 10 ** power;
          if (value >= low && value <= high) ticks.push(value);
        }
      if (ticks.length <= most || steps.length === 1) return ticks;
    }
    return [];
  };
  const linearTicks = (low, high, most) => {
    const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw);
    const ticks = [];
    for (let value = Math.ceil(low / step) * step; value <= high + 1e-9; value += step) ticks.push(+value.toFixed(10));
    return ticks;
  };

  // ---------------------------------------------------------------- what limits leave
  const keeps = (trial) =>
    trial.run === state.run && trial.weights <= state.maxWeights && trial.accuracy >= state.minAccuracy - 1e-12;
  // What `mgnas select` takes: of the trials that keep the limits, the first in the order of the preference.
  const selected = () => {
    const rank = (trial) => trial.ranks[state.prefer];
    const allowed = trials.filter((trial) => keeps(trial) && rank(trial) !== undefined);
    return allowed.length ? allowed.reduce((best, trial) => (rank(trial) < rank(best) ? trial : best)) : null;
  };

  // ---------------------------------------------------------------- the chart
  let points = [];
  const drawn = (path, x, y, size) => ({ d: path, transform: `translate(${x} ${y}) scale(${size})` });
  const draw = () => {
    const width = Math.max(chart.parentElement.clientWidth - 2, 280), narrow = width < 560;
    const tall = narrow ? 340 : 460;
    const margin = { left: narrow ? 42 : 56, right: 16, top: 14, bottom: 46 };
    chart.setAttribute("viewBox", `0 0 ${width} ${tall}`);
    chart.setAttribute("height", tall);
    chart.replaceChildren();
    const title = make("title", {}, chart, "Accuracy against weights; arrow keys move along the front, Enter keeps a network");
    chart.setAttribute("aria-labelledby", (title.id = "chart-title"));
    const models = byId("published") && byId("published").checked ? data.published : [];
    const allWeights = [...trials.map((t) => t.weights), ...models.map((m) => m.weights)];
    const low = Math.min(...allWeights) / 1.15, high = Math.max(...allWeights) * 1.25;
    const [bottom, top] = data.ranges[models.length ? "published" : "own"];
    const x = (w) => margin.left + ((width - margin.left - margin.right) * Math.log(w / low)) / Math.log(high / low);
    const y = (a) => margin.top + ((tall - margin.top - margin.bottom) * (top - a)) / (top - bottom);
    for (const tick of logTicks(low, high, narrow ? 5 : 10)) {
      make("line", { x1: x(tick), x2: x(tick), y1: margin.top, y2: tall - margin.bottom, class: "grid" }, chart);
      make("text", { x: x(tick), y: tall - margin.bottom + 17, class: "tick", "text-anchor": "middle" }, chart, short(tick));
    }
    for (const tick of linearTicks(100 * bottom, 100 * top, 7)) {
      make("line", { x1: margin.left, x2: width - margin.right, y1: y(tick / 100), y2: y(tick / 100), class: "grid" }, chart);
      make("text", { x: margin.left - 7, y: y(tick / 100) + 4, class: "tick", "text-anchor": "end" }, chart, String(tick));
    }
    make("text", { x: (margin.left + width) / 2, y: tall - 8, class: "tick", "text-anchor": "middle" }, chart, "weights (log scale)");
    const name = models.length ? "accuracy (%)" : "validation accuracy (%)";
    make("text", { x: 12, y: (tall - margin.bottom) / 2, class: "tick", "text-anchor": "middle",
      transform: `rotate(-90 12 ${(tall - margin.bottom) / 2})` }, chart, name);
    if (Number.isFinite(state.maxWeights) && state.maxWeights < high)
      make("rect", { x: x(state.maxWeights), y: margin.top, width: Math.max(width - margin.right - x(state.maxWeights), 0),
        height: tall - margin.top - margin.bottom, class: "outside" }, chart);
    if (state.minAccuracy > bottom)
      make("rect", { x: margin.left, y: y(state.minAccuracy), width: width - margin.left - margin.right,
        height: Math.max(tall - margin.bottom - y(state.minAccuracy), 0), class: "outside" }, chart);
    const inside = (value) => y(Math.min(Math.max(value, bottom), top));
    data.runs.forEach((run, index) => {
      const steps = run.band || [], right = width - margin.right;
      if (!steps.length) return;
      const ends = [...steps.slice(1).map(([weights]) => x(weights)), right];
      let path = `M${x(steps[0][0])},${inside(steps[0][2])}`;
      steps.forEach(([, , top], i) => (path += `V${inside(top)}H${ends[i]}`));
      for (let i = steps.length - 1; i >= 0; i--) path += `V${inside(steps[i][1])}H${x(steps[i][0])}`;
      make("path", { d: path + "Z", class: `band run${index % data.marks.length}` }, chart);
    });
    data.runs.forEach((run, index) => {
      const own = front.filter((trial) => trial.run === index);
      if (!own.length) return;
      let path = `M${x(own[0].weights)},${y(own[0].accuracy)}`;
      for (const trial of own.slice(1)) path += `H${x(trial.weights)}V${y(trial.accuracy)}`;
      make("path", { d: path + `H${width - margin.right}`, class: `stairs run${index % data.marks.length}` }, chart);
    });
    const chosen = selected();
    points = [];
    for (const trial of [...trials].sort((a, b) => a.front - b.front)) {
      const px = x(trial.weights), py = y(trial.accuracy);
      if (trial.accuracy < bottom) continue;
      const classes = ["mark", `run${trial.run % data.marks.length}`, trial.front ? "front" : "dominated", keeps(trial) ? "" : "out"];
      if (trial.retrained) {
        const { mean, std } = trial.retrained, bar = make("g", { class: `error run${trial.run % data.marks.length}` }, chart);
        make("path", { d: `M${px - 7},${y(mean)}h14` + (std ? `M${px},${y(mean - std)}V${y(mean + std)}` +
          `M${px - 4},${y(mean - std)}h8M${px - 4},${y(mean + std)}h8` : "") }, bar);
      }
      make("path", { ...drawn(data.marks[trial.run % data.marks.length], px, py, trial.front ? 5.5 : 3),
        class: classes.join(" ").trim(), "data-run": trial.run, "data-trial": trial.number }, chart);
      points.push({ trial, px, py });
    }
    const published = models.map((model) => ({ model, px: x(model.weights), py: y(model.accuracy) }));
    for (const { px, py } of published)
      make("path", { ...drawn(data.published_mark, px, py, 5.5), class: "mark publication" }, chart);
    points.push(...published);
    if (!narrow) label(published, margin.left, width - margin.right, margin.top);
    ring(chosen, "chosen", 11);
    ring(state.kept, "kept", 9);
    ring(state.hovered, "hovered", 8);
    say(chosen);
  };
  // Names of published models, above or below their marks; a name that would cover another one or a mark is left out.
  const label = (published, left, right, top) => {
    const taken = published.map(({ px, py }) => ({ px, py: py + 4, half: 6 }));
    for (const { model, px, py } of published) {
      const text = make("text", { class: "tick", "text-anchor": "middle" }, chart, model.label);
      const half = text.getComputedTextLength() / 2, at = Math.min(Math.max(px, left + half), right - half);
      const free = (line) =>
        line > top + 8 && taken.every((box) => Math.abs(box.px - at) > box.half + half + 4 || Math.abs(box.py - line) > 12);
      const line = [py - 10, py + 20, py - 25, py + 35].find(free);
      if (line === undefined) {
        text.remove(); // Hovering its mark tells the name.
        continue;
      }
      text.setAttribute("x", at);
      text.setAttribute("y", line);
      taken.push({ px: at, py: line, half });
    }
  };
  const pointOf = (trial) => points.find((point) => point.trial === trial);
  const ring = (trial, name, radius) => {
    chart.querySelectorAll(`.ring.${name}`).forEach((element) => element.remove());
    const point = trial && pointOf(trial);
    if (point) make("circle", { cx: point.px, cy: point.py, r: radius, class: `ring ${name}` }, chart);
  };
  const say = (chosen) => {
    const own = front.filter((trial) => trial.run === state.run);
    const ofFront = own.filter(keeps).length, inAll = trials.filter(keeps).length;
    byId("remains").textContent = `${ofFront} of ${own.length} networks of the front remain, ${inAll} trials in all.`;
    const button = byId("take");
    button.hidden = !chosen;
    if (!chosen) {
      byId("chosen").textContent = inAll ? "This run has too few complete trials to prefer so." : "Nothing keeps these limits.";
      byId("command").textContent = "";
      return;
    }
    byId("chosen").textContent =
      `select takes trial ${chosen.number}: ${count(chosen.weights)} weights, ${percent(chosen.accuracy)}, ${chosen.words}.`;
    const limits = [];
    if (Number.isFinite(state.maxWeights)) limits.push(`--max-weights ${state.maxWeights}`);
    if (state.minAccuracy > 0) limits.push(`--min-accuracy ${+state.minAccuracy.toFixed(6)}`);
    byId("command").textContent = ["mgnas select", data.runs[state.run].path, ...limits, `--prefer ${state.prefer}`].join(" ");
  };

  // ---------------------------------------------------------------- hover, click, keys
  const tip = byId("tip");
  const hover = (point) => {
    state.hovered = point && point.trial ? point.trial : null;
    ring(state.hovered, "hovered", 8);
    if (!point) {
      tip.hidden = true;
      return;
    }
    tip.replaceChildren();
    if (point.model) {
      html("strong", tip, point.model.label);
      html("div", tip, `published: ${percent(point.model.accuracy)} test accuracy, ${count(point.model.weights)} weights`);
      if (point.model.note) html("div", tip, point.model.note, "soft");
    } else {
      const trial = point.trial;
      html("strong", tip, `${percent(trial.accuracy)}, ${count(trial.weights)} weights`);
      html("div", tip, trial.words);
      const run = data.runs.length > 1 ? `${data.runs[trial.run].name}, ` : "";
      html("div", tip, `${run}trial ${trial.number}, ${short(trial.macs)} MACs`, "soft");
      if (trial.expected) html("div", tip, `on the front with ${(100 * trial.expected.front).toFixed(0)} %`, "soft");
      if (trial.retrained) html("div", tip, trial.retrained.words, "soft");
    }
    tip.hidden = false;
    const box = chart.getBoundingClientRect(), scale = box.width / chart.viewBox.baseVal.width;
    const left = Math.min(Math.max(point.px * scale - tip.offsetWidth / 2, 4), box.width - tip.offsetWidth - 4);
    const above = point.py * scale - tip.offsetHeight - 14;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 0 ? above : point.py * scale + 16}px`;
  };
  const nearest = (event) => {
    const box = chart.getBoundingClientRect(), scale = chart.viewBox.baseVal.width / box.width;
    const px = (event.clientX - box.left) * scale, py = (event.clientY - box.top) * scale;
    let best = null, distance = 26;
    for (const point of points) {
      // A network of the front wins over what lies about it.
      const own = Math.hypot(point.px - px, point.py - py) - (point.trial && !point.trial.front ? 0 : 5);
      if (own < distance) [best, distance] = [point, own];
    }
    return best;
  };
  chart.addEventListener("pointermove", (event) => hover(nearest(event)));
  chart.addEventListener("pointerleave", () => hover(null));
  chart.addEventListener("click", (event) => {
    const point = nearest(event);
    if (point && point.trial) keep(point.trial);
  });
  chart.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    const own = front.filter((trial) => pointOf(trial));
    if (step && own.length) {
      const at = own.indexOf(state.hovered);
      const next = at < 0 ? (step > 0 ? 0 : own.length - 1) : Math.min(Math.max(at + step, 0), own.length - 1);
      hover(pointOf(own[next]));
      byId("live").textContent = `${percent(own[next].accuracy)}, ${count(own[next].weights)} weights, ${own[next].words}`;
    } else if ((event.key === "Enter" || event.key === " ") && state.hovered) keep(state.hovered);
    else if (event.key === "Escape") hover(null);
    else return;
    event.preventDefault();
  });
  chart.addEventListener("blur", () => hover(null));

  // ---------------------------------------------------------------- the kept network
  const keep = (trial) => {
    state.kept = trial;
    ring(trial, "kept", 9);
    const section = byId("kept");
    section.replaceChildren();
    section.hidden = false;
    html("h3", section, `Trial ${trial.number}` + (data.runs.length > 1 ? ` of ${data.runs[trial.run].name}` : ""));
    html("p", section, trial.words);
    const facts = html("dl", section, undefined, "facts small");
    const fact = (label, value, detail) => {
      const box = html("div", facts);
      html("dt", box, label);
      const shown = html("dd", box, value);
      if (detail) html("small", shown, detail);
    };
    const balanced = trial.balanced === undefined ? "" : `, balanced ${percent(trial.balanced)}`;
    fact("accuracy", percent(trial.accuracy), `validation, one training${balanced}`);
    fact("weights", count(trial.weights));
    fact("MACs per image", short(trial.macs));
    fact("activations", `${short(trial.memory[0])}B`, `bytes for one image; in int8 ${short(trial.memory[1])}B`);
    fact("flash memory", `${short(trial.flash[0])}B`, `bytes of the weights; in int8 ${short(trial.flash[1])}B`);
    if (trial.latency) fact("latency", `${trial.latency[0].toFixed(2)} ms`, `32 images: ${trial.latency[1].toFixed(1)} ms`);
    if (trial.expected) fact("if trained again", percent(trial.expected.accuracy), "expected, without luck");
    if (trial.expected) fact("on the front", `${(100 * trial.expected.front).toFixed(0)} %`, "probability, luck left out");
    if (trial.retrained) html("p", section, `Trained fully: ${trial.retrained.words}.`);
    if (trial.expected) html("p", section, `${trial.expected.words}.`, "soft");
    const columns = html("div", section, undefined, "columns");
    const config = html("section", columns);
    html("h4", config, "Config");
    html("pre", config, trial.yaml).tabIndex = 0;
    const curve = html("section", columns);
    html("h4", curve, "Learning curve");
    drawCurve(curve, trial);
    const bars = html("section", columns);
    html("h4", bars, "Weights, part by part");
    drawParts(bars, trial);
    if (trial.drawing) {
      html("h4", section, "Architecture");
      const box = html("div", section, undefined, "drawing");
      box.tabIndex = 0;
      const drawing = new DOMParser().parseFromString(trial.drawing, "image/svg+xml").documentElement;
      const shown = document.importNode(drawing, true);
      shown.style.minWidth = `${Math.min(shown.viewBox.baseVal.width, 760)}px`;
      shown.style.maxWidth = `${shown.viewBox.baseVal.width}px`;
      box.append(shown);
    }
    byId("live").textContent = `Kept trial ${trial.number}`;
  };
  const drawCurve = (parent, trial) => {
    const width = 320, tall = 210, left = 40, bottom = 34;
    const errors = trial.curve.map((value) => Math.max(100 * (1 - value), 0.05));
    const low = Math.min(...errors) / 1.15, high = Math.max(...errors) * 1.1;
    const svg = make("svg", { viewBox: `0 0 ${width} ${tall}`, role: "img" }, parent);
    make("title", {}, svg, `Validation error from ${errors[0].toFixed(2)} to ${errors[errors.length - 1].toFixed(2)} per cent`);
    const x = (epoch) => left + ((width - left - 10) * (epoch - 1)) / Math.max(errors.length - 1, 1);
    const y = (error) => 8 + ((tall - bottom - 8) * Math.log(high / error)) / Math.log(high / low);
    for (const tick of logTicks(low, high, 6)) {
      make("line", { x1: left, x2: width - 10, y1: y(tick), y2: y(tick), class: "grid" }, svg);
      make("text", { x: left - 5, y: y(tick) + 4, class: "tick", "text-anchor": "end" }, svg, String(+tick.toPrecision(3)));
    }
    for (const tick of linearTicks(1, Math.max(errors.length, 2), 6).filter(Number.isInteger))
      make("text", { x: x(tick), y: tall - bottom + 15, class: "tick", "text-anchor": "middle" }, svg, String(tick));
    make("text", { x: (left + width) / 2, y: tall - 4, class: "tick", "text-anchor": "middle" }, svg, "epoch; validation error in %");
    make("polyline", { points: errors.map((error, i) => `${x(i + 1)},${y(error)}`).join(" "), class: "stairs run0" }, svg);
    if (errors.length === 1) make("circle", { cx: x(1), cy: y(errors[0]), r: 4, class: "mark run0 front" }, svg);
  };
  const drawParts = (parent, trial) => {
    const most = Math.max(...trial.parts.map((part) => part[1])), row = 22, width = 320;
    const svg = make("svg", { viewBox: `0 0 ${width} ${trial.parts.length * row + 4}`, role: "img" }, parent);
    make("title", {}, svg, trial.parts.map((part) => `${part[0]}: ${count(part[1])}`).join("; "));
    trial.parts.forEach(([name, weights], index) => {
      const y = index * row;
      make("text", { x: 0, y: y + 15, class: "tick" }, svg, name);
      make("rect", { x: 158, y: y + 4, width: Math.max((96 * weights) / most, 1), height: row - 8, class: "bar" }, svg);
      make("text", { x: width, y: y + 15, class: "tick", "text-anchor": "end" }, svg, count(weights));
    });
  };

  // ---------------------------------------------------------------- sliders
  const lightest = Math.min(...trials.map((t) => t.weights)), heaviest = Math.max(...trials.map((t) => t.weights));
  const best = Math.max(...trials.map((t) => t.accuracy)), worst = Math.min(...front.map((t) => t.accuracy));
  const weightSlider = byId("max-weights"), accuracySlider = byId("min-accuracy");
  const STEPS = 200;
  const setLimits = () => {
    const part = +weightSlider.value / STEPS;
    state.maxWeights = part === 1 ? Infinity : Math.ceil(lightest * (heaviest / lightest) ** part);
    // Rounded down to the digits that the command shows, so that slider and command mean the same.
    const minimum = Math.floor(1e4 * (worst + ((best - worst) * +accuracySlider.value) / STEPS)) / 1e4;
    state.minAccuracy = +accuracySlider.value === 0 ? 0 : minimum;
    byId("max-weights-value").textContent = part === 1 ? "any" : count(state.maxWeights);
    byId("min-accuracy-value").textContent = state.minAccuracy === 0 ? "any" : percent(state.minAccuracy);
    weightSlider.setAttribute("aria-valuetext", byId("max-weights-value").textContent);
    accuracySlider.setAttribute("aria-valuetext", byId("min-accuracy-value").textContent);
    draw();
  };
  weightSlider.addEventListener("input", setLimits);
  accuracySlider.addEventListener("input", setLimits);
  byId("prefer").addEventListener("change", (event) => {
    state.prefer = event.target.value;
    draw();
  });
  if (byId("run")) byId("run").addEventListener("change", (event) => {
    state.run = +event.target.value;
    draw();
  });
  if (byId("published")) byId("published").addEventListener("change", draw);
  byId("take").addEventListener("click", () => {
    const chosen = selected();
    if (chosen) {
      keep(chosen);
      byId("kept").scrollIntoView({ block: "nearest" });
    }
  });
  document.querySelectorAll("[data-keep]").forEach((button) =>
    button.addEventListener("click", () => {
      const [run, number] = button.dataset.keep.split(" ").map(Number);
      const trial = trials.find((other) => other.run === run && other.number === number);
      if (trial) keep(trial);
      byId("kept").scrollIntoView({ block: "nearest" });
    }));
  let width = 0;
  new ResizeObserver(() => {
    if (chart.parentElement.clientWidth !== width) {
      width = chart.parentElement.clientWidth;
      draw();
    }
  }).observe(chart.parentElement);
  setLimits();
  const first = selected();
  if (first) keep(first);
  document.documentElement.dataset.ready = "yes";
})();
