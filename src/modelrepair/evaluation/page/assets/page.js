// The page as a whole: filters, marks by mouse and keyboard, files, theme.
const truth = () => Boolean(byId("truth") && byId("truth").checked);
let failure = null; // Whose causes alone are shown.

const record = new Record(showFailure);
const list = new List((position) => {
  if (position >= 0 && !marks.seen[position]) {
    marks.seen[position] = 1;
    keepSoon();
  }
  record.show(position, truth());
});

// Looking is frequent; what was seen is written down once nobody looks further for a moment.
let keeping = 0;
function keepSoon() {
  clearTimeout(keeping);
  keeping = setTimeout(() => marks.store(), 300);
}
addEventListener("pagehide", () => marks.store());

function passes(position) {
  const given = byId("by-given").value, answer = byId("by-answer").value, mark = byId("by-mark").value;
  const wanted = byId("by-number").value.trim();
  if (wanted && !String(suspects.example[position]).startsWith(wanted)) return false;
  const cluster = byId("by-cluster") ? byId("by-cluster").value : "";
  if (cluster !== "" && suspects.cluster[position] !== Number(cluster)) return false;
  if (given !== "" && suspects.given[position] !== Number(given)) return false;
  if (answer && suspects.after) {
    if (answer === "same" && suspects.after[position] !== suspects.given[position]) return false;
    if (answer === "other" && suspects.after[position] === suspects.given[position]) return false;
    if (answer[0] === "=" && suspects.after[position] !== Number(answer.slice(1))) return false;
  }
  if (mark === "none") return marks.of[position] === NONE;
  if (mark === "unseen") return !marks.seen[position];
  if (mark === "taken") return Boolean(suspects.taken[position]);
  return !mark || markKind(marks.of[position]) === mark;
}

const orders = {
  score: (a, b) => a - b,
  "-score": (a, b) => b - a,
  belief: (a, b) => suspects.belief_after[a] - suspects.belief_after[b] || a - b,
  example: (a, b) => suspects.example[a] - suspects.example[b],
};

function refresh(keep) {
  const every = failure === null ? suspects.example.map((_, position) => position) : [...failures.causes[failure]];
  const shown = every.filter(passes);
  // The causes of one failure come in the order of their strength.
  if (failure === null) shown.sort(orders[byId("order").value]);
  byId("chosen-failure").hidden = failure === null;
  if (failure !== null) {
    byId("chosen-failure-text").textContent =
      `What drives test example ${failures.example[failure]}, which is ${labelText(failures.label[failure])} and was taken for ` +
      `${labelText(failures.before[failure])}, the strongest first.`;
  }
  list.truth = truth();
  byId("count").textContent = `${number(shown.length)} shown`;
  byId("mark-all").disabled = !shown.length;
  list.show(shown, keep);
}

// What is looked at stays so where it is still shown.
function refreshInPlace() {
  refresh(list.position < 0 ? undefined : list.position);
}

function forgetFailure() {
  failure = null;
  refreshInPlace();
}

function updated() {
  list.draw();
  record.show(list.position, truth());
  const counts = marks.counts(), done = counts.keep + counts.remove + counts.relabel;
  const left = marks.budget - done;
  byId("left").textContent = left >= 0 ? `${number(left)} left, ${number(done)} marked` : `${number(-left)} over, ${number(done)} marked`;
  byId("left").title = `${counts.keep} keep, ${counts.remove} remove, ${counts.relabel} relabel`;
  byId("undo").disabled = !marks.done.length;
  byId("redo").disabled = !marks.undone.length;
  byId("save").disabled = !done;
  if (!marks.kept) say("This browser does not keep marks: save them before you close the page.");
}

function say(text) {
  byId("said").textContent = text;
}

function mark(value) {
  const position = list.position;
  if (position < 0) return;
  marks.set([position], () => value);
  say(`Example ${suspects.example[position]}: ${markText(value) || "no mark"}`);
  if (byId("advance").checked && value !== NONE) list.move(1);
  updated();
}

function relabel(label) {
  if (records.attributes || list.position < 0 || label >= records.classes.length) return;
  if (label === suspects.given[list.position]) {
    say(`Example ${suspects.example[list.position]} has the label ${className(label)} already: keep it, or choose another.`);
    return;
  }
  mark(RELABEL + label);
}

function step(positions, verb) {
  if (!positions) return say(`Nothing to ${verb}.`);
  say(`${verb === "undo" ? "Undone" : "Redone"}: ${number(positions.length)} mark${positions.length > 1 ? "s" : ""}`);
  const place = list.shown.indexOf(positions[0]);
  if (place >= 0) list.choose(place);
  updated();
}

