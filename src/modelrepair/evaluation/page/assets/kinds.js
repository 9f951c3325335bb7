// Clusters of failures: typical members of each, and the way to its causes.
class Kinds {
  constructor(onFailure, onKind) {
    for (const kind of document.querySelectorAll(".kind")) {
      const number = Number(kind.dataset.kind);
      for (const row of records.clusters[number]) {
        const tile = testTile(failures, row, failures.causes ? "button" : "div");
        if (failures.causes) tile.addEventListener("click", () => onFailure(row));
        kind.querySelector(".tiles").append(tile);
      }
      const causes = kind.querySelector(":scope > button");
      if (causes) causes.addEventListener("click", () => onKind(number));
    }
  }
}
