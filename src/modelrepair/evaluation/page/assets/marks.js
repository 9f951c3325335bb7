// What a person has marked: kept in this browser under the run's name, undone and redone, saved and loaded as CSV.
const NONE = 0, KEEP = 1, REMOVE = 2, RELABEL = 3; // RELABEL + c: the class of number c.

class Marks {
  // Names say what the given labels are called, so that a file of marks says what it was made on; null of attributes.
  constructor(run, examples, classes, given, names) {
    this.key = "modelrepair:" + run;
    this.examples = examples;
    this.classes = classes;
    this.given = given;
    this.names = names;
    this.position = new Map(examples.map((example, position) => [example, position]));
    this.of = new Int32Array(examples.length);
    this.seen = new Uint8Array(examples.length);
    this.budget = null;
    this.done = [];
    this.undone = [];
    this.kept = true; // Whether this browser keeps them.
  }

  restore() {
    let stored = null;
    try {
      stored = JSON.parse(localStorage.getItem(this.key));
    } catch {
      this.kept = false;
    }
    if (!stored) return;
    this.of.fill(NONE);
    for (const [example, mark] of Object.entries(stored.marks || {})) {
      const position = this.position.get(Number(example));
      if (position !== undefined && Number.isInteger(mark) && mark < RELABEL + this.classes.length) this.of[position] = mark;
    }
    for (const example of stored.seen || []) {
      const position = this.position.get(example);
      if (position !== undefined) this.seen[position] = 1;
    }
    if (Number.isInteger(stored.budget)) this.budget = stored.budget;
  }

  store() {
    const marks = {}, seen = [];
    this.of.forEach((mark, position) => { if (mark !== NONE) marks[this.examples[position]] = mark; });
    this.seen.forEach((seen_, position) => { if (seen_) seen.push(this.examples[position]); });
    try {
      localStorage.setItem(this.key, JSON.stringify({ marks, seen, budget: this.budget }));
      this.kept = true;
    } catch {
      this.kept = false;
    }
  }

  // Give these positions the marks that `choose` says, as one step; how many changed.
  set(positions, choose) {
    const step = [];
    for (const position of positions) {
      const mark = choose(position);
      if (mark !== this.of[position]) step.push([position, this.of[position], mark]);
    }
    if (!step.length) return 0;
    for (const [position, , mark] of step) this.of[position] = mark;
    this.done.push(step);
    this.undone = [];
    this.store();
    return step.length;
  }

  // The positions that a step changed back, or null.
  undo() {
    const step = this.done.pop();
    if (!step) return null;
    for (const [position, before] of step) this.of[position] = before;
    this.undone.push(step);
    this.store();
    return step.map(([position]) => position);
  }

  redo() {
    const step = this.undone.pop();
    if (!step) return null;
    for (const [position, , after] of step) this.of[position] = after;
    this.done.push(step);
    this.store();
    return step.map(([position]) => position);
  }

  counts() {
    const counts = { keep: 0, remove: 0, relabel: 0 };
    for (const mark of this.of) {
      if (mark === KEEP) counts.keep++;
      else if (mark === REMOVE) counts.remove++;
      else if (mark >= RELABEL) counts.relabel++;
    }
    return counts;
  }

  csv() {
    const quote = (text) => (/[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text);
    const lines = ["example,action,label" + (this.names ? ",given" : "")];
    this.of.forEach((mark, position) => {
      if (mark === NONE) return;
      const action = mark === KEEP ? "keep" : mark === REMOVE ? "remove" : "relabel";
      const label = mark >= RELABEL ? quote(this.classes[mark - RELABEL]) : "";
      const given = this.names ? [quote(this.names[this.given[position]])] : [];
      lines.push([this.examples[position], action, label, ...given].join(","));
    });
    return lines.join("\n") + "\n";
  }

  // Take marks from such a file as one step; what to say of it.
  read(text) {
    const [head, ...rows] = parseCsv(text);
    const place = (name) => (head || []).map((cell) => cell.trim()).indexOf(name);
    const [example, action, label, given] = ["example", "action", "label", "given"].map(place);
    if (example < 0) return "No marks were loaded: the file has no column example.";
    const found = new Map();
    const same = (a, b) => a.trim().split(/\s+/).join(" ") === b.trim().split(/\s+/).join(" ");
    let absent = 0, other = 0, unknown = 0;
    for (const row of rows) {
      const position = this.position.get(Number(row[example]));
      const what = action < 0 ? "remove" : (row[action] || "").trim();
      const number = label < 0 ? -1 : this.classes.indexOf(row[label]);
      if (position === undefined || !(row[example] || "").trim()) absent++;
      else if (given >= 0 && this.names && !same(row[given] || "", this.names[this.given[position]])) other++;
      else if (what === "keep") found.set(position, KEEP);
      else if (what === "remove") found.set(position, REMOVE);
      else if (what === "relabel" && number >= 0 && number !== this.given[position]) found.set(position, RELABEL + number);
      else unknown++;
    }
    this.set(found.keys(), (position) => found.get(position));
    const said = [`${found.size} marks were loaded.`];
    if (absent) said.push(`${absent} are of examples that are not among these suspects, perhaps of another run.`);
    if (other) said.push(`${other} were made when the example had another label, so they are of other data.`);
    if (unknown) said.push(`${unknown} could not be read.`);
    return said.join(" ");
  }
}

function parseCsv(text) {
  const rows = [];
  let row = [], cell = "", quoted = false;
  const source = text.replace(/^\uFEFF/, "");
  for (let i = 0; i < source.length; i++) {
    const character = source[i];
    if (quoted) {
      if (character !== '"') cell += character;
      else if (source[i + 1] === '"') { cell += '"'; i++; }
      else quoted = false;
    } else if (character === '"' && cell === "") quoted = true;
    else if (character === ",") { row.push(cell); cell = ""; }
    else if (character === "\n" || character === "\r") {
      if (character === "\r" && source[i + 1] === "\n") i++;
      row.push(cell);
      if (row.some((value) => value.trim())) rows.push(row);
      row = []; cell = "";
    } else cell += character;
  }
  row.push(cell);
  if (row.some((value) => value.trim())) rows.push(row);
  return rows;
}