function markAll() {
  const what = byId("mass").value;
  const choose = {
    keep: () => KEEP,
    remove: () => REMOVE,
    clear: () => NONE,
    relabel: (position) => {
      const says = suspects.after ? suspects.after[position] : null;
      return says === null || says === suspects.given[position] ? marks.of[position] : RELABEL + says;
    },
  }[what];
  const changed = marks.set(list.shown, choose);
  const left = what === "relabel" ? list.shown.filter((position) => marks.of[position] < RELABEL).length : 0;
  say(`${number(changed)} of ${number(list.shown.length)} marks changed.` + (left ? ` ${number(left)} stay: the repaired model agrees with their label.` : ""));
  updated();
}

function showFailure(row) {
  failure = row;
  refresh();
  byId("review").scrollIntoView();
  byId("list").focus({ preventScroll: true });
}

// The causes of one kind of failure, as this run took them.
function showKind(number) {
  byId("filters").reset();
  byId("by-cluster").value = number;
  byId("by-mark").value = "taken";
  failure = null;
  refresh();
  byId("review").scrollIntoView();
  byId("list").focus({ preventScroll: true });
}

function showSuspect(position) {
  if (!list.shown.includes(position)) {
    byId("filters").reset();
    failure = null;
    refresh(position);
  }
  list.choose(list.shown.indexOf(position));
  byId("review").scrollIntoView();
  byId("list").focus({ preventScroll: true });
}

function save() {
  const link = element("a", { download: "marks.csv", href: URL.createObjectURL(new Blob([marks.csv()], { type: "text/csv" })) });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  const counts = marks.counts();
  say(`Saved: ${number(counts.remove)} to remove, ${number(counts.relabel)} to relabel, ${number(counts.keep)} to keep.`);
}

byId("review").addEventListener("keydown", (event) => {
  const control = event.ctrlKey || event.metaKey;
  if (event.altKey || event.target.closest("select, input:not([type=checkbox])")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const inList = event.target === list.box;
  const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: list.page, PageUp: -list.page, Home: -Infinity, End: Infinity };
  if (key === "z" && !event.shiftKey) step(marks.undo(), "undo");
  else if (key === "y" || (key === "z" && event.shiftKey)) step(marks.redo(), "redo");
  else if (control) return;
  else if (inList && key in moves) {
    const by = moves[key];
    list.choose(Number.isFinite(by) ? list.active + by : by < 0 ? 0 : list.shown.length - 1);
  } else if (key === "k") mark(KEEP);
  else if (key === "r") mark(REMOVE);
  else if (key === "u") mark(NONE);
  else if (key === "l" && record.label) relabel(Number(record.label.value));
  else if (/^\d$/.test(key) && records.classes.length <= 10) relabel(Number(key));
  else return;
  event.preventDefault();
});

byId("keep").addEventListener("click", () => mark(KEEP));
byId("remove").addEventListener("click", () => mark(REMOVE));
byId("clear").addEventListener("click", () => mark(NONE));
if (record.label) byId("relabel").addEventListener("click", () => relabel(Number(record.label.value)));
byId("undo").addEventListener("click", () => step(marks.undo(), "undo"));
byId("redo").addEventListener("click", () => step(marks.redo(), "redo"));
byId("mark-all").addEventListener("click", markAll);
byId("save").addEventListener("click", save);
byId("load").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (file) say(marks.read(await file.text()));
  event.target.value = "";
  updated();
});
byId("budget").addEventListener("input", (event) => {
  marks.budget = Math.max(Math.floor(Number(event.target.value)) || 0, 0);
  marks.store();
  updated();
});
byId("filters").addEventListener("change", refreshInPlace);
byId("by-number").addEventListener("input", refreshInPlace);
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("reset", () => setTimeout(forgetFailure));
byId("forget-failure").addEventListener("click", () => {
  forgetFailure();
  byId("list").focus();
});
// The same page in another tab.
addEventListener("storage", (event) => {
  if (event.key === marks.key) { marks.restore(); updated(); }
});

function theme(value) {
  if (value) document.documentElement.dataset.theme = value;
  else delete document.documentElement.dataset.theme;
}
try { byId("theme").value = localStorage.getItem("modelrepair:theme") || ""; } catch { /* as the system */ }
theme(byId("theme").value);
byId("theme").addEventListener("change", (event) => {
  theme(event.target.value);
  try { localStorage.setItem("modelrepair:theme", event.target.value); } catch { /* until the page is closed */ }
});

// A narrow screen shows the suspects first.
if (matchMedia("(max-width: 860px)").matches) byId("filter-box").open = false;

const occurring = [...new Set(suspects.given)].sort((a, b) => a - b);
byId("by-given").append(...occurring.map((label) => new Option(labelText(label), label)));
if (suspects.after && !records.attributes) {
  const said = [...new Set(suspects.after)].sort((a, b) => a - b);
  byId("by-answer").append(...said.map((label) => new Option("says " + labelText(label), "=" + label)));
}
marks.restore();
if (marks.budget === null) marks.budget = records.taken;
byId("budget").value = marks.budget;
refresh();
updated();
new Failures(showFailure, showSuspect);
new Kinds(showFailure, showKind);
