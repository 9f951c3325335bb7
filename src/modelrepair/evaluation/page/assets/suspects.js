// The records of the page, and words and pictures for them.
const records = JSON.parse(document.getElementById("records").textContent);
const suspects = records.suspects, failures = records.failures;
const marks = new Marks(
  document.body.dataset.run, suspects.example, records.classes, suspects.given, records.attributes ? null : records.classes,
);
const byId = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");
const labelText = (label) => records.labels[label];
const className = (label) => records.classes[label].trim().replace(/\s+/g, " ") || "no. " + label;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// A name of the user's own, which may run from right to left.
const named = (text, kind = "") => element("bdi", kind ? { class: kind } : {}, text);

// What an example of a table is: its picture, or, where examples are texts, the text.
const emptyThumb = () => (records.spelled ? element("span", { class: "words", dir: "auto" }) : element("span", { class: "thumb" }));

function fillThumb(thumb, table, row) {
  if (records.spelled) {
    thumb.textContent = table.text[row];
    return;
  }
  const sheet = table === suspects ? "s" + table.sheet[row] : "t0";
  thumb.className = thumb.className.replace(/\b[st]\d+\b/g, "").trim() + " " + sheet;
  thumb.style.setProperty("--x", table.place[row] % records.columns);
  thumb.style.setProperty("--y", Math.floor(table.place[row] / records.columns));
}

function thumbOf(table, row) {
  const thumb = emptyThumb();
  fillThumb(thumb, table, row);
  return thumb;
}

// Thousandths as percent; never a rounded certainty.
function chance(thousandths) {
  if (thousandths <= 0) return "below\u00a00.1\u00a0%";
  if (thousandths >= 1000) return "above\u00a099.9\u00a0%";
  return (thousandths / 10).toFixed(thousandths < 100 || thousandths > 900 ? 1 : 0) + "\u00a0%";
}

const scoreText = (position) =>
  suspects.score === null ? "" : String(Number(suspects.score[position].toPrecision(3))).replace("-", "−");

function markText(mark) {
  if (mark === KEEP) return "keep";
  if (mark === REMOVE) return "remove";
  return mark >= RELABEL ? "relabel: " + className(mark - RELABEL) : "";
}

const markKind = (mark) => (mark === NONE ? "" : mark === KEEP ? "keep" : mark === REMOVE ? "remove" : "relabel");

function takenText(position) {
  if (!suspects.taken[position]) return "";
  if (suspects.new && suspects.new[position] >= 0) return "was relabelled: " + className(suspects.new[position]);
  return records.scored ? "taken" : "erased";
}

// The class that is proposed: what the repaired model says or, where it agrees, what the base model says.
function proposal(position) {
  for (const answers of [suspects.after, suspects.before])
    if (answers && answers[position] !== suspects.given[position]) return answers[position];
  return null;
}

function inWords(position) {
  const said = records.spelled ? `: ${suspects.text[position]}` : "";
  const parts = [`Example ${suspects.example[position]}${said}, given ${labelText(suspects.given[position])}`];
  if (suspects.before) parts.push(`before the repair ${labelText(suspects.before[position])}, after it ${labelText(suspects.after[position])}`);
  if (suspects.score) parts.push(`score ${scoreText(position)}`);
  parts.push(markText(marks.of[position]) || takenText(position) || "no mark");
  parts.push(marks.seen[position] ? "seen" : "not seen");
  return parts.join(", ");
}
