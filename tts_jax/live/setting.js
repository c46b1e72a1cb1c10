// The fields of the setting, and the query that they stand for: what it leaves out is as in the paper.

const DEFAULTS = {
  epsilon: "2e-5",
  neurons: "20",
  seed: "0",
  noise: "1",
  slow_time: "0.035",
  step_size: "",
  jumps: "0.2,0.35,0.5,0.65,0.8",
  values: "1,5,1,3,1,5",
};
const TARGETS = {
  "of the paper": [DEFAULTS.jumps, DEFAULTS.values],
  "one jump": ["0.5", "1,5"],
  "a tower": ["0.4,0.6", "0,4,0"],
  "equal steps": ["0.2,0.4,0.6,0.8", "0,3,6,9,12"],
  "a wide and a narrow piece": ["0.55,0.6", "0,5,1"],
  battlements: ["0.15,0.3,0.45,0.6,0.75,0.9", "0,4,0,4,0,4,0"],
};
const ENDS = ["0.01", "0.035", "0.1", "0.3", "1", "3", "10"];
const STEPS = ["1e-2", "1e-3", "1e-4", "1e-5"];
const RATIOS = [-6, -5, -4, -3, -2, -1].flatMap((power) => [1, 2, 5].map((digit) => `${digit}e${power}`)).concat("1");
const OWN = "your own";

const find = (id) => document.getElementById(id);
const tidy = (text) => text.replace(/\s+/g, "");

// Names in one order, without what is as in the paper; of names that there are not, all.
export function read(asked) {
  const names = [...new Set([...Object.keys(DEFAULTS), ...asked.keys()])];
  const told = names.filter((name) => asked.has(name) && asked.get(name) !== DEFAULTS[name]);
  return told.map((name) => `${name}=${encodeURIComponent(asked.get(name)).replaceAll("%2C", ",")}`).join("&");
}

// Shows a query in the fields, and marks its lesson.
export function write(asked) {
  const value = (name) => asked.get(name) ?? DEFAULTS[name];
  for (const name of ["neurons", "seed", "noise", "jumps", "values"]) find(name).value = value(name);
  for (const name of ["slow_time", "step_size"]) choose(find(name), value(name));
  const ratio = Math.log10(Number(value("epsilon")));
  const gaps = RATIOS.map((each) => Math.abs(Math.log10(Number(each)) - ratio));
  find("epsilon").value = gaps.indexOf(Math.min(...gaps));
  find("epsilon-shown").value = value("epsilon");
  find("neurons-shown").value = value("neurons");
  const known = Object.entries(TARGETS).find(([, target]) => target.join() === [value("jumps"), value("values")].join());
  choose(find("target"), known?.[0] ?? OWN);
  for (const lesson of document.querySelectorAll("nav a")) {
    const same = read(new URLSearchParams(lesson.hash.slice(1))) === read(asked);
    same ? lesson.setAttribute("aria-current", "true") : lesson.removeAttribute("aria-current");
  }
}

function choose(select, value) {
  const same = (option) => option.value === value || (value !== "" && Number(option.value) === Number(value));
  const option = [...select.options].find(same) ?? select.appendChild(new Option(value, value));
  option.selected = true;
}

// Fills the fields, and calls `changed` with the new query when one was changed by hand.
export function fields(changed) {
  const change = (values) => {
    const asked = new URLSearchParams(location.hash.slice(1));
    for (const [name, value] of Object.entries(values)) asked.set(name, value);
    changed(read(asked));
  };
  find("epsilon").max = RATIOS.length - 1;
  find("step_size").append(new Option("as fine as a second allows", ""), ...STEPS.map((step) => new Option(step)));
  find("slow_time").append(...ENDS.map((end) => new Option(end)));
  find("target").append(...Object.keys(TARGETS).map((name) => new Option(name)));
  find("epsilon").addEventListener("input", () => (find("epsilon-shown").value = RATIOS[find("epsilon").value]));
  find("neurons").addEventListener("input", () => (find("neurons-shown").value = find("neurons").value));
  find("epsilon").addEventListener("change", () => change({ epsilon: RATIOS[find("epsilon").value] }));
  for (const name of ["neurons", "seed", "noise", "slow_time", "step_size", "jumps", "values"]) {
    find(name).addEventListener("change", (event) => change({ [name]: tidy(event.target.value) }));
  }
  find("target").addEventListener("change", (event) => {
    const target = TARGETS[event.target.value];
    if (target) change({ jumps: target[0], values: target[1] });
  });
  find("another").addEventListener("click", () => change({ seed: String(Number(find("seed").value) + 1) }));
  find("setting").addEventListener("submit", (event) => event.preventDefault());
}
