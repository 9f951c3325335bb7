// The suspect that is looked at: all that is known of it, and what to do with it.
class Record {
  constructor(onFailure) {
    this.onFailure = onFailure;
    this.position = -1;
    this.label = byId("new-label");
    if (this.label) records.classes.forEach((_, label) => this.label.append(new Option(className(label), label)));
  }

  show(position, truth) {
    const other = position !== this.position;
    this.position = position;
    byId("record").hidden = position < 0;
    if (position < 0) return;
    fillThumb(byId("big"), suspects, position);
    if (!records.spelled) byId("big").setAttribute("aria-label", "Example " + suspects.example[position]);
    byId("name").textContent = "Example " + suspects.example[position];
    this.facts(position, truth);
    const mark = marks.of[position];
    byId("keep").setAttribute("aria-pressed", mark === KEEP);
    byId("remove").setAttribute("aria-pressed", mark === REMOVE);
    byId("clear").disabled = mark === NONE;
    if (this.label) {
      byId("relabel").setAttribute("aria-pressed", mark >= RELABEL);
      if (mark >= RELABEL) this.label.value = mark - RELABEL;
      else if (other) {
        const proposed = proposal(position);
        this.label.value = proposed === null ? (suspects.given[position] + 1) % records.classes.length : proposed;
      }
    }
    if (other) this.drives(position);
  }

  facts(position, truth) {
    const facts = [["given", [named(labelText(suspects.given[position]))]]];
    const answer = (answers, belief) => [
      named(labelText(answers[position]), answers[position] === suspects.given[position] ? "" : "differs"),
      ...(records.attributes ? [] : [element("span", { class: "quiet" }, `, label believed ${chance(belief[position])}`)]),
    ];
    if (suspects.before) {
      facts.push(["before", answer(suspects.before, suspects.belief_before)]);
      facts.push(["repaired", answer(suspects.after, suspects.belief_after)]);
    }
    if (suspects.score) facts.push(["score", [scoreText(position), element("span", { class: "quiet" }, " " + records.unit)]]);
    const taken = takenText(position);
    facts.push(["this run", [taken === "taken" ? "taken as a cause" : taken || "left as it is"]]);
    if (suspects.text && !records.spelled) facts.push(["values", [suspects.text[position]]]);
    if (truth && suspects.wrong) {
      const label = suspects.true ? [", true ", named(labelText(suspects.true[position]))] : [];
      facts.push(["truth", [suspects.wrong[position] ? "corrupted" : "not corrupted", ...label]]);
    }
    facts.push(["mark", [markText(marks.of[position]) || "none"]]);
    byId("facts").replaceChildren(
      ...facts.flatMap(([term, value]) => [element("dt", {}, term), element("dd", {}, ...value)]),
    );
  }

  drives(position) {
    const driven = suspects.drives ? suspects.drives[position] : null;
    const place = byId("drives");
    place.replaceChildren();
    if (!driven) return;
    if (!driven.length) {
      place.append(element("p", {}, "It drives none of the failures that the method was shown, as far as the last layer sees."));
      return;
    }
    const tiles = element("div", { class: "tiles" });
    for (const failure of driven) {
      const tile = testTile(failures, failure, "button");
      tile.addEventListener("click", () => this.onFailure(failure));
      tiles.append(tile);
    }
    place.append(element("p", {}, "Failures that it drives most: the right class, before → now"), tiles);
  }
}
