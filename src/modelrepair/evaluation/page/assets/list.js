// The virtual list of suspects: only the rows in sight exist.
class List {
  constructor(onChoose) {
    this.box = byId("list");
    this.body = byId("rows");
    this.shown = []; // Positions of the suspects that the filter lets through, in order.
    this.active = -1; // A place among them.
    this.rows = new Map(); // By place.
    this.truth = false;
    this.onChoose = onChoose;
    this.waiting = false;
    this.box.addEventListener("scroll", () => this.soon(), { passive: true });
    new ResizeObserver(() => this.measure()).observe(this.box);
    this.body.addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (row) this.choose(Number(row.dataset.place));
    });
    this.measure();
  }

  measure() {
    this.height = matchMedia("(max-width: 560px)").matches ? (records.spelled ? 82 : 60) : records.spelled ? 60 : 52;
    this.body.style.height = this.shown.length * this.height + "px";
    this.draw();
  }

  soon() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(true); });
  }

  show(positions, keep) {
    this.shown = positions;
    this.active = -1;
    const empty = !positions.length;
    this.box.hidden = empty;
    byId("nothing").hidden = !empty;
    this.measure();
    const place = keep === undefined ? -1 : positions.indexOf(keep);
    this.choose(empty ? -1 : Math.max(place, 0), false);
    if (place < 0) this.box.scrollTop = 0;
  }

  get position() {
    return this.active < 0 ? -1 : this.shown[this.active];
  }

  choose(place, scroll = true) {
    this.active = Math.min(Math.max(place, this.shown.length ? 0 : -1), this.shown.length - 1);
    if (this.active >= 0) {
      const top = this.active * this.height, view = this.box.clientHeight;
      if (scroll || this.box.scrollTop > top || this.box.scrollTop + view < top + this.height) {
        if (top < this.box.scrollTop) this.box.scrollTop = top;
        else if (top + this.height > this.box.scrollTop + view) this.box.scrollTop = top + this.height - view;
      }
    }
    this.onChoose(this.position);
    this.draw();
  }

  move(by) {
    this.choose(this.active + by);
  }

  get page() {
    return Math.max(Math.floor(this.box.clientHeight / this.height) - 1, 1);
  }

  // Rows that were in sight stay as they are while one scrolls; after a change all of them are written anew.
  draw(scrolling = false) {
    const first = Math.max(Math.floor(this.box.scrollTop / this.height) - 4, 0);
    const last = Math.min(first + Math.ceil(this.box.clientHeight / this.height) + 9, this.shown.length);
    const wanted = new Set();
    for (let place = first; place < last; place++) wanted.add(place);
    // The active row stays, wherever it is, because the list names it as its active descendant.
    if (this.active >= 0) wanted.add(this.active);
    const free = [];
    for (const [place, row] of this.rows) {
      if (wanted.has(place)) continue;
      this.rows.delete(place);
      free.push(row);
    }
    for (const place of wanted) {
      const there = this.rows.get(place);
      if (there && scrolling) continue;
      const row = there || free.pop() || this.make();
      this.rows.set(place, row);
      this.fill(row, place);
    }
    for (const row of free) row.remove();
    if (this.active >= 0) this.box.setAttribute("aria-activedescendant", "row-" + this.active);
    else this.box.removeAttribute("aria-activedescendant");
  }

  make() {
    const row = element("div", { role: "option" });
    const part = (kind) => element("span", { class: kind });
    row.parts = {
      thumb: emptyThumb(), number: part("number"), given: part("given"),
      answers: part("answers"), score: part("score"), badge: part("badge"),
    };
    row.append(...Object.values(row.parts));
    this.body.append(row);
    return row;
  }

  fill(row, place) {
    const position = this.shown[place], mark = marks.of[position];
    const wrong = this.truth && suspects.wrong && suspects.wrong[position];
    row.id = "row-" + place;
    row.dataset.place = place;
    row.className = "row" + (marks.seen[position] ? " seen" : "") + (wrong ? " wrong" : "");
    row.style.transform = `translateY(${place * this.height}px)`;
    row.setAttribute("aria-selected", place === this.active);
    row.setAttribute("aria-posinset", place + 1);
    row.setAttribute("aria-setsize", this.shown.length);
    row.setAttribute("aria-label", inWords(position));
    const { thumb, number, given, answers, score, badge } = row.parts;
    fillThumb(thumb, suspects, position);
    number.textContent = suspects.example[position];
    given.replaceChildren(small("given "), named(labelText(suspects.given[position])));
    answers.replaceChildren();
    if (suspects.before) {
      answers.append(
        small("says "), this.answer(suspects.before[position], position), small(" → "), this.answer(suspects.after[position], position),
      );
      if (wrong && suspects.true) answers.append(small(" true "), named(labelText(suspects.true[position])));
    }
    score.textContent = scoreText(position);
    badge.className = "badge " + (mark === NONE ? "quiet" : markKind(mark));
    badge.textContent = markText(mark) || takenText(position);
  }

  answer(label, position) {
    return named(labelText(label), label === suspects.given[position] ? "" : "differs");
  }
}

const small = (text) => element("small", {}, text);
