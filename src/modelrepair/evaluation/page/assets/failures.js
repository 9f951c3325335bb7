// Failures with what drives them, and what the repair fixed and broke.
const AT_ONCE = 20, CAUSES_SHOWN = 8;

// A test example: its picture, the right class, and what was answered before and after.
function testTile(table, row, tag = "div") {
  const right = table.label[row];
  const answer = (label) => named(labelText(label), label === right ? "right" : "mistaken");
  const said = records.spelled ? `: ${table.text[row]}` : "";
  const words = `Test example ${table.example[row]}${said}, rightly ${labelText(right)}, before the repair ${labelText(table.before[row])}, after it ${labelText(table.after[row])}`;
  const attributes = { class: "tile", title: words };
  if (tag === "button") Object.assign(attributes, { type: "button", "aria-label": words + ": show what drives it" });
  const tile = element(tag, attributes, thumbOf(table, row), element("span", {}, named(labelText(right))));
  tile.append(element("span", {}, answer(table.before[row]), element("span", { class: "to" }, " → "), answer(table.after[row])));
  return tile;
}

function suspectTile(position) {
  const said = records.spelled ? `: ${suspects.text[position]}` : "";
  const words = `Suspect ${suspects.example[position]}${said}, given ${labelText(suspects.given[position])}`;
  const tile = element("button", { class: "tile", type: "button", title: words, "aria-label": words + ": look at it" });
  tile.append(thumbOf(suspects, position), element("span", {}, named(labelText(suspects.given[position]))));
  return tile;
}

class Failures {
  constructor(onFailure, onSuspect) {
    this.list = byId("failure-list");
    this.more = byId("more-failures");
    this.onFailure = onFailure;
    this.onSuspect = onSuspect;
    this.drawn = 0;
    if (!this.list) return;
    this.more.addEventListener("click", () => this.draw());
    this.draw();
  }

  draw() {
    const end = Math.min(this.drawn + AT_ONCE, failures.example.length);
    for (; this.drawn < end; this.drawn++) this.list.append(this.failure(this.drawn));
    this.more.hidden = end === failures.example.length;
    this.more.textContent = `Show more of ${number(failures.example.length)}`;
  }

  failure(row) {
    const right = failures.label[row];
    const what = element("div", { class: "what" }, thumbOf(failures, row));
    what.append(
      element("div", {},
        element("div", {}, "is ", named(labelText(right))),
        element("div", {}, "was ", named(labelText(failures.before[row]), "differs")),
        element("div", {}, "now ", named(labelText(failures.after[row]), failures.after[row] === right ? "fixed" : "differs"))),
    );
    const card = element("div", { class: "failure" }, what);
    if (!failures.causes) return card;
    const tiles = element("div", { class: "tiles" });
    for (const position of failures.causes[row].slice(0, CAUSES_SHOWN)) {
      const tile = suspectTile(position);
      tile.addEventListener("click", () => this.onSuspect(position));
      tiles.append(tile);
    }
    const all = element("button", { type: "button", "aria-label": `Review what drives test example ${failures.example[row]}` }, "Review");
    all.disabled = !failures.causes[row].length;
    all.addEventListener("click", () => this.onFailure(row));
    card.append(tiles, all);
    return card;
  }
}

for (const name of ["fixed", "broken"]) {
  const table = records.changed[name];
  byId(name).append(...table.example.map((_, row) => testTile(table, row)));
  const left = table.count - table.example.length;
  if (left) byId(name).append(element("p", { class: "note" }, `and ${number(left)} more`));
  if (!table.count) byId(name).append(element("p", { class: "note" }, "none"));
}
